"""GLM-Image: quoted texts, timesteps, and the transformer that follows the prior's tokens.

Source: diffusers 0.42, pipelines/glm_image/pipeline_glm_image.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nodes.contracts import VAE, Scheduler, TextEncoder, Tokenizer, Transformer
from nodes.glm_prior import TOKEN, Prior
from nodes.latents import image_size
from nodes.prediction import Prediction
from nodes.schedule import TYPICAL_MU, make_schedule
from nodes.truncation import Notes, text_truncation
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser, Parts, Schedule, Step
from runtime.contract.values import Latents, TextEmbeds

QUOTED = (r"'([^']*)'", r"“([^“”]*)”", r'"([^"]*)"', r"「([^「」]*)」")


@dataclass(frozen=True, kw_only=True)
class EncodeGlyphs:
    """Encode the texts that a prompt quotes, to be written in the picture.

    text                 only its quoted parts are encoded; without any, an empty text
    max_sequence_length  tokens of each part
    embeds               tokens 1 l d: all parts, one after the other
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str = "", max_sequence_length: int = 2048) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        parts = quoted(text)
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

    def notes(self, *, text: str, max_sequence_length: int) -> Notes:
        """A note on the words of each quoted part that are truncated."""
        length, parts = max_sequence_length, quoted(text)
        notes = [text_truncation(self.tokenizer, self.text_encoder, part, length) for part in parts]
        return {"text": [note for each in notes for note in each]}


