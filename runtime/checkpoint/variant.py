"""Variants: the properties by which two loaded components are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["network", "tool"]


@dataclass(frozen=True)
class Variant:
    """A component as it is used. Equal variants are one instance per device.

    identity      of its content: config and weights, wherever they lie
    class_name    of the module or tool
    dtype         of its weights, as a name; empty: as stored
    quantization  method of its weights; empty: none
    adapters      identities of the adapters on it, in order
    attention     attention backend; empty: the default
    kind          network: has weights and a device; tool: a tokenizer, scheduler or processor
    """

    identity: str
    class_name: str
    dtype: str = ""
    quantization: str = ""
    adapters: tuple[str, ...] = ()
    attention: str = ""
    kind: Kind = "network"

    @property
    def digest(self) -> str:
        """All of it that changes numbers, in one text: part of content keys."""
        more = (self.quantization, *self.adapters, self.attention)
        return ":".join((self.identity, self.dtype, *filter(None, more)))

    @property
    def is_network(self) -> bool:
        """Whether it has weights and a device."""
        return self.kind == "network"
