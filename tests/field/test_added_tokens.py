"""Kind 9: tokens that were added to a tokenizer, and that its text encoder does not know."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cli.main import main
from demo import checkpoint as packaged_demo
from tests.support.tiny import sdxl

DEMO = Path(packaged_demo.__path__[0])
SIZE = ["checks.trained=false", "--num-inference-steps", "1", "--height", "64", "--width", "64"]
TOKEN = {
    "id": 5000, "content": "<cat-toy>", "single_word": False, "lstrip": False, "rstrip": False,
    "normalized": False, "special": False,
}  # fmt: skip


def add_token(tokenizer: Path) -> None:
    file = tokenizer / "tokenizer.json"
    listed = json.loads(file.read_text())
    listed["added_tokens"].append(TOKEN)
    file.write_text(json.dumps(listed))


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    shutil.copytree(DEMO, tmp_path / "model")
    add_token(tmp_path / "model/tokenizer")
    return tmp_path / "model"


def generate(model: Path, prompt: str, *words: str) -> int:
    place = ["--output-path", str(model.parent / "out")]
    return main(["generate", "--model-path", str(model), "--prompt", prompt, *words, *place, *SIZE])


@pytest.mark.parametrize("backend", ["sglang", "diffusers"])
def test_a_prompt_with_the_token_is_refused(
    demo: Path, backend: str, capsys: pytest.CaptureFixture[str], nothing_loaded: None
) -> None:
    assert generate(demo, "a <cat-toy> circle", "--backend", backend) == 2
    said = capsys.readouterr().err
    assert "the token `<cat-toy>` of the prompt (id " in said
    assert "`text_encoder`" in said
    assert not (demo.parent / "out").exists() or not list((demo.parent / "out").iterdir())


def test_a_negative_prompt_with_the_token_is_refused(
    demo: Path, capsys: pytest.CaptureFixture[str], nothing_loaded: None
) -> None:
    assert generate(demo, "a circle", "--negative-prompt", "<cat-toy>") == 2
    assert "`<cat-toy>`" in capsys.readouterr().err


def test_other_prompts_are_drawn(demo: Path) -> None:
    assert generate(demo, "a red circle") == 0


def test_a_second_encoder_has_a_tokenizer_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = sdxl.checkpoint(tmp_path / "model")
    add_token(model / "tokenizer_2")
    assert generate(model, "a <cat-toy> circle") == 2
    said = capsys.readouterr().err
    assert "the token `<cat-toy>`" in said
    assert "`text_encoder_2`" in said


def test_a_tokenizer_that_states_no_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CLIP's tokenizer pads to its own length: without tokenizer_config.json there is none."""
    model = sdxl.checkpoint(tmp_path / "model")
    (model / "tokenizer/tokenizer_config.json").unlink()
    for backend in ("sglang", "diffusers"):
        assert generate(model, "a circle", "--backend", backend) == 2
        said = capsys.readouterr().err
        assert "`tokenizer` does not say how many tokens it takes" in said
        assert "tokenizer_config.json" in said
