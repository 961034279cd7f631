"""Tiny checkpoints without a graph of their own: they run as vanilla pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.tiny.parts import POOLED_WIDTH, clip, clip_tokenizer, image_vae, seeded
from tests.support.tiny.rows import LONG, SHORT, Row


def checkpoint(folder: Path) -> Path:
    """Write a Stable Diffusion 1 checkpoint and return its folder."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=image_vae(scaling_factor=0.18215, shift_factor=None),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        unet=unet(),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
            clip_sample=False, set_alpha_to_one=False, steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def unet() -> Any:
    """A UNet of two levels over four latent channels."""
    from diffusers import UNet2DConditionModel

    config = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": POOLED_WIDTH,
        "norm_num_groups": 8,
    }
    return seeded(lambda: UNet2DConditionModel(**config), scale=2.0)


ROWS = (
    Row("diffusers", checkpoint, (
        dict(prompt=SHORT, guidance_scale=1.0, height=48, width=112),
        dict(prompt=LONG, negative_prompt="blue", guidance_scale=4.0, height=80, width=32),
    )),
)  # fmt: skip
