"""What nodes promise on their own: pure solvers, resumable loops, values computed by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from nodes import schedule as schedules
from nodes.denoise import Denoise
from nodes.flux import FluxDenoiser, positions
from nodes.guidance import ClassifierFree, TrueClassifierFree
from nodes.latents import ImageNoise, VideoNoise, pack, unpack
from nodes.solvers import SchedulerSolver
from nodes.text import clean, masked_states
from nodes.vae import denormalise, to_bytes
from nodes.wan import WanDenoiser
from runtime.contract.calls import Asking, answer
from runtime.contract.denoising import Denoiser, DenoiseState, Parts, Step, StepDone
from runtime.contract.values import Latents, Rng, TextEmbeds

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
SCHEDULERS = [
    pytest.param("UniPCMultistepScheduler", FLOW | {"flow_shift": 3.0}, id="unipc"),
    pytest.param("UniPCMultistepScheduler", FLOW | {"solver_order": 3}, id="unipc of order 3"),
    pytest.param("UniPCMultistepScheduler", FLOW | {"disable_corrector": [1]}, id="no corrector"),
    pytest.param("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, id="euler"),
    pytest.param("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}, id="stochastic"),
    pytest.param("DPMSolverMultistepScheduler", FLOW | {"flow_shift": 3.0}, id="dpm++"),
    pytest.param("EulerDiscreteScheduler", {}, id="euler that scales its input"),
]


def made(name: str, config: dict[str, Any]) -> Any:
    return getattr(diffusers, name)(**config)


def velocity(x: Tensor, index: int) -> Tensor:
    """Something that depends on x and on the step, as a network does."""
    return torch.sin(3 * x) + 0.1 * index


def start(seed: int) -> Tensor:
    return torch.randn((1, 4, 3, 5), generator=torch.Generator().manual_seed(seed))


def vanilla(scheduler: Any, x: Tensor, steps: int, seed: int) -> Tensor:
    scheduler.set_timesteps(steps)
    scheduler.set_begin_index(0)
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator} if "Euler" in type(scheduler).__name__ else {}
    for i, t in enumerate(scheduler.timesteps):
        seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(velocity(seen, i), t, x, return_dict=False, **options)[0]
    return x


def walk(solver: SchedulerSolver, x: Tensor, steps: int, rng: Rng) -> Iterator[Tensor]:
    state: Mapping[str, Any] = {}
    after: Rng | None = rng
    for i in range(steps):
        prediction = velocity(solver.input(x, i, state), i)
        x, state, after = solver.step(state, prediction, x, i, after)
        yield x


@pytest.mark.parametrize(("name", "config"), SCHEDULERS)
def test_solver_is_the_scheduler_without_its_state(name: str, config: dict[str, Any]) -> None:
    scales = name == "EulerDiscreteScheduler"
    node = schedules.FromScheduler(scheduler=made(name, config), scale_input=scales)
    solver = node.run(steps=6).schedule.solver
    assert isinstance(solver, SchedulerSolver)
    before = {k: v for k, v in vars(solver.template).items() if not isinstance(v, list)}
    lists = {k: list(v) for k, v in vars(solver.template).items() if isinstance(v, list)}
    walks = [walk(solver, start(s), 6, Rng.from_seed(s)) for s in (0, 1)]
    last = [x for pair in zip(*walks, strict=True) for x in pair][-2:]  # steps interleaved
    for seed, found in zip((0, 1), last, strict=True):
        assert torch.equal(found, vanilla(made(name, config), start(seed), 6, seed))
    assert all(vars(solver.template)[k] is v for k, v in before.items())
    assert all(vars(solver.template)[k] == v for k, v in lists.items())


def test_solver_state_is_plain_data() -> None:
    node = schedules.FromScheduler(scheduler=made("UniPCMultistepScheduler", FLOW))
    solver, x = node.run(steps=5).schedule.solver, start(0)
    state: Mapping[str, Any] = {}
    for i in range(3):
        x, state, _ = solver.step(state, velocity(x, i), x, i, None)
    kinds = {type(v) for v in flat(state)}
    assert kinds <= {Tensor, int, float, type(None)}
    assert state["_step_index"] == 3
    assert "sigmas" not in state  # what the template has is not saved again


def flat(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from flat(item)
    else:
        yield value


@dataclass(frozen=True, eq=False)
class Toy:
    """A denoiser that asks for nothing, remembers its last input, and says what it touches."""

    gain: float = 1.0
    name: str = "toy"

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        yield []
        previous = step.memory.get("x", x["image"])
        step.memory["x"] = x["image"]
        return {"image": self.gain * velocity(x["image"], step.index) + 0.5 * previous}

    def touches(self, step: Step) -> frozenset[str]:
        return frozenset([self.name])


def loop(denoiser: Denoiser, resume: DenoiseState | None = None) -> list[Any]:
    """The states after each step, and the node's result."""
    config = FLOW | {"flow_shift": 2.0}
    schedule = schedules.FromScheduler(scheduler=made("UniPCMultistepScheduler", config))
    ask = Denoise().run(
        denoiser=denoiser,
        latents=Latents({"image": start(0)}),
        schedule=schedule.run(steps=6).schedule,
        rng=Rng.from_seed(1),
        resume=resume,
    )
    seen: list[Any] = []
    reply: Any = None
    while True:
        try:
            message = ask.send(reply)
        except StopIteration as stop:
            return [*seen, stop.value]
        reply = [] if isinstance(message, list) else None
        if isinstance(message, StepDone):
            assert message.count == 6
            seen.append(message.state)


