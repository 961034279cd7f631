"""The Wan nodes chained by hand, against vanilla diffusers: equal pixels for equal requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nodes.denoise import Denoise
from nodes.guidance import ClassifierFree
from nodes.latents import VideoNoise
from nodes.schedule import FromScheduler
from nodes.text import EncodeUMT5
from nodes.vae import DecodeVideo
from nodes.wan import WanDenoiser
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.contract.calls import answer
from runtime.contract.values import Rng, Video
from runtime.errors import UserError
from runtime.graph.catalog import best_graph
from tests.support.tiny import parts
from tests.support.tiny import wan as tiny_wan

DEMO = Path(__file__).parents[2] / "demo" / "checkpoint"
LONG = "a red circle moves slowly to the right, " * 90  # beyond 512 tokens
BASE = {
    "prompt": "a red circle moves to the right on a white background",
    "negative_prompt": "blurry, low quality",
    "height": 48,
    "width": 80,
    "num_frames": 9,
    "num_inference_steps": 4,
    "guidance_scale": 5.0,
    "seed": 3,
}


@pytest.fixture(scope="session")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(tiny_wan.checkpoint(tmp_path_factory.mktemp("wan")))


@pytest.fixture(scope="session")
def demo() -> Any:
    return load(DEMO)


def load(folder: Path) -> Any:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def reference(pipeline: Any, request: dict[str, Any]) -> np.ndarray[Any, Any]:
    options = {k: v for k, v in request.items() if k not in {"seed", "flow_shift"}}
    generator = torch.Generator().manual_seed(request["seed"])
    own = pipeline.scheduler
    if "flow_shift" in request:
        shift = request["flow_shift"]
        pipeline.scheduler = type(own).from_config(own.config, flow_shift=shift)
    try:
        frames = pipeline(**options, generator=generator, output_type="pil").frames[0]
    finally:
        pipeline.scheduler = own
    return np.stack([np.asarray(frame) for frame in frames])


def ours(pipeline: Any, request: dict[str, Any]) -> Video:
    """What graphs/wan2_1_t2v.yaml says, with the modules in place of handles."""
    encode = EncodeUMT5(text_encoder=pipeline.text_encoder, tokenizer=pipeline.tokenizer)
    bind = WanDenoiser(transformer=pipeline.transformer)
    noise = VideoNoise(transformer=pipeline.transformer, vae=pipeline.vae).run(
        height=request["height"],
        width=request["width"],
        num_frames=request["num_frames"],
        rng=Rng.from_seed(request["seed"]),
    )
    schedule = FromScheduler(scheduler=pipeline.scheduler).run(
        steps=request["num_inference_steps"], shift=request.get("flow_shift")
    )
    denoiser = bind.run(text=answer(encode.run(text=request["prompt"])).embeds).denoiser
    scale = request["guidance_scale"]
    if ClassifierFree.bypass(scale=scale) is None:
        negative = answer(encode.run(text=request["negative_prompt"])).embeds
        uncond = bind.run(text=negative).denoiser
        denoiser = ClassifierFree().run(cond=denoiser, uncond=uncond, scale=scale).denoiser
    latents = answer(
        Denoise().run(
            denoiser=denoiser, latents=noise.latents, schedule=schedule.schedule, rng=noise.rng
        )
    ).latents
    video: Video = answer(DecodeVideo(vae=pipeline.vae).run(latents=latents, fps=16)).video
    return video


def difference(pipeline: Any, request: dict[str, Any]) -> int:
    """The largest difference to the reference, in 1/255; the picture itself must vary."""
    expected = reference(pipeline, request)
    found = ours(pipeline, request).frames.numpy()
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert expected.std() > 5
    return int(np.abs(found.astype(int) - expected.astype(int)).max())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="landscape, guided"),
        pytest.param({"height": 112, "width": 64, "num_frames": 5}, id="portrait"),
        pytest.param({"guidance_scale": 1.0}, id="guidance off"),
        pytest.param({"guidance_scale": 0.5}, id="guidance below one"),
        pytest.param({"negative_prompt": ""}, id="empty negative prompt"),
        pytest.param({"prompt": LONG}, id="prompt beyond the limit"),
        pytest.param({"prompt": " a &amp;amp; b \n\n  cat&lt;"}, id="prompt to clean"),
        pytest.param({"prompt": "."}, id="shortest prompt"),
        pytest.param({"num_frames": 1, "seed": 0}, id="one frame"),
        pytest.param({"num_inference_steps": 1}, id="one step"),
        pytest.param({"num_inference_steps": 9, "num_frames": 1}, id="nine steps"),
        pytest.param({"flow_shift": 8.0}, id="shift of the request"),
    ],
)
def test_equals_diffusers(wan: Any, change: dict[str, Any]) -> None:
    assert difference(wan, BASE | change) == 0


@pytest.mark.parametrize("size", [(96, 160), (160, 64)], ids=["landscape", "portrait"])
@pytest.mark.parametrize("scale", [2.5, 1.0], ids=["guided", "guidance off"])
def test_demo_equals_diffusers(demo: Any, size: tuple[int, int], scale: float) -> None:
    height, width = size
    request = BASE | {"height": height, "width": width, "guidance_scale": scale, "num_frames": 5}
    assert difference(demo, request) == 0


def test_long_prompt_is_cut_at_the_limit(wan: Any) -> None:
    encode = EncodeUMT5(text_encoder=wan.text_encoder, tokenizer=wan.tokenizer)
    tokens = answer(encode.run(text=LONG)).embeds.tokens
    assert tokens.shape == (1, 512, parts.TEXT_WIDTH)
    assert tokens[0, -1].abs().sum() > 0


def test_states_past_the_text_are_zero(wan: Any) -> None:
    encode = EncodeUMT5(text_encoder=wan.text_encoder, tokenizer=wan.tokenizer)
    tokens = answer(encode.run(text="a red circle", max_sequence_length=16)).embeds.tokens
    assert tokens.shape == (1, 16, parts.TEXT_WIDTH)
    assert tokens.abs().sum(-1)[0].gt(0).tolist() == [True] * 4 + [False] * 12  # </s> counts


def test_shift_of_the_request_leaves_the_component_alone(wan: Any) -> None:
    node = FromScheduler(scheduler=wan.scheduler)
    before = node.run(steps=4).schedule
    shifted = node.run(steps=4, shift=1.0).schedule
    after = node.run(steps=4).schedule
    assert before.timesteps.tolist() == after.timesteps.tolist() == [999, 900, 750, 500]
    assert shifted.timesteps.tolist() == [999, 750, 500, 250]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"height": 40, "width": 64}, "`request.height` expects a multiple of 32 px for this"),
        ({"height": 64, "width": 16}, "`request.width` expects a multiple of 32 px for this"),
    ],
)
def test_size_that_does_not_fit_the_checkpoint(
    demo: Any, size: dict[str, int], message: str
) -> None:
    node = VideoNoise(transformer=demo.transformer, vae=demo.vae)
    with pytest.raises(UserError, match=message):
        node.run(**size, num_frames=5, rng=Rng.from_seed(0))
    with pytest.raises(UserError, match="nearest that fit are"):
        node.estimate(**size, num_frames=5)


def test_checkpoints_from_before_the_newer_keys_are_recognised(tmp_path: Path) -> None:
    folder = tiny_wan.checkpoint(tmp_path / "published")
    index = json.loads((folder / "model_index.json").read_text())
    for key in ("boundary_ratio", "expand_timesteps", "transformer_2"):
        del index[key]
    (folder / "model_index.json").write_text(json.dumps(index))
    found = best_graph(Checkpoint.open(str(folder)), class_name=None, model_id=None)
    assert found.name == "wan2_1_t2v"
