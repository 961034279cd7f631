"""CogVideoX: latents with frames before channels, positions of three axes, its own samplers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from math import cos, pi, prod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from nodes.contracts import VAE, Scheduler, Transformer
from nodes.finite import decode, is_finite
from nodes.guidance import Guided, classifier_free
from nodes.latents import check_most, image_size
from nodes.prediction import Prediction
from nodes.schedule import make_schedule, schedule_of, space
from nodes.solvers import PreviousSampleSolver, SchedulerSolver
from nodes.vae import to_bytes
from nodes.vae_stream import Chunks, Tiles, decode_tiles, to_frames
from runtime.contract.calls import Asking
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser, Schedule, Step
from runtime.contract.values import Latents, Rng, TextEmbeds, Video, VideoStream
from runtime.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FramesNoise:
    """Draw the noise that a video starts from, frames before channels.

    height, width  px, multiples of the VAE's scale times the transformer's patch
    num_frames     frames, 1 plus a multiple of the VAE's scale in time
    like           noise is drawn in the dtype of these hidden states
    latents        `video`: 1 t c h w; for a transformer with patches in time, t is padded in front

    Source: diffusers 0.42, pipelines/cogvideo/pipeline_cogvideox.py.
    """

    transformer: Component[Transformer]
    vae: Component[VAE]
    sized: ClassVar[tuple[str, ...]] = ("height", "width", "num_frames")

    class Out(NamedTuple):
        latents: Latents
        rng: Rng

    def run(self, *, height: int, width: int, num_frames: int, rng: Rng, like: TextEmbeds) -> Out:
        """Draw on the CPU, so that a seed means the same on every device."""
        noise, rng = rng.normal(self.shape(height, width, num_frames), like.tokens.dtype)
        return self.Out(Latents({"video": noise}), rng)

    def estimate(self, *, height: int, width: int, num_frames: int) -> int:
        """Bytes of the noise, at most."""
        return 4 * prod(self.shape(height, width, num_frames))

    def shape(self, height: int, width: int, num_frames: int) -> tuple[int, ...]:
        """Axes 1 t c h w; a UserError where a size does not fit this checkpoint."""
        config = self.transformer.config
        rows, columns = image_size(self.vae.config, config.patch_size, height, width)
        if config.patch_size_t is not None:  # its table of positions ends at the sample size
            check_most("height", height, config.sample_height * (height // rows))
            check_most("width", width, config.sample_width * (width // columns))
        frames = latent_frames(num_frames, self.vae.config)
        joined = config.patch_size_t or 1
        return 1, frames + -frames % joined, config.in_channels, rows, columns


@dataclass(frozen=True, kw_only=True)
class CogVideoXDenoiser:
    """Bind a prompt to a CogVideoX transformer.

    text      tokens 1 l d
    denoiser  predicts the velocity of `video`, b t c h w, in float32

    Source: CogVideoX, arXiv:2408.06072; diffusers 0.42, pipelines/cogvideo/pipeline_cogvideox.py.
    """

    transformer: Component[Transformer]

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(self, *, text: TextEmbeds) -> Out:
        """Bind; no weight is touched. Raises UserError where the text length is not the model's."""
        config, length = self.transformer.config, text.tokens.shape[1]
        if not config.use_rotary_positional_embeddings and length != config.max_text_seq_length:
            raise UserError(
                f"`request.max_sequence_length` is {length}, and this checkpoint reads exactly "
                f"{config.max_text_seq_length} tokens",
                help=f"leave it out, or give {config.max_text_seq_length}",
                field="request.max_sequence_length",
            )
        bound = {"text": text.tokens}
        return self.Out(Prediction(self.transformer, cogvideox_velocity, bound, "video"))


