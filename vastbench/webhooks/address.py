"""Where a webhook may be sent: to public addresses, unless its receiver was added with private ones allowed.

A name is resolved and checked for every connection, and the connection goes to an address that was checked: a name that changes
its address between the check and the connection changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable
from contextlib import suppress

import httpcore

from vastbench.errors import UsageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SPECIAL_4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by a carrier's customers
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local; the metadata of clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # multicast tunnels
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
"""IANA's registry of special-purpose IPv4 addresses, and multicast: nobody receives webhooks there."""

UNICAST_6 = ipaddress.IPv6Network("2000::/3")
"""All IPv6 addresses of the internet. Outside are loopback, private, link-local, site-local, multicast, discarded and
translated ones, and whatever is not given out yet."""

SPECIAL_6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID and others
            "2001:db8::/32",  # documentation
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)
"""What IANA's registry of special-purpose IPv6 addresses takes out of these."""

HOLDING_4 = {
    ipaddress.IPv6Network("::ffff:0:0/96"): 0,  # mapped
    ipaddress.IPv6Network("64:ff9b::/96"): 0,  # NAT64
    ipaddress.IPv6Network("2002::/16"): 80,  # 6to4
}
"""IPv6 addresses that lead to an IPv4 address inside, and how many bits follow it."""

CONNECT_S = 2.0
"""Real seconds for a connection."""

TOTAL_S = 5.0
"""Real seconds for a whole try, from looking up the name to the answer's head."""


class Forbidden(httpcore.ConnectError):
    """The receiver has an address that nothing may be sent to. Its text does not name it: names of inside stay inside."""


def is_public(address: Address) -> bool:
    """Whether ``address`` is one that the internet's hosts have: of no special purpose, by IANA's registries.

    Python's ``is_global`` is not asked: what it knows depends on its version. An IPv4 address inside an IPv6 one (mapped, 6to4,
    NAT64) counts instead; an address that is only valid on one network interface is not public.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in SPECIAL_4)
    if address.scope_id is not None:
        return False
    for network, bits in HOLDING_4.items():
        if address in network:
            return is_public(ipaddress.IPv4Address(int(address) >> bits & 0xFFFF_FFFF))
    return address in UNICAST_6 and not any(address in network for network in SPECIAL_6)


def resolved(host: str, port: int, *, encrypted: bool, allow_private: bool) -> list[Address]:
    """The addresses of ``host``, all of which may be connected to.

    However an address is written (decimal, hexadecimal, shortened), the system's resolver says what it means. Raises Forbidden
    when one of them may not be used: a private one that is not allowed, or one outside this machine without encryption. Raises
    OSError for an unknown host.
    """
    found = socket.getaddrinfo(host.removeprefix("[").removesuffix("]"), port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))
    for address in addresses:
        if not allow_private and not is_public(address):
            raise Forbidden("its name leads to an address that is not public")
        if not encrypted and not address.is_loopback:
            raise Forbidden("it is asked without encryption, which only this machine may be")
    return addresses


def check_url(url: str, *, allow_private: bool) -> None:
    """Raise UsageError for a URL that nothing may be sent to."""
    hint = "Give one like https://example.com/hook."
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise UsageError("The webhook's URL has characters that no URL has.", hint=hint)
    try:
        parsed = httpcore.URL(url)
        scheme, host, port = parsed.scheme.decode(), parsed.host.decode(), parsed.port
    except ValueError:
        raise UsageError("The webhook's URL cannot be understood.", hint=hint) from None
    if scheme not in {"http", "https"}:
        raise UsageError(f"The webhook's URL begins with {scheme[:20]!r}.", hint=hint)
    if not host:
        raise UsageError("The webhook's URL names no host.", hint=hint)
    if "@" in url.split("/")[2]:
        raise UsageError(
            "The webhook's URL holds a user's name.", hint="Put a token into its path or query; the signature says who sends."
        )
    encrypted = scheme == "https"
    try:
        resolved(host, port or (443 if encrypted else 80), encrypted=encrypted, allow_private=allow_private)
    except Forbidden as error:
        allow = "Loopback and private addresses need --allow-private; everything outside this machine needs https."
        raise UsageError(f"The receiver {host!r} is refused: {error}.", hint=allow) from None
    except (OSError, UnicodeError):
        raise UsageError(f"The receiver's name {host!r} is not known.", hint=hint) from None


class CheckedBackend(httpcore.NetworkBackend):
    """Connects to checked addresses only, and lets one try take no longer than ``TOTAL_S``, however slowly bytes come."""

    def __init__(self, *, encrypted: bool, allow_private: bool) -> None:
        """Start the clock of the try."""
        self._encrypted, self._allow_private = encrypted, allow_private
        self._until = time.monotonic() + TOTAL_S

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 (the try has its own)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of ``host`` that answers."""
        try:
            addresses = resolved(host, port, encrypted=self._encrypted, allow_private=self._allow_private)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("its name is not known") from None
        until = min(self._until, time.monotonic() + CONNECT_S)
        for address in addresses[:-1]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return self._connected(address, port, _left(until) / 2, local_address, socket_options)
        return self._connected(addresses[-1], port, _left(until), local_address, socket_options)

    def _connected(
        self,
        address: Address,
        port: int,
        seconds: float,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.NetworkStream:
        stream = httpcore.SyncBackend().connect_tcp(str(address), port, seconds, local_address, socket_options)
        return _TimedStream(stream, self._until)


class _TimedStream(httpcore.NetworkStream):
    """A stream whose every step has only what is left of the try's time."""

    def __init__(self, stream: httpcore.NetworkStream, until: float) -> None:
        self._stream, self._until = stream, until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, _left(self._until))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, _left(self._until))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: object,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _left(self._until))  # type: ignore[arg-type]
        return _TimedStream(stream, self._until)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time of the try is over")
    return left
