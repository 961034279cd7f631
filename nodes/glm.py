"""GLM-Image: a language model draws a coarse picture as tokens, and a transformer paints it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from nodes.contracts import VAE, Network, Scheduler, TextEncoder, Tokenizer, Transformer
from nodes.latents import image_size
from nodes.schedule import fresh, schedule_of
from runtime.asking import Asking, Call
from runtime.denoising import Denoiser, Parts, Schedule, Step
from runtime.ports import Component
from runtime.values import TextEmbeds

QUOTED = (r"'([^']*)'", r"“([^“”]*)”", r'"([^"]*)"', r"「([^「」]*)」")


class Processor(Protocol):
    """A processor of transformers: a chat to tokens, with grids of the pictures in it."""

    def apply_chat_template(self, chats: list[Any], **options: Any) -> Any: ...


@dataclass(frozen=True)
class Prior:
    """A picture as tokens of the language model. ids: one per token of the transformer."""

    ids: Annotated[Tensor, "b l"]


@dataclass(frozen=True, kw_only=True)
class DrawPrior:
    """Let the language model draw: a small picture first, then one of a token per 32 px.

    text           the prompt
    height, width  px
    seed           of the global generator, from which the model samples
    prior          the second picture, each token as 2×2

    Source: diffusers 0.42, pipelines/glm_image/pipeline_glm_image.py, as all of this file.
    """

    processor: Component[Processor]
    vision_language_encoder: Component[Network]

    class Out(NamedTuple):
        prior: Prior

    def run(self, *, text: str, height: int, width: int, seed: int) -> Asking[Out]:
        """Ask for one sequence of tokens."""
        chat = [{"role": "user", "content": [{"type": "text", "text": text}]}]
        inputs = self.processor.apply_chat_template(
            [chat],
            tokenize=True,
            padding=False,
            target_h=height,
            target_w=width,
            return_dict=True,
            return_tensors="pt",
        )
        large, small = (int(h) * int(w) for _, h, w in inputs["image_grid_thw"])
        batched = {
            "ids": inputs["input_ids"],
            "mask": inputs["attention_mask"],
            "grids": inputs["image_grid_thw"][None],
        }
        shared = {"seed": seed, "count": small + large + 1}
        ((tokens,),) = yield [Call(self.vision_language_encoder, drawn, batched, shared)]
        rows, columns = (int(side) for side in inputs["image_grid_thw"][0, 1:])
        grid = tokens[:, small : small + large].view(-1, rows, columns)
        return self.Out(Prior(grid.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1)))

    def estimate(self, *, height: int, width: int) -> int:
        """Bytes of the tokens."""
        return 8 * (height // 16) * (width // 16)


@dataclass(frozen=True, kw_only=True)
class EncodeGlyphs:
    """Encode the texts that a prompt quotes, to be written in the picture.

    text                 its quoted parts; none of them, or no text: an empty one
    max_sequence_length  tokens of each part
    embeds               tokens 1 l d: all parts, one after the other
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str = "", max_sequence_length: int = 2048) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        parts = [part for pattern in QUOTED for part in re.findall(pattern, text)] or [""]
        tokens = self.tokenizer(parts, max_length=max_sequence_length, truncation=True).input_ids
        pad = self.tokenizer.pad_token_id
        # The reference counts parts, not tokens: all begin with padding where their number is even.
        tokens = [[pad] * ((len(parts) + 1) % 2) + part for part in tokens]
        longest = max(map(len, tokens))
        ids = torch.tensor([part + [pad] * (longest - len(part)) for part in tokens])
        mask = torch.tensor([[1] * len(part) + [0] * (longest - len(part)) for part in tokens])
        batched = {"ids": ids[None], "mask": mask[None]}
        ((states,),) = yield [Call(self.text_encoder, glyph_states, batched)]
        return self.Out(TextEmbeds(states[0][mask.bool()][None]))


