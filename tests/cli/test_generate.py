"""`sglang generate` from words to files, with the demo model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.main import main

SMALL = ["--height", "64", "--width", "64", "--num-inference-steps", "2"]
FAILING = """\
checkpoint: {model}
title: a node that raises
request:
  num_inference_steps: {{type: int, default: 1}}
nodes:
  ones: {{type: "toy:arith.Tensor", params: {{}}, inputs: {{n: request.num_inference_steps}}}}
  total: {{type: "toy:arith.Total", inputs: {{latents: ones.latents}}}}
  fail: {{type: "toy:arith.Fail", inputs: {{a: total.sum, latents: ones.latents}}}}
outputs:
  file: fail.nothing
"""
Capture = pytest.CaptureFixture[str]


def generate(folder: Path, *words: str) -> int:
    return main(["generate", "--output-path", str(folder / "out"), *SMALL, *words])


def written(folder: Path, said: str) -> list[Path]:
    """The paths on stdout, which are all that there is in the folder, save how frames were made."""
    paths = [Path(line) for line in said.splitlines()]
    assert sorted(paths) == sorted(p for p in (folder / "out").iterdir() if p.suffix != ".json")
    return paths


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_one_picture(tmp_path: Path, capsys: Capture) -> None:
    assert generate(tmp_path, "--prompt", "a red circle / ${oc.env:HOME}") == 0
    said = capsys.readouterr()
    (path,) = written(tmp_path, said.out)
    assert path.name.startswith("a_red_circle_${oc.env_HOME}_")
    assert path.suffix == ".png"
    assert size(path) == (64, 64)
    assert said.err.startswith("No `--model-path` given: using the demo model")
    assert "denoise: step 2/2" in said.err


def test_silence(tmp_path: Path, capsys: Capture) -> None:
    words = ["--prompt", "x", "--log-level", "error", "--port", "1", "--output-file-name", "x.JPG"]
    assert generate(tmp_path, *words) == 0
    said = capsys.readouterr()
    assert written(tmp_path, said.out) == [tmp_path / "out" / "x.JPG"]
    assert said.err == ""


def test_prompts_times_samples(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "p.txt").write_text("a red circle\n\na blue square\n")
    dump = tmp_path / "perf.json"
    words = ["--prompt-file-path", str(tmp_path / "p.txt"), "--num-samples", "2", "--seed", "7"]
    words += ["--output-file-name", "x.png", "--perf-dump-path", str(dump)]
    assert generate(tmp_path, *words) == 0
    paths = written(tmp_path, capsys.readouterr().out)
    assert [p.name for p in paths] == ["x_0.png", "x_1.png", "x_2.png", "x_3.png"]
    first = [p.read_bytes() for p in paths]
    assert len(set(first)) == 4
    read = json.loads(dump.read_text())
    assert len(read["runs"]) == 4
    assert len(read["denoise_steps_ms"]) == 8
    assert read["meta"]["prompt"] == ["a red circle"] * 2 + ["a blue square"] * 2

    words = ["--prompt", "a red circle", "--prompt", "a blue square", "seed=[7,8]"]
    words += ["--output-file-name", "x.png", "--overwrite"]
    assert generate(tmp_path, *words) == 0
    assert [p.read_bytes() for p in paths] == first


def test_frames(tmp_path: Path, capsys: Capture) -> None:
    words = ["--prompt", "a red circle", "--num-frames", "5", "--output-file-name", "x"]
    assert generate(tmp_path, *words, "--return-frames") == 0
    (path,) = written(tmp_path, capsys.readouterr().out)
    frames = np.load(path)
    assert (path.name, frames.shape, frames.dtype) == ("x.npy", (5, 64, 64, 3), np.uint8)
    assert generate(tmp_path, *words, "--return-frames", "--save-output", "--overwrite") == 0
    names = [p.name for p in written(tmp_path, capsys.readouterr().out)]
    assert names == ["x.mp4", "x.npy"]


def test_plan(tmp_path: Path, capsys: Capture) -> None:
    assert generate(tmp_path, "--prompt", "a", "b", "--dry-run", "--host", "x", "webui=true") == 0
    said = capsys.readouterr()
    assert said.out.startswith("plan of graph `demo`")
    assert "predicted peak" in said.out
    assert said.out.endswith("The same for 1 more of 2 files.\n")
    assert "note: only `sglang serve` uses --host, webui: ignored\n" in said.err
    assert not (tmp_path / "out").exists()


def test_allow_unused(tmp_path: Path, capsys: Capture) -> None:
    words = ["--prompt", "a", "--dry-run", "--allow-unused", "zzz=1", "--tp-size", "2"]
    assert generate(tmp_path, *words) == 0
    assert "note: there is no setting `zzz`: ignored\n" in capsys.readouterr().err


def test_nothing_and_one_rank_are_always_fine(tmp_path: Path) -> None:
    words = ["--num-gpus", "1", "--sp-size", "1", "--tp-size=1", "--vae-tiling", "false"]
    words += ["--enable-torch-compile=false", "lora_path=null", "--warmup", "false", "--dry-run"]
    assert generate(tmp_path, "--prompt", "a", *words) == 0


def test_config_file(tmp_path: Path, capsys: Capture) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("prompt: [a red circle]\nheight: 96\nwidth: 96\nnum_samples: 2\n")
    words = ["--config", str(config), "--height", "64", "--num-inference-steps", "1"]
    assert main(["generate", *words, "--output-path", str(tmp_path / "out")]) == 0
    paths = written(tmp_path, capsys.readouterr().out)
    assert [size(p) for p in paths] == [(96, 64), (96, 64)]
    assert [p.stem[-2:] for p in paths] == ["_0", "_1"]


@pytest.mark.parametrize("debug", [False, True])
def test_failure(tmp_path: Path, data: Path, capsys: Capture, debug: bool) -> None:
    graph = tmp_path / "failing.yaml"
    graph.write_text(FAILING.format(model=data / "toy_model"))
    words = ["generate", "--graph", str(graph), "--output-path", str(tmp_path)]
    assert main([*words, *["--debug"] * debug]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "node `fail` (toy:arith.Fail" in said.err
    assert "a toy mistake" in said.err
    assert ("Traceback" in said.err) == debug


@pytest.mark.parametrize(
    ("sent", "code", "says"),
    [
        (signal.SIGINT, 130, "sglang generate: interrupted\n"),
        (signal.SIGTERM, 143, "sglang generate: terminated\n"),
    ],
)
def test_signals(tmp_path: Path, sent: signal.Signals, code: int, says: str) -> None:
    words = ["generate", "--prompt", "a red circle", "--num-inference-steps", "1000"]
    command = [sys.executable, "-m", "cli.main", *words, "--output-path", str(tmp_path / "out")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout
        assert process.stderr
        for line in process.stderr:
            if "denoise: step" in line:
                break
        time.sleep(0.1)
        process.send_signal(sent)
        said = process.stderr.read()
        assert process.wait(timeout=30) == code
        assert said.endswith(says)
        assert "Traceback" not in said
        assert process.stdout.read() == ""
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


SWALLOWED = """
import os, signal, sys
from cli.main import main
class Swallows:
    def find_spec(self, name, path=None, target=None):
        if name == "runtime.checkpoint.load":
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except BaseException:
                pass
