"""Clips over HTTP, and graphs that no request could satisfy."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from runtime.files.video_files import write_video
from tests.support.servers import ROOT, Server, serving, wait_until

VIDEOS = "/v1/videos"
BODY = {"prompt": "a red circle on a blue background", "num_frames": 5}
MODEL = ("--graph", "wan2_1_v2v", "--model-path", str(ROOT / "demo" / "checkpoint"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("clips"), *MODEL, "request.strength=0.5") as made:
        yield made


def clip(folder: Path, suffix: str = ".mp4", colour: int = 200) -> bytes:
    path = folder / f"clip{suffix}"
    frames = [np.full((64, 64, 3), colour, np.uint8) for _ in range(5)]
    for index, frame in enumerate(frames):  # WebP merges frames that are equal
        frame[:, 12 * index : 12 * index + 6] = 255 - colour
    write_video(frames, path, fps=16)
    return path.read_bytes()


def completed(server: Server, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    url = f"{VIDEOS}/{answer.json()['id']}"
    wait_until(lambda: server.get(url).json()["status"] in {"completed", "failed"}, 60)
    job: dict[str, Any] = server.get(url).json()
    assert job["status"] == "completed", job
    return job


@pytest.mark.parametrize("name", ["input_reference", "video_path", "video_reference"])
def test_a_clip_as_a_file(server: Server, tmp_path: Path, name: str) -> None:
    upload = {name: ("clip.bin", clip(tmp_path))}
    job = completed(server, server.post(VIDEOS, data=BODY, files=upload))
    assert [*(server.outputs / "inputs").glob(f"{job['id']}_*.mp4")]
    httpx.delete(f"{server.url}{VIDEOS}/{job['id']}")
    assert not [*(server.outputs / "inputs").glob(f"{job['id']}_*")]


@pytest.mark.parametrize("name", ["video_path", "input_reference", "video_url"])
@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_a_clip_as_a_data_url(server: Server, tmp_path: Path, name: str, suffix: str) -> None:
    data = base64.b64encode(clip(tmp_path, suffix)).decode()
    body = BODY | {name: f"data:video/mp4;base64,{data}"}  # known by its content, not by its name
    completed(server, server.post(VIDEOS, body))


def test_the_clip_changes_the_result(server: Server, tmp_path: Path) -> None:
    contents = []
    for colour in (20, 230):
        upload = {"input_reference": clip(tmp_path, colour=colour)}
        body = BODY | {"num_inference_steps": 8, "strength": 0.25}
        job = completed(server, server.post(VIDEOS, data=body, files=upload))
        contents.append(server.get(f"{VIDEOS}/{job['id']}/content?variant=thumbnail").content)
    assert contents[0] != contents[1]


def test_what_is_no_clip_is_named(server: Server, tmp_path: Path) -> None:
    png = BytesIO()
    Image.new("RGB", (64, 64)).save(png, "PNG")
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
    cut = clip(tmp_path)[:200]
    before = {*(server.outputs / "inputs").iterdir()}
    for data in (png.getvalue(), b"hello", playlist, cut, b"<html></html>"):
        answer = server.post(VIDEOS, data=BODY, files={"input_reference": ("a.mp4", data)})
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == ("input_reference", "invalid_video")
    assert {*(server.outputs / "inputs").iterdir()} == before


def test_a_missing_clip_is_asked_for(server: Server) -> None:
    for path in (VIDEOS, "/v1/images/generations"):
        body = {"prompt": BODY["prompt"]}
        error = server.post(path, body).json()["error"]
        assert (error["param"], error["code"]) == ("video_path", "missing_required_parameter")
        assert "needs a clip" in error["message"]
    error = server.post(VIDEOS, BODY | {"video_path": "/etc/passwd"}).json()["error"]
    assert error["param"] == "video_path"
    assert "etc" not in error["message"]


def test_the_document_and_the_tasks_tell_of_clips(server: Server) -> None:
    content = server.get("/openapi.json").json()["paths"][VIDEOS]["post"]["requestBody"]["content"]
    form = content["multipart/form-data"]["schema"]["properties"]
    assert form["video_path"]["format"] == form["input_reference"]["format"] == "binary"
    assert "V2V" in server.get("/models").json()["supported_task_types"]


def refused(tmp_path: Path, text: str, *words: str) -> str:
    """The last words of a server that does not start with a graph."""
    graph = tmp_path / "graph.yaml"
    graph.write_text("defaults: [demo, _self_]\n" + text)
    command = [sys.executable, "-m", "cli.main", "serve", "--port", "0", "--graph", str(graph)]
    done = subprocess.run(
        [*command, "--output-path", str(tmp_path / "out"), *words],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "listening" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("type", ["file", "path"])
def test_a_graph_that_needs_a_file_of_the_server_is_refused(tmp_path: Path, type: str) -> None:
    text = f"request: {{table: {{type: {type}, required: true}}}}\n"
    told = refused(tmp_path, text)
    assert "request.table" in told
    assert "clients cannot give" in told
    assert "request.table=FILE" in told


def test_graphs_without_an_output_that_can_be_sent_are_refused(tmp_path: Path) -> None:
    assert "has no output `file`" in refused(tmp_path, "outputs: {file: null}\n")
    assert "neither images nor videos" in refused(tmp_path, "outputs: {video: null}\n")


def test_limits_below_what_the_graph_makes_are_refused(tmp_path: Path) -> None:
    assert "at least 4096 pixels" in refused(tmp_path, "", "--max-pixels", "100")
    frames = "request: {num_frames: {min: 5, default: 5}}\n"
    assert "at most 3" in refused(tmp_path, frames, "--max-frames", "3")
