"""Tiny Wan checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.tiny.parts import TEXT_WIDTH, seeded, t5_tokenizer, umt5
from tests.support.tiny.rows import LONG, SHORT, Row

DEMO = Path(__file__).parents[3] / "demo/checkpoint"


def checkpoint(folder: Path) -> Path:
    """Write a Wan 2.1 checkpoint (UMT5, Wan transformer, Wan VAE, UniPC) and return its folder."""
    from diffusers import WanPipeline

    return saved(WanPipeline, folder)


def saved(pipeline_class: Any, folder: Path, **others: Any) -> Path:
    """Write Wan's components, with `others` beside or instead, under one of its pipelines."""
    from diffusers import UniPCMultistepScheduler

    components = {
        "tokenizer": t5_tokenizer(),
        "text_encoder": umt5(),
        "vae": wan_vae(),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        "transformer": wan_transformer(),
    }
    pipeline_class(**{**components, **others}).save_pretrained(folder)
    return folder


def wan_transformer(**changes: Any) -> Any:
    """A Wan transformer of two blocks over four latent channels, patch 1×2×2."""
    from diffusers import WanTransformer3DModel

    config = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": TEXT_WIDTH,
        "freq_dim": 32,
        "ffn_dim": 64,
        "num_layers": 2,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 64,
        **changes,
    }
    return seeded(lambda: WanTransformer3DModel(**config), scale=2.0)


def wan_vae(**changes: Any) -> Any:
    """A Wan VAE: 4 channels, 4× in time, 8× in space, with means and deviations that matter."""
    from diffusers import AutoencoderKLWan

    config = {
        "base_dim": 8,
        "z_dim": 4,
        "dim_mult": [1, 2, 2, 2],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
        "latents_mean": [-0.3, 0.1, 0.2, -0.1],
        "latents_std": [1.7, 2.1, 1.4, 2.5],
        **changes,
    }
    return seeded(lambda: AutoencoderKLWan(**config), scale=1.5)


BLUE, RED = "a blue circle on a white background", "a red circle on a blue background"
ROWS = (
    Row("wan2_1_t2v", checkpoint, (
        dict(prompt=SHORT, negative_prompt="blue", guidance_scale=4.0,
             height=48, width=112, num_frames=5),
        dict(prompt=LONG, guidance_scale=1.0, height=80, width=32, num_frames=1),
    )),
    Row("demo", lambda folder: DEMO, (
        dict(prompt=RED, guidance_scale=2.5, height=96, width=160, num_frames=5),
        dict(prompt=BLUE, negative_prompt="red", guidance_scale=1.0,
             height=192, width=64, num_frames=1),
    )),
)  # fmt: skip
