"""Latents to pixels in chunks of frames, so that a clip is never in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from nodes.contracts import VAE
from nodes.finite import CAUSES, InFloat32, WatchDecoder, is_finite, is_half, retry_note
from nodes.vae import denormalise, to_bytes
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.values import Latents, Rewind, VideoStream
from runtime.errors import NotFinite
from runtime.events import Noted


@dataclass(frozen=True, kw_only=True)
class DecodeCausal:
    """Decode one latent frame at a time with a causal VAE, whose convolutions cache their input.

    latents  `video`: 1 c t h w, zero mean and unit variance per channel
    fps      frames per second
    video    4(t-1)+1 8h 8w 3, uint8 (the VAE's config states the factors)

    The result equals that of decoding the whole clip: the VAE itself decodes one latent frame at a
    time, with a cache per tile where tiling is on.

    Source: diffusers 0.42, `_decode` and `tiled_decode` of autoencoder_kl_wan.py.
    """

    vae: Component[VAE]
    sized: ClassVar[tuple[str, ...]] = ("latents", "fps")

    class Out(NamedTuple):
        video: VideoStream

    def run(self, *, latents: Latents, fps: float = 16) -> Out:
        """Make the stream; decoding starts when it is read."""
        x = latents.parts["video"]
        frames = 1 + (x.shape[2] - 1) * self.vae.config.scale_factor_temporal

        stream = Chunks(self.vae, decode_causal, x, [1] * x.shape[2])
        return self.Out(VideoStream(stream.parts, frames, fps))


@dataclass
class Chunks:
    """The frames of a clip in chunks, each decoded when it is asked for.

    forward  `(vae, latents, state)` to pixels as uint8, b f h w c, the next chunk's state, and
             whether each sample was finite, b
    latents  b c t h w
    sizes    latent frames per chunk
    single   whether the VAE computes in float32, because its half precision overflowed
    """

    vae: VAE
    forward: Callable[..., tuple[Any, ...]]
    latents: Tensor
    sizes: list[int]
    single: bool = False

    def parts(self) -> Iterator[Asking[Tensor]]:
        """One generator per chunk, which asks for its frames, f h w c."""
        state: list[Any] = [None]
        for chunk in torch.split(self.latents, self.sizes, dim=2):
            yield self.ask(chunk, state)

    def ask(self, chunk: Tensor, state: list[Any]) -> Asking[Tensor]:
        """Decode a chunk. state: holds what the chunk before left, which is replaced.

        Where half precision overflows, the chunk is decoded again in float32; a chunk after the
        first raises Rewind, because the state before it is of half precision.
        """
        while True:
            forward: Callable[..., tuple[Any, ...]] = WatchDecoder(self.forward)
            if self.single:
                forward = InFloat32(forward)
            call = Call(self.vae, forward, {"latents": chunk}, state=state[0])
            ((frames, after, finite),) = yield [call]
            if bool(finite.all()):
                state[0] = after
                first: Tensor = frames[0]
                return first
            if self.single or not is_half(self.vae.dtype):
                raise NotFinite(f"the decoded pixels: NaN or infinity; {CAUSES} finds where")
            self.single = True
            yield Noted(text=retry_note(getattr(self.vae, "name", "vae")))
            if state[0] is not None:
                raise Rewind


@dataclass(frozen=True)
class Tiles:
    """How a VAE tiles, along rows and columns.

    size, stride  latent pixels of a tile, and from one tile to the next
    crop, blend   pixels of a tile that go into the result, and over which it blends with the
                  previous tile
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    crop: tuple[int, int]
    blend: tuple[int, int]


def decode_causal(vae: VAE, latents: Tensor, state: Any) -> tuple[Tensor, Any, Tensor]:
    """One latent frame `b c 1 h w` to pixels `b f h w 3`, uint8, the next state, and if finite, b.

    state  per tile, the inputs of its convolutions at earlier frames; None at the first frame
    """
    net: Any = vae

    def tile(x: Tensor, before: Any) -> tuple[Tensor, Any]:
        memory = list(before or [None] * net._cached_conv_counts["decoder"])
        first = {"first_chunk": before is None}
        pixels = net.decoder(net.post_quant_conv(x), feat_cache=memory, feat_idx=[0], **first)
        return pixels, tuple(memory)

    x, patch = denormalise(latents.to(vae.dtype), vae.config), vae.config.patch_size or 1
    pixels, caches = decode_tiles(net, x, causal_tiles(net), state, tile)
    scale = net.spatial_compression_ratio // patch
    pixels = pixels[..., : x.shape[-2] * scale, : x.shape[-1] * scale]
    return to_frames(unpatchify(pixels, patch)), caches, is_finite(pixels)


def causal_tiles(net: Any) -> Tiles:
    """The tiles of a VAE whose attributes state sizes and strides in pixels."""
    scale, patch = net.spatial_compression_ratio, net.config.patch_size or 1
    size = net.tile_sample_min_height, net.tile_sample_min_width
    stride = net.tile_sample_stride_height, net.tile_sample_stride_width
    crop = stride[0] // patch, stride[1] // patch
    blend = size[0] // patch - crop[0], size[1] // patch - crop[1]
    latent = (size[0] // scale, size[1] // scale), (stride[0] // scale, stride[1] // scale)
    return Tiles(*latent, crop, blend)


def decode_tiles(
    net: Any,
    x: Tensor,
    tiles: Tiles,
    cache: Any,
    decode: Callable[[Tensor, Any], tuple[Tensor, Any]],
) -> tuple[Tensor, Any]:
    """Decode latents `b c t h w`, in tiles where the VAE's tiling is on, and join the pixels.

    cache   of each tile, from the previous chunk; None at the first chunk
    decode  from a tile and its cache to pixels and the next cache
    """
    height, width = x.shape[-2:]
    if not net.use_tiling or (height <= tiles.size[0] and width <= tiles.size[1]):
        pixels, next_cache = decode(x, cache and cache[0])
        return pixels, (next_cache,)
    rows: list[list[Tensor]] = []
    caches: list[Any] = []
    for i in range(0, height, tiles.stride[0]):
        rows.append([])
        for j in range(0, width, tiles.stride[1]):
            part = x[..., i : i + tiles.size[0], j : j + tiles.size[1]]
            pixels, next_cache = decode(part, cache and cache[len(caches)])
            rows[-1].append(pixels)
            caches.append(next_cache)
    joined = []
    for i, row in enumerate(rows):
        for j in range(len(row)):  # the VAE's `blend` methods write into the tile
            if i > 0:
                row[j] = net.blend_v(rows[i - 1][j], row[j], tiles.blend[0])
            if j > 0:
                row[j] = net.blend_h(row[j - 1], row[j], tiles.blend[1])
        cropped = [tile[..., : tiles.crop[0], : tiles.crop[1]] for tile in row]
        joined.append(torch.cat(cropped, dim=-1))
    return torch.cat(joined, dim=-2), tuple(caches)


def to_frames(pixels: Tensor) -> Tensor:
    """Pixels `b c f h w` in [-1, 1] to `b f h w c`, uint8."""
    return to_bytes(pixels).permute(0, 2, 3, 4, 1).contiguous()


def unpatchify(pixels: Tensor, patch: int) -> Tensor:
    """Move channels into patches of pixels: b (c p q) f h w to b c f (h q) (w p)."""
    b, _, f, h, w = pixels.shape
    pixels = pixels.reshape(b, -1, patch, patch, f, h, w)
    return pixels.permute(0, 1, 4, 5, 3, 6, 2).reshape(b, -1, f, h * patch, w * patch)
