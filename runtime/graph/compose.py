"""Compose graph files with Hydra into plain data. No other module imports Hydra or OmegaConf.

Only files pass through Hydra. `configure/resolve.py` merges the settings of a user into the result,
so that no text of a user is parsed by Hydra's override grammar or interpolated.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runtime.errors import UserError
from runtime.graph.catalog import extends_itself
from runtime.graph.source_positions import display_path

_one_at_a_time = threading.Lock()  # Hydra keeps its state in process-wide singletons


def compose_graph(
    path: Path, search: Sequence[Path], options: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
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


def _composed(path: Path, own: Path, search: Sequence[Path], options: Mapping[str, str]) -> Any:
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
        except (HydraException, OmegaConfBaseException, ValueError, TypeError) as problem:
            raise UserError(
                f"graph {display_path(path)} cannot be composed: {_first_line(problem)}",
                help="`defaults` lists the graphs that it extends, then `_self_`", field="graph",
            ) from problem  # fmt: skip
        except RecursionError as problem:
            raise UserError(
                f"graph {display_path(path)} cannot be composed: it extends itself",
                help="`defaults` lists other graphs; one that stands in for a packaged graph needs"
                " another name to extend it", field="graph",
            ) from problem  # fmt: skip
        except Exception as problem:
            if not type(problem).__module__.startswith("yaml"):
                raise
            raise UserError(_not_yaml(path, problem), field="graph") from problem
        finally:
            GlobalHydra.instance().clear()


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _not_yaml(path: Path, problem: Any) -> str:
    mark = getattr(problem, "problem_mark", None)
    place = (
        f"{display_path(path)}:{mark.line + 1}:{mark.column + 1}" if mark else display_path(path)
    )
    return f"{place}  graph `{path.stem}` is not YAML: {getattr(problem, 'problem', problem)}"


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]
