"""Settings to a `RunConfig`: which graph, which checkpoint, every value typed. Imports no torch.

Precedence is the order of the settings: the caller passes environment, file, command line; a
graph's defaults and the options of `conf/` lie below. All problems are reported together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.checkpoint.checkpoint import Checkpoint
from runtime.configure.checkpoint_defaults import borrowed, with_checkpoint_defaults
from runtime.configure.precision_reach import count_encoders, unreached_notes
from runtime.configure.run_config import RunConfig, is_batched, unknown_field
from runtime.configure.select_graph import default_graph, named_graph, select_graph
from runtime.configure.unused import unused_settings
from runtime.configure.weight_variants import variant_notes
from runtime.errors import Position, UserError
from runtime.graph import catalog
from runtime.graph.build import build_graph
from runtime.graph.compose_cache import composed_graph
from runtime.graph.model import Graph
from runtime.graph.node_files import refuse_untrusted
from runtime.graph.parse import FIELD, WHOLE_PIPELINE
from runtime.graph.renamed import renamed_notes
from runtime.settings import policies, rounding
from runtime.settings.policies import policy_fields
from runtime.settings.setting import (
    Raw,
    Setting,
    graph_value,
    is_nothing,
    is_null,
    join_map_entries,
    leaves,
    setting_label,
)

EDITABLE_SECTIONS = ("nodes", "components", "outputs", "matches", "title", "constants")


@dataclass(frozen=True)
class Overlaid:
    """A graph as plain data, composed of its files, with the settings laid over it.

    base      values of the chosen options of conf/, by policy group
    settings  all settings, those of one map field joined
    edits     the settings that change the graph itself
    """

    entry: catalog.Entry
    data: dict[str, object]
    base: Mapping[str, Mapping[str, Any]]
    settings: list[Setting]
    edits: tuple[Setting, ...]
    components: frozenset[str]  # that the files declare

    @classmethod
    def of(
        cls, entry: catalog.Entry, options: dict[str, str], settings: Sequence[Setting]
    ) -> Overlaid:
        """Compose a graph and lay the settings over it."""
        data, base = composed_graph(entry.path, options)
        joined = join_map_entries(settings, data.get("request"), FIELD)
        edits = tuple(s for s in joined if _is_edit(s))
        components = frozenset(_components(data))
        for edit in edits:
            _lay(data, edit)
        return cls(entry, data, base, joined, edits, components)

    def typed(self) -> Graph:
        """The graph with its types."""
        return build_graph(self.entry, self.data, self.edits)


def resolve(settings: Sequence[Setting], *, allow_unused: bool = False) -> RunConfig:
    """Compose the graph that the settings choose, lay them over it, type and check every value."""
    problems: list[UserError] = []
    options = _options(settings, problems)
    typed = _policy_values(settings, problems)
    _raise(problems)
    given = policies.build_policies(typed)
    entry, checkpoint, notes = select_graph(settings, given.model)
    overlaid = Overlaid.of(entry, options, settings)
    graph = _with_defaults(overlaid, checkpoint, given.model)
    _check_graph(graph, given.model)
    request, rounded = _request(graph, overlaid.settings, problems, given.adjust)
    whole = WHOLE_PIPELINE in overlaid.components
    known = set(overlaid.components) | _rebound(graph) | (set(checkpoint.keys) if whole else set())
    parts = checkpoint.keys if whole else ()
    count_encoders(graph, parts, settings, typed, problems)
    if not allow_unused:
        problems += unused_settings(graph, overlaid.settings, known, parts)
    _raise(problems)
    values = {g: {**overlaid.base.get(g, {}), **typed.get(g, {})} for g in policy_fields()}
    built = policies.build_policies(_typed_options(values))
    notes = (
        *(*notes, *variant_notes(graph, checkpoint), *renamed_notes(overlaid.data), *rounded),
        *unreached_notes(graph, parts, built.precision),
    )
    return RunConfig(graph, checkpoint, request, built, notes)


def resolve_graph(settings: Sequence[Setting]) -> Graph:
    """The composed graph alone, without a checkpoint: to look at it."""
    named = next(s for s in settings if s.path == ("graph",))
    problems: list[UserError] = []
    overlaid = Overlaid.of(named_graph(named), _options((), []), settings)
    graph = overlaid.typed()
    given = policies.build_policies(_policy_values(overlaid.settings, problems))
    refuse_untrusted(graph, trusted=given.model.trust_remote_code)
    _request(graph, overlaid.settings, problems, policies.Adjust())
    known = set(overlaid.components) | _rebound(graph)
    problems += unused_settings(graph, overlaid.settings, known)
    _raise(problems)
    return graph


def _with_defaults(overlaid: Overlaid, checkpoint: Checkpoint, model: policies.Model) -> Graph:
    """The typed graph with the defaults that the checkpoint states."""
    graph = with_checkpoint_defaults(overlaid.typed(), checkpoint)
    if WHOLE_PIPELINE in overlaid.components and not model.path:
        demo = default_graph()  # its checkpoint, with the sizes that it was trained for
        fields = build_graph(demo, composed_graph(demo.path, {})[0]).request
        graph = borrowed(graph, fields)
    return graph


def _check_graph(graph: Graph, model: policies.Model) -> None:
    """Refuse code that is not trusted, and a graph whose files are wrong."""
    refuse_untrusted(graph, trusted=model.trust_remote_code)
    if graph.findings:
        from runtime.graph.check import check  # imports torch: only a wrong graph pays for it here

        check(graph)


def _components(data: Mapping[str, object]) -> set[str]:
    """Components that the files declare; reading says what is wrong with that section."""
    section = data.get("components")
    return set(section) if isinstance(section, Mapping) else set()


def _rebound(graph: Graph) -> set[str]:
    rebound = {c for names in graph.rebinding.values() for c in names.values()}
    rebound |= graph.borrowed
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
                    f"{setting_label(setting)} expects an option of conf/{group},"
                    f" got `{setting.value}`",
                    help=f"there are: {', '.join(known)}"
                    if known
                    else f"set a field: {group}.X=...",
                    field=group,
                )
            )
    return chosen


def _policy_values(
    settings: Iterable[Setting], problems: list[UserError]
) -> dict[str, dict[str, object]]:
    values: dict[str, dict[str, Any]] = {}
    for setting in settings:
        if len(setting.path) == 1 and not is_nothing(setting.value):
            values.pop(setting.path[0], None)  # an option replaces the values before it
        field = policy_fields().get(setting.path[0], {}).get(".".join(setting.path[1:]))
        if field is None:
            continue
        nothing = isinstance(setting.value, Raw) and is_null(setting.value)
        try:
            value = None if nothing else field.parse(setting.value, setting_label(setting))
        except UserError as problem:
            problems.append(problem)
            continue
        values.setdefault(setting.path[0], {})[".".join(setting.path[1:])] = (
            field.default if value is None else value
        )
    return values


def _typed_options(values: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """Options of conf/ come as plain YAML: typed like everything else; null keeps the default."""
    fields = policy_fields()
    return {
        group: {n: fields[group][n].parse(v) for n, v in options.items() if v is not None}
        for group, options in values.items()
    }


def _is_edit(setting: Setting) -> bool:
    head = setting.path[0]
    return (head in EDITABLE_SECTIONS and len(setting.path) > 1) or (
        head == "request" and len(setting.path) > 2
    )


def _lay(data: dict[str, Any], edit: Setting) -> None:
    """Lay one setting over the composed graph."""
    here = data
    for key in edit.path[:-1]:
        below = here.get(key)
        here[key] = dict(below) if isinstance(below, Mapping) else {}
        here = here[key]
    here[edit.path[-1]] = graph_value(edit)


def _request(
    graph: Graph,
    settings: Iterable[Setting],
    problems: list[UserError],
    adjust: policies.Adjust,
) -> tuple[dict[str, object], list[str]]:
    """Typed values of `request.*`, and notes on what was rounded."""
    values: dict[str, Any] = {}
    notes: dict[str, str] = {}
    for setting in settings:
        if setting.path[0] != "request" or len(setting.path) != 2:
            continue
        field = graph.request.get(setting.path[1])
        if field is None:
            if not is_nothing(setting.value):
                problems.append(unknown_field(graph, setting.path[1], setting_label(setting)))
            continue
        many = dataclasses.replace(field, many=True) if is_batched(field) else field
        try:
            value, note = rounding.parse_rounded(
                many, setting.value, setting_label(setting), adjust
            )
        except UserError as problem:
            problems.append(problem)
            continue
        for earlier in (values, notes):
            earlier.pop(field.name, None)
        if value is not None and value != ():
            values[field.name] = value
        if note:
            notes[field.name] = note
    return values, list(notes.values())


def edit(path: str, value: object) -> Setting:
    """A setting from Python: `edit("components.vae.path", folder)`."""
    return Setting(tuple(path.split(".")), value, path, Position("python"))


def edits(path: str, value: object) -> list[Setting]:
    """The settings of a value from Python that may be nested: `edits("request", {"height": 64})`.

    Below `request` only one level is a map of fields: a field's own value may be a map.
    """
    keys = tuple(path.split("."))
    if keys[0] != "request":
        return [edit(".".join(p), v) for p, v in leaves(keys, value)]
    if len(keys) == 1 and isinstance(value, Mapping):
        return [edit(f"{path}.{name}", v) for name, v in value.items()]
    return [edit(path, value)]
