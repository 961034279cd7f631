"""Run a plan on shapes: bytes and work per node, before a weight is read.

Nodes are asked as the engine asks them, and every call is answered by the network's own forward. Of
calls that are equal but for their numbers (most denoising steps) the first is computed; the others
count the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch

from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.load_pipeline import load_source
from runtime.checkpoint.skeleton import building
from runtime.checkpoint.vanilla_pipeline import PipelineSource
from runtime.contract.batches import Answer, AnyCall, expanded
from runtime.contract.calls import STATELESS
from runtime.contract.denoising import StepDone
from runtime.contract.values import VideoStream, map_tensors, tensors
from runtime.device import CPU, to_dtype
from runtime.errors import UserError
from runtime.graph.model import Ref
from runtime.plan.items import Load, RunNode
from runtime.plan.plan import Plan
from runtime.plan.planner import bound, makes_effect
from runtime.rehearse.ledger import Ledger, Measured, element_bytes
from runtime.rehearse.networks import network_on_shapes, weight_bytes
from runtime.rehearse.shapes import SHAPES, Rehearsing, Shape, Unknown

AnySource: TypeAlias = ComponentSource | PipelineSource


@dataclass(frozen=True)
class NodeCost:
    """What a node needs and does.

    live          bytes of values on the device when it is done, weights left out
    peaks         component to the most such bytes while its calls compute; "" outside of calls
    output_bytes  of its own outputs
    steps         denoising steps
    computed      calls of networks that were run on shapes; the others were equal to one of them
    unknown       why nothing is known of it; empty where all is
    """

    name: str
    type: str
    live: int = 0
    peaks: Mapping[str, int] = field(default_factory=dict)
    output_bytes: int = 0
    flops: Mapping[str, int] = field(default_factory=dict)
    matrix_bytes: int = 0
    other_bytes: int = 0
    steps: int = 0
    calls: int = 0
    computed: int = 0
    unknown: str = ""

    @property
    def peak(self) -> int:
        """The most bytes of values and activations at a time."""
        return max(self.peaks.values(), default=0)


@dataclass(frozen=True)
class Rehearsal:
    """What was rehearsed: nodes in order, and bytes of each component's weights."""

    nodes: tuple[NodeCost, ...]
    weights: Mapping[str, int]


