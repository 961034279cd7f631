"""Files say how they were made; `sglang inspect` shows it, `generate --replay` does it again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from cli.main import main
from runtime import Destination, Runtime, UserError
from runtime.device import KERNELS
from runtime.files.embedded_text import sidecar_path
from runtime.files.image_files import write_image
from runtime.provenance.read_back import base_name, provenance, without_folders
from tests.support.servers import serving
from tests.support.stores import BUCKET, fetch, object_store

DEMO = Path(__file__).parents[2] / "demo/checkpoint"
PROMPT = "a red circle on a blue background, Zebrafish"
SMALL = ["--height", "64", "--width", "64", "--num-inference-steps", "2"]
CLIPS, PICTURES = (".mp4", ".webp", ".gif", ".npy"), (".png", ".jpg", ".webp")
Capture = pytest.CaptureFixture[str]
Json = dict[str, Any]


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def generate(folder: Path, *words: str) -> int:
    return main(["generate", "--output-path", str(folder), *words])


def made(folder: Path, name: str, *words: str, prompt: str = PROMPT) -> Path:
    path = folder / name
    frames = ["--return-frames"] if path.suffix == ".npy" else []
    said = ["--prompt", prompt, *SMALL, "--output-file-name", name, *frames, *words]
    assert generate(folder, *said, "--log-level", "error") == 0
    return path


def inside(path: Path) -> str:
    """What common programs read."""
    if path.suffix in {".npy", ".gif"}:
        return Path(f"{path}.json").read_text("ascii")
    if path.suffix == ".mp4":
        with av.open(str(path)) as file:
            return str(file.metadata["comment"])
    with Image.open(path) as image:
        if path.suffix == ".png":
            return str(image.info["Comment"])
        block = image.getexif().get_ifd(0x8769)[0x9286]
        assert isinstance(block, bytes)
        return block.removeprefix(b"ASCII\0\0\0").decode("ascii")


def inspected(path: Path, capsys: Capture) -> Json:
    capsys.readouterr()
    assert main(["inspect", str(path), "--json"]) == 0
    said: Json = json.loads(capsys.readouterr().out)
    return said


@pytest.mark.parametrize(
    ("suffix", "frames"), [*((s, 1) for s in PICTURES), *((s, 5) for s in CLIPS)]
)
def test_every_format_says_it(suffix: str, frames: int, tmp_path: Path, capsys: Capture) -> None:
    path = made(tmp_path, f"x{suffix}", "--num-frames", str(frames), "--seed", "7")
    said = json.loads(inside(path))
    assert said == inspected(path, capsys) == provenance(path)
    assert said["graph"]["name"] == "demo"
    assert re.fullmatch(r"[0-9a-f]{32}", said["graph"]["digest"])
    assert (said["request"]["prompt"], said["request"]["seed"]) == (PROMPT, 7)
    assert said["request"]["negative_prompt"] == ""  # defaults too
    assert set(said["components"]) == {
        "scheduler",
        "text_encoder",
        "tokenizer",
        "transformer",
        "vae",
    }
    assert {"torch", "diffusers", "transformers", "sglang-graph"} <= set(said["versions"])
    assert {"device", "threads", "kernels", "batch_size"} <= set(said["execution"])
    assert said["components"]["vae"]["dtype"] == "float32"


def test_a_person_reads_it(tmp_path: Path, capsys: Capture) -> None:
    path = made(tmp_path, "x.png", prompt="red\x1b[2J \u009b31m é")
    capsys.readouterr()
    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\u009b" not in said
    assert 'prompt                   "red\\u001b[2J \\x9b31m é"' in said
    assert main(["inspect"]) == 2
    assert "a file is missing" in capsys.readouterr().err
    assert main(["inspect", str(path), "--jsn"]) == 2
    assert "did you mean `--json`?" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "no.png")]) == 2
    assert "no.png does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.png", "y.jpg", "z.mp4", "z.webp", "z.gif", "z.npy"])
def test_a_replay_is_the_same_bytes(name: str, tmp_path: Path, capsys: Capture) -> None:
    words = ["--num-frames", "5"] if name.startswith("z") else []
    words += ["--seed", "3", "--dit-precision", "bf16", "components.vae.dtype=float32"]
    words += ["nodes.guided.type=guidance.ClassifierFree", "request.height.max=192"]
    words += [] if name.endswith(".npy") else ["--output-quality", "low", "--x264-preset", "medium"]
    path = made(tmp_path, name, *words)
    capsys.readouterr()
    assert generate(tmp_path, "--replay", str(path)) == 0
    said = capsys.readouterr()
    again = path.with_stem(f"{path.stem}_replay")
    assert said.out == f"{again}\n"
    assert again.read_bytes() == path.read_bytes()
    assert inside(again) == inside(path)
    assert f"bit for bit the same as {path}" in said.err
    assert "note: --replay" not in said.err


def test_a_replay_of_what_began_with_a_picture(tmp_path: Path, capsys: Capture) -> None:
    start = tmp_path / "private" / "start.png"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    write_image(pixels, start)
    path = made(tmp_path, "x.png", "--graph", "demo_edit", "--image-path", str(start))
    assert provenance(path)["request"]["image_path"]["name"] == "start.png"
    assert generate(tmp_path, "--replay", str(path)) == 2
    said = capsys.readouterr().err
    assert "that it does not contain: --image-path (start.png)" in said
    assert "give them again: --image-path ..." in said
    assert generate(tmp_path, "--replay", str(path), "--image-path", str(start)) == 0
    assert (tmp_path / "x_replay.png").read_bytes() == path.read_bytes()
    capsys.readouterr()
    write_image(255 - pixels, start)
    assert generate(tmp_path, "--replay", str(path), "--image-path", str(start)) == 0
    said = capsys.readouterr().err
    assert "note: --replay: `request.image_path.digest` was " in said
    assert f"the result differs from {path}" in said


def test_a_checkpoint_is_compared_by_what_is_in_it(tmp_path: Path, capsys: Capture) -> None:
    shutil.copytree(DEMO, tmp_path / "private/mine")
    shutil.copytree(DEMO, tmp_path / "elsewhere/mine")
    path = made(tmp_path, "x.png", "--model-path", str(tmp_path / "private/mine"))
    replay = ["--replay", str(path)]
    assert generate(tmp_path, *replay) == 2
    assert "--model-path (mine)" in capsys.readouterr().err
    assert generate(tmp_path, *replay, "--model-path", str(tmp_path / "elsewhere/mine")) == 0
    said = capsys.readouterr().err
    assert f"bit for bit the same as {path}" in said
    assert "note: --replay" not in said
    weights = tmp_path / "elsewhere/mine/transformer/diffusion_pytorch_model.safetensors"
    data = np.fromfile(weights, np.uint8)
    assert len(data) > 2**20  # sampled, not read whole
    half = data[len(data) // 2 :]
    half[:] = np.roll(half, 2)
    data.tofile(weights)
    assert generate(tmp_path, *replay, "--model-path", str(tmp_path / "elsewhere/mine")) == 0
    said = capsys.readouterr().err
    assert said.count("note: --replay: `components.transformer.digest` was ") == 1
    assert "components.vae" not in said
    assert f"the result differs from {path}" in said


def test_no_metadata_leaves_no_word(tmp_path: Path, capsys: Capture) -> None:
    for name, frames in (("a.png", 1), ("b.jpg", 1), ("c.webp", 1), *(("d" + s, 5) for s in CLIPS)):
        path = made(tmp_path, name, "--num-frames", str(frames))  # what it leaves is replaced
        path = made(tmp_path, name, "--num-frames", str(frames), "--no-metadata", "--overwrite")
        data = path.read_bytes()
        assert all("Zebrafish".encode(code) not in data for code in ("utf-8", "utf-16-le"))
        assert b"provenance" not in data
        assert not sidecar_path(path).exists()
        assert main(["inspect", str(path)]) == 2
        assert "does not say how it was made" in capsys.readouterr().err
    first = made(tmp_path, "e.png")
    assert generate(tmp_path, "--replay", str(first), "--no-metadata") == 0
    assert f"the same pixels as {first}" in capsys.readouterr().err


def test_no_folder_of_a_machine_is_told(tmp_path: Path) -> None:
    secret = tmp_path / "secret folder"
    shutil.copytree(DEMO, secret / "mine")
    write_image(np.zeros((64, 64, 3), np.uint8), secret / "start.png")
    words = ["--graph", "demo_edit", "--image-path", str(secret / "start.png"), "--model-path"]
    words += [str(secret / "mine"), "--vae-path", str(secret / "mine/vae")]
    path = made(tmp_path, "x.png", *words)
    text = inside(path)
    said = json.loads(text)
    assert "secret" not in text
    assert str(tmp_path) not in text
    assert without_folders(said) == said
    assert said["model"] == {"folder": "mine"}
    assert said["local"]["components.vae.path"] == "vae"


def test_base_names() -> None:
    paths = ("/a/b c.png", "C:\\a\\b c.png", "a/b c.png", "https://x.org/y/b c.png?key=secret")
    assert {base_name(path) for path in paths} == {"b c.png"}
    assert without_folders({"a": ["/x/y", "z", {"b": "~/k"}]}) == {"a": ["y", "z", {"b": "k"}]}
    assert base_name(np.zeros(1)) == ""


def changed(path: Path, **sections: Any) -> Path:
    """A picture whose record says something else."""
    said = provenance(path)
    for name, values in sections.items():
        said[name] |= values
    out = path.with_name("changed.png")
    write_image(np.zeros((8, 8, 3), np.uint8), out, metadata=json.dumps(said))
    return out


def test_a_strangers_file_reaches_nothing(tmp_path: Path, capsys: Capture) -> None:
    path = made(tmp_path, "x.png")
    for setting, value in {
        "storage.bucket": "theirs",
        "server.api_key": "k",
        "output.path": "elsewhere",
        "model.trust_remote_code": True,
        "components.vae.path": "/etc",
        "nodes.save.params.x": "/etc/passwd",
        "request.prompt": "a",
    }.items():
        assert generate(tmp_path, "--replay", str(changed(path, settings={setting: value}))) == 2
        assert f"sets `{setting}`, which a record may not set" in capsys.readouterr().err
    start = tmp_path / "start.png"
    write_image(np.zeros((8, 8, 3), np.uint8), start)
    other = changed(path, graph={"name": "demo_edit"}, request={"image_path": str(start)})
    assert generate(tmp_path, "--replay", str(other)) == 2
    assert "a file that only a record names is not read" in capsys.readouterr().err
    other = changed(path, graph={"name": f"{tmp_path}/evil.yaml"})
    assert generate(tmp_path, "--replay", str(other)) == 2
    assert "which is not on the search path" in capsys.readouterr().err
    assert generate(tmp_path, "--replay", str(start)) == 2
    assert "does not say how it was made" in capsys.readouterr().err
    for text in ('{"provenance": 1}', '{"provenance": 99}', "[" * 9999, '{"provenance": []}'):
        write_image(np.zeros((8, 8, 3), np.uint8), start, metadata=text)
        assert main(["inspect", str(start)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_threads_and_kernels_are_forced(tmp_path: Path, capsys: Capture) -> None:
    path = made(tmp_path, "x.png")
    kernels = provenance(path)["execution"]["kernels"]
    try:
        fewer = {"threads": 2, "kernels": kernels | {"math_attention": False}}
        other = changed(path, execution=fewer)
        assert generate(tmp_path, "--replay", str(other)) == 0
        assert torch.get_num_threads() == 2
        assert KERNELS["math_attention"][0]() is False
        assert "execution" not in capsys.readouterr().err
    finally:
        KERNELS["math_attention"][1](True)
    other = changed(path, versions={"torch": "1.0"}, code={"denoise.Denoise": "0"})
    assert generate(tmp_path, "--replay", str(other), "--dry-run", "--prompt", "a green star") == 0
    said = capsys.readouterr().err
    for name in ("versions.torch", "code.denoise.Denoise", "request.prompt"):
        assert f"note: --replay: `{name}` was " in said


def test_a_server_has_no_replay() -> None:
    assert main(["serve", "--replay", "x.png"]) == 2


@pytest.mark.parametrize("words", [(), ("--no-metadata",)])
def test_a_server_says_it_too(words: tuple[str, ...], tmp_path: Path) -> None:
    with serving(tmp_path, *words) as server:
        server.post("/v1/images/generations", {"prompt": PROMPT}).raise_for_status()
        (path,) = server.outputs.glob("*.png")
        if words:
            assert b"Zebrafish" not in path.read_bytes()
        else:
            assert provenance(path)["request"]["prompt"] == PROMPT
            assert str(tmp_path) not in inside(path)


def test_a_text_too_long_for_exif_lies_beside(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    write_image(np.zeros((8, 8, 3), np.uint8), path, metadata=f'{{"provenance": "{"x" * 70000}"}}')
    assert len(sidecar_path(path).read_text()) > 70000
    write_image(np.zeros((8, 8, 3), np.uint8), path)
    assert not sidecar_path(path).exists()
    sidecar_path(path).write_text('{"mine": 1}')
    write_image(np.zeros((8, 8, 3), np.uint8), path)
    assert sidecar_path(path).exists()  # not ours: it stays


def test_a_file_beside_is_uploaded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store() as store:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        said = {"storage.type": "s3", "storage.bucket": BUCKET, "storage.endpoint_url": store.url}
        pipeline = Runtime.load(None, said)
        request = {"prompt": PROMPT, "height": 64, "width": 64, "num_inference_steps": 1}
        to = Destination(tmp_path, "x", ".gif")
        out = pipeline.generate(outputs=["url"], destination=to, num_frames=5, **request)
        assert json.loads(fetch(f"{out.outputs['url'].url}.json")[0])["request"]["prompt"] == PROMPT
        assert not list(tmp_path.iterdir())


def test_in_python(tmp_path: Path) -> None:
    pipeline = Runtime.load()
    request = {"prompt": PROMPT, "height": 64, "width": 64, "num_inference_steps": 1}
    to = Destination(tmp_path, "x", ".png")
    path = pipeline.generate(outputs=["file"], destination=to, **request).outputs["file"].path
    assert provenance(path) == pipeline.provenance(outputs=["file"], destination=to, **request)
    again = pipeline.generate(outputs=["file"], destination=to, **request).outputs["file"].path
    assert provenance(again) == provenance(path)  # also of kept results
    with pytest.raises(UserError, match="does not exist"):
        provenance(tmp_path / "none.png")
