"""Config paths in messages, written as the flags of the command that was run."""

import pytest

from cli.main import main
from cli.messages import field_name, with_flags


@pytest.mark.parametrize(
    ("path", "generate", "serve"),
    [
        ("model.path", "--model-path", "--model-path"),
        ("model.backend=diffusers", "--backend diffusers", "--backend diffusers"),
        ("request.height=64", "--height 64", "request.height=64"),
        ("request.prompt=a red circle", '--prompt "a red circle"', "request.prompt=a red circle"),
        ("request.image_path=FILE|URL", "--image-path FILE|URL", "request.image_path=FILE|URL"),
        ("output.metadata=false", "--no-metadata", "--no-metadata"),
        ("output.save=false", "--no-save-output", "output.save=false"),
        ("output.num_outputs", "--num-samples", "output.num_outputs"),
        ("vae.tiling=true", "--vae-tiling", "--vae-tiling"),
        ("vae.tiling=false", "--vae-tiling false", "--vae-tiling false"),
        ("attention.backend=x", "--attention-backend x", "--attention-backend x"),
        ("warmup.mode=request", "--warmup-mode request", "--warmup-mode request"),
        ("graph=demo", "--graph demo", "--graph demo"),
        ("components.text_encoder_2.path=DIR", "--text-encoder-2-path DIR",
         "--text-encoder-2-path DIR"),
        ("components.vae.dtype=fp32", "components.vae.dtype=fp32", "components.vae.dtype=fp32"),
        ("memo.max_mb=100", "memo.max_mb=100", "memo.max_mb=100"),
        ("positive.embeds", "positive.embeds", "positive.embeds"),
        ("height", "height", "height"),
        ("graph", "graph", "graph"),
    ],
)  # fmt: skip
def test_a_path_is_its_flag(path: str, generate: str, serve: str) -> None:
    assert with_flags(f"add `{path}`, or not") == f"add `{generate}`, or not"
    assert with_flags(f"add `{path}`, or not", "serve") == f"add `{serve}`, or not"


@pytest.mark.parametrize(
    "text",
    [
        "c.yaml:3:3  `parallel.sp_degree` and `sp_size` are one setting",
        "graphs/a.yaml:5:7  nodes.a.inputs.height: `request.height` is no Text",
        "did you mean `request.height`?",
    ],
)
def test_who_writes_keys_reads_keys(text: str) -> None:
    assert with_flags(text) == text


def test_fields() -> None:
    assert field_name("request.num_frames") == "--num-frames"
    assert field_name("request.num_frames", "serve") == "request.num_frames"
    assert field_name("components.vae.path") == "--vae-path"
    assert field_name("nodes.decode.type") == "nodes.decode.type"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["generate", "--dry-run"], "help: add `--prompt ...`\n"),
        (["generate", "--graph", "sdxl", "--prompt", "x"], "help: add `--model-path FOLDER` or"),
        (["serve", "--graph", "sdxl"], "help: add `--model-path FOLDER` or"),
        (["graphs", "verify", "sdxl"], "help: add `--model-path FOLDER` or"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_messages_of_the_runtime(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert says in capsys.readouterr().err
