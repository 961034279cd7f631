"""A request: values for `request.*`, checked against what the graph declares. Imports no torch."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.configure.run_config import RunConfig, unknown_field
from runtime.errors import UserError
from runtime.settings import rounding
from runtime.settings.field import PIXELS
from runtime.settings.picture_size import open_sides

DENOISING_STEPS = "num_inference_steps"
UNTRAINED = "SGLANG_GRAPH_UNTRAINED"  # where set: requests that a model was not trained for pass


@dataclass(frozen=True)
class Request(Mapping[str, Any]):
    """A complete request: every field of the graph with its checked value. Never changes."""

    values_by_field: Mapping[str, object]

    def __getitem__(self, field: str) -> Any:
        return self.values_by_field[field]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_field)

    def __len__(self) -> int:
        return len(self.values_by_field)


def complete(config: RunConfig, given: Mapping[str, object]) -> Request:
    """Every request field with its value: given, else from settings, else the graph's default.

    Raises UserError naming the field, the value and the fix.
    """
    graph = config.graph
    for name in given:
        if name not in graph.request:
            raise unknown_field(graph, name, f"`{name}`")
    values: dict[str, Any] = {}
    for name, field in graph.request.items():
        if given.get(name) is not None:
            values[name], note = rounding.parse_rounded(
                field, given[name], f"`{name}`", config.policies.adjust
            )
            if note:
                logging.getLogger(__name__).warning(note)
        elif name in config.request:
            values[name] = _single(name, config.request[name], field.many)
        else:
            values[name] = field.default
        if field.trained and values[name] is not None and only_trained(config):
            values[name], note = field.trained.admit(f"request.{name}", values[name], field.unit)
            if note:
                logging.getLogger(__name__).warning(note)
        # A seed has no empty value: a run must be reproducible.
        if values[name] is None and (field.required or field.type == "seed"):
            known = ", ".join(graph.request)
            takes = f". Graph `{graph.name}` takes: {known}." if field.type in PIXELS else ""
            raise UserError(
                f"`request.{name}` is required and not given{takes}",
                help=f"add `request.{name}=...`", field=f"request.{name}",
            )  # fmt: skip
    named = {n: v for n, v in values.items() if given.get(n) is not None or n in config.request}
    return Request(values | open_sides(graph.request, named))


def only_trained(config: RunConfig) -> bool:
    """Whether a request that the model was not trained for is refused."""
    return config.policies.checks.trained and not os.environ.get(UNTRAINED)


def _single(name: str, value: object, many: bool) -> object:
    """One run's value: settings may hold several prompts or seeds, one run each."""
    if many or not isinstance(value, tuple):
        return value
    if len(value) != 1:
        raise UserError(
            f"`{name}` has {len(value)} values and one run takes one",
            help=f"start one run per value: {name}=...", field=name,
        )  # fmt: skip
    return value[0]
