"""The checker: everything that is wrong with a graph, all at once, before any weight is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from runtime.contract.declare import (
    Declaration,
    Port,
    UnknownType,
    accepts,
    declaration,
    literal_fits,
    options,
    type_name,
)
from runtime.contract.values import Image, Rng, Video, VideoStream
from runtime.errors import GraphError, Problem, did_you_mean
from runtime.graph.model import Finding, Graph, NodeSpec, Ref
from runtime.graph.order import ancestors, cycles, data_flow_order, has_cycle
from runtime.graph.parse import BUILT_IN, WHOLE
from runtime.graph.source_positions import locate, origin
from runtime.settings.field import show

SCALARS: Mapping[str, Any] = {
    "text": str, "choice": str, "dtype": str, "path": str, "file": str,
    "int": int, "seed": int, "float": float, "bool": bool, "map": Mapping[str, Any],
    "image": Image, "video": Video,
}  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """A graph whose every node is known and every edge fits. order: data-flow order."""

    graph: Graph
    declarations: Mapping[str, Declaration]
    order: tuple[str, ...]


def check(graph: Graph) -> Checked:
    """Check a graph; raises GraphError with every problem, sorted by position."""
    checker = _Checker(graph)
    findings = [*graph.findings, *checker.findings()]
    if findings:
        problems = [
            Problem(locate(f.path, graph.sources, graph.edits), *f) for f in dict.fromkeys(findings)
        ]
        raise GraphError(graph.name, problems)
    return Checked(graph, checker.declarations, data_flow_order(graph))


def request_port(graph: Graph, name: str) -> Any:
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


class _Checker:
    """One pass over a graph. Each method yields findings; none stops at the first."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.unknown: dict[str, UnknownType] = {}
        # An entry that could not be read is reported once: edges that use it are not.
        self.wrong = {f.path for f in graph.findings}
        self.broken = {".".join(path.split(".")[:2]) for path in self.wrong}

    @cached_property
    def declarations(self) -> dict[str, Declaration]:
        found = {}
        for node in self.graph.nodes.values():
            try:
                found[node.name] = declaration(node.type)
            except UnknownType as problem:
                self.unknown[node.name] = problem
        return found

    def findings(self) -> Iterator[Finding]:
        for node in self.graph.nodes.values():
            known = self.declarations.get(node.name)
            if known is None:
                problem = self.unknown[node.name]
                yield Finding(f"nodes.{node.name}.type", f"{problem}.", problem.help)
            else:
                yield from self.inputs(node, known)
                yield from self.params(node, known)
                yield from self.components(node, known)
        for name, ref in self.graph.outputs.items():
            yield from self.source(f"outputs.{name}", ref)
        yield from self.shape()

    def inputs(self, node: NodeSpec, known: Declaration) -> Iterator[Finding]:
        path = f"nodes.{node.name}.inputs"
        for port, ref in node.inputs.items():
            wanted = known.inputs.get(port)
            if wanted is None:
                yield self.leftover(node, f"{path}.{port}", port, "input", known.inputs)
                yield from self.source(f"{path}.{port}", ref)
                continue
            bad = [*self.source(f"{path}.{port}", ref)]
            yield from bad
            found = None if bad else self.type_of(ref)
            if found is not None and not self.fits(wanted, found):
                message = f"expects {type_name(wanted.type)}, but `{ref}` is {type_name(found)}."
                yield Finding(f"{path}.{port}", message, self.candidates(wanted, node.name))
        for port, wanted in known.inputs.items():
            if wanted.required and port not in node.inputs and f"{path}.{port}" not in self.wrong:
                message = f"`{port}` ({type_name(wanted.type)}) is not connected."
                yield Finding(
                    path if node.inputs else f"nodes.{node.name}",
                    message,
                    self.candidates(wanted, node.name),
                )

    def fits(self, wanted: Port, found: Any) -> bool:
        """Whether a type may enter a port. A port with a default takes an empty value too."""
        if not wanted.required:
            found_options = [o for o in options(found) if o is not type(None)]
            return all(accepts(wanted.type, o) for o in found_options)
        return accepts(wanted.type, found)

    def type_of(self, ref: Ref) -> Any:
        if ref.node == "request":
            return request_port(self.graph, ref.port)
        known = self.declarations.get(ref.node)
        return known.outputs[ref.port].type if known and ref.port in known.outputs else None

    def source(self, path: str, ref: Ref) -> Iterator[Finding]:
        """Whether an edge's source exists."""
        if f"nodes.{ref.node}" in self.broken or f"request.{ref.port}" in self.broken:
            return
        if ref.node == "request":
            if request_port(self.graph, ref.port) is None:
                names = [*self.graph.request, *BUILT_IN]
                yield Finding(
                    path,
                    f"the request has no field `{ref.port}`. It has: {', '.join(names)}.",
                    did_you_mean(ref.port, names, "`request.{}`"),
                )
            return
        if ref.node not in self.graph.nodes:
            names = [*self.graph.nodes, "request"]
            yield Finding(
                path,
                f"there is no node `{ref.node}`. There are: {', '.join(names)}.",
                did_you_mean(ref.node, names, "`{}." + ref.port + "`"),
            )
            return
        known = self.declarations.get(ref.node)
        if known and ref.port not in known.outputs:
            listed = ", ".join(map(str, known.outputs.values()))
            yield Finding(
                path,
                f"`{ref.node}` has no output `{ref.port}`. It has: {listed}.",
                did_you_mean(ref.port, known.outputs, f"`{ref.node}.{{}}`"),
            )

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

    def leftover(
        self, node: NodeSpec, path: str, name: str, what: str, known: Mapping[str, Port]
    ) -> Finding:
        """An unknown port or parameter; says so when a later file changed the type of the node."""
        listed = ", ".join(map(str, known.values())) or "none"
        message = f"{node.type} has no {what} `{name}`. It has: {listed}."
        type, places = f"nodes.{node.name}.type", (self.graph.sources, self.graph.edits)
        if origin(type, *places) > origin(path, *places):
            changed = locate(type, *places)
            section = path.rsplit(".", 2)[1]
            message += f"\nIt was left over when {changed} changed the type."
            return Finding(path, message, f"there, write {section}: {{{name}: null}}")
        return Finding(path, message, did_you_mean(name, known))

    def params(self, node: NodeSpec, known: Declaration) -> Iterator[Finding]:
        path = f"nodes.{node.name}.params"
        for name, value in node.params.items():
            wanted = known.params.get(name)
            if wanted is None:
                yield self.leftover(node, f"{path}.{name}", name, "parameter", known.params)
            elif not literal_fits(wanted.type, value):
                expected = type_name(wanted.type)
                yield Finding(f"{path}.{name}", f"expects {expected}, found {show(value)}.")
        for name, wanted in known.params.items():
            if wanted.required and name not in node.params:
                message = f"parameter `{name}` ({type_name(wanted.type)}) is not set."
                yield Finding(f"nodes.{node.name}", message, f"params: {{{name}: ...}}")

    def components(self, node: NodeSpec, known: Declaration) -> Iterator[Finding]:
        for name in node.components:
            if name not in known.components:
                listed = ", ".join(known.components) or "none"
                yield Finding(
                    f"nodes.{node.name}.components.{name}",
                    f"{node.type} needs no component `{name}`. It needs: {listed}.",
                    did_you_mean(name, known.components),
                )

    def shape(self) -> Iterator[Finding]:
        """Cycles, nodes and request fields that nothing uses, components that nothing binds."""
        if has_cycle(self.graph):
            for loop in cycles(self.graph):
                loop_text = " -> ".join([*loop, loop[0]])
                yield Finding(f"nodes.{loop[0]}.inputs", f"the graph has a cycle: {loop_text}.")
        if any(path.startswith("nodes") for path in self.wrong):
            return  # an entry that could not be read may use what looks unused
        wanted = {r.node for r in self.graph.outputs.values()} & set(self.graph.nodes)
        used = ancestors(self.graph, wanted)
        for name in self.graph.nodes:
            if wanted and name not in used:
                help = f"remove it: {name}: null, or connect it"
                yield Finding(f"nodes.{name}", "no output needs this node.", help)
        yield from self.unused_fields()
        yield from self.streams()
        bound = {
            node.components.get(field, field)
            for node in self.graph.nodes.values()
            if (known := self.declarations.get(node.name))
            for field in known.components
        }
        for name in self.graph.components if WHOLE not in bound else ():
            if name not in bound and not self.unknown:
                listed = ", ".join(sorted(bound)) or "none"
                message = f"no node needs component `{name}`. Needed: {listed}."
                yield Finding(f"components.{name}", message, f"remove it: {name}: null")

    def streams(self) -> Iterator[Finding]:
        """Streams with two readers, or that are outputs: a stream can be read once only."""
        edges = [
            (f"nodes.{node.name}.inputs.{port}", ref)
            for node in self.graph.nodes.values()
            for port, ref in node.inputs.items()
        ]
        edges += [(f"outputs.{name}", ref) for name, ref in self.graph.outputs.items()]
        readers: dict[Ref, list[str]] = {}
        for path, ref in edges:
            if VideoStream in options(self.type_of(ref)):
                readers.setdefault(ref, []).append(path)
        for ref, paths in readers.items():
            if len(paths) > 1 or paths[0].startswith("outputs"):
                message = f"`{ref}` is a stream, which one node reads once; also read: {paths[0]}."
                yield Finding(paths[-1], message, "decode to a Video for more readers")

    def unused_fields(self) -> Iterator[Finding]:
        used = {
            ref.port
            for node in self.graph.nodes.values()
            for ref in node.inputs.values()
            if ref.node == "request"
        }
        for name, field in self.graph.request.items():
            if name not in used and not (field.type == "seed" and "rng" in used):
                message = f"no node reads request field `{name}`."
                yield Finding(f"request.{name}", message, f"remove it: {name}: null")
