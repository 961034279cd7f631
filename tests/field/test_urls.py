"""Kind 5 of issue 10: URLs as they are, from real servers on the loopback interface."""

from __future__ import annotations

import gzip
import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime.errors import UserError
from runtime.files.input_pictures import check_clip, check_picture, read_clip, read_picture
from runtime.files.safe_fetch import fetch
from runtime.files.video_files import write_video
from tests.support.scenes import Array, clip, psnr

NONE: Mapping[str, str] = {}
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def png() -> bytes:
    file = BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    return file.getvalue()


class Site(BaseHTTPRequestHandler):
    """Each path is one way to answer. requests: what came in, as method, path and headers."""

    requests: list[tuple[str, str, dict[str, str]]]
    clip: bytes = b""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.requests.append(("GET", self.path, dict(self.headers)))
        path = self.path.removeprefix("http://pictures.test")
        name = path.partition("?")[0].strip("/").partition("/")[0].partition(".")[0]
        getattr(self, f"answer_{name}")()

    def do_CONNECT(self) -> None:
        self.requests.append(("CONNECT", self.path, dict(self.headers)))
        self.send(b"", 407, reason="Proxy Authentication Required")

    def log_message(self, *_: Any) -> None:
        """Be silent."""

    def send(
        self, body: bytes, status: int = 200, headers: Mapping[str, str] = NONE, reason: str = ""
    ) -> None:
        self.send_response(status, reason or None)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def answer_png(self) -> None:
        self.send(png())

    def answer_polite(self) -> None:
        """As Wikimedia and others: no request without a name."""
        self.send(png()) if "sglang-graph/" in self.headers.get("User-Agent", "") else self.send(
            b"", 403
        )

    def answer_clip(self) -> None:
        self.send(self.clip, headers={"Content-Type": "video/mp4"})

    def answer_plain(self) -> None:
        self.send(self.clip or png(), headers={"Content-Type": "text/plain"})

    def answer_typeless(self) -> None:
        self.send(png(), headers={"Content-Type": "", "Content-Length": ""})
        self.close_connection = True

    def answer_garbled(self) -> None:
        self.send(png(), headers={"Content-Length": "many"})
        self.close_connection = True

    def answer_long(self) -> None:
        self.send(png(), headers={"Content-Length": str(10**6)})
        self.close_connection = True

    def answer_short(self) -> None:
        self.send(png(), headers={"Content-Length": str(len(png()) // 2)})

    def answer_html(self) -> None:
        self.send(b"<!doctype html><p>Log in</p>", headers={"Content-Type": "image/png"})

    def answer_empty(self) -> None:
        self.send(b"")

    def answer_gzip(self) -> None:
        self.send(gzip.compress(png()), headers={"Content-Encoding": "gzip"})

    def answer_members(self) -> None:
        halves = gzip.compress(png()[:100]) + gzip.compress(png()[100:])
        self.send(halves, headers={"Content-Encoding": "x-gzip"})

    def answer_deflate(self) -> None:
        self.send(zlib.compress(png()), headers={"Content-Encoding": "deflate"})

    def answer_raw(self) -> None:
        body = zlib.compress(png())[2:-4]  # as some servers understand "deflate"
        self.send(body, headers={"Content-Encoding": "deflate"})

    def answer_twice(self) -> None:
        body = gzip.compress(zlib.compress(png()))
        self.send(body, headers={"Content-Encoding": "deflate, gzip"})

    def answer_cutgzip(self) -> None:
        self.send(gzip.compress(png())[:-30], headers={"Content-Encoding": "gzip"})

    def answer_lie(self) -> None:
        self.send(png(), headers={"Content-Encoding": "gzip"})

    def answer_brotli(self) -> None:
        self.send(png(), headers={"Content-Encoding": "br"})

    def answer_bomb(self) -> None:
        self.send(gzip.compress(bytes(50 * 2**20)), headers={"Content-Encoding": "gzip"})

    def answer_busy(self) -> None:
        self.send(b"", 503, {"Retry-After": "7"})

    def answer_odd(self) -> None:
        self.send(b"", 418, reason="I'm a teapot")

    def answer_hop(self) -> None:
        """/hop/5 redirects to /hop/4 and so on, each time in another way."""
        left = int(self.path.rpartition("/")[2])
        target = f"/hop/{left - 1}" if left > 1 else "/png"
        self.send(b"", (301, 302, 303, 307, 308)[left % 5], {"Location": target})

    def answer_umlaut(self) -> None:
        self.send(b"", 302, {"Location": "/png/\u00c3\u00bc b"})  # UTF-8, as headers carry it

    def answer_drip(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for byte in png() * 100:
            self.wfile.write(bytes([byte]))
            time.sleep(0.02)


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are what is tested."""


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> type[Site]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return type("Here", (Site,), {"requests": []})


@pytest.fixture
def site(handler: type[Site]) -> Iterator[str]:
    server = Quiet(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def read(url: str) -> Array:
    """As `--image-path` reads it."""
    return read_picture(check_picture(url), "`request.image_path`", "request.image_path")


@pytest.mark.parametrize(
    "path",
    ["/png", "/polite", "/plain", "/typeless", "/garbled", "/gzip", "/members", "/deflate", "/raw",
     "/twice", "/hop/10", "/umlaut", "/png/a b?x=ü&y=%20#part"],
)  # fmt: skip
def test_pictures_that_browsers_show(path: str, site: str) -> None:
    """C03 (`/polite`) and its siblings."""
    np.testing.assert_array_equal(read(f" {site}{path}\n"), PIXELS)


def test_requests_have_a_name(site: str, handler: type[Site]) -> None:
    """C03."""
    read(site + "/png")
    ((_, _, headers),) = handler.requests
    assert headers["User-Agent"].startswith("sglang-graph/")
    assert "(+https://" in headers["User-Agent"]
    assert headers["Accept"].startswith("image/*")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/busy", "the server answered 503 Service Unavailable and asks to wait 7 s"),
        ("/odd", "the server answered 418 I'm a teapot"),
        ("/long", "the connection ended after"),
        ("/short", "is damaged"),
        ("/html", "is an HTML page"),
        ("/empty", "is an empty file"),
        ("/brotli", "the server compressed its answer with `br`"),
        ("/lie", "the answer is not gzip as it says"),
        ("/cutgzip", "the compressed answer is cut off"),
        ("/hop/11", "more than 10 redirects"),
    ],
)
def test_messages_say_what_the_server_said(path: str, message: str, site: str) -> None:
    with pytest.raises(UserError) as caught:
        read(site + path)
    assert message in caught.value.message
    assert caught.value.message.startswith(f"`request.image_path`: {site}{path}")


def test_a_body_that_expands_is_stopped(site: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="larger than 1 MB"):
        fetch(site + "/bomb", tmp_path, max_bytes=2**20, allow_private=True)
    assert not list(tmp_path.iterdir())


def test_one_deadline_holds_for_a_slow_drip(site: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="it took too long"):
        fetch(site + "/drip", tmp_path, max_bytes=10**6, allow_private=True, timeout_seconds=0.5)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("path", ["/clip", "/clip.mp4?token=1", "/plain/clip.mp4"])
def test_clips_have_urls(path: str, site: str, handler: type[Site], tmp_path: Path) -> None:
    """N01."""
    frames = clip(6, 48, 64)
    write_video(frames, tmp_path / "clip.mp4", fps=10, quality="maximum")
    handler.clip = (tmp_path / "clip.mp4").read_bytes()
    found, fps = read_clip(check_clip(site + path), "`video_path`", "x", num_frames=4)
    assert fps == 10
    assert psnr(found, frames[:4]) > 30
    assert handler.requests[0][2]["Accept"].startswith("video/*")


@pytest.mark.parametrize(
    ("path", "message"),
    [("/html", "cannot be read as a clip: it is an HTML page"),
     ("/png", "cannot be read as a clip: it is a PNG picture"), ("/busy", "503")],
)  # fmt: skip
def test_what_is_no_clip_at_a_url(path: str, message: str, site: str) -> None:
    """N01."""
    with pytest.raises(UserError) as caught:
        read_clip(site + path, "`video_path`", "x")
    assert message in caught.value.message
    assert "/tmp" not in caught.value.message


def test_a_clip_given_as_a_picture_is_named(site: str, handler: type[Site], tmp_path: Path) -> None:
    write_video(clip(3, 48, 64), tmp_path / "clip.mp4", fps=10)
    handler.clip = (tmp_path / "clip.mp4").read_bytes()
    with pytest.raises(UserError, match="is an MP4 clip, not a picture"):
        read(site + "/clip")


def test_a_proxy_of_the_environment_is_used(
    site: str, handler: type[Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """N31: the host is known to the proxy alone."""
    monkeypatch.setenv("http_proxy", site.replace("//", "//me:p%40ss@"))
    np.testing.assert_array_equal(read("http://pictures.test/png?a=b"), PIXELS)
    ((_, path, headers),) = handler.requests
    assert path == "http://pictures.test/png?a=b"
    assert headers["Host"] == "pictures.test"
    assert headers["Proxy-Authorization"] == "Basic bWU6cEBzcw=="
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    read(site + "/png")
    assert handler.requests[-1][1] == "/png"


def test_a_proxy_for_https_that_refuses_is_told(
    site: str, handler: type[Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """N31."""
    monkeypatch.setenv("https_proxy", site)
    with pytest.raises(UserError, match="the proxy answered 407 Proxy Authentication Required"):
        read("https://pictures.test/a.png")
    assert handler.requests[0][:2] == ("CONNECT", "pictures.test:443")
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(UserError, match="socks5:// is not supported"):
        read("https://pictures.test/a.png")


def test_a_server_uses_no_proxy_and_reaches_no_private_address(
    site: str, handler: type[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N31: a proxy could lead where the server must not go."""
    monkeypatch.setenv("http_proxy", site)
    for url in (site + "/png", "http://pictures.test/png", "http://169.254.169.254/"):
        with pytest.raises(UserError) as caught:
            fetch(url, tmp_path, max_bytes=10**6, timeout_seconds=5)
        assert caught.value.message == f"{url} could not be fetched"
    assert not handler.requests


def test_a_server_tells_what_a_public_host_answers(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The loopback address stands for a public host.
    monkeypatch.setattr("runtime.files.http_get.is_public", lambda address: True)
    with pytest.raises(UserError, match="the server answered 503 Service Unavailable"):
        fetch(site + "/busy", tmp_path, max_bytes=10**6)