def quoted(text: str) -> list[str]:
    """The quoted parts of a prompt; a single empty one where there are none."""
    return [part for pattern in QUOTED for part in re.findall(pattern, text)] or [""]


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
        """Set the timesteps on a new scheduler, so that the component does not change."""
        patch, config = self.transformer.config.patch_size, self.scheduler.config
        rows, columns = image_size(self.vae.config, patch, height, width)
        root = (rows * columns // patch**2 / config.get("base_image_seq_len", 256)) ** 0.5
        mu = root * config.get("max_shift", 0.75) + config.get("base_shift", 0.25)
        return self.Out(make_schedule(self.scheduler, steps, partial(space_timesteps, mu=mu)))

    def verify(self, *, steps: int | None = None, **_: Any) -> None:
        """Refuse a scheduler that cannot make these steps; the size changes only the shift."""
        if steps is not None:
            make_schedule(self.scheduler, steps, partial(space_timesteps, mu=TYPICAL_MU))


def space_timesteps(scheduler: Any, steps: int, *, mu: float) -> None:
    """Set whole timesteps, evenly spaced from the last training timestep to 1."""
    train = scheduler.config.num_train_timesteps
    timesteps = np.linspace(train, 1.0, steps + 1)[:-1].astype(np.int64).astype(np.float32)
    scheduler.set_timesteps(timesteps=timesteps, sigmas=timesteps / train, mu=mu)


@dataclass(frozen=True, kw_only=True)
class GlmDenoiser:
    """Bind glyphs and a prior to a GLM-Image transformer.

    without_prior  blank the prior, for the unconditional prediction of guidance
    text           tokens 1 l d
    height, width  px
    shown          1 c h w of each reference picture: its tokens are attended to
    denoiser       predicts the velocity of `image`, b c h w, float32
    """

    transformer: Component[Transformer]
    without_prior: bool = False

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(
        self,
        *,
        text: TextEmbeds,
        prior: Prior,
        height: int,
        width: int,
        shown: Latents | None = None,
    ) -> Out:
        """Bind; no weight is touched."""
        bound = {"text": text.tokens, "prior": prior.ids, "size": torch.tensor([[height, width]])}
        shared = {"without_prior": self.without_prior}
        prediction = Prediction(self.transformer, glm_velocity, bound, shared=shared)
        if not (shown and shown.parts):
            return self.Out(prediction)
        pairs = tuple(zip(shown.parts.values(), prior.references, strict=True))
        return self.Out(CachedConditions(prediction, pairs))


@dataclass(frozen=True, eq=False)
class CachedConditions:
    """A prediction that attends to pictures, which are read once.

    shown  latents 1 c h w and prior 1 l of each picture
    """

    prediction: Prediction
    shown: tuple[tuple[Tensor, Tensor], ...]

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        """Ask for one forward of each picture at first, and for one of the prediction."""
        if self not in step.once:
            asks = [{"latents": latents, "prior": prior} for latents, prior in self.shown]
            caches = yield [Call(self.prediction.network, write_cache, ask) for ask in asks]
            keys, values = (torch.cat(parts, dim=2) for parts in zip(*caches, strict=True))
            more = {**self.prediction.bound, "keys": keys, "values": values}
            step.once[self] = replace(self.prediction, bound=more)
        bound: Prediction = step.once[self]
        return (yield from bound.predict(x, step))

    def touches(self, step: Step) -> frozenset[str]:
        """The one transformer."""
        return self.prediction.touches(step)


def glyph_states(net: TextEncoder, ids: Tensor, mask: Tensor) -> tuple[Tensor]:
    """Token ids and mask `b n l` of n texts to hidden states `b n l d`."""
    states = net(ids.flatten(0, 1), attention_mask=mask.flatten(0, 1)).last_hidden_state
    return (states.unflatten(0, ids.shape[:2]).to(net.dtype),)


def write_cache(net: Transformer, latents: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """Latents b c h w and prior b l of a picture to keys and values b layers l heads d."""
    scale = TOKEN // net.config.patch_size
    size = [[side * scale for side in latents.shape[-2:]]] * len(latents)
    cache = new_cache(net.config.num_layers, "write")
    net(
        hidden_states=latents.to(net.dtype),
        encoder_hidden_states=latents.new_zeros(
            len(latents), 0, net.config.text_embed_dim, dtype=net.dtype
        ),
        prior_token_id=prior,
        prior_token_drop=torch.zeros_like(prior, dtype=torch.bool),
        timestep=latents.new_zeros(len(latents), dtype=torch.float32),
        target_size=prior.new_tensor(size),
        crop_coords=torch.zeros_like(prior[:, :2]),
        kv_caches=cache,
    )
    keys = torch.stack([layer.k_caches[0] for layer in cache.caches], dim=1)
    return keys, torch.stack([layer.v_caches[0] for layer in cache.caches], dim=1)


def read_cache(keys: Tensor, values: Tensor) -> Any:
    """Keys and values `b layers l heads d` as the network reads them."""
    cache = new_cache(keys.shape[1], "read")
    for layer, k, v in zip(cache.caches, keys.unbind(1), values.unbind(1), strict=True):
        layer.k_caches, layer.v_caches = list(k.unsqueeze(1)), list(v.unsqueeze(1))  # per sample
    return cache


def new_cache(layers: int, mode: str) -> Any:
    """An empty cache of keys and values."""
    from diffusers.models.transformers.transformer_glm_image import GlmImageKVCache

    cache = GlmImageKVCache(layers)
    cache.set_mode(mode)
    return cache


def glm_velocity(
    net: Transformer, *, latents: Tensor, timestep: Tensor, without_prior: bool, **bound: Tensor
) -> tuple[Tensor]:
    """latents b c h w, timestep b, text b l d, prior b l, size b 2 to velocity b c h w, float32."""
    size = bound["size"].to(net.dtype)
    cache = read_cache(bound["keys"], bound["values"]) if "keys" in bound else None
    output = net(
        hidden_states=latents.to(net.dtype),
        encoder_hidden_states=bound["text"].to(net.dtype),
        prior_token_id=bound["prior"],
        prior_token_drop=torch.full_like(bound["prior"], without_prior, dtype=torch.bool),
        timestep=timestep - 1,  # the network counts from 0
        target_size=size,
        crop_coords=torch.zeros_like(size),
        kv_caches=cache,
        return_dict=False,
    )
    return (output[0].float(),)
