"""Draw and encode the transformer's training set, shard by shard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from demo.drawing import CLIP_FRAMES, geometry, render
from demo.models import CHANNELS, make_vae
from demo.passes import encode, use_whole_clip_passes
from demo.scenes import Scene, Scenes, sample_scenes, scenes_of
from demo.training import Run, save_whole

KINDS = ("pictures", "clips")


@dataclass(frozen=True)
class LatentSettings:
    """How many pictures and clips, and how many in a file."""

    images: int = 20000
    clips: int = 3600
    shard: int = 2000


@dataclass(frozen=True)
class Encoded:
    """A training set: scenes, and their latents `n 8 t h/8 w/8`."""

    scenes: list[Scene]
    latents: Tensor


@torch.no_grad()
def make_latents(run: Run, settings: LatentSettings) -> None:
    """Write the shards; with `resume`, only those that are missing."""
    folded = run.load("fold")
    vae = use_whole_clip_passes(make_vae(CHANNELS).to(run.device))
    vae.load_state_dict(folded["vae"])
    for kind, total in zip(KINDS, (settings.images, settings.clips), strict=True):
        if not run.resume:
            for path in shards(run, kind):
                path.unlink()
        for part in range(-(-total // settings.shard)):
            path = run.work / f"latents_{kind}_{part:03d}.pt"
            if path.is_file():
                continue
            count = min(settings.shard, total - part * settings.shard)
            rng = np.random.default_rng((run.seed, KINDS.index(kind), part))
            frames = 1 if kind == "pictures" else CLIP_FRAMES
            scenes = sample_scenes(count, rng, video=frames > 1)
            latents = _encode_scenes(run, vae, scenes, rng, frames)
            if kind == "pictures":  # the other axes carry motion only
                latents[:, folded["picture_axes"] :] = 0
            save_whole({"scenes": torch.from_numpy(scenes.table()), "latents": latents}, path)
            run.log("latents", f"{path.name} {tuple(latents.shape)}")


def shards(run: Run, kind: str) -> list[Path]:
    """The files written so far."""
    return sorted(run.work.glob(f"latents_{kind}_*.pt"))


def load_latents(run: Run, kind: str) -> Encoded:
    """All shards of one kind, latents in the half precision that the device is quick at."""
    loaded = [torch.load(path) for path in shards(run, kind)]
    if not loaded:
        raise SystemExit(f"{run.work} holds no latents of {kind}: run `latents` first.")
    half = torch.bfloat16 if run.device == "cpu" else torch.float16
    scenes = scenes_of(torch.cat([shard["scenes"] for shard in loaded]).numpy())
    return Encoded(list(scenes), torch.cat([shard["latents"].to(half) for shard in loaded]))


def _encode_scenes(
    run: Run, vae: torch.nn.Module, scenes: Scenes, rng: np.random.Generator, frames: int
) -> Tensor:
    """Mean latents of scenes, `n 8 t h/8 w/8` float16, on the CPU."""
    batch = 64 if frames == 1 else 8
    parts = []
    for start in range(0, len(scenes), batch):
        some = scenes.take(slice(start, start + batch))
        pixels = render(some, geometry(some, rng), frames=frames, device=run.device)
        with run.autocast():
            parts.append(encode(vae, pixels)[0].half().cpu())
    return torch.cat(parts)
