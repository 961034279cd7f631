"""The engine of one configured pipeline: its checked graph, components, memo and executor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from runtime import device as devices
from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.tile_trial import check_tiles
from runtime.checkpoint.vae_tiling import tile_settings
from runtime.checkpoint.vanilla_pipeline import PipelineSource, handle_of
from runtime.configure.component_sources import component_sources
from runtime.configure.request_values import large_pictures, port_value, sizes
from runtime.configure.requests import DENOISING_STEPS
from runtime.configure.run_config import RunConfig, component
from runtime.contract.outputs import Destination
from runtime.contract.values import Image, Rng, Video
from runtime.events import Noted
from runtime.files.object_store import check_store
from runtime.graph.check import Checked, check
from runtime.graph.model import Ref
from runtime.graph.roles import component_roles
from runtime.observe.finite_check import FiniteCheck
from runtime.observe.observer import Observer
from runtime.plan.content_keys import request_keys
from runtime.plan.input_notes import input_notes
from runtime.plan.items import ComponentFacts, Facts, Load, Place, Recall
from runtime.plan.plan import Plan
from runtime.plan.planner import plan
from runtime.plan.without_effect import without_effect
from runtime.provenance.record import Happened, PlannedRun, provenance_record, record_json
from runtime.rehearse.rehearsal import Rehearsal
from runtime.rehearse.store import rehearsed
from runtime.run.memo import ResultMemo
from runtime.run.previews import preview_output, rest_of
from runtime.run.residency import State, WantedComponent, residency, variant_of
from runtime.run.scheduler import follow, loop
from runtime.run.work import Work
from runtime.settings.policies import role_dtype


class Session:
    """Plans and runs requests of one configuration on one device."""

    def __init__(self, config: RunConfig, device: torch.device | None = None) -> None:
        """device: of another machine, for which requests are only planned."""
        self.config = config
        asked = config.policies.placement.device
        self.device = device or devices.choose_device(None if asked == "auto" else asked)
        self._tried: set[tuple[Any, ...]] = set()
        self.memo = ResultMemo(config.policies.memo.max_mb * 2**20)
        self.residency = residency()
        self.observe: Callable[[], Observer] | None = None  # makes an observer for each run
        if config.policies.checks.finite:
            self.observe = FiniteCheck

    @cached_property
    def checked(self) -> Checked:
        """The checked graph; raises GraphError with every problem."""
        return check(self.config.graph)

    @cached_property
    def roles(self) -> dict[str, str]:
        """Component, or part of the vanilla pipeline, to its role."""
        return component_roles(self.config.graph, self.config.checkpoint.keys)

    @cached_property
    def sources(self) -> dict[str, ComponentSource | PipelineSource]:
        """Every component that a node binds, as found; absent optional ones are left out."""
        return component_sources(self.config, self.checked, self.roles, self._own_dtype)

    @cached_property
    def facts(self) -> dict[str, ComponentFacts]:
        """What the plan knows of each component."""
        made = {}
        for name, source in self.sources.items():
            variant = variant_of(source, self._dtype(name))
            nbytes = source.nbytes(variant.dtype) if variant.is_network else 0
            made[name] = ComponentFacts(variant, nbytes, handle_of(source, variant.dtype or None))
        return made

    @cached_property
    def wanted(self) -> dict[str, WantedComponent]:
        """How each component is had: on which device, and what loads it."""
        trusted, found = self.config.policies.model.trust_remote_code, {}
        for name, source in self.sources.items():
            place = self.place(name)
            found[name] = WantedComponent.of(
                source, self.facts[name].dtype, torch.device(place.device), trusted=trusted,
                park=place.residency == "offload",
            )  # fmt: skip
        return found

    def place(self, name: str) -> Place:
        """Where a component is used."""
        return Place(str(self.device))

    def preload(self) -> None:
        """Load what fits beside each other, in the order of the graph; the rest waits for a run."""
        for name in self.facts:
            wanted = self.wanted[name]
            if problem := self.sources[name].lacking:
                raise problem
            if self.residency.fits(wanted):
                with self.residency.acquire(wanted):
                    pass

    def plan(
        self, request: Mapping[str, Any], outputs: Sequence[str], destination: Destination
    ) -> Plan:
        """The plan of a complete request."""
        return self._plan(self.ports(request, destination), outputs, self.memo.keys())

    def rehearse(
        self, request: Mapping[str, Any], outputs: Sequence[str], destination: Destination
    ) -> tuple[Plan, Rehearsal]:
        """The plan of a complete request in a process of its own, and what it needs, on shapes."""
        ports = self.ports(request, destination)
        wanted = {name: self.checked.graph.outputs[name] for name in outputs}
        facts = Facts(str(self.device), self.facts, request_keys(ports, self.config.graph.request))
        asked = {name: ports[name] for name in self.config.graph.request}
        made = plan(self.checked, asked, wanted, facts)
        return made, rehearsed(made, ports, self.sources)

    def provenance(
        self, request: Mapping[str, Any], outputs: Sequence[str], destination: Destination
    ) -> dict[str, Any]:
        """What files of a complete request say of how they were made."""
        ports = self.ports(request, destination)
        made = self._noted(self._plan(ports, outputs, frozenset()), ports)
        return provenance_record(self._made(made), request, ports, destination, Happened())

    def _plan(
        self, ports: Mapping[str, Any], outputs: Sequence[str], stored: frozenset[str]
    ) -> Plan:
        wanted = {name: self.checked.graph.outputs[name] for name in outputs}
        facts = Facts(
            device=str(self.device), components=self.facts,
            request_keys=request_keys(ports, self.config.graph.request),
            resident=self._resident(), memo=stored,
        )  # fmt: skip
        request = {name: ports[name] for name in self.config.graph.request}
        made = plan(self.checked, request, wanted, facts)
        self._check_tiles(request)
        notes = without_effect(self.checked, request, wanted, facts)
        made = dataclasses.replace(made, notes=notes)
        edges = (ref for node in made.checked.graph.nodes.values() for ref in node.inputs.values())
        if Ref("request", "store") in edges:
            check_store(ports["store"])  # a mistake is told before anything is loaded
        return made

    def _check_tiles(self, request: Mapping[str, Any]) -> None:
        """Refuse sizes of tiles that cannot decode this request; each size is tried once."""
        vae, size = self.config.policies.vae, [request.get(n) for n in ("height", "width")]
        for name, source in self.sources.items() if tile_settings(vae) else ():
            key = (name, *size, request.get("num_frames"))
            if key not in self._tried:
                for part in _tuned(source):
                    check_tiles(part, vae, request)
                self._tried.add(key)

    def start(
        self,
        request: Mapping[str, Any],
        outputs: Sequence[str],
        destination: Destination,
        cancelled: Callable[[], bool],
        batch: int = 1,
    ) -> Work:
        """Plan a complete request; the run that interprets the plan. batch: runs that share calls.

        Raises UserError for what the plan refuses. Nothing is loaded or computed yet.
        """
        stored = self.memo.snapshot()
        ports = self.ports(request, destination)
        made = self._plan(ports, outputs, frozenset(stored))
        for item in made.items:  # a plan can be made from configs alone, a run cannot
            if isinstance(item, Load) and (problem := self.sources[item.component].lacking):
                raise problem
        made = self._noted(made, ports)
        work = Work(
            made, ports, int(request.get(DENOISING_STEPS) or 0), cancelled,
            self.wanted, self.memo,
            observer=self.observe() if self.observe else None, batch=batch,
            recalled={
                i.node: stored[made.keys[i.node]] for i in made.items if isinstance(i, Recall)
            },
        )  # fmt: skip
        for text in large_pictures(ports):
            work.emit(Noted(text=text))
        if self.config.policies.output.metadata and _writes(made):

            def record() -> str:
                return record_json(
                    provenance_record(self._made(made), request, ports, destination, work.happened)
                )

            ports["destination"] = dataclasses.replace(destination, record=record)
        for text in made.notes:
            work.emit(Noted(text=text))
        return work

    def _noted(self, made: Plan, ports: Mapping[str, Any]) -> Plan:
        """The plan with what its nodes note on their inputs; loads tokenizers, no weights."""

        def load(name: str) -> Any:
            with self.residency.acquire(self.wanted[name]) as tool:
                return tool

        with loop(str(self.device)).lock:  # a tokenizer keeps its padding in itself
            notes = input_notes(made, ports, load)
        return dataclasses.replace(made, notes=(*made.notes, *notes))

    def preview(self, work: Work) -> Image | Video:
        """What a run in progress shows after its last step, decoded as the graph decodes."""
        made = self._plan(work.request, (preview_output(self.checked),), frozenset())
        rest = rest_of(made, work)
        for _ in follow([rest]):
            pass
        (value,) = (rest.outputs or {}).values()
        picture: Image | Video = value
        return picture

    def _made(self, made: Plan) -> PlannedRun:
        return PlannedRun(self.config, self.checked, self.sources, self.facts, self.device, made)

    def ports(self, request: Mapping[str, Any], destination: Destination) -> dict[str, Any]:
        """The values of `request.*`: the fields, and the built-in rng, destination and store."""
        seeds = [n for n, f in self.config.graph.request.items() if f.type == "seed"]
        rng = {"rng": Rng.from_seed(request[seeds[0]])} if seeds else {}
        uploads = self.config.policies.storage.store()
        fields = self.config.graph.request
        values = {n: port_value(fields[n], v, request) for n, v in request.items()}
        values |= sizes(fields, values)
        return {**values, **rng, "destination": destination, "store": uploads}

    def _dtype(self, name: str) -> str:
        """Explicit for the component, else by the precision policy, else the graph's."""
        recommended = component(self.config.graph, name).dtype
        made = self._asked_dtype(name) or devices.default_dtype(self.device, recommended)
        return str(made).removeprefix("torch.") if made else ""

    def _asked_dtype(self, name: str) -> str | None:
        asked = any(e.dotted == f"components.{name}.dtype" for e in self.config.graph.edits)
        recommended = component(self.config.graph, name).dtype
        return (
            recommended if asked else role_dtype(self.config.policies.precision, self.roles, name)
        )

    def _own_dtype(self, part: str) -> str:
        """The dtype of a pipeline's part, where anything is said of it."""
        own_dtype = self._asked_dtype(part) or component(self.config.graph, part).dtype
        return self._dtype(part) if own_dtype else ""

    def _resident(self) -> frozenset[str]:
        ready = (n for n in self.facts if self.residency.state(self.wanted[n].key) is State.READY)
        return frozenset(ready)


def _tuned(source: ComponentSource | PipelineSource) -> list[ComponentSource]:
    """The VAEs of a component that settings of tiles reach."""
    if isinstance(source, PipelineSource):
        return [source.parts[name] for name in source.vaes]
    return [source] if source.vae_settings else []


def _writes(made: Plan) -> bool:
    """Whether a plan writes files."""
    nodes = made.checked.graph.nodes.values()
    return any(Ref("request", "destination") in node.inputs.values() for node in nodes)
