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
from runtime.choosing import named_graph
from runtime.errors import Position, UserError, did_you_mean
from runtime.policies import policy_fields
from runtime.runtime import Runtime
from runtime.settings import Raw, Setting

STAGES = ("check", "prune", "fold", "plan")
PROMPT = "a prompt"  # stands for the prompt where none is given: plans do not depend on its words


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
    parser.add_argument("--format", choices=("text", "mermaid"), default="text")
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
    from runtime.printing import graph_text, mermaid

    if said.stage == "check" and not _has_model(settings):
        from runtime.check import check
        from runtime.config import resolve_graph

        checked = check(resolve_graph(settings))
        return mermaid(checked) if said.format == "mermaid" else graph_text(checked)
    runtime = Runtime.load(settings)
    engine = runtime.engine
    if said.stage == "check":
        text = graph_text(engine.checked, engine.facts)
        return mermaid(engine.checked) if said.format == "mermaid" else text
    given = {} if runtime.request.get("prompt") else {"prompt": PROMPT}
    given = {k: v for k, v in given.items() if k in runtime.fields}
    plan = runtime.plan(outputs=said.output or list(runtime.graph.outputs)[:1], **given)
    if said.stage == "plan" and said.format == "text":
        return str(plan)
    checked, dropped = plan.checked, dict(plan.dropped)
    if said.stage == "prune":
        from runtime.passes import prune

        wanted = {n: runtime.graph.outputs[n] for n in plan.outputs}
        checked, _, dropped = prune(engine.checked, runtime.validate(**given), wanted)
    if said.format == "mermaid":
        return mermaid(checked)
    keys = plan.keys if said.stage == "fold" else None
    return graph_text(checked, engine.facts, keys, dropped)


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


def _has_model(settings: Sequence[Setting]) -> bool:
    if any(s.dotted == "model.path" for s in settings):
        return True
    return any(s.dotted == "graph" and named_graph(s).checkpoint for s in settings)


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
