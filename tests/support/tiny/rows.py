"""What a row of `test_families.py` says, and what most rows are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from runtime import Runtime

SHORT = "a red circle"
LONG = "a red circle on a blue background and " * 60  # beyond every tokenizer's limit
Pixels: TypeAlias = NDArray[np.uint8]
Request: TypeAlias = Mapping[str, Any]


def vanilla(
    model: Path, request: Request, pictures: list[Image.Image], **components: Any
) -> Pixels:
    """Frames of the vanilla pipeline from the same folder, f h w c, with its own defaults.

    components  what it is given to load with: none where the folder leaves a needed one out
    """
    call = {k: v for k, v in request.items() if k != "seed"}
    if pictures:
        call["image"] = pictures if len(pictures) > 1 else pictures[0]
    generator = torch.Generator().manual_seed(request["seed"])
    return pixels(pipeline(model, **components)(**call, generator=generator, output_type="np"))


@cache
def pipeline(model: Path, **components: Any) -> Any:
    """The vanilla pipeline of a folder."""
    from diffusers import DiffusionPipeline

    made = DiffusionPipeline.from_pretrained(model, **components)
    made.set_progress_bar_config(disable=True)
    return made


def pixels(out: Any) -> Pixels:
    """What a vanilla pipeline returned, as its own post-processing rounds it to bytes."""
    frames = out.frames[0] if hasattr(out, "frames") else out.images
    return np.asarray((np.asarray(frames) * 255).round().astype(np.uint8))


@dataclass(frozen=True)
class Row:
    """One graph and task.

    graph       the name that the checkpoint alone must choose
    checkpoint  writes the tiny checkpoint into a folder
    cases       two requests, under our names; seed and steps come from the test
    common      what both requests say
    pictures    how many input pictures it takes
    renamed     our name of a request field to the reference's
    reference   what the pixels must equal
    named       the graph is asked for by name: no checkpoint chooses it
    label       tells the rows of one graph apart
    """

    graph: str
    checkpoint: Callable[[Path], Path]
    cases: tuple[Request, Request]
    common: Request = field(default_factory=dict)
    pictures: int = 0
    renamed: Mapping[str, str] = field(default_factory=dict)
    reference: Callable[[Path, Request, list[Image.Image]], Pixels] = vanilla
    named: bool = False
    label: str = ""

    @property
    def name(self) -> str:
        """Graph and label: the row's own name."""
        return "-".join(filter(None, (self.graph, self.label)))

    def scenes(self) -> list[Image.Image]:
        """Its input pictures."""
        return [scene(index) for index in range(self.pictures)]


def scene(index: int) -> Image.Image:
    """An input picture of an odd size: a circle and a bar, other colours for each index."""
    height, width = (150, 90) if index % 2 else (90, 130)
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (min(height, width) / 3) ** 2
    picture = np.where(inside[..., None], [225, 30 + 90 * index, 35], [35, 80, 225 - 90 * index])
    picture[: height // 6] = [20, 160, 90]
    return Image.fromarray(picture.astype(np.uint8))


def given(runtime: Runtime, pictures: list[Image.Image]) -> dict[str, Any]:
    """Input pictures under the name and in the form that a graph takes."""
    if not pictures:
        return {}
    return {"image_path": pictures if runtime.fields["image_path"].many else pictures[0]}
