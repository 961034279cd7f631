"""Train the VAE: pictures first, then the temporal layers that clips need."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d
from torch import Tensor, nn

from demo.drawing import CANVAS, geometry, render, to_pixels
from demo.models import TRAINED_CHANNELS, make_vae
from demo.passes import decode, encode, use_whole_clip_passes
from demo.scenes import sample_scenes
from demo.sheet import write_sheet
from demo.training import Loop, Run, Schedule

CROP = 64  # pixels: most steps see a part of the canvas


@dataclass(frozen=True)
class PictureVaeSettings:
    """Limits, batch and rate of the picture stage."""

    steps: int = 2970
    minutes: float = 0.0
    batch: int = 24
    learning_rate: float = 2e-3


@dataclass(frozen=True)
class ClipVaeSettings:
    """Limits, batch and rate of the temporal stage; `frames` of its clips."""

    steps: int = 1250
    minutes: float = 0.0
    batch: int = 24
    learning_rate: float = 6e-4
    frames: int = 9


def train_picture_vae(run: Run, settings: PictureVaeSettings) -> None:
    """Train encoder and decoder on single frames, from random weights."""
    torch.manual_seed(run.seed)
    vae = use_whole_clip_passes(make_vae(TRAINED_CHANNELS).to(run.device))
    with torch.no_grad():
        for module in vae.modules():
            if isinstance(module, WanCausalConv3d) and module.kernel_size == (3, 3, 3):
                # one frame sees the last tap in time only: scale to the fan-in it really has
                module.weight *= 3**0.5
    optimiser = _adam(vae, settings.learning_rate)
    schedule = Schedule(settings.steps, settings.minutes, settings.learning_rate)
    loop = Loop("vae", run, {"vae": vae}, [optimiser], schedule, average=0.995)
    for rng in loop:
        whole = loop.fraction > 0.75
        count = max(1, settings.batch // 3) if whole else settings.batch
        pixels = draw_batch(rng, run.device, count, side=CANVAS if whole else CROP)
        _learn(loop, run, vae, pixels, "pictures")
    with loop.finished():
        compare("vae", run, vae)


def train_clip_vae(run: Run, settings: ClipVaeSettings) -> None:
    """Teach the picture VAE time, without moving what it does to a single frame."""
    vae = use_whole_clip_passes(make_vae(TRAINED_CHANNELS).to(run.device))
    vae.load_state_dict(run.load("vae")["vae"])
    begin_temporal_layers(vae)
    optimiser = _adam(vae, settings.learning_rate)
    schedule = Schedule(settings.steps, settings.minutes, settings.learning_rate, decay=0.8)
    loop = Loop("vvae", run, {"vae": vae}, [optimiser], schedule, average=0.995)
    for rng in loop:
        if loop.step % 4 == 3:
            pixels = draw_batch(rng, run.device, settings.batch)
            _learn(loop, run, vae, pixels, "pictures")
        else:
            count = max(1, settings.batch // 4)
            # a 9-frame clip shows half of a 17-frame motion
            speed = float(rng.uniform(0.2, 0.8))
            pixels = draw_batch(rng, run.device, count, frames=settings.frames, speed=speed)
            _learn(loop, run, vae, pixels, "clips")
    with loop.finished():
        compare("vvae", run, vae, frames=settings.frames)


def draw_batch(
    rng: np.random.Generator,
    device: str,
    count: int,
    *,
    side: int = CROP,
    frames: int = 1,
    speed: float = 1.0,
    unnamed: float = 0.5,
    grid: int = 1,
) -> Tensor:
    """Draw a batch of crops, `b 3 f side side`.

    speed    share of the motion of a whole clip that is shown
    unnamed  share of batches in colours without a name, so that the VAE is no table of twelve
    grid     pixels between the places where a crop may begin
    """
    scenes = sample_scenes(count, rng, video=frames > 1, two=0.3)
    where = geometry(scenes, rng)
    where.move[:] *= speed
    if rng.random() < unnamed:
        where.rgb[:] = rng.uniform(0, 255, where.rgb.shape)
    top, left = (int(rng.integers((CANVAS - side) // grid + 1)) * grid for _ in range(2))
    return render(scenes, where, frames=frames, device=device, window=(top, left, side))


def difference(decoded: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean absolute, squared and edges' absolute difference of two `b c f h w`."""
    delta = decoded - pixels
    upright = (delta[..., 1:, :] - delta[..., :-1, :]).abs().mean()
    sideways = (delta[..., 1:] - delta[..., :-1]).abs().mean()
    return delta.abs().mean(), (delta * delta).mean(), upright + sideways


