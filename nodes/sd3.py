"""Stable Diffusion 3 and 3.5: three text encoders, one transformer, skip-layer guidance (SLG).

Source of all here: arXiv:2403.03206; diffusers 0.42,
pipelines/stable_diffusion_3/pipeline_stable_diffusion_3.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from nodes.contracts import TextEncoder, Tokenizer, Transformer
from nodes.prediction import Prediction
from nodes.text import states_and_projection, states_of, tokenize
from nodes.truncation import Notes, text_truncation
from runtime.contract.calls import Asking, Call, gather
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser, Parts, Step
from runtime.contract.values import TextEmbeds
from runtime.errors import UserError


@dataclass(frozen=True, kw_only=True)
class EncodePrompt:
    """Encode a prompt with two CLIP encoders and, if the checkpoint has it, T5.

    text                 truncated at each tokenizer's length, for T5 at `max_sequence_length`
    max_sequence_length  tokens of T5; zeros take their place where the checkpoint has no T5
    embeds               tokens 1 l d, zero where an encoder is narrower; pooled 1 d, of both CLIPs
    """

    text_encoder: Component[TextEncoder]
    text_encoder_2: Component[TextEncoder]
    text_encoder_3: Component[TextEncoder] | None = None
    tokenizer: Component[Tokenizer]
    tokenizer_2: Component[Tokenizer]
    tokenizer_3: Component[Tokenizer] | None = None

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str = "", max_sequence_length: int = 256) -> Asking[Out]:
        """Ask for one forward of each encoder."""
        most = self.tokenizer.model_max_length
        first, second = (
            {"ids": tokenize(tokenizer, text, most).input_ids}
            for tokenizer in (self.tokenizer, self.tokenizer_2)
        )
        calls = [
            Call(self.text_encoder, states_and_projection, first),
            Call(self.text_encoder_2, states_and_projection, second),
        ]
        if self.text_encoder_3 is not None and self.tokenizer_3 is not None:
            third = {"ids": tokenize(self.tokenizer_3, text, max_sequence_length).input_ids}
            calls.append(Call(self.text_encoder_3, states_of, third))
        (states, pooled), (states_2, pooled_2), *others = yield calls
        clips = torch.cat([states, states_2], dim=-1)
        t5 = others[0][0] if others else clips.new_zeros(1, max_sequence_length, clips.shape[-1])
        tokens = torch.cat([widened(x, t5.shape[-1]) for x in (clips, t5)], dim=1)
        return self.Out(TextEmbeds(tokens, pooled=torch.cat([pooled, pooled_2], dim=-1)))

    def notes(self, *, text: str, max_sequence_length: int) -> Notes:
        """The words that each encoder does not read."""
        most = self.tokenizer.model_max_length
        notes = text_truncation(self.tokenizer, self.text_encoder, text, most)
        notes += text_truncation(self.tokenizer_2, self.text_encoder_2, text, most)
        if self.tokenizer_3 is not None and self.text_encoder_3 is not None:
            notes += text_truncation(
                self.tokenizer_3, self.text_encoder_3, text, max_sequence_length
            )
        return {"text": notes}

    def estimate(self, *, max_sequence_length: int) -> int:
        """Bytes of the hidden states, at most; the encoders' own working set is not known here."""
        clip, t5 = self.text_encoder.config, self.text_encoder_3
        width = (
            t5.config.d_model if t5 else clip.hidden_size + self.text_encoder_2.config.hidden_size
        )
        return 4 * (int(clip.max_position_embeddings) + max_sequence_length) * int(width)


@dataclass(frozen=True, kw_only=True)
class SD3Denoiser:
    """Bind a prompt to a Stable Diffusion 3 transformer.

    text         tokens 1 l d, pooled 1 d
    skip_layers  numbers of the blocks that are left out
    denoiser     predicts the velocity of `image`, b c h w
    """

    transformer: Component[Transformer]

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(self, *, text: TextEmbeds, skip_layers: tuple[int, ...] = ()) -> Out:
        """Bind; no weight is touched."""
        last = self.transformer.config.num_layers - 1
        wrong = next((layer for layer in skip_layers if layer > last), None)
        if wrong is not None:
            raise UserError(
                f"`request.skip_guidance_layers` expects 0 to {last} for this checkpoint, got"
                f" {wrong}",
                help=f"its transformer has {last + 1} layers, counted from 0",
                field="request.skip_guidance_layers",
            )
        bound = {"text": text.tokens, "pooled": text.pooled}
        shared = {"skip_layers": skip_layers}
        return self.Out(Prediction(self.transformer, sd3_velocity, bound, shared=shared))


