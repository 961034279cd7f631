"""Tiny Ovis-Image checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.tiny.parts import TEXT_WIDTH, image_vae, qwen3, qwen_tokenizer, seeded
from tests.support.tiny.rows import LONG, SHORT, Row


def checkpoint(folder: Path) -> Path:
    """Write an Ovis-Image checkpoint and return its folder."""
    from diffusers import FlowMatchEulerDiscreteScheduler, OvisImagePipeline

    pipeline = OvisImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=image_vae(),
        text_encoder=qwen3(),
        tokenizer=qwen_tokenizer(),
        transformer=ovis_transformer(),
    )
    pipeline.save_pretrained(folder)
    return folder


def ovis_transformer() -> Any:
    """An Ovis-Image transformer of one double and one single block over 16 packed channels."""
    from diffusers import OvisImageTransformer2DModel

    config = {
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT_WIDTH,
        "axes_dims_rope": (4, 6, 6),
    }
    return seeded(lambda: OvisImageTransformer2DModel(**config), scale=3.0)


ROWS = (
    Row("ovis_image", checkpoint, (
        dict(prompt=SHORT, guidance_scale=1.0, height=48, width=112),
        dict(prompt=LONG, negative_prompt="blue", guidance_scale=3.0, height=80, width=32,
             max_sequence_length=224),
    )),
)  # fmt: skip
