"""`sglang generate`: settings to jobs, jobs to files.

Only paths of written files go to stdout; where files are uploaded, their public URLs.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import perf_dump
from cli.chosen_graph import chosen_graph
from cli.config_file import read_config
from cli.console import Console
from cli.environment import read_environment
from cli.help import command_help
from cli.parser import CommandLine, parse
from cli.progress import Progress, counted
from cli.samples import Job, make_jobs
from cli.signals import raise_arrived
from runtime import File, Result, Runtime, Setting, UserError
from runtime.contract.outputs import Url
from runtime.events import Stepped
from runtime.files.image_files import check_suffix
from runtime.files.object_store import UploadFailed, check_store

if TYPE_CHECKING:
    from cli.replay import Replay


def generate(argv: Sequence[str]) -> int:
    """Run the command; raises UserError before anything is loaded where the user is at fault."""
    line = parse(argv, "generate")
    if line.help:
        print_help(line, "generate")
        return 0
    settings, line = gather(line)
    replay, settings = replayed(line, settings)
    session = Runtime.load(settings, allow_unused=line.allow_unused)
    replicas = session.config.policies.parallel.dp_size
    if replicas > 1:
        raise UserError(
            f"--dp-size is {replicas}, and one call of `sglang generate` is one process",
            help="leave it out; `sglang serve` starts replicas", field="parallel.dp_size",
        )  # fmt: skip
    console = Console(session.output.log_level, graph=line.graph)
    outputs = wanted_outputs(session)
    jobs = make_jobs(session, settings, datetime.now())
    _check_places(session, jobs, outputs)
    _tell(console, session, line)
    if replay:
        replay.force()
        job = jobs[0]
        now = session.provenance(outputs=outputs, destination=job.destination, **job.request)
        replay.begin(session, job.complete, now, console)
    if session.output.dry_run:
        _print_plan(session, jobs, outputs)
        return 0
    runs, kept = [], 0
    for index, job in enumerate(jobs):
        label = f"[{index + 1}/{len(jobs)}] " if len(jobs) > 1 else ""
        try:
            dump, made = _run(session, job, outputs, (console, label))
            runs.append(dump)
            if replay and len(jobs) == 1:
                replay.verdict([file.path for file in made], console)
        except UploadFailed as problem:
            kept += 1
            console.note(f"{label}sglang generate: error: not uploaded: {problem.reason}", "error")
            console.note(f"the file is kept: {problem.path}", "error")
    if session.output.perf_dump_path and runs:
        perf_dump.write(Path(session.output.perf_dump_path).expanduser(), runs)
    return 1 if kept else 0


def print_help(line: CommandLine, command: str) -> None:
    """Print the help that was asked for, of the graph that the call would run."""
    line.allow_unused = True
    chosen, problem = chosen_graph(gather(line, command)[0])
    print(command_help(command, line.page, chosen))
    if problem:
        print(f"\nThese are the flags of every graph: which one would run is not known. {problem}")


def replayed(line: CommandLine, settings: list[Setting]) -> tuple[Replay | None, list[Setting]]:
    """The file that is to be made again, where one is, and the settings with what it says.

    It goes over the environment, and files and the command line over it.
    """
    if not line.replay:
        return None, settings
    from cli.replay import Replay

    around = [s for s in settings if s.position.file == "environment"]
    given = [s for s in settings if s.position.file != "environment"]
    replay = Replay.of(line.replay, given)
    return replay, around + replay.settings() + given


def gather(line: CommandLine, command: str = "generate") -> tuple[list[Setting], CommandLine]:
    """All settings, later ones winning: environment, config files, command line."""
    files = CommandLine(graph=line.graph)
    for file in line.config_files:
        read_config(file, files, command)
    unknown = files.unknown + line.unknown
    if unknown and not line.allow_unused:
        raise unknown[0] if len(unknown) == 1 else UserError("\n".join(map(str, unknown)))
    line.unknown = unknown
    line.ignored = files.ignored + line.ignored
    return read_environment(os.environ) + files.settings + line.settings, line


def wanted_outputs(session: Runtime) -> tuple[str, ...]:
    """Names of the graph's outputs that the call asks for: a file (or its URL), raw frames."""
    output = session.output
    save = output.save if output.save is not None else not output.return_frames
    if not save and not output.return_frames:
        raise UserError(
            "nothing would come out: saving is off and no frames are asked for",
            help="leave out --no-save-output, or add --return-frames", field="output.save",
        )  # fmt: skip
    store = session.config.policies.storage.store()
    if not save or store.type == "none":
        return ("file",) * save + ("frames",) * output.return_frames
    check_store(store)
    if "url" not in session.graph.outputs:
        raise UserError(
            f"files are to be uploaded, and graph `{session.graph.name}` has no output `url`",
            help="add a node {type: upload.Upload, inputs: {file: save.file, to: request.store}} "
            "and outputs: {url: upload.url}; or unset SGLANG_CLOUD_STORAGE_TYPE",
            field="storage.type",
        )
    return ("url",) + ("frames",) * output.return_frames


