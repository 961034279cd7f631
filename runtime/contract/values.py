"""Values: the frozen dataclasses that travel on edges. Nothing is ever written in place.

Letters for axes: b batch, c channels, t latent frames, f frames, h w rows and columns, l tokens, d
width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeVar

import torch
from torch import Tensor

from runtime.contract.calls import Asking
from runtime.contract.rules import lazy

T = TypeVar("T")


@dataclass(frozen=True)
class TextEmbeds:
    """An encoded prompt.

    tokens  b l d   hidden states, one per token
    mask    b l     bool, true where a token is text; none where the model attends to padding
    pooled  b d     one vector for the whole prompt, where the encoder gives one
    """

    tokens: Annotated[Tensor, "b l d"]
    mask: Annotated[Tensor, "b l"] | None = None
    pooled: Annotated[Tensor, "b d"] | None = None


@dataclass(frozen=True)
class Latents:
    """What a denoiser works on: modality (`video`, `image`, `audio`) to a batch-first tensor."""

    parts: Mapping[str, Tensor]


@dataclass(frozen=True)
class Image:
    """A picture. pixels: h w c, uint8, c is 1, 3 or 4."""

    pixels: Annotated[Tensor, "h w c"]


@dataclass(frozen=True)
class Video:
    """A clip, or a picture as its single frame. frames: f h w c, uint8. fps: frames per second."""

    frames: Annotated[Tensor, "f h w c"]
    fps: float


@lazy
@dataclass(frozen=True, eq=False)
class VideoStream:
    """A clip that is decoded while it is read, so that it is never in memory as a whole.

    parts       called once, by its one consumer: asks, each for the next frames, f h w c, uint8
    num_frames  how many they are together
    fps         frames per second

    Never cached; the components of its producer stay resident until it is consumed.
    """

    parts: Callable[[], Iterator[Asking[Tensor]]]
    num_frames: int
    fps: float
    on_host: ClassVar[bool] = True


class Rewind(Exception):
    """Raised by a part of a stream that does not match earlier parts: restart the stream."""


@dataclass(frozen=True)
class Audio:
    """Sound. samples: c n, float32 in [-1, 1], c is 1 or 2. rate: samples per second."""

    samples: Annotated[Tensor, "c n"]
    rate: int


@dataclass(frozen=True)
class Rng:
    """The state of a CPU generator as a value: whoever draws returns the next one.

    state  uint8, as `torch.Generator.get_state()` gives it
    """

    state: Tensor = field(repr=False)
    on_host: ClassVar[bool] = True

    @classmethod
    def from_seed(cls, seed: int) -> Rng:
        """The state of `torch.Generator().manual_seed(seed)`."""
        return cls(torch.Generator().manual_seed(seed).get_state())

    def using(self, draw: Callable[[torch.Generator], T]) -> tuple[T, Rng]:
        """Call `draw` with a generator in this state; its result, and the state it left."""
        generator = torch.Generator()
        generator.set_state(self.state)
        return draw(generator), Rng(generator.get_state())

    def normal(
        self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Rng]:
        """Standard normal numbers on the CPU, and the next state."""
        return self.using(lambda g: torch.randn(shape, generator=g, dtype=dtype, device="cpu"))


def tensors(value: object) -> list[Tensor]:
    """Every tensor inside a value, its mappings, sequences and frozen dataclasses."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, keep)
    return found


def map_tensors(value: object, change: Callable[[Tensor], Tensor]) -> Any:
    """The value with `change` applied to its tensors; the same object where none changed.

    Values that live on the host (`on_host`) and anything that is no plain data stay as they are.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        new = {k: map_tensors(v, change) for k, v in value.items()}
        return value if all(new[k] is value[k] for k in new) else new
    if isinstance(value, tuple | list):
        items = [map_tensors(v, change) for v in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if getattr(value, "on_host", False) or not hasattr(value, "__dataclass_fields__"):
        return value
    old = {n: getattr(value, n) for n in value.__dataclass_fields__ if n in value.__dict__}
    fresh = {n: map_tensors(v, change) for n, v in old.items()}
    if all(fresh[n] is old[n] for n in old):
        return value
    copy = object.__new__(type(value))
    copy.__dict__.update(fresh)
    return copy
