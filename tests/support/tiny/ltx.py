"""Tiny LTX-Video checkpoints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.support.tiny.parts import TEXT_WIDTH, seeded, t5, t5_tokenizer
from tests.support.tiny.rows import LONG, SHORT, Pixels, Request, Row, pipeline, pixels


def checkpoint(folder: Path, *, noisy: bool = False, injected: bool = False) -> Path:
    """Write an LTX-Video checkpoint and return its folder.

    noisy     its VAE takes the last step of denoising, as from 0.9.1 on
    injected  and its decoder draws noise, as in 0.9.1
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, LTXPipeline

    made = LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.95,
            max_shift=2.05,
            base_image_seq_len=1024,
            max_image_seq_len=4096,
            shift_terminal=0.1,
        ),
        vae=vae(noisy=noisy, injected=injected),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
        transformer=transformer(),
    )
    made.save_pretrained(folder)
    return folder


def transformer() -> Any:
    """An LTX-Video transformer of two blocks over four channels."""
    from diffusers import LTXVideoTransformer3DModel

    config = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "cross_attention_dim": 32,
        "num_layers": 2,
        "caption_channels": TEXT_WIDTH,
    }
    return seeded(lambda: LTXVideoTransformer3DModel(**config), scale=2.0)


def vae(*, noisy: bool, injected: bool) -> Any:
    """An LTX-Video VAE: 4 channels, 8× in time, 32× in space, with statistics that matter."""
    from diffusers import AutoencoderKLLTXVideo

    config: dict[str, Any] = {
        "latent_channels": 4,
        "block_out_channels": (8, 8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8, 8),
        "layers_per_block": (1,) * 5,
        "decoder_layers_per_block": (1,) * 5,
    }
    if noisy:
        config |= {
            "timestep_conditioning": True,
            "decoder_block_out_channels": (8, 16, 32),
            "decoder_layers_per_block": (1,) * 4,
            "decoder_spatio_temporal_scaling": (True,) * 3,
            "decoder_inject_noise": (False, *(injected,) * 3),
            "upsample_residual": (True,) * 3,
            "upsample_factor": (2,) * 3,
        }
    made = seeded(lambda: AutoencoderKLLTXVideo(**config), scale=1.5)
    made.latents_mean.copy_(torch.linspace(-0.4, 0.3, 4))
    made.latents_std.copy_(torch.linspace(0.5, 2.0, 4))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "per_channel_scale" in name:  # strength of what the decoder draws; 0 at first
                parameter.fill_(0.5)
    return made


def drawing(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """The reference, whose decoder draws from the global generator: seeded by the request's own."""
    made = pipeline(model)
    generator = torch.Generator().manual_seed(request["seed"])
    call = {k: v for k, v in request.items() if k != "seed"}
    plain = made.vae.decode

    def decode(*inputs: Any, **options: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(1 << 62, (), generator=generator)))
            return plain(*inputs, **options)

    made.vae.decode = decode
    try:
        return pixels(made(**call, generator=generator, output_type="np"))
    finally:
        del made.vae.decode


CASES = (
    dict(prompt=SHORT, negative_prompt="blue", guidance_scale=4.0, guidance_rescale=0.7,
         height=64, width=160, num_frames=9, fps=12),
    dict(prompt=LONG, guidance_scale=1.0, height=96, width=32, num_frames=1),
)  # fmt: skip
NOISY = (
    dict(CASES[0], decode_timestep=0.2, decode_noise_scale=0.4),
    dict(CASES[1], decode_timestep=0.1, decode_noise_scale=0.0),
)
NAMES = {"fps": "frame_rate"}
ROWS = (
    Row("ltx_video", checkpoint, CASES, renamed=NAMES),
    Row("ltx_video_0_9_1", partial(checkpoint, noisy=True), NOISY, renamed=NAMES),
    Row("ltx_video_0_9_1", partial(checkpoint, noisy=True, injected=True), NOISY, renamed=NAMES,
        reference=drawing, label="drawing"),
)  # fmt: skip