@dataclass(frozen=True, kw_only=True)
class SpaceTimesteps:
    """Space whole timesteps evenly, shifted by the root of the picture's number of tokens.

    steps          number of steps
    height, width  px
    """

    scheduler: Component[Scheduler]
    transformer: Component[Transformer]
    vae: Component[VAE]

    class Out(NamedTuple):
        schedule: Schedule

    def run(self, *, steps: int, height: int, width: int) -> Out:
        """Set the timesteps on a scheduler of our own; the component stays as it is."""
        patch, config = self.transformer.config.patch_size, self.scheduler.config
        rows, columns = image_size(self.vae.config, patch, height, width)
        root = (rows * columns // patch**2 / config.get("base_image_seq_len", 256)) ** 0.5
        mu = root * config.get("max_shift", 0.75) + config.get("base_shift", 0.25)
        train = config.num_train_timesteps
        timesteps = np.linspace(train, 1.0, steps + 1)[:-1].astype(np.int64).astype(np.float32)
        scheduler = fresh(self.scheduler)
        scheduler.set_timesteps(timesteps=timesteps, sigmas=timesteps / train, mu=mu)
        return self.Out(schedule_of(scheduler))


@dataclass(frozen=True, kw_only=True)
class GlmDenoiser:
    """Bind glyphs and a prior to a GLM-Image transformer.

    without_prior  the prior is blanked: what guidance leads away from
    text           tokens 1 l d
    height, width  px
    denoiser       predicts the velocity of `image`, b c h w, float32
    """

    transformer: Component[Transformer]
    without_prior: bool = False

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(self, *, text: TextEmbeds, prior: Prior, height: int, width: int) -> Out:
        """Bind; no weight is touched."""
        bound = {"text": text.tokens, "prior": prior.ids, "size": torch.tensor([[height, width]])}
        return self.Out(GlmPrediction(self.transformer, bound, self.without_prior))


@dataclass(frozen=True, eq=False)
class GlmPrediction:
    """The velocity that GLM-Image predicts. bound: `text` 1 l d, `prior` 1 l, `size` 1 2."""

    transformer: Transformer
    bound: Parts
    without_prior: bool

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for one forward; the network counts its timesteps from 0."""
        image = x["image"]
        batched = {**self.bound, "latents": image, "timestep": step.t.expand(len(image)) - 1}
        shared = {"without_prior": self.without_prior}
        ((velocity,),) = yield [Call(self.transformer, glm_velocity, batched, shared)]
        return {"image": velocity}

    def touches(self, step: Step) -> frozenset[str]:
        """The one transformer."""
        return frozenset([self.transformer.name])


def drawn(
    net: Any, *, ids: Tensor, mask: Tensor, grids: Tensor, seed: int, count: int
) -> tuple[Tensor]:
    """Token ids and mask `b l`, grids of the pictures to draw `b n 3` to `count` new ids `b m`.

    The model samples from the global generator, which is as before afterwards.
    """
    device = ids.device
    accelerators = [] if device.index is None else [device.index]
    with torch.random.fork_rng(accelerators, device_type=device.type):
        torch.manual_seed(seed)
        tokens = net.generate(
            input_ids=ids,
            attention_mask=mask,
            image_grid_thw=grids.flatten(0, 1),
            images_per_sample=torch.full_like(ids[:, 0], grids.shape[1]),
            max_new_tokens=count,
            do_sample=True,
        )
    return (tokens[:, ids.shape[1] :],)


def glyph_states(net: TextEncoder, ids: Tensor, mask: Tensor) -> tuple[Tensor]:
    """Token ids and mask `b n l` of n texts to hidden states `b n l d`."""
    states = net(ids.flatten(0, 1), attention_mask=mask.flatten(0, 1)).last_hidden_state
    return (states.unflatten(0, ids.shape[:2]).to(net.dtype),)


def glm_velocity(
    net: Transformer, *, latents: Tensor, timestep: Tensor, without_prior: bool, **bound: Tensor
) -> tuple[Tensor]:
    """latents b c h w, timestep b, text b l d, prior b l, size b 2 to velocity b c h w, float32."""
    size = bound["size"].to(net.dtype)
    output = net(
        hidden_states=latents.to(net.dtype),
        encoder_hidden_states=bound["text"].to(net.dtype),
        prior_token_id=bound["prior"],
        prior_token_drop=torch.full_like(bound["prior"], without_prior, dtype=torch.bool),
        timestep=timestep,
        target_size=size,
        crop_coords=torch.zeros_like(size),
        return_dict=False,
    )
    return (output[0].float(),)
