"""Which components the precision policy reaches, by their roles. Imports no torch.

Where the graph states the role of a component, nothing more is read. Only before a user's graph is
refused, whose components may have their roles from the node classes, are these imported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from runtime.errors import UserError
from runtime.graph.model import Graph
from runtime.graph.roles import component_roles, of_role, stated_roles
from runtime.settings.policies import Precision
from runtime.settings.setting import Setting, setting_label

# Roles without a dtype of their own, whose components a person may have meant by another role's.
NEAR: Mapping[str, str] = {"audio": "vae", "image_encoder": "text_encoders"}


def count_encoders(
    graph: Graph,
    parts: Collection[str],
    settings: Iterable[Setting],
    typed: Mapping[str, Mapping[str, Any]],
    problems: list[UserError],
) -> None:
    """Refuse more dtypes of text encoders than there are text encoders.

    parts  of the vanilla pipeline, where the graph runs it
    """
    given = len(typed.get("precision", {}).get("text_encoders") or ())
    if not given:
        return
    roles = stated_roles(graph, parts)
    stated = bool(graph.components) and all(spec.role for spec in graph.components.values())
    if given > len(of_role(roles, "text_encoder")) and not stated:
        roles = component_roles(graph, parts)  # some are stated by the node classes alone
    found = of_role(roles, "text_encoder")
    if given <= len(found):
        return
    count, path = len(found), ("precision", "text_encoders")
    label = next(setting_label(s) for s in reversed([*settings]) if s.path == path)
    there = f"{count} text encoder{'s' * (count != 1)}"
    there += f" ({', '.join(found)})" if count > 1 else ""
    problems.append(
        UserError(
            f"{label} has {given} dtypes, and this model has {there}",
            help=f"give {count} at most, in order" if count else "leave it out",
            field=".".join(path),
        )
    )


def unreached_notes(graph: Graph, parts: Collection[str], precision: Precision) -> list[str]:
    """Notes on components that keep their dtype, though a person may have meant them too."""
    roles = stated_roles(graph, parts)
    own = {edit.path[1] for edit in graph.edits if edit.path[::2] == ("components", "dtype")}
    notes = []
    for role, field in NEAR.items():
        names = [name for name in of_role(roles, role) if name not in own]
        if getattr(precision, field) and names:
            listed = ", ".join(f"`{name}`" for name in names)
            notes.append(
                f"`precision.{field}` is not for {listed} (role {role}), which"
                f" keep{'s' * (len(names) == 1)} {'its' if len(names) == 1 else 'their'} dtype:"
                f" `components.{names[0]}.dtype` sets it"
            )
    return notes
