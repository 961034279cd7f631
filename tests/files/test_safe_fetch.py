"""Fetching pictures from a real server on the loopback interface, and refusing to."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cli.main import main
from runtime import UserError
from runtime.files.image_files import check_image, read_image
from runtime.files.input_pictures import read_picture
from runtime.files.public_address import is_public
from runtime.files.safe_fetch import check_url, fetch

NONE: Mapping[str, str] = {}
HIDDEN = "give a URL that answers with a picture; it must be public and reachable without a login"


def picture(kind: str = "png") -> bytes:
    encoded = BytesIO()
    Image.new("RGB", (30, 20), (10, 200, 30)).save(encoded, kind)
    return encoded.getvalue()


class Site(BaseHTTPRequestHandler):
    """Each path is one way to answer. asked: what was asked for, in order."""

    asked: list[str]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.asked.append(self.path)
        name = self.path.partition("?")[0].strip("/").partition("/")[0].partition(".")[0]
        getattr(self, f"answer_{name}", self.answer_missing)()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def send(self, body: bytes, status: int = 200, headers: Mapping[str, str] = NONE) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def answer_missing(self) -> None:
        self.send(b"secret", 404)

    def answer_png(self) -> None:
        self.send(picture())

    def answer_jpeg(self) -> None:
        self.send(picture("jpeg"), headers={"Content-Type": "text/html"})

    def answer_chunked(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (picture()[:50], picture()[50:], b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def answer_page(self) -> None:
        self.send(b"<html>secret</html>", headers={"Content-Type": "image/png"})

    def answer_short(self) -> None:
        self.send(picture(), headers={"Content-Length": str(len(picture()) + 5)})
        self.close_connection = True

    def answer_large(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for _ in range(10_000):
            self.wfile.write(bytes(2**16))

    def answer_slow(self) -> None:
        self.drip(picture())

    def answer_slowhead(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        self.drip(bytes(97 for _ in range(500)), head=False)

    def drip(self, body: bytes, *, head: bool = True) -> None:
        if head:
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
        for byte in body * 100:
            self.wfile.write(bytes([byte]))
            time.sleep(0.02)

    def answer_go(self) -> None:
        """Redirect to what the query message."""
        self.send(b"", 302, {"Location": self.path.partition("?")[2]})

    def answer_nowhere(self) -> None:
        self.send(b"", 302)

    def answer_loop(self) -> None:
        self.send(b"", 307, {"Location": "/loop"})


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Readers that go away are what is tested."""


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def site(asked: list[str]) -> Iterator[str]:
    server = Quiet(("127.0.0.1", 0), type("Here", (Site,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def get(url: str, folder: Path, **options: Any) -> Path:
    usual = {"max_bytes": 10**6, "allow_private": True, "check": suffix_of}
    return fetch(url, folder, **{**usual, **options})


def suffix_of(path: Path, label: str) -> str:
    return check_image(path, label).suffix


@pytest.mark.parametrize(
    ("path", "suffix"),
    [("/png", ".png"), ("/jpeg/../../x.sh?a=b&c", ".jpg"), ("/chunked", ".png"),
     ("/go?" * 9 + "/png", ".png"), ("/png.exe#part", ".png")],
)  # fmt: skip
def test_pictures_come_under_new_names(path: str, suffix: str, site: str, tmp_path: Path) -> None:
    found = get(site + path, tmp_path)
    assert list(tmp_path.iterdir()) == [found]
    assert (len(found.stem), found.suffix) == (32, suffix)
    assert read_image(found).shape == (20, 30, 3)


def test_other_scripts_are_escaped(site: str, asked: list[str], tmp_path: Path) -> None:
    get(site + "/png/bücher und%20mehr?q=ü", tmp_path)
    assert asked == ["/png/b%C3%BCcher%20und%20mehr?q=%C3%BC"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing", "could not be fetched: the server answered 404 Not Found"),
        ("/page", "/page is an HTML page, which is not a picture format"),
        ("/short", "could not be fetched: the connection ended after 92 of 97 bytes"),
        ("/large", "/large is larger than 1 MB"),
        ("/nowhere", "the server answered 302 Found without an address to go to"),
        ("/loop", "could not be fetched: more than 10 redirects"),
        ("/go?" * 11 + "/png", "could not be fetched: more than 10 redirects"),
        (
            "/go?file:///etc/passwd",
            "it redirects to an address that is not an http",
        ),
        (
            "/go?http://me:secret@127.0.0.1/",
            "it redirects to an address that is not an http",
        ),
        (
            "/go?http://host:99999/",
            "it redirects to an address that is not an http",
        ),
    ],
)
def test_what_is_no_picture_leaves_nothing(
    path: str, message: str, site: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        get(site + path, tmp_path, max_bytes=2**20)
    assert message in caught.value.message
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["/slow", "/slowhead"])
def test_time_is_capped(path: str, site: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="could not be fetched: it took too long"):
        get(site + path, tmp_path, timeout_seconds=0.5)
    assert time.monotonic() - began < 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_time_is_capped_where_nothing_answers(scheme: str, tmp_path: Path) -> None:
    """It accepts and message nothing: a request, or a TLS handshake, that never ends."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"{scheme}://127.0.0.1:{mute.getsockname()[1]}/x.png"
        with pytest.raises(UserError, match="it took too long"):
            get(url, tmp_path, timeout_seconds=0.3)


def test_what_is_no_tls_is_said(site: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be fetched: "):
        get(site.replace("http:", "https:") + "/png", tmp_path)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "[::1]", "[::ffff:127.0.0.1]",
     "0.0.0.0", "[::]", "169.254.169.254", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1",
     "[fe80::1]", "[fd00:ec2::254]", "224.0.0.1", "255.255.255.255", "[64:ff9b::7f00:1]",
     "[2002:7f00:1::]", "168.63.129.16"],
)  # fmt: skip
def test_private_addresses_are_never_reached(
    host: str, site: str, asked: list[str], tmp_path: Path
) -> None:
    url = f"http://{host}:{site.rpartition(':')[2]}/png?token=x"
    with pytest.raises(UserError) as caught:
        fetch(url, tmp_path, max_bytes=10**6)
    assert caught.value.message == f"{url.partition('?')[0]} could not be fetched"
    assert caught.value.help == HIDDEN
    assert not asked
    assert not list(tmp_path.iterdir())


def test_closed_and_unknown_are_told_alike(tmp_path: Path) -> None:
    """Nobody can map a private network by the messages."""
    for url in ("http://127.0.0.1:1/x", "http://nothing.invalid/x"):
        with pytest.raises(UserError) as caught:
            fetch(url, tmp_path, max_bytes=10, timeout_seconds=5)
        assert str(caught.value) == f"{url} could not be fetched\n    help: {HIDDEN}"


Answers = Callable[..., list[Any]]


def answering(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """A name server that gives these answers in turn. Returns the names it is asked."""
    names: list[str] = []
    real: Answers = socket.getaddrinfo

    def look_up(host: str, port: int, *further: Any, **options: Any) -> list[Any]:
        if host[0].isdigit():  # connecting to an address, which is no question
            return real(host, port, *further, **options)
        names.append(host)
        given = answers[min(len(names), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in given]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names


def test_a_second_answer_of_the_name_server_changes_nothing(
    site: str, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes to the address that was checked, and each redirect is checked anew."""
    real = socket.create_connection
    went: list[tuple[str, int]] = []

    def connect(to: tuple[str, int], *_: Any, **options: Any) -> socket.socket:
        went.append(to)
        return real(("127.0.0.1", to[1]), **options)  # stands for the public address

    names = answering(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    monkeypatch.setattr(socket, "create_connection", connect)
    port = site.rpartition(":")[2]
    fetch(f"http://pictures.example:{port}/png", tmp_path, max_bytes=10**6)
    assert names == ["pictures.example"]
    assert went == [("93.184.216.34", int(port))]
    names.clear()
    with pytest.raises(UserError, match="could not be fetched"):
        fetch(f"http://pictures.example:{port}/go?http://inside.example/", tmp_path, max_bytes=9)
    assert names == ["pictures.example", "inside.example"]
    assert [to for to in went[1:] if to[0] != "93.184.216.34"] == []


def test_one_private_address_among_public_ones_is_enough(
    site: str, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, ["93.184.216.34", "127.0.0.1"])
    with pytest.raises(UserError, match="could not be fetched"):
        fetch(f"http://pictures.example:{site.rpartition(':')[2]}/png", tmp_path, max_bytes=10**6)
    assert not asked


@pytest.mark.parametrize(
    ("address", "public"),
    [("93.184.216.34", True), ("8.8.8.8", True), ("2606:4700::1111", True),
     ("::ffff:8.8.8.8", True), ("64:ff9b::808:808", True), ("64:ff9b::a00:1", False),
     ("::ffff:10.0.0.1", False), ("192.0.0.192", False), ("198.18.0.1", False),
     ("::8.8.8.8", False), ("2001:db8::1", False), ("fec0::1", False), ("ff0e::1", False),
     ("240.0.0.1", False)],
)  # fmt: skip
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize(
    "url",
    ["ftp://host/x", "file:///etc/passwd", "//host/x", "x.png", "", "http://", "http://:80/",
     "http://host:0/", "http://host:99999/", "http://[::1/", "http://me@host/", "http://:pw@host/",
     "gopher://127.0.0.1:6379/_SET"],
)  # fmt: skip
def test_urls_that_are_none(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        fetch(url, tmp_path, max_bytes=10)
    assert not list(tmp_path.iterdir())


def test_messages_show_no_secrets_of_a_url() -> None:
    assert check_url("https://host/a.png?signature=secret") == "https://host/a.png"
    assert len(check_url("https://host/" + "a" * 500)) == 80


def test_random_bytes_are_no_picture(tmp_path: Path, site: str) -> None:
    bomb = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60000, 60000, 1, 24, *[0] * 6)
    Site.answer_noise = lambda self: self.send(os.urandom(5000))  # type: ignore[attr-defined]
    Site.answer_bomb = lambda self: self.send(bomb)  # type: ignore[attr-defined]
    for name in ("noise", "bomb"):
        with pytest.raises(UserError, match=r"not a picture|is damaged|decoded|too many"):
            get(f"{site}/{name}", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_user_may_reach_their_own_network(
    site: str, asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = read_picture(f"{site}/png", "`image_path`", "image_path")
    np.testing.assert_array_equal(pixels, read_image(get(site + "/png", tmp_path)))
    asked.clear()
    words = ["generate", "--graph", "demo_edit", "--prompt", "a star", "--height", "64"]
    words += ["--width", "64", "--num-inference-steps", "1", "--output-path", str(tmp_path / "o")]
    assert main([*words, "--image-path", site + "/png"]) == 0
    assert asked == ["/png"]
    assert main([*words, "--image-path", site + "/missing"]) == 2
    error = f"{site}/missing could not be fetched: the server answered 404 Not Found\n"
    assert capsys.readouterr().err.endswith(
        f"`--image-path`: {error}help: give a URL that answers with a picture\n"
    )
