"""Observers of a run: of calls of networks, results of nodes, and denoising steps."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import nn

from runtime.contract.calls import Call
from runtime.contract.denoising import StepDone


class Observer(Protocol):
    """Observes one run and changes nothing. An exception that it raises fails the running node."""

    def calling(self, node: str, call: Call[Any], net: Any) -> AbstractContextManager[Any]:
        """Open while a call of a node's computes. net: the loaded component."""
        ...

    def node_result(self, node: str, out: Any) -> None:
        """A node is done. out: its `Out`."""
        ...

    def stepped(self, node: str, message: StepDone) -> None:
        """A denoising step is done."""
        ...

    def explain(self, node: str, problem: Exception) -> Exception:
        """The error for a node that failed: the problem itself, or one that explains it."""
        ...


def networks(component: str, net: Any) -> dict[str, nn.Module]:
    """The networks of a loaded component by name: itself, or the parts of a whole pipeline."""
    if isinstance(net, nn.Module):
        return {component: net}
    parts = getattr(net, "components", {})
    return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}


def pieces(name: str, net: nn.Module) -> dict[str, nn.Module]:
    """A network and its direct parts, by dotted name."""
    return {f"{name}.{n}": part for n, part in net.named_children()} | {name: net}
