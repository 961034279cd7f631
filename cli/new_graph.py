"""`sglang graphs new`: write a graph that extends another, whose entries are comments to edit."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from runtime import UserError, did_you_mean
from runtime.configure.resolve import edit, resolve_graph
from runtime.files.atomic_write import atomic_write
from runtime.graph.catalog import Entry, entries
from runtime.graph.check import Checked, check
from runtime.graph.compose_cache import composed_graph
from runtime.graph.source_positions import display_path

HELP = """usage: sglang graphs new NAME --from GRAPH [--output DIR]

Write NAME.yaml, a graph that extends GRAPH and changes nothing yet. It lists every request field,
component, node and output of GRAPH in comments; uncomment a line to change it.

  --from GRAPH   a graph that `sglang graphs` lists, or that lies in DIR
  --output DIR   the folder of the new file (default: the working directory)"""
USAGE = "sglang graphs new NAME --from GRAPH [--output DIR]"
FLAGS = ("--from", "--output")
START = """# {name}: what it is, in a sentence. Paper: ... Weights: ... (their licence).
#
# It extends `{base}` and states only differences. To change a line below, remove the `# ` before
# it and before the name of its section. Keys that are left out stay; `null` removes an entry.
#
#     python -m runtime.visualize {file}    checks it and draws it
#     sglang generate --graph {file}        runs it{model}

defaults: [{base}, _self_]

{title}
matches: null      # checkpoints that select it: {{class: A, config: {{key: 1}}, ids: ["*b*"]}}
checkpoints: null  # hub ids that it was made for: [owner/name]
"""
SECTION_COMMENTS = {
    "request": "the fields of a request",
    "components": "the components that are loaded",
    "nodes": "the nodes; edges are `node.port`",
    "outputs": "the results; Python returns the first by default",
}


def new(argv: Sequence[str]) -> int:
    """Run the command."""
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    name, options = _read(argv)
    folder = Path(options.get("--output", ".")).expanduser()
    base = _base(options, folder)
    path = folder / f"{name}.yaml"
    _refuse(name, base, path)
    checked = check(resolve_graph([edit("graph", str(base.path))]))
    with atomic_write(path) as temporary:
        temporary.write_text(starting_point(path, base, checked), "utf-8")
    check(resolve_graph([edit("graph", str(path))]))
    print(path)
    print(f"It is valid, and equals `{base.name}` until you change it.", file=sys.stderr)
    return 0


def starting_point(path: Path, base: Entry, checked: Checked) -> str:
    """The text of a graph that extends `base`; `checked` is that graph."""
    data, _ = composed_graph(base.path, {})
    title = yaml.safe_dump({"title": f"{path.stem}, after {base.title or base.name}"}, width=1000)
    brings = data.get("checkpoint")
    head = START.format(
        name=path.stem, base=base.name, file=path.name, title=title.strip(),
        model="" if brings else ", with --model-path FOLDER or a hub id",
    )  # fmt: skip
    return head + "".join(
        f"\n# {section}:  # {about}\n" + "".join(_entries(section, data[section], checked))
        for section, about in SECTION_COMMENTS.items()
        if data.get(section)
    )


def _entries(section: str, members: Mapping[str, Any], checked: Checked) -> Iterator[str]:
    """The lines of a section, one per entry; a node also has its summary and its unset ports."""
    for name, value in members.items():
        if value is None:
            continue
        if section == "nodes":
            if name in checked.declarations:
                yield f"#   # {checked.declarations[name].summary}\n"
            elif isinstance(value, Mapping) and value.get("help"):
                yield f"#   # {value['help']}\n"
        yield f"#   {_line({name: _without_nulls(value)})}\n"
        is_node = section == "nodes" and name in checked.declarations
        free = _unset_ports(name, checked) if is_node else ""
        yield f"#   #   also: {free}\n" if free else ""


class _OneLine(yaml.SafeDumper):
    """Writes texts of several lines in quotes, with `\\n`."""


_OneLine.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style='"' if "\n" in text else None
    ),
)


def _line(entry: Mapping[str, Any]) -> str:
    """One entry of a map, as YAML on one line."""
    flow: str = yaml.dump(
        entry, Dumper=_OneLine, default_flow_style=True, sort_keys=False, allow_unicode=True,
        width=1_000_000,
    )  # fmt: skip
    return flow.strip()[1:-1]


def _without_nulls(value: Any) -> Any:
    """Plain data without nulls: they remove entries, or are defaults."""
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value


def _unset_ports(node: str, checked: Checked) -> str:
    """Inputs and parameters of a node that the graph leaves at their defaults."""
    spec, known = checked.graph.nodes[node], checked.declarations[node]
    inputs = [str(port) for name, port in known.inputs.items() if name not in spec.inputs]
    params = [str(port) for name, port in known.params.items() if name not in spec.params]
    listed = [f"inputs {{{', '.join(inputs)}}}"] if inputs else []
    return ", ".join(listed + ([f"params {{{', '.join(params)}}}"] if params else []))


def _read(argv: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The name, and the flags that are given."""
    names, options, words = list[str](), dict[str, str](), iter(argv)
    for word in words:
        flag, is_set, value = word.partition("=")
        if flag in FLAGS:
            options[flag] = value if is_set else next(words, "")
            if not options[flag]:
                raise UserError(f"{flag} is given no value", help=USAGE, field=flag)
        elif word.startswith("-") and word != "--debug":
            raise UserError(f"there is no flag `{word}`", help=did_you_mean(flag, FLAGS) or USAGE)
        elif word != "--debug":
            names.append(word)
    if len(names) != 1:
        found = f"got {len(names)}: {', '.join(names)}" if names else "got none"
        raise UserError(f"`sglang graphs new` takes one name, {found}", help=USAGE)
    return names[0], options


def _base(options: Mapping[str, str], folder: Path) -> Entry:
    """The graph that is extended."""
    known = entries([folder.resolve()])
    name = options.get("--from")
    if name in known:
        return known[name]
    if name is None:
        raise UserError("the graph to start from is not given", help=USAGE, field="--from")
    raise UserError(
        f"--from: there is no graph `{name}`",
        help=did_you_mean(name, known) or f"there are: {', '.join(sorted(known))}", field="--from",
    )  # fmt: skip


def _refuse(name: str, base: Entry, path: Path) -> None:
    """Refuse a name that no graph can have, or that exists already."""
    if not (name.isidentifier() and name.isascii()):
        raise UserError(
            f"`{name}` cannot be the name of a graph",
            help="letters, digits and `_`, not a digit first; it becomes NAME.yaml", field="NAME",
        )  # fmt: skip
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} is there already", help="choose another name", field="NAME")
    if name == base.name or name in entries():
        raise UserError(
            f"there is a graph `{name}` already: {display_path(entries()[name].path)}",
            help="choose another name", field="NAME",
        )  # fmt: skip
