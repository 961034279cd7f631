"""Nodes for pictures, latents between loops, and denoisers by step: values computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance
from torch import Tensor

from nodes import latent_edits, pictures, rng
from nodes.by_step import Interval, Switch
from nodes.projected_guidance import AdaptiveProjected
from runtime.contract.calls import Asking, answer
from runtime.contract.denoising import Parts, Step
from runtime.contract.values import Image, Latents, Rng, Video
from runtime.errors import UserError


def image(value: int, height: int = 2, width: int = 3) -> Image:
    return Image(torch.full((height, width, 3), value, dtype=torch.uint8))


def clip(*values: int) -> Video:
    return Video(torch.stack([image(v).pixels for v in values]), 8.0)


class Plain:
    """Predicts a constant."""

    def __init__(self, value: Tensor | float) -> None:
        self.value = value

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        yield []
        return {name: torch.zeros_like(t) + self.value for name, t in x.items()}

    def touches(self, step: Step) -> frozenset[str]:
        return frozenset([str(self.value)])


def at(index: int, memory: dict[str, Any] | None = None, count: int = 10) -> Step:
    return Step(
        index, count, torch.tensor(0.0), torch.tensor(0.0), {} if memory is None else memory
    )


def test_pictures_are_stacked_in_rows_and_columns() -> None:
    both = (image(10), image(20))
    row = pictures.Stack(gap=1).run(pictures=both).picture.pixels
    assert row.shape == (2, 7, 3)
    assert [int(v) for v in row[0, :, 0]] == [10, 10, 10, 255, 20, 20, 20]
    assert pictures.Stack(direction="column").run(pictures=both).picture.pixels.shape == (4, 3, 3)
    sheet = pictures.Grid().run(pictures=(*both, image(30))).picture.pixels
    assert sheet.shape == (4, 6, 3)
    assert [int(sheet[y, x, 0]) for y in (0, 2) for x in (0, 3)] == [10, 20, 30, 255]
    with pytest.raises(UserError, match="different sizes: 3x2 and 4x2 px"):
        pictures.Stack().run(pictures=(image(1), image(1, width=4)))


def test_the_shorter_clip_holds_its_last_frame() -> None:
    made = pictures.Stack().run(pictures=(clip(1, 2), clip(5, 6, 7))).picture
    assert made.frames[:, 0, 0, 0].tolist() == [1, 2, 2]
    assert made.frames[:, 0, 3, 0].tolist() == [5, 6, 7]
    assert made.fps == 8


def test_cropped_resized_sharpened_blended() -> None:
    ramp = Image((torch.arange(48).reshape(4, 4, 3) * 5).to(torch.uint8))
    cut = pictures.Crop().run(picture=ramp, height=2, width=1, top=1, left=2).picture.pixels
    assert torch.equal(cut, ramp.pixels[1:3, 2:3])
    with pytest.raises(UserError, match="is not inside 4 px"):
        pictures.Crop().run(picture=ramp, height=4, width=4, top=1)
    assert pictures.Resize().run(picture=clip(1, 2), height=4, width=8).picture.frames.shape == (
        *(2, 4, 8, 3),
    )
    assert pictures.Sharpen.bypass(amount=0) == "picture"
    sharp = pictures.Sharpen(amount=2.0).run(picture=ramp).picture.pixels
    assert sharp.float().std() > ramp.pixels.float().std()
    mask = pictures.Rectangle(right=1 / 3).run(height=2, width=3).mask
    assert mask.pixels[..., 0].tolist() == [[255, 0, 0]] * 2
    mixed = pictures.Blend(weight=1.0).run(one=image(10), two=image(30), mask=mask).picture
    assert mixed.pixels[0, :, 0].tolist() == [30, 10, 10]
    assert int(pictures.Blend().run(one=image(10), two=image(30)).picture.pixels[0, 0, 0]) == 20


@pytest.mark.parametrize("shape", [(1, 4, 8, 6), (1, 4, 3, 8, 6)])
def test_latents_are_scaled_and_blended(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    made = latent_edits.Resize().run(latents=Latents({"video": x}), scale=2.0).latents
    assert made.parts["video"].shape == (*shape[:-2], 16, 12)
    whole = torch.nn.functional.interpolate(x.reshape(4, -1, 8, 6), scale_factor=2, mode="bilinear")
    torch.testing.assert_close(made.parts["video"].reshape(whole.shape), whole)
    mask = pictures.Rectangle(bottom=0.5).run(height=64, width=48).mask
    zero, one = Latents({"video": torch.zeros(shape)}), Latents({"video": torch.ones(shape)})
    mixed = latent_edits.Blend(weight=1.0).run(one=zero, two=one, mask=mask).latents.parts["video"]
    assert mixed[..., :4, :].eq(1).all()
    assert mixed[..., 4:, :].eq(0).all()
    noise = latent_edits.NoiseLike().run(latents=zero, rng=Rng.from_seed(3))
    assert torch.equal(noise.latents.parts["video"], Rng.from_seed(3).normal(shape)[0])
    with pytest.raises(UserError, match="have no rows and columns"):
        latent_edits.Resize().run(latents=Latents({"image": torch.zeros(1, 5, 4)}), scale=2.0)


def test_a_generator_is_split_in_two() -> None:
    first, second = rng.Split().run(rng=rng.FromSeed().run(seed=1).rng)
    again = rng.Split().run(rng=Rng.from_seed(1))
    assert torch.equal(first.state, again.first.state)
    assert not torch.equal(first.normal((4,))[0], second.normal((4,))[0])


def test_denoisers_by_step() -> None:
    x = {"image": torch.zeros(1, 2)}
    switched = Switch().run(first=Plain(1.0), second=Plain(2.0), at=0.5).denoiser
    values = [float(answer(switched.predict(x, at(i)))["image"][0, 0]) for i in range(10)]
    assert values == [1.0] * 5 + [2.0] * 5
    assert switched.touches(at(7)) == {"2.0"}
    interval = Interval().run(inside=Plain(1.0), outside=Plain(2.0), start=0.2, stop=0.6).denoiser
    values = [float(answer(interval.predict(x, at(i)))["image"][0, 0]) for i in range(10)]
    assert values == [2.0] * 2 + [1.0] * 4 + [2.0] * 4
    assert Interval.bypass(start=0, stop=1) == "inside"
    assert Switch.bypass(at=1.0) == "first"


@pytest.mark.parametrize("momentum", [None, -0.5])
@pytest.mark.parametrize("eta", [0.0, 0.3])
def test_projected_guidance_equals_diffusers(momentum: float | None, eta: float) -> None:
    torch.manual_seed(0)
    rule = AdaptiveProjected(momentum=momentum, norm_threshold=2.0, eta=eta)
    buffer = None if momentum is None else MomentumBuffer(momentum)
    memory: dict[str, Any] = {}
    for index in range(3):
        cond, uncond = torch.randn(2, 1, 4, 5, 6).unbind(0)
        guided = rule.run(cond=Plain(cond), uncond=Plain(uncond), scale=4.0).denoiser
        ours = answer(guided.predict({"image": torch.zeros(1, 4, 5, 6)}, at(index, memory)))
        theirs = normalized_guidance(cond, uncond, 4.0, buffer, eta, 2.0)
        torch.testing.assert_close(ours["image"], theirs)
