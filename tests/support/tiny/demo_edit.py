"""Pictures and clips that are changed, compared with diffusers' video-to-video pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from runtime.files.video_files import read_video
from tests.support.tiny import wan
from tests.support.tiny.rows import LONG, Pixels, Request, Row

DEMO = Path(__file__).parents[3] / "demo/checkpoint"
CLIP = Path(__file__).parents[2] / "data/clip.mp4"


def vanilla(model: Path, picture: Image.Image, num_frames: int = 1, **call: Any) -> Pixels:
    """The reference for a picture that stands still."""
    return of_clip(model, [picture] * num_frames, **call)


def of_clip(model: Path, frames: list[Image.Image], **call: Any) -> Pixels:
    """The reference: its own processor, encoder, schedule cut by strength, noise and loop."""
    from diffusers import WanPipeline, WanVideoToVideoPipeline

    plain = WanPipeline.from_pretrained(model)
    names = ("tokenizer", "text_encoder", "transformer", "vae", "scheduler")
    pipeline = WanVideoToVideoPipeline(**{n: getattr(plain, n) for n in names})
    # It counts the VAE's halvings and does not know of patches; the other pipelines read this.
    pipeline.vae_scale_factor_spatial = plain.vae.config.scale_factor_spatial
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():  # its own cleaning of prompts needs a package that the tests have not
        words = call.pop("prompt"), call.pop("negative_prompt", "")
        prompts = plain.encode_prompt(*words, max_sequence_length=512)
    generator = torch.Generator().manual_seed(call.pop("seed"))
    video = pipeline(
        video=frames, prompt_embeds=prompts[0], negative_prompt_embeds=prompts[1],
        generator=generator, output_type="np", **call,
    ).frames[0]  # fmt: skip
    return np.asarray((video * 255).round().astype(np.uint8))


def reference(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """The same for a row."""
    return vanilla(model, pictures[0], **request)


def clip_reference(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """The first frames of the clip, changed."""
    call = {k: v for k, v in request.items() if k not in {"video_path", "num_frames"}}
    frames = read_video(CLIP)[0][: request["num_frames"]]
    return of_clip(model, [Image.fromarray(frame) for frame in frames], **call)


BLUE = "a blue circle on a red background"
ROWS = (
    Row("demo_edit", lambda folder: DEMO, (
        dict(height=96, width=160, strength=0.6, guidance_scale=2.5),
        dict(height=192, width=64, strength=0.5, guidance_scale=1.0, num_frames=5),
    ), common=dict(prompt=BLUE, num_inference_steps=6), pictures=1, reference=reference,
        named=True),
    Row("wan2_1_v2v", wan.checkpoint, (
        dict(prompt=BLUE, negative_prompt="red", height=48, width=112, strength=0.6,
             guidance_scale=4.0, num_frames=5),
        dict(prompt=LONG, height=80, width=32, strength=0.5, guidance_scale=1.0, num_frames=9),
    ), common=dict(video_path=str(CLIP), num_inference_steps=6), reference=clip_reference,
        named=True),
)  # fmt: skip
