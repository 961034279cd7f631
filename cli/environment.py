"""Environment variables to settings, by the table of flags.yaml."""

from __future__ import annotations

from collections.abc import Mapping

from cli.flags import Variable, flag_table
from runtime import Position, Raw, Setting

OFF = frozenset({"", "0", "false", "none", "null"})


def read_environment(environment: Mapping[str, str]) -> list[Setting]:
    """The settings of environment variables; a variable whose feature is off gives none."""
    return [
        Setting(variable.path, _value(variable, text), variable.name, Position("environment"))
        for variable in flag_table().variables
        if (text := environment.get(variable.name, "")) and _is_on(variable, environment)
    ]


def _is_on(variable: Variable, environment: Mapping[str, str]) -> bool:
    switch = variable.needs or variable.name
    off = environment.get(switch, "").strip().lower() in OFF
    return not off


def _value(variable: Variable, text: str) -> bool | Raw:
    if variable.type == "bool":
        return text.strip().lower() in {"true", "1"}
    return Raw(text)
