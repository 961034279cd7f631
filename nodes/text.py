"""Prompts to hidden states."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nodes.contracts import TextEncoder, Tokenizer
from nodes.truncation import Notes, text_truncation
from runtime.checkpoint.vocabulary import UNLIMITED, unlimited_length
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.values import TextEmbeds


@dataclass(frozen=True, kw_only=True)
class EncodeUMT5:
    """Encode a prompt as Wan reads it: cleaned, padded, and zero past its last token.

    text                 cut after `max_sequence_length` tokens
    max_sequence_length  l, tokens
    embeds               tokens 1 l d; no mask: the transformer attends to the zeros

    Source: diffusers 0.42, pipelines/wan/pipeline_wan.py.
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str, max_sequence_length: int = 512) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        tokens = tokenize(self.tokenizer, clean(text), max_sequence_length)
        batched = {"ids": tokens.input_ids, "mask": tokens.attention_mask}
        ((states,),) = yield [Call(self.text_encoder, masked_states, batched)]
        return self.Out(TextEmbeds(states))

    def notes(self, *, text: str, max_sequence_length: int) -> Notes:
        """A note on the words that are truncated."""
        return {
            "text": text_truncation(
                self.tokenizer, self.text_encoder, clean(text), max_sequence_length
            )
        }

    def estimate(self, *, max_sequence_length: int) -> int:
        """Bytes of the hidden states, at most; the encoder's own working set is not known here."""
        return 4 * max_sequence_length * int(self.text_encoder.config.d_model)


@dataclass(frozen=True, kw_only=True)
class EncodeT5:
    """Encode a prompt with T5, which attends to the padding as well.

    masked               the embeds have a mask of the text tokens, for a transformer that takes one
    text                 truncated after `max_sequence_length` tokens; no text is an empty one
    max_sequence_length  l, tokens
    embeds               tokens 1 l d, mask 1 l where `masked`

    Source: diffusers 0.42, pipelines/flux/pipeline_flux.py and pipelines/ltx/pipeline_ltx.py.
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]
    masked: bool = False

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str = "", max_sequence_length: int = 512) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        tokens = tokenize(self.tokenizer, text, max_sequence_length)
        ((states,),) = yield [Call(self.text_encoder, states_of, {"ids": tokens.input_ids})]
        mask = tokens.attention_mask.bool() if self.masked else None
        return self.Out(TextEmbeds(states, mask))

    def notes(self, *, text: str, max_sequence_length: int) -> Notes:
        """A note on the words that are truncated."""
        return {
            "text": text_truncation(self.tokenizer, self.text_encoder, text, max_sequence_length)
        }

    def estimate(self, *, max_sequence_length: int) -> int:
        """Bytes of the hidden states, at most; the encoder's own working set is not known here."""
        return 4 * max_sequence_length * int(self.text_encoder.config.d_model)


@dataclass(frozen=True, kw_only=True)
class EncodeCLIP:
    """Encode a prompt with CLIP, whose tokenizer states the length.

    text    truncated to that length; no text is an empty one
    embeds  tokens 1 l d, pooled 1 d

    Source: diffusers 0.42, pipelines/flux/pipeline_flux.py.
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str = "") -> Asking[Out]:
        """Ask for one forward of the encoder."""
        tokens = tokenize(self.tokenizer, text, self.tokenizer.model_max_length)
        batched = {"ids": tokens.input_ids}
        ((states, pooled),) = yield [Call(self.text_encoder, states_and_pooled, batched)]
        return self.Out(TextEmbeds(states, pooled=pooled))

    def notes(self, *, text: str) -> Notes:
        """A note on the words that are truncated."""
        length = self.tokenizer.model_max_length
        return {"text": text_truncation(self.tokenizer, self.text_encoder, text, length)}

    def estimate(self) -> int:
        """Bytes of the hidden states, at most; the encoder's own working set is not known here."""
        config = self.text_encoder.config
        return 4 * int(config.max_position_embeddings) * int(config.hidden_size)


def masked_states(net: TextEncoder, ids: Tensor, mask: Tensor) -> tuple[Tensor]:
    """Token ids and mask `b l` to hidden states `b l d`, zero past the mask's number of tokens."""
    states = net(ids, mask).last_hidden_state.to(net.dtype)
    position = torch.arange(ids.shape[1], device=ids.device)
    beyond = position >= mask.gt(0).sum(dim=1, keepdim=True)
    return (states.masked_fill(beyond.unsqueeze(-1), 0),)


def states_of(net: TextEncoder, ids: Tensor) -> tuple[Tensor]:
    """Token ids `b l` to hidden states `b l d`."""
    return (net(ids).last_hidden_state.to(net.dtype),)


def states_and_pooled(net: TextEncoder, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids `b l` to hidden states `b l d` and the pooled vector `b d`."""
    output = net(ids)
    return output.last_hidden_state.to(net.dtype), output.pooler_output.to(net.dtype)


def states_and_projection(net: TextEncoder, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids `b l` to hidden states `b l d` before the last layer, and a projection `b d`."""
    output = net(ids, output_hidden_states=True)
    return output.hidden_states[-2].to(net.dtype), output.text_embeds


def tokenize(tokenizer: Tokenizer, text: str, length: int, **options: Any) -> Any:
    """One prompt to `input_ids` and `attention_mask`, 1 l, padded and cut to `length` tokens."""
    if length >= UNLIMITED:
        raise unlimited_length(tokenizer)
    return tokenizer(
        [text],
        padding="max_length",
        max_length=length,
        truncation=True,
        return_attention_mask=True,
        return_tensors="pt",
        **options,
    )


def clean(text: str) -> str:
    """Wan's own cleaning: mend broken Unicode, unescape HTML twice, collapse white space."""
    text = html.unescape(html.unescape(mend(text)))
    return re.sub(r"\s+", " ", text.strip()).strip()


def mend(text: str) -> str:
    """Fix mojibake where ftfy is installed: without it diffusers leaves the text alone as well."""
    fix = mender()
    return text if fix is None else str(fix(text))


@cache
def mender() -> Any:
    """ftfy's `fix_text`, or none where it is not installed."""
    try:
        import ftfy  # type: ignore[import-not-found]  # optional, and untyped
    except ImportError:
        return None
    return ftfy.fix_text
