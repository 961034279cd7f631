"""The server with an object store: a real S3 endpoint, down and up again."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from tests.support.servers import serving
from tests.support.stores import SECRET, object_store

# OpenAI marks its videos API as deprecated; the protocol is what we serve.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

PROMPT = "a red circle on a blue background"


def test_outputs_are_uploaded_and_answered_by_their_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_store() as store:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        with serving(tmp_path) as server:
            client = server.client()
            picture = {"prompt": PROMPT, "response_format": "url"}
            url = server.post("/v1/images/generations", picture).json()["data"][0]["url"]
            assert url.startswith(store.url)
            assert httpx.get(url).content.startswith(b"\x89PNG")
            assert not list(server.outputs.glob("img_*"))
            inline = client.images.generate(prompt=PROMPT, response_format="b64_json").data or []
            assert [(bool(i.b64_json), i.url) for i in inline] == [(True, None)]
            body = {"prompt": PROMPT, "num_frames": 5}
            id = server.post("/v1/videos", body).json()["id"]
            assert client.videos.poll(id, poll_interval_ms=100).status == "completed"
            assert server.get(f"/v1/videos/{id}").json()["url"].startswith(store.url)
            content = client.videos.download_content(id).read()
            assert content[4:8] == b"ftyp"
            for variant, head in (("thumbnail", b"RIFF"), ("spritesheet", b"\xff\xd8")):
                preview = server.get(f"/v1/videos/{id}/content?variant={variant}")
                assert preview.content.startswith(head), "made from the uploaded file"
            assert not [*(server.outputs / "inputs").iterdir()], "a temporary copy"
            store.down()
            unreachable = server.get(f"/v1/videos/{id}/content?variant=thumbnail")
            assert unreachable.status_code == 503
            assert unreachable.json()["error"]["code"] == "object_store_failed"
            kept = server.post("/v1/videos", body).json()["id"]
            assert client.videos.poll(kept, poll_interval_ms=100).status == "completed"
            assert list(server.outputs.glob(f"{kept}_*"))
            assert client.videos.download_content(kept).read()[4:8] == b"ftyp"
            store.up()
            deadline = time.monotonic() + 60
            while list(server.outputs.glob(f"{kept}_*")) and time.monotonic() < deadline:
                time.sleep(0.2)
            assert server.get(f"/v1/videos/{kept}").json()["url"].startswith(store.url)
            assert SECRET not in server.log.read_text("utf-8")
