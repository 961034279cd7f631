"""Old import paths of this package: they work, with a DeprecationWarning, for one release."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any

# Old module to its new one. Where the old name is a package now, its names are looked up there.
MOVED = {
    "asking": "contract.calls",
    "beside": "verify.against_reference",
    "carried": "files.embedded_text",
    "catalog": "graph.catalog",
    "check": "graph.check",
    "checkpoint": "checkpoint.checkpoint",
    "choosing": "configure.select_graph",
    "classes": "checkpoint.classes",
    "comparing": "inspect.diff_graphs",
    "components": "run.residency",
    "compose": "graph.compose",
    "composed": "graph.compose_cache",
    "config": "configure.resolve",
    "denoising": "contract.denoising",
    "described": "inspect.rows",
    "describing": "inspect.describe",
    "differing": "inspect.diff_command",
    "dot": "inspect.dot",
    "drawing": "inspect.svg",
    "engine": "run.session",
    "executor": "run.executor",
    "explaining": "inspect.explain",
    "families": "configure.family_table",
    "fetch": "files.safe_fetch",
    "fields": "settings.field",
    "finite": "observe.finite_check",
    "folders": "checkpoint.folder",
    "formats": "inspect.formats",
    "graph": "graph.model",
    "hub": "checkpoint.hub",
    "identity": "checkpoint.identity",
    "inputs": "configure.request_values",
    "inspecting": "provenance.read_back",
    "layout": "inspect.layout",
    "loading": "checkpoint.load",
    "measured": "inspect.perf_file",
    "media": "files.image_files",
    "memo": "run.memo",
    "options": "inspect.option_names",
    "order": "graph.order",
    "output": "contract.outputs",
    "page": "inspect.page",
    "parity": "verify.compare",
    "passes": "plan.passes",
    "pausing": "checkpoint.stepped_call",
    "pictures": "files.input_pictures",
    "pipelines": "checkpoint.vanilla_pipeline",
    "plan": "plan.planner",
    "policies": "settings.policies",
    "port_schema": "inspect.node_schema",
    "ports": "contract.declare",
    "positions": "graph.source_positions",
    "previews": "run.previews",
    "printing": "inspect.text",
    "provenance": "provenance.record",
    "reading": "graph.parse",
    "recording": "verify.record",
    "requests": "configure.requests",
    "results": "inspect.result_file",
    "rounding": "settings.rounding",
    "runtime": "api",
    "schema": "inspect.json_schema",
    "settings": "settings.setting",
    "sources": "checkpoint.component_source",
    "stages": "inspect.look",
    "stated": "configure.checkpoint_defaults",
    "storage": "files.object_store",
    "tensors": "checkpoint.tensor_files",
    "timeline": "inspect.timeline",
    "tuning": "checkpoint.vae_tiling",
    "values": "contract.values",
    "video": "files.video_files",
    "watching": "observe.observer",
    "weights": "checkpoint.weight_files",
    "whole": "files.atomic_write",
}
# Where several modules share the contents of an old one.
PARTS = {
    "components": ("run.residency", "checkpoint.handle"),
    "config": ("configure.resolve", "configure.run_config", "configure.unused"),
    "identity": ("checkpoint.identity", "paths"),
    "loading": ("checkpoint.load", "checkpoint.skeleton"),
    "plan": ("plan.planner", "plan.items", "plan.plan"),
    "printing": ("inspect.text", "plan.text"),
}


def old_names(package: str) -> Callable[[str], Any]:
    """`__getattr__` of a package that was a module: its old names, found in its modules."""

    def find(name: str) -> object:
        for part in PARTS.get(package, (MOVED[package],)) if not name.startswith("__") else ():
            module = importlib.import_module(f"runtime.{part}")
            if name in vars(module) and f"{module.__name__}.{name}" not in sys.modules:
                _warn(f"runtime.{package}.{name}", module.__name__)
                return vars(module)[name]
        raise AttributeError(f"module 'runtime.{package}' has no attribute '{name}'")

    return find


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} has moved: import it from {new}", DeprecationWarning, stacklevel=3)


class OldPaths(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `runtime.values` and its like: the module that has the contents now."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The old module, if that is what is imported."""
        package, _, module = name.partition(".")
        if package != "runtime" or module not in MOVED:
            return None
        return importlib.util.spec_from_loader(name, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """An empty module, which answers with what is at the new place."""
        old = spec.name.partition(".")[2]
        parts = PARTS.get(old, (MOVED[old],))
        _warn(spec.name, " or ".join(f"runtime.{part}" for part in parts))
        module = types.ModuleType(spec.name)
        for part in parts:
            vars(module).update(vars(importlib.import_module(f"runtime.{part}")))
        vars(module)["__name__"] = spec.name
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: its contents have been run under their new name."""
