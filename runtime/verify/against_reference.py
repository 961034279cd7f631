"""A graph and the vanilla pipeline of its checkpoint, run one after the other and compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from runtime.api import Runtime
from runtime.checkpoint.vanilla_pipeline import RATE_ARGUMENTS, PipelineHandle, pipeline_names
from runtime.configure.resolve import edit
from runtime.configure.select_graph import named_graph
from runtime.errors import UserError
from runtime.graph.parse import WHOLE_PIPELINE
from runtime.settings.policies import policy_fields
from runtime.verify.compare import Edges, Parity, Results, compare_runs
from runtime.verify.record import Recorder

GRAPH = "diffusers"  # the graph that is a vanilla pipeline
MORE = "diffusers_kwargs"  # its request field for arguments by the pipeline's own names
SHIFT = "flow_shift"  # a request field that pipelines have in the config of their scheduler
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verified:
    """The comparison. reference: class of the pipeline. notes: arguments that it does not take."""

    reference: str
    parity: Parity
    notes: tuple[str, ...] = ()


def verify(
    session: Runtime,
    arguments: Mapping[str, object] | None = None,
    *,
    class_name: str | None = None,
    tolerance: float = TOLERANCE,
) -> Verified:
    """Run both on the session's request.

    arguments   of the pipeline, by its own names
    class_name  of the pipeline, where the graph's `reference` is not meant
    tolerance   largest difference on an edge, as part of its largest value
    """
    examples = examples_of(session)
    request = session.validate(**examples)
    class_name = class_name or class_of(session)
    reference = beside(session, class_name, request)
    given, notes = translated(session, reference, request, arguments or {})
    reference.validate(**given)
    output = next(iter(session.graph.outputs))
    mine, result = recorded(session, output, examples)
    theirs, other = recorded(reference, "image", given)
    checked = session.plan(outputs=[output], **examples).checked
    ref = session.graph.outputs[output]
    parity = compare_runs(
        mine, theirs, Edges(checked, mine.stepping), Results(str(ref), result, other), tolerance
    )
    return Verified(class_name, parity, notes)


def class_of(session: Runtime) -> str:
    """The pipeline that a graph says it equals, else the checkpoint's own."""
    entry = named_graph(edit("graph", str(session.graph.sources[-1])))
    named = entry.reference in pipeline_names() and entry.name != GRAPH
    return entry.reference if named else session.config.checkpoint.class_name


def examples_of(session: Runtime) -> dict[str, str]:
    """Texts that are required and not given, where the graph names some that work."""
    return {
        name: field.trained.examples[0]
        for name, field in session.fields.items()
        if field.required and not session.request.get(name) and field.trained
        if field.trained.examples
    }


def beside(session: Runtime, class_name: str, request: Mapping[str, object]) -> Runtime:
    """The vanilla pipeline of a session's checkpoint: same files, components, dtypes, device."""
    config = session.config
    if WHOLE_PIPELINE in session.engine.facts:
        raise UserError(
            f"graph `{session.graph.name}` is the vanilla pipeline itself",
            help="name a graph that is to be compared with it", field="graph",
        )  # fmt: skip
    overrides: dict[str, object] = {}
    for group in ("model", "placement", "vae"):
        values = getattr(config.policies, group)
        for at, field in policy_fields()[group].items():
            value = getattr(values, field.name.split(".")[1])
            if value != field.default:
                overrides[f"{group}.{at}"] = value
    for name in ("model.backend", "model.id"):
        overrides.pop(name, None)
    overrides.setdefault("model.path", str(config.checkpoint.root))
    overrides["model.pipeline_class_name"] = class_name
    for name, fact in session.engine.facts.items():
        if fact.nbytes and fact.dtype and name in config.checkpoint.keys:
            overrides[f"components.{name}.dtype"] = fact.dtype
    overrides |= components_of(session)
    key = shift_key(session)
    if key and request.get(SHIFT) is not None:
        overrides[f"components.scheduler.config.{key}"] = request[SHIFT]
    return Runtime.load(None, overrides, graph=GRAPH)


def components_of(session: Runtime) -> dict[str, object]:
    """Overrides that give the pipeline the components of the graph: other files, other configs."""
    return {
        f"components.{name}.{'class' if attribute == 'class_name' else attribute}": value
        for name, spec in session.graph.components.items()
        if name in session.config.checkpoint.keys
        for attribute, value in dataclasses.asdict(spec).items()
        if attribute not in {"name", "dtype"} and value
    }


def shift_key(session: Runtime) -> str:
    """What the config of the scheduler calls the shift of its schedule; empty: it has none."""
    fact = session.engine.facts.get("scheduler")
    config: Mapping[str, Any] = fact.handle.config if fact and fact.handle else {}
    return next((key for key in (SHIFT, "shift") if key in config), "")


def translated(
    session: Runtime, reference: Runtime, request: Mapping[str, object], own: Mapping[str, object]
) -> tuple[dict[str, object], tuple[str, ...]]:
    """A request as the pipeline takes it, and notes on what it does not take.

    own  arguments by the pipeline's own names: they go over those of the request
    """
    handle = reference.engine.facts[WHOLE_PIPELINE].handle
    assert isinstance(handle, PipelineHandle)
    takes = handle.call.parameters
    given: dict[str, Any] = {}
    more: dict[str, object] = dict(own)
    left: list[str] = []
    for name, value in request.items():
        field = session.fields[name]
        if (
            value is None
            or name in own
            or (name == RATE_ARGUMENTS[0] and {*RATE_ARGUMENTS} & {*own})
        ):
            continue
        if name == SHIFT and name not in takes and shift_key(session):
            continue  # the scheduler of the pipeline has it: see `beside`
        if field.type == "seed":
            given["seed"] = value
        elif name in {"image_path", "fps"} or (name in takes and name in reference.fields):
            given[name] = value
        elif name in takes:
            more[name] = list(value) if isinstance(value, tuple) else value
        elif value != field.default or name in session.request:
            left.append(name)
    if more:
        given[MORE] = more
    kind = handle.class_name
    return given, tuple(f"{kind} takes no `{name}`: it is not passed on" for name in left)


def recorded(
    runtime: Runtime, output: str, request: Mapping[str, object]
) -> tuple[Recorder, object]:
    """Run a request to its end with everything recorded; forget its weights afterwards."""
    session, recorder = runtime.engine, Recorder()
    steppers = [n for n, f in session.facts.items() if f.class_name.endswith("Scheduler")]
    session.observe = lambda: recorder
    try:
        with ExitStack() as stack:
            leases = (session.residency.acquire(session.wanted[name]) for name in steppers)
            stack.enter_context(recorder.solving(stack.enter_context(lease) for lease in leases))
            result = runtime.generate(outputs=[output], **request)
    finally:
        session.observe = None
        session.residency.evict(session.device, lambda event: None)
    return recorder, result.outputs[output]
