"""A node class as JSON Schema: its ports, parameters and components. Imports the node, so torch."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, TypeAlias

from runtime.contract.declare import (
    MISSING,
    PLUGINS,
    Declaration,
    Port,
    declaration,
    options,
    type_name,
    written_nodes,
)
from runtime.contract.values import Rng
from runtime.errors import UserError
from runtime.graph.adapt import entry_type
from runtime.inspect.describe import axes, port_notes

Schema: TypeAlias = dict[str, Any]
NAMES: Mapping[Any, str] = {
    bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null",
    list: "array", tuple: "array",
}  # fmt: skip
EDGE_SCHEMA: Schema = {
    "type": ["string", "null"],
    "pattern": r"^[^\s.]+\.[^\s.]+$",
    "description": "an edge: `node.port`, or `request.field`; null removes it",
}
FILE_TYPE_PATTERN = r"^[^:]*\.py:[A-Z]\w*$"  # a class in a file beside the graph
VALUE: Schema = {"type": "object", "required": ["value"], "maxProperties": 1}


def declared() -> tuple[dict[str, Declaration], list[str]]:
    """Every node class by its type, those of installed plugins too; and those plugins' names.

    Raises UserError where a plugin cannot be imported.
    """
    found = {f"{m}.{c}": declaration(f"{m}.{c}") for m, c in written_nodes("nodes")}
    plugins = sorted({e.name: e.value for e in entry_points(group=PLUGINS)}.items())
    for name, package in plugins:
        try:
            types = [f"{name}:{m}.{c}" for m, c in written_nodes(package)]
            found |= {type: declaration(type) for type in types}
        except Exception as problem:
            raise UserError(
                f"the node plugin `{name}` cannot be imported: {problem}",
                help=f"mend package {package}, or uninstall it",
            ) from problem
    return found, [name for name, _ in plugins]


def node_schema(known: Declaration) -> Schema:
    """What a node of this type may say: an unknown name may only be null, which removes it."""
    notes = port_notes(inspect.getdoc(known.cls) or "")
    inputs = {n: entry(p, notes) for n, p in known.inputs.items()}
    params = {n: entry(p, notes) for n, p in known.params.items()}
    inputs, params = {**inputs, **params}, {**params, **inputs}  # both take edges and literals
    components = {
        n: {"type": ["string", "null"], "description": f"the checkpoint's key; none: `{n}`"}
        for n in known.components
    }
    sections = (("inputs", "input", inputs), ("params", "parameter", params),
                ("components", "component", components))  # fmt: skip
    return {
        "description": described(known),
        "properties": {
            section: _closed(properties, f"{known.type} has no such {what}")
            for section, what, properties in sections
        },
    }


def needed(known: Declaration) -> Schema:
    """What a node of this type must say where it extends nothing."""
    ports = [p.name for p in (*known.inputs.values(), *known.params.values()) if p.required]
    return {"allOf": [_given(name) for name in ports]}


def _given(port: str) -> Schema:
    """A node that gives a port a value in one of the ways that there are."""
    sections = [
        {"required": [s], "properties": {s: {"type": "object", "required": [port]}}}
        for s in ("inputs", "params")
    ]
    return {"anyOf": [*sections, {"required": ["each"]}, {"required": ["behind"]}]}


def described(known: Declaration) -> str:
    """A node in two lines: what it does, what it gives."""
    gives = ", ".join(map(str, known.outputs.values()))
    return f"{known.summary}\nGives {gives}."


def about(port: Port, notes: Mapping[str, str]) -> str:
    """A port in a line: its type, its axes, what the docstring says, its default."""
    shape = axes(port)
    facts = [type_name(port.type) + (f" ({shape})" if shape else "")]
    facts += [notes[port.name]] if port.name in notes else []
    facts += [] if port.default is MISSING else [f"default {port.default!r}"]
    return "; ".join(facts)


def entry(port: Port, notes: Mapping[str, str]) -> Schema:
    """An edge, a literal, or a list of both where the port takes one; null leaves the default."""
    ways = [*literals(port.type), EDGE_SCHEMA, VALUE, {"type": "null"}]
    if list_type := entry_type(port):
        ways.append(
            {"type": "array", "items": {"anyOf": [*literals(list_type), EDGE_SCHEMA, VALUE]}}
        )
    if Rng in options(port.type):
        ways.append({"type": "integer", "minimum": 0})
    found: Schema = {"anyOf": [*_unique(ways)]}
    found["description"] = about(port, notes)
    if port.default is not MISSING:
        found["default"] = [*port.default] if isinstance(port.default, tuple) else port.default
    return found


def literals(hint: object) -> Iterator[Schema]:
    """A schema for each member of a parameter's type: the same rule as `ports.literal_fits`."""
    for option in options(hint):
        origin, inside = typing.get_origin(option), typing.get_args(option)
        if option is Any:
            yield {}
        elif origin is typing.Literal:
            yield {"enum": [*inside]}
        elif origin is tuple:
            if inside_schemas := _unique(literals(inside[0])):
                yield {"type": "array", "items": {"anyOf": inside_schemas}}
        elif option is str:
            yield {"type": "string"}
        elif name := NAMES.get(origin or option):
            yield {"type": name}
        elif origin is not None or option is Mapping:
            yield {"type": "object"}


def _unique(schemas: Iterable[Schema]) -> list[Schema]:
    found: list[Schema] = []
    for schema in schemas:
        if schema not in found:
            found.append(schema)
    return found


def _closed(properties: Schema, message: str) -> Schema:
    listed = ", ".join(properties) or "none"
    left = {"type": "null", "errorMessage": f"{message}. It has: {listed}."}
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": left}
