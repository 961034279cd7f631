"""Replace `constants.NAME` in a composed graph by the value that the graph gives it.

A pass on plain data, before anything is parsed. `anchors` is a section that nothing reads: a place
for values with YAML anchors.
"""

from __future__ import annotations

from collections.abc import Mapping

from runtime.errors import did_you_mean
from runtime.graph.model import Finding
from runtime.settings.field import show

CONSTANT_PREFIX = "constants."
READERS = ("request", "components", "nodes")  # sections that may name a constant
EDGES = frozenset({"inputs", "each"})  # below these a constant is a literal, never an edge


def fill_constants(data: Mapping[str, object], found: list[Finding]) -> dict[str, object]:
    """The graph without its constants and anchors; findings for unknown and unused names."""
    filled = {k: v for k, v in data.items() if k not in {"constants", "anchors"}}
    section = data.get("constants")
    if section is not None and not isinstance(section, Mapping):
        found.append(Finding("constants", f"expects a map of names, found {show(section)}"))
        section = None
    constants = {str(k): v for k, v in (section or {}).items() if v is not None}
    used: set[str] = set()
    for name in READERS:
        if name in filled:
            filled[name] = _filled(filled[name], name, constants, used, found)
    for name in constants:
        if name not in used:
            message = f"nothing reads constant `{name}`."
            found.append(Finding(f"constants.{name}", message, f"remove it: {name}: null"))
    return filled


def _filled(
    value: object, path: str, constants: Mapping[str, object], used: set[str], found: list[Finding]
) -> object:
    if isinstance(value, Mapping):
        return {k: _filled(v, f"{path}.{k}", constants, used, found) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, path, constants, used, found) for v in value]
    if not isinstance(value, str) or not value.startswith(CONSTANT_PREFIX):
        return value
    name = value.removeprefix(CONSTANT_PREFIX)
    if name not in constants:
        listed = ", ".join(constants) or "none"
        message = f"there is no constant `{name}`. There are: {listed}."
        found.append(
            Finding(path, message, did_you_mean(name, constants, f"`{CONSTANT_PREFIX}{{}}`"))
        )
        return None
    used.add(name)
    constant = constants[name]
    return {"value": constant} if EDGES & {*path.split(".")[2:]} else constant
