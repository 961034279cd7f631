"""Wan's variants, its two experts and when they are loaded, and what its graphs refuse."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nodes.guidance import RouteByTimestep
from runtime import Runtime
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import UserError
from runtime.events import Event, Evicted, Loading, Stepped
from runtime.graph.catalog import best_graph
from runtime.run.residency import residency
from tests.support.simdevice import Sim
from tests.support.tiny import fastwan, wan, wan2_2, wan_i2v
from tests.support.tiny.rows import pipeline, scene, vanilla

REQUEST = dict(prompt="a red circle", height=48, width=32, num_frames=1,
               num_inference_steps=3, guidance_scale=4.0, seed=7)  # fmt: skip
EXPERTS = {"transformer", "transformer_2"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[Any, Path] = {}

    def of(write: Callable[[Path], Path]) -> Path:
        if write not in made:
            made[write] = write(tmp_path_factory.mktemp("wan") / "model")
        return made[write]

    return of


def nothing_loaded() -> None:
    residency().clear()


def watched(runtime: Runtime, **request: Any) -> list[Event]:
    return list(runtime.start(outputs=["video"], **{**REQUEST, **request}))


def told(events: list[Event]) -> list[str]:
    """The experts that load (and leave: `-name`), and the steps, in order."""
    said: dict[type[Event], Callable[[Any], str | None]] = {
        Loading: lambda e: e.component if e.component in EXPERTS else None,
        Stepped: lambda e: str(e.index),
        Evicted: lambda e: f"-{e.component}" if e.component in EXPERTS else None,
    }
    return [text for e in events if type(e) in said and (text := said[type(e)](e))]


@pytest.mark.parametrize(
    ("name", "write", "graph"),
    [
        ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", wan.checkpoint, "wan2_1_t2v_1_3b"),
        ("Wan-AI/Wan2.1-T2V-14B-Diffusers", wan.checkpoint, "wan2_1_t2v_14b"),
        ("mine/tuned", wan.checkpoint, "wan2_1_t2v"),
        ("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", wan_i2v.checkpoint, "wan2_1_i2v"),
        ("Wan-AI/Wan2.1-I2V-14B-720P-Diffusers", wan_i2v.checkpoint, "wan2_1_i2v_720p"),
        ("Wan-AI/Wan2.2-T2V-A14B-Diffusers", wan2_2.experts, "wan2_2_t2v_a14b"),
        ("Wan-AI/Wan2.2-I2V-A14B-Diffusers", wan_i2v.experts, "wan2_2_i2v_a14b"),
        ("Wan-AI/Wan2.2-TI2V-5B-Diffusers", wan2_2.tokenwise, "wan2_2_ti2v"),
        ("FastVideo/FastWan2.1-T2V-1.3B-Diffusers", fastwan.fastwan, "fastwan"),
    ],
)
def test_a_hub_id_chooses_its_variant(
    name: str, write: Callable[[Path], Path], graph: str, model: Callable[..., Path]
) -> None:
    found = best_graph(Checkpoint.open(str(model(write))), class_name=None, model_id=name)
    assert found.name == graph


def test_the_checkpoint_says_where_the_experts_meet(model: Callable[..., Path]) -> None:
    runtime = Runtime.load(model(wan2_2.experts))
    assert runtime.fields["boundary_ratio"].default == 0.875
    assert runtime.fields["guidance_scale_2"].default is None


@pytest.mark.parametrize(
    ("boundary", "expected"),
    [
        (None, ["transformer", "1", "transformer_2", "2", "3"]),
        (0.0, ["transformer", "1", "2", "3"]),
        (1.0, ["transformer_2", "1", "2", "3"]),
    ],
)
def test_an_expert_is_loaded_by_the_step_that_needs_it(
    boundary: float | None, expected: list[str], model: Callable[..., Path]
) -> None:
    nothing_loaded()
    runtime = Runtime.load(model(wan2_2.experts))
    assert told(watched(runtime, boundary_ratio=boundary)) == expected
    assert told(watched(runtime, boundary_ratio=boundary, seed=8)) == ["1", "2", "3"]


def test_the_plan_says_that_experts_wait(model: Callable[..., Path]) -> None:
    nothing_loaded()
    plan = str(Runtime.load(model(wan2_2.experts)).plan(outputs=["video"], **REQUEST))
    waiting = [line.split()[2] for line in plan.split("\n") if "at its first step" in line]
    assert set(waiting) == EXPERTS


def test_one_expert_makes_room_for_the_other_where_memory_is_short(
    model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_loaded()
    runtime = Runtime.load(model(wan2_2.experts))
    plenty = runtime.generate(outputs=["video"], **REQUEST).outputs["video"].frames
    nothing_loaded()
    other = Runtime.load(model(wan2_2.experts))

    def free(device: torch.device) -> int:
        """There is room for one expert, and for nothing beside it."""
        return 0 if EXPERTS & {held.name for held in residency().resident()} else 2**40

    monkeypatch.setattr(residency(), "free", free)
    first, then = ["transformer", "1", "-transformer"], ["transformer_2", "2", "3"]
    for seed in (7, 8):  # the second run loads them anew, and tells it
        assert told(watched(other, seed=seed)) == [*first, *then, "-transformer_2"]
    assert not torch.is_inference(next(other.engine.wanted["transformer"].load().parameters()))
    scarce = other.generate(outputs=["video"], **REQUEST).outputs["video"].frames
    np.testing.assert_array_equal(plenty, scarce)


def test_another_boundary_equals_the_reference_with_it(model: Callable[..., Path]) -> None:
    folder = model(wan2_2.experts)
    ours = Runtime.load(folder).generate(outputs=["video"], **REQUEST, boundary_ratio=0.7)
    pipeline(folder).register_to_config(boundary_ratio=0.7)
    try:
        theirs = vanilla(folder, REQUEST, [])
    finally:
        pipeline(folder).register_to_config(boundary_ratio=0.875)
    assert not np.array_equal(vanilla(folder, REQUEST, []), theirs)
    np.testing.assert_array_equal(ours.outputs["video"].frames, theirs)


def test_without_a_boundary_there_is_one_expert() -> None:
    assert RouteByTimestep.bypass(boundary=None) == "high"
    assert RouteByTimestep.bypass(boundary=0.0) is None


PICTURE = {"image_path": scene(0)}
BOTH = {**PICTURE, "last_image": scene(1)}


@pytest.mark.parametrize(
    ("write", "request_", "message"),
    [
        (partial(wan_i2v.checkpoint, both=True), PICTURE, "`request.last_image` is required"),
        (wan_i2v.checkpoint, {**BOTH, "num_frames": 5}, "`request.last_image` cannot be given"),
        (wan_i2v.experts, BOTH, "`request.num_frames` is 1: a clip with `request.last_image`"),
        (wan_i2v.experts, {**PICTURE, "width": 40}, "`width` expects a multiple of 16"),
        (wan2_2.tokenwise, {"height": 48}, "`height` expects a multiple of 32"),
        (fastwan.fastwan, {"num_inference_steps": 4}, "`request.num_inference_steps` is 4, and"),
        (fastwan.fastwan, {"dmd_denoising_steps": (5, 9, 2)}, "in descending order, got 5, 9, 2"),
    ],
)
def test_what_a_checkpoint_cannot_do_is_refused_before_it_loads(
    write: Callable[[Path], Path],
    request_: dict[str, Any],
    message: str,
    model: Callable[..., Path],
) -> None:
    nothing_loaded()
    runtime = Runtime.load(model(write))
    known = {k: v for k, v in REQUEST.items() if k in runtime.fields}
    with pytest.raises(UserError, match=message):
        runtime.generate(outputs=["video"], **{**known, **request_})
    assert not [held for held in residency().resident() if held.nbytes]


def test_the_next_expert_is_fetched_while_the_first_one_works(
    model: Callable[..., Path], sim: Sim
) -> None:
    runtime = Runtime.load(model(wan2_2.experts), {"placement.device": "sim:0"})
    events = watched(runtime, num_inference_steps=8, boundary_ratio=0.5)
    loads = [e.component for e in events if isinstance(e, Loading) and e.component in EXPERTS]
    assert loads == ["transformer", "transformer_2"], "each is told once"
    threads = {thread for _, to, nbytes, thread in sim.copies if to == "sim:0" and nbytes > 1000}
    assert "transfer" in threads
