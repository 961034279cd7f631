"""Residency: states, leases, eviction, parking, prefetch, on a simulated accelerator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from runtime import Runtime
from runtime.checkpoint.variant import Variant
from runtime.device import CPU
from runtime.events import Event, Evicted, Loaded, Moved
from runtime.run.residency import Key, Residency, State, WantedComponent, residency
from tests.support.simdevice import Sim

DEVICE = "sim:0"  # a torch.device only once it is registered


def wanted(name: str, device: str = DEVICE, numbers: int = 1000, **options: Any) -> WantedComponent:
    """A network of so many float32 numbers."""

    where = torch.device(device)

    def load() -> nn.Module:
        net = nn.Module()
        net.weight = nn.Parameter(torch.ones(numbers).to(where), requires_grad=False)
        return net

    variant = Variant(name, "Toy", "float32")
    made = {"load": load, **options}
    return WantedComponent(name, variant, where, 4 * numbers, **made)


def use(store: Residency, one: WantedComponent, events: list[Event] | None = None) -> Any:
    with store.acquire(one, (events if events is not None else []).append) as net:
        return net


def test_a_component_is_loaded_once_and_told(sim: Sim) -> None:
    store, events = Residency(), list[Event]()
    first = use(store, wanted("a"), events)
    assert use(store, wanted("a"), events) is first
    assert [type(e) for e in events] == [Loaded]
    assert store.state(wanted("a").key) is State.READY
    assert sim.used["sim:0"] == 4000


def test_the_least_recently_used_makes_room(sim: Sim) -> None:
    sim.capacity = 14_000
    store, events = Residency(), list[Event]()
    for name in "aba":
        use(store, wanted(name), events)
    assert store.make_room(wanted("c"), events.append) == []
    use(store, wanted("c"))
    assert store.make_room(wanted("d"), events.append) == ["b"]
    assert [e.component for e in events if isinstance(e, Evicted)] == ["b"]
    assert sim.used["sim:0"] == 8000


def test_a_leased_component_stays(sim: Sim) -> None:
    store = Residency(free=lambda device: 0)
    with store.acquire(wanted("a")):
        assert store.make_room(wanted("b"), lambda event: None) == []
    assert store.make_room(wanted("b"), lambda event: None) == ["a"]


def test_a_parked_component_waits_on_the_host(sim: Sim) -> None:
    store, events = Residency(), list[Event]()
    use(store, wanted("a", park=True), events)
    sim.reset()
    assert store.evict(torch.device(DEVICE), events.append) == ["a"]
    assert store.state(wanted("a").key) is State.HOST
    assert sim.used["sim:0"] == 0
    net = use(store, wanted("a", park=True), events)
    assert net.weight.device == torch.device(DEVICE)
    assert [type(e) for e in events] == [Loaded, Evicted, Moved]
    ways = [(source, target) for source, target, _, _ in sim.copies]
    assert ways == [("sim:0", "cpu"), ("cpu", "sim:0")]


def test_two_devices_have_a_copy_each(sim: Sim) -> None:
    store = Residency()
    one, two = (use(store, wanted("a", f"sim:{i}")) for i in range(2))
    assert (one.weight.device.index, two.weight.device.index) == (0, 1)
    assert len(store.resident()) == 2


def test_tools_have_no_device_and_never_leave() -> None:
    tool = WantedComponent("t", Variant("t", "Tokenizer", kind="tool"), CPU, 0, object)
    assert tool.key == Key(tool.variant, "")
    store = Residency(free=lambda device: 0)
    first = use(store, tool)
    assert store.evict(CPU, lambda event: None) == []
    assert use(store, tool) is first


def test_a_prefetch_is_made_by_the_transfer_thread(sim: Sim) -> None:
    store = Residency()
    sim.reset()
    store.prefetch(wanted("a"))
    until(lambda: store.state(wanted("a").key) is State.READY)
    assert {thread for *_, thread in sim.copies} == {"transfer"}
    until(lambda: not [t for t in threading.enumerate() if t.name == "transfer"])


def test_a_prefetch_that_fails_is_tried_again_by_whoever_needs_it() -> None:
    store, tries = Residency(free=lambda device: 2**40), list[int]()

    def load() -> nn.Module:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("the disk is away")
        return nn.Linear(1, 1)

    one = wanted("a", "cpu", load=load)
    store.prefetch(one)
    until(
        lambda: len(tries) == 1 and not [t for t in threading.enumerate() if t.name == "transfer"]
    )
    assert isinstance(use(store, one), nn.Linear)


def test_a_load_waits_for_no_other_components_download() -> None:
    store, started, go = Residency(), threading.Event(), threading.Event()

    def slow() -> nn.Module:
        started.set()
        assert go.wait(30)
        return nn.Linear(1, 1)

    thread = threading.Thread(target=use, args=(store, wanted("slow", "cpu", load=slow)))
    thread.start()
    assert started.wait(30)
    use(store, wanted("quick", "cpu"))  # would wait for ever under one lock
    assert store.state(wanted("slow", "cpu").key) is State.MOVING
    go.set()
    thread.join()


def test_a_load_that_fails_leaves_nothing_behind() -> None:
    store = Residency()

    def broken() -> nn.Module:
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        use(store, wanted("a", "cpu", load=broken))
    assert store.state(wanted("a", "cpu").key) is State.ABSENT
    assert store.resident() == []


def until(holds: Callable[[], bool]) -> None:
    """Wait, a minute at most."""
    for _ in range(6000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def test_a_server_loads_what_fits_and_evicts_nothing_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, nothing_loaded: None
) -> None:
    session = Runtime.load().engine
    sizes = {name: fact.nbytes for name, fact in session.facts.items() if fact.nbytes}
    largest = max(sizes, key=lambda name: sizes[name])

    def free(device: torch.device) -> int:
        return sizes[largest]  # a quarter too little for its own work

    monkeypatch.setattr(residency(), "free", free)
    session.preload()
    held = {entry.name for entry in residency().resident() if entry.nbytes}
    assert held == {*sizes} - {largest}
