"""`sglang plan`: what a request needs on a machine, before a weight is read or downloaded."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cli.console import Console
from cli.flags import flag_table
from cli.generate import gather_settings, print_help, wanted_outputs
from cli.messages import flag_of, words_of
from cli.parser import parse
from cli.samples import make_samples
from runtime import Runtime, Setting, UserError
from runtime.configure.resolve import edit

if TYPE_CHECKING:
    from runtime.rehearse.placement import Placement

HELP = """usage: sglang plan [--machine NAME] [--json] [flags of sglang generate]

Say what a request needs: memory and work of each node, where each component is, and how long it
takes by roofline. Configs are read, weights are neither read nor downloaded.

  --machine NAME  for this machine: {machines};
                  2xNAME for two devices; without it the machine at hand
  --json          as JSON, for programs

Exit code 0 where it fits, 1 where it does not: the smallest change that fits is then named.
docs/memory.md explains how a plan comes about."""
PROMPT = "a photograph of a red house by the sea, in the evening"  # where only the size is asked


@dataclass(frozen=True)
class PlanWords:
    """What is only of this command, and the words that are of `sglang generate`."""

    machine: str | None
    json: bool
    words: list[str]


def plan_command(argv: Sequence[str]) -> int:
    """Run the command."""
    asked = _asked(argv)
    line = parse(asked.words, "generate")
    if line.help:
        return _help(line)
    settings, line = gather_settings(line)
    session = Runtime.load(settings, allow_unused=line.allow_unused)
    field = session.graph.request.get("prompt")
    if field and field.required and not session.request.get("prompt"):
        settings = [edit("request.prompt", PROMPT), *settings]
        session = Runtime.load(settings, allow_unused=line.allow_unused)
    placed = _placed(session, settings, asked)
    advice = [] if placed.fits else _advice(placed, session, settings, asked)
    from runtime.rehearse.report import placement_json, placement_text

    if asked.json:
        print(json.dumps(placement_json(placed, advice), indent=1))
        return 0 if placed.fits else 1
    console = Console(session.output.log_level, graph=line.graph)
    for note in session.notes:
        console.note(note)
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    print(placement_text(placed, _title(session), plain=not encoding.startswith("utf")))
    for each in advice:
        print(f"\nthis fits: {each['why']}\n  {each['command']}")
    if not placed.fits and not advice:
        print("\nno option of this version makes it fit")
    return 0 if placed.fits else 1


def _asked(argv: Sequence[str]) -> PlanWords:
    machine, as_json, words, given = None, False, [], list(argv)
    while given:
        word = given.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            words += [word, *given]
            break
        if word == "--json":
            as_json = True
        elif name == "--machine":
            if not equals and (not given or given[0].startswith("-")):
                raise UserError("--machine needs a value", help="write --machine NAME")
            machine = value if equals else given.pop(0)
        else:
            words.append(word)
    return PlanWords(machine, as_json, words)


def _help(line: Any) -> int:
    if line.page:
        print_help(line, "generate")
        return 0
    from runtime.rehearse.machine import machine_names

    print(HELP.format(machines=", ".join(machine_names())))
    return 0


def _placed(session: Runtime, settings: Sequence[Setting], asked: PlanWords) -> Placement:
    """The first of the call's requests on the machine."""
    sample = make_samples(session, settings, datetime.now())[0]
    return session.placement(asked.machine, outputs=wanted_outputs(session), **sample.request)


def _advice(
    placed: Placement, session: Runtime, settings: Sequence[Setting], asked: PlanWords
) -> list[dict[str, str]]:
    """The smallest change that fits, found by planning it; none where no change does."""
    from runtime.rehearse.advice import fitting_changes

    request = make_samples(session, settings, datetime.now())[0].complete
    for change in fitting_changes(placed, session.graph, session.config.policies, request):
        edits = [edit(path, value) for path, value in change.settings.items()]
        changed = Runtime.load([*settings, *edits], allow_unused=True)
        try:
            fits = _placed(changed, [*settings, *edits], asked).fits
        except UserError:  # the graph or the model does not have the option
            continue
        if fits:
            flags = _flags(change.settings)
            words = shlex.join(["sglang", "generate", *asked.words])
            return [{"why": change.why, "flags": flags, "command": f"{words} {flags}"}]
    return []


def _flags(settings: Mapping[str, Any]) -> str:
    """Settings as they are typed."""
    known, found = flag_table(), []
    for path, value in settings.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        flag = flag_of(known, path, text, "generate")
        found.append(words_of(flag, text) if flag else f"{path}={text}")
    return " ".join(found)


def _title(session: Runtime) -> str:
    """The graph and the size that was asked for."""
    names = {"width": "", "height": "", "num_frames": " frames", "num_inference_steps": " steps"}
    fields = session.graph.request
    shown = {n: v for n in names if n in fields and (v := _value(session, n)) is not None}
    sizes = (
        [f"{shown.pop('width')}x{shown.pop('height')}"] if {"width", "height"} <= {*shown} else []
    )
    sizes += [f"{value}{names[n]}" for n, value in shown.items() if names[n]]
    return ", ".join([session.graph.title or session.graph.name, *sizes])


def _value(session: Runtime, name: str) -> Any:
    asked = session.request.get(name)
    return asked if asked is not None else session.graph.request[name].default
