"""Which addresses are public, and the addresses of a host. Imports no torch."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Ranges that Python calls global: services of cloud hosts, and IPv6 that embeds an IPv4 address.
NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24",
        "::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10",
    )
)  # fmt: skip
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # IPv4 as an IPv6-only network reaches it


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, not on this machine or its own network."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address in NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    excluded = any(address in n for n in NOT_PUBLIC if n.version == address.version)
    special = address.is_multicast or address.is_reserved or address.is_unspecified
    return address.is_global and not (special or address.is_link_local or excluded)


def addresses_of(host: str, port: int, deadline: float) -> list[Address]:
    """Every address of a host, in the order in which the system prefers them.

    deadline  of `time.monotonic()`; after it a TimeoutError is raised, and OSError or ValueError
              where the name has no address or is not a host name
    """
    results: list[list[Address] | OSError | ValueError] = []

    def look_up() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            results.append([ipaddress.ip_address(str(info[4][0])) for info in infos])
        except (OSError, ValueError) as problem:
            results.append(problem)

    thread = threading.Thread(target=look_up, daemon=True)  # a name server may never answer
    thread.start()
    thread.join(max(deadline - time.monotonic(), 0))
    if not results:
        raise TimeoutError
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return list(dict.fromkeys(result))
