"""Kind 13: a file says which packages and which weights made it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from cli.main import main
from demo import checkpoint as packaged_demo
from runtime import Runtime
from runtime.provenance.read_back import differences, provenance

DEMO = Path(packaged_demo.__path__[0])
SIZE = [
    "checks.trained=false",
    "--num-inference-steps",
    "1",
    "--height",
    "64",
    "--width",
    "64",
    "--num-frames",
    "1",
]
REQUEST: dict[str, Any] = {
    "prompt": "red", "num_inference_steps": 1, "height": 64, "width": 64, "seed": 1
}  # fmt: skip
NAMED = ("tokenizers", "ftfy", "sentencepiece", "protobuf", "torchvision", "scipy", "accelerate")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    words = ["--prompt", "red", "--output-path", str(folder), "--output-file-name", "x.png"]
    assert main(["generate", *words, *SIZE]) == 0
    return next(folder.glob("*.png"))


def rewritten(picture: Path, target: Path, **versions: str | None) -> Path:
    """A copy that says other versions; None leaves one out."""
    record = provenance(picture)
    changed = {**record["versions"], **versions}
    record["versions"] = {name: value for name, value in changed.items() if value}
    with Image.open(picture) as image:
        (key,) = map(str, image.info)
        info = PngImagePlugin.PngInfo()
        info.add_text(key, json.dumps(record))
        image.save(target, pnginfo=info)
    return target


def test_packages_that_change_results_are_listed(picture: Path) -> None:
    versions = provenance(picture)["versions"]
    assert set(NAMED) <= set(versions)
    assert versions["tokenizers"][0].isdigit()


@pytest.mark.parametrize("package", ["ftfy", "scipy", "torchvision", "tokenizers"])
def test_a_replay_names_the_package_that_differs(
    picture: Path, tmp_path: Path, package: str, capsys: Capture
) -> None:
    other = rewritten(picture, tmp_path / "other.png", **{package: "0.0.1"})
    assert (
        main(
            [
                "generate",
                "--replay",
                str(other),
                "--output-path",
                str(tmp_path),
                "checks.trained=false",
            ]
        )
        == 0
    )
    assert f"versions.{package}" in capsys.readouterr().err


def test_a_package_that_only_one_side_has(picture: Path) -> None:
    now = provenance(picture)
    then: dict[str, Any] = json.loads(json.dumps(now))
    then["versions"]["xformers"] = "1.0"
    assert list(differences(then, now)) == [("versions.xformers", "1.0", "not installed")]
    assert list(differences(now, then)) == [("versions.xformers", "not installed", "1.0")]


def test_records_of_earlier_versions_raise_no_alarm(picture: Path) -> None:
    """They did not look for optional packages: nothing is known of them."""
    now = provenance(picture)
    then: dict[str, Any] = json.loads(json.dumps(now))
    for name in NAMED:
        del then["versions"][name]
    assert list(differences(then, now)) == []


def test_a_package_on_the_path_counts_as_installed(tmp_path: Path) -> None:
    (tmp_path / "ftfy").mkdir()
    (tmp_path / "ftfy/__init__.py").write_text("")
    code = "from runtime.provenance.packages import versions; print(versions()['ftfy'])"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "unknown version"


def overwrite(path: Path) -> None:
    """Other content of the same length, with the time that the file had."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-64:] = bytes(64)
    with path.open("r+b") as file:
        file.write(bytes(content))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns


def digest(record: Any) -> str:
    return str(record["components"]["transformer"]["digest"])


def test_weights_that_change_in_place_are_noticed_by_the_next_runtime(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(DEMO, model)
    before = (
        Runtime.load(str(model), {"checks.trained": False})
        .generate(**REQUEST)
        .outputs["video"]
        .frames
    )
    overwrite(model / "transformer/diffusion_pytorch_model.safetensors")
    after = (
        Runtime.load(str(model), {"checks.trained": False})
        .generate(**REQUEST)
        .outputs["video"]
        .frames
    )
    assert (before != after).any()


def test_a_file_says_the_weights_that_made_it(tmp_path: Path) -> None:
    """Also when the files were replaced after they were loaded."""
    model = tmp_path / "model"
    shutil.copytree(DEMO, model)
    pipeline = Runtime.load(str(model), {"checks.trained": False})
    one = pipeline.provenance(**REQUEST)
    overwrite(model / "transformer/diffusion_pytorch_model.safetensors")
    assert digest(one) == digest(pipeline.provenance(**REQUEST))
    assert digest(one) != digest(
        Runtime.load(str(model), {"checks.trained": False}).provenance(**REQUEST)
    )
