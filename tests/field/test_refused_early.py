"""Options that cannot work are refused at planning, before weights are read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.main import main
from runtime import Runtime, UserError
from runtime.run.residency import residency
from tests.support.tiny import cogvideox, flux, hunyuan, ltx, sana, wan
from tests.support.tiny.rows import Row, pipeline, vanilla

CLIP = dict(prompt="a cat", height=96, width=80, num_frames=5, num_inference_steps=1, seed=3)
PICTURE = dict(prompt="a cat", height=64, width=96, num_inference_steps=1, seed=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    """A tiny checkpoint of a family, written at its first use."""
    written: dict[Any, Path] = {}

    def checkpoint(save: Callable[[Path], Path]) -> Path:
        if save not in written:
            written[save] = save(tmp_path_factory.mktemp("tiny") / "model")
        return written[save]

    return checkpoint


def resident() -> list[str]:
    """Names of the networks that are loaded."""
    return [held.name for held in residency().resident()]


def case_name(value: Any) -> str:
    """A module or options as part of a test's name."""
    if isinstance(value, dict):
        return "-".join(f"{k}={v}" for k, v in value.items())
    return str(getattr(value, "__name__", value)).rpartition(".")[2]


TILES = [
    (wan, {"tile_sample_stride_height": 0}, "at least 1 px"),
    (wan, {"tile_sample_min_height": -32}, "at least 1 px"),
    (wan, {"tile_sample_min_width": 4}, "multiple of 8"),
    (wan, {"tile_sample_min_height": 32, "tile_sample_stride_height": 12}, "multiple of 8"),
    (wan, {"tile_sample_min_height": 32, "tile_sample_stride_height": 64}, "parts would be left"),
    (flux, {"tile_overlap_factor": 1.0}, "below 1"),
    (flux, {"tile_overlap_factor": -0.5}, "at least 0"),
    (flux, {"tile_sample_min_size": 20}, "multiple of 8"),
    (flux, {"tile_sample_min_size": 32, "tile_overlap_factor": 0.3}, "instead of"),
    (cogvideox, {"tile_sample_min_height": 64}, "instead of"),
]


@pytest.mark.usefixtures("nothing_loaded")
@pytest.mark.parametrize("backend", ["sglang", "diffusers"])
@pytest.mark.parametrize(("family", "tiles", "reason"), TILES, ids=case_name)
def test_tiles_that_do_not_fit(
    family: Any, tiles: dict[str, Any], reason: str, backend: str,
    model: Callable[[Any], Path],
) -> None:  # fmt: skip
    overrides = {f"vae.config.{name}": value for name, value in tiles.items()}
    overrides |= {"vae.tiling": True, "model.backend": backend}
    request = PICTURE if family is flux else CLIP
    if family is cogvideox:
        request = CLIP | {"num_frames": 9}
    with pytest.raises(UserError, match=reason) as caught:
        Runtime.load(model(family.checkpoint), overrides).generate(**request)
    assert caught.value.field.rpartition(".")[2] in tiles
    assert not resident()


@pytest.mark.parametrize(("size", "stride"), [(40, 24), (56, 40)])
def test_a_stride_that_follows_from_a_size_is_one_that_fits(
    size: int, stride: int, model: Callable[[Any], Path]
) -> None:
    """Three quarters of 40 px are 30 px, which are no whole number of latent pixels."""
    folder = model(wan.checkpoint)
    tiled = {"vae.tiling": True, "vae.config.tile_sample_min_height": size}
    found = Runtime.load(folder, tiled).generate(**CLIP).outputs["video"].frames
    pipe = pipeline(folder)
    pipe.vae.enable_tiling(size, 256, stride, 192)
    expected = vanilla(folder, CLIP, [])
    pipe.vae.disable_tiling()
    assert np.abs(np.asarray(found).astype(int) - expected.astype(int)).max() <= 1


def with_scheduler(folder: Path, to: Path, **options: Any) -> Path:
    """A copy of a checkpoint whose scheduler has other options."""
    shutil.copytree(folder, to)
    path = to / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **options}), "utf-8")
    return to


SCHEDULERS = [
    (wan, {"solver_type": "bh1"}, 3, "components.scheduler.config.solver_type"),
    (wan, {"lower_order_final": False}, 3, "components.scheduler.config.lower_order_final"),
    (sana, {"use_karras_sigmas": True}, 3, "components.scheduler.config.use_karras_sigmas"),
    (
        wan,
        {"use_exponential_sigmas": True},
        2,
        "components.scheduler.config.use_exponential_sigmas",
    ),
    (flux, {"shift_terminal": 0.1}, 1, "request.num_inference_steps"),
    (hunyuan, {"shift_terminal": 0.1}, 1, "request.num_inference_steps"),
    (ltx, {"shift_terminal": 0.1}, 1, "request.num_inference_steps"),
]


@pytest.mark.usefixtures("nothing_loaded")
@pytest.mark.parametrize(("family", "options", "steps", "field"), SCHEDULERS, ids=case_name)
def test_a_scheduler_that_gives_nan_is_refused(
    family: Any, options: dict[str, Any], steps: int, field: str, model: Callable[[Any], Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    row: Row = family.ROWS[0]
    folder = with_scheduler(model(row.checkpoint), tmp_path / "model", **options)
    request = {**row.common, **row.cases[0], "num_inference_steps": steps}
    with pytest.raises(UserError) as caught:
        Runtime.load(folder).generate(**request)
    assert caught.value.field == field
    assert not resident()


def test_the_command_line_exits_with_2_and_plans_nothing(
    model: Callable[[Any], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_scheduler(model(wan.checkpoint), tmp_path / "model", solver_type="bh1")
    command = ["generate", f"--model-path={folder}", "--prompt=x", "--num-frames=1"]
    command += ["--height=32", "--width=32", "--num-inference-steps=3", "--dry-run"]
    assert main(command) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "solver_type=bh1" in shown.err
    assert main([*command, "components.scheduler.config.solver_type=bh2"]) == 0
