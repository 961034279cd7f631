"""Who may call: keys, pages of other origins, ids of requests; what an answer never tells."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.support.servers import ROOT, Server, serving

KEY = "s3cret-€"
WITH_KEY = {"Authorization": f"Bearer {KEY}".encode()}
ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    words = ("--cors-origin", ORIGIN, "--served-model-name", "shapes/tiny", "--api-key", KEY)
    with serving(tmp_path_factory.mktemp("access"), *words) as made:
        yield made


@pytest.mark.parametrize("said", ["", "Bearer", "Bearer wrong", f"Basic {KEY}", "Bearer s3cret"])
def test_without_the_key_nothing_is_told(server: Server, said: str) -> None:
    for path in ("/v1/models", "/openapi.json", "/stats", "/nothing", "/v1/videos"):
        answer = server.get(path, headers={"Authorization": said.encode()})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"


def test_health_needs_no_key(server: Server) -> None:
    for path in ("/health", "/liveness", "/health_generate"):
        assert server.get(path).json() == {"status": "ok"}


def test_the_sdk_with_a_wrong_key(server: Server) -> None:
    with pytest.raises(openai.AuthenticationError):
        server.client("wrong").models.list()


def test_the_served_name(server: Server) -> None:
    assert server.get("/v1/models", headers=WITH_KEY).json()["data"][0]["id"] == "shapes/tiny"
    assert server.get("/v1/models/shapes/tiny", headers=WITH_KEY).status_code == 200
    assert server.get("/server_info", headers=WITH_KEY).json()["served_model_name"] == "shapes/tiny"
    made = server.post(
        "/v1/images/generations", {"prompt": "x", "model": "shapes/tiny"}, headers=WITH_KEY
    )
    assert made.status_code == 200
    assert made.json()["data"][0]["url"].startswith(server.url)


def test_pages_of_the_named_origin_may_call(server: Server) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    preflight = httpx.options(server.url + "/v1/videos", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    other = httpx.options(server.url + "/v1/videos", headers=asked | {"Origin": "https://evil"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("sent", ["my-id.1", "bad id", "x" * 200, ""])
def test_a_request_has_an_id(server: Server, sent: str) -> None:
    got = server.get("/health", headers={"X-Request-Id": sent}).headers["x-request-id"]
    assert got == sent if sent == "my-id.1" else got.startswith("req_")


@pytest.mark.parametrize(
    ("headers", "start"),
    [
        ({}, None),
        (
            {"Host": "models.example:8443", "X-Forwarded-Proto": "https"},
            "https://models.example:8443/",
        ),
        ({"Host": "bad host/<x>"}, None),
        ({"X-Forwarded-Proto": "javascript"}, None),
    ],
)
def test_urls_are_those_of_the_client(
    server: Server, headers: dict[str, str], start: str | None
) -> None:
    encoded = {**WITH_KEY, **{name: value.encode() for name, value in headers.items()}}
    made = server.post("/v1/images/generations", {"prompt": "x"}, headers=encoded)
    assert made.json()["data"][0]["url"].startswith(start or server.url)


def test_answers_tell_no_paths_of_this_machine(server: Server) -> None:
    for path in ("/models", "/server_info", "/model_info", "/v1/model_info", "/stats", "/v1/models",
                 "/openapi.json"):  # fmt: skip
        answer = server.get(path, headers=WITH_KEY)
        assert answer.status_code == 200
        for folder in (str(ROOT), str(server.outputs), str(server.outputs.parent)):
            assert folder not in answer.text


def test_the_key_is_in_no_log(server: Server) -> None:
    assert "s3cret" not in server.log.read_text("utf-8")


def test_the_http_process_imports_no_torch() -> None:
    check = (
        "import sys, server.app; "
        "print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
