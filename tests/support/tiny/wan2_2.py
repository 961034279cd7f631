"""Tiny Wan 2.2 checkpoints: two experts, and the one that is told the noise of each token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.tiny.rows import LONG, SHORT, Pixels, Request, Row, pipeline, pixels, vanilla
from tests.support.tiny.wan import saved, wan_transformer, wan_vae
from tests.support.tiny.wan_i2v import clean_without_ftfy


def experts(folder: Path) -> Path:
    """Write a checkpoint of two experts, which differ, from text."""
    from diffusers import WanPipeline

    second = wan_transformer(num_layers=1)
    return saved(WanPipeline, folder, transformer_2=second, boundary_ratio=0.875)


def tokenwise(folder: Path) -> Path:
    """Write a checkpoint with a timestep per token and a VAE of 16× in space."""
    from diffusers import WanPipeline

    return saved(WanPipeline, folder, vae=squarer_vae(), expand_timesteps=True)


def squarer_vae() -> Any:
    """A Wan 2.2 VAE: residual, 2×2 pixels as channels, 4× in time, 16× in space."""
    patches = {"in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16}
    return wan_vae(**patches, is_residual=True, decoder_base_dim=12)


def reference(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """Text alone by the checkpoint's own pipeline; with a picture, by the one for pictures."""
    import torch
    from diffusers import WanImageToVideoPipeline

    if not pictures:
        return vanilla(model, request, [])
    clean_without_ftfy()
    shown = WanImageToVideoPipeline(**pipeline(model).components, expand_timesteps=True)
    shown.set_progress_bar_config(disable=True)
    call = {k: v for k, v in request.items() if k != "seed"}
    generator = torch.Generator().manual_seed(request["seed"])
    return pixels(shown(image=pictures[0], **call, generator=generator, output_type="np"))


TOKENWISE = (
    dict(prompt=SHORT, negative_prompt="blue", guidance_scale=4.0,
         height=64, width=160, num_frames=9),
    dict(prompt=LONG, guidance_scale=1.0, height=96, width=32, num_frames=5),
)  # fmt: skip
ROWS = (
    Row("wan2_2_t2v", experts, (
        dict(prompt=SHORT, negative_prompt="blue", guidance_scale=4.0, guidance_scale_2=2.5,
             height=48, width=112, num_frames=5),
        dict(prompt=LONG, guidance_scale=1.0, guidance_scale_2=3.0,
             height=80, width=32, num_frames=1),
    )),
    Row("wan2_2_ti2v", tokenwise, TOKENWISE, reference=reference),
    Row("wan2_2_ti2v", tokenwise, TOKENWISE, pictures=1, reference=reference, label="picture"),
)  # fmt: skip
