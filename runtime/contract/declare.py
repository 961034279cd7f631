"""Read the declaration of a node class from its signature: components, parameters, ports.

`Component[...]` fields are the weights it needs, other fields are parameters, keyword arguments of
`run` are input ports, the fields of `Out` are output ports. Nothing is registered and nothing is
declared twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

from runtime.contract.rules import Rung
from runtime.errors import did_you_mean, nearest

T = TypeVar("T")
MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()  # no default
# A class at the left margin with a class `Out` in it.
NODE_CLASS = re.compile(r"^class (\w+).*\n(?:(?:[ \t].*)?\n)*?[ \t]+class Out\b", re.MULTILINE)
PLUGINS = "sglang_graph.nodes"  # entry point group: name -> package that holds node modules


class Needs:
    """Marks a field of a node as a component: `Component[T]` is `Annotated[T, Needs()]`."""


Component: TypeAlias = Annotated[T, Needs()]


class UnknownType(LookupError):
    """There is no node class of this type name; `help` lists what there is."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.help = help


@dataclass(frozen=True)
class Port:
    """A port or a parameter: type without annotations, axes, default (MISSING: required)."""

    name: str
    type: Any
    axes: str = ""
    default: Any = MISSING

    @property
    def required(self) -> bool:
        """Whether the graph must connect or set it."""
        return self.default is MISSING

    def __str__(self) -> str:
        return f"{self.name}: {type_name(self.type)}"


@dataclass(frozen=True)
class Declaration:
    """The declaration of a node class. digest: hash of the source file that defines it."""

    type: str
    cls: Any
    components: Mapping[str, bool]  # field -> required
    kinds: Mapping[str, Any]  # field -> the Protocol of that component
    params: Mapping[str, Port]
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    file: Path
    line: int
    digest: str

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """The steps tried when a call runs out of memory, of the node and its components."""
        declared = (*(k for k in self.kinds.values()), self.cls)
        return tuple(dict.fromkeys(r for kind in declared for r in getattr(kind, "ladder", ())))

    def role(self, field: str) -> str:
        """The role of a component field, as its Protocol declares it; empty where it does not."""
        return str(getattr(self.kinds[field], "__role__", ""))

    @property
    def summary(self) -> str:
        """The first line of the class's docstring."""
        return (inspect.getdoc(self.cls) or "").split("\n")[0]


@cache
def declaration(type: str) -> Declaration:
    """The declaration of `module.Class` (in `nodes/`) or `plugin:module.Class` (an entry point)."""
    return declared_class(type, _node_class(type))


def refuse_incomplete(cls: Any, type: str) -> None:
    """Refuse a class that is no node, and name all that it lacks."""
    name = type.rpartition(":")[2].rpartition(".")[2]
    lacking = []
    if not inspect.isclass(cls):
        raise UnknownType(f"`{name}` is no class", "a node is a frozen dataclass")
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # dataclasses set it
        lacking.append("the decorator `@dataclass(frozen=True, kw_only=True)`")
    if not (inspect.isclass(getattr(cls, "Out", None)) and hasattr(cls.Out, "_fields")):
        lacking.append("a class `Out(NamedTuple)` inside it, with a field for each output")
    if not callable(getattr(cls, "run", None)):
        lacking.append("a method `run(self, *, ...) -> Out`")
    if lacking:
        raise UnknownType(
            f"class `{name}` ({type}) is not a node yet", f"it lacks {'; '.join(lacking)}"
        )


