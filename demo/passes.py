"""Whole-clip passes through Wan's VAE, for training.

Diffusers encodes and decodes clips in chunks with a cache. Here a clip goes through at once, equal
to the chunked result, and a single frame goes through two-dimensional convolutions.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    AutoencoderKLWan,
    WanCausalConv3d,
    WanResample,
    patchify,
    unpatchify,
)
from torch import Tensor


def use_whole_clip_passes(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Make the VAE's layers take whole clips where no cache is given; returns the same VAE."""
    for module in vae.modules():
        if isinstance(module, WanCausalConv3d):
            module.forward = MethodType(_convolve, module)
        elif isinstance(module, WanResample):
            module.forward = MethodType(_resample, module)
    return vae


def encode(vae: AutoencoderKLWan, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels `b 3 f h w` in [-1, 1] to means and log variances `b c t h/8 w/8`, float32."""
    moments: Tensor = vae.quant_conv(vae.encoder(patchify(pixels, vae.config.patch_size)))
    mean, log_variance = moments.float().chunk(2, 1)
    return mean, log_variance


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Latents `b c t h/8 w/8` to pixels `b 3 f h w`, float32, not clamped."""
    patches = vae.decoder(vae.post_quant_conv(latents))
    pixels: Tensor = unpatchify(patches, vae.config.patch_size)
    return pixels.float()


def _convolve(layer: Any, x: Tensor, cache_x: Tensor | None = None) -> Any:
    looks_back_only = layer._padding[4] or layer.kernel_size[0] == 1
    if cache_x is None and x.shape[2] == 1 and looks_back_only:
        padding = (layer._padding[2], layer._padding[0])
        weight = layer.weight[:, :, -1]  # the other taps see only zeros before the first frame
        return F.conv2d(x[:, :, 0], weight, layer.bias, layer.stride[1:], padding).unsqueeze(2)
    return type(layer).forward(layer, x, cache_x)


def _resample(layer: Any, x: Tensor, feat_cache: Any = None, feat_idx: Any = None) -> Any:
    original = type(layer).forward
    if feat_cache is not None:
        return original(layer, x, feat_cache, feat_idx)
    if not layer.mode.endswith("3d") or x.shape[2] == 1:
        return original(layer, x)
    if layer.mode == "upsample3d":  # the first latent frame stays one frame, the others double
        doubled = layer.time_conv(x[:, :, 1:]).unflatten(1, (2, x.shape[1]))
        doubled = doubled.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
        x = torch.cat([x[:, :, :1], doubled], 2)
    x = original(layer, x)  # without a cache: the spatial part only
    if layer.mode == "downsample3d":
        x = torch.cat([x[:, :, :1], layer.time_conv(x)], 2)
    return x
