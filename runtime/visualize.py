"""See a pipeline: `python -m runtime.visualize NAME|FILE|MODEL_PATH [key=value ...]`.

Shows nodes, ports with types, components, and what each compiler pass makes of a request. Reads
configs and headers, never weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime import catalog
from runtime.errors import Position, UserError, did_you_mean
from runtime.policies import policy_fields
from runtime.settings import Raw, Setting

FORMATS = ("text", "mermaid", "dot", "svg", "html", "json")
STAGES = ("check", "prune", "fold", "plan")


def main(argv: Sequence[str] | None = None) -> int:
    """Print a graph or a plan; 2 after a mistake in the arguments or the graph."""
    parser = argparse.ArgumentParser(
        prog="python -m runtime.visualize", description="Show a pipeline graph.", allow_abbrev=False
    )
    parser.add_argument(
        "what", help="name of a graph, a graph file, or a checkpoint's path or hub id"
    )
    parser.add_argument(
        "settings", nargs="*", metavar="key=value", help="such as request.height=64"
    )
    parser.add_argument("--model-path", help="checkpoint for a graph that is named")
    parser.add_argument(
        "--stage", choices=STAGES, default="check", help="the pass after which to look"
    )
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument(
        "--output", action="append", help="output that is asked for (default: the first)"
    )
    said = parser.parse_intermixed_args(argv)
    try:
        print(draw(said))
    except UserError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


def draw(said: argparse.Namespace) -> str:
    """The text of what the arguments ask for."""
    settings = [*_what(said.what, said.model_path), *map(_setting, said.settings)]
    from runtime.describing import describe
    from runtime.formats import formatted
    from runtime.stages import look

    seen = look(settings, said.stage, said.output or ())
    if said.format == "text" and seen.plan:
        return str(seen.plan)
    return formatted(describe(seen), said.format)


def _what(what: str, model: str | None) -> list[Setting]:
    known = catalog.entries()
    is_graph = what in known or what.endswith((".yaml", ".yml"))
    if not is_graph and "/" not in what and not Path(what).is_dir():
        raise UserError(
            f"`{what}` is no graph, and no folder either",
            help=did_you_mean(what, known) or f"there are graphs: {', '.join(sorted(known))}",
        )
    settings = [_named("graph" if is_graph else "model.path", what)]
    return settings + ([_named("model.path", model)] if model else [])


def _named(path: str, value: str) -> Setting:
    return Setting(tuple(path.split(".")), value, path, Position("command line"))


def _setting(text: str) -> Setting:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"`{text}` is no setting", help="write key=value: request.height=64")
    dotted = key if "." in key or key in policy_fields() else f"request.{key}"
    return Setting(tuple(dotted.split(".")), Raw(value), key, Position("command line"))


if __name__ == "__main__":
    sys.exit(main())
