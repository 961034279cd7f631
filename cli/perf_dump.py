"""The file of --perf-dump-path: times and memory of a call as JSON."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runtime import Result
from runtime.files.atomic_write import atomic_write


def perf_record(result: Result, seconds: float, prompt: str | None, model: str) -> dict[str, Any]:
    """Times and memory of one run: the established keys of perf dumps, and a row per node."""
    return {
        "timestamp": datetime.now(UTC).isoformat(),
        "request_id": uuid.uuid4().hex,
        "commit_hash": os.environ.get("SGLANG_GIT_COMMIT") or "N/A",
        "tag": "cli_generate",
        "total_duration_ms": seconds * 1000,
        "steps": [{"name": r["node"], "duration_ms": r["duration_ms"]} for r in result.rows],
        "denoise_steps_ms": _numbered(result.denoise_steps_ms),
        "memory_checkpoints": {name: dict(taken) for name, taken in result.memory.items()},
        "meta": {"prompt": prompt, "model": model},
        "nodes": [dict(row) for row in result.rows],
    }


def combine(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One run unchanged; several as totals with the same keys, and every run below `runs`."""
    if len(runs) == 1:
        return dict(runs[0])
    steps: dict[str, float] = {}
    for step in (step for run in runs for step in run["steps"]):
        steps[step["name"]] = steps.get(step["name"], 0.0) + step["duration_ms"]
    denoising = [step["duration_ms"] for run in runs for step in run["denoise_steps_ms"]]
    return {
        **runs[-1],  # memory: peaks grow over a call, the last run holds them
        "timestamp": runs[0]["timestamp"],
        "request_id": uuid.uuid4().hex,
        "total_duration_ms": sum(run["total_duration_ms"] for run in runs),
        "steps": [{"name": name, "duration_ms": total} for name, total in steps.items()],
        "denoise_steps_ms": _numbered(denoising),
        "meta": {**runs[0]["meta"], "prompt": [run["meta"]["prompt"] for run in runs]},
        "nodes": [row for run in runs for row in run["nodes"]],
        "runs": list(runs),
    }


def write(path: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """Write the dump atomically."""
    text = json.dumps(combine(runs), indent=2, ensure_ascii=False, default=str)
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def _numbered(durations: Sequence[float]) -> list[dict[str, Any]]:
    return [{"step": i, "duration_ms": duration} for i, duration in enumerate(durations)]