@dataclass(frozen=True, kw_only=True)
class SkipLayerGuidance:
    """Classifier-free guidance, with skip-layer guidance (SLG) in early steps.

    skipped           the prediction of `cond` with `layers` left out; unused where none is listed
    scale             1 or less: `cond` alone
    skip_layer_scale  strength of cond - skipped
    start, stop       fractions of the steps between which SLG is added
    """

    class Out(NamedTuple):
        denoiser: Denoiser

    @staticmethod
    def bypass(*, scale: float) -> str | None:
        """Guidance is off at a scale of 1 or less."""
        return "cond" if scale <= 1 else None

    def ignores(self, *, layers: tuple[int, ...]) -> dict[str, str]:
        """Without layers to skip there is no skip-layer guidance."""
        reason = "skip-layer guidance (SLG) is off without `request.skip_guidance_layers`"
        ports = ("skipped", "skip_layer_scale", "start", "stop")
        return {} if layers else dict.fromkeys(ports, reason)

    def run(
        self,
        *,
        cond: Denoiser,
        uncond: Denoiser,
        skipped: Denoiser,
        scale: float,
        layers: tuple[int, ...] = (),
        skip_layer_scale: float = 2.8,
        start: float = 0.01,
        stop: float = 0.2,
    ) -> Out:
        """Bind the three predictions."""
        interval = (start, stop) if layers else (0.0, 0.0)
        return self.Out(SkipLayerDenoiser(cond, uncond, skipped, scale, skip_layer_scale, interval))


@dataclass(frozen=True, eq=False)
class SkipLayerDenoiser:
    """uncond + scale (cond - uncond), plus skip_layer_scale (cond - skipped) in an interval."""

    cond: Denoiser
    uncond: Denoiser
    skipped: Denoiser
    scale: float
    skip_layer_scale: float
    interval: tuple[float, float]

    def asked(self, step: Step) -> dict[str, Denoiser]:
        """The predictions that this step needs; SLG excludes both ends of its interval."""
        start, stop = (step.count * part for part in self.interval)
        skipped = {"skipped": self.skipped} if start < step.index < stop else {}
        return {"cond": self.cond, "uncond": self.uncond, **skipped}

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for all predictions at once; the executor may batch or split them."""
        cond, uncond, *skipped = yield from gather(
            *(each.predict(x, step.at(place)) for place, each in self.asked(step).items())
        )
        guided = {k: uncond[k] + self.scale * (cond[k] - uncond[k]) for k in cond}
        for left in skipped:
            guided = {k: guided[k] + (cond[k] - left[k]) * self.skip_layer_scale for k in cond}
        return guided

    def touches(self, step: Step) -> frozenset[str]:
        """The networks of the predictions that this step needs."""
        return frozenset().union(*(each.touches(step) for each in self.asked(step).values()))


def sd3_velocity(
    net: Transformer,
    *,
    latents: Tensor,
    timestep: Tensor,
    text: Tensor,
    pooled: Tensor,
    skip_layers: tuple[int, ...] = (),
) -> tuple[Tensor]:
    """latents b c h w, timestep b, text b l d, pooled b d to velocity b c h w."""
    output = net(
        hidden_states=latents.to(net.dtype),
        timestep=timestep,
        # The width is that of T5, even where the checkpoint has no T5.
        encoder_hidden_states=widened(text, net.config.joint_attention_dim).to(net.dtype),
        pooled_projections=pooled.to(net.dtype),
        skip_layers=skip_layers,
        return_dict=False,
    )
    return (output[0],)


def widened(tokens: Tensor, width: int) -> Tensor:
    """Tokens `b l d` with zeros after them, up to d = width."""
    return pad(tokens, (0, width - tokens.shape[-1]))
