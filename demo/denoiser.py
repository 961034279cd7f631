"""Train text encoder and transformer together, on latents: pictures, then clips, then both."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import UMT5EncoderModel

from demo.attention import PaddedTextAttention, encode_text
from demo.captions import caption, missing_caption
from demo.latents import Encoded, load_latents
from demo.models import make_text_encoder, make_transformer
from demo.muon import Muon
from demo.text import build_tokenizer, tokenize
from demo.training import Loop, Run, Schedule

STAGES = ("dit", "clips", "mixed")  # each begins with the weights of the one before
FLOW_SHIFT = 2.0  # of the noise levels, in training as in the exported scheduler
MISSING = 0.1  # share of steps' samples without a caption
PADDED_TO = 512  # tokens, by WanPipeline


@dataclass(frozen=True)
class DenoiserSettings:
    """Limits, batch, rate and data of one of the three stages.

    decay        share of the run over which the rate falls to zero
    average      decay of the averaged weights
    video_share  share of the steps that see clips
    pool         captions drawn beforehand per sample; 0 draws anew each time (slow beside a GPU)
    """

    steps: int = 3198
    minutes: float = 0.0
    batch: int = 160
    learning_rate: float = 2e-3
    decay: float = 0.35
    average: float = 0.998
    video_share: float = 0.0
    pool: int = 0


@dataclass
class Captions:
    """Captions of scenes as tokens, drawn anew or from a pool."""

    tokenizer: Tokenizer
    pool: int
    pools: dict[str, Tensor] = field(default_factory=dict)

    def draw(
        self, kind: str, data: Encoded, chosen: Sequence[int], rng: np.random.Generator
    ) -> Tensor:
        """Tokens `b l` of the chosen scenes; one in ten stands for no caption."""
        chooser = random.Random(int(rng.integers(2**62)))
        if not self.pool:
            captions = [
                missing_caption(chooser)
                if chooser.random() < MISSING
                else caption(data.scenes[index], chooser)
                for index in chosen
            ]
            return tokenize(self.tokenizer, captions)
        if kind not in self.pools:
            everything = random.Random(kind)
            captions = [caption(s, everything) for s in data.scenes for _ in range(self.pool)]
            tokens = tokenize(self.tokenizer, captions)
            self.pools[kind] = tokens.view(-1, self.pool, tokens.shape[1])
        tokens = self.pools[kind][torch.tensor(chosen), torch.randint(self.pool, (len(chosen),))]
        missing = [missing_caption(chooser) for _ in range(int(MISSING * len(chosen)))]
        if missing:
            tokens[: len(missing)] = tokenize(self.tokenizer, missing)
        return tokens


def train_denoiser(stage: str, run: Run, settings: DenoiserSettings) -> None:
    """Train one of STAGES by flow matching."""
    torch.manual_seed(run.seed)
    captions = Captions(build_tokenizer(), settings.pool)
    encoder = make_text_encoder(captions.tokenizer.get_vocab_size()).to(run.device)
    transformer = make_transformer().to(run.device)
    attention = PaddedTextAttention()
    _begin(stage, run, encoder, transformer, attention)
    data = {"pictures": load_latents(run, "pictures")} if settings.video_share < 1 else {}
    if settings.video_share:
        data["clips"] = load_latents(run, "clips")
    optimisers = _optimisers(encoder, transformer, settings.learning_rate, run.product_dtype)
    schedule = Schedule(
        settings.steps, settings.minutes, settings.learning_rate, decay=settings.decay
    )
    modules = {"text_encoder": encoder, "transformer": transformer}
    loop = Loop(stage, run, modules, optimisers, schedule, average=settings.average)
    for rng in loop:
        kind = "clips" if rng.random() < settings.video_share else "pictures"
        chosen = rng.integers(len(data[kind].scenes), size=settings.batch)
        clean = data[kind].latents[torch.from_numpy(chosen)].to(run.device).float()
        tokens = captions.draw(kind, data[kind], chosen.tolist(), rng)
        level = draw_levels(settings.batch, run.device)
        noise = torch.randn_like(clean)
        share = level.view(-1, 1, 1, 1, 1)
        with run.autocast():
            padded_to = draw_padding(settings.batch, rng)
            context, attention.bias = encode_text(encoder, tokens, padded_to, run.device)
            velocity = transformer(
                hidden_states=(1 - share) * clean + share * noise,
                timestep=level * 1000,
                encoder_hidden_states=context,
                return_dict=False,
            )[0]
        loop.update(((velocity.float() - (noise - clean)) ** 2).mean(), kind)
    with loop.finished():
        pass


def draw_levels(count: int, device: str) -> Tensor:
    """Noise levels `n` in (0, 1): logit-normal, one in seven uniform, shifted as in sampling."""
    level = torch.sigmoid(torch.randn(count, device=device))
    uniform = torch.rand(count, device=device)
    level = torch.where(torch.rand(count, device=device) < 0.15, uniform, level)
    return FLOW_SHIFT * level / (1 + (FLOW_SHIFT - 1) * level)


def draw_padding(count: int, rng: np.random.Generator) -> Tensor:
    """Rows `n` that texts are padded to: mostly 512, else fewer, so that no length is special."""
    fewer = np.exp(rng.uniform(math.log(33), math.log(PADDED_TO), count)).astype(np.int64)
    return torch.from_numpy(np.where(rng.random(count) < 0.6, PADDED_TO, fewer))


def _begin(
    stage: str,
    run: Run,
    encoder: UMT5EncoderModel,
    transformer: WanTransformer3DModel,
    attention: PaddedTextAttention,
) -> None:
    """Give the networks the weights that a stage begins with, and the attention that trains."""
    with torch.no_grad():  # a zero velocity at first: the usual start of a diffusion transformer
        transformer.proj_out.weight.zero_()
        transformer.proj_out.bias.zero_()
    for block in transformer.blocks:
        block.attn1.set_processor(attention)
        block.attn2.set_processor(attention)
    if stage != STAGES[0]:
        before = run.load(STAGES[STAGES.index(stage) - 1])
        encoder.load_state_dict(before["text_encoder"])
        transformer.load_state_dict(before["transformer"])


def _optimisers(
    encoder: nn.Module, transformer: nn.Module, rate: float, dtype: torch.dtype
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, Adam for everything else."""
    matrices = [
        parameter
        for name, parameter in transformer.named_parameters()
        if parameter.ndim == 2 and name.startswith("blocks.")
    ]
    matrices += [
        parameter
        for name, parameter in encoder.named_parameters()
        if parameter.ndim == 2 and not any(w in name for w in ("shared", "relative", "embed"))
    ]
    known = {id(parameter) for parameter in matrices}
    everything = [*transformer.parameters(), *encoder.parameters()]
    others = [parameter for parameter in everything if id(parameter) not in known]
    return [
        Muon(matrices, lr=rate, dtype=dtype),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
