"""Ovis-Image: a prompt in a chat template, and a transformer of packed image and text tokens.

Source of all here: github.com/AIDC-AI/Ovis-Image; diffusers 0.42, pipelines/ovis_image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nodes.contracts import TextEncoder, Tokenizer, Transformer
from nodes.flux import positions
from nodes.latents import pack, unpack
from nodes.prediction import Prediction, to_unit
from nodes.text import tokenize
from nodes.truncation import Notes, chat_truncation
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser
from runtime.contract.values import TextEmbeds

DESCRIBE = (
    "Describe the image by detailing the color, quantity, text, shape, size, texture, spatial"
    " relationships of the objects and background: "
)
DESCRIBE_TOKENS = 28  # of the chat before the prompt: their hidden states are dropped


@dataclass(frozen=True, kw_only=True)
class EncodePrompt:
    """Encode a prompt in a chat that asks for the description of a picture.

    text                 truncated with the chat's end after `max_sequence_length` tokens
    max_sequence_length  l, tokens
    embeds               tokens 1 l d, zero after the last; the transformer attends to the zeros
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str, max_sequence_length: int = 256) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        length = max_sequence_length + DESCRIBE_TOKENS
        chat = as_chat(self.tokenizer, text)
        tokens = tokenize(self.tokenizer, chat, length, add_special_tokens=False)
        batched = {"ids": tokens.input_ids, "mask": tokens.attention_mask}
        ((states,),) = yield [Call(self.text_encoder, masked_states, batched)]
        return self.Out(TextEmbeds(states[:, DESCRIBE_TOKENS:]))

    def notes(self, *, text: str, max_sequence_length: int) -> Notes:
        """A note on the words that are truncated."""
        return {"text": chat_truncation(self.tokenizer, self.text_encoder, as_chat, text,
                                 max_sequence_length + DESCRIBE_TOKENS)}  # fmt: skip

    def estimate(self, *, max_sequence_length: int) -> int:
        """Bytes of the hidden states, at most; the encoder's own working set is not known here."""
        return 4 * max_sequence_length * int(self.text_encoder.config.hidden_size)


@dataclass(frozen=True, kw_only=True)
class OvisDenoiser:
    """Bind a prompt to an Ovis-Image transformer.

    text      tokens 1 l d
    denoiser  predicts the velocity of `image`, b c h w with even h and w
    """

    transformer: Component[Transformer]

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(self, *, text: TextEmbeds) -> Out:
        """Bind; no weight is touched."""
        bound = {"text": text.tokens}
        return self.Out(Prediction(self.transformer, ovis_velocity, bound))


def as_chat(tokenizer: Tokenizer, text: str) -> str:
    """A prompt as the user's turn of a chat that asks for a description."""
    chat: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": DESCRIBE + text}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    return chat


def masked_states(net: TextEncoder, ids: Tensor, mask: Tensor) -> tuple[Tensor]:
    """Token ids and mask `b l` to hidden states `b l d`, zero where the mask is."""
    return (net(ids, mask).last_hidden_state * mask[..., None],)


def ovis_velocity(
    net: Transformer, latents: Tensor, timestep: Tensor, text: Tensor
) -> tuple[Tensor]:
    """latents b c h w, timestep b, text b l d to velocity b c h w."""
    rows, columns = latents.shape[-2:]
    tokens = pack(latents.to(net.dtype))
    along = torch.arange(text.shape[1], device=tokens.device, dtype=tokens.dtype)
    output = net(
        hidden_states=tokens,
        timestep=to_unit(timestep, latents),
        encoder_hidden_states=text.to(net.dtype),
        # Text runs along the diagonal: word i is at row i, column i.
        txt_ids=torch.stack([torch.zeros_like(along), along, along], dim=1),
        img_ids=positions(rows // 2, columns // 2, tokens),
        return_dict=False,
    )
    return (unpack(output[0], rows, columns),)
