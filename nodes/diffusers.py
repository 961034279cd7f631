"""The vanilla pipeline of any checkpoint as one node."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from nodes.contracts import Pipeline
from nodes.diffusers_arguments import arguments
from nodes.finite import check_finite
from nodes.finite_pipeline import finite_decoders
from runtime.checkpoint.optional_imports import absent_package
from runtime.checkpoint.stepped_call import Pause, SteppedCall
from runtime.checkpoint.vanilla_pipeline import RATE_ARGUMENTS
from runtime.checkpoint.vocabulary import unlimited_tokenizer
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import DenoiseState, StepDone
from runtime.contract.result_size import differences
from runtime.contract.values import Audio, Image, Rng, Video
from runtime.errors import UserError
from runtime.events import Noted

FPS = 24  # frames per second of the file, where neither the request nor the pipeline states a rate


@dataclass(frozen=True, kw_only=True)
class RunPipeline:
    """Run the vanilla pipeline with the values of the request, else with diffusers' defaults.

    images  pictures to start from
    fps     of the clip; also an argument, where the pipeline takes a rate
    more    other arguments by the pipeline's own names
    media   h w c or f h w c  uint8, as the pipeline itself rounds
    audio   c n, float32, of a pipeline whose vocoder states the rate; else none
    """

    pipeline: Component[Pipeline]

    class Out(NamedTuple):
        media: Image | Video
        audio: Audio | None

    def verify(self, **inputs: Any) -> None:
        """Refuse what the pipeline's `__call__` does not take, and what it lacks."""
        arguments(self.pipeline.class_name, self.pipeline.call, inputs)

    def run(
        self,
        *,
        rng: Rng,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        true_cfg_scale: float | None = None,
        strength: float | None = None,
        max_sequence_length: int | None = None,
        images: tuple[Image, ...] | None = None,
        fps: int | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Asking[Out]:
        inputs = {n: v for n, v in locals().items() if n not in {"self", "rng"}}
        call = VanillaCall(inputs, rng)
        try:
            while True:
                ((step,),) = yield [Call(self.pipeline, advance, {}, {"call": call})]
                while call.warnings:
                    yield Noted(text=f"diffusers: {call.warnings.pop(0)}")
                if step is None:
                    break
                index, count = step
                yield StepDone(DenoiseState(index, {}, {}, None, {}), count)
        finally:
            call.close()
        for note in call.notes:
            yield Noted(text=note)
        if call.sound:
            yield Noted(
                text=f"the audio that {call.sound} makes is discarded: its sample rate is not known"
            )
        made = media(call.result, call.rate)
        asked = {"height": height, "width": width, "num_frames": num_frames, "fps": fps}
        wanted = {name: number for name, number in asked.items() if number}
        if other := ", ".join(differences(made, wanted)):
            yield Noted(text=f"{self.pipeline.class_name} made {other}")
        return self.Out(made, call.audio)


@dataclass(eq=False)  # hashable: shared values of calls are
class VanillaCall:
    """One call of a pipeline, step by step. `result` is its output once it has ended.

    rate   frames per second of the clip
    sound  the class of a pipeline that made sound too, which cannot be kept
    generator_states  states of the global generators between two steps
    notes  what the user must know of how the call went
    warnings  what the pipeline logged, such as the part of a prompt that CLIP does not read
    """

    inputs: Mapping[str, Any]
    rng: Rng
    result: Any = None
    rate: float = FPS
    sound: str = ""
    audio: Audio | None = None
    steps: SteppedCall | None = None
    generator_states: dict[str, torch.Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Stop the pipeline at the end of its step; its thread has ended then."""
        if self.steps is not None:
            self.steps.close()


def advance(pipe: Any, *, call: VanillaCall) -> tuple[tuple[int, int] | None]:
    """One step of a pipeline: index from 1 and count; None once it is done."""
    if call.steps is None:
        call.steps = SteppedCall(_prepared(pipe, call))
    with own_randomness(pipe, call), logged_warnings(call):
        try:
            made = call.steps.advance()
        except NameError as problem:
            raise absent_package(type(pipe).__name__, problem) from problem
        except (ValueError, TypeError, OverflowError) as problem:
            raise _refused(pipe, problem) from problem
    if not call.steps.done:
        return (made,)
    call.result = made
    call.audio = audio_of(pipe, made)
    sounds = any(getattr(made, n, None) is not None for n in ("audio", "audios"))
    if sounds and call.audio is None:
        call.sound = type(pipe).__name__
    return (None,)


def _prepared(pipe: Any, call: VanillaCall) -> Callable[[Pause], Any]:
    """The call of a pipeline as a function that pauses after each step."""
    name, signature = type(pipe).__name__, inspect.signature(type(pipe).__call__)
    known = signature.parameters
    given = arguments(name, signature, call.inputs)
    rates = [given.get(n, known[n].default) for n in RATE_ARGUMENTS if n in known]
    asked = call.inputs.get("fps")
    call.rate = float(next((r for r in (asked, *rates) if isinstance(r, int | float)), FPS))
    generator = torch.Generator()
    generator.set_state(call.rng.state)
    fixed = {"generator": generator, "output_type": "np"}
    given |= {n: v for n, v in fixed.items() if n in known}
    planned = known.get("num_inference_steps")
    steps = given.get("num_inference_steps") or (planned.default if planned else 0)

    def counted(index: int) -> tuple[int, int]:
        total = getattr(pipe, "num_timesteps", None) or steps
        return index, max(index, total if isinstance(total, int) else 0)

    def run(pause: Pause) -> Any:
        def ended(_: Any, index: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
            pause(counted(index + 1))
            return values

        hooks: dict[str, Any] = {}
        if "callback_on_step_end" in known:
            hooks = {"callback_on_step_end": ended}
        elif {"callback", "callback_steps"} <= set(known):
            hooks = {"callback": lambda index, *_: pause(counted(index + 1)), "callback_steps": 1}
        else:
            pipe.progress_bar = lambda *a, **k: ProgressBar(pause, *a, **k)
        try:
            # Not inference_mode: some pipelines guide by gradients.
            with finite_decoders(pipe, call.notes), torch.no_grad():
                return pipe(**given, **hooks)
        finally:
            vars(pipe).pop("progress_bar", None)

    return run


class ProgressBar:
    """Stands in for the progress bar of a pipeline that has no callback."""

    def __init__(self, pause: Pause, iterable: Any = None, total: int | None = None) -> None:
        self.pause, self.iterable, self.n = pause, iterable, 0
        self.total = len(iterable) if total is None and hasattr(iterable, "__len__") else total or 0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        for item in self.iterable:
            yield item
            self.update()

    def update(self, n: int = 1) -> None:
        """Count steps."""
        self.n += n
        self.pause((self.n, max(self.n, self.total)))

    def set_postfix(self, *_: Any, **__: Any) -> None:
        """Say nothing."""

    set_description = set_postfix_str = refresh = close = set_postfix


@contextmanager
def own_randomness(pipe: Any, call: VanillaCall) -> Iterator[None]:
    """Seed the global generators by the request, and save and restore their states at each step."""
    index, kind = pipe.device.index, pipe.device.type
    found = torch.get_device_module(pipe.device)
    of_device = found if index is not None and hasattr(found, "set_rng_state_all") else None
    with torch.random.fork_rng([] if of_device is None else [index], device_type=kind):
        if not call.generator_states:
            generator = torch.Generator()
            generator.set_state(call.rng.state)
            torch.manual_seed(generator.initial_seed())
        else:
            torch.set_rng_state(call.generator_states["host"])
            if of_device is not None:
                of_device.set_rng_state(call.generator_states["device"], index)
        try:
            yield
        finally:
            call.generator_states["host"] = torch.get_rng_state()
            if of_device is not None:
                call.generator_states["device"] = of_device.get_rng_state(index)


class WarningList(logging.Handler):
    """Collects the texts of warnings, each once."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        text = " ".join(record.getMessage().split())
        if text not in self.texts:
            self.texts.append(text)


@contextmanager
def logged_warnings(call: VanillaCall) -> Iterator[None]:
    """Collect diffusers' log messages for the call instead of writing them to stderr."""
    logger, handler = logging.getLogger("diffusers"), WarningList(call.warnings)
    others, logger.handlers = logger.handlers, [handler]
    try:
        yield
    finally:
        logger.handlers = others


def _refused(pipe: Any, problem: Exception) -> Exception:
    """A UserError where the pipeline's own check of its inputs failed; else the problem itself."""
    if isinstance(problem, OverflowError | TypeError):
        for name, part in pipe.components.items():
            if fault := unlimited_tokenizer(name, part, problem):
                return fault
    frames = traceback.extract_tb(problem.__traceback__)
    if not any(frame.name == "check_inputs" for frame in frames):
        return problem
    return UserError(f"{type(pipe).__name__}: {problem}", field="request")


def media(made: Any, rate: float) -> Image | Video:
    """The picture or the clip of a pipeline's output, as its own post-processing rounds it."""
    for name in ("frames", "videos", "images"):
        value = getattr(made, name, None)
        if value is None:
            continue
        if name != "images":
            return Video(torch.from_numpy(_pixels(value[0])), rate)
        if len(value) == 1 and not isinstance(value[0], list):
            return Image(torch.from_numpy(_pixels(value[0])))
        raise UserError(
            "the pipeline gave several pictures, and a run keeps one",
            help="ask for one; `output.num_outputs` starts several runs", field="request",
        )  # fmt: skip
    has = ", ".join(made.keys()) if hasattr(made, "keys") else type(made).__name__
    raise UserError(
        f"the pipeline made no picture and no clip, but: {has}",
        help="use a pipeline that makes pictures or clips", field="model.path",
    )  # fmt: skip


def audio_of(pipe: Any, made: Any) -> Audio | None:
    """The audio of a pipeline's clip, where its vocoder states the rate."""
    samples = getattr(made, "audio", None)
    config = getattr(getattr(pipe, "vocoder", None), "config", None)
    rate = getattr(config, "output_sampling_rate", None)
    if samples is None or rate is None:
        return None
    waves = torch.as_tensor(samples[0]).float()
    check_finite(waves[None], "the pipeline's sound")
    return Audio(waves, int(rate))


def _pixels(value: Any) -> Any:
    """Frames in [0, 1], as bytes, or as pictures, to uint8: `h w c` or `f h w c`."""
    frames = np.asarray([np.asarray(v) for v in value] if isinstance(value, list) else value)
    if frames.dtype != np.uint8:
        check_finite(torch.from_numpy(frames)[None], "the pipeline's pixels")
        frames = (frames * 255).round().astype(np.uint8)
    return np.ascontiguousarray(frames)
