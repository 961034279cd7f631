"""Kinds 7 and 9: which weight files are taken, and what is said of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from cli.main import main
from demo import checkpoint as packaged_demo
from runtime import Runtime

DEMO = Path(packaged_demo.__path__[0])
NAME = "diffusion_pytorch_model"
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
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shutil.copytree(DEMO, tmp_path / "model")
    return tmp_path / "model"


def split(folder: Path, names: list[str], index: str = "") -> None:
    """The weights of a folder as shards of these names."""
    whole = folder / f"{NAME}.safetensors"
    tensors = load_file(whole)
    keys = sorted(tensors)
    parts = {name: keys[i :: len(names)] for i, name in enumerate(names)}
    for name, own in parts.items():
        save_file({key: tensors[key] for key in own}, folder / name, {"format": "pt"})
    if index:
        listed = {key: name for name, own in parts.items() for key in own}
        (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    whole.unlink()


def generate(model: Path, *words: str) -> int:
    place = ["--output-path", str(model.parent / "out"), "--output-file-name", "x.png"]
    return main(["generate", "--model-path", str(model), "--prompt", "red", *words, *place, *SIZE])


@pytest.mark.parametrize("backend", ["sglang", "diffusers"])
@pytest.mark.parametrize(
    "names",
    [
        [f"{NAME}-00001-of-00001.safetensors"],
        [f"{NAME}-00001-of-00002.safetensors", f"{NAME}-00002-of-00002.safetensors"],
        [f"{NAME}.fp16-00001-of-00002.safetensors", f"{NAME}.fp16-00002-of-00002.safetensors"],
    ],
)
def test_complete_shards_load_without_an_index(
    model: Path, names: list[str], backend: str, capsys: Capture
) -> None:
    split(model / "vae", names)
    assert generate(model, "--backend", backend) == 0, capsys.readouterr().err
    assert list((model.parent / "out").glob("x*.png"))


def test_a_variant_that_is_used_is_noted(model: Path, capsys: Capture) -> None:
    (model / f"vae/{NAME}.safetensors").rename(model / f"vae/{NAME}.fp16.safetensors")
    pipeline = Runtime.load(str(model))
    note = "the `fp16` weights of vae are used: there are no plain ones"
    assert note in pipeline.notes
    assert generate(model) == 0
    assert note in capsys.readouterr().err
    found = next((model.parent / "out").glob("x*.png"))
    assert main(["inspect", str(found), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["components"]["vae"]["variant"] == "fp16"
    assert "variant" not in said["components"]["transformer"]


def test_a_variant_of_shards_is_noted(model: Path) -> None:
    names = [f"{NAME}.bf16-0000{i}-of-00002.safetensors" for i in (1, 2)]
    split(model / "transformer", names, f"{NAME}.safetensors.index.bf16.json")
    (note,) = (n for n in Runtime.load(str(model)).notes if "bf16" in n)
    assert note == "the `bf16` weights of transformer are used: there are no plain ones"


def test_plain_weights_come_first_without_a_note(model: Path) -> None:
    shutil.copy(model / f"vae/{NAME}.safetensors", model / f"vae/{NAME}.fp16.safetensors")
    assert not [n for n in Runtime.load(str(model)).notes if "fp16" in n]
