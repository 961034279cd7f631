"""One HTTP GET with a deadline for all of it, to addresses that were checked. Imports no torch."""

from __future__ import annotations

import base64
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib import metadata
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from runtime.files.public_address import addresses_of, is_public

UNQUOTED = "/%:@!$&'()*+,;=~?"  # characters that a URL may hold unescaped
HOME = "https://github.com/sgl-project/sglang"


class FetchFailed(Exception):
    """A fetch ended without a file.

    from_server  the reason is the answer of a server that may be reached, so that anybody who may
                 name a URL may know it; else it tells of the network between
    """

    def __init__(self, reason: str, *, from_server: bool = False) -> None:
        super().__init__(reason)
        self.from_server = from_server


@dataclass(frozen=True)
class Limits:
    """What a fetch may do.

    deadline       of `time.monotonic()`
    allow_private  reach any address, and go through the proxies of the environment
    """

    deadline: float
    allow_private: bool

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(self.deadline - time.monotonic(), 0.0)


@cache
def user_agent() -> str:
    """The `User-Agent` header: many servers refuse requests without one."""
    try:
        version = metadata.version("sglang-graph")
    except metadata.PackageNotFoundError:
        version = "0"
    return f"sglang-graph/{version} (+{HOME})"


@contextmanager
def http_get(url: str, accept: str, limits: Limits) -> Iterator[http.client.HTTPResponse]:
    """The answer to one GET; any failure, here or while it is read, is a FetchFailed."""
    parts = urlsplit(url)
    line = SocketConnection()
    timer = threading.Timer(limits.seconds_left, line.cut)
    timer.daemon = True
    connection = http.client.HTTPConnection(parts.hostname or "", _port(parts))
    try:
        with closing(connection):
            timer.start()
            proxy = proxy_of(parts) if limits.allow_private else None
            target = _target(parts)
            headers = {"Accept": accept, "User-Agent": user_agent()}
            headers |= {"Accept-Encoding": "identity", "Connection": "close"}
            if proxy is None:
                _connect(line, parts, limits)
            else:
                headers |= _through_proxy(line, parts, proxy, limits)
                if parts.scheme == "http":
                    target = f"http://{parts.netloc}{target}"
            connection.sock = line.socket
            connection.request("GET", target, headers=headers)
            with connection.getresponse() as response:
                yield response
            if not limits.seconds_left:  # without a length, a body that was cut looks complete
                raise TimeoutError
    except (OSError, http.client.HTTPException, ValueError) as problem:
        raise FetchFailed(_reason(problem, limits)) from None
    finally:
        timer.cancel()
        if line.socket is not None:
            line.socket.close()


def status_text(response: http.client.HTTPResponse) -> str:
    """The status of an answer as messages show it: `403 Forbidden`."""
    reason = re.sub(r"[^\x20-\x7e]", "?", response.reason or "").strip()[:60]
    if not reason:
        with suppress(ValueError):
            reason = HTTPStatus(response.status).phrase
    wait = response.getheader("Retry-After", "")
    later = f" and asks to wait {wait} s" if wait.isdecimal() and len(wait) < 7 else ""
    return f"{response.status} {reason}".strip() + later


@dataclass
class SocketConnection:
    """The socket in use, which a timer shuts down at the deadline, whatever it is doing then."""

    socket: socket.socket | None = None

    def cut(self) -> None:
        """Shut down the connection; a blocked read then returns."""
        if self.socket is not None:
            with suppress(OSError):  # not TLS's own shutdown, which is not made for two threads
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


def proxy_of(parts: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for a URL (`http_proxy`, `no_proxy`, ...)."""
    proxies: Mapping[str, str] = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = urlsplit(found if "://" in found else f"http://{found}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise FetchFailed(f"a proxy of the kind {proxy.scheme}:// is not supported")
    return proxy


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _target(parts: SplitResult) -> str:
    query = f"?{quote(parts.query, safe=UNQUOTED)}" if parts.query else ""
    return quote(parts.path or "/", safe=UNQUOTED) + query


def _connect(line: SocketConnection, parts: SplitResult, limits: Limits) -> None:
    """Connect to a host at an address that was checked, with TLS for https."""
    host = parts.hostname or ""
    _open_socket(line, host, _port(parts), limits)
    if parts.scheme == "https":
        _start_tls(line, host)


def _open_socket(line: SocketConnection, host: str, port: int, limits: Limits) -> None:
    """Connect to the first address that answers. All must be public, unless any is allowed.

    The host is looked up once, so a second answer of the name server cannot differ.
    """
    addresses = addresses_of(host, port, limits.deadline)
    if not (limits.allow_private or all(map(is_public, addresses))):
        raise FetchFailed("its address is not public")
    problem: OSError = OSError("the name has no address")
    for address in addresses:
        if not limits.seconds_left:
            raise TimeoutError
        try:
            line.socket = socket.create_connection(
                (str(address), port), timeout=limits.seconds_left
            )
        except OSError as refused:
            problem = refused
            continue
        return
    raise problem


def _start_tls(line: SocketConnection, host: str) -> None:
    assert line.socket is not None
    wrapped = ssl.create_default_context().wrap_socket(
        line.socket, server_hostname=host, do_handshake_on_connect=False
    )
    line.socket = wrapped  # before the handshake, which the timer must be able to cut as well
    wrapped.do_handshake()


def _through_proxy(
    line: SocketConnection, parts: SplitResult, proxy: SplitResult, limits: Limits
) -> dict[str, str]:
    """Connect through a proxy; returns the headers that the request itself needs for it."""
    _open_socket(line, proxy.hostname or "", proxy.port or 80, limits)
    login = {}
    if proxy.username is not None:
        text = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        login["Proxy-Authorization"] = f"Basic {base64.b64encode(text.encode()).decode()}"
    if parts.scheme == "http":
        return login
    assert line.socket is not None
    host = parts.hostname or ""
    place = f"{f'[{host}]' if ':' in host else host.encode('idna').decode()}:{_port(parts)}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", f"User-Agent: {user_agent()}"]
    lines += [f"{name}: {value}" for name, value in login.items()]
    line.socket.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    response = http.client.HTTPResponse(line.socket, method="CONNECT")
    response.begin()
    if response.status != HTTPStatus.OK:
        raise FetchFailed(f"the proxy answered {status_text(response)}")
    _start_tls(line, host)
    return {}


def _reason(problem: Exception, limits: Limits) -> str:
    if isinstance(problem, TimeoutError) or not limits.seconds_left:
        return "it took too long"
    if isinstance(problem, http.client.RemoteDisconnected):
        return "the server closed the connection without an answer"
    if isinstance(problem, http.client.BadStatusLine):
        return "the answer is not HTTP"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {problem.verify_message}"
    if isinstance(problem, OSError) and problem.strerror:
        return re.sub(r"^\[[^]]*\] ?", "", problem.strerror).lower() or str(problem)
    return str(problem) or repr(problem)
