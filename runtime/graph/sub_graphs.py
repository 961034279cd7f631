"""Expand nodes that are graphs: `left`, which is graph `demo`, becomes `left/cond` and so on.

Its inputs stand for that graph's request, its outputs are that graph's outputs. A pass on a parsed
graph, before the check: neither plan nor executor knows sub-graphs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from runtime.errors import UserError, did_you_mean
from runtime.graph.model import ComponentSpec, Finding, Graph, NodeSpec, Ref, SubGraph
from runtime.graph.order import ancestors
from runtime.settings.field import Field

EFFECTS = frozenset({"destination", "store"})  # request ports of nodes that write or upload


def expand(graph: Graph, graphs: Mapping[str, SubGraph], load: Callable[[str], Graph]) -> Graph:
    """The graph with the nodes of its sub-graphs. load: a sub-graph by name or file."""
    if not graphs:
        return graph
    outer = _Outer(graph, graphs)
    for sub in graphs.values():
        try:
            inner = load(sub.graph)
        except UserError as problem:
            outer.report(f"{sub.name}.graph", problem.message, problem.help)
            outer.missing.add(sub.name)
            continue
        outer.add(sub, inner)
    return outer.graph()


class _Outer:
    """The outer graph while sub-graphs are added to it."""

    def __init__(self, graph: Graph, graphs: Mapping[str, SubGraph]) -> None:
        self.before, self.graphs = graph, graphs
        self.nodes: dict[str, NodeSpec] = {}
        self.request = dict(graph.request)
        self.components = dict(graph.components)
        self.borrowed: dict[str, str] = {}  # component to the sub-graph that it comes from
        self.rebinding: dict[str, Mapping[str, str]] = {}
        self.absent = graph.absent
        self.ends: dict[Ref, Ref] = {}  # output of a sub-graph to the edge inside
        self.ports: dict[str, list[str]] = {}
        self.missing: set[str] = set()
        self.found: list[Finding] = []

    def report(self, path: str, message: str, help: str = "") -> None:
        self.found.append(Finding(f"nodes.{path}", message, help))

    def add(self, sub: SubGraph, inner: Graph) -> None:
        """Add the nodes of one sub-graph, before those that nobody needs are dropped."""
        if inner.findings:
            problem = inner.findings[0]
            self.report(
                f"{sub.name}.graph", f"graph `{sub.graph}` is wrong: {problem.path}: "
                f"{problem.message}", "look at it by itself: its messages name the lines",
            )  # fmt: skip
            self.missing.add(sub.name)
            return
        self._unknown_fields(sub, inner)
        fields = {name: self._source(sub, field) for name, field in inner.request.items()}
        outputs = [n for n, ref in inner.outputs.items() if not _has_effect(inner, ref)]
        ends = {inner.outputs[name].node for name in outputs}
        for node in inner.nodes.values():
            made = _inside(sub, node, fields)
            if node.name in ends and sub.help and not made.help:
                made = dataclasses.replace(made, help=sub.help)
            self.nodes[made.name] = made
        self.ports[sub.name] = outputs
        for name in outputs:
            ref = inner.outputs[name]
            self.ends[Ref(sub.name, name)] = Ref(f"{sub.name}/{ref.node}", ref.port)
        self.rebinding |= {f"{sub.name}/{at}": names for at, names in inner.rebinding.items()}
        self.rebinding[sub.name] = sub.components
        for name, spec in inner.components.items():
            self._component(sub, name, spec)
        self.absent |= {sub.components.get(n, n) for n in inner.absent} - set(self.components)

    def _unknown_fields(self, sub: SubGraph, inner: Graph) -> None:
        for port in (*sub.inputs, *sub.params):
            if port not in inner.request and port != "rng":
                listed = ", ".join(inner.request)
                message = f"graph `{inner.name}` has no request field `{port}`. It has: {listed}."
                self.report(f"{sub.name}.inputs.{port}", message,
                            did_you_mean(port, inner.request))  # fmt: skip

    def _source(self, sub: SubGraph, field: Field) -> object:
        """The edge or literal of a request field of a sub-graph."""
        path = f"{sub.name}.inputs.{field.name}"
        if field.name in sub.inputs:
            return sub.inputs[field.name]
        if field.name in sub.params:
            try:
                return field.parse(sub.params[field.name], f"`{field.name}`")
            except UserError as problem:
                self.report(path, problem.message, problem.help)
                return None
        if field.config:  # the checkpoint states its default: it becomes a field of this graph
            self.request.setdefault(field.name, field)
            return Ref("request", field.name)
        if field.required and "rng" not in sub.inputs:
            message = f"`{field.name}`, which graph `{sub.graph}` requires, is not connected."
            self.report(sub.name, message, f"inputs: {{{field.name}: request.{field.name}}}")
        return field.default

    def _component(self, sub: SubGraph, inner_name: str, spec: ComponentSpec) -> None:
        name = sub.components.get(inner_name, inner_name)
        spec = dataclasses.replace(spec, name=name)
        own = self.before.components.get(name)
        if own is not None:
            self.components[name] = _merged(own, spec)
            self.borrowed.setdefault(name, sub.name)
        elif name in self.borrowed and self.components[name] != spec:
            self.report(
                f"{sub.name}.graph",
                f"component `{name}` differs between `{self.borrowed[name]}` and `{sub.name}`.",
                f"bind another one: components: {{{inner_name}: {inner_name}_2}}, or declare it "
                "under `components` of this graph",
            )
        else:
            self.components[name] = spec
            self.borrowed.setdefault(name, sub.name)

    def graph(self) -> Graph:
        """The whole graph, without inner nodes that nothing needs."""
        nodes = dict(self.before.nodes) | self.nodes
        nodes = {n: self._rewired(f"nodes.{n}", spec) for n, spec in nodes.items()}
        outputs = {
            name: end
            for name, ref in self.before.outputs.items()
            if (end := self._end(f"outputs.{name}", ref))
        }
        whole = dataclasses.replace(
            self.before, nodes=nodes, request=self.request, components=self.components,
            outputs=outputs, findings=(*self.before.findings, *self.found),
            absent=frozenset(self.absent), borrowed=frozenset(self.borrowed),
            rebinding={at: names for at, names in self.rebinding.items() if names},
        )  # fmt: skip
        roots = {*self.before.nodes, *(r.node for r in outputs.values() if r.node in nodes)}
        needed = ancestors(whole, roots)
        unused = [name for name in self.graphs if not any(n.startswith(f"{name}/") for n in needed)]
        findings = [
            Finding(f"nodes.{n}", "nothing reads an output of this graph.", f"remove it: {n}: null")
            for n in unused
            if n not in self.missing and not self.found
        ]
        needed_nodes = {n: s for n, s in nodes.items() if n in needed}
        return dataclasses.replace(whole, nodes=needed_nodes, findings=(*whole.findings, *findings))

    def _rewired(self, path: str, node: NodeSpec) -> NodeSpec:
        inputs = {
            port: end
            for port, ref in node.inputs.items()
            if (end := self._end(f"{path}.inputs.{port}", ref))
        }
        behind = node.behind and self._end(f"{path}.behind", node.behind)
        return dataclasses.replace(node, inputs=inputs, behind=behind)

    def _end(self, path: str, ref: Ref) -> Ref | None:
        """An edge that may come from a sub-graph; none, with a finding, where it has no such."""
        seen: set[Ref] = set()
        while ref in self.ends and ref not in seen:  # a sub-graph may read another
            seen.add(ref)
            ref = self.ends[ref]
        if ref.node in self.missing:
            self.found.append(Finding(path, f"`{ref.node}` could not be read."))
            return None
        if ref.node in self.ports:
            listed = ", ".join(self.ports[ref.node]) or "none"
            message = f"`{ref.node}` has no output `{ref.port}`. It has: {listed}."
            near = did_you_mean(ref.port, self.ports[ref.node], f"`{ref.node}.{{}}`")
            self.found.append(Finding(path, message, near))
            return None
        return ref


def _inside(sub: SubGraph, node: NodeSpec, fields: Mapping[str, object]) -> NodeSpec:
    """A node of a sub-graph as a node of the outer graph."""
    inputs: dict[str, Ref] = {}
    params = dict(node.params)
    for port, ref in node.inputs.items():
        if ref.node != "request":
            inputs[port] = Ref(f"{sub.name}/{ref.node}", ref.port)
        elif ref.port in EFFECTS:
            inputs[port] = ref
        else:
            source = _request_source(sub, ref.port, fields)
            if isinstance(source, Ref):
                inputs[port] = source
            else:
                params[port] = source
    behind = node.behind and Ref(f"{sub.name}/{node.behind.node}", node.behind.port)
    return dataclasses.replace(
        node, name=f"{sub.name}/{node.name}", inputs=inputs, params=params, behind=behind
    )


def _request_source(sub: SubGraph, name: str, fields: Mapping[str, object]) -> object:
    """The source of `request.NAME` inside a sub-graph. `rng` is that of its first seed."""
    if name != "rng":
        return fields.get(name)
    return sub.inputs.get("rng") or fields.get("rng", fields.get("seed"))


def _has_effect(graph: Graph, ref: Ref) -> bool:
    """Whether an output writes a file: two sub-graphs would write the same one."""
    names = ancestors(graph, {ref.node} & set(graph.nodes))
    edges: Iterator[Ref] = (r for n in names for r in graph.nodes[n].inputs.values())
    return any(r.node == "request" and r.port in EFFECTS for r in edges)


def _merged(own: ComponentSpec, below: ComponentSpec) -> ComponentSpec:
    """The attributes of a component in the outer graph, which override those in the sub-graph."""
    stated = {
        f.name: value
        for f in dataclasses.fields(own)
        if (value := getattr(own, f.name)) not in (None, {})
    }
    return dataclasses.replace(below, **stated)