@pytest.mark.parametrize("done", [1, 3, 5])
def test_resuming_equals_never_having_stopped(done: int) -> None:
    guided = ClassifierFree().run(cond=Toy(), uncond=Toy(0.5), scale=2.0).denoiser
    *states, whole = loop(guided)
    assert [s.index for s in states] == [1, 2, 3, 4, 5, 6]
    *later, resumed = loop(guided, resume=states[done - 1])
    assert [s.index for s in later] == list(range(done + 1, 7))
    assert torch.equal(resumed.latents.parts["image"], whole.latents.parts["image"])
    assert torch.equal(resumed.rng.state, whole.rng.state)


def test_a_step_leaves_the_state_before_it_alone() -> None:
    first = loop(Toy())[0]
    kept = first.memory["x"].clone()
    solver = {k: v for k, v in first.solver["image"].items() if isinstance(v, int)}
    loop(Toy(), resume=first)
    assert torch.equal(first.memory["x"], kept)
    assert {k: first.solver["image"][k] for k in solver} == solver
    assert first.index == 1


def step(memory: dict[str, Any] | None = None) -> Step:
    return Step(0, 1, torch.tensor(500), torch.tensor(0.5), {} if memory is None else memory)


@dataclass(frozen=True, eq=False)
class Constant:
    value: float
    name: str

    def predict(self, x: Parts, step: Step) -> Asking[Parts]:
        step.memory["seen"] = self.name
        yield []
        return {k: torch.full_like(v, self.value) for k, v in x.items()}

    def touches(self, step: Step) -> frozenset[str]:
        return frozenset([self.name])


def test_guidance_by_hand() -> None:
    memory: dict[str, Any] = {}
    node = ClassifierFree()
    guided = node.run(cond=Constant(3, "a"), uncond=Constant(1, "b"), scale=2.5).denoiser
    out = answer(guided.predict({"image": torch.zeros(1, 2)}, step(memory)))
    assert out["image"].tolist() == [[6.0, 6.0]]  # 1 + 2.5 (3 - 1)
    assert memory == {"cond": {"seen": "a"}, "uncond": {"seen": "b"}}
    assert guided.touches(step()) == {"a", "b"}


def test_when_guidance_is_off() -> None:
    assert ClassifierFree.bypass(scale=1.0) == ClassifierFree.bypass(scale=0.0) == "cond"
    assert ClassifierFree.bypass(scale=1.01) is None
    assert TrueClassifierFree.bypass(scale=4.0, negative=None) == "cond"
    assert TrueClassifierFree.bypass(scale=1.0, negative="blurry") == "cond"
    assert TrueClassifierFree.bypass(scale=4.0, negative="") is None


