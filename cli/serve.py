"""`sglang serve`: settings to a server. What is wrong with them is said before it listens."""

from __future__ import annotations

import gc
from collections.abc import Sequence

from cli.console import Console
from cli.generate import gather_settings, print_help
from cli.parser import parse
from runtime import Runtime, UserError


def serve(argv: Sequence[str]) -> int:
    """Run the command until it is told to stop."""
    words = list(argv)
    if words and not words[0].startswith("-") and "=" not in words[0]:
        words.insert(0, "--model-path")
    line = parse(words, "serve")
    if line.help:
        print_help(line, "serve")
        return 0
    settings, line = gather_settings(line, "serve")
    runtime = Runtime.load(settings, allow_unused=line.allow_unused)
    console = Console(runtime.output.log_level, command="serve")
    for problem in line.unknown:
        console.note(f"note: {problem.message}: ignored", "warning")
    for note in runtime.notes:
        console.note(note)
    try:
        from server.listen import run
    except ModuleNotFoundError as problem:
        raise UserError(
            f"the server needs the package `{problem.name}`", help=f"pip install {problem.name}"
        ) from problem
    gc.freeze()
    gc.enable()  # `script` put it off for the start; a server lives long
    return run(settings, runtime)
