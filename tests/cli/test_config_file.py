"""Config files and the environment."""

from pathlib import Path
from typing import Any

import pytest

from cli.config_file import read_config
from cli.environment import read_environment
from cli.generate import gather_settings
from cli.parser import CommandLine, parse
from runtime import Raw, Setting

RUN: dict[str, Any] = {
    "model.path": "FastVideo/FastHunyuan-diffusers",
    "request.prompt": "A red kite over a harbour at noon",
    "output.path": "outputs/",
    "parallel.num_gpus": 2,
    "parallel.sp_degree": 2,
    "parallel.tp_size": 1,
    "request.num_frames": 45,
    "request.height": 720,
    "request.width": 1280,
    "request.num_inference_steps": 6,
    "request.seed": 1024,
    "request.fps": 24,
    "precision.dit": "bf16",
    "precision.vae": "fp16",
    "vae.tiling": True,
    "parallel.vae_sp": True,
    "vae.config.load_encoder": False,
    "vae.config.load_decoder": True,
    "vae.config.tile_sample_min_height": 256,
    "vae.config.tile_sample_min_width": 256,
    "precision.text_encoders": ["fp16", "fp16"],
    "attention.config.mask_strategy_file_path": None,
    "compile.enabled": False,
}
GENERATION: dict[str, Any] = {
    "model.path": "stabilityai/stable-diffusion-xl-base-1.0",
    "request.prompt": "A lighthouse on a cliff in winter",
    "request.negative_prompt": "blurry",
    "request.num_inference_steps": 50,
    "request.guidance_scale": 7.5,
    "request.height": 1024,
    "request.width": 1024,
    "request.seed": 12345,
    "output.num_outputs": 2,
}


def read(file: Path | str) -> list[Setting]:
    line = CommandLine()
    read_config(str(file), line)
    assert not line.unknown
    return line.settings


def plain(value: Any) -> Any:
    """A plain YAML scalar as its field would read it."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, Raw):
        return value
    return {"true": True, "false": False}.get(value, int(value) if value.isdigit() else str(value))


@pytest.mark.parametrize(
    ("name", "expected"), [("run.json", RUN), ("run.yaml", RUN), ("generation.json", GENERATION)]
)
def test_documented_files(name: str, expected: dict[str, Any], data: Path) -> None:
    found = {s.dotted: plain(s.value) for s in read(data / "config" / name)}
    assert list(found.items()) == list(expected.items())


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


YAML = """\
# a comment
prompt: no
revision: 1e10
model_id: "1e10"
seed: [1, 2]
negative_prompt: 2026-01-01
model:
  path: null
component_paths: {vae: /x, text_encoder.y: 1}
components.vae.dtype: ~
vae:
  config.a.b: |
    two
    lines
no-save-output: true
"""


def test_yaml_scalars_wait_for_their_field(tmp_path: Path) -> None:
    found = read(write(tmp_path, "c.yml", YAML))
    assert [(s.dotted, s.value, isinstance(s.value, Raw)) for s in found] == [
        ("request.prompt", "no", True),
        ("model.revision", "1e10", True),
        ("model.id", "1e10", False),
        ("request.seed", ["1", "2"], False),
        ("request.negative_prompt", "2026-01-01", True),
        ("model.path", None, False),
        ("components.vae.path", "/x", True),
        ("components.text_encoder.path.y", "1", True),
        ("components.vae.dtype", None, False),
        ("vae.config.a.b", "two\nlines\n", False),
        ("output.save", False, False),
    ]
    places = [(s.position.line, s.position.column) for s in found]
    assert places[:2] == [(2, 1), (3, 1)]
    assert places[5] == (8, 3)
    assert places[6] == (9, 19)


def test_json_places_and_text(tmp_path: Path) -> None:
    text = '{"prompt": ["a", "\\ud83d\\ude00 b"],\n\t"request" : { "seed":1 ,"fps":\n2},'
    text += '\n "vae_config": {}}'
    found = read(write(tmp_path, "c.json", "\ufeff" + text))
    assert [(s.dotted, s.value, str(s.position).rpartition("c.json")[2]) for s in found] == [
        ("request.prompt", ["a", "\U0001f600 b"], ":1:2"),
        ("request.seed", 1, ":2:16"),
        ("request.fps", 2, ":2:26"),
    ]


def test_empty_yaml_asks_for_nothing(tmp_path: Path) -> None:
    assert read(write(tmp_path, "c.yaml", "# nothing\n")) == []


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_CACHE_DIT_ENABLED", "true")
    first = write(tmp_path, "a.yaml", "height: 1\nport: 2\n")
    second = write(tmp_path, "b.json", '{"height": 3}')
    argv = ["height=4", "--config", str(first), "--config", str(second), "--height", "5"]
    settings, line = gather_settings(parse(argv))
    assert [(s.dotted, str(s.value)) for s in settings] == [
        ("cache.dit", "True"),
        ("request.height", "1"),
        ("request.height", "3"),
        ("request.height", "4"),
        ("request.height", "5"),
    ]
    assert line.ignored == ["port"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        ({"SGLANG_USE_MODELSCOPE": "0", "SGLANG_CACHE_DIT_ENABLED": "False"}, {}),
        ({"SGLANG_USE_MODELSCOPE": "1"}, {"model.modelscope": True}),
        ({"SGLANG_S3_BUCKET_NAME": "b"}, {}),
        (
            {"SGLANG_S3_BUCKET_NAME": "b", "SGLANG_CLOUD_STORAGE_TYPE": "s3"},
            {"storage.type": "s3", "storage.bucket": "b"},
        ),
        (
            {"SGLANG_CACHE_DIT_FN": "2", "SGLANG_CACHE_DIT_ENABLED": "1"},
            {"cache.dit": True, "cache.dit_params.Fn_compute_blocks": "2"},
        ),
    ],
)
def test_environment(environment: dict[str, str], expected: dict[str, Any]) -> None:
    assert {s.dotted: s.value for s in read_environment(environment)} == expected
