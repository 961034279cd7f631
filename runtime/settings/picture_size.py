"""Sizes in the aspect ratio of an input picture, where a request names none. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import log

from runtime.settings.field import Field

SIDES = ("height", "width")
AREA_WEIGHT = 0.1  # half of the usual area counts as much as 7 % of distortion


def open_sides(fields: Mapping[str, Field], values: Mapping[str, object]) -> dict[str, None]:
    """The fields of `SIDES` that a given picture decides, as they enter a request: without value.

    values  of all fields but those that have their default
    """
    return {
        name: None
        for name in SIDES
        if (field := fields.get(name)) and field.shape_of
        if values.get(name) is None and not _is_none(values.get(field.shape_of))
    }


def _is_none(pictures: object) -> bool:
    return pictures is None or (isinstance(pictures, tuple | list) and not pictures)


def picture_size(
    fields: Mapping[str, Field], given: Mapping[str, int | None], picture: tuple[int, int]
) -> dict[str, int]:
    """Height and width of a result, in px.

    given    the sides that the request names; they stay as they are
    picture  rows and columns of the picture

    Both open: the multiples that fit the picture's aspect ratio best, with at most the area of the
    defaults. One open: the multiple nearest to the aspect ratio.
    """
    ratio = picture[1] / picture[0]
    height, width = (given.get(side) for side in SIDES)
    if height is not None and width is not None:
        return {"height": height, "width": width}
    if height is not None:
        return {"height": height, "width": _nearest(fields["width"], height * ratio)}
    if width is not None:
        return {"height": _nearest(fields["height"], width / ratio), "width": width}
    area = fields["height"].default * fields["width"].default
    sizes = ((h, w) for h in _sides(fields["height"], area) for w in _around(fields, h, ratio))
    height, width = min(
        ((h, w) for h, w in sizes if h * w <= area),
        key=lambda size: (
            abs(log(size[1] / size[0] / ratio)) + AREA_WEIGHT * log(area / (size[0] * size[1]))
        ),
        default=(fields["height"].default, fields["width"].default),
    )
    return {"height": height, "width": width}


def _sides(field: Field, area: int) -> Iterator[int]:
    """Every value of a side within its bounds and an area."""
    step = field.multiple or 1
    least = max(int(field.min or 1), step)
    first = -(-least // step) * step
    yield from range(first, min(int(field.max or area), area) + 1, step)


def _around(fields: Mapping[str, Field], height: int, ratio: float) -> tuple[int, ...]:
    """The widths next to an aspect ratio at one height."""
    field, wanted = fields["width"], height * ratio
    step = field.multiple or 1
    return _nearest(field, wanted - step), _nearest(field, wanted), _nearest(field, wanted + step)


def _nearest(field: Field, wanted: float) -> int:
    """The value of a side nearest to a number, within its bounds."""
    step = field.multiple or 1
    least = -(-max(int(field.min or 1), step) // step) * step
    most = int(field.max) // step * step if field.max is not None else None
    value = max(least, round(wanted / step) * step)
    return value if most is None else min(value, most)
