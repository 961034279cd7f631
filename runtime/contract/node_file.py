"""Node classes in a Python file beside a graph: `./nodes.py:HStack`."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
import types
from functools import cache
from pathlib import Path

from runtime.contract.declare import (
    Declaration,
    UnknownType,
    declared_class,
    node_names,
    refuse_incomplete,
)
from runtime.errors import did_you_mean

FILE_MODULES = "sglang_node_file"  # head of the module names of such files


def declaration_of_file(type: str, file: Path) -> Declaration:
    """The declaration of `./file.py:Class`: a class in a Python file beside a graph."""
    name = type.rpartition(":")[2]
    if not file.is_file():
        raise UnknownType(f"there is no file `{type.rpartition(':')[0]}` beside the graph")
    module = _file_module(file, file.stat().st_mtime_ns)
    cls = getattr(module, name, None)
    if cls is None:
        known = node_names(module)
        help = did_you_mean(name, known) or f"it has: {', '.join(known) or 'none'}"
        raise UnknownType(f"`{file.name}` has no class `{name}`", help)
    refuse_incomplete(cls, type)
    return declared_class(type, cls)


@cache
def _file_module(file: Path, changed: int) -> types.ModuleType:
    """A Python file as a module; read again when it changed."""
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:12]
    name = f"{FILE_MODULES}_{digest}_{changed}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UnknownType(f"`{file.name}` cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and type hints look their module up here
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        del sys.modules[name]
        raise UnknownType(*_not_imported(file, problem)) from problem
    return module


def _not_imported(file: Path, problem: Exception) -> tuple[str, str]:
    """Why a file cannot be imported: the line in it, and what Python says."""
    if isinstance(problem, SyntaxError):
        return f"{file.name}:{problem.lineno} is not Python: {problem.msg}", "correct the file"
    lines = [
        f.lineno for f in traceback.extract_tb(problem.__traceback__) if f.filename == str(file)
    ]
    place = f"{file.name}:{lines[-1]}" if lines else file.name
    return f"{place} raises {type(problem).__name__}: {problem}", "correct the file"
