"""What people write from habit leads to what works here (issue 10, kind 10)."""

import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import main
from runtime import Raw, UserError
from runtime.settings.common_names import common_option, did_you_mean_field
from runtime.settings.field import Field

Capture = pytest.CaptureFixture[str]


def help_of(capsys: Capture, *words: str) -> str:
    """The line of help that a mistake ends with."""
    assert main(list(words)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.strip().rpartition("help: ")[2]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--steps", "--num-inference-steps"),
        ("--sampling-steps", "--num-inference-steps"),
        ("--cfg", "--guidance-scale"),
        ("--cfg-scale", "--guidance-scale"),
        ("--cfg_scale", "--guidance-scale"),
        ("--model", "--model-path"),
        ("--ckpt", "--model-path"),
        ("--output", "--output-file-name"),
        ("--out-dir", "--output-path"),
        ("-o", "--output-file-name"),
        ("-n", "--num-samples"),
        ("-W", "--width"),
        ("-m", "--model-path"),
        ("-p", "--prompt"),
        ("--n", "--num-samples"),
        ("--num-images", "--num-samples"),
        ("--batch-size", "--num-samples"),
        ("--scheduler", "--scheduler-path DIR"),
        ("--sampler", "--scheduler-path DIR"),
        ("--cpu", "--device cpu"),
        ("--fp16", "--dit-precision fp16"),
        ("--frames", "--num-frames"),
        ("--negative", "--negative-prompt"),
        ("--image", "--image-path"),
        ("--force", "--overwrite"),
        ("--verbose", "--log-level debug"),
        ("--heigth", "--height"),
    ],
)
def test_flags_of_other_programs(word: str, meant: str, capsys: Capture) -> None:
    said = help_of(capsys, "generate", "--prompt", "x", "--dry-run", word, "3")
    assert said == f"did you mean `{meant}`?"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--size", "64"], "a size is two flags: `--width 128 --height 128`"),
        (["size=64"], "a size is two settings: width=128 height=128"),
        (["steps=3"], "did you mean `num_inference_steps`?"),
        (["cfg=3"], "did you mean `guidance_scale`?"),
        (["cpu=true"], "did you mean `device=cpu`?"),
        (["request.steps=3"], "did you mean `num_inference_steps`?"),
        (["--lora", "x"], "`--lora-path` is known, but not connected in this version"),
        (
            ["--image-path", "x.png"],
            "graph `demo_edit` takes it with the same model: add `--graph demo_edit`",
        ),
        (["--zzz", "3"], "see `sglang generate --help`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_more_than_a_name(words: list[str], says: str, capsys: Capture) -> None:
    assert help_of(capsys, "generate", "--prompt", "x", "--dry-run", *words) == says


def test_no_flag_of_another_command_or_graph_is_suggested(capsys: Capture) -> None:
    """`--max-step` is near the server's --max-steps, `--stg` is near a flag of LTX-Video."""
    assert "max-steps" not in help_of(capsys, "generate", "--prompt", "x", "--max-step", "3")
    assert "stg" not in help_of(capsys, "generate", "--prompt", "x", "--stg-scal", "3")
    words = ["generate", "--graph", "ltx2", "--prompt", "x", "--stg-scal", "3"]
    assert help_of(capsys, *words) == "did you mean `--stg-scale`?"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["generate", "a red circle"], 'a prompt is written --prompt "a red circle"'),
        (["generate", "--dry-run", "a red circle"], 'a prompt is written --prompt "a red circle"'),
        (["generate", "circle"], 'a prompt is written --prompt "TEXT", in quotes; a setting'),
        (["generate", "a.png"], "an input picture is written --image-path a.png"),
        (["generate", "a b.mp4"], "an input clip is written --video-path 'a b.mp4'"),
        (["generate", "run.yaml"], "a config file is written --config run.yaml, a graph --graph"),
        (["generate", "Wan-AI/Wan2.1"], "a model is written --model-path Wan-AI/Wan2.1"),
        (["generate", "height"], "write height=VALUE, or --height VALUE"),
        (["a red circle"], 'sglang generate --prompt "a red circle"'),
        (["run"], 'did you mean `sglang generate --prompt "TEXT"`?'),
        (["models"], "did you mean `graphs`?"),
        (["visualize", "demo"], "python -m runtime.visualize shows graphs"),
        (["serve", "--seed", "9"], "for every request of the server: request.seed=9"),
        (["serve", "--num-inference-steps=3"],
         "for every request of the server: request.num_inference_steps=3"),
        (["serve", "--720p"],
         "for every request of the server: request.width=1280 request.height=720"),
        (["serve", "--steps", "3"], "did you mean `request.num_inference_steps=`?"),
        (["serve", "--output-file-name", "x"], "see `sglang serve --help`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_words_and_commands(words: list[str], says: str, capsys: Capture) -> None:
    assert help_of(capsys, *words).startswith(says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--seed", "-1"], "another number, such as $RANDOM"),
        (["--seed", "random"], "another number, such as $RANDOM"),
        (
            ["--seed", "9223372036854775807", "--num-samples", "2"],
            "give a smaller seed, or one",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_seeds(words: list[str], says: str, capsys: Capture) -> None:
    assert says in help_of(capsys, "generate", "--prompt", "x", "--dry-run", *words)


def test_prompts_without_quotes(capsys: Capture) -> None:
    assert main(["generate", "--dry-run", "--prompt", "a", "red", "circle"]) == 0
    said = capsys.readouterr().err
    assert 'note: 3 prompts, one file each: "a", "red", "circle"; a prompt of several words' in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('prompt: !!python/object/apply:os.system ["x"]\n', "the tag !!python/object/apply:os"),
        ("request: !!python/object:os.system {prompt: x}\n", "the tag !!python/object:os.system"),
        ("!!python/tuple prompt: x\n", "the tag !!python/tuple is not known here"),
        ("prompt: [!!set {a}]\n", "the tag !!set is not known here"),
        (
            "b: &b {height: 64}\nrequest: {<<: *b, prompt: a}\n",
            "merge keys (`<<`) are not",
        ),
    ],
)
def test_yaml_that_would_change_its_meaning(
    text: str, says: str, tmp_path: Path, capsys: Capture
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text)
    assert main(["generate", "--config", str(config), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert f"{config}:" in said


def test_lists_of_texts() -> None:
    field = Field("prompts", many=True)
    assert field.parse(Raw('["a", "b"]')) == ("a", "b")
    assert field.parse(Raw("[cinematic] a cat")) == ("[cinematic] a cat",)
    assert field.parse(Raw("[a, b]")) == ("[a, b]",)
    assert field.parse(Raw("[1, 2]")) == ("[1, 2]",)
    with pytest.raises(UserError, match="takes one value"):
        Field("prompt").parse(["a", "b"])


def test_common_names() -> None:
    assert common_option("--CFG-Scale") == "request.guidance_scale"
    assert common_option("height") == ""
    assert did_you_mean_field("steps", ["size", "num_inference_steps"]) == (
        "did you mean `num_inference_steps`?"
    )
    assert did_you_mean_field("heigth", ["height"]) == "did you mean `height`?"


def test_a_module_that_hides_our_nodes_is_named(tmp_path: Path) -> None:
    """ComfyUI's root has a nodes.py: a script beside one reads what is in the way."""
    (tmp_path / "nodes.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    script = tmp_path / "script.py"
    script.write_text("from runtime import Runtime\nRuntime.load()\n")
    done = subprocess.run(
        [sys.executable, str(script)], check=False, capture_output=True, text=True, timeout=60
    )
    assert f"UserError: the module `nodes` is {tmp_path}/nodes.py, which hides" in done.stderr
    assert "help: rename that file, or run the script from another folder" in done.stderr
