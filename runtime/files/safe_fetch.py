"""Fetch a picture from a URL without being led to where its giver may not look. Imports no torch.

A name is looked up once, every address it has is checked, and the connection is made to a checked
address: a second answer of the name server cannot differ. Redirects are followed by hand, each
checked like the first URL. Messages tell strangers nothing of what lies behind an address.
"""

from __future__ import annotations

import http.client
import ipaddress
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from runtime.errors import UserError
from runtime.files.image_files import check_image

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MAX_REDIRECTS = 3
REDIRECTS = frozenset({301, 302, 303, 307, 308})
CHUNK = 2**16
UNQUOTED = "/%:@!$&'()*+,;=~?"  # what a URL may hold as it is; text of any script is escaped
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tiff"}
# What the standard library takes for public: hosts' own services, and IPv6 that hides an IPv4.
NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24",
        "::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10",
    )
)  # fmt: skip
TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # IPv4 as an IPv6-only network reaches it


class _Stopped(Exception):
    """The fetch ended without a picture; the message is for those who may know why."""


def fetch(
    url: str,
    folder: Path,
    *,
    max_bytes: int,
    allow_private: bool = False,
    timeout_seconds: float = 30,
) -> Path:
    """Fetch a picture into `folder` under a new name and return its path.

    max_bytes        larger ones are refused, at the first byte too many
    allow_private    reach any address, and say what went wrong: for a user's own command line
    timeout_seconds  for everything together
    """
    said, deadline = check_url(url), time.monotonic() + timeout_seconds
    part = folder / f"{secrets.token_hex(16)}.part"
    try:
        with part.open("xb") as file, closing(_pieces(url, deadline, allow_private)) as pieces:
            for piece in pieces:
                file.write(piece)
                if file.tell() > max_bytes:
                    raise UserError(
                        f"{said} is larger than {max_bytes / 2**20:g} MB",
                        help="give a smaller picture",
                    )
        path = part.with_suffix(_suffix(part, said))
        part.replace(path)
        return path
    except _Stopped as problem:
        detail = f": {problem}" if allow_private else ""
        only = "" if allow_private else "; it must be public and reachable without a login"
        raise UserError(
            f"{said} could not be fetched{detail}",
            help=f"give a URL that answers with a picture{only}",
        ) from None
    finally:
        part.unlink(missing_ok=True)


def check_url(url: str) -> str:
    """The URL as messages may show it (no query, no login); UserError where it is none to fetch."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise UserError("this is no valid URL", help="write https://host/picture.png") from None
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        raise UserError("this is no http(s) URL", help="write https://host/picture.png")
    if parts.username is not None or parts.password is not None:
        raise UserError(
            f"the URL at {host} has a login in it", help="give one that works without a login"
        )
    shown = f"{parts.scheme}://{parts.netloc}{parts.path}"
    return shown if len(shown) <= 80 else shown[:77] + "..."


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, and not to this machine or network."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address in TRANSLATED:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    refused = any(address in n for n in NOT_PUBLIC if n.version == address.version)
    special = address.is_multicast or address.is_reserved or address.is_unspecified
    return address.is_global and not (special or address.is_link_local or refused)


def _pieces(url: str, deadline: float, allow_private: bool) -> Generator[bytes, None, None]:
    """The body behind a URL and its redirects."""
    for _ in range(MAX_REDIRECTS + 1):
        with _answer(urlsplit(url), deadline, allow_private) as response:
            if response.status in REDIRECTS:
                url = _next(url, response.getheader("Location"))
                continue
            if response.status != 200:
                raise _Stopped(f"the server answered {response.status}")
            while piece := response.read1(CHUNK):
                yield piece
            if response.length:
                raise _Stopped("the connection ended early")
            return
    raise _Stopped(f"more than {MAX_REDIRECTS} redirects")


def _next(url: str, location: str | None) -> str:
    try:
        after = urljoin(url, location or "")
        check_url(after)
    except (UserError, ValueError):
        raise _Stopped("it redirects to no http(s) URL") from None
    return after


@dataclass
class _Line:
    """The socket in use, which a timer cuts at the deadline, whatever it is doing then."""

    socket: socket.socket | None = None

    def cut(self) -> None:
        if self.socket is not None:
            with suppress(OSError):  # not TLS's own shutdown, which is not made for two threads
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


@contextmanager
def _answer(
    url: SplitResult, deadline: float, allow_private: bool
) -> Iterator[http.client.HTTPResponse]:
    """The answer to one GET; whatever goes wrong on the way, here or while reading, is _Stopped."""
    host, secure = url.hostname or "", url.scheme == "https"
    port = url.port or (443 if secure else 80)
    connection = http.client.HTTPConnection(host, port)
    line = _Line()
    timer = threading.Timer(max(deadline - time.monotonic(), 0), line.cut)
    timer.daemon = True
    try:
        with closing(connection):
            timer.start()
            addresses = _addresses(host, port, deadline, allow_private)
            _connect(line, addresses, (host, port, secure), deadline)
            connection.sock = line.socket
            target = quote(url.path or "/", safe=UNQUOTED)
            target += f"?{quote(url.query, safe=UNQUOTED)}" if url.query else ""
            wanted = {"Accept": "image/*", "Accept-Encoding": "identity", "Connection": "close"}
            connection.request("GET", target, headers=wanted)
            with connection.getresponse() as response:
                yield response
            if time.monotonic() > deadline:  # a body without a length may look whole when cut
                raise TimeoutError
    except (OSError, http.client.HTTPException, ValueError) as problem:
        late = time.monotonic() >= deadline or isinstance(problem, TimeoutError)
        raise _Stopped("it took too long" if late else str(problem) or repr(problem)) from None
    finally:
        timer.cancel()
        if line.socket is not None:
            line.socket.close()


def _connect(
    line: _Line, addresses: list[Address], to: tuple[str, int, bool], deadline: float
) -> None:
    """Connect to the first address that answers. to: host, port, whether TLS is wanted."""
    host, port, secure = to
    problem: OSError = OSError("the name has no address")
    for address in addresses:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        try:
            line.socket = socket.create_connection((str(address), port), timeout=left)
        except OSError as refused:
            problem = refused
            continue
        if secure:
            wrapped = ssl.create_default_context().wrap_socket(
                line.socket, server_hostname=host, do_handshake_on_connect=False
            )
            line.socket = wrapped  # before the handshake: it, too, is cut at the deadline
            wrapped.do_handshake()
        return
    raise problem


def _addresses(host: str, port: int, deadline: float, allow_private: bool) -> list[Address]:
    """The addresses of a host; none may be private, or one name could mean both."""
    found: list[list[Address] | OSError | ValueError] = []

    def look_up() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.append([ipaddress.ip_address(str(info[4][0])) for info in infos])
        except (OSError, ValueError) as problem:  # UnicodeError where it is no host name
            found.append(problem)

    asking = threading.Thread(target=look_up, daemon=True)  # a name server may never answer
    asking.start()
    asking.join(max(deadline - time.monotonic(), 0))
    if not found:
        raise TimeoutError
    (answer,) = found
    if isinstance(answer, Exception):
        raise answer
    if not (allow_private or all(map(is_public, answer))):
        raise _Stopped("its address is not public")
    return list(dict.fromkeys(answer))


def _suffix(part: Path, said: str) -> str:
    """The suffix of the picture in a file; a UserError, without its path, where there is none."""
    try:
        kind = check_image(part)
    except UserError:
        raise UserError(f"{said} is no picture", help="give a PNG, JPEG or WebP picture") from None
    return SUFFIXES.get(kind, f".{kind.lower()}")
