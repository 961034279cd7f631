"""Handles: a component's identity and config, for nodes, before its weights are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from runtime.checkpoint.component_source import ComponentSource
from runtime.errors import UserError, did_you_mean


class Source(Protocol):
    """The properties of a component or pipeline source that its handle needs."""

    @property
    def name(self) -> str: ...
    @property
    def library(self) -> str: ...
    @property
    def class_name(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]: ...


class MissingKey(UserError, AttributeError):
    """A node asks a component's config for what it does not have: most often another kind of it."""

    def __init__(self, source: Source, key: str, near: str) -> None:
        path = f"components.{source.name}.path"
        super().__init__(
            f"the config of `{source.name}` ({source.class_name}) has no `{key}`",
            help=near or f"give a component of the same kind with {path}", field=path,
        )  # fmt: skip


class Config(Mapping[str, Any]):
    """A component's config with attribute access; the defaults of its class fill what it omits."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._values = source.config
        self._full: Any = None

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, key)
        except AttributeError:
            raise KeyError(key) from None

    def __getattr__(self, key: str) -> object:
        if key.startswith("__"):
            raise AttributeError(key)
        if key in self._values:
            return self._values[key]
        full = self._complete()
        try:
            return full[key] if isinstance(full, Mapping) else getattr(full, key)
        except (KeyError, AttributeError):
            raise MissingKey(self._source, key, did_you_mean(key, self._values)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _complete(self) -> object:
        """The config with its class's defaults; the class is imported once one is asked for."""
        if self._full is None:
            from runtime.checkpoint.classes import full_config

            source = self._source
            self._full = full_config(source.library, source.class_name, self._values)
        return self._full


@dataclass(frozen=True)
class Handle:
    """What a node sees of a component, before its weights are read and while they are resident.

    identity  equal for equal content
    dtype     the dtype its weights are used in, as a name; none: as stored
    config    attribute access (`handle.config.in_channels`)
    """

    name: str
    identity: str
    dtype: str | None
    class_name: str = field(compare=False)
    config: Config = field(compare=False, repr=False)

    @classmethod
    def of(cls, source: ComponentSource, dtype: str | None = None) -> Handle:
        """The handle of a component."""
        return cls(source.name, source.identity, dtype, source.class_name, Config(source))
