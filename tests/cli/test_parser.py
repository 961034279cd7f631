"""argv to settings."""

from typing import Any

import pytest

from cli.parser import parse
from runtime import Raw


def settings(argv: list[str]) -> list[tuple[str, Any]]:
    return [(s.dotted, s.value) for s in parse(argv).settings]


PLAIN: list[tuple[str, list[str], list[tuple[str, Any]]]] = [
    ("separate value", ["--height", "64"], [("request.height", "64")]),
    ("joined value", ["--height=64"], [("request.height", "64")]),
    ("underscores", ["--num_gpus=1"], [("parallel.num_gpus", "1")]),
    ("alias", ["--sp-size", "1"], [("parallel.sp_degree", "1")]),
    (
        "later ones come later",
        ["--height=64", "height=96"],
        [("request.height", "64"), ("request.height", "96")],
    ),
    ("negative number", ["--seed", "-1"], [("request.seed", "-1")]),
    ("empty value", ["--prompt="], [("request.prompt", "")]),
    ("empty word", ["--prompt", ""], [("request.prompt", "")]),
    (
        "value with dashes and a space",
        ["--prompt", "--ar 16:9 cat"],
        [("request.prompt", "--ar 16:9 cat")],
    ),
    ("value with dashes, joined", ["--prompt=--no"], [("request.prompt", "--no")]),
    ("value with dashes alone", ["--prompt", "-a cat"], [("request.prompt", "-a cat")]),
    (
        "prompts add up",
        ["--prompt", "a", "--height=1", "--prompt", "b", "c"],
        [("request.prompt", "a"), ("request.height", "1"), ("request.prompt", ["a", "b", "c"])],
    ),
    (
        "seeds do not add up",
        ["--seed", "1", "2", "--seed", "3"],
        [("request.seed", ["1", "2"]), ("request.seed", "3")],
    ),
    ("first value is a value", ["--prompt", "seed=5"], [("request.prompt", "seed=5")]),
    (
        "a list stops at a known key",
        ["--image-path", "A", "B", "vae_path=C"],
        [("request.image_path", ["A", "B"]), ("components.vae.path", "C")],
    ),
    (
        "a list stops at a config path",
        ["--prompt", "a", "components.vae.path=C"],
        [("request.prompt", "a"), ("components.vae.path", "C")],
    ),
    (
        "a list goes on at an unknown key",
        ["--prompt", "a", "a=b c"],
        [("request.prompt", ["a", "a=b c"])],
    ),
    (
        "numbers stop at any key",
        ["--seed", "1", "2", "request.strength=1"],
        [("request.seed", ["1", "2"]), ("request.strength", "1")],
    ),
    (
        "bare boolean",
        ["--vae-tiling", "--vae-slicing", "true"],
        [("vae.tiling", True), ("vae.slicing", True)],
    ),
    (
        "boolean before a key",
        ["--dry-run", "height=64"],
        [("output.dry_run", True), ("request.height", "64")],
    ),
    (
        "boolean false",
        ["--vae-tiling", "False", "--trust-remote-code=false"],
        [("vae.tiling", False), ("model.trust_remote_code", False)],
    ),
    ("negated", ["--no-save-output"], [("output.save", False)]),
    ("negated false", ["--no-save-output=false"], [("output.save", True)]),
    (
        "last save wins",
        ["--save-output", "--no-save-output"],
        [("output.save", True), ("output.save", False)],
    ),
    ("boolean that means a word", ["--warmup"], [("warmup.mode", "request")]),
    ("and means nothing when false", ["--warmup", "false"], [("warmup.mode", False)]),
    ("flag that sets others", ["--720p"], [("request.width", 1280), ("request.height", 720)]),
    ("flag that sets nothing", ["--720p", "false"], []),
    (
        "flag that sets one more",
        ["--diffusers-attention-backend", "sage"],
        [("attention.backend", "sage"), ("model.backend", "diffusers")],
    ),
    (
        "--set",
        ["--set", "a.b=1", "components.vae.path=x=y", "--set", "cache.z=2"],
        [("a.b", "1"), ("components.vae.path", "x=y"), ("cache.z", "2")],
    ),
    ("after --", ["--", "height=64"], [("request.height", "64")]),
    ("key in dashes", ["num-inference-steps=4"], [("request.num_inference_steps", "4")]),
    (
        "config key",
        ["precision=bf16", "sp_size=1"],
        [("precision.dit", "bf16"), ("parallel.sp_degree", "1")],
    ),
    ("group of conf/", ["placement=cpu"], [("placement", "cpu")]),
    (
        "group of conf/ with the name of a flag",
        ["precision=all_float32", "--precision", "auto", "precision=bfloat16"],
        [("precision", "all_float32"), ("precision", "auto"), ("precision.dit", "bfloat16")],
    ),
    (
        "boolean key",
        ["no_save_output=true", "warmup=true", "vae_tiling=false"],
        [("output.save", False), ("warmup.mode", "request"), ("vae.tiling", False)],
    ),
]


