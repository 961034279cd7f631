"""Fit a node's declaration to how one graph connects it.

A literal on an input makes a parameter of it, an edge into a parameter makes an input of it, and a
list of edges makes an input of each entry. The adapted class calls the node's own, so that planner
and executor see an ordinary node.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin

from runtime.contract.calls import Asking
from runtime.contract.declare import Declaration, Port
from runtime.graph.model import NodeSpec


def list_entry(port: str) -> tuple[str, int] | None:
    """Port and place of an entry `port.2` of a list; none for any other port."""
    name, dot, index = port.partition(".")
    return (name, int(index)) if dot and index.isdigit() else None


def entry_type(port: Port) -> object:
    """The type of the entries of a port that takes a list; none where it takes no list."""
    if get_origin(port.type) is tuple and (inside := get_args(port.type)):
        return inside[0] if inside[-1] is Ellipsis else None
    return None


def adapted(known: Declaration, node: NodeSpec) -> Declaration:
    """The declaration for this node: the plain one where it is connected as declared."""
    ports = {**known.params, **known.inputs}
    lists: dict[str, int] = {}
    for name in (*node.inputs, *node.params):
        entry = list_entry(name)
        if entry and entry[0] in ports and entry_type(ports[entry[0]]) is not None:
            lists[entry[0]] = max(lists.get(entry[0], 0), entry[1] + 1)
    fixed = [n for n in node.params if n in known.inputs]
    fed = [n for n in node.inputs if n in known.params]
    if not (lists or fixed or fed):
        return known
    inputs: dict[str, Port] = {}
    params: dict[str, Port] = {}
    for name, port in ports.items():
        is_param = name in fixed or (name in known.params and name not in fed)
        if name not in lists:
            (params if is_param else inputs)[name] = port
            continue
        for i in range(lists[name]):
            entry_name = f"{name}.{i}"
            into = params if entry_name in node.params else inputs
            into[entry_name] = Port(entry_name, entry_type(port), port.axes)
    cls = _adapted_class(known, lists, {n for n in inputs if n not in lists and n in known.params})
    return dataclasses.replace(known, cls=cls, inputs=inputs, params=params)


def _adapted_class(known: Declaration, lists: Mapping[str, int], fed: set[str]) -> object:
    """A class that is made of all values that are known, and runs the node with the rest."""
    own = known.cls

    class Adapted:
        Out = own.Out

        def __init__(self, **values: object) -> None:
            self.values = values

        def arguments(self, given: Mapping[str, object]) -> tuple[Any, dict[str, Any]]:
            """The node, and the arguments of its `run`."""
            values = {**self.values, **given}
            for name, count in lists.items():
                values[name] = tuple(values.pop(f"{name}.{i}") for i in range(count))
            made = own(**{n: v for n, v in values.items() if n not in known.inputs})
            return made, {n: v for n, v in values.items() if n in known.inputs}

    def asks(self: Adapted, **inputs: object) -> Asking[object]:
        made, arguments = self.arguments(inputs)
        return (yield from made.run(**arguments))

    def computes(self: Adapted, **inputs: object) -> object:
        made, arguments = self.arguments(inputs)
        return made.run(**arguments)

    rules: dict[str, object] = {"run": asks if inspect.isgeneratorfunction(own.run) else computes}
    for name in ("estimate", "verify"):
        if (rule := getattr(own, name, None)) and (made_rule := _rule(rule, lists, fed)):
            rules[name] = made_rule
    bypass = getattr(own, "bypass", None)
    if bypass and not {*inspect.signature(bypass).parameters} & {*lists}:
        rules["bypass"] = staticmethod(bypass)
    described = ("__doc__", "__module__", "__qualname__", "__annotations__", "ladder")
    rules |= {name: getattr(own, name) for name in described if hasattr(own, name)}
    return type(own.__name__, (Adapted,), rules)


def _rule(rule: Any, lists: Mapping[str, int], fed: set[str]) -> Callable[..., Any] | None:
    """A rule of the node that also works where its parameters are fed, or its inputs fixed."""
    parameters = inspect.signature(rule).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = {*parameters} - {"self"}
    if names & {*lists}:
        return None

    def adapted_rule(self: Any, **given: Any) -> object:
        made, arguments = self.arguments(given)
        return rule(made, **{n: v for n, v in arguments.items() if takes_all or n in names})

    if not takes_all:  # whoever calls it reads from its signature what it must know
        own = [p for p in parameters.values() if p.name != "self"]
        keyword = inspect.Parameter.KEYWORD_ONLY
        extra = [inspect.Parameter(n, keyword) for n in sorted(fed - names)]
        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        signature = inspect.Signature([first, *own, *extra])
        adapted_rule.__signature__ = signature  # type: ignore[attr-defined]  # inspect reads it
    return adapted_rule
