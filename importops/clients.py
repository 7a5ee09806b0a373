"""Who is at the other end of a request, as far as counting goes: the address, and the name that was tried.

Both doors count by these: the login throttle (django-axes calls them, see the settings), and the
rate limiter of the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from django.http import HttpRequest

from importops.conf import UNIX_SOCKET, conf
from importops.records import NAME_LIMIT, fold, repair_text

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

IPV6_PREFIX = 64
"""Bits of an IPv6 address that name a client: who has one address has the 2**64 beside it too."""
HEADER_LIMIT = 255
_SHOWN = ("HTTP_USER_AGENT", "HTTP_ACCEPT", "PATH_INFO")


def client_address(request: HttpRequest) -> str | None:
    """The client's address, that of its /64 network for IPv6; None if there is none (a Unix socket).

    `X-Forwarded-For` is believed as far as trusted proxies wrote it: it is read from its end, where
    the nearest proxy added who spoke to it, and what stands before the first stranger is ignored.
    """
    nearest: str = request.META.get("REMOTE_ADDR", "")
    trusted = _networks(conf().trusted_proxies)
    address = _parse(nearest)
    if address is None and (nearest or UNIX_SOCKET not in conf().trusted_proxies):
        return None
    if address is None or _is_in(address, trusted):
        hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
        for hop in map(_parse, reversed(hops)):
            if hop is None:
                break
            address = hop
            if not _is_in(address, trusted):
                break
    return _client(address) if address else None


def attempted_name(request: HttpRequest, credentials: Mapping[str, Any] | None = None) -> str:
    """The name somebody tried to log in with, the same for every way of writing it."""
    given = credentials if credentials is not None else request.POST
    return fold(repair_text(str(given.get("username") or "")))[:NAME_LIMIT]


def login_attempt(request: HttpRequest) -> HttpRequest:
    """What the login throttle is shown of `request`: where it comes from, never what is in it."""
    attempt = HttpRequest()
    attempt.method = "POST"
    names = ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR")
    attempt.META = {name: request.META[name] for name in names if name in request.META}
    for name in _SHOWN:
        attempt.META[name] = repair_text(request.META.get(name, ""))[:HEADER_LIMIT]
    return attempt


@lru_cache
def _networks(names: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(name) for name in names if name != UNIX_SOCKET)


def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def _parse(text: str) -> Address | None:
    """An address as headers have it: with brackets, a port, or an IPv4 address dressed as IPv6."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _client(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((address, IPV6_PREFIX), strict=False).network_address)
