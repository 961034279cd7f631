"""Check for NaN and infinity after denoising and decoding, so that no black picture is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from runtime.contract.calls import Asking, Call
from runtime.contract.values import tensors
from runtime.errors import NotFinite
from runtime.events import Noted

HALF = ("float16", "bfloat16")
CAUSES = "broken weights and overflow cause them; `checks.finite=true`"


def is_finite(x: Tensor) -> Tensor:
    """Whether each sample of x, b ..., holds only finite numbers: b, bool, by one reduction.

    NaN passes through minimum and maximum, so that no tensor of the size of x is made.
    """
    if not x.is_floating_point() or not x.numel():  # nothing to look at
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    # Without `dim` the reduction is vectorised on a CPU (bench/RESULTS.md).
    limits = torch.stack([torch.stack(torch.aminmax(sample)) for sample in x])
    return torch.isfinite(limits).all(dim=1)


def check_finite(x: Tensor, name: str) -> None:
    """Raise NotFinite where x, b ..., holds NaN or infinity. name: of x, for the message."""
    if not bool(is_finite(x).all()):
        raise NotFinite(f"{name}: NaN or infinity; {CAUSES} finds where")


def decode(
    vae: Any,
    forward: Callable[..., tuple[Tensor, Tensor]],
    batched: Mapping[str, Any],
    shared: Mapping[str, Any] | None = None,
) -> Asking[Tensor]:
    """Ask for decoded pixels, b ...; where a half-precision VAE overflows, again in float32.

    forward  returns pixels as uint8, b ..., and whether each sample was finite before, b
    """
    first = WatchDecoder(forward)
    ((pixels, finite),) = yield [Call(vae, first, batched, shared or {})]
    if not bool(finite.all()) and is_half(vae.dtype):
        yield Noted(text=retry_note(getattr(vae, "name", "vae")))
        ((pixels, finite),) = yield [Call(vae, InFloat32(first), batched, shared or {})]
    if not bool(finite.all()):
        raise NotFinite(f"the decoded pixels: NaN or infinity; {CAUSES} finds where")
    decoded: Tensor = pixels
    return decoded


def is_half(dtype: Any) -> bool:
    """Whether a dtype, or its name, is a half-precision one; of unknown dtypes it is assumed."""
    return dtype is None or str(dtype).removeprefix("torch.") in HALF


def retry_note(name: str) -> str:
    """The note that a VAE decodes again. name: of the component."""
    return (
        f"`{name}` overflows in half precision: decoding again in float32"
        f" (`components.{name}.dtype=float32` saves the first attempt)"
    )


@dataclass(frozen=True)
class WatchDecoder:
    """A forward that also checks the output of the network's `decoder`.

    Some VAEs clamp that to [-1, 1], so that infinity would become a white pixel.

    forward  as for `decode`: its last result is whether each sample was finite
    """

    forward: Callable[..., tuple[Any, ...]]

    def __call__(self, net: Any, **inputs: Any) -> tuple[Any, ...]:
        """Call the forward."""
        with decoder_finite(net) as seen:
            *results, finite = self.forward(net, **inputs)
        for each in seen:
            finite = finite & each.to(finite)
        return *results, finite


@contextmanager
def decoder_finite(net: Any) -> Iterator[list[Tensor]]:
    """Collect whether each output of a network's `decoder`, if it has one, is finite: 0-d, bool."""
    seen: list[Tensor] = []

    def look(_: Any, __: Any, output: Any) -> None:
        seen.extend(is_finite(x).all() for x in tensors(output)[:1] if x.ndim)

    decoder = getattr(net, "decoder", None)
    hook = decoder.register_forward_hook(look) if isinstance(decoder, torch.nn.Module) else None
    try:
        yield seen
    finally:
        if hook is not None:
            hook.remove()


@dataclass(frozen=True)
class InFloat32:
    """A forward whose network computes in float32 and is restored to its own dtype afterwards."""

    forward: Callable[..., tuple[Any, ...]]

    def __call__(self, net: Any, **inputs: Any) -> tuple[Any, ...]:
        """Call the forward."""
        with in_float32(net):
            return self.forward(net, **inputs)


@contextmanager
def in_float32(net: torch.nn.Module) -> Iterator[None]:
    """Convert a network to float32, and put its own tensors back afterwards."""
    tensors = [t for t in (*net.parameters(), *net.buffers()) if t.is_floating_point()]
    original = [t.data for t in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, data in zip(tensors, original, strict=True):
            tensor.data = data
