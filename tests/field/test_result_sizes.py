"""A result has the size, the number of frames and the rate that were asked, or it is an error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.main import main
from runtime import NodeFailed, Runtime
from runtime.contract.declare import declaration, written_nodes
from runtime.files.video_check import WrongFile, check_written
from runtime.files.video_files import read_video, write_video
from tests.support.tiny import wan

CLIP: dict[str, Any] = dict(
    prompt="a cat", height=32, width=64, num_frames=5, num_inference_steps=1, seed=3
)
# A graph that changes the size of what it decodes, at one of two places.
LARGER = """
defaults: [demo, _self_]
title: twice as large
nodes:
  larger: {{type: {type}, inputs: {{{source}, {size}}}}}
  {reader}
outputs: {{video: {output}}}
"""


@pytest.fixture(scope="module")
def wan_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wan.checkpoint(tmp_path_factory.mktemp("wan") / "model")


@pytest.fixture
def lying(wan_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """A checkpoint whose VAE states factors that are not those of its layers."""

    def copy(**config: Any) -> Path:
        folder = shutil.copytree(wan_model, tmp_path / "model")
        path = folder / "vae/config.json"
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | config), "utf-8")
        return folder

    return copy


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        ({"scale_factor_spatial": 16}, "height 16 instead of 32, width 32 instead of 64"),
        ({"scale_factor_temporal": 2}, "num_frames 9 instead of 5"),
    ],
)
def test_a_result_of_another_size_is_an_error_that_names_the_node(
    config: dict[str, Any], wrong: str, lying: Callable[..., Path]
) -> None:
    with pytest.raises(NodeFailed, match=wrong) as caught:
        Runtime.load(lying(**config)).generate(**CLIP)
    assert caught.value.node == "decode"


@pytest.mark.parametrize("config", [{"scale_factor_spatial": 16}, {"scale_factor_temporal": 2}])
def test_no_file_is_written_of_a_clip_of_another_size(
    config: dict[str, Any], lying: Callable[..., Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    flags = [f"--{n.replace('_', '-')}={v}" for n, v in CLIP.items()]
    out = tmp_path / "out"
    code = main(["generate", "--model-path", str(lying(**config)), *flags, f"--output-path={out}"])
    assert code == 1
    assert " instead of " in capsys.readouterr().err
    assert not [*out.glob("*")]


@pytest.mark.parametrize(
    ("type", "source", "size", "reader", "output"),
    [
        ("latent_edits.Resize", "latents: denoise.latents", "scale: 2.0",
         "decode: {inputs: {latents: larger.latents}}", "decode.video"),
        ("pictures.Resize", "picture: decode.video", "height: 256, width: 256", "",
         "larger.picture"),
    ],
)  # fmt: skip
def test_graphs_that_change_sizes_are_not_refused(
    type: str, source: str, size: str, reader: str, output: str, tmp_path: Path
) -> None:
    text = LARGER.format(type=type, source=source, size=size, reader=reader, output=output)
    (tmp_path / "larger.yaml").write_text(text, "utf-8")
    runtime = Runtime.load(graph=str(tmp_path / "larger.yaml"))
    result = runtime.generate(
        prompt="a red circle", num_inference_steps=1, outputs=["video"], seed=1
    )
    assert result.outputs["video"].frames.shape[1:3] == (256, 256)


def test_a_pipeline_of_diffusers_that_makes_another_length_is_noted(wan_model: Path) -> None:
    runtime = Runtime.load(wan_model, {"model.backend": "diffusers"})
    notes = [getattr(event, "text", "") for event in runtime.start(**CLIP | {"num_frames": 6})]
    assert "WanPipeline made num_frames 5 instead of 6" in notes


def test_nodes_name_inputs_of_their_own() -> None:
    for module, name in written_nodes("nodes"):
        known = declaration(f"{module}.{name}")
        assert {*getattr(known.cls, "sized", ())} <= {*known.inputs}, name


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".gif"])
@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize(
    ("count", "rate"), [(5, 24000 / 1001), (17, 16), (9, 7.3), (1, 1), (3, 49)]
)
def test_a_written_clip_is_looked_at_again(
    suffix: str, still: bool, count: int, rate: float, tmp_path: Path
) -> None:
    random = np.random.default_rng(0).integers(0, 255, (count, 32, 48, 3), np.uint8)
    path = tmp_path / f"clip{suffix}"
    write_video(np.full_like(random, 90) if still else random, path, fps=rate)
    size, exact = (32, 48), Fraction(rate).limit_denominator(100_000)
    check_written(path, suffix, size, count, exact)
    if not (still or count == 1) and suffix == ".mp4":
        assert read_video(path)[0].shape == (count, 32, 48, 3)
    if (still or count == 1) and suffix == ".webp":
        return  # stored as a picture, which states no length
    with pytest.raises(WrongFile, match="was written"):
        check_written(path, suffix, size, 2 * count + 1, exact)
    with pytest.raises(WrongFile, match="was written"):
        check_written(path, suffix, (48, 32), count, exact)
