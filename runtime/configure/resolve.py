"""Settings to a `RunConfig`: which graph, which checkpoint, every value typed. Imports no torch.

Precedence is the order of the settings: the caller passes environment, file, command line; a
graph's defaults and the options of `conf/` lie below. All problems are reported together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime.configure.checkpoint_defaults import borrowed, stated
from runtime.configure.run_config import RunConfig, is_batched, unknown_field
from runtime.configure.select_graph import choose, default_graph, named_graph
from runtime.configure.unused import unused
from runtime.configure.weight_variants import variant_notes
from runtime.errors import Position, UserError
from runtime.graph import catalog
from runtime.graph.build import build_graph
from runtime.graph.compose_cache import composed_graph
from runtime.graph.model import Graph
from runtime.graph.node_files import refuse_untrusted
from runtime.graph.parse import FIELD, WHOLE
from runtime.graph.renamed import renamed_notes
from runtime.settings import policies, rounding
from runtime.settings.policies import policy_fields
from runtime.settings.setting import (
    Raw,
    Setting,
    folded,
    is_nothing,
    is_null,
    laid,
    leaves,
    shown,
)

EDITS = ("nodes", "components", "outputs", "matches", "title", "constants")


def resolve(settings: Sequence[Setting], *, allow_unused: bool = False) -> RunConfig:
    """Compose the graph that the settings choose and type every value."""
    problems: list[UserError] = []
    options = _options(settings, problems)
    typed = _policy_values(settings, problems)
    _raise(problems)
    early = policies.build(typed).model
    entry, checkpoint, notes = choose(settings, early)
    data, base = composed_graph(entry.path, options)
    settings = folded(settings, data.get("request"), FIELD)
    edits = tuple(s for s in settings if _is_edit(s))
    declared = _components(data)
    whole = WHOLE in declared
    declared |= {*checkpoint.keys} if whole else set()
    for edit in edits:
        _lay(data, edit)
    graph = stated(build_graph(entry, data, edits), checkpoint)
    if whole and not early.path:  # the demo's checkpoint, with the sizes that it was trained for
        demo = default_graph()
        graph = borrowed(graph, build_graph(demo, composed_graph(demo.path, {})[0]).request)
    refuse_untrusted(graph, trusted=early.trust_remote_code)
    declared |= _rebound(graph)
    if graph.findings:
        from runtime.graph.check import check  # imports torch: only a wrong graph pays for it here

        check(graph)
    values = {g: base.get(g, {}) | typed.get(g, {}) for g in policy_fields()}
    adjust = policies.build(typed).adjust
    request, rounded = _request(graph, settings, problems, adjust)
    _count_encoders(settings, typed, declared | set(checkpoint.keys), problems)
    problems += [] if allow_unused else unused(graph, settings, declared, whole)
    _raise(problems)
    made = policies.build(_typed_options(values))
    notes = (*notes, *variant_notes(graph, checkpoint), *renamed_notes(data), *rounded)
    return RunConfig(graph, checkpoint, request, made, notes)


def resolve_graph(settings: Sequence[Setting]) -> Graph:
    """The composed graph alone, without a checkpoint: to look at it."""
    named = next(s for s in settings if s.path == ("graph",))
    entry, problems = named_graph(named), list[UserError]()
    data, _ = composed_graph(entry.path, _options((), []))
    settings = folded(settings, data.get("request"), FIELD)
    edits = tuple(s for s in settings if _is_edit(s))
    declared = _components(data)
    for edit in edits:
        _lay(data, edit)
    graph = build_graph(entry, data, edits)
    trusted = policies.build(_policy_values(settings, problems)).model.trust_remote_code
    refuse_untrusted(graph, trusted=trusted)
    _request(graph, settings, problems, policies.Adjust())
    problems += unused(graph, settings, declared | _rebound(graph))
    _raise(problems)
    return graph


def _components(data: Mapping[str, Any]) -> set[str]:
    """Components that the files declare; reading says what is wrong with that section."""
    said = data.get("components")
    return set(said) if isinstance(said, Mapping) else set()


def _rebound(graph: Graph) -> set[str]:
    rebound = {c for names in graph.rebinding.values() for c in names.values()}
    return rebound | {c for node in graph.nodes.values() for c in node.components.values()}


def _raise(problems: list[UserError]) -> None:
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UserError("\n".join(map(str, problems)), field=problems[0].field)


def _options(settings: Iterable[Setting], problems: list[UserError]) -> dict[str, str]:
    """The option of each policy group: `placement=cpu` over conf/default.yaml."""
    folder = catalog.packaged("conf")
    chosen: dict[str, str] = dict(catalog.read_yaml(folder / "default.yaml").get("defaults", {}))
    for setting in settings:
        group = setting.path[0]
        if len(setting.path) != 1 or group not in policy_fields() or is_nothing(setting.value):
            continue
        known = sorted(p.stem for p in (folder / group).glob("*.yaml"))
        if str(setting.value) in known:
            chosen[group] = str(setting.value)
        else:
            problems.append(
                UserError(
                    f"{shown(setting)} expects an option of conf/{group}, got `{setting.value}`",
                    help=f"there are: {', '.join(known)}"
                    if known
                    else f"set a field: {group}.X=...",
                    field=group,
                )
            )
    return chosen


def _policy_values(
    settings: Iterable[Setting], problems: list[UserError]
) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {}
    for setting in settings:
        if len(setting.path) == 1 and not is_nothing(setting.value):
            values.pop(setting.path[0], None)  # an option replaces what was said before it
        field = policy_fields().get(setting.path[0], {}).get(".".join(setting.path[1:]))
        if field is None:
            continue
        nothing = isinstance(setting.value, Raw) and is_null(setting.value)
        try:
            value = None if nothing else field.parse(setting.value, shown(setting))
        except UserError as problem:
            problems.append(problem)
            continue
        values.setdefault(setting.path[0], {})[".".join(setting.path[1:])] = (
            field.default if value is None else value
        )
    return values


def _count_encoders(
    settings: Iterable[Setting],
    typed: Mapping[str, Mapping[str, Any]],
    components: Iterable[str],
    problems: list[UserError],
) -> None:
    """Refuse more dtypes of text encoders than there are text encoders."""
    given = len(typed.get("precision", {}).get("text_encoders") or ())
    count = sum(name.startswith("text_encoder") for name in components)
    if given <= count:
        return
    path = ("precision", "text_encoders")
    said = next(shown(s) for s in reversed([*settings]) if s.path == path)
    there = f"{count} text encoder{'s' * (count != 1)}"
    problems.append(
        UserError(
            f"{said} has {given} dtypes, and this model has {there}",
            help=f"give {count} at most, in order" if count else "leave it out",
            field=".".join(path),
        )
    )


def _typed_options(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Options of conf/ come as plain YAML: typed like everything else; null keeps the default."""
    fields = policy_fields()
    return {
        group: {n: fields[group][n].parse(v) for n, v in said.items() if v is not None}
        for group, said in values.items()
    }


