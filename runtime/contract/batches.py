"""Batch calls of several runs: which calls can be merged, and how they are merged and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from runtime.contract.calls import STATELESS, Call

AnyCall: TypeAlias = Call[Any]
Answer: TypeAlias = tuple[Any, ...]


def joins(call: AnyCall) -> tuple[object, ...] | None:
    """The key that calls must share to be batched, beside the component; None for a call alone.

    Shapes beyond the first axis, dtypes and devices of tensors, and all shared values.
    """
    if call.state is not STATELESS:
        return None
    described = tuple(sorted((n, _described(v)) for n, v in call.batched.items()))
    try:
        shared = tuple(sorted(call.shared.items()))
        hash(shared)
    except TypeError:
        return None
    return call.forward, described, shared


def _described(value: object) -> object:
    if isinstance(value, Tensor):
        return str(value.dtype), str(value.device), tuple(value.shape[1:])
    if isinstance(value, list):
        return "list"
    return type(value).__name__, repr(value)


def samples(call: AnyCall) -> int:
    """How many samples a call has: the longest of its entries."""
    return max((_length(v) for v in call.batched.values()), default=1)


def expanded(call: AnyCall) -> dict[str, object]:
    """The entries of a call, each with one item per sample; a single item is repeated."""
    count = samples(call)
    if count == 1:
        return dict(call.batched)
    return {n: _expand(v, count) for n, v in call.batched.items()}


def merge_calls(calls: Sequence[AnyCall]) -> dict[str, Any]:
    """The entries of several calls as those of one."""
    each = [expanded(call) for call in calls]
    if len(each) == 1:
        return each[0]
    return {name: _join([one[name] for one in each]) for name in each[0]}


def split(answer: Answer, counts: Sequence[int]) -> list[Answer]:
    """The answer of a merged call as one answer for each call."""
    if len(counts) == 1:
        return [answer]
    parts = [_parts(output, counts) for output in answer]
    return [tuple(part[i] for part in parts) for i in range(len(counts))]


def _length(value: object) -> int:
    if isinstance(value, Tensor):
        return len(value) if value.ndim else 1
    return len(value) if isinstance(value, list) else 1


def _expand(value: object, count: int) -> object:
    if _length(value) == count or count == 1:
        return value
    if isinstance(value, Tensor) and value.ndim:
        return value.expand(count, *value.shape[1:])
    return value * count if isinstance(value, list) else value


def _join(values: Sequence[Any]) -> object:
    if isinstance(values[0], Tensor):
        return torch.cat([*values]) if values[0].ndim else values[0]
    if isinstance(values[0], list):
        return [item for value in values for item in value]
    return values[0]


def _parts(output: object, counts: Sequence[int]) -> list[Any]:
    """One output of a merged call for each of its calls."""
    if isinstance(output, Tensor):
        return list(torch.split(output, [*counts]))
    if isinstance(output, list | tuple):
        parts, start = [], 0
        for count in counts:
            parts.append(output[start : start + count])
            start += count
        return parts
    if isinstance(output, Mapping):
        split_up = {k: _parts(v, counts) for k, v in output.items()}
        return [{k: v[i] for k, v in split_up.items()} for i in range(len(counts))]
    return [output] * len(counts)