@dataclass(frozen=True, kw_only=True)
class DynamicGuidance:
    """Classifier-free guidance whose scale may vary with the timestep.

    scale    1 is `cond` alone
    dynamic  the scale of a step is 1 + scale (1 - cos(pi ((n - t) / n)^5)) / 2, for n steps

    Source: diffusers 0.42, pipelines/cogvideo/pipeline_cogvideox.py, `use_dynamic_cfg`: t is the
    timestep, not the step, so that the scale swings instead of growing.
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, scale: float) -> str | None:
        """Classifier-free guidance is off at a scale of 1 or less."""
        return "cond" if scale <= 1 else None

    def run(self, *, cond: Denoiser, uncond: Denoiser, scale: float, dynamic: bool = False) -> Out:
        """Bind the two predictions."""
        combine = partial(dynamic_classifier_free if dynamic else classifier_free, scale=scale)
        return self.Out(Guided(cond, uncond, combine))


@dataclass(frozen=True, kw_only=True)
class CogVideoXSchedule:
    """Space the timesteps as the scheduler's config says, for CogVideoX's multistep solvers.

    steps  number of steps
    """

    scheduler: Component[Scheduler]

    class Out(NamedTuple):
        schedule: Schedule

    def run(self, *, steps: int) -> Out:
        """Set the timesteps on a new scheduler, so that the component does not change."""
        return self.Out(make_schedule(self.scheduler, steps, space, cogvideox_schedule))

    def verify(self, *, steps: int) -> None:
        """Refuse a scheduler that cannot make these steps."""
        self.run(steps=steps)


def cogvideox_schedule(scheduler: Scheduler) -> Schedule:
    """The schedule of a scheduler, called as diffusers' pipeline calls it."""
    if "old_pred_original_sample" in inspect.signature(type(scheduler).step).parameters:
        return schedule_of(scheduler, PreviousSampleSolver(scheduler))
    return schedule_of(scheduler, SchedulerSolver(scheduler, eta=0.0, cast=True))


@dataclass(frozen=True, kw_only=True)
class DecodeFrames:
    """Decode scaled latents to RGB frames.

    latents     `video`: 1 t c h w
    num_frames  frames of the request: the padding in front of t is not decoded
    fps         frames per second
    video       4(t-1)+1 8h 8w 3, uint8, for an odd t (factors as the VAE's config states them)

    Source: diffusers 0.42, pipelines/cogvideo/pipeline_cogvideox.py.
    """

    vae: Component[VAE]
    sized: ClassVar[tuple[str, ...]] = ("num_frames", "fps", "latents")

    class Out(NamedTuple):
        video: Video

    def run(self, *, latents: Latents, num_frames: int, fps: float = 8) -> Asking[Out]:
        """Ask for one decoding."""
        requested = latents.parts["video"][:, -latent_frames(num_frames, self.vae.config) :]
        frames = yield from decode(self.vae, decode_frames, {"latents": requested})
        return self.Out(Video(frames[0], fps))


