"""What all tests share (cache, one thread, no network, the toy plugin), and how they are spread.

`python -m pytest` runs the whole suite on every core (`-n auto` in pyproject.toml); with files or
folders named it runs in this process, which starts faster and takes a debugger.
"""

from __future__ import annotations

import os

# Two workers with a thread per core each would wait for each other. Subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS / "plugins"), str(TESTS.parent)]
SLOW = TESTS / "slow.txt"
NEEDS = ("gpu", "weights", "browser")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """No workers where files are named; where `-n auto` is typed, or nothing, a worker per core."""
    typed = config.invocation_params.args
    named = [word for word in typed if (TESTS.parent / word.split("::")[0]).exists()]
    asked = any(word.startswith(("-n", "--numprocesses")) for word in typed)
    return 0 if named and not asked else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what tests/slow.txt names as slow; leave out what needs more than a CPU, unless asked.

    Slow tests are listed, so no test file has to know. `-m gpu` (or any expression with the word)
    asks for the tests of a mark in NEEDS.
    """
    lines = [line.strip() for line in SLOW.read_text("utf-8").splitlines()]
    names = frozenset(line for line in lines if line and not line.startswith("#"))
    for item in items:
        if is_slow(item.nodeid, names):
            item.add_marker(pytest.mark.slow)
    expression = config.option.markexpr
    missing = {mark for mark in NEEDS if mark not in expression}
    out = [item for item in items if missing & {mark.name for mark in item.iter_markers()}]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in set(out)]


def is_slow(nodeid: str, names: frozenset[str]) -> bool:
    """Whether a file, a function or a case of one is among the names."""
    file, _, rest = nodeid.partition("::")
    function = f"{file}::{rest.partition('[')[0]}"
    return bool({file, function, nodeid} & names)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("SGLANG_DIFFUSION_CACHE_ROOT", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setenv("SGLANG_GRAPH_UNTRAINED", "1")  # most tests look at files and events, not pictures
    patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS / "plugins"), str(TESTS.parent)]))
    yield
    patch.undo()


@pytest.fixture
def only_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse what the demo model was not trained for, as it is outside of tests."""
    monkeypatch.delenv("SGLANG_GRAPH_UNTRAINED")


@pytest.fixture
def sim() -> Iterator[Any]:
    """Simulated accelerators `sim:0` and `sim:1`, of unlimited memory; other tests see none."""
    from runtime.run.residency import residency
    from tests.support.simdevice import register

    made = register(count=2)
    residency().clear()
    made.reset()
    yield made
    made.capacity = None
    residency().clear()


@pytest.fixture(autouse=True)
def _host_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that does not ask for the simulated devices runs as if nobody had made them."""
    simulated = sys.modules.get("tests.support.simdevice")
    if simulated and hasattr(simulated.Registered, "sim") and "sim" not in request.fixturenames:
        import torch

        monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


@pytest.fixture
def data() -> Path:
    """The folder of test data."""
    return TESTS / "data"


@pytest.fixture
def nothing_loaded() -> None:
    """No component is resident, as in a process of its own."""
    from runtime.run.residency import residency

    residency().clear()


@pytest.fixture
def loads_nothing(nothing_loaded: None) -> Iterator[None]:
    """Start with no component resident, and fail where the test has loaded one."""
    from runtime.run.residency import residency

    yield
    assert residency().resident() == [], "this was to load nothing"
