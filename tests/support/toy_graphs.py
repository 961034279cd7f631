"""Graphs of toy nodes that a test writes, runs, or expects to be refused."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from runtime import Runtime, UserError

MODEL = Path(__file__).parents[1] / "data/toy_model"


def write(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(f"checkpoint: {MODEL}\n{dedent(text)}", "utf-8")
    return path


def run(path: Path, *outputs: str, **request: Any) -> Any:
    result = Runtime.load(graph=path).generate(outputs=outputs or None, **request)
    values = tuple(result.outputs.values())
    return values if len(values) > 1 else values[0]


def refused(path: Path, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        _ = Runtime.load(None, overrides, graph=path).engine.checked
    return str(caught.value)
