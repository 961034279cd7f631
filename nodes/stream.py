"""Latents to pixels chunk by chunk: clips that never stand in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nodes.contracts import VAE
from nodes.vae import denormalise, to_bytes
from runtime.asking import Asking, Call
from runtime.ports import Component
from runtime.values import Latents, VideoStream


@dataclass(frozen=True, kw_only=True)
class DecodeCausal:
    """Decode frame by frame with a causal VAE, whose convolutions remember what came before.

    latents  `video`: 1 c t h w, zero mean and unit variance per channel
    fps      frames per second
    video    4(t-1)+1 8h 8w 3, uint8 (factors as the VAE's config states them)

    Equal to decoding at once: such a VAE goes through a clip one latent frame at a time itself,
    with a cache for each tile where it is to tile.

    Source: diffusers 0.42, `_decode` and `tiled_decode` of autoencoder_kl_wan.py.
    """

    vae: Component[VAE]

    class Out(NamedTuple):
        video: VideoStream

    def run(self, *, latents: Latents, fps: float = 16) -> Out:
        """Bind; decoding starts when the stream is read."""
        x = latents.parts["video"]
        frames = 1 + (x.shape[2] - 1) * self.vae.config.scale_factor_temporal

        def parts() -> Iterator[Asking[Tensor]]:
            return chunks(self.vae, decode_causal, x, [1] * x.shape[2])

        return self.Out(VideoStream(parts, frames, fps))


def chunks(
    vae: VAE, forward: Callable[..., tuple[Any, ...]], latents: Tensor, sizes: list[int]
) -> Iterator[Asking[Tensor]]:
    """Asks for the frames of each chunk. sizes: latent frames per chunk."""
    state: list[Any] = [None]

    def ask(chunk: Tensor) -> Asking[Tensor]:
        batched = {"latents": chunk, "cache": state[0]}
        ((frames, state[0]),) = yield [Call(vae, forward, batched)]
        first: Tensor = frames[0]
        return first

    for chunk in torch.split(latents, sizes, dim=2):
        yield ask(chunk)


def decode_causal(vae: VAE, latents: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """One latent frame `b c 1 h w` to pixels `b f h w 3`, uint8, and what the next one needs.

    cache  what the frames before left, inputs of each tile's convolutions; none at the start
    """
    net: Any = vae
    x = denormalise(latents.to(vae.dtype), vae.config)
    size, stride = tiling(net, *x.shape[-2:])
    rows: list[list[Tensor]] = []
    memories: list[Any] = []
    for i in range(0, x.shape[-2], stride[0]):
        rows.append([])
        for j in range(0, x.shape[-1], stride[1]):
            memory = [None] * net._cached_conv_counts["decoder"]
            if cache is not None:
                memory = list(cache[len(memories)])
            tile = net.post_quant_conv(x[..., i : i + size[0], j : j + size[1]])
            first = cache is None
            rows[-1].append(net.decoder(tile, feat_cache=memory, feat_idx=[0], first_chunk=first))
            memories.append(tuple(memory))
    pixels = rows[0][0] if len(memories) == 1 else joined(net, rows, *x.shape[-2:])
    pixels = unpatched(pixels, vae.config.patch_size or 1)
    return to_bytes(pixels).permute(0, 2, 3, 4, 1).contiguous(), tuple(memories)


def tiling(net: Any, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size of a tile, and from one to the next, in latent rows and columns; all where not tiled."""
    scale = net.spatial_compression_ratio
    size = net.tile_sample_min_height // scale, net.tile_sample_min_width // scale
    if not net.use_tiling or (height <= size[0] and width <= size[1]):
        return (height, width), (height, width)
    return size, (net.tile_sample_stride_height // scale, net.tile_sample_stride_width // scale)


def joined(net: Any, rows: list[list[Tensor]], height: int, width: int) -> Tensor:
    """Tiles of decoded pixels, blended where they overlap, as the VAE itself joins them."""
    patch = net.config.patch_size or 1
    tall, wide = net.tile_sample_stride_height // patch, net.tile_sample_stride_width // patch
    across = net.tile_sample_min_width // patch - wide
    down = net.tile_sample_min_height // patch - tall
    blended = []
    for i, row in enumerate(rows):
        line = []
        for j in range(len(row)):  # blending writes into the tile
            if i > 0:
                row[j] = net.blend_v(rows[i - 1][j], row[j], down)
            if j > 0:
                row[j] = net.blend_h(row[j - 1], row[j], across)
            line.append(row[j][..., :tall, :wide])
        blended.append(torch.cat(line, dim=-1))
    scale = net.spatial_compression_ratio // patch
    return torch.cat(blended, dim=-2)[..., : height * scale, : width * scale]


def unpatched(pixels: Tensor, patch: int) -> Tensor:
    """Channels back to squares of pixels: b (c p q) f h w to b c f (h q) (w p)."""
    b, _, f, h, w = pixels.shape
    pixels = pixels.reshape(b, -1, patch, patch, f, h, w)
    return pixels.permute(0, 1, 4, 5, 3, 6, 2).reshape(b, -1, f, h * patch, w * patch)
