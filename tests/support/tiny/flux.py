"""Tiny FLUX.1 checkpoints."""

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
    t5,
    t5_tokenizer,
)
from tests.support.tiny.rows import LONG, SHORT, Row


def checkpoint(folder: Path, *, guidance: bool = True) -> Path:
    """Write a FLUX.1 checkpoint and return its folder: dev, or schnell without `guidance`."""
    from diffusers import FluxPipeline

    return saved(FluxPipeline, folder, guidance=guidance)


def kontext(folder: Path) -> Path:
    """Write a FLUX.1 Kontext checkpoint and return its folder."""
    from diffusers import FluxKontextPipeline

    return saved(FluxKontextPipeline, folder, guidance=True)


def saved(pipeline_class: Any, folder: Path, *, guidance: bool) -> Path:
    """Write a checkpoint of FLUX.1's components under one of its pipelines."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    # As published: dev shifts by resolution, schnell not at all.
    shift = {"shift": 3.0, "use_dynamic_shifting": True} if guidance else {"shift": 1.0}
    pipeline = pipeline_class(
        scheduler=FlowMatchEulerDiscreteScheduler(**shift),
        vae=image_vae(),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
        transformer=flux_transformer(guidance=guidance),
    )
    pipeline.save_pretrained(folder)
    return folder


def flux_transformer(*, guidance: bool) -> Any:
    """A FLUX transformer of one double and one single block over 16 packed channels."""
    from diffusers import FluxTransformer2DModel

    config = {
        "patch_size": 1,
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT_WIDTH,
        "pooled_projection_dim": POOLED_WIDTH,
        "axes_dims_rope": (4, 6, 6),
        "guidance_embeds": guidance,
    }
    return seeded(lambda: FluxTransformer2DModel(**config), scale=2.0)


ROWS = (
    Row("flux1", checkpoint, (
        dict(prompt=SHORT, guidance_scale=3.5, height=48, width=112),
        dict(prompt=LONG, negative_prompt="blue", guidance_scale=2.0, true_cfg_scale=2.5,
             height=80, width=32),
    )),
    Row("flux1_schnell", partial(checkpoint, guidance=False), (
        dict(prompt="a green square", height=112, width=48),
        dict(prompt=LONG, negative_prompt="blue", true_cfg_scale=2.5, height=32, width=80),
    ), common=dict(max_sequence_length=256)),
    Row("flux1_kontext", kontext, (
        dict(prompt=SHORT, guidance_scale=3.5, height=48, width=112, max_area=48 * 112),
        dict(prompt=LONG, negative_prompt="blue", guidance_scale=2.0, true_cfg_scale=2.5,
             height=80, width=32, max_area=80 * 32),
    ), pictures=1),
)  # fmt: skip
