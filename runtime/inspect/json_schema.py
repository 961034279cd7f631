"""The graph language as JSON Schema, for editors: made from node classes, fields and graphs.

Whatever the schema refuses, the checker refuses too. Types of edges, cycles and unused entries need
the whole graph: only the checker reports those. Draft 7, which every editor knows.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from runtime.configure.resolve import edit, resolve_graph
from runtime.contract.declare import Declaration
from runtime.errors import UserError
from runtime.graph import catalog
from runtime.graph.model import ComponentSpec, Graph
from runtime.graph.parse import (
    BUILT_IN,
    COMPONENT_SHAPES,
    FIELD_SHAPES,
    HEAD_SHAPES,
    MATCHES,
    Shape,
)
from runtime.graph.parse_node import NODE_KEYS
from runtime.inspect.describe import port_notes
from runtime.inspect.node_schema import (
    EDGE_SCHEMA,
    FILE_TYPE_PATTERN,
    NAMES,
    Schema,
    declared,
    needed,
    node_schema,
)
from runtime.settings.field import DTYPES, TYPES, Field

DRAFT = "http://json-schema.org/draft-07/schema#"
STRING: Schema = {"type": "string"}
DEFAULTS: Mapping[str, Schema] = {  # of a request field, by its type
    "int": {"type": "integer"}, "float": {"type": "number"}, "bool": {"type": "boolean"},
    "seed": {"type": "integer", "minimum": 0}, "dtype": {"enum": sorted(DTYPES)},
    "map": {"type": "object"},
}  # fmt: skip


def graph_schema() -> Schema:
    """The schema of a graph file. Raises UserError where a plugin's nodes cannot be imported."""
    known, plugins = declared()
    return {
        "$schema": DRAFT,
        "title": "a pipeline as a graph of nodes",
        "type": "object",
        "properties": _top(),
        "additionalProperties": False,
        "if": {"required": ["defaults"]},
        "then": {"allOf": _variants(known)},
        "else": _whole(),
        "definitions": {
            "field": _field(),
            "component": _component(),
            "node": _node(known, plugins),
            "complete": _complete(known),
            **{f"default.{kind}": _default(kind, many=False) for kind in TYPES},
            **{f"many.{kind}": _default(kind, many=True) for kind in TYPES},
            **{type: node_schema(node) for type, node in known.items()},
        },
    }


def _top() -> Schema:
    notes = port_notes(inspect.getdoc(Graph) or "") | port_notes(
        inspect.getdoc(catalog.Entry) or ""
    )
    sections: Schema = {
        "defaults": {"type": "array", "items": STRING, "description": "the graph that this one "
                     "extends, then `_self_`: what follows says only what differs"},
        **_shaped(HEAD_SHAPES),
        "checkpoint": {"type": ["string", "null"]},
        "matches": {"type": ["object", "null"], "properties": _shaped(MATCHES)},
        "constants": {"type": ["object", "null"],
                      "description": "values that `constants.NAME` stands for elsewhere"},
        "anchors": {"description": "a place for YAML anchors; nothing reads it"},
        "request": _names("field", {"not": {"enum": [*BUILT_IN]}}),
        "components": _names("component", {}),
        "nodes": _names("node", {"not": {"const": "request"}}),
        "outputs": {"type": ["object", "null"], "additionalProperties": EDGE_SCHEMA},
    }  # fmt: skip
    return {
        name: {"description": notes[name], **schema} if name in notes else schema
        for name, schema in sections.items()
    }


def _names(definition: str, names: Schema) -> Schema:
    entry = {"$ref": f"#/definitions/{definition}"}
    found = {"type": ["object", "null"], "additionalProperties": entry}
    return {**found, "propertyNames": names} if names else found


def _shaped(shapes: Mapping[str, Shape], notes: Mapping[str, str] | None = None) -> Schema:
    """Attributes by the shapes that reading holds them to; null leaves one out."""
    found: Schema = {}
    for name, (kind, expected) in shapes.items():
        kinds = kind if isinstance(kind, tuple) else (kind,)
        about = (notes or {}).get(name, expected)
        names = ["number"] if float in kinds else [NAMES.get(k, "object") for k in kinds]
        found[name] = {"type": [*names, "null"], "description": about}
    return found


def _field() -> Schema:
    """A request field; what its default may be hangs on its type."""
    notes = port_notes(inspect.getdoc(Field) or "")
    properties = {
        "type": {"enum": [*TYPES], "description": notes["type"]},
        "default": {"description": notes["default"]},
        **_shaped(FIELD_SHAPES, notes),
    }
    properties["multiple"]["minimum"] = 1
    many = {"properties": {"many": {"const": True}}, "required": ["many"]}
    return {
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": False,
        "if": many,
        "then": {"allOf": [_if_type(kind, _rule(kind, many=True)) for kind in TYPES]},
        "else": {"allOf": [_if_type(kind, _rule(kind, many=False)) for kind in TYPES]},
    }


