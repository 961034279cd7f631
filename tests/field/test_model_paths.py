"""Kinds 9 and 10: what is given as a model, a graph's input or a device leads to what is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cli.main import main
from runtime import device
from runtime.errors import UserError

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("path", "id"),
    [
        ("https://huggingface.co/org/name", "org/name"),
        ("https://huggingface.co/org/name/tree/main", "org/name"),
        ("https://huggingface.co/org/name/", "org/name"),
        ("huggingface.co/org/name", "org/name"),
        ("hf://org/name", "org/name"),
    ],
)
def test_an_address_leads_to_the_hub_id(path: str, id: str, capsys: Capture) -> None:
    assert main(["generate", "--model-path", path, "--prompt", "x"]) == 2
    assert f"write `{id}`" in capsys.readouterr().err


def test_a_broken_link_to_a_model(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "model").symlink_to(tmp_path / "gone")
    assert main(["generate", "--model-path", str(tmp_path / "model"), "--prompt", "x"]) == 2
    assert f"is a broken link to {tmp_path / 'gone'}" in capsys.readouterr().err


def test_a_picture_leads_to_the_graph_that_takes_it(tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "p.png"
    Image.new("RGB", (64, 64)).save(picture)
    assert main(["generate", "--prompt", "x", "--image-path", str(picture)]) == 2
    said = capsys.readouterr().err
    assert "graph `demo` takes no `image_path`" in said
    assert "add `--graph demo_edit`" in said


def test_a_clip_leads_to_graphs_that_take_one(capsys: Capture) -> None:
    assert main(["generate", "--prompt", "x", "--video-path", "clip.mp4"]) == 2
    assert "graphs that take it: `wan2_1_v2v`" in capsys.readouterr().err


def test_likely_graphs_come_first(capsys: Capture) -> None:
    words = ["--graph", "flux1_kontext", "--video-path", "clip.mp4", "--dry-run"]
    assert main(["generate", "--prompt", "x", "--model-path", "nowhere/x", *words]) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize("name", ["CPU", "cpu:0", " cpu ", "Cpu", "auto", "AUTO"])
def test_spellings_of_a_device(name: str) -> None:
    best = device.available()[0]
    assert str(device.choose_device(name)) in {"cpu", best}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("npu", "there is no device `npu`."),
        ("cuda:99", "there is no device `cuda:99`."),
        ("cpu:1", "there is no device `cpu:1`."),
        ("", "the name of the device is empty."),
    ],
)
def test_a_device_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        device.choose_device(name)
    assert caught.value.message == message
    assert caught.value.help == f"this machine has: {', '.join(device.available())}"
    assert caught.value.field == "placement.device"
