"""Attention that trains on one row of text padding in the place of hundreds."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class PaddedTextAttention:
    """Processor of Wan's attention layers for training.

    Wan pads its text with rows of zeros to 512 and does not mask them. Equal keys weigh together as
    one key whose score is raised by the logarithm of their number, so training carries one row of
    padding and that `bias`, `b 1 1 l`: equal to the reference, and 20 times cheaper.
    """

    def __init__(self) -> None:
        self.bias: Tensor | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Attend from `b l d` to itself (with rotary positions) or to the text `b l d`."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        bias = None if encoder_hidden_states is None else self.bias
        query, key = attn.to_q(hidden_states), attn.to_k(context)
        query = _normalise(query, attn.norm_q)
        key = _normalise(key, attn.norm_k)
        query, key, value = (
            tensor.unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for tensor in (query, key, attn.to_v(context))
        )
        if rotary_emb is not None:
            query, key = _rotate(query, rotary_emb), _rotate(key, rotary_emb)
        out: Tensor = attn.to_out[0](_attend(query, key, value, bias).transpose(1, 2).flatten(2))
        return out


def encode_text(
    encoder: Any, tokens: Tensor, padded_to: Tensor, device: str
) -> tuple[Tensor, Tensor]:
    """Encode tokens `b l`, zeros for padding, for `PaddedTextAttention`.

    padded_to   b          rows that each text is padded to at inference
    context     b l' d     with one row of zeros after each text
    bias        b 1 1 l'   log of the number of rows of zeros it stands for
    """
    lengths = (tokens > 0).sum(1)
    longest = int(lengths.max()) + 1
    tokens, lengths = tokens[:, :longest].to(device), lengths.to(device)
    mask = torch.arange(longest, device=device)[None] < lengths[:, None]
    encoded = encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
    bias = torch.full((len(tokens), longest), -1e4, device=device)
    bias[mask] = 0.0
    padding = (padded_to.to(device) - lengths).clamp(min=1).float()
    bias[torch.arange(len(tokens), device=device), lengths] = torch.log(padding)
    return encoded * mask[..., None], bias[:, None, None, :]


def _normalise(x: Tensor, norm: Any) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], norm.weight.to(x.dtype), norm.eps)


def _rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turn pairs of `b n l d` by their positions' angles; diffusers repeats each of them."""
    cos = rotary[0].transpose(1, 2)[..., 0::2].to(x.dtype)
    sin = rotary[1].transpose(1, 2)[..., 1::2].to(x.dtype)
    first, second = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((first * cos - second * sin, first * sin + second * cos), -1)
    return turned.flatten(-2)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Softmax attention of `b n l d`."""
    if query.device.type != "cpu":
        mask = None if bias is None else bias.to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # the CPU flash kernel's backward is 10 times slower than plain products at these sizes
    scores = ((query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)).float()
    weights = torch.softmax(scores if bias is None else scores + bias, -1)
    return weights.to(value.dtype) @ value
