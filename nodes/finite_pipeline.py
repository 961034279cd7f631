"""Check a vanilla pipeline for NaN and infinity where its autoencoders decode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nodes.finite import CAUSES, decoder_finite, in_float32, is_finite, is_half, retry_note
from runtime.contract.values import map_tensors, tensors
from runtime.errors import NotFinite


@contextmanager
def finite_decoders(pipe: Any, notes: list[str]) -> Iterator[None]:
    """While open, the pipeline's autoencoders refuse to decode from or to NaN and infinity.

    One of half precision that overflows decodes again in float32.

    notes  collects the notes on that for the user
    """
    parts: dict[str, Any] = {
        name: part
        for name, part in getattr(pipe, "components", {}).items()
        if isinstance(part, nn.Module) and hasattr(part, "decode")
    }
    before = {name: vars(part).get("decode") for name, part in parts.items()}  # an observer's
    for name, part in parts.items():
        part.decode = partial(finite_decode, name, part, part.decode, notes)
    try:
        yield
    finally:
        for name, part in parts.items():
            vars(part).pop("decode", None)
            if before[name] is not None:
                part.decode = before[name]


def finite_decode(
    name: str, part: Any, decode: Any, notes: list[str], *inputs: Any, **options: Any
) -> Any:
    """Call an autoencoder's `decode`, and check its input and its result."""
    if not all_finite((inputs, options)):
        raise NotFinite(f"the latents that `{name}` decodes: NaN or infinity; {CAUSES} finds where")
    with decoder_finite(part) as seen:
        decoded = decode(*inputs, **options)
    if all_finite(decoded) and all(seen):
        return decoded
    if is_half(getattr(part, "dtype", torch.float32)):
        notes.append(retry_note(name))
        inputs, options = map_tensors((inputs, options), single)
        with in_float32(part), decoder_finite(part) as seen:
            decoded = decode(*inputs, **options)
    if not (all_finite(decoded) and all(seen)):
        raise NotFinite(f"the output of `{name}`: NaN or infinity; {CAUSES} finds where")
    return decoded


def all_finite(value: Any) -> bool:
    """Whether no tensor in a value holds NaN or infinity; one reduction each."""
    return all(bool(is_finite(x[None] if x.ndim == 0 else x).all()) for x in tensors(value))


def single(x: Tensor) -> Tensor:
    """A tensor of floating point in float32; others as they are."""
    return x.float() if x.is_floating_point() else x
