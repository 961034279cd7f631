"""Warnings about a request that is accepted: what has no effect, and what was adjusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from server.request_body import RequestBody
from server.request_to_runs import seconds_text

# Fields about the client, not about the result: that they have no effect needs no warning.
ABOUT_THE_CLIENT = frozenset({"user", "safety_identifier"})


def request_warnings(
    body: RequestBody, run: Mapping[str, Any], *, seconds: str | None = None
) -> list[str]:
    """Whole sentences, for `warnings` of the response.

    run      the first complete run
    seconds  the length of the video that is made
    """
    return [*_ignored(body.ignored), *_adjusted(body.values, run), *_length(body.values, seconds)]


def _ignored(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        if name not in ABOUT_THE_CLIENT:
            yield f"`{name}` has no effect on this server"


def _adjusted(values: Mapping[str, Any], run: Mapping[str, Any]) -> Iterable[str]:
    for name, value in values.items():
        made = run.get(name)
        numbers = isinstance(value, int | float) and isinstance(made, int | float)
        if numbers and not isinstance(value, bool) and made != value:
            yield f"`{name}` is {value}, which this model does not make: {made} is used"


def _length(values: Mapping[str, Any], made: str | None) -> Iterable[str]:
    asked = values.get("seconds")
    if asked is not None and made is not None and seconds_text(float(asked)) != made:
        reason = "`num_frames` is given, too" if "num_frames" in values else "the model is limited"
        yield f"`seconds` is {asked}, but the video has {made} s: {reason}"
