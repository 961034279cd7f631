"""`sglang plan`: tables and JSON, exit codes, advice that works when pasted; nothing is loaded."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from cli.main import main
from tests.support.published import published

DEMO = ["plan", "--prompt", "a red circle", "--seed", "1"]


@pytest.mark.usefixtures("loads_nothing")
def test_the_demo_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DEMO, "--machine", "rtx-3060"]) == 0
    shown = capsys.readouterr().out
    assert "NVIDIA GeForce RTX 3060 12GB: fits" in shown
    assert "denoise" in shown
    assert "by roofline" in shown


@pytest.mark.usefixtures("loads_nothing")
def test_a_prompt_is_not_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--machine=cpu-64", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is True
    assert found["devices"]["cpu"]["peak_bytes"] == found["host"]["peak_bytes"] > 0
    assert found["advice"] == []


@pytest.mark.usefixtures("loads_nothing")
def test_the_machine_at_hand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DEMO, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["name"] == "this machine"
    assert found["seconds"] > 0


def test_help_lists_the_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--help"]) == 0
    assert "rtx-4090" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--machine", "rtx-409"], "rtx-4090"),
        (["--machine"], "--machine NAME"),
        (["--machine", "h100", "--device", "cpu"], "leave one of the two out"),
        (["--hieght", "64"], "--height"),
    ],
)
def test_mistakes(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DEMO, *words]) == 2
    assert told in capsys.readouterr().err


def test_what_does_not_fit_is_made_to_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture of 2048x2048 on 24 GiB: the weights leave 1.2 GB; a smaller one fits."""
    folder = published("flux1_dev", tmp_path)
    size = ["--height", "2048", "--width", "2048", "--num-inference-steps", "2"]
    words = ["--model-path", str(folder), *size]
    assert main(["plan", *words, "--machine", "rtx-4090", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is False
    (advice,) = found["advice"]
    assert "instead of 2048x2048" in advice["why"]
    pasted = shlex.split(advice["command"])
    assert pasted[:2] == ["sglang", "generate"]
    assert main(["plan", *pasted[2:], "--machine", "rtx-4090", "--json"]) == 0


def test_weights_that_are_too_large_have_no_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = published("flux1_dev", tmp_path)
    assert main(["plan", "--model-path", str(folder), "--machine", "rtx-3060"]) == 1
    shown = capsys.readouterr().out
    assert "DOES NOT FIT" in shown
    assert "`transformer` alone" in shown
    assert "no option of this version makes it fit" in shown
