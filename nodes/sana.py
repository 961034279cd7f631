"""Sana: a small language model reads the prompt; resolution binning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nodes.contracts import TextEncoder, Tokenizer, Transformer
from nodes.prediction import Prediction
from nodes.text import tokenize
from nodes.truncation import Notes, text_truncation
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser
from runtime.contract.values import TextEmbeds
from runtime.errors import UserError


@dataclass(frozen=True, kw_only=True)
class EncodeGemma:
    """Encode a prompt, in lower case, after an instruction that the language model follows.

    instruction          lines before the prompt
    text                 truncated so that the embeds have `max_sequence_length` tokens
    max_sequence_length  l, tokens: the first one and the last l - 1, which hold the prompt
    embeds               tokens 1 l d, mask 1 l

    Source: arXiv:2410.10629, section 3.2; diffusers 0.42, pipelines/sana/pipeline_sana.py.
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]
    instruction: tuple[str, ...] = ()

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str = "", max_sequence_length: int = 300) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        asked, length = self.instructed(text, max_sequence_length)
        tokens = tokenize(self.tokenizer, asked, length, padding_side="right")
        batched = {"ids": tokens.input_ids, "mask": tokens.attention_mask}
        shared = {"keep": max_sequence_length}
        ((states,),) = yield [Call(self.text_encoder, last_states, batched, shared)]
        return self.Out(
            TextEmbeds(states, first_and_last(tokens.attention_mask, max_sequence_length).bool())
        )

    def instructed(self, text: str, max_sequence_length: int) -> tuple[str, int]:
        """The text after the instruction, and how many tokens of both are read."""
        prefix, length = "\n".join(self.instruction), max_sequence_length
        if prefix:
            length += len(self.tokenizer([prefix]).input_ids[0]) - 2
        return prefix + text.lower().strip(), length

    def notes(self, *, text: str, max_sequence_length: int) -> Notes:
        """The words that are not read."""
        asked, length = self.instructed(text, max_sequence_length)
        return {"text": text_truncation(self.tokenizer, self.text_encoder, asked, length)}

    def estimate(self, *, max_sequence_length: int) -> int:
        """Bytes of the hidden states, at most; the encoder's own working set is not known here."""
        return 4 * max_sequence_length * int(self.text_encoder.config.hidden_size)


@dataclass(frozen=True, kw_only=True)
class ResolutionBinning:
    """Choose the size that the model was trained with whose aspect ratio is nearest.

    use_resolution_binning  where it is off, the size of the request is used
    height, width           px

    Source: diffusers 0.42, `classify_height_width_bin` of image_processor.py.
    """

    transformer: Component[Transformer]

    class Out(NamedTuple):
        height: int
        width: int

    def run(self, *, height: int, width: int, use_resolution_binning: bool = True) -> Out:
        if not use_resolution_binning:
            return self.Out(height, width)
        sizes = known_sizes(self.transformer.config.sample_size)
        nearest = min(sizes, key=lambda ratio: abs(float(ratio) - height / width))
        return self.Out(*map(int, sizes[nearest]))


@dataclass(frozen=True, kw_only=True)
class SanaDenoiser:
    """Bind a prompt to a Sana transformer.

    text      tokens 1 l d, mask 1 l
    denoiser  predicts the velocity of `image`, b c h w, float32
    """

    transformer: Component[Transformer]

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(self, *, text: TextEmbeds) -> Out:
        """Bind; no weight is touched."""
        bound = {"text": text.tokens, "mask": text.mask}
        return self.Out(Prediction(self.transformer, sana_velocity, bound))


def known_sizes(sample_size: int) -> dict[str, Any]:
    """Ratio to height and width, for a model made for `sample_size` latent pixels a side."""
    from diffusers.pipelines.sana import pipeline_sana  # its tables; slow to import

    side = sample_size * 32  # the VAE of these models halves five times
    table: dict[str, Any] | None = getattr(pipeline_sana, f"ASPECT_RATIO_{side}_BIN", None)
    if table is None:
        raise UserError(
            f"`request.use_resolution_binning`: no sizes are known for a model of {side} px",
            help="write `request.use_resolution_binning=false`",
            field="request.use_resolution_binning",
        )  # fmt: skip
    return table


def first_and_last(x: Tensor, keep: int) -> Tensor:
    """The first along axis 1, and the last `keep` - 1."""
    return torch.cat([x[:, :1], x[:, x.shape[1] - keep + 1 :]], dim=1)


def last_states(net: TextEncoder, ids: Tensor, mask: Tensor, keep: int) -> tuple[Tensor]:
    """Token ids and mask `b l` to hidden states `b keep d`: the first one, and the last ones."""
    return (first_and_last(net(ids, mask, use_cache=False)[0].to(net.dtype), keep),)


def sana_velocity(
    net: Transformer, latents: Tensor, timestep: Tensor, text: Tensor, mask: Tensor
) -> tuple[Tensor]:
    """latents b c h w, timestep b, text b l d, mask b l to velocity b c h w, float32."""
    output = net(
        hidden_states=latents.to(net.dtype),
        encoder_hidden_states=text.to(net.dtype),
        encoder_attention_mask=mask,
        timestep=timestep * net.config.timestep_scale,
        return_dict=False,
    )[0].float()
    channels = latents.shape[1]
    # A model that learned its variance as well predicts it in the second half.
    return (output[:, :channels] if output.shape[1] // 2 == channels else output,)
