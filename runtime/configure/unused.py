"""Settings that nothing consumes: each is an error with the nearest valid name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from runtime.errors import UserError, did_you_mean, nearest
from runtime.graph.model import Graph
from runtime.graph.parse import COMPONENT
from runtime.graph.roles import component_roles, stated_roles
from runtime.settings.field import show
from runtime.settings.policies import policy_fields
from runtime.settings.setting import (
    Raw,
    Setting,
    is_nothing,
    is_one_rank,
    leaves_it_to_us,
    setting_label,
)


def consumed() -> frozenset[str]:
    """Dotted paths, or their heads, that something in this version consumes."""
    paths = {f"{group}.{name}" for group, fields in policy_fields().items() for name in fields}
    attributes = {f"components.*.{name}" for name in COMPONENT}
    return frozenset(paths | attributes | {"graph", "request", "nodes", "outputs", "constants"})


def unused_settings(
    graph: Graph, settings: Iterable[Setting], components: set[str], parts: Collection[str] = ()
) -> list[UserError]:
    """Errors for settings that nothing consumes, but for those without effect (null, one rank).

    parts  of the vanilla pipeline, where the graph runs it
    """
    last = {setting.path: setting for setting in settings}  # the last setting of a path wins
    return [
        _unused_error(graph, setting, components)
        for setting in last.values()
        if not (_is_consumed(setting, components) and _reaches_vae(setting, graph, parts))
        and not _asks_nothing(setting)
    ]


def _reaches_vae(setting: Setting, graph: Graph, parts: Collection[str]) -> bool:
    """Whether there is a VAE for the setting; a vanilla pipeline loads both halves.

    Node classes, which are asked last, import torch.
    """
    halves = setting.path[1:2] == ("config",) and setting.path[-1].startswith("load_")
    if setting.path[0] != "vae" or parts:
        return setting.path[0] != "vae" or not halves
    return any("vae" in roles(graph).values() for roles in (stated_roles, component_roles))


def _asks_nothing(setting: Setting) -> bool:
    one_rank = setting.path[0] == "parallel" and is_one_rank(setting.value)
    return one_rank or is_nothing(setting.value) or leaves_it_to_us(setting.value)


def _is_consumed(setting: Setting, components: set[str]) -> bool:
    head, *rest = setting.path
    if head == "components":
        return bool(rest) and rest[0] in components and bool({*rest[1:2]} & {*COMPONENT})
    if head in {"request", "nodes", "outputs", "constants"} and rest:
        return True  # request fields and graph edits have checks of their own
    return setting.path == ("graph",) or (head in policy_fields() and _declared(head, rest))


def _declared(group: str, rest: Sequence[str]) -> bool:
    return not rest or ".".join(rest) in policy_fields()[group]


def _unused_error(graph: Graph, setting: Setting, components: set[str]) -> UserError:
    head, *rest = setting.path
    if head == "components" and rest and rest[0] not in components:
        known = ", ".join(sorted(components)) or "none"
        message = f"graph `{graph.name}` has no component `{rest[0]}`. It has: {known}."
        return UserError(
            f"{setting_label(setting)}: {message}", help=did_you_mean(rest[0], components),
            field=setting.dotted,
        )  # fmt: skip
    value = str(setting.value) if isinstance(setting.value, Raw) else show(setting.value)
    flag = setting.name.startswith("--")  # the table of flags knows it: it is no misspelling
    paths = [] if flag else [path for path in consumed() if path.split(".")[0] == head]
    near = nearest(setting.dotted, paths, cutoff=0.8) or _near_root(graph, setting, flag)
    return UserError(
        f"{setting_label(setting)} is {value}, and nothing in this version uses it",
        help=f"did you mean `{near[0]}`?" if near else "leave it out", field=setting.dotted,
    )  # fmt: skip


def _near_root(graph: Graph, setting: Setting, flag: bool) -> list[str]:
    """The path that is meant where its first word is misspelt: `requst.height`."""
    paths = [
        *(p for p in consumed() if "*" not in p),
        *(f"request.{name}" for name in graph.request),
    ]
    roots = {path.split(".")[0] for path in consumed()}
    if flag or setting.path[0] in roots:
        return []
    whole = nearest(setting.dotted, paths, cutoff=0.8)
    return whole or [
        ".".join((root, *setting.path[1:])) for root in nearest(setting.path[0], roots, cutoff=0.75)
    ]
