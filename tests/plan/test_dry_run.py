"""Plans from configs alone: no weights on the disk, and the same bytes per component."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from runtime import Runtime, UserError
from tests.families.test_families import NAMES, ROWS
from tests.support.tiny.rows import Row, given

WEIGHTS = shutil.ignore_patterns("*.safetensors*", "*.bin*")


def asked(runtime: Runtime, row: Row) -> dict[str, Any]:
    """A request of the published size: only pictures, prompt, what has no default are given."""
    said = {**row.common, **row.cases[0]}
    fields = runtime.fields.items()
    needed = {n for n, f in fields if f.required or f.type == "image" or n == "prompt"}
    return {n: v for n, v in said.items() if n in needed}


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_configs_alone_predict_the_bytes_of_the_weights(row: Row, tmp_path: Path) -> None:
    whole = row.checkpoint(tmp_path / "whole")
    bare = shutil.copytree(whole, tmp_path / "bare", ignore=WEIGHTS)
    graph = row.graph if row.named else None
    plans = []
    for folder in (whole, bare):
        runtime = Runtime.load(folder, graph=graph)
        request = {**asked(runtime, row), **given(runtime, row.scenes())}
        plans.append(runtime.plan(**request))
    from_weights, from_configs = plans
    facts = from_configs.facts.components
    assert {n: f.nbytes for n, f in facts.items()} == {
        n: f.nbytes for n, f in from_weights.facts.components.items()
    }
    assert "predicted peak" in str(from_configs)
    with pytest.raises(UserError, match="has no weights"):
        runtime.generate(**request)


def test_a_published_model_is_predicted_without_its_weights(tmp_path: Path) -> None:
    """FLUX.1-dev's transformer has 11.9 billion parameters: 23.8 GB in bfloat16."""
    from diffusers import FluxTransformer2DModel

    from tests.support.tiny import flux

    folder = shutil.copytree(flux.checkpoint(tmp_path / "a"), tmp_path / "b", ignore=WEIGHTS)
    published = '{"_class_name": "FluxTransformer2DModel", "guidance_embeds": true}'
    (folder / "transformer/config.json").write_text(published, "utf-8")
    assert FluxTransformer2DModel.__name__ in published  # its defaults are those of FLUX.1
    overrides = {"components.transformer.dtype": "bfloat16"}
    plan = Runtime.load(folder, overrides).plan(prompt="a cat")
    assert plan.facts.components["transformer"].nbytes == pytest.approx(23.8e9, rel=0.01)
