"""Tiny Stable Diffusion 3 checkpoints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tests.support.tiny.parts import TEXT_WIDTH, clip_tokenizer, image_vae, seeded, t5, t5_tokenizer
from tests.support.tiny.rows import LONG, SHORT, Row, vanilla

CLIP_WIDTHS = (12, 16)  # together narrower than T5, as those that are published


def checkpoint(folder: Path, *, t5_encoder: bool = True) -> Path:
    """Write a Stable Diffusion 3 checkpoint, as published with or without T5."""
    from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

    pipeline = StableDiffusion3Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=image_vae(),
        text_encoder=projected_clip(CLIP_WIDTHS[0]),
        tokenizer=clip_tokenizer(),
        text_encoder_2=projected_clip(CLIP_WIDTHS[1]),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5() if t5_encoder else None,
        tokenizer_3=t5_tokenizer() if t5_encoder else None,
        transformer=sd3_transformer(),
    )
    pipeline.save_pretrained(folder)
    return folder


def projected_clip(width: int) -> Any:
    """A CLIP text encoder of three layers with a projection."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPTextConfig(
        vocab_size=len(clip_tokenizer()),
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=width,
        **ids,
    )
    return seeded(lambda: CLIPTextModelWithProjection(config), scale=8.0)


def sd3_transformer() -> Any:
    """A transformer of four blocks, the first with a second attention as in 3.5 medium."""
    from diffusers import SD3Transformer2DModel

    config = {
        "sample_size": 16,
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 4,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT_WIDTH,
        "caption_projection_dim": 32,
        "pooled_projection_dim": sum(CLIP_WIDTHS),
        "pos_embed_max_size": 64,
        "dual_attention_layers": (0,),
        "qk_norm": "rms_norm",
    }
    return seeded(lambda: SD3Transformer2DModel(**config), scale=2.0)


# Of three steps, 0.01 to 0.8 skips layers in the second and third.
SKIPPED = dict(skip_guidance_layers=[1, 2], skip_layer_guidance_stop=0.8)
ROWS = (
    Row("sd3", checkpoint, (
        dict(prompt=SHORT, guidance_scale=1.0, height=48, width=112),
        dict(prompt=LONG, negative_prompt="blue", guidance_scale=4.0, height=80, width=32,
             **SKIPPED),
    )),
    Row("sd3", partial(checkpoint, t5_encoder=False), (
        dict(prompt=SHORT, guidance_scale=5.0, height=32, width=80),
        dict(prompt=LONG, negative_prompt="a cat", guidance_scale=2.5, height=112, width=48),
    ), label="without_t5", reference=partial(vanilla, text_encoder_3=None, tokenizer_3=None)),
)  # fmt: skip
