"""FLUX.2: what the rows of test_families are too small to show."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from nodes.flux2 import empirical_mu, fitted_picture
from runtime import Runtime
from runtime.contract.values import Image
from runtime.errors import UserError
from tests.support.tiny import flux2
from tests.support.tiny.rows import scene

CONFIG = SimpleNamespace(block_out_channels=(128, 256, 512, 512))


def image(width: int, height: int) -> Image:
    picture = scene(0).resize((width, height))
    return Image(torch.from_numpy(np.array(picture)))


@pytest.mark.parametrize("size", [(1600, 1203), (1024, 1024), (700, 2309), (131, 90)])
def test_a_reference_is_fitted_as_the_reference_does(size: tuple[int, int]) -> None:
    from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor

    theirs = Flux2ImageProcessor(vae_scale_factor=16)
    picture = Pillow.fromarray(image(*size).pixels.numpy())
    picture = theirs._resize_if_exceeds_area(picture)
    height, width = picture.height // 16 * 16, picture.width // 16 * 16
    expected = theirs.preprocess(picture, height=height, width=width, resize_mode="crop")[0]
    found = 2 * (fitted_picture(image(*size), CONFIG).float() / 255) - 1
    assert torch.equal(found.permute(2, 0, 1), expected)


@pytest.mark.parametrize("tokens", [256, 4096, 4300, 4301, 65536])
@pytest.mark.parametrize("steps", [1, 4, 50])
def test_mu(tokens: int, steps: int) -> None:
    from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

    assert empirical_mu(tokens, steps) == compute_empirical_mu(tokens, steps)


@pytest.mark.parametrize(
    ("size", "help"), [((63, 90), "enlarge it to 64 px"), ((900, 100), "crop it")]
)
def test_a_reference_that_does_not_do_is_refused(
    size: tuple[int, int], help: str, tmp_path: Path
) -> None:
    runtime = Runtime.load(flux2.klein(tmp_path / "model", distilled=True))
    with pytest.raises(UserError, match=f"got {size[0]} x {size[1]} px") as caught:
        runtime.generate(prompt="a ring", image_path=[scene(0), scene(0).resize(size)])
    assert (caught.value.help, caught.value.field) == (help, "request.image_path")


def test_a_distilled_model_takes_no_guidance(tmp_path: Path) -> None:
    runtime = Runtime.load(flux2.klein(tmp_path / "model", distilled=True))
    with pytest.raises(UserError, match="`guidance_scale` expects at most 1"):
        runtime.generate(prompt="a ring", guidance_scale=4.0)
