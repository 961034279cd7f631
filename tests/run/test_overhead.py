"""What the engine adds to a denoising step, counted: `python -m bench.overhead` has it in time."""

from __future__ import annotations

from bench.overhead import calls_per_step, once
from runtime import Runtime


def test_a_step_costs_few_python_calls() -> None:
    runtime = Runtime.load()
    once(runtime, 2, 0)
    assert calls_per_step(runtime) <= 275, "two passes of guidance, one solver step, its events"
