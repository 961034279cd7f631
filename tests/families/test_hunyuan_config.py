"""The config file that the documentation shows for FastHunyuan, on a tiny checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
import torch

from cli.generate import gather_settings
from cli.main import main
from cli.parser import parse
from nodes.hunyuan import DESCRIBE
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.load import LeftOut, load
from runtime.configure.resolve import resolve
from runtime.graph.model import ComponentSpec
from runtime.run.session import Session
from tests.support.tiny import hunyuan

SMALL = ("--num-gpus=1", "--sp-size=1", "--height=64", "--width=80", "--num-frames=5")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hunyuan.fast(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(params=["run.json", "run.yaml"])
def words(request: pytest.FixtureRequest, data: Path, model: Path) -> list[str]:
    """The command line: the file, one device, another model of small size."""
    return ["--config", str(data / "config" / request.param), f"--model-path={model}", *SMALL]


def test_it_runs(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", *words, f"--output-path={tmp_path}"]) == 0
    said = capsys.readouterr()
    (path,) = map(Path, said.out.splitlines())
    assert path.parent == tmp_path
    assert path.name.startswith("A_red_kite_over_a_harbour_at_noon")
    assert "denoise: step 6/6" in said.err
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        assert (stream.height, stream.width, stream.average_rate) == (64, 80, 24)
        assert sum(1 for _ in clip.decode(stream)) == 5


def test_all_in_it_takes_effect(words: list[str]) -> None:
    settings, _ = gather_settings(parse(words))
    engine = Session(resolve(settings))
    assert engine.config.graph.name == "fast_hunyuan"
    request = engine.config.request
    assert (request["seed"], request["fps"], request["num_inference_steps"]) == ((1024,), 24, 6)
    half = ("text_encoder", "text_encoder_2", "vae")
    dtypes = {name: fact.dtype for name, fact in engine.facts.items() if fact.dtype}
    assert dtypes == {"transformer": "bfloat16", **dict.fromkeys(half, "float16")}
    source = engine.sources["vae"]
    assert isinstance(source, ComponentSource)
    vae = load(source, dtype=torch.float16, device=torch.device("cpu"))
    tiles = vae.use_tiling, vae.tile_sample_min_height, vae.tile_sample_min_width
    assert tiles == (True, 256, 256)
    assert isinstance(vae.encoder, LeftOut)
    tensors = [*vae.parameters(), *vae.buffers()]
    assert sum(t.nbytes for t in tensors) == source.nbytes("float16")
    assert source.nbytes() < engine.config.checkpoint.component(ComponentSpec("vae")).nbytes()


def test_a_part_that_is_needed_and_left_out_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--prompt=x", "--height=64", "--width=64", "--vae-config.load_decoder=false"]
    assert main(["generate", *words, f"--output-path={tmp_path}", "--log-level=error"]) == 2
    said = capsys.readouterr().err
    assert "vae.config.load_decoder is false, and this graph needs the decoder of its vae" in said


def test_a_byte_level_tokenizer_stays_one_under_the_name_that_is_published(tmp_path: Path) -> None:
    folder = hunyuan.checkpoint(tmp_path / "model")
    for name in ("model_index.json", "tokenizer/tokenizer_config.json"):
        said = (folder / name).read_text("utf-8").replace("TokenizersBackend", "LlamaTokenizerFast")
        assert json.loads(said)
        (folder / name).write_text(said, "utf-8")
    source = Checkpoint.open(str(folder)).component(ComponentSpec("tokenizer"))
    assert source.class_name == "LlamaTokenizerFast"
    tokenizer = load(source, dtype=None, device=torch.device("cpu"))
    text = DESCRIBE.format("a red circle")
    assert tokenizer(text).input_ids == hunyuan.llama_tokenizer()(text).input_ids
