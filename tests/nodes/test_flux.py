"""The FLUX nodes chained by hand, against vanilla diffusers: equal pixels for equal requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nodes.denoise import Denoise
from nodes.flux import FluxDenoiser
from nodes.guidance import TrueClassifierFree
from nodes.latents import ImageNoise
from nodes.schedule import FromScheduler, ShiftByTokens
from nodes.text import EncodeCLIP, EncodeT5
from nodes.vae import DecodeImage
from runtime.contract.calls import answer
from runtime.contract.denoising import Denoiser
from runtime.contract.values import Image, Rng
from runtime.errors import UserError
from tests.support.tiny import flux

LONG = "a red circle moves slowly to the right, " * 90  # beyond 512 tokens of T5 and 77 of CLIP
BASE = {
    "prompt": "a red circle on a white background",
    "height": 48,
    "width": 80,
    "num_inference_steps": 4,
    "guidance_scale": 3.5,
    "true_cfg_scale": 1.0,
    "max_sequence_length": 64,
    "seed": 3,
}


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(flux.checkpoint(tmp_path_factory.mktemp("flux")))


@pytest.fixture(scope="session")
def schnell(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(flux.checkpoint(tmp_path_factory.mktemp("schnell"), guidance=False))


def load(folder: Path) -> Any:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def reference(pipeline: Any, request: dict[str, Any]) -> np.ndarray[Any, Any]:
    options = {k: v for k, v in request.items() if k != "seed"}
    generator = torch.Generator().manual_seed(request["seed"])
    picture = pipeline(**options, generator=generator, output_type="pil").images[0]
    return np.asarray(picture)


def bind(pipeline: Any, request: dict[str, Any], text: str) -> Denoiser:
    clip = EncodeCLIP(text_encoder=pipeline.text_encoder, tokenizer=pipeline.tokenizer)
    t5 = EncodeT5(text_encoder=pipeline.text_encoder_2, tokenizer=pipeline.tokenizer_2)
    length = request["max_sequence_length"]
    return (
        FluxDenoiser(transformer=pipeline.transformer)
        .run(
            text=answer(t5.run(text=text, max_sequence_length=length)).embeds,
            pooled=answer(clip.run(text=text)).embeds,
            guidance=request["guidance_scale"],
        )
        .denoiser
    )


def ours(pipeline: Any, request: dict[str, Any]) -> Image:
    """What graphs/flux1.yaml says, with the modules in place of handles."""
    size = {"height": request["height"], "width": request["width"]}
    noise = ImageNoise(vae=pipeline.vae, patch_size=2).run(
        **size, rng=Rng.from_seed(request["seed"])
    )
    schedule = ShiftByTokens(scheduler=pipeline.scheduler, vae=pipeline.vae, patch_size=2).run(
        steps=request["num_inference_steps"], **size
    )
    denoiser = bind(pipeline, request, request["prompt"])
    scale, negative = request["true_cfg_scale"], request.get("negative_prompt")
    if TrueClassifierFree.bypass(scale=scale, negative=negative) is None:
        uncond = bind(pipeline, request, str(negative))
        node = TrueClassifierFree()
        denoiser = node.run(cond=denoiser, uncond=uncond, scale=scale).denoiser
    latents = answer(
        Denoise().run(
            denoiser=denoiser, latents=noise.latents, schedule=schedule.schedule, rng=noise.rng
        )
    ).latents
    image: Image = answer(DecodeImage(vae=pipeline.vae).run(latents=latents)).image
    return image


def difference(pipeline: Any, request: dict[str, Any]) -> int:
    """The largest difference to the reference, in 1/255; the picture itself must vary."""
    expected = reference(pipeline, request)
    found = ours(pipeline, request).pixels.numpy()
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert expected.std() > 5
    return int(np.abs(found.astype(int) - expected.astype(int)).max())


CASES = [
    pytest.param({}, id="landscape"),
    pytest.param({"height": 112, "width": 64}, id="portrait"),
    pytest.param(
        {"height": 256, "width": 336, "num_inference_steps": 2}, id="more than 256 tokens"
    ),
    pytest.param({"guidance_scale": 0.0}, id="no embedded guidance"),
    pytest.param({"negative_prompt": "blurry", "true_cfg_scale": 4.0}, id="negative"),
    pytest.param({"negative_prompt": "", "true_cfg_scale": 4.0}, id="empty negative"),
    pytest.param({"negative_prompt": "blurry"}, id="negative at scale one"),
    pytest.param({"true_cfg_scale": 4.0}, id="scale without a negative"),
    pytest.param({"prompt": LONG, "max_sequence_length": 512}, id="prompt beyond the limit"),
    pytest.param({"prompt": LONG}, id="prompt beyond a short limit"),
    pytest.param({"prompt": "."}, id="shortest prompt"),
    pytest.param({"num_inference_steps": 1}, id="one step"),
]


@pytest.mark.parametrize("change", CASES)
def test_dev_equals_diffusers(dev: Any, change: dict[str, Any]) -> None:
    assert difference(dev, BASE | change) == 0


@pytest.mark.parametrize("change", CASES[:5])
def test_schnell_equals_diffusers(schnell: Any, change: dict[str, Any]) -> None:
    assert difference(schnell, BASE | change) == 0


def test_equals_diffusers_with_a_scheduler_that_spaces_its_own_sigmas(dev: Any) -> None:
    from diffusers import UniPCMultistepScheduler

    own = dev.scheduler
    dev.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, use_dynamic_shifting=True
    )
    try:
        assert difference(dev, BASE) == 0
    finally:
        dev.scheduler = own


def test_guidance_is_embedded_only_where_the_checkpoint_has_it(dev: Any, schnell: Any) -> None:
    weak, strong = (BASE | {"guidance_scale": scale} for scale in (1.0, 9.0))
    assert not torch.equal(ours(dev, weak).pixels, ours(dev, strong).pixels)
    assert torch.equal(ours(schnell, weak).pixels, ours(schnell, strong).pixels)


def test_shift_grows_with_the_picture(dev: Any) -> None:
    node = ShiftByTokens(scheduler=dev.scheduler, vae=dev.vae)
    small = node.run(steps=2, height=256, width=256).schedule.sigmas  # 256 tokens: mu = 0.5
    large = node.run(steps=2, height=1024, width=1024).schedule.sigmas  # 4096 tokens: mu = 1.15
    shifted = [float(np.exp(mu) / (np.exp(mu) + 1)) for mu in (0.5, 1.15)]
    assert small.tolist() == pytest.approx([1.0, shifted[0], 0.0])
    assert large.tolist() == pytest.approx([1.0, shifted[1], 0.0])


def test_shift_that_the_scheduler_computes_cannot_be_set(dev: Any) -> None:
    with pytest.raises(UserError, match=r"`request.flow_shift` cannot be set.*by resolution"):
        FromScheduler(scheduler=dev.scheduler).run(steps=2, shift=3.0)


def test_size_that_does_not_fit(dev: Any) -> None:
    node = ImageNoise(vae=dev.vae, patch_size=2)
    with pytest.raises(
        UserError, match=r"`request.width` expects a multiple of 16 px .* 72"
    ) as caught:
        node.run(height=64, width=72, rng=Rng.from_seed(0))
    assert "the nearest that fit are 64 or 80" in str(caught.value)