sys.meta_path.insert(0, Swallows())
raise SystemExit(main(sys.argv[1:]))
"""


def test_an_import_that_swallows_ctrl_c(tmp_path: Path) -> None:
    words = ["generate", "--prompt", "a", *SMALL, "--output-path", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED, *words], check=False, capture_output=True, text=True,
        timeout=50,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.endswith("sglang generate: interrupted\n")
    assert "Traceback" not in done.stderr


def test_reader_gone(tmp_path: Path) -> None:
    words = ["generate", "--prompt", "a", *SMALL, "--output-path", str(tmp_path)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *words], check=False, stdout=writing,
        stderr=subprocess.PIPE, text=True, env=os.environ, timeout=50,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_samples_of_one_call_run_as_a_batch_where_it_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "--prompt", "a red circle", "--num-samples", "3", "--seed", "5"]
    words += ["--num-inference-steps", "2", "--height", "64", "--width", "64", "--return-frames"]
    found = []
    for batch in ("1", "3"):
        folder = tmp_path / batch
        assert main([*words, f"--output-path={folder}", f"placement.batch={batch}"]) == 0
        said = capsys.readouterr()
        paths = [Path(line) for line in said.out.splitlines()]
        found.append([np.load(path).astype(int) for path in paths if path.suffix == ".npy"])
    assert "[1-3/3] done in " in said.err
    assert len(found[0]) == len(found[1]) == 3
    for one, batched in zip(*found, strict=True):
        assert np.abs(one - batched).max() <= 1
    assert np.abs(found[1][0] - found[1][1]).max() > 5, "each sample has its own seed"
