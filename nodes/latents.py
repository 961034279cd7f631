"""Initial noise, and the layouts of latents. Letters of axes as in runtime.contract.values."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from nodes.contracts import VAE, Transformer
from runtime.contract.declare import Component
from runtime.contract.denoising import Schedule
from runtime.contract.values import Latents, Rng, TextEmbeds
from runtime.errors import UserError


@dataclass(frozen=True, kw_only=True)
class VideoNoise:
    """Draw the initial noise of a clip.

    height, width  px, multiples of the VAE's spatial factor times the transformer's patch size
    num_frames     frames, 1 plus a multiple of the VAE's temporal factor
    latents        `video`: 1 c t h w, float32
    """

    transformer: Component[Transformer]
    vae: Component[VAE]
    sized: ClassVar[tuple[str, ...]] = ("height", "width", "num_frames")

    class Out(NamedTuple):
        latents: Latents
        rng: Rng

    def run(self, *, height: int, width: int, num_frames: int, rng: Rng) -> Out:
        """Draw on the CPU, so that a seed means the same on every device."""
        noise, rng = rng.normal(self.shape(height, width, num_frames))
        return self.Out(Latents({"video": noise}), rng)

    def estimate(self, *, height: int, width: int, num_frames: int) -> int:
        """Bytes of the noise."""
        return 4 * prod(self.shape(height, width, num_frames))

    def shape(self, height: int, width: int, num_frames: int) -> tuple[int, ...]:
        """The shape 1 c t h w; a UserError where a size does not fit this checkpoint."""
        scale, patch = spatial_scale(self.vae.config), self.transformer.config.patch_size
        patch_rows, patch_columns = (patch, patch) if isinstance(patch, int) else patch[1:]
        check_multiple("height", height, scale * patch_rows)
        check_multiple("width", width, scale * patch_columns)
        frames = (num_frames - 1) // temporal_scale(self.vae.config) + 1
        config = self.transformer.config
        # `in_channels` can include the channels of a condition beside the latents.
        channels = getattr(config, "out_channels", None) or config.in_channels
        return 1, channels, frames, height // scale, width // scale


@dataclass(frozen=True, kw_only=True)
class ImageNoise:
    """Draw the initial noise of a picture.

    patches        a transformer whose config states `patch_size` and the largest number of patches
                   per side (`pos_embed_max_size`); without one the parameter `patch_size` counts,
                   and there is no limit
    patch_size     latent pixels per side of a token; sizes are multiples of the VAE's spatial
                   factor times this
    height, width  px
    like           hidden states in whose dtype noise is drawn, float32 without them; a generator
                   gives other values in bfloat16 than in float32
    packed         whether noise is drawn as patches: c·patch_size² channels, h and w in patches
    latents        `image`: 1 c h w
    """

    vae: Component[VAE]
    patches: Component[Transformer] | None = None
    patch_size: int = 1
    packed: bool = False
    sized: ClassVar[tuple[str, ...]] = ("height", "width")

    class Out(NamedTuple):
        latents: Latents
        rng: Rng

    def run(self, *, height: int, width: int, rng: Rng, like: TextEmbeds | None = None) -> Out:
        """Draw on the CPU, so that a seed means the same on every device."""
        shape = self.shape(height, width)
        noise, rng = rng.normal(shape) if like is None else rng.normal(shape, like.tokens.dtype)
        return self.Out(Latents({"image": noise}), rng)

    def estimate(self, *, height: int, width: int) -> int:
        """Bytes of the noise, at most."""
        return 4 * prod(self.shape(height, width))

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """The shape 1 c h w; a UserError where a size does not fit this checkpoint."""
        patch_size = self.patches.config.patch_size if self.patches else self.patch_size
        rows, columns = image_size(self.vae.config, patch_size, height, width)
        most = self.patches.config.pos_embed_max_size if self.patches else None
        for name, value, latent in (("height", height, rows), ("width", width, columns)):
            if most is not None:
                check_most(name, value, most * patch_size * (value // latent))
        side = patch_size if self.packed else 1
        return 1, latent_channels(self.vae.config) * side**2, rows // side, columns // side


@dataclass(frozen=True, kw_only=True)
class ScaleNoise:
    """Scale noise of unit variance to the standard deviation at which the schedule starts.

    noise     latents of unit variance, by modality
    schedule  its `deviation` is the factor (diffusers' `init_noise_sigma`)
    latents   in the shapes of the noise
    """

    sized: ClassVar[tuple[str, ...]] = ("noise",)

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, noise: Latents, schedule: Schedule) -> Out:
        """Scale each modality."""
        return self.Out(Latents({k: x * schedule.deviation for k, x in noise.parts.items()}))


@dataclass(frozen=True, kw_only=True)
class AddNoise:
    """Add noise to the latents of a picture or a clip, as the first step of the schedule expects.

    latents   normalised latents of the picture or the clip, by modality
    noise     in the same shapes; at a `strength` of 1 the result is the noise, and the picture is
              not encoded
    schedule  of the steps that are run; its first sigma is the part of noise

    Source: SDEdit, arXiv:2108.01073; for flow matching (1 - sigma) x + sigma noise, as in diffusers
    0.42, `add_noise` of schedulers/scheduling_unipc_multistep.py.
    """

    sized: ClassVar[tuple[str, ...]] = ("noise",)

    class Out(NamedTuple):
        latents: Latents

    @staticmethod
    def bypass(*, strength: float) -> str | None:
        """At a strength of 1 the run begins with noise alone."""
        return "noise" if strength >= 1 else None

    def run(self, *, latents: Latents, noise: Latents, schedule: Schedule, strength: float) -> Out:
        """Mix each modality."""
        if self.bypass(strength=strength):
            return self.Out(noise)
        sigma = schedule.sigmas[0]
        mixed = {k: (1 - sigma) * x + sigma * noise.parts[k] for k, x in latents.parts.items()}
        return self.Out(Latents(mixed))


def image_size(config: Any, patch_size: int, height: int, width: int) -> tuple[int, int]:
    """Latent rows and columns of a picture of height × width px. config: of its VAE."""
    scale = spatial_scale(config)
    check_multiple("height", height, scale * patch_size)
    check_multiple("width", width, scale * patch_size)
    return height // scale, width // scale


def spatial_scale(config: Any) -> int:
    """Pixels per latent pixel, from a VAE's config: stated, or computed from its levels."""
    for name in ("scale_factor_spatial", "spatial_compression_ratio"):
        stated = getattr(config, name, None)
        if stated is not None:
            return int(stated)
    if hasattr(config, "spatio_temporal_scaling"):
        return int(config.patch_size << sum(config.spatio_temporal_scaling))
    for name in ("block_out_channels", "encoder_block_out_channels"):
        levels = getattr(config, name, None)
        if levels is not None:
            return 1 << (len(levels) - 1)  # each level but the last halves the size
    levels = getattr(config, "temperal_downsample", None)
    return int(config.scale_factor_spatial) if levels is None else 1 << len(levels)


def temporal_scale(config: Any) -> int:
    """Frames per latent frame after the first, from a VAE's config: stated, or computed."""
    for name in ("scale_factor_temporal", "temporal_compression_ratio"):
        stated = getattr(config, name, None)
        if stated is not None:
            return int(stated)
    return int(config.patch_size_t << sum(config.spatio_temporal_scaling))


def latent_channels(config: Any) -> int:
    """Channels of the latents, from the VAE's config."""
    channels = getattr(config, "latent_channels", None)
    return int(config.z_dim if channels is None else channels)


def check_multiple(name: str, value: int, multiple: int) -> None:
    """Refuse a size that this checkpoint cannot make; nothing is rounded silently."""
    if value < multiple or value % multiple:
        low = value - value % multiple
        near = [str(x) for x in (low, low + multiple) if x >= multiple]
        raise UserError(
            f"`request.{name}` expects a multiple of {multiple} px for this checkpoint, got"
            f" {value}",
            help=f"the nearest that fit are {' or '.join(near)}",
            field=f"request.{name}",
        )


def check_most(name: str, value: int, most: int) -> None:
    """Refuse a size for which this checkpoint has no position embeddings."""
    if value > most:
        raise UserError(
            f"`request.{name}` expects at most {most} px for this checkpoint, got {value}",
            help=f"the largest that fits is {most}",
            field=f"request.{name}",
        )


def pack(latents: Tensor) -> Tensor:
    """Patches of 2×2 latent pixels to tokens: b c 2h 2w to b (h w) (c 2 2)."""
    b, c, rows, columns = latents.shape
    patches = latents.reshape(b, c, rows // 2, 2, columns // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(b, rows // 2 * (columns // 2), c * 4)


def unpack(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """Tokens to latents of `rows` × `columns`: b (h w) (c 2 2) to b c 2h 2w."""
    b, _, width = tokens.shape
    patches = tokens.reshape(b, rows // 2, columns // 2, width // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(b, width // 4, rows, columns)
