"""Prompts for the evaluation: combinations never trained on, the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from demo.captions import UNKNOWN_WORD, caption
from demo.scenes import Scene, sample_scenes


@dataclass(frozen=True)
class Asked:
    """One prompt and the scene it describes."""

    prompt: str
    scene: Scene


def held_out_pictures(count: int, seed: int) -> list[Asked]:
    """Prompts for pictures of one object."""
    scenes = sample_scenes(
        count, np.random.default_rng(seed), two=0.0, want_held_out=True
    )  # fmt: skip
    seeds, asked = random.Random(seed), []
    for scene in scenes:
        rng = random.Random(int(seeds.random() * 1e9))
        prompt = caption(scene, rng)
        while UNKNOWN_WORD in prompt:
            prompt = caption(scene, rng)
        asked.append(Asked(prompt, scene))
    return asked


def held_out_clips(count: int, seed: int) -> list[Asked]:
    """Prompts for clips of one object that moves, grows, shrinks or rotates."""
    rng = np.random.default_rng(seed)
    drawn = sample_scenes(4 * count, rng, video=True, want_held_out=True)
    captions = random.Random(seed)
    return [
        Asked(caption(scene, captions).replace(f", {UNKNOWN_WORD}", ""), scene)
        for scene in drawn.take(drawn.motion > 0).take(slice(count))
    ]
