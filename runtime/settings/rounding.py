"""Sizes and lengths that do not fit: rounded to the nearest that do where the user asks for it."""

from __future__ import annotations

import dataclasses
from typing import Any

from runtime.settings.field import Field, plain_number
from runtime.settings.policies import Adjust


def parse_rounded(field: Field, value: object, label: str, adjust: Adjust) -> tuple[Any, str]:
    """The typed value of what a user wrote, and a note where it was rounded.

    Raises UserError as `Field.parse` does; limits are limits, only multiples are rounded to.
    """
    if not (field.multiple and ROUNDED.get(field.unit) in asked(adjust)):
        return field.parse(value, label), ""
    exact = dataclasses.replace(field, multiple=None).parse(value, label)
    if exact is None:
        return None, ""
    fit = nearest_fit(field, exact)
    unit = f" {field.unit}"
    why = f"the graph takes {field.rule}"
    if field.trained and field.trained.values:
        why = "the model was trained for that"
    note = f"{label or field.name} is rounded to {plain_number(fit)}{unit}; {why}"
    return fit, "" if fit == exact else note


ROUNDED = {"px": "size", "frames": "frames"}


def asked(adjust: Adjust) -> set[str]:
    """What is to be rounded."""
    return {name for name, wanted in dataclasses.asdict(adjust).items() if wanted}


def nearest_fit(field: Field, value: int) -> int:
    """The number nearest to `value` that fits the field; of two, the smaller."""
    fits: list[int] = field.neighbours(value)
    return min(fits, key=lambda fit: (abs(fit - value), fit))
