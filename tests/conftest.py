"""One cache for the whole run, away from the user's; the toy plugin is installed by its folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS / "plugins"), str(TESTS.parent)]


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("SGLANG_DIFFUSION_CACHE_ROOT", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS / "plugins"), str(TESTS.parent)]))
    yield
    patch.undo()


@pytest.fixture
def data() -> Path:
    """The folder of test data."""
    return TESTS / "data"


@pytest.fixture
def nothing_loaded() -> None:
    """As in a process of its own: no component is resident from an earlier test."""
    from runtime.run.residency import store

    for held in store().resident():
        store().release(held.key)
