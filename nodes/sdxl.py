"""Stable Diffusion XL: two CLIP encoders side by side, and a UNet with size conditioning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nodes.contracts import TextEncoder, Tokenizer, Transformer
from nodes.prediction import Prediction
from nodes.text import states_and_projection, tokenize
from nodes.truncation import Notes, text_truncation
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser
from runtime.contract.values import TextEmbeds
from runtime.errors import UserError


@dataclass(frozen=True, kw_only=True)
class EncodePrompt:
    """Encode a prompt with both CLIP encoders; their hidden states are concatenated in width.

    text       truncated at the tokenizers' length; no text is an empty one
    otherwise  replaces the embeds where there is no text and `zeros` is true
    embeds     tokens 1 l d, states before each encoder's last layer; pooled 1 d, of the second

    Source: arXiv:2307.01952, section 2.1; diffusers 0.42, `encode_prompt` of
    pipelines/stable_diffusion_xl/pipeline_stable_diffusion_xl.py.
    """

    text_encoder: Component[TextEncoder]
    text_encoder_2: Component[TextEncoder]
    tokenizer: Component[Tokenizer]
    tokenizer_2: Component[Tokenizer]

    class Out(NamedTuple):
        embeds: TextEmbeds

    @staticmethod
    def bypass(*, text: str | None, zeros: bool) -> str | None:
        """Zeros take the place of an encoded negative prompt where none is given."""
        return "otherwise" if zeros and text is None else None

    def run(
        self, *, text: str | None = None, otherwise: TextEmbeds | None = None, zeros: bool = True
    ) -> Asking[Out]:
        """Ask for one forward of each encoder."""
        if otherwise is not None and self.bypass(text=text, zeros=zeros):
            return self.Out(otherwise)
        first, second = (
            {"ids": tokenize(tokenizer, text or "", tokenizer.model_max_length).input_ids}
            for tokenizer in (self.tokenizer, self.tokenizer_2)
        )
        (narrow,), (wide, pooled) = yield [
            Call(self.text_encoder, states, first),
            Call(self.text_encoder_2, states_and_projection, second),
        ]
        # Where the dtypes of the encoders differ, the embeds have that of the second.
        tokens = torch.cat([narrow, wide], dim=-1).to(wide.dtype)
        return self.Out(TextEmbeds(tokens, pooled=pooled))

    def ignores(self, *, text: str | None) -> dict[str, str]:
        """With a text, `otherwise` is not needed."""
        reason = "it is for a request without a negative prompt"
        return {} if text is None else {"zeros": reason, "otherwise": reason}

    def notes(self, *, text: str | None) -> Notes:
        """A note on the words that each encoder truncates."""
        encoders = (self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2)
        return {
            "text": [
                note
                for tokenizer, encoder in encoders
                for note in text_truncation(
                    tokenizer, encoder, text or "", tokenizer.model_max_length
                )
            ]
        }

    def estimate(self) -> int:
        """Bytes of the hidden states, at most; the encoders' own working set is not known here."""
        configs = self.text_encoder.config, self.text_encoder_2.config
        width = sum(int(config.hidden_size) for config in configs)
        return 4 * int(configs[1].max_position_embeddings) * width


@dataclass(frozen=True, kw_only=True)
class ZeroEmbeds:
    """Make embeds of zeros, to which SDXL's training dropped its text.

    like    an encoded prompt
    embeds  zeros of its shapes and dtypes
    """

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, like: TextEmbeds) -> Out:
        pooled = None if like.pooled is None else torch.zeros_like(like.pooled)
        return self.Out(TextEmbeds(torch.zeros_like(like.tokens), like.mask, pooled))


@dataclass(frozen=True, kw_only=True)
class SDXLDenoiser:
    """Bind a prompt and the size conditioning to an SDXL UNet.

    text                   tokens 1 l d, pooled 1 d
    height, width          px
    original_size          height and width of the original picture; by default those of the result
    crops_coords_top_left  px cropped at the top and at the left; by default 0 0
    target_size            target height and width; by default those of the result
    denoiser               predicts what the scheduler expects, of `image`, b c h w

    Source: arXiv:2307.01952, section 2.2.
    """

    unet: Component[Transformer]

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(
        self,
        *,
        text: TextEmbeds,
        height: int,
        width: int,
        original_size: tuple[int, ...] | None = None,
        crops_coords_top_left: tuple[int, ...] | None = None,
        target_size: tuple[int, ...] | None = None,
    ) -> Out:
        """Bind; no weight is touched."""
        sizes = (
            *pair("original_size", original_size, (height, width)),
            *pair("crops_coords_top_left", crops_coords_top_left, (0, 0)),
            *pair("target_size", target_size, (height, width)),
        )
        bound = {
            "text": text.tokens,
            "pooled": text.pooled,
            # In the dtype of the text, as in the reference: in bfloat16 odd sizes are rounded.
            "sizes": torch.tensor([sizes], dtype=text.tokens.dtype),
        }
        return self.Out(Prediction(self.unet, predicted, bound))


def pair(name: str, value: tuple[int, ...] | None, own: tuple[int, int]) -> tuple[int, ...]:
    """Two numbers, or a UserError."""
    if value is not None and len(value) != 2:
        raise UserError(
            f"`request.{name}` expects two numbers, got {len(value)}",
            help=f"rows, then columns: {own[0]},{own[1]}", field=f"request.{name}",
        )  # fmt: skip
    return own if value is None else value


def states(net: TextEncoder, ids: Tensor) -> tuple[Tensor]:
    """Token ids `b l` to the hidden states before the last layer, `b l d`."""
    return (net(ids, output_hidden_states=True).hidden_states[-2],)


def predicted(
    net: Transformer,
    *,
    latents: Tensor,
    timestep: Tensor,
    text: Tensor,
    pooled: Tensor,
    sizes: Tensor,
) -> tuple[Tensor]:
    """latents b c h w, timestep b, text b l d, pooled b d, sizes b 6 to a prediction b c h w."""
    output = net(
        sample=latents.to(net.dtype),
        timestep=timestep,
        encoder_hidden_states=text.to(net.dtype),
        added_cond_kwargs={"text_embeds": pooled.to(net.dtype), "time_ids": sizes},
        return_dict=False,
    )
    return (output[0],)