@pytest.mark.parametrize(
    ("argv", "expected"), [row[1:] for row in PLAIN], ids=[r[0] for r in PLAIN]
)
def test_words(argv: list[str], expected: list[tuple[str, Any]]) -> None:
    assert settings(argv) == expected


COMPONENTS: list[tuple[list[str], str, str]] = [
    (["--vae-path", "x"], "components.vae.path", "x"),
    (["--text-encoder-2-path", "x"], "components.text_encoder_2.path", "x"),
    (["--transformer_2-path", "x"], "components.transformer_2.path", "x"),
    (["--component-paths.vae", "x"], "components.vae.path", "x"),
    (["--component_paths.text-encoder=x"], "components.text_encoder.path", "x"),
    (["--component-paths", '{"vae": "x"}'], "components.vae.path", "x"),
    (["component_paths.vae=x"], "components.vae.path", "x"),
    (["vae_path=x"], "components.vae.path", "x"),
    (["components.vae.path=x"], "components.vae.path", "x"),
    (["--transformer-weights-path", "x"], "components.transformer.weights_path", "x"),
    (["--transformer_2-weights-path", "x"], "components.transformer_2.weights_path", "x"),
    (["--vae-quantization", "fp8"], "components.vae.quantization", "fp8"),
    (["--component-precisions.vae", "fp16"], "components.vae.dtype", "fp16"),
    (["--component-precisions", "vae=fp16"], "components.vae.dtype", "fp16"),
    (
        ["--component-attention-backends.transformer", "fa"],
        "attention.components.transformer",
        "fa",
    ),
    (
        ["--component-attention-backends.transformer.self", "fa"],
        "attention.components.transformer.self",
        "fa",
    ),
    (["--component-attention-backends", "vae=fa"], "attention.components.vae", "fa"),
    (["--vae-config.load-encoder", "false"], "vae.config.load_encoder", "false"),
    (["--vae-config", '{"a": {"b": "x"}}'], "vae.config.a.b", "x"),
    (["--attention-backend-config.sparsity", "0.5"], "attention.config.sparsity", "0.5"),
    (["--attention-backend-config", "sparsity=0.5"], "attention.config", "sparsity=0.5"),
    (["--component-residency", "vae=resident"], "placement.component_residency.vae", "resident"),
]


@pytest.mark.parametrize(("argv", "path", "value"), COMPONENTS)
def test_components(argv: list[str], path: str, value: str) -> None:
    assert settings(argv) == [(path, value)]


def test_maps_of_several() -> None:
    argv = ["--component-paths", '{"vae": "x", "transformer": "y"}', "--vae-path", "z"]
    argv += ["--component-residency", "vae=resident", "dit=layerwise-offload"]
    assert settings(argv) == [
        ("components.vae.path", "x"),
        ("components.transformer.path", "y"),
        ("components.vae.path", "z"),
        ("placement.component_residency.vae", "resident"),
        ("placement.component_residency.dit", "layerwise-offload"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "~",
        "a,b",
        "{x}",
        "[1, 2]",
        "a: b",
        "a=b",
        "1e10",
        "no",
        "null",
        "${oc.env:HOME}",
        "\\n",
        "'q'",
        "#",
    ],
)
def test_values_stay_as_typed(text: str) -> None:
    for argv in (["--revision", text], [f"--revision={text}"], [f"revision={text}"]):
        (setting,) = parse(argv).settings
        assert setting.path == ("model", "revision")
        assert setting.value == text
        assert isinstance(setting.value, Raw)


def test_names_are_as_typed() -> None:
    names = [s.name for s in parse(["--num_gpus", "1", "num-gpus=1", "--vae-path=x"]).settings]
    assert names == ["--num_gpus", "num-gpus", "--vae-path"]


def test_what_is_no_setting() -> None:
    argv = ["--config", "a.yaml", "--config=b.json", "--debug", "--port", "1", "port=2", "--webui"]
    line = parse([*argv, "server.x=1", "--allow-unused", "zzz=1", "-h"])
    assert line.config_files == ["a.yaml", "b.json"]
    assert (line.debug, line.help, line.allow_unused, line.settings) == (True, True, True, [])
    assert line.ignored == ["--port", "port", "--webui", "server.x"]
    assert [problem.message for problem in line.unknown] == ["there is no setting `zzz`"]