def _tell(console: Console, session: Runtime, line: CommandLine) -> None:
    if line.ignored:
        names = ", ".join(dict.fromkeys(line.ignored))
        console.note(f"note: only `sglang serve` uses {names}: ignored", "warning")
    for problem in line.unknown:
        console.note(f"note: {problem.message}: ignored", "warning")
    for note in session.notes:
        console.note(note)
    if session.output.return_frames and session.config.policies.storage.type != "none":
        console.note("note: raw frames are not uploaded: they stay on this machine")


def _check_places(session: Runtime, jobs: Sequence[Job], outputs: Sequence[str]) -> None:
    """Refuse suffixes and folders that cannot work, before anything is loaded."""
    output = session.output
    if not output.path:
        raise UserError(
            "--output-path is empty: there is nowhere to write",
            help="name a folder, or leave it out for outputs/", field="output.path",
        )  # fmt: skip
    for job in jobs if {"file", "url"} & set(outputs) else ():
        if job.destination.suffix:
            frames = job.complete.get("num_frames") or 1
            check_suffix(job.destination.suffix, frames, job.complete.get("fps"))
    _check_folder("--output-path", jobs[0].destination.folder)
    if output.perf_dump_path:
        file = Path(output.perf_dump_path).expanduser()
        if file.is_dir():
            raise UserError(f"--perf-dump-path {file}: a folder, not a file", help="name a file")
        _check_folder("--perf-dump-path", file.parent)


def _check_folder(flag: str, folder: Path) -> None:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError(f"{flag}: {place} is a file", help="choose another folder")
    try:
        Path(
            tempfile.mkdtemp(dir=place)
        ).rmdir()  # permissions alone do not tell: /proc, full disks
    except OSError:
        raise UserError(f"{flag}: {place} is not writable", help="choose another folder") from None


def _print_plan(session: Runtime, jobs: Sequence[Job], outputs: Sequence[str]) -> None:
    print(session.plan(outputs=outputs, **jobs[0].request))
    if len(jobs) > 1:
        print(f"The same for {len(jobs) - 1} more of {len(jobs)} files.")


def _run(
    session: Runtime, job: Job, outputs: Sequence[str], shown: tuple[Console, str]
) -> tuple[dict[str, Any], list[File]]:
    """Run one job and print its files' paths or URLs; returns its perf dump and its files.

    shown  console, label
    """
    console, label = shown
    began = time.perf_counter()
    progress = Progress(console.stream, label=label, quiet=not console.shows("info"))
    run = session.start(outputs=outputs, destination=job.destination, **job.request)
    try:
        for event in run:
            raise_arrived()
            progress.show(event)
            if isinstance(event, Stepped) and not gc.isenabled():
                gc.freeze()  # everything is imported and loaded: from here on garbage is garbage
                gc.enable()
    except BaseException:
        run.cancel()
        raise
    finally:
        progress.close()
    seconds = time.perf_counter() - began
    result: Result = run.result
    for name in outputs:
        _print_result(name, result.outputs[name])
    speed = (
        f" ({counted(progress.steps, 'step')}, {progress.rate:.2f} steps/s)"
        if progress.steps
        else ""
    )
    console.note(f"{label}done in {seconds:.2f} s{speed}")
    model = session.config.checkpoint.name
    dump = perf_dump.describe(result, seconds, job.complete.get("prompt"), model)
    made = [result.outputs[name] for name in outputs]
    each = [one for out in made for one in (out if isinstance(out, tuple) else (out,))]
    return dump, [one for one in each if isinstance(one, File)]


def _print_result(name: str, made: object) -> None:
    if isinstance(made, tuple):
        for one in made:
            _print_result(name, one)
        return
    if isinstance(made, Url):
        sys.stdout.write(f"{made.url}\n")
    elif isinstance(made, File) and made.path.is_file():
        sys.stdout.write(f"{made.path}\n")
    else:
        raise RuntimeError(f"the output `{name}` was not written")
    sys.stdout.flush()
