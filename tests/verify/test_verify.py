"""`sglang graphs verify`: a graph beside its vanilla pipeline; the first edge that diverges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cli.main import main
from runtime.verify.compare import row
from tests.support.tiny import flux, wan
from tests.support.tiny.rows import SHORT

VIDEO = [
    *("--prompt", SHORT, "--negative-prompt", "blue", "--guidance-scale", "4", "--seed", "7"),
    *("--height", "48", "--width", "64", "--num-frames", "5", "--num-inference-steps", "3"),
]
PICTURE = [
    *("--prompt", SHORT, "--negative-prompt", "blue", "--true-cfg-scale", "2.5"),
    *("--height", "48", "--width", "80", "--num-inference-steps", "3"),
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wan.checkpoint(tmp_path_factory.mktemp("video") / "model")


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flux.checkpoint(tmp_path_factory.mktemp("picture") / "model")


def verified(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, dict[str, Any]]:
    code = main(["graphs", "verify", *map(str, words), "--json"])
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, said


def test_every_edge_of_a_video_model_equals(
    video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = verified(capsys, "wan2_1_t2v", "--model-path", video, *VIDEO)
    assert code == 0
    assert (said["equal"], said["first"], said["alone"]) == (True, None, {})
    assert said["reference"] == "WanPipeline"
    edges = [(r["edge"], r["value"], r["step"]) for r in said["rows"]]
    for wanted in (
        ("positive.embeds", "text_encoder gives", 0),
        ("negative.embeds", "text_encoder gives", 0),
        ("noise.latents", "initial noise", 1),
        ("cond.denoiser", "transformer gives", 1),
        ("uncond.denoiser", "transformer gives", 3),
        ("guided.denoiser", "prediction", 1),
        ("denoise.latents", "latents after the step", 1),
        ("denoise.latents", "latents after the step", 3),
        ("denoise.latents into decode", "vae.decode takes z", 0),
        ("decode.video", "pixels", 0),
    ):
        assert wanted in edges
    assert edges.index(("noise.latents", "initial noise", 1)) < edges.index(
        ("cond.denoiser", "transformer gives", 1)
    )
    assert all(r["maximum"] < 1e-5 for r in said["rows"] if r["value"] != "pixels")
    assert all(r["cosine"] > 0.999999 for r in said["rows"])


def test_values_that_are_laid_out_apart_are_compared_too(
    picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = verified(capsys, "flux1", "--model-path", picture, *PICTURE)
    assert (code, said["equal"], said["alone"]) == (0, True, {})
    noise = next(r for r in said["rows"] if r["value"] == "initial noise")
    assert noise["note"] == "sorted: the layouts differ"  # the reference packs latents beforehand
    taken = [r for r in said["rows"] if r["value"].startswith("transformer takes")]
    assert len(taken) == 6
    assert {r["note"] for r in taken} == {""}


@pytest.mark.parametrize(
    ("change", "edge", "value", "step"),
    [
        ("nodes.guided.inputs.rescale=request.guidance_scale", "guided.denoiser", "prediction", 1),
        (
            "nodes.decode.inputs.latents=noise.latents",
            "decode.video",
            "pixels",
            0,
        ),
    ],
    ids=["guidance", "vae"],
)
def test_the_first_edge_that_diverges_is_named(
    change: str,
    edge: str,
    value: str,
    step: int,
    video: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, said = verified(capsys, "wan2_1_t2v", "--model-path", video, *VIDEO, change)
    assert code == 1
    assert not said["equal"]
    first = said["first"]
    assert (first["edge"], first["step"]) == (edge, step)
    assert first["value"].startswith(value)
    before = said["rows"][: said["rows"].index(first)]
    assert all(r["equal"] for r in before)


def test_the_report_for_a_person(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["graphs", "verify", "flux1", f"--model-path={picture}", *PICTURE]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"graph flux1 beside FluxPipeline of {picture}"
    assert said[2].split() == ["STEP", "EDGE", "VALUE", "SHAPE", "MAXIMUM", "COSINE"]
    assert said[-1].startswith("equal: ")
    assert main([*words, "--diffusers-kwargs", "true_cfg_scale=4"]) == 1
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("first that diverges: guided.denoiser (prediction)")


def test_both_get_the_components_of_the_graph(
    video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [
        "components.vae.config.latents_mean=[0.5,0.1,0.2,-0.1]",
        "components.scheduler.config.flow_shift=5.0",
    ]
    code, said = verified(capsys, "wan2_1_t2v", "--model-path", video, *VIDEO, *changes)
    assert (code, said["equal"]) == (0, True)


def test_fields_under_other_names(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*VIDEO, "--flow-shift", "3", "--diffusers-kwargs", "guidance_scale=4.5"]
    code, said = verified(capsys, "wan2_1_t2v", "--model-path", video, *words)
    assert code == 1
    assert said["first"]["edge"] == "guided.denoiser"
    assert said["notes"] == [], "the scheduler of the pipeline has the shift"


def test_other_shapes_are_told_where_something_diverges_after_them(
    video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*VIDEO, "--diffusers-kwargs", "max_sequence_length=16"]
    assert main(["graphs", "verify", "wan2_1_t2v", f"--model-path={video}", *words]) == 1
    *lines, first, before = capsys.readouterr().out.splitlines()
    assert "other shape: theirs is (16,)" in "\n".join(lines)
    assert first.startswith("first that diverges: ")
    assert before.startswith("of another shape before it: request.prompt into positive, positive.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is no graph to verify"),
        (["demo", "--tolerance", "much"], '--tolerance is a number of 0 or more, got "much"'),
        (["demo", "--reference"], "--reference needs a value"),
        (["demo", "--prompt", "x", "--reference", "NoPipeline"], "no pipeline `NoPipeline`"),
        (["demo", "--prmpt", "x"], "there is no flag `--prmpt`"),
        (["nowhere", "--prompt", "x"], "there is no graph `nowhere`"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graphs", "verify", *words]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


def test_the_vanilla_pipeline_has_no_counterpart(
    picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["diffusers", f"--model-path={picture}", "--prompt=x"]
    assert main(["graphs", "verify", *words]) == 2
    assert "graph `diffusers` is the vanilla pipeline itself" in capsys.readouterr().err


def test_measures_of_a_row() -> None:
    a, b = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([1.0, 2.0, 2.3])
    found = row("x.y", "value", 1, (a, b), 0.1)
    assert found.maximum == pytest.approx(0.3)
    assert found.cosine == pytest.approx(9.6 / (3.0 * (1 + 4 + 2.3**2) ** 0.5))
    assert found.equal is False
    assert row("x.y", "value", 1, (a, b), 0.14).equal
    assert row("x.y", "value", 1, (a[None], b[:2]), 0.1).equal is None
    assert row("x.y", "value", 1, (torch.zeros(2), torch.zeros(2)), 0.0).equal
