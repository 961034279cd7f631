"""Tiny FastWan checkpoints, and the loop that they are compared with."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.support.tiny.rows import LONG, SHORT, Pixels, Request, Row
from tests.support.tiny.wan import checkpoint
from tests.support.tiny.wan2_2 import tokenwise

STEPS = (1000, 757, 522)


def fastwan(folder: Path, like: Callable[[Path], Path] = checkpoint) -> Path:
    """Write a Wan checkpoint under the name that FastVideo gives the pipeline of its own."""
    index = like(folder) / "model_index.json"
    said = {**json.loads(index.read_text("utf-8")), "_class_name": "WanDMDPipeline"}
    index.write_text(json.dumps(said), "utf-8")
    return folder


def reference(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """Predict the clip, noise it for the next timestep, and again: a loop over the modules.

    diffusers has no such pipeline; FastVideo's loop is `DmdDenoisingStage`.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

    made: Any = WanPipeline.from_pretrained(model)
    grid = FlowMatchEulerDiscreteScheduler(shift=request.get("flow_shift", 8.0))
    generator = torch.Generator().manual_seed(request["seed"])
    sizes = [request[name] for name in ("height", "width", "num_frames")]
    steps = request.get("dmd_denoising_steps", STEPS)
    places = [int((grid.timesteps - t).abs().argmin()) for t in steps]
    with torch.no_grad():
        text, _ = made.encode_prompt(request["prompt"], None, False, max_sequence_length=512)
        channels = made.transformer.config.in_channels
        x = made.prepare_latents(1, channels, *sizes, torch.float32, "cpu", generator)
        for i, t in enumerate(steps):
            velocity = made.transformer(x, torch.tensor([t]), text, return_dict=False)[0]
            x = x - grid.sigmas[places[i]] * velocity
            if i + 1 < len(steps):
                b, c, frames, *size = x.shape
                noise = torch.randn(b, frames, c, *size, generator=generator).transpose(1, 2)
                sigma = grid.sigmas[places[i + 1]]
                x = (1 - sigma) * x + sigma * noise
        config = made.vae.config
        mean, deviation = (
            torch.tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std)
        )
        clip = made.vae.decode(x / (1 / deviation) + mean, return_dict=False)[0]
    frames = made.video_processor.postprocess_video(clip, output_type="np")[0]
    made_of_bytes: Pixels = (frames * 255).round().astype("uint8")
    return made_of_bytes


ROWS = (
    Row("fastwan", fastwan, (
        dict(prompt=SHORT, height=48, width=112, num_frames=9),
        dict(prompt=LONG, height=80, width=32, num_frames=1),
    ), reference=reference),
    Row("fastwan2_2_ti2v", partial(fastwan, like=tokenwise), (
        dict(prompt=SHORT, height=64, width=160, num_frames=5),
        dict(prompt=LONG, height=96, width=32, num_frames=9),
    ), reference=reference),
)  # fmt: skip