def declared_class(type: str, cls: Any) -> Declaration:
    """The declaration of a node class, under the name that a graph gives its type."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = dataclasses.fields(cls)
    needs = {
        f.name: f.default is dataclasses.MISSING for f in fields if _is_component(hints[f.name])
    }
    params = {
        f.name: _port(f.name, hints[f.name], _default(f)) for f in fields if f.name not in needs
    }
    source = Path(inspect.getsourcefile(cls) or "")
    kinds = {n: typing.get_args(_component_hint(hints[n]))[0] for n in needs}
    return Declaration(
        type, cls, needs, kinds, params, _inputs(cls), _outputs(cls), source,
        inspect.getsourcelines(cls)[1], hashlib.sha256(source.read_bytes()).hexdigest()[:16],
    )  # fmt: skip


def _node_class(type: str) -> object:
    match = re.fullmatch(r"(?:([\w-]+):)?((?:[a-z_]\w*\.)+)([A-Z]\w*)", type)
    if not match:
        raise UnknownType(
            f"`{type}` is no node type", "write module.Class, such as vae.DecodeVideo"
        )
    plugin, module, name = match[1], match[2].rstrip("."), match[3]
    package = _package(plugin) if plugin else "nodes"
    prefix = f"{plugin}:" if plugin else ""
    try:
        found = importlib.import_module(f"{package}.{module}")
    except ModuleNotFoundError as problem:
        if problem.name and not f"{package}.{module}".startswith(problem.name):
            raise  # the node's own import is missing: not a mistake in the graph
        known = _modules(package)
        hint = _elsewhere(package, prefix, module, name) or f"there are: {', '.join(known)}"
        raise UnknownType(f"there is no node module `{module}` in `{package}`", hint) from None
    cls = getattr(found, name, None)
    if inspect.isclass(cls) and cls.__module__ == found.__name__:
        refuse_incomplete(cls, type)
    if not (inspect.isclass(cls) and dataclasses.is_dataclass(cls) and hasattr(cls, "run")):
        known = node_names(found)
        hint = (
            did_you_mean(name, known, f"`{prefix}{module}.{{}}`") or f"it has: {', '.join(known)}"
        )
        raise UnknownType(f"`{package}.{module}` has no node `{name}`", hint)
    return cls


def _elsewhere(package: str, prefix: str, module: str, name: str) -> str:
    """A suggestion for a type name without a module; it imports nothing."""
    written = written_nodes(package)
    same = [f"{m}.{c}" for m, c in written if c == name]
    near = [f"{m}.{c}" for m, c in written if nearest(module, [m])]
    return did_you_mean(f"{module}.{name}", same or near, f"`{prefix}{{}}`") or (
        f"did you mean `{prefix}{same[0]}`?" if same else ""
    )


def written_nodes(package: str) -> list[tuple[str, str]]:
    """Module and name of every node class of a package, found in the text of its files."""
    folder = Path(importlib.import_module(package).__path__[0])
    return [
        (module, block[1])
        for module in _modules(package)
        for block in NODE_CLASS.finditer((folder / f"{module}.py").read_text("utf-8"))
    ]


def _package(plugin: str) -> str:
    known = {e.name: e.value for e in entry_points(group=PLUGINS)}
    if plugin not in known:
        listed = f"installed: {', '.join(sorted(known))}" if known else "none is installed"
        help = did_you_mean(plugin, known) or f"{listed} (group {PLUGINS})"
        raise UnknownType(f"there is no node plugin `{plugin}`", help)
    return known[plugin]


def _modules(package: str) -> list[str]:
    folder = Path(importlib.import_module(package).__path__[0])
    return sorted(p.stem for p in folder.glob("*.py") if p.stem not in {"__init__", "contracts"})


def node_names(module: types.ModuleType) -> list[str]:
    """Names of the node classes that a module defines."""
    return sorted(
        name
        for name, cls in vars(module).items()
        if inspect.isclass(cls) and cls.__module__ == module.__name__ and hasattr(cls, "Out")
    )


def _default(field: dataclasses.Field[object]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return MISSING if field.default is dataclasses.MISSING else field.default


def _is_component(hint: object) -> bool:
    return any(
        isinstance(m, Needs) for part in (hint, *typing.get_args(hint)) for m in _extras(part)
    )


def _component_hint(hint: object) -> object:
    """The part of a field's annotation that is `Component[T]`: of `Component[T] | None` too."""
    parts = (hint, *typing.get_args(hint))
    return next(p for p in parts if any(isinstance(m, Needs) for m in _extras(p)))


def _extras(hint: object) -> tuple[object, ...]:
    return getattr(hint, "__metadata__", ())


def _inputs(cls: Any) -> dict[str, Port]:
    hints = typing.get_type_hints(cls.run, localns={"Out": cls.Out}, include_extras=True)
    ports = [p for n, p in inspect.signature(cls.run).parameters.items() if n != "self"]
    empty = inspect.Parameter.empty
    return {
        p.name: _port(p.name, hints.get(p.name, Any), MISSING if p.default is empty else p.default)
        for p in ports
    }


