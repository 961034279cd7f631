"""Z-Image: chat-templated text of its own length, a transformer over lists, guidance of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from nodes.contracts import TextEncoder, Tokenizer, Transformer
from nodes.guidance import Guided
from nodes.prediction import Prediction
from nodes.text import tokenize
from nodes.truncation import Notes, chat_truncation
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser, Step
from runtime.contract.values import TextEmbeds


@dataclass(frozen=True, kw_only=True)
class EncodeZImage:
    """Encode a prompt as a chat's first turn; its hidden states are those before the last layer.

    text                 cut, template and all, after `max_sequence_length` tokens; none: empty
    max_sequence_length  tokens
    embeds               tokens 1 l d, without padding: l is the prompt's own length

    Source: diffusers 0.42, pipelines/z_image/pipeline_z_image.py.
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str = "", max_sequence_length: int = 512) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        tokens = tokenize(self.tokenizer, as_chat(self.tokenizer, text), max_sequence_length)
        batched = {"ids": tokens.input_ids, "mask": tokens.attention_mask.bool()}
        ((states,),) = yield [Call(self.text_encoder, unpadded_states, batched)]
        return self.Out(TextEmbeds(states[0][None]))

    def notes(self, *, text: str, max_sequence_length: int) -> Notes:
        """The words that are not read."""
        length = max_sequence_length
        return {"text": chat_truncation(self.tokenizer, self.text_encoder, as_chat, text, length)}

    def estimate(self, *, max_sequence_length: int) -> int:
        """Bytes of the hidden states, at most; the encoder's own working set is not known here."""
        return 4 * max_sequence_length * int(self.text_encoder.config.hidden_size)


@dataclass(frozen=True, kw_only=True)
class ZImageDenoiser:
    """Bind a prompt to a Z-Image transformer.

    text      tokens 1 l d
    denoiser  predicts the velocity of `image`, b c h w with even h and w, in float32

    Source: Z-Image report, arXiv:2511.22699; diffusers 0.42, pipelines/z_image.
    """

    transformer: Component[Transformer]

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(self, *, text: TextEmbeds) -> Out:
        """Bind; no weight is touched."""
        bound = {"text": [*text.tokens]}  # ragged: prompts have lengths of their own
        return self.Out(Prediction(self.transformer, z_image_velocity, bound))


@dataclass(frozen=True, kw_only=True)
class CappedGuidance:
    """Push the prediction from `cond` away from the negative prompt; off at a scale of 0 or less.

    scale          0 is `cond` alone: one less than in classifier-free guidance
    normalization  the result's norm is at most this times that of `cond`; 0: no limit
    truncation     guidance ends where this part of the way from noise is passed; 1: never

    Source: diffusers 0.42, pipelines/z_image/pipeline_z_image.py.
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, scale: float) -> str | None:
        """Guidance is off at a scale of 0 or less."""
        return "cond" if scale <= 0 else None

    def run(
        self,
        *,
        cond: Denoiser,
        uncond: Denoiser,
        scale: float,
        normalization: float = 0.0,
        truncation: float = 1.0,
    ) -> Out:
        """Bind the two predictions."""
        combine = partial(capped, scale=scale, limit=normalization)
        return self.Out(Guided(cond, uncond, combine, lambda step: done(step) <= truncation))


def as_chat(tokenizer: Tokenizer, text: str) -> str:
    """A prompt as the user's turn of a chat, up to where the assistant would begin to think."""
    turn = [{"role": "user", "content": text}]
    chat: str = tokenizer.apply_chat_template(
        turn, tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    return chat


def unpadded_states(net: TextEncoder, ids: Tensor, mask: Tensor) -> tuple[list[Tensor]]:
    """Token ids and mask `b l` to the hidden states before the last layer, a list of `l d`."""
    output = net(ids, mask, output_hidden_states=True)
    return ([states[real] for states, real in zip(output.hidden_states[-2], mask, strict=True)],)


def z_image_velocity(
    net: Transformer, latents: Tensor, timestep: Tensor, text: list[Tensor]
) -> tuple[Tensor]:
    """latents b c h w, timestep b, text of b prompts l d to velocity b c h w, float32.

    The network's time runs from 0, all noise, to 1.
    """
    pictures = [*latents.to(net.dtype).unsqueeze(2)]  # c f h w each, a single frame
    prompts = [states.to(net.dtype) for states in text]
    output = net(x=pictures, t=(1000 - timestep) / 1000, cap_feats=prompts, return_dict=False)
    return (-torch.stack([picture.float() for picture in output[0]]).squeeze(2),)


def done(step: Step) -> float:
    """Which part of the way from noise is passed."""
    return float((1000 - step.t.float()) / 1000)


def capped(cond: Tensor, uncond: Tensor, step: Step, *, scale: float, limit: float) -> Tensor:
    """cond + scale (cond - uncond), of at most `limit` times the norm of `cond`; 0: no limit."""
    guided = cond + scale * (cond - uncond)
    if limit <= 0:
        return guided
    axes = tuple(range(1, cond.ndim))
    norm = torch.linalg.vector_norm(guided, dim=axes, keepdim=True)
    most = torch.linalg.vector_norm(cond, dim=axes, keepdim=True) * limit
    return torch.where(norm > most, guided * (most / norm), guided)
