"""NaN and infinity: reported with the node, port, step and module that produced them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from runtime.contract.calls import Call
from runtime.contract.denoising import StepDone
from runtime.contract.values import tensors
from runtime.errors import NotFinite
from runtime.observe.observer import networks, pieces


class FiniteCheck:
    """Raises NotFinite for outputs of nodes, latents of each step, and outputs of networks.

    Pixels are integers, which cannot hold NaN, so the modules of a network are checked too.
    """

    def __init__(self) -> None:
        self._node = ""
        self._found: list[str] = []

    @contextmanager
    def calling(self, node: str, call: Call[Any], net: object) -> Iterator[None]:
        """Check the outputs of a component and its direct submodules; keep the first finding."""

        def look(name: str) -> Any:
            def hook(_: object, __: object, result: object) -> None:
                if not self._found:
                    self._found += [f"`{name}` made {odd_values}" for _, odd_values in odd(result)][
                        :1
                    ]

            return hook

        if node != self._node:  # findings of a node that failed
            self._node, self._found = node, []
        hooks = [
            piece.register_forward_hook(look(label))
            for name, part in networks(call.component.name, net).items()
            for label, piece in pieces(name, part).items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def node_result(self, node: str, out: Any) -> None:
        """Check every port of a result."""
        self._refuse([f"output `{name}` has {odd_values}" for name, odd_values in odd(out)])

    def stepped(self, node: str, message: StepDone) -> None:
        """Check the latents after a step."""
        wrong = [
            f"`latents.{name}` has {odd_values}" for name, odd_values in odd(message.state.parts)
        ]
        self._refuse(wrong, f" in step {message.state.index} of {message.count}")

    def explain(self, node: str, problem: Exception) -> Exception:
        """A better error for a node that failed after one of its calls returned NaN."""
        if not self._found or node != self._node:
            return problem
        (odd_values,), self._found = self._found, []
        better = NotFinite(odd_values)
        better.__cause__ = problem
        return better

    def _refuse(self, wrong: list[str], where: str = "") -> None:
        """Raise NotFinite for these findings and those of calls since the last time."""
        odd_values, self._found = [*self._found, *wrong], []
        if odd_values:
            raise NotFinite("; ".join(odd_values) + where)


def odd(value: Any) -> Iterator[tuple[str, str]]:
    """Names of tensors in a value that are not finite, each with how many of its values are not."""
    if isinstance(value, Mapping):
        named = {str(k): v for k, v in value.items()}
    elif hasattr(value, "_fields"):
        named = {n: getattr(value, n) for n in value._fields}
    else:
        named = {"": value}
    for name, inside in named.items():
        for tensor in tensors(inside):
            if not (tensor.is_floating_point() or tensor.is_complex()):
                continue
            wrong = tensor.numel() - int(torch.isfinite(tensor).sum())
            if wrong:
                kind = str(tensor.dtype).removeprefix("torch.")
                shape = tuple(tensor.shape)
                yield name, f"{wrong} of {tensor.numel()} values not finite ({shape} {kind})"
