"""`sglang generate`: settings to samples, samples to files.

Only paths of written files go to stdout; where files are uploaded, their public URLs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cli import perf_dump
from cli.batches import run_batch
from cli.chosen_graph import chosen_graph
from cli.config_file import read_config
from cli.console import Console
from cli.environment import read_environment
from cli.help import command_help
from cli.output_files import check_places, release_names, with_free_names
from cli.parser import CommandLine, parse
from cli.samples import Sample, make_samples, prompt_notes
from runtime import File, Runtime, Setting, UserError
from runtime.configure.asked_outputs import asked_outputs
from runtime.contract.outputs import Url
from runtime.files.object_store import UploadFailed
from runtime.standard_streams import drop_stdout, is_stdout_failure

if TYPE_CHECKING:
    from cli.replay import Replay


def generate(argv: Sequence[str]) -> int:
    """Run the command; raises UserError before anything is loaded where the user is at fault."""
    line = parse(argv, "generate")
    if line.help:
        print_help(line, "generate")
        return 0
    settings, line = gather_settings(line)
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
    samples = make_samples(session, settings, datetime.now())
    check_places(session, samples, outputs)
    _tell(console, session, line)
    if replay:
        replay.force()
        sample = samples[0]
        now = session.provenance(outputs=outputs, destination=sample.destination, **sample.request)
        replay.begin(session, sample.complete, now, console)
    if session.output.dry_run:
        _print_plan(session, samples, outputs)
        return 0
    try:
        samples = with_free_names(session, samples, outputs, console)
        return _run_all(session, samples, outputs, console, replay)
    finally:
        release_names()


def _run_all(
    session: Runtime,
    samples: Sequence[Sample],
    outputs: Sequence[str],
    console: Console,
    replay: Replay | None,
) -> int:
    """Run every sample; a path that cannot be printed or uploaded does not stop the others."""
    runs, failed = [], 0
    size = session.batch_size(len(samples))
    for start in range(0, len(samples), size):
        for end in run_batch(
            session, samples[start : start + size], outputs, console, start, len(samples)
        ):
            if isinstance(end.problem, UploadFailed):
                reason, path = end.problem.reason, end.problem.path
                console.note(f"{end.label}sglang generate: error: not uploaded: {reason}", "error")
                console.note(f"the file is kept: {path}", "error")
                failed += 1
                continue
            if end.problem:
                raise end.problem
            runs.append(end.dump)
            failed += not _print_results(end.results, console)
            if replay and len(samples) == 1:
                replay.verdict([r.path for r in end.results if isinstance(r, File)], console)
    if session.output.perf_dump_path and runs:
        perf_dump.write(Path(session.output.perf_dump_path).expanduser(), runs)
    return 1 if failed else 0


def print_help(line: CommandLine, command: str) -> None:
    """Print the requested help, for the graph that the call would run."""
    line.allow_unused = True
    chosen, problem = chosen_graph(gather_settings(line, command)[0])
    print(command_help(command, line.page, chosen))
    if problem:
        print(f"\nThese are the flags of every graph: which one would run is not known. {problem}")


def replayed(line: CommandLine, settings: list[Setting]) -> tuple[Replay | None, list[Setting]]:
    """The file to replay, if there is one, and the settings with those of its record.

    Its values override the environment; config files and the command line override its values.
    """
    if not line.replay:
        return None, settings
    from cli.replay import Replay

    around = [s for s in settings if s.position.file == "environment"]
    given = [s for s in settings if s.position.file != "environment"]
    replay = Replay.of(line.replay, given)
    return replay, around + replay.settings() + given


def gather_settings(
    line: CommandLine, command: str = "generate"
) -> tuple[list[Setting], CommandLine]:
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
    return asked_outputs(session.graph, session.config.policies)


def _tell(console: Console, session: Runtime, line: CommandLine) -> None:
    if line.ignored:
        names = ", ".join(dict.fromkeys(line.ignored))
        console.note(f"note: only `sglang serve` uses {names}: ignored", "warning")
    for problem in line.unknown:
        console.note(f"note: {problem.message}: ignored", "warning")
    for note in (*session.notes, *prompt_notes(session)):
        console.note(note)
    if session.output.return_frames and session.config.policies.storage.type != "none":
        console.note("note: raw frames are not uploaded: they stay on this machine")


def _print_plan(session: Runtime, samples: Sequence[Sample], outputs: Sequence[str]) -> None:
    print(session.plan(outputs=outputs, **samples[0].request))
    if len(samples) > 1:
        print(f"The same for {len(samples) - 1} more of {len(samples)} files.")


def _print_results(results: Sequence[File | Url], console: Console) -> bool:
    """Print paths and URLs to stdout; an error of stdout is reported on stderr, the files exist.

    False where a line could not be printed.
    """
    for result in results:
        line = result.url if isinstance(result, Url) else result.path
        try:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        except OSError as problem:
            if not is_stdout_failure(problem):
                raise
            drop_stdout()
            reason = (problem.strerror or "").lower()
            console.note(f"sglang generate: error: cannot print {line}: {reason}", "error")
            return False
    return True