class Rehearser:
    """Rehearses one plan."""

    def __init__(
        self, plan: Plan, request: Mapping[str, Any], sources: Mapping[str, AnySource]
    ) -> None:
        self.plan, self.request, self.sources = plan, request, sources
        self.ledger = Ledger()
        self.networks: dict[str, Any] = {}
        self.weights: dict[str, int] = {}
        self.values: dict[str, Any] = {}
        self.unknown: dict[str, str] = {}
        self._tools: dict[str, Any] = {}
        self._equal: dict[Any, tuple[Measured, Callable[[], Answer]]] = {}

    def run(self) -> Rehearsal:
        """Every node of the plan, in its order."""
        done: list[NodeCost] = []
        for item in self.plan.items:
            if isinstance(item, RunNode):
                done.append(self._node(item))
                names = {cost.name for cost in done}
                kept = {ref.node for ref in self.plan.outputs.values()}
                for name in [n for n in self.values if n not in kept]:
                    if self.plan.readers.get(name, frozenset()) <= names:
                        del self.values[name]
                done[-1] = replace(done[-1], live=self.ledger.live)
            elif isinstance(item, Load) and self.sources[item.component].has_weights:
                self._weights(item.component)
        return Rehearsal(tuple(done), self.weights)

    def _node(self, item: RunNode) -> NodeCost:
        spec = self.plan.checked.graph.nodes[item.node]
        above = [ref.node for ref in spec.inputs.values()]
        if reason := next((self.unknown[n] for n in above if n in self.unknown), ""):
            return self._not_known(item, reason)
        try:
            with self.ledger.measured() as found:
                rehearsed = _Node(self, item)
                out = rehearsed.out()
        except Unknown as problem:
            return self._not_known(item, f"`{item.node}` needs {problem}")
        except (UserError, MemoryError):
            raise
        except Exception as problem:  # a graph of a user's may do what no shape can
            text = f"{type(problem).__name__}: {problem}".split("\n")[0]
            return self._not_known(item, f"`{item.node}` cannot run on shapes ({text[:120]})")
        if out is not None:
            self.values[item.node] = out
        return NodeCost(
            item.node, item.type, 0, {**rehearsed.peaks, "": rehearsed.outside},
            sum(element_bytes(t) for t in tensors(out)), dict(found.cost.flops),
            found.cost.matrix_bytes, found.cost.other_bytes, rehearsed.steps,
            rehearsed.calls, rehearsed.computed,
        )  # fmt: skip

    def _not_known(self, item: RunNode, reason: str) -> NodeCost:
        self.unknown[item.node] = reason
        return NodeCost(item.node, item.type, self.ledger.live, unknown=reason)

    def net(self, component: str) -> Any:
        """The network of a component, on shapes."""
        if component not in self.networks:
            source, fact = self.sources[component], self.plan.facts.components[component]
            if not isinstance(source, ComponentSource):
                raise Unknown("the code of a whole pipeline")
            dtype = to_dtype(fact.dtype or str(source.config.get("torch_dtype") or "float32"))
            assert dtype is not None
            self.networks[component] = network_on_shapes(source, dtype, self.ledger)
        return self.networks[component]

    def _weights(self, component: str) -> None:
        if isinstance(self.sources[component], ComponentSource):
            self.weights[component] = weight_bytes(self.net(component))
        else:
            self.weights[component] = self.plan.facts.components[component].nbytes

    def tool(self, component: str) -> Any:
        """A tokenizer, scheduler or processor: the real one."""
        if component not in self._tools:
            self._tools[component] = load_source(self.sources[component], dtype=None, device=CPU)
        return self._tools[component]

    def here(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on the device of the rehearsal."""
        if tensor.device.type == SHAPES.type:
            return tensor
        with torch.inference_mode(), Rehearsing(self.ledger):
            return tensor.to(SHAPES)

    def forward(self, call: AnyCall) -> tuple[Answer, Measured, bool]:
        """The answer to a call, what it took, and whether it was computed for that."""
        key = _key(call)
        if key is not None and key in self._equal:
            known, again = self._equal[key]
            self.ledger.repeat(known)
            return again(), known, False
        net = self.net(call.component.name)
        with self.ledger.measured() as found:
            batched = map_tensors(expanded(call), self.here)
            with building, torch.inference_mode(), Rehearsing(self.ledger):
                answer = call.forward(net, **batched, **call.options)
            del batched
        if key is not None:
            self._equal[key] = found, _copies(answer, self.ledger)
        return answer, found, True


class _Node:
    """A node while it runs. outside: the most bytes outside of calls; peaks: in those."""

    def __init__(self, rehearser: Rehearser, item: RunNode) -> None:
        self.rehearser, self.ledger = rehearser, rehearser.ledger
        checked = rehearser.plan.checked
        self.spec, self.known = checked.graph.nodes[item.node], checked.declarations[item.node]
        self.peaks: dict[str, int] = {}
        self.outside = self.steps = self.calls = self.computed = 0

    def out(self) -> Any:
        """Its outputs, on shapes; none where it only writes files."""
        inputs = {port: self._value(ref) for port, ref in self.spec.inputs.items()}
        inputs = {
            port: map_tensors(value, self.rehearser.here) for port, value in inputs.items()
            if value is not None or self.known.inputs[port].required
        }  # fmt: skip
        if makes_effect(self.known):
            for stream in (v for v in inputs.values() if isinstance(v, VideoStream)):
                for part in stream.parts():
                    self._drive(part)
            return None
        params = {k: tuple(v) if isinstance(v, list) else v for k, v in self.spec.params.items()}
        node = self.known.cls(**self._components(), **params)
        with self.ledger.measured() as found, self._mode():
            asked = node.run(**inputs)
        self.outside = found.peak
        out = self._drive(asked) if isinstance(asked, Generator) else asked
        return map_tensors(out, self.rehearser.here)

    def _value(self, ref: Ref) -> Any:
        if ref.node == "request":
            return self.rehearser.request[ref.port]
        return getattr(self.rehearser.values[ref.node], ref.port)

    def _components(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        facts = self.rehearser.plan.facts.components
        for name, component in bound(self.spec, self.known).items():
            fact = facts.get(component)
            if fact is None:
                made[name] = None
            else:
                tool = not fact.variant.is_network
                made[name] = self.rehearser.tool(component) if tool else fact.handle
        return made

    def _mode(self) -> _Together:
        return _Together(self.ledger)

    def _drive(self, asked: Generator[Any, Any, Any]) -> Any:
        """Answer a node's calls; as in the engine all answers of a round live until it goes on."""
        reply: Any = None
        while True:
            try:
                with self.ledger.measured() as found, self._mode():
                    message = asked.send(reply)
            except StopIteration as stop:
                self.outside = max(self.outside, found.peak)
                return stop.value
            self.outside = max(self.outside, found.peak)
            reply = None
            if isinstance(message, StepDone):
                self.steps += 1
            elif isinstance(message, list):
                reply = [self._answer(call) for call in message]

    def _answer(self, call: AnyCall) -> Answer:
        began = self.ledger.live
        answer, found, computed = self.rehearser.forward(call)
        name = call.component.name
        self.peaks[name] = max(self.peaks.get(name, 0), began + found.rise)
        self.calls += 1
        self.computed += computed
        return answer


class _Together:
    """Inference mode and the mode of shapes, as the engine has a node's code run."""

    def __init__(self, ledger: Ledger) -> None:
        self._mode, self._inference = Rehearsing(ledger), torch.inference_mode()

    def __enter__(self) -> None:
        self._inference.__enter__()
        self._mode.__enter__()

    def __exit__(self, *problem: Any) -> None:
        self._mode.__exit__(*problem)
        self._inference.__exit__(*problem)


def _key(call: AnyCall) -> Any:
    """What calls have in common that need and do the same; none for one that is always computed.

    Whole numbers may be masks and lengths, so they count where there is one per token; a timestep
    per sample does not.
    """
    if call.state is not STATELESS:
        return None
    described = tuple(sorted((n, _described(v)) for n, v in call.batched.items()))
    key = call.component.name, call.forward, described, tuple(sorted(call.shared.items()))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _described(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        numbers: Any = ()
        inner = value.bare if isinstance(value, Shape) else value
        if inner.device == CPU and value.ndim > 1 and not value.dtype.is_floating_point:
            numbers = tuple(inner.flatten().tolist())
        return str(value.dtype), tuple(value.shape), inner.device == CPU, numbers
    if isinstance(value, list | tuple):
        return tuple(map(_described, value))
    if isinstance(value, Mapping):
        return tuple(sorted((k, _described(v)) for k, v in value.items()))
    return type(value).__name__, repr(value)


def _copies(answer: Answer, ledger: Ledger) -> Callable[[], Answer]:
    """What makes the answer anew, with storages of its own that are as large and shared alike."""
    found = [
        (id(t.untyped_storage()) if not isinstance(t, Shape) else t.bare.untyped_storage()._cdata,
         t.bare if isinstance(t, Shape) else t, t.device)
        for t in tensors(answer)
    ]  # fmt: skip
    layout = [
        (key, inner.untyped_storage().nbytes(), tuple(inner.shape), inner.stride(),
         inner.storage_offset(), inner.dtype, device)
        for key, inner, device in found
    ]  # fmt: skip
    pattern = map_tensors(answer, lambda t: torch.empty(0, device=SHAPES))

    def again() -> Answer:
        bases: dict[int, torch.Tensor] = {}
        made = iter(layout)

        def one(_: torch.Tensor) -> torch.Tensor:
            key, size, shape, stride, offset, dtype, device = next(made)
            base = bases.setdefault(key, torch.empty(size, dtype=torch.uint8, device=SHAPES))
            with torch.inference_mode():
                inner = base.view(dtype).as_strided(shape, stride, offset)
                return Shape(inner, device, ledger)

        copy: Answer = map_tensors(pattern, one)
        return copy

    return again
