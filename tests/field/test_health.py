"""Health as a load balancer polls it: while engines load, work, die, and while the server stops."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.servers import START_SECONDS, Server, serving, wait_until

LONG = {"prompt": "a red circle", "size": "256x256", "num_inference_steps": 200}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    words = ("--http-graceful-shutdown-timeout", "2", "--job-attempts", "1")
    with serving(tmp_path_factory.mktemp("health"), *words, ready=False) as made:
        yield made


def unhealthy(answer: httpx.Response) -> str:
    """The reason in a 503 of a health endpoint."""
    assert answer.status_code == 503
    assert answer.json()["status"] == "unhealthy"
    assert answer.json()["error"]["code"] == "not_ready"
    reason: str = answer.json()["error"]["message"]
    return reason


def test_health_waits_for_an_engine(server: Server) -> None:
    for path in ("/health", "/health_generate"):
        assert "loading the model" in unhealthy(server.get(path))
    assert server.get("/liveness").json() == {"status": "ok"}
    wait_until(lambda: server.get("/health").status_code == 200, START_SECONDS)
    assert server.get("/health").json() == server.get("/health_generate").json()
    assert httpx.head(server.url + "/health").status_code == 200


def test_health_while_the_only_engine_is_dead(server: Server) -> None:
    wait_until(lambda: server.get("/health").status_code == 200, START_SECONDS)
    os.kill(server.stats()["engines"][0]["pid"], signal.SIGKILL)
    wait_until(lambda: server.get("/health").status_code == 503)
    assert server.get("/liveness").status_code == 200
    assert "SIGKILL" in unhealthy(server.get("/health_generate"))
    wait_until(lambda: server.get("/health").status_code == 200, START_SECONDS)


def test_health_is_200_while_the_engine_is_busy(server: Server) -> None:
    wait_until(lambda: server.get("/health").status_code == 200, START_SECONDS)
    clip = server.post("/v1/videos", LONG | {"num_frames": 5}).json()
    wait_until(lambda: server.stats()["running"] == 1)
    assert server.get("/health").status_code == 200
    httpx.delete(f"{server.url}/v1/videos/{clip['id']}")


def test_an_engine_that_cannot_start_is_unhealthy(tmp_path: Path) -> None:
    graph = tmp_path / "broken.yaml"
    graph.write_text("defaults: [demo, _self_]\nrequest: {unread: {type: int, default: 1}}\n")
    with serving(tmp_path, "--graph", str(graph), ready=False) as made:
        wait_until(lambda: made.stats()["engines"][0]["state"] == "refused", START_SECONDS)
        assert "no node reads request field `unread`" in unhealthy(made.get("/health"))
        assert made.get("/liveness").status_code == 200


def test_sigterm_answers_open_requests(server: Server) -> None:
    """Last: it stops the server. One request runs, one is queued, one has not sent its body."""
    wait_until(lambda: server.get("/health").status_code == 200, START_SECONDS)
    answers: dict[str, httpx.Response] = {}

    def ask(name: str) -> None:
        answers[name] = server.post("/v1/images/generations", LONG | {"n": 10})

    def send_slowly() -> None:
        def body() -> Iterator[bytes]:
            yield b'{"prompt": '
            stop.wait(20)
            yield b'"x"}'

        headers = {"content-type": "application/json"}
        answers["slow"] = server.post("/v1/images/generations", content=body(), headers=headers)

    stop = threading.Event()
    threads = [threading.Thread(target=ask, args=("running",))]
    threads[0].start()
    wait_until(lambda: server.stats()["running"] == 1)
    threads += [
        threading.Thread(target=ask, args=("queued",)),
        threading.Thread(target=send_slowly),
    ]
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: server.stats()["queued"] == 1)
    server.process.send_signal(signal.SIGTERM)
    threads[0].join(40)
    threads[1].join(40)
    stop.set()
    threads[2].join(40)
    for name, answer in answers.items():
        assert answer.status_code == 503, name
        assert answer.json()["error"]["code"] == "shutting_down", name
        assert answer.headers["x-request-id"]
        assert answer.headers["retry-after"]
    assert len(answers) == 3
    assert server.process.wait(60) == 128 + signal.SIGTERM
    assert "Traceback" not in server.log.read_text("utf-8")