@dataclass(frozen=True, kw_only=True)
class StreamFrames:
    """Decode as DecodeFrames does, in chunks of latent frames.

    latents, num_frames, fps  as for DecodeFrames
    video                     as for DecodeFrames; one node may read it

    Source: diffusers 0.42, `_decode` and `tiled_decode` of autoencoder_kl_cogvideox.py.
    """

    vae: Component[VAE]
    sized: ClassVar[tuple[str, ...]] = ("num_frames", "fps", "latents")

    class Out(NamedTuple):
        video: VideoStream

    def run(self, *, latents: Latents, num_frames: int, fps: float = 8) -> Out:
        """Bind; decoding starts when the stream is read."""
        count = latent_frames(num_frames, self.vae.config)
        x = latents.parts["video"][:, -count:].transpose(1, 2)
        sizes = [2 + count % 2] + [2] * (count // 2 - 1) if count > 1 else [1]

        stream = Chunks(self.vae, decode_chunk, x, sizes)
        return self.Out(VideoStream(stream.parts, num_frames, fps))


def dynamic_classifier_free(cond: Tensor, uncond: Tensor, step: Step, *, scale: float) -> Tensor:
    """Guidance with a scale of its own for every step."""
    swing = (1 - cos(pi * ((step.count - step.t.item()) / step.count) ** 5.0)) / 2
    return classifier_free(cond, uncond, step, scale=1 + scale * swing)


def cogvideox_velocity(
    net: Transformer, latents: Tensor, timestep: Tensor, text: Tensor
) -> tuple[Tensor]:
    """latents b t c h w, timestep b, text b l d to velocity b t c h w, float32."""
    turns = rotary(net.config, latents) if net.config.use_rotary_positional_embeddings else None
    output = net(
        hidden_states=latents.to(net.dtype),
        encoder_hidden_states=text.to(net.dtype),
        timestep=timestep,
        image_rotary_emb=turns,
        return_dict=False,
    )
    return (output[0].float(),)


def decode_frames(vae: VAE, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Latents `b t c h w` to pixels `b f h w 3`, uint8, and whether they are finite, b."""
    scaled = 1 / vae.config.scaling_factor * latents.to(vae.dtype).transpose(1, 2)
    pixels = vae.decode(scaled, return_dict=False)[0]
    return to_bytes(pixels).permute(0, 2, 3, 4, 1).contiguous(), is_finite(pixels)


def decode_chunk(vae: VAE, latents: Tensor, state: Any) -> tuple[Tensor, Any, Tensor]:
    """Latent frames `b c t h w` to pixels `b f h w 3`, uint8, the next state, and if finite, b."""
    net: Any = vae
    size = net.tile_sample_min_height, net.tile_sample_min_width
    overlap = net.tile_overlap_factor_height, net.tile_overlap_factor_width
    latent = net.tile_latent_min_height, net.tile_latent_min_width
    blend = int(size[0] * overlap[0]), int(size[1] * overlap[1])
    step = int(latent[0] * (1 - overlap[0])), int(latent[1] * (1 - overlap[1]))
    tiles = Tiles(latent, step, (size[0] - blend[0], size[1] - blend[1]), blend)

    def tile(x: Tensor, before: Any) -> tuple[Tensor, Any]:
        x = x if net.post_quant_conv is None else net.post_quant_conv(x)
        pixels, memory = net.decoder(x, conv_cache=before)
        return pixels, memory

    scaled = 1 / vae.config.scaling_factor * latents.to(vae.dtype)
    pixels, memories = decode_tiles(net, scaled, tiles, state, tile)
    return to_frames(pixels), memories, is_finite(pixels)


def latent_frames(num_frames: int, config: Any) -> int:
    """Latent frames of a clip; config: of the VAE."""
    return (num_frames - 1) // int(config.temporal_compression_ratio) + 1


def rotary(config: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each token's angles, (t h w) d, for latents `b t c h w`.

    A quarter of a head turns with time, three eighths with rows and with columns.
    """
    frames, _, rows, columns = latents.shape[1:]
    width = config.attention_head_dim
    grid = frames, rows // config.patch_size, columns // config.patch_size
    axes = axis_positions(config, *grid, device=latents.device)
    tables = []
    for axis, turned in enumerate((width // 4, width // 8 * 3, width // 8 * 3)):
        positions = axes[axis]
        evens = torch.arange(0, turned, 2, dtype=torch.float32, device=latents.device)
        angles = torch.outer(positions, 1.0 / 10000 ** (evens / turned)).repeat_interleave(2, dim=1)
        shape = [1, 1, 1, turned]
        shape[axis] = len(positions)
        tables.append(angles.view(shape).expand(*map(len, axes), turned))
    table = torch.cat(tables, dim=-1).flatten(0, 2)
    return table.cos(), table.sin()


def axis_positions(
    config: Any, frames: int, rows: int, columns: int, device: torch.device
) -> list[Tensor]:
    """Positions along time, rows and columns of tokens.

    CogVideoX 1.5 counts; 1.0 fits the picture, centred, into the grid that it was trained on.
    """
    if config.patch_size_t is not None:
        joined = (frames + config.patch_size_t - 1) // config.patch_size_t
        return [torch.arange(n, device=device).float() for n in (joined, rows, columns)]
    high, wide = (side // config.patch_size for side in (config.sample_height, config.sample_width))
    tall = rows / columns > high / wide
    inner_rows = high if tall else round(wide / columns * rows)
    inner_columns = round(high / rows * columns) if tall else wide
    top, left = round((high - inner_rows) / 2.0), round((wide - inner_columns) / 2.0)
    spans = (0, frames, frames), (top, inner_rows, rows), (left, inner_columns, columns)
    return [
        torch.linspace(start, (start + span) * (n - 1) / n, n, device=device)
        for start, span, n in spans
    ]
