"""Kind 9: a package that a model needs and that is not installed is named, with its command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from demo import checkpoint as packaged_demo
from runtime.checkpoint.required_files import piece_model_fault
from tests.support.tiny import wan_i2v

DEMO = Path(packaged_demo.__path__[0])
BLOCK = """
import importlib.util, sys
absent = sys.argv[1].split(",")
real = importlib.util.find_spec

def is_absent(name):
    return any(name == a or name.startswith(a + ".") for a in absent)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if is_absent(name):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def find_spec(name, package=None):
    return None if is_absent(name) else real(name, package)

importlib.util.find_spec = find_spec
sys.meta_path.insert(0, Absent())
from cli.main import main
sys.exit(main(sys.argv[2:]))
"""
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


def generate(absent: str, *words: str) -> tuple[int, str]:
    """`sglang generate` in a process where some packages cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK, absent, "generate", "--prompt", "red", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def pieces(path: Path) -> None:
    """A SentencePiece model of one's own, from a few words."""
    from sentencepiece import SentencePieceTrainer

    text = path.with_name("words.txt")
    text.write_text("a red circle on a blue background\na green square moves to the right\n" * 50)
    SentencePieceTrainer.train(
        input=str(text), model_prefix=str(path.with_suffix("")), vocab_size=28,
        model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    text.unlink()
    path.with_suffix(".vocab").unlink()


@pytest.fixture(scope="module")
def only_pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with a tokenizer of nothing but spiece.model."""
    model = tmp_path_factory.mktemp("pieces") / "model"
    shutil.copytree(DEMO, model)
    for file in (model / "tokenizer").iterdir():
        file.unlink()
    pieces(model / "tokenizer/spiece.model")
    index = json.loads((model / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "T5TokenizerFast"]
    (model / "model_index.json").write_text(json.dumps(index))
    return model


@pytest.mark.parametrize("backend", ["sglang", "diffusers"])
@pytest.mark.parametrize(
    ("absent", "names"),
    [
        ("sentencepiece", ["`sentencepiece`"]),
        ("google.protobuf", ["`protobuf`"]),
        ("sentencepiece,google.protobuf", ["`sentencepiece`", "`protobuf`"]),
    ],
)
def test_a_tokenizer_names_the_package_it_needs(
    only_pieces: Path, tmp_path: Path, absent: str, names: list[str], backend: str
) -> None:
    place = ["--output-path", str(tmp_path), "--backend", backend]
    code, said = generate(absent, "--model-path", str(only_pieces), *SIZE, *place)
    assert code == 2, said
    assert all(name in said for name in names), said
    assert "`tokenizer`" in said
    assert "python -m pip install" in said
    assert "tiktoken" not in said


def test_pieces_alone_are_a_tokenizer(only_pieces: Path, tmp_path: Path) -> None:
    place = ["--output-path", str(tmp_path)]
    code, said = generate("nothing", "--model-path", str(only_pieces), *SIZE, *place)
    assert code == 0, said
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_a_tokenizer_json_needs_none_of_them(tmp_path: Path) -> None:
    place = ["--output-path", str(tmp_path)]
    code, said = generate("sentencepiece,google.protobuf,tiktoken,ftfy", *SIZE, *place)
    assert code == 0, said


def test_a_vanilla_pipeline_names_the_package_that_it_calls(tmp_path: Path) -> None:
    """diffusers imports ftfy where it is installed, and calls it in any case."""
    model = wan_i2v.checkpoint(tmp_path / "model")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "start.png")
    words = ["--model-path", str(model), "--image-path", str(tmp_path / "start.png")]
    code, said = generate("ftfy", *words, "--backend", "diffusers", *SIZE)
    assert code == 2, said
    assert "WanImageToVideoPipeline needs the package `ftfy`" in said
    assert "python -m pip install ftfy" in said


def test_a_scheduler_names_the_package_that_it_needs(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(DEMO, model)
    file = model / "scheduler/scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"use_beta_sigmas": True}))
    code, said = generate("scipy", "--model-path", str(model), *SIZE)
    assert code == 2, said
    assert "scheduler" in said
    assert "scipy" in said


def test_ranks_of_tiktoken_are_no_damaged_pieces(tmp_path: Path) -> None:
    """`tokenizer.model` is a SentencePiece model or tiktoken's ranks: its first bytes tell."""
    ranks = tmp_path / "tokenizer.model"
    ranks.write_text("IQ== 0\nIg== 1\n")
    assert piece_model_fault(ranks) is None
    ranks.write_text("neither of them")
    assert piece_model_fault(ranks) is not None
