"""Models built from their configs without memory for their weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from runtime.checkpoint.classes import find_class
from runtime.checkpoint.disk_cache import library_versions, read_entry, write_entry
from runtime.checkpoint.identity import digest_of


def predicted_nbytes(
    name: str, library: str, class_name: str, config: Mapping[str, object], dtype: str | None
) -> int:
    """Bytes of a model's weights in `dtype` (none: float32), from its config alone.

    name  of the component, for messages
    """
    key = digest_of(library_versions(), library, class_name, dict(config), dtype)
    known = read_entry("predicted_bytes", key)
    if isinstance(known, int):
        return known
    cls = find_class(name, library, class_name, config)
    with torch_default_dtype(getattr(torch, dtype or "float32")), torch.device("meta"):
        if hasattr(cls, "config_class"):
            model = cls(cls.config_class.from_dict(dict(config)))
        else:
            model = cls.from_config(dict(config))
    held = {id(t): t for t in model.state_dict(keep_vars=True).values()}  # as a file has them
    total: int = sum(t.numel() * t.element_size() for t in held.values())
    write_entry("predicted_bytes", key, total)
    return total


def build_skeleton(cls: Any, config: Mapping[str, object]) -> nn.Module:
    """A model of diffusers whose parameters take no memory; its computed buffers are real."""
    with Skeleton():
        model: nn.Module = cls.from_config(dict(config))
    if any(buffer.is_meta for buffer in model.buffers()):  # one that was filled by hand
        model = cls.from_config(dict(config))
    return model


class Skeleton(TorchFunctionMode):
    """Makes `torch.empty` allocate nothing, in this thread: initialising its results is free."""

    def __torch_function__(
        self, func: Any, types: object, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


class SharedOrExclusive:
    """Computing is shared, building with another default dtype is exclusive: torch has one for all.

    Not reentrant: whoever computes does not build.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._shared = 0
        self._exclusive = False

    def __enter__(self) -> None:
        """Compute: as many at a time as there are."""
        with self._condition:
            while self._exclusive:
                self._condition.wait()
            self._shared += 1

    def __exit__(self, *_: object) -> None:
        """End computing."""
        with self._condition:
            self._shared -= 1
            if self._exclusive:
                self._condition.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Build: nobody else computes or builds."""
        with self._condition:
            self._condition.wait_for(lambda: not self._exclusive)
            self._exclusive = True
            self._condition.wait_for(lambda: not self._shared)
        try:
            yield
        finally:
            with self._condition:
                self._exclusive = False
                self._condition.notify_all()


building = SharedOrExclusive()


@contextmanager
def torch_default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Build with this default dtype: computed buffers have it, as in diffusers."""
    before = torch.get_default_dtype()
    if dtype == before:
        yield
        return
    change: Callable[[torch.dtype], None] = torch.set_default_dtype
    with building.exclusive():
        change(dtype)
        try:
            yield
        finally:
            change(before)