def decibels(squared: Tensor) -> float:
    """Peak signal-to-noise ratio of a mean squared difference in [-1, 1]."""
    return 10 * math.log10(4 / max(float(squared.detach()), 1e-12))


def begin_temporal_layers(vae: AutoencoderKLWan) -> None:
    """Freeze what a single frame uses in the encoder; free the taps that look back in time.

    These start from zero, and the convolutions over time from averaging or repeating frames.
    """
    vae.requires_grad_(True)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    for name, module in vae.named_modules():
        if not isinstance(module, WanCausalConv3d) or module.kernel_size[0] != 3:
            continue
        module.weight.requires_grad_(True)
        if name.endswith("time_conv"):
            module.bias.requires_grad_(True)
            _begin_time_convolution(module)
            continue
        with torch.no_grad():
            module.weight[:, :, :2] = 0
        if name.startswith("encoder."):
            module.weight.register_hook(_only_past_taps)


@torch.no_grad()
def _begin_time_convolution(layer: nn.Conv3d) -> None:
    outputs, inputs = layer.weight.shape[:2]
    eye = torch.eye(inputs, device=layer.weight.device)
    layer.weight.zero_()
    if layer.bias is not None:
        layer.bias.zero_()
    if outputs == inputs:  # downsampling: the mean of three frames
        layer.weight[:, :, :, 0, 0] = eye[:, :, None] / 3
    else:  # upsampling: the same frame twice
        layer.weight[:, :, 2, 0, 0] = torch.cat([eye, eye])


def _only_past_taps(gradient: Tensor) -> Tensor:
    return torch.cat([gradient[:, :, :2], torch.zeros_like(gradient[:, :, 2:])], 2)


def _adam(vae: AutoencoderKLWan, rate: float) -> torch.optim.Optimizer:
    parameters = [p for p in vae.parameters() if p.requires_grad]
    return torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)


def _learn(loop: Loop, run: Run, vae: AutoencoderKLWan, pixels: Tensor, kind: str) -> None:
    """One step of the variational objective on pixels `b 3 f h w`."""
    with run.autocast():
        mean, log_variance = encode(vae, pixels)
        log_variance = log_variance.clamp(-12, 4)
        latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        decoded = decode(vae, latents)
    absolute, squared, edges = difference(decoded, pixels)
    divergence = 0.5 * (mean * mean + log_variance.exp() - 1 - log_variance).mean()
    loss = absolute + squared + 0.5 * edges + 5e-4 * divergence
    loop.update(loss, kind, decibels=decibels(squared), divergence=float(divergence.detach()))


@torch.no_grad()
def compare(stage: str, run: Run, vae: AutoencoderKLWan, *, frames: int = 1) -> None:
    """Decode a few whole scenes: log the quality, write them beside the originals as a sheet."""
    rng = np.random.default_rng(run.seed + 1)
    scenes = sample_scenes(8 if frames == 1 else 4, rng, video=frames > 1)
    pixels = render(scenes, geometry(scenes, rng), frames=frames, device=run.device)
    vae.eval()
    decoded = decode(vae, encode(vae, pixels)[0])
    # diffusers' own cached path must agree with the passes that trained
    vanilla = vae.decode(vae.encode(pixels).latent_dist.mean).sample
    gap = float((decoded.clamp(-1, 1) - vanilla).abs().max())
    quality = decibels(difference(decoded, pixels)[1])
    run.log(stage, f"{frames} frames: {quality:.2f} dB; from the cached path at most {gap:.1e}")
    chosen = range(0, frames, max(1, frames // 8))
    rows = [clip for pair in zip(pixels, decoded, strict=True) for clip in pair]
    sheet = [to_pixels(clip[:, frame]) for clip in rows for frame in chosen]
    columns = 8 if frames == 1 else len(chosen)
    write_sheet(sheet, columns, run.work / f"{stage}_{frames}.png")
