"""Parse composed data into the parts of a `Graph`. Imports no torch.

Every finding is a (dotted path, message, help) triple; `source_positions` finds the line of each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from runtime.contract.rules import ROLES
from runtime.errors import UserError, did_you_mean
from runtime.graph.catalog import DESCRIPTION_KEYS
from runtime.graph.model import ComponentSpec, Finding, NodeSpec, Ref, SubGraph
from runtime.graph.parse_node import NodeParser
from runtime.settings.field import PIXELS, TYPES, Field, show
from runtime.settings.trained import Trained

TOP = (
    *(*DESCRIPTION_KEYS, "matches", "checkpoint", "constants", "anchors"),
    *("request", "components", "nodes", "outputs"),
)
FIELD = tuple(f.name for f in dataclasses.fields(Field) if f.name != "name")
Shape: TypeAlias = tuple[Any, str]  # classes of a value, and their name in messages
TEXT, NUMBER, TRUTH = (str, "text"), ((int, float), "a number"), (bool, "true or false")
FIELD_SHAPES: Mapping[str, Shape] = {
    "many": TRUTH, "required": TRUTH, "min": NUMBER, "max": NUMBER, "unit": TEXT, "help": TEXT,
    "reason": TEXT, "shape_of": TEXT, "alpha": TRUTH,
    "config": TEXT, "frames": TEXT, "fps": TEXT,
    "multiple": (int, "a whole number"), "offset": (int, "a whole number"),
    "choices": (list, "a list"), "trained": (Mapping, "a map"),
}  # fmt: skip
MAP: Shape = (Mapping, "a map")
COMPONENT_SHAPES: Mapping[str, Shape] = {
    "role": TEXT,
    "class": TEXT,
    "path": TEXT,
    "revision": TEXT,
    "config": MAP,
    "parts": MAP,
}
HEAD_SHAPES: Mapping[str, Shape] = {
    "title": TEXT, "task": TEXT, "reference": TEXT, "checkpoints": (list, "a list of hub ids"),
    "known_defects": (list, "a list of sentences"),
}  # fmt: skip
MATCHES: Mapping[str, Shape] = {
    "class": ((str, list), "a name or a list of names"), "config": MAP, "ids": (list, "a list"),
}  # fmt: skip
COMPONENT = ("role", "class", "path", "revision", "dtype", "config", "parts")
WHOLE_PIPELINE = "pipeline"  # the component that stands for the whole model with all of its parts
# Request ports that no user fills directly.
BUILT_IN = {"rng": "Rng", "destination": "Destination", "store": "Store"}


class GraphParts(NamedTuple):
    """The parsed sections. An entry that is wrong is left out and named in `findings`."""

    title: str
    matches: Mapping[str, Any]
    checkpoint: str | None
    request: dict[str, Field]
    components: dict[str, ComponentSpec]
    nodes: dict[str, NodeSpec]
    graphs: dict[str, SubGraph]
    outputs: dict[str, Ref]
    findings: list[Finding]
    absent: frozenset[str]


def parse_sections(data: Mapping[str, Any]) -> GraphParts:
    """Read every section of a composed graph, collecting all findings. `null` removes an entry."""
    found: list[Finding] = []
    _unknown(data, TOP, "", "a graph", found)
    request = {n: f for n, v in _section(data, "request", found) if (f := _field(n, v, found))}
    found += _shapes(request)
    components = {
        n: c for n, v in _section(data, "components", found) if (c := _component(n, v, found))
    }
    written = dict(_section(data, "nodes", found))
    parser = NodeParser(frozenset(written), frozenset(request), found)
    parsed = {n: s for n, v in written.items() if (s := parser.node(n, v))}
    nodes = {n: s for n, s in parsed.items() if isinstance(s, NodeSpec)}
    graphs = {n: s for n, s in parsed.items() if isinstance(s, SubGraph)}
    outputs = {
        n: r for n, v in _section(data, "outputs", found) if (r := parser.edge(f"outputs.{n}", v))
    }
    if not data.get("nodes"):
        found.append(
            Finding("nodes", "the graph has no nodes", "nodes: {name: {type: module.Class}}")
        )
    elif parsed and not outputs:
        found.append(Finding("outputs", "the graph has no outputs", "outputs: {file: save.file}"))
    head = {key: data[key] for key in DESCRIPTION_KEYS if data.get(key) is not None}
    _drop_misfits(head, HEAD_SHAPES, "", found)
    title, matches = str(head.get("title") or ""), dict(_section(data, "matches", found))
    _drop_misfits(matches, MATCHES, "matches", found)
    attributes = data.get("components")
    absent = (
        frozenset(n for n, v in attributes.items() if v is None)
        if isinstance(attributes, Mapping)
        else ()
    )
    return GraphParts(
        title, matches, data.get("checkpoint"), request, components, nodes, graphs, outputs,
        found, frozenset(absent),
    )  # fmt: skip


def _section(
    data: Mapping[str, object], name: str, found: list[Finding], above: str = ""
) -> list[tuple[str, object]]:
    section = data.get(name)
    if section is None:
        return []
    if not isinstance(section, Mapping):
        message = f"expects a map of names, found {show(section)}"
        found.append(Finding(f"{above}.{name}".lstrip("."), message))
        return []
    return [(str(key), value) for key, value in section.items() if value is not None]


def _unknown(
    value: Mapping[str, object], known: tuple[str, ...], path: str, what: str, found: list[Finding]
) -> None:
    for key in value:
        if key not in known:
            message = f"{what} has no key `{key}`. It has: {', '.join(known)}."
            found.append(
                Finding(f"{path}.{key}".lstrip("."), message, did_you_mean(str(key), known))
            )


def _drop_misfits(
    attributes: dict[str, object], shapes: Mapping[str, Shape], path: str, found: list[Finding]
) -> None:
    """Report and drop every attribute whose value has the wrong type."""
    for key, (kind, expected) in shapes.items():
        value = attributes.get(key)
        wrong_bool = isinstance(value, bool) and kind is not bool
        if key in attributes and (wrong_bool or not isinstance(value, kind)):
            message = f"expects {expected}, found {show(value)}"
            found.append(Finding(f"{path}.{key}".lstrip("."), message))
            del attributes[key]


def _map(path: str, value: object, what: str, found: list[Finding]) -> Mapping[str, Any] | None:
    if isinstance(value, Mapping):
        return value
    found.append(Finding(path, f"expects {what}, found {show(value)}"))
    return None


def _shapes(request: Mapping[str, Field]) -> list[Finding]:
    """Findings on `shape_of`: it names the field of a picture or clip."""
    pixels = [name for name, field in request.items() if field.type in PIXELS]
    return [
        Finding(
            f"request.{name}.shape_of",
            f"`{field.shape_of}` is no picture and no clip of the request",
            f"there are: {', '.join(pixels) or 'none'}",
        )
        for name, field in request.items()
        if field.shape_of and field.shape_of not in pixels
    ]


def _field(name: str, value: object, found: list[Finding]) -> Field | None:
    path = f"request.{name}"
    attributes = _map(path, value, "a map such as {type: int, default: 8}", found)
    if attributes is None:
        return None
    if name in BUILT_IN:
        found.append(Finding(path, f"`{name}` is built in: it may be used, not declared"))
        return None
    _unknown(attributes, FIELD, path, "a request field", found)
    kind = attributes.get("type", "text")
    if kind not in TYPES:
        found.append(
            Finding(
                f"{path}.type",
                f"unknown type {show(kind)}. Types: {', '.join(TYPES)}.",
                did_you_mean(str(kind), TYPES),
            )
        )
        return None
    known = {k: v for k, v in attributes.items() if k in FIELD and v is not None}
    _drop_misfits(known, FIELD_SHAPES, path, found)
    if known.get("multiple", 1) < 1:
        found.append(Finding(f"{path}.multiple", f"expects 1 or more, found {known['multiple']}"))
        del known["multiple"]
    if kind == "choice" and not known.get("choices"):
        found.append(Finding(path, f"`{name}` has no `choices`", "choices: [one, another]"))
        return None
    if "choices" in known:
        known["choices"] = tuple(map(str, known["choices"]))
    if "trained" in known:
        try:
            known["trained"] = Trained.read(known["trained"])
        except UserError as problem:
            found.append(Finding(f"{path}.trained.{problem.field}", problem.message, problem.help))
            del known["trained"]
    field = Field(name=name, **known)
    if quoted := _quoted_number(field):
        found.append(Finding(f"{path}.default", *quoted))
        return dataclasses.replace(field, default=None, required=True)
    if field.default is not None:
        try:
            return dataclasses.replace(field, default=field.parse(field.default))
        except UserError as problem:
            found.append(Finding(f"{path}.default", problem.message, problem.help))
    return field


def _quoted_number(field: Field) -> tuple[str, str] | None:
    """What is wrong with a default in quotes, where the type is no text."""
    values = field.default if isinstance(field.default, list) else [field.default]
    words = {"int": "a whole number", "seed": "a whole number", "float": "a number",
             "bool": "true or false"}  # fmt: skip
    quoted = [v for v in values if isinstance(v, str)]
    if field.type not in words or not quoted:
        return None
    message = f"`{field.name}` expects {words[field.type]}, got the text {show(quoted[0])}"
    is_literal = quoted[0].replace(".", "", 1).lstrip("+-").isdigit() or quoted[0] in {
        "true", "false"
    }  # fmt: skip
    return message, f"write it without quotes: {quoted[0]}" if is_literal else ""


def _component(name: str, value: object, found: list[Finding]) -> ComponentSpec | None:
    path = f"components.{name}"
    attributes = _map(path, value, "a map such as {dtype: bfloat16}", found)
    if attributes is None:
        return None
    _unknown(attributes, COMPONENT, path, "a component", found)
    known = {k: v for k, v in attributes.items() if k in COMPONENT and v is not None}
    _drop_misfits(known, COMPONENT_SHAPES, path, found)
    if "dtype" in known:
        try:
            known["dtype"] = Field(name="dtype", type="dtype").parse(known["dtype"])
        except UserError as problem:
            found.append(Finding(f"{path}.dtype", problem.message, problem.help))
            known.pop("dtype")
    for at, role in _roles(known):
        if role not in ROLES:
            message = f"{show(role)} is no role. Roles: {', '.join(ROLES)}."
            found.append(Finding(f"{path}.{at}", message, did_you_mean(str(role), ROLES)))
            known.pop(at.partition(".")[0], None)
    class_name = known.pop("class", None)
    return ComponentSpec(name=name, class_name=class_name, **known)


def _roles(attributes: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Every role that a component states, with its path below the component."""
    own = [("role", attributes["role"])] if "role" in attributes else []
    parts = attributes.get("parts") or {}
    return own + [(f"parts.{name}", role) for name, role in parts.items()]
