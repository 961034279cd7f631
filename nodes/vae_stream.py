"""Latents to pixels chunk by chunk: clips that never stand in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nodes.contracts import VAE
from nodes.vae import denormalise, to_bytes
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.values import Latents, VideoStream


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


@dataclass(frozen=True)
class Tiles:
    """How a VAE tiles, along rows and columns.

    size, step   latents of a tile, and from one to the next
    kept, blend  pixels that a tile gives, and over which it fades into the one before
    """

    size: tuple[int, int]
    step: tuple[int, int]
    kept: tuple[int, int]
    blend: tuple[int, int]


def decode_causal(vae: VAE, latents: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """One latent frame `b c 1 h w` to pixels `b f h w 3`, uint8, and what the next one needs.

    cache  what the frames before left, inputs of each tile's convolutions; none at the start
    """
    net: Any = vae

    def tile(x: Tensor, before: Any) -> tuple[Tensor, Any]:
        memory = list(before or [None] * net._cached_conv_counts["decoder"])
        first = {"first_chunk": before is None}
        pixels = net.decoder(net.post_quant_conv(x), feat_cache=memory, feat_idx=[0], **first)
        return pixels, tuple(memory)

    x, patch = denormalise(latents.to(vae.dtype), vae.config), vae.config.patch_size or 1
    pixels, memories = tiled(net, x, causal_tiles(net), cache, tile)
    scale = net.spatial_compression_ratio // patch
    pixels = pixels[..., : x.shape[-2] * scale, : x.shape[-1] * scale]
    return to_frames(unpatched(pixels, patch)), memories


def causal_tiles(net: Any) -> Tiles:
    """The tiles of a VAE whose settings are sizes and strides in pixels."""
    scale, patch = net.spatial_compression_ratio, net.config.patch_size or 1
    size = net.tile_sample_min_height, net.tile_sample_min_width
    step = net.tile_sample_stride_height, net.tile_sample_stride_width
    kept = step[0] // patch, step[1] // patch
    blend = size[0] // patch - kept[0], size[1] // patch - kept[1]
    latent = (size[0] // scale, size[1] // scale), (step[0] // scale, step[1] // scale)
    return Tiles(*latent, kept, blend)


def tiled(
    net: Any,
    x: Tensor,
    tiles: Tiles,
    cache: Any,
    decode: Callable[[Tensor, Any], tuple[Tensor, Any]],
) -> tuple[Tensor, Any]:
    """Decode latents `b c t h w`, in tiles where the VAE is to, and join the pixels.

    cache   of each tile, from the chunk before
    decode  a tile and its cache to pixels and the next cache
    """
    height, width = x.shape[-2:]
    if not net.use_tiling or (height <= tiles.size[0] and width <= tiles.size[1]):
        pixels, memory = decode(x, cache and cache[0])
        return pixels, (memory,)
    rows: list[list[Tensor]] = []
    memories: list[Any] = []
    for i in range(0, height, tiles.step[0]):
        rows.append([])
        for j in range(0, width, tiles.step[1]):
            part = x[..., i : i + tiles.size[0], j : j + tiles.size[1]]
            pixels, memory = decode(part, cache and cache[len(memories)])
            rows[-1].append(pixels)
            memories.append(memory)
    lines = []
    for i, row in enumerate(rows):
        for j in range(len(row)):  # the VAE's own blending writes into the tile
            if i > 0:
                row[j] = net.blend_v(rows[i - 1][j], row[j], tiles.blend[0])
            if j > 0:
                row[j] = net.blend_h(row[j - 1], row[j], tiles.blend[1])
        kept = [tile[..., : tiles.kept[0], : tiles.kept[1]] for tile in row]
        lines.append(torch.cat(kept, dim=-1))
    return torch.cat(lines, dim=-2), tuple(memories)


def to_frames(pixels: Tensor) -> Tensor:
    """Pixels `b c f h w` in [-1, 1] to `b f h w c`, uint8."""
    return to_bytes(pixels).permute(0, 2, 3, 4, 1).contiguous()


def unpatched(pixels: Tensor, patch: int) -> Tensor:
    """Channels back to squares of pixels: b (c p q) f h w to b c f (h q) (w p)."""
    b, _, f, h, w = pixels.shape
    pixels = pixels.reshape(b, -1, patch, patch, f, h, w)
    return pixels.permute(0, 1, 4, 5, 3, 6, 2).reshape(b, -1, f, h * patch, w * patch)
