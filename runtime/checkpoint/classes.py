"""Classes of diffusers and transformers by name, and what they say of themselves."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from runtime.errors import UserError, did_you_mean

LIBRARIES = ("diffusers", "transformers")
STAND_IN = "_backends"  # what a class has that only stands for one that cannot be imported


def find_class(
    name: str,
    library: str,
    class_name: str,
    config: Mapping[str, object],
    *,
    trust_remote_code: bool = False,
) -> Any:
    """The class of a component; only diffusers' and transformers' own code is ever imported."""
    found = getattr(_module(library), class_name, None) if class_name.isidentifier() else None
    # Asked for anything else, a stand-in raises that the library it needs is missing.
    if isinstance(found, type) and (hasattr(found, STAND_IN) or hasattr(found, "from_pretrained")):
        return found
    custom = (
        "its config asks for code of its own (`auto_map`), and " if "auto_map" in config else ""
    )
    problem = (
        f"`{name}` is a `{class_name}` of `{library}`: {custom}the installed libraries have no"
    )
    if trust_remote_code:
        raise UserError(
            f"{problem} such class. `model.trust_remote_code` is given, but code that comes"
            " with a model cannot be loaded yet.",
            help="use a model whose classes are in diffusers or transformers",
            field=f"components.{name}",
        )
    if near := did_you_mean(class_name, dir(_module(library))) if not custom else "":
        raise UserError(f"{problem} such class.", help=near, field=f"components.{name}.class")
    raise UserError(
        f"{problem} such class. Code that comes with a model runs only with"
        " `model.trust_remote_code`, and cannot be loaded yet.",
        help="upgrade diffusers and transformers, or use a model whose classes they have",
        field=f"components.{name}",
    )


def full_config(
    library: str, class_name: str, config: Mapping[str, object]
) -> dict[str, Any] | Any:
    """A config with the defaults of its class: a mapping (diffusers) or a config object."""
    found = getattr(_module(library), class_name, None)
    kind = getattr(found, "config_class", None)
    if kind is not None:
        return kind.from_dict(dict(config))
    return {**config_defaults(found), **config}


def config_defaults(cls: Any) -> dict[str, Any]:
    """What the class takes where its config says nothing."""
    parameters = inspect.signature(cls.__init__).parameters.values() if cls else ()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _module(library: str) -> Any:
    """`diffusers`, `transformers`, or the module of diffusers' pipelines that a model names."""
    if library in LIBRARIES:
        return importlib.import_module(library)
    if not library.isidentifier():
        return None
    try:
        return importlib.import_module(f"diffusers.pipelines.{library}")
    except ModuleNotFoundError:
        return None
