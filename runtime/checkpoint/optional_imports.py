"""Packages that a pipeline of diffusers calls though they are not installed.

diffusers imports some packages only where they are installed (`if is_ftfy_available()`), and a few
of its pipelines call them all the same: a NameError in the middle of a run.
"""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Iterator, Mapping
from types import CodeType

from runtime.checkpoint.required_files import is_installed, missing_packages


def missing_imports(cls: type) -> list[str]:
    """Packages that the functions beside a class call, and that its module could not import.

    Functions that ask first whether the package is there are left out; so is what a method calls
    itself, since that depends on its arguments.
    """
    module = vars(sys.modules[cls.__module__])
    beside = {
        name: function.__code__
        for name, function in module.items()
        if inspect.isfunction(function) and function.__module__ == cls.__module__
    }
    methods = (inspect.unwrap(f) for f in vars(cls).values() if inspect.isfunction(f))
    pending = [method.__code__ for method in methods]
    reached: set[str] = set()
    missing: set[str] = set()
    while pending:
        called = (set(_global_names(pending.pop())) & set(beside)) - reached
        reached |= called
        pending += [beside[name] for name in called]
        for name in called:
            names = set(_global_names(beside[name]))
            missing |= {n for n in names if _is_absent(n, module, names)}
    return sorted(missing)


def absent_package(class_name: str, problem: NameError) -> Exception:
    """The error for a package that a pipeline needed in its run; other NameErrors stay."""
    if not problem.name or is_installed(problem.name) or not problem.name.isidentifier():
        return problem
    return missing_packages(class_name, [problem.name], "model.path")


def _is_absent(name: str, module: Mapping[str, object], names: set[str]) -> bool:
    """Whether a module imports a package only where it is installed, and it is not."""
    asks = f"is_{name}_available"
    return name not in module and asks in module and asks not in names and not is_installed(name)


def _global_names(code: CodeType) -> Iterator[str]:
    """Names that a function, and what is nested in it, looks up in its module."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)
