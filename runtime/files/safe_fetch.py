"""Fetch a file from a URL that a stranger may have written. Imports no torch.

A server must not be led to addresses that only it can reach (server-side request forgery): each
host, also of each redirect, is looked up once, all its addresses must be public, and the connection
goes to a checked address. Messages to strangers do not tell what lies behind other addresses.
"""

from __future__ import annotations

import secrets
import time
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from runtime.errors import UserError
from runtime.files.http_get import FetchFailed, Limits, http_get, status_text

MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
COMPLETE = frozenset({200, 203})  # 203: a proxy changed the answer
CHUNK = 2**16
GZIP_OR_ZLIB, RAW_DEFLATE = 47, -15  # window sizes as zlib names formats
IDENTITY = frozenset({"", "identity", "none"})
COMPRESSED_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})


class MediaKind(NamedTuple):
    """What a URL should answer with. name: for messages. accept: the header."""

    name: str
    accept: str


PICTURE = MediaKind("picture", "image/*, */*;q=0.5")
CLIP = MediaKind("clip", "video/*, image/*;q=0.8, */*;q=0.5")


def fetch(
    url: str,
    folder: Path,
    *,
    max_bytes: int,
    wanted: MediaKind = PICTURE,
    check: Callable[[Path, str], str] | None = None,
    allow_private: bool = False,
    timeout_seconds: float = 30,
) -> Path:
    """Fetch a file into `folder` under a new name and return its path.

    max_bytes        a larger file is refused at the first byte too many, also after decompression
    check            looks at the file, which is named in messages by its second argument; raises
                     UserError, or returns the suffix that the file gets
    allow_private    reach any address, use the proxies of the environment, and tell every reason of
                     a failure: for the user's own command line
    timeout_seconds  for the whole fetch, however slowly the server sends
    """
    url = url.strip()
    label = check_url(url)
    limits = Limits(time.monotonic() + timeout_seconds, allow_private)
    part = folder / f"{secrets.token_hex(16)}.part"
    try:
        with part.open("xb") as file, closing(_body(url, wanted, limits, max_bytes)) as pieces:
            for piece in pieces:
                file.write(piece)
                if file.tell() > max_bytes:
                    raise TooLarge
        path = part.with_suffix(check(part, label) if check else "")
        part.replace(path)
        return path
    except TooLarge:
        raise UserError(
            f"{label} is larger than {max_bytes / 2**20:g} MB", help=f"give a smaller {wanted.name}"
        ) from None
    except FetchFailed as problem:
        reason = f": {problem}" if allow_private or problem.from_server else ""
        only = "" if allow_private else "; it must be public and reachable without a login"
        raise UserError(
            f"{label} could not be fetched{reason}",
            help=f"give a URL that answers with a {wanted.name}{only}",
        ) from None
    finally:
        part.unlink(missing_ok=True)


class TooLarge(Exception):
    """The body has more bytes than allowed."""


def check_url(url: str) -> str:
    """The URL without query and login, for messages; UserError if it is not an http(s) URL."""
    try:
        parts = urlsplit(url.strip())
        port, host = parts.port, parts.hostname
    except ValueError:
        raise UserError("this is not a valid URL", help="write https://host/picture.png") from None
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        raise UserError("this is not an http(s) URL", help="write https://host/picture.png")
    if parts.username is not None or parts.password is not None:
        raise UserError(
            f"the URL at {host} has a login in it", help="give one that works without a login"
        )
    label = f"{parts.scheme}://{parts.netloc}{parts.path}"
    return label if len(label) <= 80 else label[:77] + "..."


def _body(
    url: str, wanted: MediaKind, limits: Limits, max_bytes: int
) -> Generator[bytes, None, None]:
    """The body behind a URL and its redirects, decompressed."""
    for _ in range(MAX_REDIRECTS + 1):
        with http_get(url, wanted.accept, limits) as response:
            if response.status in REDIRECTS:
                url = _redirected(url, response)
                continue
            if response.status not in COMPLETE:
                raise FetchFailed(f"the server answered {status_text(response)}", from_server=True)
            encodings = _encodings(response)
            if not encodings and (response.length or 0) > max_bytes:
                raise TooLarge
            pieces = _pieces(response)
            for encoding in encodings:
                pieces = _decompressed(pieces, encoding)
            yield from pieces
            return
    raise FetchFailed(f"more than {MAX_REDIRECTS} redirects", from_server=True)


def _pieces(response: HTTPResponse) -> Generator[bytes, None, None]:
    announced = response.length
    while piece := response.read1(CHUNK):
        yield piece
    if response.length:
        got = (announced or 0) - response.length
        reason = f"the connection ended after {got} of {announced} bytes"
        raise FetchFailed(reason, from_server=True)


def _encodings(response: HTTPResponse) -> list[str]:
    """The compressions of a body, the outermost first: servers may use some unasked."""
    header = response.getheader("Content-Encoding", "")
    names = [name.strip().lower() for name in header.split(",")]
    encodings = [name for name in reversed(names) if name not in IDENTITY]
    for name in encodings:
        if name not in COMPRESSED_ENCODINGS:
            reason = f"the server compressed its answer with `{name[:20]}`, without being asked to"
            raise FetchFailed(reason, from_server=True)
    return encodings


def _decompressed(
    pieces: Generator[bytes, None, None], encoding: str
) -> Generator[bytes, None, None]:
    """Decompress a body in small pieces, so that one piece cannot expand without bound."""
    machine, started = zlib.decompressobj(GZIP_OR_ZLIB), False
    try:
        for piece in pieces:
            data = piece
            while data:
                try:
                    found = machine.decompress(data, CHUNK)
                except zlib.error:
                    if started or encoding != "deflate":
                        raise
                    machine = zlib.decompressobj(RAW_DEFLATE)  # some servers send no zlib header
                    found = machine.decompress(data, CHUNK)
                started = True
                yield found
                data = machine.unconsumed_tail
                if machine.eof and machine.unused_data:  # gzip may have several members
                    data, machine = machine.unused_data, zlib.decompressobj(GZIP_OR_ZLIB)
        while started and (found := machine.decompress(b"", CHUNK)):
            yield found
        if started and not machine.eof:
            raise FetchFailed("the compressed answer is cut off", from_server=True)
    except zlib.error:
        raise FetchFailed(f"the answer is not {encoding} as it says", from_server=True) from None


def _redirected(url: str, response: HTTPResponse) -> str:
    location = response.getheader("Location")
    if not location:
        reason = f"the server answered {status_text(response)} without an address to go to"
        raise FetchFailed(reason, from_server=True)
    try:
        # http.client reads headers as Latin-1; servers send addresses in UTF-8.
        text = location.encode("latin-1").decode("utf-8", "replace")
        target = urljoin(url, text.strip())
        check_url(target)
    except (UserError, ValueError):
        reason = "it redirects to an address that is not an http(s) URL"
        raise FetchFailed(reason, from_server=True) from None
    return target
