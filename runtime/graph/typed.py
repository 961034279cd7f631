"""The types of a graph: declarations of its nodes, types of its edges, candidates for a port.

Also the rewrites that need types: a node behind an output, an `Rng` of a seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

from runtime.contract.declare import (
    Declaration,
    Port,
    UnknownType,
    accepts,
    constrained,
    declaration,
    options,
)
from runtime.contract.node_file import declaration_of_file
from runtime.contract.values import Image, Rng, Video
from runtime.errors import did_you_mean
from runtime.graph.adapt import adapted, entry_type, list_entry
from runtime.graph.model import Finding, Graph, NodeSpec, Ref
from runtime.graph.parse import BUILT_IN

SEED_NODE = "rng.FromSeed"  # makes the state of a generator from a seed
SCALARS: Mapping[str, Any] = {
    "text": str, "choice": str, "dtype": str, "path": str, "file": str,
    "int": int, "seed": int, "float": float, "bool": bool, "map": Mapping[str, Any],
    "image": Image, "video": Video,
}  # fmt: skip


def request_port(graph: Graph, name: str) -> object:
    """The type of `request.<name>`; None where there is no such port."""
    if name == "rng":
        return Rng if any(f.type == "seed" for f in graph.request.values()) else None
    if name == "destination":
        from runtime.contract.outputs import Destination

        return Destination
    if name == "store":
        from runtime.files.object_store import ObjectStore

        return ObjectStore
    field = graph.request.get(name)
    if field is None:
        return None
    kind: Any = SCALARS[field.type]
    if field.many:
        kind = tuple.__class_getitem__((kind, ...))
    return kind if field.required or field.default is not None else kind | None


class TypedGraph:
    """A graph with the declarations of its nodes; `graph` is the rewritten one.

    findings  of rewrites that could not be made
    unknown   nodes whose class is not found
    """

    def __init__(self, graph: Graph) -> None:
        self.findings: list[Finding] = []
        self.unknown: dict[str, UnknownType] = {}
        self.plain: dict[str, Declaration] = {}
        for node in graph.nodes.values():
            try:
                self.plain[node.name] = _declared(node)
            except UnknownType as problem:
                self.unknown[node.name] = problem
        self.graph = graph
        for rewrite in (self._rebound, self._inserted, self._seeded, self._without_empty):
            self.graph = rewrite()

    @cached_property
    def declarations(self) -> dict[str, Declaration]:
        """Declarations as the graph connects the nodes, output types narrowed."""
        made = {n: adapted(known, self.graph.nodes[n]) for n, known in self.plain.items()}
        for name, known in made.items():
            ports = known.outputs.values()
            if any(isinstance(p.type, TypeVar) for p in ports):
                outputs = {
                    p.name: dataclasses.replace(p, type=self._output_type(name, p, ()))
                    for p in ports
                }
                made[name] = dataclasses.replace(known, outputs=outputs)
        return made

    def type_of(self, ref: Ref) -> object:
        """The type of an edge's value; None where its source does not exist."""
        if ref.node == "request":
            return request_port(self.graph, ref.port)
        known = self.declarations.get(ref.node)
        return known.outputs[ref.port].type if known and ref.port in known.outputs else None

    def fits(self, wanted: Port, found: object) -> bool:
        """Whether a type may enter a port. A port with a default takes an empty value too."""
        if not wanted.required:
            return all(accepts(wanted.type, o) for o in options(found) if o is not type(None))
        return accepts(wanted.type, found)

    def candidates(self, wanted: Port, node: str) -> str:
        """A help text that lists the edges of a fitting type."""
        fitting = [
            f"`{name}.{port.name}`"
            for name, known in self.declarations.items()
            for port in known.outputs.values()
            if name != node and accepts(wanted.type, port.type)
        ]
        fitting += [
            f"`request.{name}`"
            for name in (*self.graph.request, *BUILT_IN)
            if (found := request_port(self.graph, name)) is not None and accepts(wanted.type, found)
        ]
        return f"what fits: {', '.join(fitting[:6])}" if fitting else ""

    def _output_type(self, name: str, port: Port, above: tuple[str, ...]) -> object:
        """The type of an output; a type variable is that of the inputs which share it."""
        if not isinstance(port.type, TypeVar) or name in above:
            return constrained(port.type)
        node, known = self.graph.nodes[name], self.plain[name]
        found: list[Any] = []
        for input_name, ref in node.inputs.items():
            entry = list_entry(input_name)
            declared = known.inputs.get(entry[0] if entry else input_name)
            kind = declared and (entry_type(declared) if entry else declared.type)
            if kind is port.type:
                found.append(self._source_type(ref, (*above, name)))
        members = dict.fromkeys(o for kind in found if kind is not None for o in options(kind))
        allowed = [m for m in members if m in options(port.type)]
        kind = constrained(port.type)
        if allowed and len(allowed) == len(members):
            kind = allowed[0]
            for member in allowed[1:]:
                kind = kind | member
        return kind

    def _source_type(self, ref: Ref, above: tuple[str, ...]) -> object:
        if ref.node == "request":
            return request_port(self.graph, ref.port)
        known = self.plain.get(ref.node)
        port = known.outputs.get(ref.port) if known else None
        return self._output_type(ref.node, port, above) if port else None

    def _rebound(self) -> Graph:
        """Components of sub-graphs that others stand for."""
        if not self.graph.rebinding:
            return self.graph
        nodes = dict(self.graph.nodes)
        for name, known in self.plain.items():
            components = {f: nodes[name].components.get(f, f) for f in known.components}
            for at in sorted(self.graph.rebinding, key=len, reverse=True):
                if name.startswith(f"{at}/"):
                    names = self.graph.rebinding[at]
                    components = {f: names.get(c, c) for f, c in components.items()}
            changed = {f: c for f, c in components.items() if f != c}
            nodes[name] = dataclasses.replace(nodes[name], components=changed)
        return dataclasses.replace(self.graph, nodes=nodes)

    def _inserted(self) -> Graph:
        """Nodes behind an output: its other readers read them instead."""
        nodes, outputs = dict(self.graph.nodes), dict(self.graph.outputs)
        stands_for: dict[Ref, Ref] = {}
        for name, node in self.graph.nodes.items():
            if node.behind is None or name not in self.plain:
                continue
            source = stands_for.get(node.behind, node.behind)
            ports = self._ports_behind(nodes[name], source)
            if ports is None:
                continue
            port, output = ports
            new = Ref(name, output)
            for other, spec in nodes.items():
                if other != name:
                    inputs = {p: new if r == source else r for p, r in spec.inputs.items()}
                    nodes[other] = dataclasses.replace(spec, inputs=inputs)
            outputs = {n: new if r == source else r for n, r in outputs.items()}
            inputs = {**nodes[name].inputs, port: source}
            nodes[name] = dataclasses.replace(nodes[name], inputs=inputs)
            stands_for[node.behind] = new
        return dataclasses.replace(self.graph, nodes=nodes, outputs=outputs)

    def _ports_behind(self, node: NodeSpec, source: Ref) -> tuple[str, str] | None:
        """The input that reads `source`, and the output that other nodes then read."""
        known, path = self.plain[node.name], f"nodes.{node.name}.behind"
        kind = self._source_type(source, ())
        if kind is None:
            message = f"there is no output `{source}` to insert it behind."
            names = [f"{n}.{p}" for n, known in self.plain.items() for p in known.outputs]
            self.findings.append(Finding(path, message, did_you_mean(str(source), names)))
            return None
        taken = [p for p, r in node.inputs.items() if r == node.behind]
        free = [
            p.name for p in known.inputs.values()
            if p.name not in node.inputs and p.name not in node.params and accepts(p.type, kind)
        ]  # fmt: skip
        required = [p for p in free if known.inputs[p].required]
        choice = taken or (required if len(required) == 1 else free)
        outputs = [
            p.name for p in known.outputs.values() if set(options(kind)) & {*options(p.type)}
        ]
        if source.port in outputs:
            outputs = [source.port]
        if len(choice) != 1:
            listed = ", ".join(f"`{p}`" for p in free) or "none of its inputs"
            self.findings.append(
                Finding(path, f"{listed} could take `{source}`.",
                        f"connect one: inputs: {{PORT: {source}}}")
            )  # fmt: skip
            return None
        if len(outputs) != 1:
            listed = ", ".join(map(str, known.outputs.values()))
            message = f"{node.type} gives nothing that can stand for `{source}`. It has: {listed}."
            self.findings.append(Finding(path, message))
            return None
        return choice[0], outputs[0]

    def _seeded(self) -> Graph:
        """A seed, or a whole number, that enters an `Rng` port passes through a node."""
        nodes, added = dict(self.graph.nodes), dict[str, NodeSpec]()
        for name, known in self.plain.items():
            node = nodes[name]
            for port, value in self._seeds(node, known):
                if isinstance(value, Ref):
                    made = NodeSpec(f"{value.port}/rng", SEED_NODE, inputs={"seed": value})
                else:
                    made = NodeSpec(f"{name}/{port}", SEED_NODE, params={"seed": value})
                added[made.name] = made
                params = {p: v for p, v in nodes[name].params.items() if p != port}
                inputs = {**nodes[name].inputs, port: Ref(made.name, "rng")}
                nodes[name] = dataclasses.replace(nodes[name], inputs=inputs, params=params)
        for made in added.values():
            self.plain[made.name] = declaration(made.type)
        return dataclasses.replace(self.graph, nodes={**added, **nodes})

    def _seeds(self, node: NodeSpec, known: Declaration) -> Iterator[tuple[str, object]]:
        for port in known.inputs.values():
            if Rng not in options(port.type):
                continue
            ref, value = node.inputs.get(port.name), node.params.get(port.name)
            field = self.graph.request.get(ref.port) if ref and ref.node == "request" else None
            if field and field.type == "seed" and not field.many:
                yield port.name, ref
            elif isinstance(value, int) and not isinstance(value, bool):
                yield port.name, value

    def _without_empty(self) -> Graph:
        """The node without null literals at ports that have a default."""
        nodes = dict(self.graph.nodes)
        for name, known in self.plain.items():
            node = nodes[name]
            empty = [
                p for p, v in node.params.items()
                if v is None and p in known.inputs and not known.inputs[p].required
            ]  # fmt: skip
            if empty:
                params = {p: v for p, v in node.params.items() if p not in empty}
                nodes[name] = dataclasses.replace(node, params=params)
        return dataclasses.replace(self.graph, nodes=nodes)


def _declared(node: NodeSpec) -> Declaration:
    if node.file is not None:
        return declaration_of_file(node.type, node.file)
    return declaration(node.type)
