"""Compose graph files with Hydra into plain data. No other module imports Hydra or OmegaConf.

Only files pass through Hydra. `configure/resolve.py` merges the settings of a user into the result,
so that no text of a user is parsed by Hydra's override grammar or interpolated.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runtime.errors import GraphError, Position, Problem, UserError
from runtime.graph.catalog import extends_itself, graph_files, read_yaml
from runtime.graph.source_positions import display_path, yaml_positions

# What else merging may raise, for example where a list meets a map.
PLAIN_ERRORS = (ValueError, TypeError, AssertionError, RecursionError)
_one_at_a_time = threading.Lock()  # Hydra keeps its state in process-wide singletons


def compose_graph(
    path: Path, search: Sequence[Path], options: Mapping[str, str]
) -> tuple[dict[str, object], dict[str, object]]:
    """The composed graph of a file, and the policy groups' values, as plain data.

    search   folders where the graphs that it extends, and the policy groups, are looked up
    options  policy group to the name of its option
    """
    with TemporaryDirectory() as room:
        own, *others = [_extendable(f, path, room) for f in (path.parent.resolve(), *search)]
        data = _composed(path, own, others, options)
    if not isinstance(data, dict):
        raise UserError(
            f"graph {display_path(path)} is empty",
            help="it needs `nodes` and `outputs`",
            field="graph",
        )
    graph = {str(k): v for k, v in data.items()}
    return graph, graph.pop("policies", {})


def _extendable(folder: Path, graph: Path, room: str) -> Path:
    """A folder as Hydra may search it: without graphs that extend themselves.

    A local `demo.yaml` that extends `demo` would otherwise shadow `demo` for all other graphs.
    """
    loops = [f for f in folder.glob("*.yaml") if extends_itself(f) and f.name != graph.name]
    if not loops:
        return folder
    clean = Path(mkdtemp(dir=room))
    for file in folder.iterdir():
        if file not in loops:
            (clean / file.name).symlink_to(file)
    return clean


def _composed(path: Path, own: Path, search: Sequence[Path], options: Mapping[str, str]) -> object:
    overrides = [
        "hydra.searchpath=[" + ",".join(_quoted(folder.as_uri()) for folder in search) + "]",
        *(f"+{group}@policies.{group}={_quoted(name)}" for group, name in options.items()),
    ]
    with _one_at_a_time:
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(own), version_base="1.3"):
                composed = compose(path.stem, overrides)
            return OmegaConf.to_container(composed, resolve=False)
        except (HydraException, OmegaConfBaseException, *PLAIN_ERRORS) as problem:
            raise _not_composed(path, search, problem) from problem
        finally:
            GlobalHydra.instance().clear()


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _not_composed(path: Path, search: Sequence[Path], problem: Exception) -> UserError:
    """Why files that are valid one by one cannot be merged, in our own words."""
    files = graph_files(path, search)
    for index, file in enumerate(files):
        for base in files[:index]:
            for at, own, other in _kinds_that_differ(read_yaml(file), read_yaml(base), ""):
                place = yaml_positions(file).get(at, Position(display_path(file)))
                message = f"`{at}` is {own} here, and {other} in {display_path(base)}"
                fix = "write it as the other file does"
                return GraphError(path.stem, [Problem(place, at, message, fix)])
    return UserError(
        f"graph {display_path(path)} cannot be composed ({type(problem).__name__})",
        help="`defaults` lists the graphs that it extends, then `_self_`", field="graph",
    )  # fmt: skip


def _kinds_that_differ(own: Any, base: Any, above: str) -> Iterator[tuple[str, str, str]]:
    """Dotted paths at which one file has a map and the other has something else."""
    for key in own if isinstance(own, Mapping) and isinstance(base, Mapping) else ():
        here, there = own[key], base.get(key)
        path = f"{above}.{key}".lstrip(".")
        if None not in (here, there) and _kind(here) != _kind(there):
            yield path, _kind(here), _kind(there)
        yield from _kinds_that_differ(here, there, path)


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "a map"
    return "a list" if isinstance(value, list) else "a value"
