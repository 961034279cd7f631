"""Tiny Z-Image checkpoints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tests.support.tiny.parts import TEXT_WIDTH, image_vae, qwen3, qwen_tokenizer, seeded
from tests.support.tiny.rows import LONG, SHORT, Row


def checkpoint(folder: Path, *, shift: float = 6.0) -> Path:
    """Write a Z-Image checkpoint and return its folder; Turbo has a shift of 3."""
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline

    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=image_vae(),
        text_encoder=qwen3(),
        tokenizer=qwen_tokenizer(),
        transformer=z_image_transformer(),
    )
    pipeline.save_pretrained(folder)
    return folder


def z_image_transformer() -> Any:
    """A Z-Image transformer of one refiner of each kind and two layers over four channels."""
    from diffusers import ZImageTransformer2DModel

    config = {
        "in_channels": 4,
        "dim": 32,
        "n_layers": 2,
        "n_refiner_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 2,
        "cap_feat_dim": TEXT_WIDTH,
        "axes_dims": [4, 6, 6],
        "axes_lens": [1024, 64, 64],
    }
    return seeded(lambda: ZImageTransformer2DModel(**config), scale=2.0)


ROWS = (
    Row("z_image", checkpoint, (
        dict(prompt=SHORT, negative_prompt="blue", guidance_scale=3.0, cfg_normalization=1.0,
             height=48, width=112),
        dict(prompt=LONG, guidance_scale=0.5, cfg_truncation=0.1, height=80, width=32),
    )),
    Row("z_image_turbo", partial(checkpoint, shift=3.0), (
        dict(prompt=SHORT, guidance_scale=0.0, height=48, width=112),
        dict(prompt=LONG, guidance_scale=0.0, height=80, width=32),
    )),
)  # fmt: skip
