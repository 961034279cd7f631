"""Tiny Stable Diffusion XL checkpoints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tests.support.tiny.parts import (
    POOLED_WIDTH,
    TEXT_WIDTH,
    clip,
    clip_tokenizer,
    image_vae,
    seeded,
)
from tests.support.tiny.rows import LONG, SHORT, Row


def checkpoint(folder: Path, *, zeros: bool = True, scheduler: Any = None, **vae: Any) -> Path:
    """Write an SDXL checkpoint and return its folder.

    zeros      no negative prompt is zeros, else it is the empty text
    scheduler  in place of the published one
    vae        values of its VAE's config
    """
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    second = clip_tokenizer()
    second.pad_token = "!"  # as published
    schedule: dict[str, Any] = {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "timestep_spacing": "leading", "steps_offset": 1,
    }  # fmt: skip
    pipeline = StableDiffusionXLPipeline(
        vae=image_vae(
            scaling_factor=0.13025,
            shift_factor=None,
            use_quant_conv=True,
            use_post_quant_conv=True,
            **vae,
        ),
        text_encoder=clip(),
        text_encoder_2=clip_with_projection(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=second,
        unet=unet(),
        scheduler=scheduler or EulerDiscreteScheduler(**schedule),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def turbo(folder: Path) -> Path:
    """Write a checkpoint as SDXL Turbo, whose scheduler draws in every step."""
    from diffusers import EulerAncestralDiscreteScheduler

    return checkpoint(
        folder, scheduler=EulerAncestralDiscreteScheduler(timestep_spacing="trailing")
    )


def clip_with_projection() -> Any:
    """A CLIP text encoder with a projection; its old end of text means the largest id's place."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(clip_tokenizer()),
        hidden_size=TEXT_WIDTH,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        hidden_act="gelu",
        projection_dim=POOLED_WIDTH,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    return seeded(lambda: CLIPTextModelWithProjection(config), scale=8.0)


def unet() -> Any:
    """An SDXL UNet of two levels over four latent channels."""
    from diffusers import UNet2DConditionModel

    config = {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (2, 4),
        "transformer_layers_per_block": (1, 2),
        "use_linear_projection": True,
        "cross_attention_dim": POOLED_WIDTH + TEXT_WIDTH,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + POOLED_WIDTH,
    }
    return seeded(lambda: UNet2DConditionModel(**config), scale=0.8)


CASES = (
    dict(prompt=SHORT, guidance_scale=5.0, guidance_rescale=0.3, height=48, width=112),
    dict(prompt=LONG, negative_prompt="blue", guidance_scale=3.0, height=80, width=32,
         original_size=(64, 24), crops_coords_top_left=(3, 5), target_size=(100, 40)),
)  # fmt: skip
OFF = dict(prompt=LONG, guidance_scale=1.0, height=40, width=56)
ROWS = (
    Row("sdxl", checkpoint, CASES),
    Row("sdxl", partial(checkpoint, zeros=False), (CASES[0], OFF), label="empty_text"),
    Row("sdxl_turbo", turbo, ({**OFF, "guidance_scale": 0.0}, CASES[1]), named=True),
)
