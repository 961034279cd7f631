"""The node of vanilla pipelines alone, on toys: callbacks of all ages, sound, gradients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from inspect import Signature, signature
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nodes.diffusers import RunPipeline
from runtime.checkpoint.stepped_call import SteppedCall
from runtime.contract.denoising import StepDone
from runtime.contract.values import Image, Rng, Video
from runtime.errors import UserError
from runtime.events import Noted


class Toy:
    """A pipeline without networks: its picture is the mean of what it drew."""

    device = torch.device("cpu")

    @property
    def class_name(self) -> str:
        return type(self).__name__

    @property
    def call(self) -> Signature:
        return signature(type(self).__call__)

    def made(self, generator: torch.Generator) -> Any:
        value = torch.rand(1, 2, 3, 3, generator=generator)
        return SimpleNamespace(images=value.numpy())

    def progress_bar(self, iterable: Any = None, total: int | None = None) -> Any:
        raise AssertionError("the node puts its own in place")


class Older(Toy):
    def __call__(
        self,
        prompt: str,
        num_inference_steps: int = 3,
        generator: Any = None,
        callback: Callable[[int, int, Any], None] | None = None,
        callback_steps: int = 1,
    ) -> Any:
        for step in range(num_inference_steps):
            try:
                if callback and step % callback_steps == 0:
                    callback(step, 1000 - step, None)
            except Exception:
                pytest.fail("nothing a pipeline may catch stops it")
        return self.made(generator)


class Oldest(Toy):
    def __call__(self, num_inference_steps: int = 3, generator: Any = None) -> Any:
        with self.progress_bar(total=num_inference_steps) as bar:
            for _ in range(num_inference_steps):
                bar.set_postfix(loss=0)
                bar.update()
        return self.made(generator)


class Clips(Toy):
    def __call__(
        self,
        frame_rate: float = 25.0,
        output_type: str = "pil",
        callback_on_step_end: Any = None,
    ) -> Any:
        with torch.enable_grad():  # as pipelines that guide by gradients do
            x = torch.ones(2, requires_grad=True)
            (slope,) = torch.autograd.grad((x * 3).sum(), x)
        callback_on_step_end(self, 0, 1, {})
        frames = torch.rand(1, 2, 4, 4, 3) * float(slope.mean() / 3)
        return SimpleNamespace(frames=frames.numpy(), audio=torch.zeros(8))


def drive(asked: Any) -> tuple[Any, list[Any]]:
    """Answer a node's calls as the executor does; its result, and what else it told."""
    told: list[Any] = []
    reply: Any = None
    while True:
        try:
            message = asked.send(reply)
        except StopIteration as stop:
            return stop.value, told
        reply = None
        if isinstance(message, list):
            with torch.inference_mode():
                reply = [c.forward(c.component, **c.batched, **c.shared) for c in message]
        else:
            told.append(message)


def steps(told: list[Any]) -> list[tuple[int, int]]:
    return [(m.state.index, m.count) for m in told if isinstance(m, StepDone)]


@pytest.mark.parametrize("kind", [Older, Oldest])
def test_pipelines_without_the_new_callback_tell_their_steps(kind: Any) -> None:
    prompt: dict[str, Any] = {"prompt": "x"} if kind is Older else {}
    made, told = drive(RunPipeline(pipeline=kind()).run(rng=Rng.from_seed(3), **prompt))
    assert steps(told) == [(1, 3), (2, 3), (3, 3)]
    assert isinstance(made.media, Image)
    expected = torch.rand(1, 2, 3, 3, generator=torch.Generator().manual_seed(3))
    assert torch.equal(made.media.pixels, (expected[0] * 255).round().to(torch.uint8))


def test_a_clip_has_the_rate_of_its_pipeline_and_no_sound() -> None:
    outside = torch.get_rng_state()
    made, told = drive(RunPipeline(pipeline=Clips()).run(rng=Rng.from_seed(3)))
    assert torch.equal(torch.get_rng_state(), outside)
    assert isinstance(made.media, Video)
    assert made.media.fps == 25
    assert [m.text for m in told if isinstance(m, Noted)] == [
        "the audio that Clips makes is discarded: its sample rate is not known"
    ]
    again, _ = drive(RunPipeline(pipeline=Clips()).run(rng=Rng.from_seed(3), fps=8))
    assert again.media.fps == 8
    assert torch.equal(again.media.frames, made.media.frames), "drawn from the global generator"


def test_what_makes_neither_picture_nor_clip() -> None:
    class Sounds(Toy):
        def __call__(self) -> Any:
            return SimpleNamespace(audios=[0], keys=lambda: ["audios"])

    with pytest.raises(UserError, match="made no picture and no clip, but: audios"):
        drive(RunPipeline(pipeline=Sounds()).run(rng=Rng.from_seed(1)))


@pytest.mark.parametrize("kind", [Older, Oldest])
def test_a_node_that_is_closed_leaves_no_thread(kind: Any) -> None:
    before = threading.active_count()
    prompt: dict[str, Any] = {"prompt": "x"} if kind is Older else {}
    asked = RunPipeline(pipeline=kind()).run(rng=Rng.from_seed(3), **prompt)
    (call,) = asked.send(None)
    assert call.forward(call.component, **call.shared) == ((1, 3),)
    assert threading.active_count() == before + 1
    asked.send([((1, 3),)])
    asked.close()
    assert threading.active_count() == before


def test_pausing() -> None:
    def work(pause: Any) -> str:
        pause(1)
        pause(2)
        return "end"

    call = SteppedCall(work)
    assert [call.advance(), call.done, call.advance(), call.advance(), call.done] == [
        1, False, 2, "end", True,
    ]  # fmt: skip
    call.close()
    SteppedCall(work).close()

    def fail(pause: Any) -> None:
        pause(1)
        raise ValueError("wrong")

    failing = SteppedCall(fail)
    failing.advance()
    with pytest.raises(ValueError, match="wrong"):
        failing.advance()
    assert failing.done
