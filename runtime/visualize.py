"""Show a pipeline: `python -m runtime.visualize NAME|FILE|MODEL_PATH|RESULT [key=value ...]`.

Shows nodes, ports with types, components, and the result of each compiler pass; who consumes an
option (`--explain --height`); what differs (`--diff A B`). Reads configs and headers, not weights.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import Position, UserError, did_you_mean
from runtime.graph import catalog
from runtime.inspect.result_file import is_result, recorded_settings
from runtime.settings.policies import policy_fields
from runtime.settings.setting import Raw, Setting
from runtime.standard_streams import (
    STDOUT,
    drop_stdout,
    is_stdout_failure,
    open_standard_streams,
    write_page,
)

FORMATS = ("text", "mermaid", "dot", "svg", "html", "json")
STAGES = ("check", "prune", "fold", "plan")
GRAPH_FILES = (".yaml", ".yml")


def main(argv: Sequence[str] | None = None) -> int:
    """Print a graph, a plan, an explanation or differences; 2 after a mistake of the user's."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_intermixed_args(_joined(words))
    try:
        text = report(options)
        if options.format == "text":
            print(text, flush=True)
        else:
            write_page(text)
    except UserError as problem:
        print(problem, file=sys.stderr)
        return 2
    except OSError as problem:
        if not is_stdout_failure(problem):
            raise
        drop_stdout()
        if isinstance(problem, BrokenPipeError):  # the reader, such as `head`, has enough
            return 0
        print(f"{STDOUT} cannot be written: {problem.strerror}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m runtime.visualize", description="Show a pipeline graph.", allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "what",
        nargs="?",
        help="a graph's name or file, a checkpoint's path or hub id, or a result file",
    )
    add("settings", nargs="*", metavar="key=value", help="such as request.height=64")
    add("--model-path", help="checkpoint for a graph that is named")
    add("--stage", choices=STAGES, help="the pass after which to look (default: check)")
    add("--format", choices=FORMATS, default="text")
    add(
        "--output",
        action="append",
        help="output that is asked for (default: the first; of a plan, the file)",
    )
    add("--perf", metavar="FILE", help="time and memory per node, as --perf-dump-path wrote them")
    add("--explain", metavar="OPTION", help="who consumes a flag or path, and what it changes")
    add(
        "--diff", nargs=2, metavar=("A", "B"),
        help="what differs: each a graph, a model, a result file, settings, or these together: "
        "'demo height=64'",
    )  # fmt: skip
    return parser


def report(options: argparse.Namespace) -> str:
    """The text of what the arguments ask for."""
    if options.diff:
        return _difference(options)
    if options.what is None:
        raise UserError("nothing is named to look at", help="name a graph, a file or a model: demo")
    settings = [*named(options.what, options.model_path), *map(parse_setting, options.settings)]
    from runtime.inspect.describe import describe_graph
    from runtime.inspect.formats import formatted
    from runtime.inspect.look import look
    from runtime.inspect.perf_file import read_costs
    from runtime.inspect.text import measured

    if options.explain is not None:
        _only(options, "--explain", ("text",))
        return _explained(options.explain, settings, options)
    seen = look(settings, options.stage or "check", options.output or ())
    costs = read_costs(options.perf, seen.before.order) if options.perf else None
    view = describe_graph(seen, costs)
    if options.format == "text" and seen.plan:
        return "\n".join([str(seen.plan), *measured(view)])
    return formatted(view, options.format)


def _explained(option: str, settings: Sequence[Setting], options: argparse.Namespace) -> str:
    from runtime.inspect.diff_command import option_effect
    from runtime.inspect.explain import explain

    return explain(option, settings) + option_effect(option, settings, options.output or ())


def _difference(options: argparse.Namespace) -> str:
    """What differs between the two sides; settings and a model beside them are for both."""
    _only(options, "--diff", ("text", "json"))
    from runtime.inspect.diff_command import between_files, difference

    if all(map(is_result, options.diff)) and not (options.stage or options.settings):
        one, two = map(Path, options.diff)
        return between_files(one, two, options.format)
    sides = [_side(text, options) for text in options.diff]
    names = (options.diff[0] or "as it is", options.diff[1] or "as it is")
    return difference(
        sides, names, stage=options.stage, outputs=options.output or (), format=options.format
    )


def _side(text: str, options: argparse.Namespace) -> list[Setting]:
    """The settings of one side: `demo`, `demo height=64`, or `height=64` of what stands before."""
    try:
        words = shlex.split(text)
    except ValueError as problem:
        raise UserError(f"--diff: `{text}`: {problem}", help="close the quotes") from None
    what = words.pop(0) if words and "=" not in words[0] else options.what
    if what is None:
        raise UserError(f"--diff: `{text}` names no graph", help="name it in front: demo height=64")
    return [*named(what, options.model_path), *map(parse_setting, [*options.settings, *words])]


def _only(options: argparse.Namespace, flag: str, formats: Sequence[str]) -> None:
    if options.format not in formats:
        raise UserError(
            f"{flag} answers as {' or '.join(formats)}, not {options.format}",
            help="leave --format out",
        )
    if options.perf:
        raise UserError(f"--perf belongs to a drawing, not to {flag}", help="leave it out")


def _joined(words: Sequence[str]) -> list[str]:
    """`--explain --height` as one word, for an option's name may begin with dashes."""
    found: list[str] = []
    for word in words:
        if found and found[-1] == "--explain":
            found[-1] = f"--explain={word}"
        else:
            found.append(word)
    return found


def named(what: str, model: str | None) -> list[Setting]:
    """The settings that a graph's name, a graph file, a checkpoint or a result stand for."""
    known = catalog.entries()
    is_graph = what in known or what.endswith(GRAPH_FILES)
    if not is_graph and not is_result(what) and "/" not in what and not Path(what).is_dir():
        raise UserError(
            f"`{what}` is no graph, and no folder either",
            help=did_you_mean(what, known) or f"there are graphs: {', '.join(sorted(known))}",
        )
    if is_result(what):
        settings = recorded_settings(what)
    else:
        settings = [_named("graph" if is_graph else "model.path", what)]
    return settings + ([_named("model.path", model)] if model else [])


def _named(path: str, value: str) -> Setting:
    return Setting(tuple(path.split(".")), value, path, Position("command line"))


def parse_setting(text: str) -> Setting:
    """One `key=value`; a word without dots is a policy group or a request field."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"`{text}` is no setting", help="write key=value: request.height=64")
    dotted = key if "." in key or key in policy_fields() else f"request.{key}"
    return Setting(tuple(dotted.split(".")), Raw(value), key, Position("command line"))


if __name__ == "__main__":
    open_standard_streams()
    sys.exit(main())
