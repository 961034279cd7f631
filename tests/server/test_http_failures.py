"""What a client sees of a full queue, of engines that die, of jobs that take too long."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.support.servers import START_SECONDS, Server, serving, wait_until

PROMPT = "a red circle on a blue background"
LONG = {"size": "256x256", "num_inference_steps": 200}
CLIP = {"prompt": PROMPT, "num_frames": 17, **LONG}
PARTS = ("/", "%2f", "..", "v1", "videos", "%00", "é", "content", "?variant=", "999", "models")
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    words = ("--job-attempts", "1", "--max-queue", "1", "--request-timeout", "4")
    with serving(tmp_path_factory.mktemp("failures"), *words) as made:
        yield made


@pytest.fixture(autouse=True)
def _ready(server: Server) -> None:
    wait_until(lambda: server.get("/health_generate").status_code == 200, START_SECONDS)


def running(server: Server) -> bool:
    return bool(server.stats()["running"])


def kill_engine(server: Server) -> None:
    """Kill the engine while it works; it is the server's own child."""
    wait_until(lambda: running(server))
    os.kill(server.stats()["engines"][0]["pid"], signal.SIGKILL)


def test_a_full_queue_says_when_to_come_back(server: Server) -> None:
    first = server.post("/v1/videos", CLIP).json()["id"]
    wait_until(lambda: running(server))
    second = server.post("/v1/videos", CLIP).json()["id"]
    for path in ("/v1/videos", "/v1/images/generations"):
        refused = server.post(path, {"prompt": PROMPT})
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "queue_full"
        assert int(refused.headers["retry-after"]) > 0
    with pytest.raises(openai.RateLimitError):
        server.client().images.generate(prompt=PROMPT)
    waits = server.get(f"/v1/videos/{first}/content")
    assert (waits.status_code, waits.json()["error"]["code"]) == (404, "not_ready")
    for id in (second, first):
        assert httpx.delete(f"{server.url}/v1/videos/{id}").json()["deleted"]
    assert server.stats()["queued"] == server.stats()["running"] == 0


def test_health_answers_at_once_while_the_engine_works(server: Server) -> None:
    id = server.post("/v1/videos", CLIP).json()["id"]
    wait_until(lambda: running(server))
    with httpx.Client() as client:
        times = []
        for _ in range(21):
            began = time.perf_counter()
            assert client.get(f"{server.url}/health").status_code == 200
            times.append(time.perf_counter() - began)
    assert sorted(times)[10] < 0.02, "a delayed answer: is the socket's protocol named?"
    httpx.delete(f"{server.url}/v1/videos/{id}")


def test_a_picture_that_takes_too_long(server: Server) -> None:
    long = {"prompt": PROMPT, **LONG, "n": 10}
    answer = server.post("/v1/images/generations", long)
    assert answer.status_code == 504
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "timeout")
    assert answer.headers["x-request-id"] in error["message"]


def test_a_picture_whose_engine_dies(server: Server) -> None:
    answers: list[httpx.Response] = []
    body = {"prompt": PROMPT, **LONG, "n": 10}
    thread = threading.Thread(
        target=lambda: answers.append(server.post("/v1/images/generations", body))
    )
    thread.start()
    kill_engine(server)
    thread.join(30)
    error = answers[0].json()["error"]
    assert answers[0].status_code == 500
    assert (error["type"], error["code"]) == ("server_error", "engine_died")
    assert answers[0].headers["x-request-id"] in error["message"]
    reason = server.get("/health_generate")
    assert reason.status_code == 503
    assert reason.json()["error"]["code"] == "not_ready"
    assert server.get("/health").status_code == 503
    assert server.get("/liveness").status_code == 200


def test_a_clip_whose_engine_dies_is_retrieved_as_failed(server: Server) -> None:
    client = server.client()
    fields = {name: value for name, value in CLIP.items() if name != "prompt"}
    clip = client.videos.create(prompt=PROMPT, extra_body=fields)
    kill_engine(server)
    failed = client.videos.poll(clip.id, poll_interval_ms=100)
    assert failed.status == "failed"
    assert failed.error
    assert failed.error.code == "engine_died"
    assert failed.error.message
    content = server.get(f"/v1/videos/{clip.id}/content")
    assert (content.status_code, content.json()["error"]["code"]) == (404, "no_content")
    assert client.videos.delete(clip.id).deleted


def test_an_engine_that_cannot_start(tmp_path: Path) -> None:
    graph = tmp_path / "broken.yaml"
    graph.write_text("defaults: [demo, _self_]\nrequest: {unread: {type: int, default: 1}}\n")
    with serving(tmp_path, "--graph", str(graph), ready=False) as made:
        wait_until(lambda: made.stats()["engines"][0]["state"] == "refused", START_SECONDS)
        for path in ("/v1/images/generations", "/v1/videos"):
            answer = made.post(path, {"prompt": PROMPT})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
            error = answer.json()["error"]
            assert error["code"] == "not_ready"
            assert "no node reads request field `unread`" in error["message"]
            assert str(tmp_path) not in error["message"]
        assert made.get("/health").status_code == 503
        assert made.get("/liveness").status_code == 200


def test_any_bytes_are_answered(server: Server) -> None:
    """Forms, bodies and paths changed at random: never a failure, always OpenAI's shape."""
    draw = random.Random(1)
    form = (
        b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\r\n--b\r\n'
        b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\nx\r\n--b--\r\n"
    )
    json = b'{"prompt": "", "n": 1, "size": "64x64", "seed": [1, 2], "extra": {"a": null}}'
    kinds: tuple[tuple[bytes, str, tuple[str, ...]], ...] = (
        (form, "multipart/form-data; boundary=b", ("/v1/images/edits", "/v1/videos")),
        (json, "application/json", ("/v1/images/generations", "/v1/videos")),
    )
    with httpx.Client() as client:
        for _ in range(600):
            body, type, paths = draw.choice(kinds)
            said = {"content-type": type}
            answer = client.post(
                server.url + draw.choice(paths), content=changed(draw, body), headers=said
            )
            assert answer.status_code < 500, answer.text
            if answer.status_code != 200:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        for _ in range(200):
            path = "".join(draw.choice(PARTS) for _ in range(6))
            got = client.get(f"{server.url}/{path}")
            assert got.status_code in {200, 400, 404, 405}, path
    assert "Traceback" not in server.log.read_text("utf-8")


def changed(draw: random.Random, body: bytes) -> bytes:
    made: Any = bytearray(body)
    for _ in range(draw.randint(0, 6)):
        place = draw.randrange(len(made))
        made[place : place + draw.choice([0, 1, 9])] = draw.randbytes(draw.choice([0, 1, 3]))
    return bytes(made[: draw.choice([len(made), draw.randrange(len(made))])])
