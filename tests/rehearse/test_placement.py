"""Placement on machines: what leaves for what, what does not fit, and the time by roofline."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime import Runtime, UserError
from runtime.rehearse.machine import Machine, described_machine, find_machine, machine_names
from runtime.rehearse.placement import Placement, place_on_machine
from runtime.rehearse.report import placement_json, placement_text

REQUEST = {"prompt": "a red circle", "seed": 1, "num_inference_steps": 3}


def on(memory: int, weights: int | None = None) -> Placement:
    """The demo's picture on a machine with this many bytes. weights: of each component, instead."""
    runtime = Runtime.load(None, {"checks.trained": False})
    wanted = runtime._outputs(None)
    plan, rehearsal = runtime.engine.rehearse(
        runtime.validate(**REQUEST), wanted, runtime._destination()
    )
    if weights is not None:
        rehearsal = replace(rehearsal, weights=dict.fromkeys(rehearsal.weights, weights))
    small = replace(described_machine("cpu-16"), memory=memory, reserved=0)
    return place_on_machine(plan, rehearsal, small)


def test_components_that_fit_beside_each_other_stay() -> None:
    placed = on(2**30)
    assert placed.fits
    assert {part.residency for part in placed.components} == {"resident"}
    assert placed.peak < 2**30


def test_components_make_room_for_each_other() -> None:
    """With room for one and a half components, each leaves for the next, but for the last one."""
    large = 2**30
    placed = on(large * 3 // 2, weights=large)
    assert placed.fits
    assert large < placed.peak <= large * 3 // 2
    *others, last = (part.residency for part in placed.components)
    assert {*others} == {"disk"}
    assert last == "resident"
    assert all("makes room for" in p.why for p in placed.components if p.residency == "disk")


def test_what_does_not_fit_is_named() -> None:
    placed = on(2**20)
    assert not placed.fits
    text = placement_text(placed, "the demo")
    assert "DOES NOT FIT" in text
    assert "needs" in text.splitlines()[-1]


def test_the_json_has_the_documented_shape() -> None:
    found = placement_json(on(2**30))
    assert set(found) == {
        "fits", "machine", "devices", "host", "components", "nodes", "seconds", "advice"
    }  # fmt: skip
    assert set(found["devices"]["cpu"]) == {"peak_bytes", "budget_bytes"}
    assert set(found["nodes"][0]) == {
        "name", "type", "device", "peak_bytes", "output_bytes", "flops", "seconds"
    }  # fmt: skip
    assert set(next(iter(found["components"].values()))) == {
        "class", "dtype", "bytes", "residency", "device", "why"
    }  # fmt: skip


def test_a_second_rehearsal_is_read_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    first = on(2**30)

    def refuse(*_: object) -> None:
        raise AssertionError("it is on disk")

    monkeypatch.setattr("runtime.rehearse.store.Rehearser", refuse)
    assert on(2**30) == first


def test_seconds_are_the_slower_of_arithmetic_and_memory() -> None:
    made = Machine(
        "m", "M", "cuda", 0, 0, 100.0, {"float32": 10.0, "bfloat16": 1000.0}, 0, 1.0, 0.0
    )
    assert made.seconds({"float32": 50}, 100, 0) == pytest.approx(5.0), "arithmetic"
    assert made.seconds({"bfloat16": 50}, 100, 0) == pytest.approx(1.0), "memory"
    assert made.seconds({"float32": 50}, 100, 200) == pytest.approx(7.0), "the rest comes after"


@pytest.mark.parametrize("name", machine_names())
def test_every_machine_is_complete(name: str) -> None:
    found = find_machine(name)
    assert 0 < found.reserved < found.memory
    assert found.rate("float32") > 0
    assert found.rate("bfloat16") > 0
    assert found.bandwidth > 0
    assert found.host_memory > 0


@pytest.mark.parametrize("text", ["h10", "0xh100", "17xh100", "2xm3-16", "2x"])
def test_a_machine_that_there_is_not(text: str) -> None:
    with pytest.raises(UserError):
        find_machine(text)


def test_two_devices_of_a_machine() -> None:
    assert find_machine("2xrtx-4090").names == ["cuda:0", "cuda:1"]
