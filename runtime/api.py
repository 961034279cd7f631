"""The Python interface: load a pipeline, generate, watch its steps, cancel. No torch until a run.

from runtime import Runtime

pipeline = Runtime.load("path/or/hub-id")
result = pipeline.generate(prompt="a red circle on a blue background", seed=1)
result.outputs["video"].frames            # f h w c, uint8

run = pipeline.start(prompt="a green square", outputs=("video",))
for event in run:                         # runtime.events: Stepped, NodeDone, ...
    if enough(event):
        run.cancel()
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.configure.requests import DENOISING_STEPS, Request, complete
from runtime.configure.resolve import edit, edits, resolve, resolve_graph
from runtime.configure.run_config import RunConfig
from runtime.configure.unused import consumed
from runtime.contract.outputs import Destination
from runtime.errors import Cancelled, UserError, did_you_mean
from runtime.events import Event, NodeDone, Noted, Stepped
from runtime.graph.model import Graph
from runtime.result import Result
from runtime.settings.field import Field
from runtime.settings.policies import Output
from runtime.settings.setting import Setting

if TYPE_CHECKING:
    import PIL.Image

    from runtime.plan.plan import Plan
    from runtime.rehearse.placement import Placement
    from runtime.run.session import Session
    from runtime.run.work import Work


BATCH = 8  # samples in one call of a network, on an accelerator


class Run:
    """One request in progress: iterate over its events, then read `result`."""

    def __init__(
        self, session: Session, request: Request, outputs: Sequence[str], to: Destination
    ) -> None:
        self._session, self._request, self._outputs, self._to = session, request, outputs, to
        self._stop = threading.Event()
        self._result: Result | None = None
        self._work: Work | None = None
        self._rows: list[dict[str, Any]] = []
        self._steps: list[float] = []
        self._notes: list[str] = []
        self._before: dict[str, float] = {}
        self._events = self._alone()

    def cancel(self) -> None:
        """Stop at the next call of a network; the iteration then raises Cancelled."""
        self._stop.set()

    def preview(self, frame: int = 0) -> PIL.Image.Image:
        """What the run shows after its last step, as RGB: its latents, decoded by the graph.

        A plain decoding, so early steps look as noisy as they are; it costs what decoding the
        result costs. frame: of a clip, counted as lists count. Between two events only: raises
        RuntimeError where no step is done or the run is over, UserError where a model shows none.
        """
        if self._work is None or self._work.over:
            raise RuntimeError("there is nothing to preview: the run has not begun, or is over")
        from PIL import Image

        preview = self._session.preview(self._work)
        pixels = preview.frames[frame] if hasattr(preview, "frames") else preview.pixels
        grey = pixels.shape[-1] == 1
        return Image.fromarray((pixels[..., 0] if grey else pixels).cpu().numpy()).convert("RGB")

    @property
    def result(self) -> Result:
        """The result; raises what ended the run, or RuntimeError where it is not finished."""
        if self._result is None and self._stop.is_set():
            raise Cancelled("the run was cancelled")
        if self._work is not None and self._work.problem is not None:
            raise self._work.problem
        if self._result is None:
            raise RuntimeError("the run is not finished: iterate over it first")
        return self._result

    @property
    def ended_well(self) -> bool:
        """Whether there is a result."""
        return self._result is not None

    def __iter__(self) -> Iterator[Event]:
        """Run, yielding events; a loop that was left goes on where it stopped.

        Raises UserError, NodeFailed or Cancelled.
        """
        return self._events

    def _alone(self) -> Iterator[Event]:
        for _, event in together([self]):
            yield event
        if self._work and self._work.problem:
            raise self._work.problem

    def begin(self, batch: int = 1) -> Work:
        """Plan the run. batch: how many runs may share calls of networks with it."""
        self._before = self._memory()
        self._work = self._session.start(
            self._request, self._outputs, self._to, self._stop.is_set, batch
        )
        return self._work

    def see(self, event: Event) -> None:
        """Take from an event what the result will tell."""
        if isinstance(event, NodeDone):
            self._rows.append(
                {
                    "node": event.node,
                    "type": event.type,
                    "duration_ms": event.seconds * 1000,
                    "memoised": event.memoised,
                    "nbytes": event.nbytes,
                    "peak_nbytes": event.peak_nbytes,
                }
            )
        elif isinstance(event, Stepped):
            self._steps.append(event.seconds * 1000)
        elif isinstance(event, Noted):
            self._notes.append(event.text)

    def end(self) -> None:
        """Make the result of a run that is over."""
        if self._work is not None and self._work.outputs is not None:
            memory = {"before": self._before, "after": self._memory()}
            self._result = Result(
                self._work.outputs, self._rows, self._steps, memory, tuple(self._notes)
            )
            self._work = None

    def _memory(self) -> dict[str, float]:
        from runtime.device import memory

        return memory(self._session.device).megabytes()


def together(runs: Sequence[Run], *, batch: int = 1) -> Iterator[tuple[Run, Event]]:
    """Several runs at a time, yielding their events as they happen; a run that fails ends alone.

    batch  how many samples a call of a network may answer at once; results are as of single runs,
           up to the last bits that another size of batch changes

    Afterwards `result` of a run has its result, or raises what ended it.
    """
    from runtime.run.scheduler import follow

    by_work = {run.begin(batch): run for run in runs}
    for work, event in follow([*by_work]):
        by_work[work].see(event)
        yield by_work[work], event
    for run in runs:
        run.end()


class Runtime:
    """A configured pipeline. Cheap to make: weights load when a node first needs them."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._made: Session | None = None
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        model: str | Path | Sequence[Setting] | None = None,
        overrides: Mapping[str, object] | None = None,
        *,
        graph: str | Path | None = None,
        allow_unused: bool = False,
    ) -> Runtime:
        """Configure a pipeline; nothing heavy is imported and no weight is read.

        model         folder or hub id; none: the demo model. The command line passes its settings
        overrides     config path to value, dotted or nested: {"components.vae.path": "other/vae"}
        graph         name, or path of a YAML file; none: chosen by the checkpoint
        allow_unused  accept settings that nothing consumes

        Raises UserError (GraphError for a wrong graph).
        """
        if isinstance(model, Mapping):
            raise UserError(
                "the first argument of Runtime.load is a model, got a map",
                help="give the map as `overrides`, the second argument", field="model",
            )  # fmt: skip
        settings: list[Setting] = []
        if model is not None and not isinstance(model, str | Path):
            settings += model
        elif model is not None:
            settings.append(edit("model.path", str(model)))
        if graph is not None:
            settings.append(edit("graph", str(graph)))
        for path, value in (overrides or {}).items():
            settings += edits(path, value)
        return cls(resolve(settings, allow_unused=allow_unused))

    @staticmethod
    def graphs() -> list[dict[str, Any]]:
        """The catalogue: a row per graph on the search path, its defaults and components too."""
        from runtime.configure.family_table import rows

        return rows()

    @staticmethod
    def check_graph(name: str) -> None:
        """Check a graph without a checkpoint; raises GraphError with every problem."""
        from runtime.graph.check import check

        check(resolve_graph([edit("graph", name)]))

    @staticmethod
    def consumed() -> frozenset[str]:
        """Config paths (or their heads) that this version consumes."""
        return consumed()

    @property
    def graph(self) -> Graph:
        """The composed graph."""
        return self.config.graph

    @property
    def fields(self) -> Mapping[str, Field]:
        """What a request may say."""
        return self.config.graph.request

    @property
    def request(self) -> Mapping[str, Any]:
        """Typed request values from settings; `prompt` and `seed` are tuples."""
        return self.config.request

    @property
    def output(self) -> Output:
        """The output policy."""
        return self.config.policies.output

    @property
    def notes(self) -> tuple[str, ...]:
        """What was chosen and why."""
        return self.config.notes

    def validate(self, **request: object) -> Request:
        """The complete request, or a UserError. Imports no torch."""
        return complete(self.config, request)

    def start(
        self,
        complete_request: Request | None = None,
        *,
        outputs: Sequence[str] | None = None,
        destination: Destination | None = None,
        **request: Any,
    ) -> Run:
        """A run of one request; nothing happens until it is iterated.

        complete_request  as `validate` gave it; none: made of the keyword arguments
        outputs           names of the graph's outputs; none: the first
        destination       where save nodes write; none: as `output` says, name `output`
        """
        wanted = self._outputs(outputs)
        to = destination or self._destination()
        made = complete(self.config, request) if complete_request is None else complete_request
        return Run(self.engine, made, wanted, to)

    def batch_size(self, samples: int) -> int:
        """How many samples of one request are to share calls of networks.

        As `placement.batch` says; else one on a CPU, where a batch takes as long as its samples one
        by one (bench/RESULTS.md), and at most eight elsewhere: a batch that memory does not hold is
        split.
        """
        from runtime.device import CPU

        own = 1 if self.engine.device == CPU else BATCH
        return min(samples, self.config.policies.placement.batch or own)

    def generate(self, **request: Any) -> Result:
        """Run one request to its end. Takes what `start` takes."""
        run = self.start(**request)
        for _ in run:
            pass
        return run.result

    def plan(self, *, outputs: Sequence[str] | None = None, **request: object) -> Plan:
        """What would happen, with predicted bytes. Checks the graph; reads no weights."""
        wanted = self._outputs(outputs)
        return self.engine.plan(complete(self.config, request), wanted, self._destination())

    def placement(
        self, machine: str | None = None, *, outputs: Sequence[str] | None = None, **request: Any
    ) -> Placement:
        """What a request needs on a machine: bytes, FLOPs and seconds per node. Reads no weights.

        machine  name of one in conf/machine, `2xNAME` for two devices; none: the one at hand
        """
        from runtime.rehearse.machine import find_machine, machine_at_hand
        from runtime.rehearse.placement import place_on_machine
        from runtime.run.session import Session

        asked = self.config.policies.placement.device
        if machine is not None and asked != "auto":
            raise UserError(
                f"`placement.device` is {asked}, and a plan for `{machine}` is for its own device.",
                help="leave one of the two out", field="placement.device",
            )  # fmt: skip
        found = machine_at_hand(self.engine.device) if machine is None else find_machine(machine)
        session = self.engine if machine is None else Session(self.config, found.first)
        wanted = self._outputs(outputs)
        return place_on_machine(
            *session.rehearse(complete(self.config, request), wanted, self._destination()), found
        )

    def provenance(
        self,
        *,
        outputs: Sequence[str] | None = None,
        destination: Destination | None = None,
        **request: object,
    ) -> dict[str, Any]:
        """What the files of a request would say of how they were made. Takes what `start` takes."""
        wanted = self._outputs(outputs)
        to = destination or self._destination()
        return self.engine.provenance(complete(self.config, request), wanted, to)

    def _destination(self) -> Destination:
        output = self.output
        name = output.file_name or "output"
        suffix = Path(name).suffix
        return Destination(
            Path(output.path).expanduser(), name.removesuffix(suffix), suffix,
            output.quality, output.compression, output.x264_preset,
        )  # fmt: skip

    def _outputs(self, names: Sequence[str] | None) -> tuple[str, ...]:
        known = self.graph.outputs
        names = (names,) if isinstance(names, str) else names
        for name in names or ():
            if name not in known:
                raise UserError(
                    f"graph `{self.graph.name}` has no output `{name}`. "
                    f"It has: {', '.join(known)}.",
                    help=did_you_mean(name, known), field="outputs",
                )  # fmt: skip
        return tuple(names or [next(iter(known))])

    @property
    def engine(self) -> Session:
        """What plans and runs; made at first use, and only then torch is imported."""
        from runtime.run.session import Session

        with self._lock:
            if self._made is None:
                self._made = Session(self.config)
            return self._made


__all__ = ["DENOISING_STEPS", "Cancelled", "Request", "Result", "Run", "Runtime", "together"]
