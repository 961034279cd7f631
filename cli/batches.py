"""Samples of one call: run one after the other, or as one batch that shares calls of networks."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cli import perf_dump
from cli.console import Console
from cli.progress import Progress
from cli.samples import Sample
from cli.signals import raise_arrived
from runtime import File, Run, Runtime
from runtime.api import together
from runtime.contract.outputs import Url
from runtime.events import Stepped


@dataclass
class End:
    """How one sample ended: its perf dump and its files or URLs, or what ended it."""

    label: str
    dump: dict[str, Any] = field(default_factory=dict)
    results: list[File | Url] = field(default_factory=list)
    problem: Exception | None = None


def run_batch(
    session: Runtime,
    samples: Sequence[Sample],
    outputs: Sequence[str],
    console: Console,
    start: int,
    count: int,
) -> Iterator[End]:
    """Run samples together and yield how each ended, in order.

    start, count  the number of the first of them, and of all samples of the call
    """
    numbers = f"{start + 1}" if len(samples) == 1 else f"{start + 1}-{start + len(samples)}"
    label = f"[{numbers}/{count}] " if count > 1 else ""
    began = time.perf_counter()
    progress = Progress(console.stream, label=label, quiet=not console.shows("info"))
    runs = [session.start(j.complete, outputs=outputs, destination=j.destination) for j in samples]
    try:
        for run, event in together(runs, batch=len(runs)):
            raise_arrived()
            if run is runs[0]:  # the others do the same at the same time
                progress.show(event)
            if isinstance(event, Stepped) and not gc.isenabled():
                gc.freeze()  # everything is imported and loaded: from here on garbage is garbage
                gc.enable()
    except BaseException:
        for run in runs:
            run.cancel()
        raise
    finally:
        progress.close()
    seconds = time.perf_counter() - began
    if all(run.ended_well for run in runs):
        console.note(f"{label}done in {seconds:.2f} s{progress.summary()}")
    for sample, run in zip(samples, runs, strict=True):
        yield _end(session, sample, run, outputs, label, seconds)


def _end(
    session: Runtime, sample: Sample, run: Run, outputs: Sequence[str], label: str, seconds: float
) -> End:
    try:
        result = run.result
    except Exception as problem:
        return End(label, problem=problem)
    model = session.config.checkpoint.name
    dump = perf_dump.perf_record(result, seconds, sample.complete.get("prompt"), model)
    files = [each for name in outputs for each in _written(name, result.outputs[name])]
    return End(label, dump, files)


def _written(name: str, value: object) -> list[File | Url]:
    """The files or URLs of an output."""
    if isinstance(value, tuple):
        return [each for one in value for each in _written(name, one)]
    if isinstance(value, Url) or (isinstance(value, File) and value.path.is_file()):
        return [value]
    raise RuntimeError(f"the output `{name}` was not written")
