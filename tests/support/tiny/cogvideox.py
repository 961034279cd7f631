"""Tiny CogVideoX checkpoints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tests.support.tiny.parts import TEXT_WIDTH, seeded, t5, t5_tokenizer
from tests.support.tiny.rows import LONG, SHORT, Row


def checkpoint(folder: Path, *, rotary: bool = False, joined: int | None = None) -> Path:
    """Write a CogVideoX checkpoint and return its folder: 2b, 5b with `rotary`, 1.5 `joined`."""
    from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXPipeline

    scheduler = CogVideoXDPMScheduler if rotary else CogVideoXDDIMScheduler
    pipeline = CogVideoXPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(),
        vae=cogvideox_vae(),
        transformer=cogvideox_transformer(rotary=rotary, joined=joined),
        scheduler=scheduler(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            snr_shift_scale=1.0 if rotary else 3.0,
            timestep_spacing="trailing",
        ),
    )
    pipeline.save_pretrained(folder)
    return folder


def cogvideox_transformer(*, rotary: bool, joined: int | None) -> Any:
    """A CogVideoX transformer of two blocks over four latent channels."""
    from diffusers import CogVideoXTransformer3DModel

    config = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 16,
        "text_embed_dim": TEXT_WIDTH,
        "num_layers": 2,
        "sample_width": 14 if joined is None else 300,
        "sample_height": 10 if joined is None else 300,
        "sample_frames": 9,
        "patch_size_t": joined,
        "use_rotary_positional_embeddings": rotary,
    }
    return seeded(lambda: CogVideoXTransformer3DModel(**config), scale=3.0)


def cogvideox_vae() -> Any:
    """A CogVideoX VAE: 4 channels, 4× in time, 8× in space."""
    from diffusers import AutoencoderKLCogVideoX

    config = {
        "block_out_channels": (8, 8, 8, 16),
        "latent_channels": 4,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "scaling_factor": 0.7,
    }
    return seeded(lambda: AutoencoderKLCogVideoX(**config), scale=0.5)


CASES = (
    dict(prompt=SHORT, negative_prompt="blue", guidance_scale=4.0,
         height=48, width=112, num_frames=9),
    dict(prompt=LONG, guidance_scale=1.0, height=80, width=32, num_frames=1),
)  # fmt: skip
DYNAMIC = (CASES[0], dict(CASES[1], guidance_scale=3.0, use_dynamic_cfg=True))
ROWS = (
    Row("cogvideox", checkpoint, CASES),
    Row("cogvideox_5b", partial(checkpoint, rotary=True), DYNAMIC),
    Row("cogvideox_1_5", partial(checkpoint, rotary=True, joined=2), CASES),
)
