"""The checker: report all problems of a graph at once, before any weight is read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runtime.contract.declare import Declaration, Port, literal_fits, type_name
from runtime.contract.rules import RULES
from runtime.errors import GraphError, Problem, did_you_mean
from runtime.graph.adapt import entry_type, list_entry
from runtime.graph.check_removed import removal_findings, removed_sources
from runtime.graph.check_shape import shape_findings
from runtime.graph.model import Finding, Graph, NodeSpec, Ref
from runtime.graph.order import data_flow_order
from runtime.graph.parse import BUILT_IN
from runtime.graph.source_positions import locate, origin
from runtime.graph.typed import TypedGraph, request_port
from runtime.settings.field import show


@dataclass(frozen=True)
class Checked:
    """A graph whose every node is known and every edge fits. order: data-flow order."""

    graph: Graph
    declarations: Mapping[str, Declaration]
    order: tuple[str, ...]


def check(graph: Graph) -> Checked:
    """Check a graph; raises GraphError with every problem, sorted by position."""
    typed = TypedGraph(graph)
    findings = [*graph.findings, *typed.findings, *_Checker(typed).findings()]
    if findings:
        problems = [
            Problem(locate(f.path, graph.sources, graph.edits), *f) for f in dict.fromkeys(findings)
        ]
        raise GraphError(graph.name, problems)
    return Checked(typed.graph, typed.declarations, data_flow_order(typed.graph))


class _Checker:
    """One pass over a graph. Each method yields findings; none stops at the first."""

    def __init__(self, typed: TypedGraph) -> None:
        self.typed, self.graph = typed, typed.graph
        # An entry that could not be read is reported once: edges that use it are not.
        self.wrong = {f.path for f in (*self.graph.findings, *typed.findings)}
        self.broken = {".".join(path.split(".")[:2]) for path in self.wrong}
        self.removed = removed_sources(self.graph)

    def findings(self) -> Iterator[Finding]:
        declarations = self.typed.declarations
        for node in self.graph.nodes.values():
            known = declarations.get(node.name)
            if known is None:
                problem = self.typed.unknown[node.name]
                yield Finding(f"nodes.{node.name}.type", f"{problem}.", problem.help)
            else:
                yield from self.rules(node)
                yield from self.inputs(node, known)
                yield from self.params(node, known)
                yield from self.components(node, known)
        for name, ref in self.graph.outputs.items():
            yield from self.source(f"outputs.{name}", ref)
        yield from removal_findings(self.typed, self.removed)
        unreadable = any(path.startswith("nodes") for path in self.wrong)
        yield from shape_findings(self.typed, unreadable or bool(self.removed))

    def rules(self, node: NodeSpec) -> Iterator[Finding]:
        """Rules of the class whose parameters are neither inputs nor parameters of the node."""
        known = self.typed.plain[node.name]
        for name in {*vars(known.cls).get("sized", ())} - {*known.inputs, *known.params}:
            message = f"`sized` of {node.type} names `{name}`, which is no input of it. It has: "
            message += f"{', '.join(sorted(known.inputs))}."
            yield Finding(f"nodes.{node.name}.type", message, did_you_mean(name, known.inputs))
        for rule in RULES:
            made = getattr(known.cls, rule, None)
            parameters = inspect.signature(made).parameters.values() if made else ()
            named = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self"}
            ports = {*known.inputs, *known.params}
            for name in sorted(named - ports):
                message = f"`{rule}` of {node.type} asks for `{name}`, which it has not. It has: "
                message += f"{', '.join(sorted(ports))}."
                yield Finding(f"nodes.{node.name}.type", message, did_you_mean(name, ports))

    def path(self, node: NodeSpec, section: str, port: str) -> str:
        """Where a port is written: a literal may stand under `inputs`, an edge under `params`."""
        name = (list_entry(port) or (port, 0))[0]
        paths = [f"nodes.{node.name}.{s}.{name}" for s in (section, "inputs", "params", "each")]
        written = (p for p in paths if origin(p, self.graph.sources, self.graph.edits) >= 0)
        return next(written, paths[0])

    def inputs(self, node: NodeSpec, known: Declaration) -> Iterator[Finding]:
        for port, ref in node.inputs.items():
            wanted = known.inputs.get(port)
            if wanted is None:
                yield self.leftover(node, port, "inputs", known)
                yield from self.source(self.path(node, "inputs", port), ref)
                continue
            bad = [*self.source(f"nodes.{node.name}.inputs.{port}", ref)]
            found = None if bad else self.typed.type_of(ref)
            if bad or (found is not None and not self.typed.fits(wanted, found)):
                path = self.path(node, "inputs", port)
                yield from (b._replace(path=path) for b in bad)
                if not bad:
                    yield self.misfit(path, node, wanted, ref)
        path = f"nodes.{node.name}.inputs"
        for port, wanted in known.inputs.items():
            places = (f"{path}.{port}", f"{path}.{port.split('.')[0]}", f"nodes.{node.name}.behind")
            lost = any(place in self.wrong for place in places)
            if wanted.required and port not in node.inputs and not lost:
                message = f"`{port}` ({type_name(wanted.type)}) is not connected."
                yield Finding(
                    path if node.inputs else f"nodes.{node.name}",
                    message,
                    self.typed.candidates(wanted, node.name),
                )

    def misfit(self, path: str, node: NodeSpec, wanted: Port, ref: Ref) -> Finding:
        """An edge whose type does not fit its port."""
        found = self.typed.type_of(ref)
        message = f"expects {type_name(wanted.type)}, but `{ref}` is {type_name(found)}."
        inside = entry_type(wanted)
        if inside is not None and self.typed.fits(Port(wanted.name, inside), found):
            return Finding(path, message, f"write a list: [{ref}]")
        return Finding(path, message, self.typed.candidates(wanted, node.name))

    def source(self, path: str, ref: Ref) -> Iterator[Finding]:
        """Whether an edge's source exists."""
        if f"nodes.{ref.node}" in self.broken or f"request.{ref.port}" in self.broken:
            return
        if ref in self.removed or Ref(ref.node, "*") in self.removed:
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
        known = self.typed.declarations.get(ref.node)
        if known and ref.port not in known.outputs:
            listed = ", ".join(map(str, known.outputs.values()))
            yield Finding(
                path,
                f"`{ref.node}` has no output `{ref.port}`. It has: {listed}.",
                did_you_mean(ref.port, known.outputs, f"`{ref.node}.{{}}`"),
            )

    def leftover(self, node: NodeSpec, port: str, section: str, known: Declaration) -> Finding:
        """An unknown port or parameter; says so when a later file changed the type of the node."""
        path = self.path(node, section, port)
        what = "input" if section == "inputs" else "parameter"
        entry = list_entry(port)
        if entry and (single := {**known.inputs, **known.params}.get(entry[0])):
            message = f"`{single.name}` is {type_name(single.type)}, and takes one edge, not a list"
            return Finding(path, message)
        names = known.inputs if section == "inputs" else known.params
        name = entry[0] if entry else port
        listed = ", ".join(map(str, names.values())) or "none"
        message = f"{node.type} has no {what} `{name}`. It has: {listed}."
        type, places = f"nodes.{node.name}.type", (self.graph.sources, self.graph.edits)
        if origin(type, *places) > origin(path, *places):
            changed = locate(type, *places)
            section = path.rsplit(".", 2)[1]
            message += f"\nIt was left over when {changed} changed the type."
            return Finding(path, message, f"there, write {section}: {{{name}: null}}")
        return Finding(path, message, did_you_mean(name, {**known.inputs, **known.params}))

    def params(self, node: NodeSpec, known: Declaration) -> Iterator[Finding]:
        for name, value in node.params.items():
            wanted = known.params.get(name)
            if wanted is None:
                yield self.leftover(node, name, "params", known)
            elif not literal_fits(wanted.type, value):
                expected = type_name(wanted.type)
                path = self.path(node, "params", name)
                help = self.typed.candidates(wanted, node.name) if ".inputs." in path else ""
                yield Finding(path, f"expects {expected}, found {show(value)}.", help)
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
