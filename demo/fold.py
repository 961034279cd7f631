"""Rotate the trained VAE's 16 latent channels into 8 whitened ones, by linear algebra.

The VAE writes its few useful directions redundantly into 16 channels. The layers next to the latent
are linear, so the rotation is exact: the principal axes of pictures first, then what clips add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

from demo.drawing import CLIP_FRAMES, geometry, render
from demo.models import CHANNELS, TRAINED_CHANNELS, make_vae
from demo.passes import encode, use_whole_clip_passes
from demo.scenes import sample_scenes
from demo.training import Run, State
from demo.vae import compare


@dataclass(frozen=True)
class FoldSettings:
    """How many pictures and clips the axes are measured on."""

    images: int = 512
    clips: int = 32


@dataclass(frozen=True)
class Axes:
    """An affine change of latent channels, float64: new = (old - mean) @ rotation / scale.

    mean      16
    rotation  16 8   orthonormal columns
    scale     8
    pictures  how many of the first axes single frames use; the others carry motion
    """

    mean: Tensor
    rotation: Tensor
    scale: Tensor
    pictures: int


@torch.no_grad()
def fold(run: Run, settings: FoldSettings) -> None:
    """Measure the axes of the clip VAE's latents and fold them into its weights."""
    wide = use_whole_clip_passes(make_vae(TRAINED_CHANNELS).to(run.device))
    wide.load_state_dict(run.load("vvae")["vae"])
    rng = np.random.default_rng(run.seed + 11)
    pictures = _latents(run, wide, rng, settings.images, frames=1)
    clips = _latents(run, wide, rng, settings.clips, frames=CLIP_FRAMES)
    axes = find_axes(pictures, clips)
    narrow = use_whole_clip_passes(make_vae(CHANNELS).to(run.device))
    narrow.load_state_dict(folded_weights(wide.state_dict(), narrow.state_dict(), axes))
    deviations = " ".join(f"{deviation:.3f}" for deviation in axes.scale)
    run.log("fold", f"{axes.pictures} axes of pictures; deviations {deviations}")
    for frames in (1, CLIP_FRAMES):
        for channels, vae in ((TRAINED_CHANNELS, wide), (CHANNELS, narrow)):
            run.log("fold", f"{channels} channels:")
            compare("fold", run, vae, frames=frames)
    run.save("fold", {"vae": narrow.state_dict(), "picture_axes": axes.pictures})


def find_axes(pictures: Tensor, clips: Tensor) -> Axes:
    """Principal axes of latents `n 16`: those of pictures, then of what clips have beside them."""
    mean = pictures.mean(0)
    variances, vectors = torch.linalg.eigh(torch.cov((pictures - mean).T))
    useful = int((variances > 0.05).sum())
    count = min(max(useful, 1), CHANNELS - 2)  # clips get two axes at least
    first = vectors.flip(1)[:, :count]
    rest = (clips - mean) @ (torch.eye(len(mean), dtype=first.dtype) - first @ first.T)
    more_variances, more_vectors = torch.linalg.eigh(rest.T @ rest / len(rest))
    more = more_variances.flip(0)[: CHANNELS - count].clamp(min=1e-2)
    rotation = torch.cat([first, more_vectors.flip(1)[:, : CHANNELS - count]], 1)
    scale = torch.cat([variances.flip(0)[:count], more]).sqrt()
    return Axes(mean, rotation, scale, count)


def folded_weights(wide: State, narrow: State, axes: Axes) -> State:
    """The wide VAE's weights with the axes multiplied into the layers next to the latent.

    narrow   state of the VAE to fill: layers of equal shape are taken over from `wide`
    """
    old = {name: tensor.double().cpu() for name, tensor in wide.items()}
    new = {
        name: old[name] if old[name].shape == tensor.shape else tensor
        for name, tensor in narrow.items()
    }
    into = torch.diag(1 / axes.scale) @ axes.rotation.T
    out_of = axes.rotation @ torch.diag(axes.scale)
    means = slice(len(axes.mean))  # the other half of the moments are log variances
    quant = old["quant_conv.weight"][means, :, 0, 0, 0]
    weight = torch.einsum("ab,bcijk->acijk", into @ quant, old["encoder.conv_out.weight"])
    shift = quant @ old["encoder.conv_out.bias"] + old["quant_conv.bias"][means] - axes.mean
    log_variance = torch.full((CHANNELS,), math.log(0.03**2), dtype=torch.double)
    new["encoder.conv_out.weight"] = torch.cat([weight, torch.zeros_like(weight)])
    new["encoder.conv_out.bias"] = torch.cat([into @ shift, log_variance])
    for name, channels in (("quant_conv", 2 * CHANNELS), ("post_quant_conv", CHANNELS)):
        new[f"{name}.weight"] = torch.eye(channels)[:, :, None, None, None]
        new[f"{name}.bias"] = torch.zeros(channels)
    post = old["post_quant_conv.weight"][:, :, 0, 0, 0]
    first = old["decoder.conv_in.weight"]
    new["decoder.conv_in.weight"] = torch.einsum("acijk,cb->abijk", first, post @ out_of)
    centre = post @ axes.mean + old["post_quant_conv.bias"]
    new["decoder.conv_in.bias"] = old["decoder.conv_in.bias"] + torch.einsum(
        "acij,c->a", first[:, :, -1], centre
    )
    return {name: tensor.float() for name, tensor in new.items()}


def _latents(
    run: Run, vae: AutoencoderKLWan, rng: np.random.Generator, count: int, *, frames: int
) -> Tensor:
    """Latents of drawn scenes as rows `n 16` float64; of clips, without the first frame's."""
    video = frames > 1
    batch = min(count, 4 if video else 32)
    rows = []
    for _ in range(count // batch):
        scenes = sample_scenes(batch, rng, video=video)
        pixels = render(scenes, geometry(scenes, rng), frames=frames, device=run.device)
        with run.autocast():
            mean = encode(vae, pixels)[0][:, :, int(video) :]
        rows.append(mean.movedim(1, -1).reshape(-1, TRAINED_CHANNELS).double().cpu())
    return torch.cat(rows)