def _default(kind: str, *, many: bool) -> Schema:
    one = DEFAULTS.get(kind, STRING)
    listed = [{"type": "array", "items": one}] if many else []
    return {"properties": {"default": {"anyOf": [one, *listed, {"type": "null"}]}}}


def _rule(kind: str, *, many: bool) -> Schema:
    return {"$ref": f"#/definitions/{'many' if many else 'default'}.{kind}"}


def _component() -> Schema:
    notes = port_notes(inspect.getdoc(ComponentSpec) or "")
    dtype = {"enum": [*sorted(DTYPES), None], "description": notes["dtype"]}
    properties = {**_shaped(COMPONENT_SHAPES, notes), "dtype": dtype}
    return {
        "type": ["object", "null"], "properties": properties, "additionalProperties": False
    }  # fmt: skip


def _if_type(name: str, then: Schema) -> Schema:
    return {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": then}


def _node(known: Mapping[str, Declaration], plugins: list[str]) -> Schema:
    """A node of any type; of a plugin that is not installed here, any type may be right."""
    here = "".join(f"(?!{name}:)" for name in plugins)
    summaries = [node.summary for node in known.values()]
    types: Schema = {
        "anyOf": [
            {"enum": [*known], "enumDescriptions": summaries},
            {"type": "string", "pattern": rf"^{here}[\w-]+:([a-z_]\w*\.)+[A-Z]\w*$"},
            {"type": "string", "pattern": FILE_TYPE_PATTERN},
        ],
        "errorMessage": "no such node type",
    }
    sections: Schema = {name: {"type": ["object", "null"]} for name in NODE_KEYS}
    graphs = sorted(catalog.entries())
    sections["graph"] = {"type": ["string", "null"], "examples": graphs,
                         "description": "a graph as a node"}  # fmt: skip
    sections["help"] = {"type": ["string", "null"], "description": "a line for readers"}
    sections["behind"] = {
        **EDGE_SCHEMA,
        "description": "an output that others then read from this node",
    }
    sections["each"] = {
        "type": ["object", "null"],
        "additionalProperties": {"type": "array", "minItems": 1},
        "description": "lists: the node is repeated for each entry, as `name/1`, `name/2`, ...",
    }
    return {
        "type": ["object", "null"],
        "properties": {**sections, "type": types},
        "additionalProperties": False,
        "allOf": [_if_type(type, {"$ref": f"#/definitions/{type}"}) for type in known],
    }


def _complete(known: Mapping[str, Declaration]) -> Schema:
    """A node that extends none: its type and every required input must be given."""
    musts = {type: needed(node) for type, node in known.items()}
    rules = [_if_type(type, must) for type, must in musts.items() if must["allOf"]]
    kinds = {"anyOf": [{"required": ["type"]}, {"required": ["graph"]}]}
    return {"if": {"type": "object"}, "then": {**kinds, "allOf": rules}}


def _whole() -> Schema:
    """A file that extends nothing."""
    nodes = {"additionalProperties": {"$ref": "#/definitions/complete"}, "minProperties": 1}
    return {
        "required": ["nodes", "outputs"],
        "properties": {
            "nodes": {"type": "object", **nodes},
            "outputs": {"type": "object", "minProperties": 1},
        },
    }


def _variants(known: Mapping[str, Declaration]) -> list[Schema]:
    """A rule per graph, for files that extend it: its nodes and fields keep their types."""
    rules = []
    for name in sorted(catalog.entries()):
        try:
            graph = resolve_graph([edit("graph", name)])
        except UserError:
            continue  # `sglang graphs --check` says what is wrong with it
        extends = {"type": "array", "contains": {"const": name}, "maxItems": 2}
        rules.append({"if": {"properties": {"defaults": extends}}, "then": _variant(graph, known)})
    return rules


def _variant(graph: Graph, known: Mapping[str, Declaration]) -> Schema:
    nodes = {
        name: _untyped({"$ref": f"#/definitions/{node.type}"})
        for name, node in graph.nodes.items()
        if node.type in known
    }
    fields = {
        name: _untyped(_rule(field.type, many=field.many)) for name, field in graph.request.items()
    }
    return {
        "properties": {
            "nodes": {
                "properties": nodes, "additionalProperties": {"$ref": "#/definitions/complete"}
            },
            "request": {"properties": fields},
            "components": {"properties": dict.fromkeys(graph.components, True)},
        }
    }  # fmt: skip


def _untyped(then: Schema) -> Schema:
    """An entry that keeps the type it has in the graph below."""
    return {"if": {"required": ["type"]}, "else": then}
