"""LTX-2: video and audio are denoised together; each has prompt embeddings of its own.

Source of all here: LTX-2, arXiv:2601.03233; diffusers 0.42, pipelines/ltx2/pipeline_ltx2.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from nodes.contracts import VAE, SoundNetwork, TextEncoder, Tokenizer, Transformer
from nodes.finite import decode, is_finite
from nodes.ltx import WITHOUT_TIMESTEP
from nodes.truncation import Notes, text_truncation
from nodes.vae import to_bytes
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser, Parts, Step, component_names
from runtime.contract.values import Latents, Rng, TextEmbeds, Video
from runtime.errors import UserError

AUDIO_SCALE = 4  # of the audio VAE, in time and along the spectrum; its config does not say


@dataclass(frozen=True, kw_only=True)
class EncodePrompt:
    """Encode a prompt with Gemma: the states of all its layers, made into two contexts.

    text                 truncated after `max_sequence_length` tokens
    max_sequence_length  l, a multiple of the connectors' registers, which replace the padding
    video, audio         tokens 1 l d, mask 1 l
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]
    connectors: Component[TextEncoder]

    class Out(NamedTuple):
        video: TextEmbeds
        audio: TextEmbeds

    def run(self, *, text: str = "", max_sequence_length: int = 1024) -> Asking[Out]:
        """Ask for one forward of the encoder and one of the connectors."""
        self.check(max_sequence_length)
        tokens = self.tokenizer(
            [text.strip()],
            padding="max_length",
            padding_side="left",
            max_length=max_sequence_length,
            truncation=True,
            return_tensors="pt",
        )
        batched = {"ids": tokens.input_ids, "mask": tokens.attention_mask}
        ((states,),) = yield [Call(self.text_encoder, all_states, batched)]
        batched = {"states": states, "mask": tokens.attention_mask}
        ((video, audio, mask),) = yield [Call(self.connectors, contexts, batched)]
        return self.Out(TextEmbeds(video, mask), TextEmbeds(audio, mask))

    def notes(self, *, text: str, max_sequence_length: int) -> Notes:
        """The words that are not read."""
        length = max_sequence_length
        return {"text": text_truncation(self.tokenizer, self.text_encoder, text.strip(), length)}

    def estimate(self, *, max_sequence_length: int) -> int:
        """Bytes of the hidden states, at most; the encoder's own working set is not known here."""
        self.check(max_sequence_length)
        config = self.connectors.config
        return 4 * max_sequence_length * int(config.caption_channels * config.text_proj_in_factor)

    def check(self, length: int) -> None:
        """Refuse a length that is no multiple of the number of registers."""
        step = self.connectors.config.video_connector_num_learnable_registers or 1
        if length % step:
            near = [str(n) for n in (length - length % step, length - length % step + step) if n]
            raise UserError(
                f"`request.max_sequence_length` expects a multiple of {step} tokens for this"
                " checkpoint,"
                f" got {length}",
                help=f"the nearest that fit are {' or '.join(near)}",
                field="request.max_sequence_length",
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AudioNoise:
    """Sample the initial noise of the audio, after that of the video.

    video       `video`: 1 c t h w
    num_frames  frames
    fps         frames per second
    latents     `video` as it came, `audio`: 1 c l m, float32, l as long as the clip
    """

    audio_vae: Component[SoundNetwork]
    sized: ClassVar[tuple[str, ...]] = ("video",)

    class Out(NamedTuple):
        latents: Latents
        rng: Rng

    def run(self, *, video: Latents, num_frames: int, fps: float, rng: Rng) -> Out:
        """Draw on the CPU, so that a seed means the same on every device."""
        noise, rng = rng.normal(self.shape(num_frames, fps))
        return self.Out(Latents({**video.parts, "audio": noise}), rng)

    def estimate(self, *, num_frames: int, fps: float) -> int:
        """Bytes of the noise."""
        return 4 * prod(self.shape(num_frames, fps))

    def shape(self, num_frames: int, fps: float) -> tuple[int, ...]:
        """Axes 1 c l m; a UserError for a clip shorter than one audio latent."""
        config = self.audio_vae.config
        a_second = config.sample_rate / config.mel_hop_length / float(AUDIO_SCALE)
        length = round(num_frames / fps * a_second)
        if length < 1:
            raise UserError(
                f"`request.num_frames` is {num_frames}, too short for sound at {fps:g} frames/s",
                help="give more frames, or a lower fps", field="request.num_frames",
            )  # fmt: skip
        return 1, config.latent_channels, length, config.mel_bins // AUDIO_SCALE


@dataclass(frozen=True, kw_only=True)
class JointDenoiser:
    """Bind a prompt and a frame rate to an LTX-2 transformer.

    isolated      video and audio do not attend to each other
    video, audio  tokens 1 l d, mask 1 l
    fps           frames per second: positions in time are seconds
    motion_speed  speed of the motion: below 1 is slow motion
    blocks        numbers of the blocks in which each token attends to itself only
    first         `video`: the first frame, which has no noise; without parts no frame is given
    denoiser      predicts the velocities of `video`, b c t h w, and `audio`, b c l m, in float32
    """

    transformer: Component[Transformer]
    isolated: bool = False

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(
        self,
        *,
        video: TextEmbeds,
        audio: TextEmbeds,
        fps: float = 24,
        motion_speed: float = 1.0,
        blocks: tuple[int, ...] = (),
        first: Latents | None = None,
    ) -> Out:
        """Bind; no weight is touched."""
        last = self.transformer.config.num_layers - 1
        wrong = next((block for block in blocks if block > last), None)
        if wrong is not None:
            raise UserError(
                f"`request.spatio_temporal_guidance_blocks` expects 0 to {last} for this"
                " checkpoint,"
                f" got {wrong}",
                help=f"its transformer has {last + 1} blocks, counted from 0",
                field="request.spatio_temporal_guidance_blocks",
            )
        known = first is not None and "video" in first.parts
        shared = {"fps": fps / motion_speed, "blocks": blocks, "isolated": self.isolated}
        shared["known"] = known
        return self.Out(JointPrediction(self.transformer, video, audio, shared))


@dataclass(frozen=True, kw_only=True)
class DecodeVideo:
    """Decode latents to RGB frames, by a decoder that may take the last step of denoising itself.

    latents      `video`: 1 c t h w, zero mean and unit variance per channel
    like         hidden states: latents are noised and denormalised in their dtype
    rng          as denoising left it; a decoder without a timestep draws nothing
    timestep     at which a timestep-conditioned decoder decodes, 0 to 1
    noise_scale  part of noise that is mixed in before decoding; by default the timestep
    fps          frames per second
    video        8(t-1)+1 32h 32w 3, uint8 (factors as the VAE's config states them)
    """

    vae: Component[VAE]
    sized: ClassVar[tuple[str, ...]] = ("latents", "fps")

    class Out(NamedTuple):
        video: Video

    def ignores(self) -> dict[str, str]:
        """A decoder without a timestep ignores the inputs that only noise the latents."""
        return {} if self.vae.config.timestep_conditioning else WITHOUT_TIMESTEP

    def run(
        self,
        *,
        latents: Latents,
        like: TextEmbeds,
        rng: Rng,
        timestep: float = 0.0,
        noise_scale: float | None = None,
        fps: float = 24,
    ) -> Asking[Out]:
        """Ask for one decoding."""
        video = latents.parts["video"].to(like.tokens.dtype)
        batched = {"latents": video}
        if self.vae.config.timestep_conditioning:
            batched["noise"], _ = rng.normal(tuple(video.shape), video.dtype)
            batched["mixed"] = torch.full([1], timestep if noise_scale is None else noise_scale)
            batched["timestep"] = torch.full([1], timestep)
        frames = yield from decode(self.vae, decode_video, batched)
        return self.Out(Video(frames[0], fps))


@dataclass(frozen=True, eq=False)
class JointPrediction:
    """The velocities that LTX-2 predicts for one prompt. shared: as `predict_velocities` has it."""

    transformer: Transformer
    video: TextEmbeds
    audio: TextEmbeds
    shared: dict[str, Any]

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for one forward; the timestep stays as the scheduler made it, 0 to 1000."""
        batched = {
            "video": x["video"],
            "audio": x["audio"],
            "timestep": step.t.expand(len(x["video"])),
            "text": self.video.tokens,
            "audio_text": self.audio.tokens,
            "mask": self.video.mask,
        }
        call = Call(self.transformer, predict_velocities, batched, self.shared)
        ((video, audio),) = yield [call]
        return {"video": video, "audio": audio}

    def touches(self, step: Step) -> frozenset[str]:
        """The one transformer."""
        return component_names(self.transformer)


def all_states(net: TextEncoder, ids: Tensor, mask: Tensor) -> tuple[Tensor]:
    """Token ids and mask `b l` to the hidden states of the embedding and all layers, `b l d n`."""
    # The logits are not used; asking for those of one token only saves memory.
    output = net(ids, attention_mask=mask, output_hidden_states=True, logits_to_keep=1)
    return (torch.stack(output.hidden_states, dim=-1).to(net.dtype),)


def contexts(net: Any, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states `b l d n` to tokens for video and for audio, `b l d`, and their mask `b l`."""
    video, audio, attended = net(states.to(net.dtype), mask, padding_side="left")
    return video, audio, attended.bool()


def predict_velocities(
    net: Transformer,
    *,
    video: Tensor,
    audio: Tensor,
    timestep: Tensor,
    text: Tensor,
    audio_text: Tensor,
    mask: Tensor,
    fps: float,
    blocks: tuple[int, ...],
    isolated: bool,
    known: bool = False,
) -> tuple[Tensor, Tensor]:
    """video b c t h w, audio b c l m, timestep b, texts b l d, mask b l to both velocities.

    known  the first frame has no noise: each token of the video has a timestep of its own
    """
    frames, rows, columns = video.shape[2:]
    moments = timestep
    if known:
        noisy = torch.arange(frames, device=video.device).gt(0).repeat_interleave(rows * columns)
        moments = timestep[:, None] * noisy
    output = net(
        hidden_states=video.to(net.dtype).flatten(2).transpose(1, 2),
        audio_hidden_states=packed(audio.to(net.dtype)),
        encoder_hidden_states=text.to(net.dtype),
        audio_encoder_hidden_states=audio_text.to(net.dtype),
        timestep=moments,
        audio_timestep=timestep,
        sigma=timestep,
        encoder_attention_mask=mask,
        audio_encoder_attention_mask=mask,
        num_frames=frames,
        height=rows,
        width=columns,
        fps=fps,
        audio_num_frames=audio.shape[2],
        isolate_modalities=isolated,
        spatio_temporal_guidance_blocks=list(blocks),
        use_cross_timestep=True,
        return_dict=False,
    )
    moved, sounded = (part.float() for part in output)
    return moved.transpose(1, 2).reshape(video.shape), unpacked(sounded, audio.shape[-1])


def packed(audio: Tensor) -> Tensor:
    """One token per moment of sound: b c l m to b l (c m)."""
    return audio.transpose(1, 2).flatten(2)


def unpacked(tokens: Tensor, bins: int) -> Tensor:
    """Tokens back to a spectrum of `bins`: b l (c m) to b c l m."""
    b, length, _ = tokens.shape
    return tokens.reshape(b, length, -1, bins).transpose(1, 2)


def decode_video(
    vae: Any,
    latents: Tensor,
    noise: Tensor | None = None,
    mixed: Tensor | None = None,
    timestep: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Latents `b c t h w` to pixels `b f h w 3`, uint8, and whether they are finite, b.

    noise     b c t h w, of which the part `mixed`, b, replaces the latents
    timestep  b, for the decoder
    """
    if noise is not None and mixed is not None and timestep is not None:
        part = mixed.to(latents.dtype).view(-1, 1, 1, 1, 1)
        latents, timestep = (1 - part) * latents + part * noise, timestep.to(latents.dtype)
    mean, deviation = (
        x.view(1, -1, 1, 1, 1).to(latents) for x in (vae.latents_mean, vae.latents_std)
    )
    own = latents * deviation / vae.config.scaling_factor + mean
    pixels = vae.decode(own.to(vae.dtype), timestep, return_dict=False)[0]
    return to_bytes(pixels).permute(0, 2, 3, 4, 1).contiguous(), is_finite(pixels)