def handle(name: str, **config: Any) -> Any:
    """What a node sees of a component before its weights exist."""
    return SimpleNamespace(name=name, config=SimpleNamespace(**config))


def test_denoisers_name_their_component_without_touching_it() -> None:
    text = TextEmbeds(torch.zeros(1, 2, 3), pooled=torch.zeros(1, 3))
    wan = WanDenoiser(transformer=handle("transformer")).run(text=text).denoiser
    net = handle("transformer_2", guidance_embeds=False)
    flux = FluxDenoiser(transformer=net).run(text=text, pooled=text).denoiser
    assert wan.touches(step()) == {"transformer"}
    assert flux.touches(step()) == {"transformer_2"}


def test_video_noise_is_the_generators_own() -> None:
    transformer = handle("transformer", in_channels=3, patch_size=(1, 2, 2))
    vae = handle("vae", scale_factor_spatial=8, scale_factor_temporal=4)
    node = VideoNoise(transformer=transformer, vae=vae)
    out = node.run(height=32, width=48, num_frames=9, rng=Rng.from_seed(5))
    generator = torch.Generator().manual_seed(5)
    expected = torch.randn((1, 3, 3, 4, 6), generator=generator)
    assert torch.equal(out.latents.parts["video"], expected)
    assert torch.equal(out.rng.state, generator.get_state())
    assert node.estimate(height=32, width=48, num_frames=9) == expected.nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_image_noise_is_drawn_in_the_dtype_of_the_text(dtype: torch.dtype) -> None:
    vae = handle("vae", block_out_channels=(8, 8, 8, 8), latent_channels=2)
    node = ImageNoise(vae=vae, patch_size=2)
    text = TextEmbeds(torch.zeros(1, 2, 3, dtype=dtype))
    drawn = node.run(height=32, width=48, rng=Rng.from_seed(5), like=text).latents.parts["image"]
    generator = torch.Generator().manual_seed(5)
    assert drawn.dtype == dtype
    assert torch.equal(drawn, torch.randn((1, 2, 4, 6), generator=generator, dtype=dtype))


def test_packing_by_hand_and_back() -> None:
    picture = torch.arange(16).reshape(1, 1, 4, 4)
    tokens = pack(picture)
    assert tokens.tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]
    wide = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    assert torch.equal(unpack(pack(wide), 4, 6), wide)
    assert positions(2, 3, torch.zeros(1)).tolist() == [
        [0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 1, 2],
    ]  # fmt: skip


def test_denormalising_by_hand() -> None:
    config = SimpleNamespace(latents_mean=[1.0, -1.0], latents_std=[2.0, 4.0])
    out = denormalise(torch.ones(1, 2, 1, 1, 1), config)
    assert out.flatten().tolist() == [3.0, 3.0]


def test_bytes_are_rounded_half_to_even_and_clipped() -> None:
    pixels = torch.tensor([-9.0, -1.0, 0.0, 1 / 255, 1.0, 9.0])
    assert to_bytes(pixels).tolist() == [0, 0, 128, 128, 255, 255]
    assert to_bytes(pixels).dtype == torch.uint8


def test_text_is_cleaned_as_wan_does() -> None:
    assert clean("  a &amp;amp; b\n\tc&lt;d  ") == "a & b c<d"


def test_states_past_the_mask_are_zero_for_each_prompt_of_a_batch() -> None:
    class Ones:
        dtype = torch.bfloat16

        def __call__(self, ids: Tensor, mask: Tensor) -> Any:
            return SimpleNamespace(last_hidden_state=torch.ones(*ids.shape, 1))

    net: Any = Ones()
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    (states,) = masked_states(net, torch.zeros(2, 3, dtype=torch.int64), mask)
    assert states.dtype == torch.bfloat16
    assert states[..., 0].tolist() == [[1, 1, 0], [1, 0, 0]]
