"""FLUX.1 Kontext without a picture, and the sizes that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nodes.flux_kontext import scaled_size, sizes_of_area
from runtime import Runtime
from runtime.errors import UserError
from tests.support.tiny import flux
from tests.support.tiny.rows import vanilla

REQUEST = dict(prompt="a red circle", height=48, width=112, max_area=5376, num_inference_steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flux.kontext(tmp_path_factory.mktemp("kontext"))


def test_text_alone_equals_diffusers(folder: Path) -> None:
    request = REQUEST | {"seed": 3}
    result = Runtime.load(folder).generate(**request).outputs["image"].pixels.numpy()
    np.testing.assert_array_equal(result[None], vanilla(folder, request, []))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(max_area=1048576), "112 x 48"),
        (dict(height=512, width=512, max_area=1048576), "1024 x 1024 or"),
        (dict(height=512, width=512, max_area=1048576), "max_area=262144"),
        (dict(image_path=Image.new("RGB", (40, 9))), "at least 16 x 16 px, got 40 x 9"),
    ],
)
def test_what_does_not_fit_is_refused(folder: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        Runtime.load(folder).generate(**REQUEST | change)
    assert said in str(caught.value)


def test_sizes_that_are_proposed_pass() -> None:
    sizes = sizes_of_area(1024**2, 16)
    assert (1024, 1024) in sizes
    assert (832, 1248) in sizes
    assert all(scaled_size(*size, 1024**2, 16) == size for size in sizes)
