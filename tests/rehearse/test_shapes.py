"""Operations on tensors without numbers: what is counted, and which numbers stay known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from runtime.rehearse.ledger import Ledger
from runtime.rehearse.shapes import SHAPES, Rehearsing, Shape, Unknown


@pytest.fixture
def ledger() -> Ledger:
    """A new ledger."""
    return Ledger()


def unknown(ledger: Ledger, *shape: int) -> Shape:
    """A tensor without numbers."""
    return Shape(torch.empty(shape, device=SHAPES), SHAPES, ledger)


def test_bytes_live_as_long_as_their_tensors(ledger: Ledger) -> None:
    x = unknown(ledger, 4, 8)
    assert ledger.live == 128
    view = x.view(32)
    assert ledger.live == 128, "a view shares its storage"
    y = x + 1
    assert ledger.live == 256
    del x, y
    assert ledger.live == 128, "the view holds it"
    del view
    assert (ledger.live, ledger.peak) == (0, 256)


CASES: dict[str, Any] = {
    "linear": (F.linear, (4, 8), (16, 8), 2 * 4 * 8 * 16),
    "attention": (
        lambda q, k: F.scaled_dot_product_attention(q, k, k), (2, 3, 5, 8), (2, 3, 7, 8),
        2 * 2 * (2 * 3 * 5 * 7 * 8),
    ),
    "convolution": (
        lambda x, w: F.conv2d(x, w, padding=1), (1, 3, 8, 8), (6, 3, 3, 3), 2 * 6 * 64 * 27
    ),
    "einsum": (
        lambda x, y: torch.einsum("bij,bjk->bik", x, y), (2, 3, 4), (2, 4, 5), 2 * 2 * 3 * 4 * 5
    ),
    "einsum of any rank": (
        lambda x, y: torch.einsum("...ij,jk->...ik", x, y), (2, 3, 4), (4, 5), 2 * 2 * 3 * 4 * 5
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_products_are_counted(name: str, ledger: Ledger) -> None:
    work, *shapes, expected = CASES[name]
    operands = [unknown(ledger, *shape) for shape in shapes]
    with torch.inference_mode(), Rehearsing(ledger):
        work(*operands)
    assert ledger.cost.flops == {"float32": expected}


def test_small_numbers_stay_known_until_weights_touch_them(ledger: Ledger) -> None:
    weight = unknown(ledger, 3)
    with torch.inference_mode(), Rehearsing(ledger):
        mask = torch.tensor([1, 1, 0], device=SHAPES)
        assert int(mask.sum()) == 2
        assert torch.arange(4, device=SHAPES).tolist() == [0, 1, 2, 3]
        weighted = mask * weight
        with pytest.raises(Unknown):
            weighted.sum().item()


def test_a_tensor_that_weights_are_written_into_is_unknown(ledger: Ledger) -> None:
    weight = unknown(ledger, 4)
    with torch.inference_mode(), Rehearsing(ledger):
        x = torch.zeros(4, device=SHAPES)
        x[:2] = 1
        assert x.sum().item() == 2
        x.copy_(weight)
        with pytest.raises(Unknown):
            x.sum().item()


def test_numbers_are_taken_to_be_finite(ledger: Ledger) -> None:
    x = unknown(ledger, 3)
    with torch.inference_mode(), Rehearsing(ledger):
        assert bool(torch.isfinite(x).all())


def test_a_mask_with_numbers_says_how_many_it_takes(ledger: Ledger) -> None:
    x, weight = unknown(ledger, 3, 5), unknown(ledger, 3)
    with torch.inference_mode(), Rehearsing(ledger):
        assert x[torch.tensor([True, False, True], device=SHAPES)].shape == (2, 5)
        with pytest.raises(Unknown):
            x[weight > 0]
