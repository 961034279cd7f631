"""Parse one node of a composed graph: edges and literals of its ports, its components, its help.

An input or a parameter takes an edge, a literal or a list of them. After parsing, `inputs` holds
edges alone and `params` literals alone; the entries of a list are `port.0`, `port.1` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import did_you_mean
from runtime.graph.model import Finding, NodeSpec, Ref, SubGraph
from runtime.graph.renamed import current_type
from runtime.settings.field import show

NODE_KEYS = ("type", "graph", "inputs", "params", "components", "each", "behind", "help")
EDGE_PATTERN = re.compile(r"[^\s.]+\.[^\s.]+")  # `node.port`
EXAMPLE = "a map such as {type: module.Class, inputs: {...}}"


@dataclass
class Ports:
    """Edges and literals of a node by port; `port.0` is the first entry of a list."""

    edges: dict[str, Ref] = field(default_factory=dict)
    literals: dict[str, object] = field(default_factory=dict)


class NodeParser:
    """Parses nodes and collects findings. names: of nodes, and of request fields."""

    def __init__(self, nodes: frozenset[str], fields: frozenset[str], found: list[Finding]) -> None:
        self.nodes, self.fields, self.found = nodes, fields, found

    def node(self, name: str, value: object) -> NodeSpec | SubGraph | None:
        """A node; none where it cannot be used, and then there is a finding."""
        path = f"nodes.{name}"
        if not isinstance(value, Mapping):
            self.found.append(Finding(path, f"expects {EXAMPLE}, found {show(value)}"))
            return None
        if name == "request" or "." in name:
            message = "`request` is the request itself" if name == "request" else "`.` ends a name"
            self.found.append(Finding(path, f"{message}; a node needs another name"))
            return None
        unknown = [key for key in value if key not in NODE_KEYS]
        for key in unknown:
            listed = ", ".join(NODE_KEYS)
            message = f"a node has no key `{key}`. It has: {listed}."
            self.found.append(Finding(f"{path}.{key}", message, did_you_mean(str(key), NODE_KEYS)))
        help = self._text(value, "help", path)
        ports = self._ports(value, path)
        components = {k: str(v) for k, v in self._section(value, "components", path)}
        if value.get("graph") is not None:
            return self._sub_graph(
                SubGraph(name, str(value["graph"]), ports.edges, ports.literals, components, help),
                value,
            )
        kind = value.get("type")
        if not isinstance(kind, str) or not kind:
            if not any(did_you_mean(str(key), ("type",)) for key in unknown):
                self._no_type(name, kind)
            return None
        behind = value.get("behind")
        ref = self.edge(f"{path}.behind", behind) if behind is not None else None
        return NodeSpec(
            name, current_type(kind), ports.edges, ports.literals, components, help, ref
        )

    def edge(self, path: str, value: object) -> Ref | None:
        """An edge `node.port`."""
        if isinstance(value, str) and EDGE_PATTERN.fullmatch(value):
            return Ref(*value.split("."))
        self.found.append(Finding(path, f"expects an edge `node.port`, found {show(value)}"))
        return None

    def _no_type(self, name: str, kind: object) -> None:
        message = "has no `type`" if kind is None else f"expects `type` as text, found {show(kind)}"
        fix = "type: module.Class, such as vae.DecodeVideo"
        self.found.append(Finding(f"nodes.{name}", f"node `{name}` {message}", fix))

    def _sub_graph(self, made: SubGraph, value: Mapping[str, object]) -> SubGraph | None:
        path = f"nodes.{made.name}"
        for key in ("type", "behind"):
            if value.get(key) is not None:
                message = f"a node with `graph` has no `{key}`"
                self.found.append(Finding(f"{path}.{key}", message, "remove one of the two"))
                return None
        return made

    def _text(self, value: Mapping[str, object], key: str, path: str) -> str:
        text = value.get(key)
        if text is not None and not isinstance(text, str):
            self.found.append(Finding(f"{path}.{key}", f"expects text, found {show(text)}"))
            return ""
        return text or ""

    def _section(
        self, value: Mapping[str, object], name: str, path: str
    ) -> Iterator[tuple[str, Any]]:
        section = value.get(name)
        if section is not None and not isinstance(section, Mapping):
            message = f"expects a map of names, found {show(section)}"
            self.found.append(Finding(f"{path}.{name}", message))
        elif section:
            yield from ((str(key), v) for key, v in section.items() if v is not None)

    def _ports(self, value: Mapping[str, object], path: str) -> Ports:
        """Edges and literals, wherever they are written."""
        ports = Ports()
        for section in ("params", "inputs"):
            for port, entry in self._section(value, section, path):
                here = f"{path}.{section}.{port}"
                if port in ports.edges or port in ports.literals:
                    message = f"`{port}` is given twice: under `params` and under `inputs`"
                    self.found.append(Finding(here, message, "keep one of them"))
                elif isinstance(entry, list) and any(self._is_edge(e, section) for e in entry):
                    for i, one in enumerate(entry):
                        self._one(f"{port}.{i}", one, section, here, ports)
                else:
                    self._one(port, entry, section, here, ports)
        return ports

    def _one(self, port: str, entry: Any, section: str, path: str, ports: Ports) -> None:
        if self._is_edge(entry, section):
            ports.edges[port] = Ref(*entry.split("."))
        elif isinstance(entry, Mapping) and [*entry] == ["value"]:
            ports.literals[port] = entry["value"]
        elif section == "inputs" and isinstance(entry, str) and not any(c.isspace() for c in entry):
            self._no_edge(path, entry)
        else:
            ports.literals[port] = entry

    def _is_edge(self, entry: object, section: str) -> bool:
        """Whether an entry is an edge. Under `params` only text that names a node here is one."""
        if not isinstance(entry, str) or not EDGE_PATTERN.fullmatch(entry):
            return False
        head = entry.partition(".")[0]
        return section == "inputs" or head == "request" or head in self.nodes

    def _no_edge(self, path: str, entry: str) -> None:
        """A single word is more likely an edge without its port than a text."""
        near = did_you_mean(entry, self.fields, "`request.{}`")
        near = f"`request.{entry}`?" if entry in self.fields else near.removeprefix("did you mean ")
        meant = f"did you mean {near} " if near else ""
        fix = f"{meant}{'A' if meant else 'a'} text is written {{value: {show(entry)}}}"
        message = f"expects an edge `node.port` or a literal, found the word {show(entry)}"
        self.found.append(Finding(path, message, fix))