def _outputs(cls: Any) -> dict[str, Port]:
    return {n: _port(n, h) for n, h in typing.get_type_hints(cls.Out, include_extras=True).items()}


def _port(name: str, hint: object, default: object = MISSING) -> Port:
    axes = " ".join(str(m) for m in _extras(hint))
    return Port(name, typing.get_args(hint)[0] if _extras(hint) else hint, axes, default)


def options(hint: object) -> tuple[Any, ...]:
    """The members of a union or type variable, None included; else the type alone."""
    if isinstance(hint, TypeVar) and (allowed := constrained(hint)) is not hint:
        return options(allowed)
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        return tuple(o for part in typing.get_args(hint) for o in options(part))
    return (typing.get_args(hint)[0],) if _extras(hint) else (hint,)


def constrained(hint: object) -> object:
    """The union of the types that a type variable allows; any other type as it is."""
    if not isinstance(hint, TypeVar) or not hint.__constraints__:
        return hint
    allowed = hint.__constraints__[0]
    for kind in hint.__constraints__[1:]:
        allowed = allowed | kind
    return allowed


def accepts(wanted: object, found: object) -> bool:
    """Whether every value of type `found` may enter a port of type `wanted`. An int is a float."""
    if wanted is Any:
        return True
    allowed = options(wanted)
    return all(
        o in allowed or (o is int and float in allowed) or any(_list_fits(a, o) for a in allowed)
        for o in options(found)
    )


def _list_fits(wanted: object, found: object) -> bool:
    """Whether a `tuple[T, ...]` may enter a port of such a type."""
    inside = [typing.get_args(t) if typing.get_origin(t) is tuple else () for t in (wanted, found)]
    if not all(len(args) == 2 and args[1] is Ellipsis for args in inside):
        return False
    return accepts(inside[0][0], inside[1][0])


def type_name(hint: object) -> str:
    """A type as a graph author reads it: `Latents`, `int | None`, `tuple[int, ...]`."""
    if hint is type(None) or hint is None:
        return "None"
    members = options(hint)
    if len(members) > 1:
        return " | ".join(map(type_name, members))
    inside = typing.get_args(hint)
    if inside and typing.get_origin(hint) is not typing.Literal:
        named = (
            type_name(a)
            if isinstance(a, type | types.GenericAlias | TypeVar | types.UnionType)
            else str(a)
            for a in inside
        )
        listed = ", ".join(named).replace("Ellipsis", "...").replace("typing.", "")
        return f"{getattr(typing.get_origin(hint), '__name__', hint)}[{listed}]"
    if inside:
        return str(hint).replace("typing.", "")
    return getattr(hint, "__name__", str(hint))


def value_fits(wanted: object, value: object) -> bool:
    """Whether a value can have that type, as far as its type can be checked."""
    for option in options(wanted):
        origin, arguments = typing.get_origin(option), typing.get_args(option)
        if origin is tuple and isinstance(value, tuple):
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                return all(value_fits(arguments[0], v) for v in value)
            return len(arguments) == len(value) and all(map(value_fits, arguments, value))
        if origin is typing.Literal:
            if value in arguments:
                return True
            continue
        kind = origin or option
        if not isinstance(kind, type):
            return True  # such a type cannot be checked
        if getattr(kind, "_is_protocol", False):
            members = [n for n in vars(kind) if not n.startswith("_")]
            if all(hasattr(value, n) for n in members):
                return True
        elif isinstance(value, kind) or (kind is float and isinstance(value, int)):
            return True
    return False


def literal_fits(wanted: object, value: object) -> bool:
    """Whether a literal of a graph file may be a parameter of that type."""
    for option in options(wanted):
        origin, arguments = typing.get_origin(option), typing.get_args(option)
        if option is Any or (option is type(None) and value is None):
            return True
        if origin is typing.Literal:
            fits = value in arguments
        elif origin is tuple and isinstance(value, list | tuple):
            fits = all(literal_fits(arguments[0], v) for v in value)
        elif isinstance(value, bool) or option is bool:
            fits = isinstance(value, bool) and option is bool
        else:
            kind = (int, float) if option is float else origin or option
            fits = isinstance(kind, type | tuple) and isinstance(value, kind)
        if fits:
            return True
    return False
