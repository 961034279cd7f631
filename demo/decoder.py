"""Sharpen the folded VAE's decoder, with the encoder (so every latent) held as it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from demo.drawing import CLIP_FRAMES
from demo.models import CHANNELS, make_vae
from demo.passes import decode, encode, use_whole_clip_passes
from demo.training import Loop, Run, Schedule
from demo.vae import compare, decibels, difference, draw_batch


@dataclass(frozen=True)
class DecoderSettings:
    """Limits, batch and rate; `video_share` of the steps see clips of `frames`."""

    steps: int = 5000
    minutes: float = 0.0
    batch: int = 24
    learning_rate: float = 1e-3
    video_share: float = 0.4
    frames: int = 9


def train_decoder(run: Run, settings: DecoderSettings) -> None:
    """Train the decoder on slightly noisy latents."""
    vae = use_whole_clip_passes(make_vae(CHANNELS).to(run.device))
    folded = run.load("fold")
    vae.load_state_dict(folded["vae"])
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    trained = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    rate = settings.learning_rate
    optimiser = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = Schedule(settings.steps, settings.minutes, rate, warm=50, decay=0.8)
    loop = Loop("dec", run, {"vae": vae}, [optimiser], schedule, average=0.99, clip=0.5)
    for rng in loop:
        clips = rng.random() < settings.video_share
        count = max(1, settings.batch // 6) if clips else settings.batch
        frames, speed = (settings.frames, float(rng.uniform(0.3, 0.7))) if clips else (1, 1.0)
        pixels = draw_batch(
            rng, run.device, count, frames=frames, speed=speed, unnamed=0.0, grid=16
        )  # fmt: skip
        with run.autocast():
            with torch.no_grad():
                latents = encode(vae, pixels)[0]
                if not clips and rng.random() < 0.7:
                    # the transformer's pictures have nothing on the axes of motion
                    latents[:, folded["picture_axes"] :] = 0
                noise = torch.randn_like(latents) * float(rng.uniform(0.01, 0.08))
            decoded = decode(vae, latents + noise)
        absolute, squared, edges = difference(decoded, pixels)
        loss = absolute + 0.5 * squared + 0.5 * edges
        loop.update(loss, "clips" if clips else "pictures", decibels=decibels(squared))
    with loop.finished():
        compare("dec", run, vae)
        compare("dec", run, vae, frames=CLIP_FRAMES)
