"""The graph that a call would run, for its --help: found without running or loading anything."""

from __future__ import annotations

from collections.abc import Sequence

from cli.help import Chosen
from runtime import Runtime, Setting, UserError
from runtime.configure.resolve import resolve_graph


def chosen_graph(settings: Sequence[Setting]) -> tuple[Chosen | None, str]:
    """The graph of a call, or the reason why it cannot be determined.

    It is `named` where the settings name a graph or a model.
    """
    choice = [s for s in settings if s.path[0] in {"graph", "model"}]
    graphs = [s for s in choice if s.path == ("graph",)]
    named = bool(graphs) or any(s.path == ("model", "path") for s in choice)
    try:
        return Chosen(Runtime.load(choice, allow_unused=True).graph, named), ""
    except UserError as problem:
        reason = problem.message
    try:  # without the model that it needs
        return (Chosen(resolve_graph(graphs[-1:]), named), "") if graphs else (None, reason)
    except UserError as problem:
        return None, problem.message