def _is_edit(setting: Setting) -> bool:
    head = setting.path[0]
    return (head in EDITS and len(setting.path) > 1) or (
        head == "request" and len(setting.path) > 2
    )


def _lay(data: dict[str, Any], edit: Setting) -> None:
    """Lay one setting over the composed graph."""
    here = data
    for key in edit.path[:-1]:
        below = here.get(key)
        here[key] = dict(below) if isinstance(below, Mapping) else {}
        here = here[key]
    here[edit.path[-1]] = laid(edit)


def _request(
    graph: Graph,
    settings: Iterable[Setting],
    problems: list[UserError],
    adjust: policies.Adjust,
) -> tuple[dict[str, Any], list[str]]:
    """Typed values of `request.*`, and notes on what was rounded."""
    values: dict[str, Any] = {}
    notes: dict[str, str] = {}
    for setting in settings:
        if setting.path[0] != "request" or len(setting.path) != 2:
            continue
        field = graph.request.get(setting.path[1])
        if field is None:
            if not is_nothing(setting.value):
                problems.append(unknown_field(graph, setting.path[1], shown(setting)))
            continue
        many = dataclasses.replace(field, many=True) if is_batched(field) else field
        try:
            value, note = rounding.parse(many, setting.value, shown(setting), adjust)
        except UserError as problem:
            problems.append(problem)
            continue
        for said in (values, notes):
            said.pop(field.name, None)
        if value is not None and value != ():
            values[field.name] = value
        if note:
            notes[field.name] = note
    return values, list(notes.values())


def edit(path: str, value: Any) -> Setting:
    """A setting from Python: `edit("components.vae.path", folder)`."""
    return Setting(tuple(path.split(".")), value, path, Position("python"))


def edits(path: str, value: Any) -> list[Setting]:
    """The settings of a value from Python that may be nested: `edits("request", {"height": 64})`.

    Below `request` only one level is a map of fields: a field's own value may be a map.
    """
    keys = tuple(path.split("."))
    if keys[0] != "request":
        return [edit(".".join(p), v) for p, v in leaves(keys, value)]
    if len(keys) == 1 and isinstance(value, Mapping):
        return [edit(f"{path}.{name}", v) for name, v in value.items()]
    return [edit(path, value)]
