"""FLOPs of one operation by its shapes: matrix products, attention, convolutions.

A multiply-add is two. Attention counts both products with all keys, masked or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any


def operation_flops(name: str, given: Sequence[Any], out: Any) -> int:
    """FLOPs of an operation; 0 for one that is not counted.

    name   as torch's schema has it: `aten::linear`
    given  its positional arguments
    """
    rule = RULES.get(name)
    return int(rule(given, out)) if rule else 0


def _linear(given: Sequence[Any], out: Any) -> int:
    return int(2 * given[0].numel() * given[1].shape[0])


def _product(given: Sequence[Any], out: Any) -> int:
    return int(2 * out.numel() * given[0].shape[-1])


def _product_and_sum(given: Sequence[Any], out: Any) -> int:
    return int(2 * out.numel() * given[1].shape[-1])


def _attention(given: Sequence[Any], out: Any) -> int:
    query, key, value = given[:3]
    scores = query.numel() // query.shape[-1] * key.shape[-2]
    return int(2 * scores * (query.shape[-1] + value.shape[-1]))


def _convolution(given: Sequence[Any], out: Any) -> int:
    return int(2 * out.numel() * given[1][0].numel())


def _transposed(given: Sequence[Any], out: Any) -> int:
    return int(2 * given[0].numel() * given[1][0].numel())


def _general_convolution(given: Sequence[Any], out: Any) -> int:
    return int(_transposed(given, out) if given[6] else _convolution(given, out))


def _einsum(given: Sequence[Any], out: Any) -> int:
    """Two for each element of the result and each index that is summed over."""
    inputs, _, result = given[0].replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for letters, tensor in zip(inputs.split(","), given[1], strict=True):
        head, _, tail = letters.partition("...")
        sizes |= dict(zip(head, tensor.shape, strict=False))
        sizes |= dict(zip(reversed(tail), reversed(tensor.shape), strict=False))
    summed = prod(size for letter, size in sizes.items() if letter not in result)
    return int(2 * out.numel() * summed)


RULES: dict[str, Callable[[Sequence[Any], Any], int]] = {
    "aten::linear": _linear,
    "aten::matmul": _product,
    "aten::mm": _product,
    "aten::bmm": _product,
    "aten::addmm": _product_and_sum,
    "aten::baddbmm": _product_and_sum,
    "aten::scaled_dot_product_attention": _attention,
    "aten::conv1d": _convolution,
    "aten::conv2d": _convolution,
    "aten::conv3d": _convolution,
    "aten::convolution": _general_convolution,
    "aten::conv_transpose1d": _transposed,
    "aten::conv_transpose2d": _transposed,
    "aten::conv_transpose3d": _transposed,
    "aten::einsum": _einsum,
}
