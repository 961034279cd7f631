"""HunyuanVideo: a language model reads the prompt in a template; guidance is an input.

Source of all here: arXiv:2412.03603; diffusers 0.42,
pipelines/hunyuan_video/pipeline_hunyuan_video.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nodes.contracts import Scheduler, TextEncoder, Tokenizer, Transformer
from nodes.flux import NOT_EMBEDDED
from nodes.prediction import Prediction
from nodes.schedule import make_schedule, shift_name
from nodes.text import tokenize
from nodes.truncation import Notes, token_truncation
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser, Schedule
from runtime.contract.values import TextEmbeds

DESCRIBE = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following"
    " aspects: 1. The main content and theme of the video.2. The color, shape, size, texture,"
    " quantity, text, and spatial relationships of the objects.3. Actions, events, behaviors"
    " temporal relationships, physical movement changes of the objects.4. background environment,"
    " light, style and atmosphere.5. camera angles, movements, and transitions used in the video:"
    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
)
DESCRIBE_TOKENS = 95  # of the template before the prompt: their hidden states are dropped


@dataclass(frozen=True, kw_only=True)
class EncodeLlama:
    """Encode a prompt as the description of a video: hidden states two layers before the last.

    text                 truncated with the template's end after `max_sequence_length` tokens
    max_sequence_length  l, tokens
    embeds               tokens 1 l d, mask 1 l
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str = "", max_sequence_length: int = 256) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        length = max_sequence_length + DESCRIBE_TOKENS
        tokens = tokenize(self.tokenizer, DESCRIBE.format(text), length)
        batched = {"ids": tokens.input_ids, "mask": tokens.attention_mask}
        ((states,),) = yield [Call(self.text_encoder, third_last_states, batched)]
        mask = tokens.attention_mask[:, DESCRIBE_TOKENS:].bool()
        return self.Out(TextEmbeds(states[:, DESCRIBE_TOKENS:], mask))

    def notes(self, *, text: str, max_sequence_length: int) -> Notes:
        """A note on the words that are truncated."""

        def ids(text: str) -> list[int]:
            found = self.tokenizer([DESCRIBE.format(text)], verbose=False).input_ids[0]
            return [int(token) for token in found]

        read = ids(text)[: max_sequence_length + DESCRIBE_TOKENS]
        return {
            "text": token_truncation(self.tokenizer, self.text_encoder, ids(text), read, ids(""))
        }

    def estimate(self, *, max_sequence_length: int) -> int:
        """Bytes of the hidden states, at most; the encoder's own working set is not known here."""
        return 4 * max_sequence_length * int(self.text_encoder.config.hidden_size)


@dataclass(frozen=True, kw_only=True)
class HunyuanDenoiser:
    """Bind a prompt and an embedded guidance to a HunyuanVideo transformer.

    text      tokens 1 l d, mask 1 l, of the language model
    pooled    pooled 1 d, of CLIP
    guidance  embedded in a checkpoint that was distilled with guidance; else no effect
    instead   another name of the same value; replaces `guidance` where given
    denoiser  predicts the velocity of `video`, b c t h w, in the transformer's dtype
    """

    transformer: Component[Transformer]

    class Out(NamedTuple):
        denoiser: Denoiser

    def ignores(self, *, instead: float | None) -> dict[str, str]:
        """Report inputs without effect: a replaced one, or both for an undistilled checkpoint."""
        if not self.transformer.config.guidance_embeds:
            return dict.fromkeys(("guidance", "instead"), NOT_EMBEDDED)
        reason = "`request.embedded_cfg_scale` takes its place"
        return {} if instead is None else {"guidance": reason}

    def run(
        self,
        *,
        text: TextEmbeds,
        pooled: TextEmbeds,
        guidance: float = 6.0,
        instead: float | None = None,
    ) -> Out:
        """Bind; no weight is touched."""
        embedded = guidance if instead is None else instead
        bound = {
            "text": text.tokens,
            "mask": text.mask,
            "pooled": pooled.pooled,
            "guidance": torch.full([1], embedded, dtype=torch.float32),
        }
        return self.Out(Prediction(self.transformer, predict_velocity, bound, "video"))


@dataclass(frozen=True, kw_only=True)
class EvenSchedule:
    """Space sigmas evenly from 1 down to 1 / steps; the scheduler shifts them.

    steps  number of steps
    shift  replaces the checkpoint's flow shift: larger spends more steps on noisy timesteps
    """

    scheduler: Component[Scheduler]

    class Out(NamedTuple):
        schedule: Schedule

    def run(self, *, steps: int, shift: float | None = None) -> Out:
        """Set the timesteps on a new scheduler, so that the component does not change."""
        changes = {} if shift is None else {shift_name(self.scheduler.config): shift}
        return self.Out(make_schedule(self.scheduler, steps, space_evenly, changes=changes))

    def verify(self, *, steps: int, shift: float | None) -> None:
        """Refuse a scheduler that cannot make these steps."""
        self.run(steps=steps, shift=shift)


def space_evenly(scheduler: Any, steps: int) -> None:
    """Set the timesteps of even sigmas from 1 to 1 / steps."""
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1])


def third_last_states(net: TextEncoder, ids: Tensor, mask: Tensor) -> tuple[Tensor]:
    """Token ids and mask `b l` to hidden states `b l d` two layers before the last."""
    output = net(ids, mask, output_hidden_states=True, use_cache=False)
    return (output.hidden_states[-3].to(net.dtype),)


def predict_velocity(
    net: Transformer,
    *,
    latents: Tensor,
    timestep: Tensor,
    text: Tensor,
    mask: Tensor,
    pooled: Tensor,
    guidance: Tensor,
) -> tuple[Tensor]:
    """latents b c t h w, timestep b, text b l d, mask b l, pooled b d, guidance b to b c t h w."""
    output = net(
        hidden_states=latents.to(net.dtype),
        timestep=timestep.to(latents.dtype),
        encoder_hidden_states=text.to(net.dtype),
        encoder_attention_mask=mask.to(net.dtype),
        pooled_projections=pooled.to(net.dtype),
        guidance=guidance.to(net.dtype) * 1000.0,
        return_dict=False,
    )
    return (output[0],)
