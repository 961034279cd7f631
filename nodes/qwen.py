"""Qwen-Image: prompts read by a vision-language model, pictures as packed tokens of one sequence.

Source: Qwen-Image report, arXiv:2508.02324; diffusers 0.42, pipelines/qwenimage/.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from nodes.contracts import VAE, TextEncoder, Tokenizer, Transformer
from nodes.finite import decode
from nodes.guidance import Guided, classifier_free
from nodes.latents import pack, unpack
from nodes.prediction import Prediction, to_unit
from nodes.truncation import Notes, token_truncation
from nodes.vae import decode_video
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser, Step
from runtime.contract.values import Image, Latents, TextEmbeds

DESCRIBE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity,"
    " text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
DESCRIBE_TOKENS = 34  # of the template before the prompt: their hidden states are dropped
MOST_TOKENS = 1024  # of prompt and template's end that the encoder reads


@dataclass(frozen=True, kw_only=True)
class EncodePrompt:
    """Encode a prompt in a chat that asks for the description of a picture.

    text                 truncated with the template's end after 1024 tokens
    max_sequence_length  largest l: later hidden states are dropped
    embeds               tokens 1 l d, as long as the prompt; no padding, so no mask
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str, max_sequence_length: int = 512) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        tokens = self.tokenizer(
            [DESCRIBE.format(text)],
            max_length=MOST_TOKENS + DESCRIBE_TOKENS,
            truncation=True,
            return_tensors="pt",
        )
        batched = {"ids": tokens.input_ids}
        ((states,),) = yield [Call(self.text_encoder, last_states, batched)]
        return self.Out(TextEmbeds(states[:, DESCRIBE_TOKENS:][:, :max_sequence_length]))

    def notes(self, *, text: str, max_sequence_length: int) -> Notes:
        """A note on the words whose hidden states are dropped."""

        def ids(text: str) -> list[int]:
            found = self.tokenizer([DESCRIBE.format(text)], verbose=False).input_ids[0]
            return [int(token) for token in found]

        read = ids(text)[: min(MOST_TOKENS, max_sequence_length) + DESCRIBE_TOKENS]
        return {
            "text": token_truncation(self.tokenizer, self.text_encoder, ids(text), read, ids(""))
        }

    def estimate(self, *, max_sequence_length: int) -> int:
        """Bytes of the hidden states, at most; the encoder's own working set is not known here."""
        return 4 * max_sequence_length * text_width(self.text_encoder.config)


@dataclass(frozen=True, kw_only=True)
class QwenDenoiser:
    """Bind a prompt to a Qwen-Image transformer.

    text        tokens 1 l d
    references  reference pictures, each 1 c h w, in order
    denoiser    predicts the velocity of `image`, b c h w with even h and w, or b n c h w: n
                pictures of one sequence
    """

    transformer: Component[Transformer]

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(self, *, text: TextEmbeds, references: Latents | None = None) -> Out:
        """Bind; no weight is touched."""
        pictures = references.parts.values() if references else ()
        bound = {"text": text.tokens, **{f"reference_{i}": x for i, x in enumerate(pictures)}}
        return self.Out(Prediction(self.transformer, predict_velocity, bound))


@dataclass(frozen=True, kw_only=True)
class NormPreservingGuidance:
    """Classifier-free guidance that rescales each token to the norm of its `cond` prediction.

    scale       1 is `cond` alone
    true_scale  its other name in diffusers; replaces `scale` where given
    negative    the negative prompt of `uncond`; without one guidance is off at any scale
    keep        whether norms are kept; if not, this is plain classifier-free guidance
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, scale: float, true_scale: float | None, negative: str | None) -> str | None:
        """Classifier-free guidance is on with a negative prompt and a scale above 1 only."""
        used = scale if true_scale is None else true_scale
        return "cond" if used <= 1 or negative is None else None

    def ignores(self, *, true_scale: float | None) -> dict[str, str]:
        """Report the scale that the other name replaces."""
        reason = "`request.true_cfg_scale` takes its place"
        return {} if true_scale is None else {"scale": reason}

    def run(
        self,
        *,
        cond: Denoiser,
        uncond: Denoiser,
        scale: float,
        true_scale: float | None = None,
        negative: str | None = None,
        keep: bool = True,
    ) -> Out:
        """Bind the two predictions."""
        used = scale if true_scale is None else true_scale
        return self.Out(
            Guided(cond, uncond, partial(as_long if keep else classifier_free, scale=used))
        )


@dataclass(frozen=True, kw_only=True)
class DecodePicture:
    """Decode normalised latents to a picture with a video VAE: a picture is a clip of one frame.

    latents  `image`: 1 c h w, zero mean and unit variance per channel
    image    8h 8w 3, uint8 (factor as the VAE's config states it)
    """

    vae: Component[VAE]
    sized: ClassVar[tuple[str, ...]] = ("latents",)

    class Out(NamedTuple):
        image: Image

    def run(self, *, latents: Latents) -> Asking[Out]:
        """Ask for one decoding."""
        batched = {"latents": latents.parts["image"].unsqueeze(2)}
        frames = yield from decode(self.vae, decode_video, batched)
        return self.Out(Image(frames[0, 0]))


def text_width(config: Any) -> int:
    """Width of the hidden states: at the top of older configs, in `text_config` of newer ones."""
    return int((config if "hidden_size" in config else config["text_config"])["hidden_size"])


def as_long(cond: Tensor, uncond: Tensor, step: Step, *, scale: float) -> Tensor:
    """Guide b (n) c h w; each token keeps the norm, over its channels, of `cond`."""
    velocity = classifier_free(cond, uncond, step, scale=scale)
    tokens, lengths = (pack(x.flatten(0, -4)) for x in (velocity, cond))
    rescaled = tokens * (lengths.norm(dim=-1, keepdim=True) / tokens.norm(dim=-1, keepdim=True))
    return unpack(rescaled, *velocity.shape[-2:]).reshape(velocity.shape)


def last_states(net: Any, ids: Tensor) -> tuple[Tensor]:
    """Token ids `b l` to the last hidden states `b l d`."""
    return (net.model(input_ids=ids, use_cache=False).last_hidden_state.to(net.dtype),)


def predict_velocity(
    net: Transformer, latents: Tensor, timestep: Tensor, text: Tensor, **references: Tensor
) -> tuple[Tensor]:
    """latents b (n) c h w, timestep b, text b l d, references b c h w each, to the velocity."""
    drawn = latents.unbind(1) if latents.ndim == 5 else (latents,)
    pictures = [*drawn, *references.values()]
    shapes = [(1, p.shape[-2] // 2, p.shape[-1] // 2) for p in pictures]
    layered = (
        net.config.use_additional_t_cond
    )  # the network asks whether the picture is no layer: it always is one
    output = net(
        hidden_states=torch.cat([pack(p.to(net.dtype)) for p in pictures], dim=1),
        timestep=to_unit(timestep, latents),
        encoder_hidden_states=text.to(net.dtype),
        img_shapes=[shapes] * len(latents),
        additional_t_cond=torch.zeros_like(timestep, dtype=torch.long) if layered else None,
        return_dict=False,
    )
    rows, columns = latents.shape[-2:]
    tokens = output[0][:, : len(drawn) * rows * columns // 4].unflatten(1, (len(drawn), -1))
    return (unpack(tokens.flatten(0, 1), rows, columns).reshape(latents.shape),)
