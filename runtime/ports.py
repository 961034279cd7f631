"""What a node class declares, read off its signature: components, parameters, inputs, outputs.

`Component[...]` fields are the weights it needs, other fields are parameters, keyword arguments of
`run` are
input ports, the fields of `Out` are output ports. Nothing is registered and nothing is declared
twice.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

T = TypeVar("T")


class Needs:
    """Marks a field of a node as a component: `Component[T]` is `Annotated[T, Needs()]`."""


Component: TypeAlias = Annotated[T, Needs()]
