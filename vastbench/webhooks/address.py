"""Where a webhook may be sent: to public addresses, unless its receiver was added with private ones allowed.

A name is resolved and checked for every connection, and the connection goes to an address that was checked: a name that changes
its address between the check and the connection changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket

import httpcore

from vastbench.errors import UsageError
from vastbench.timed import TimedBackend

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = ipaddress.ip_network("64:ff9b::/96")

CONNECT_S = 2.0
"""Real seconds for a connection."""

TOTAL_S = 5.0
"""Real seconds for a whole try, from looking up the name to the answer's head."""


class Forbidden(httpcore.ConnectError):
    """The receiver has an address that nothing may be sent to. Its text does not name it: names of inside stay inside."""


def is_public(address: Address) -> bool:
    """Whether ``address`` is one of the internet's: not private, loopback, link-local, reserved or multicast.

    An IPv4 address inside an IPv6 one (mapped, 6to4, NAT64) counts instead.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inside = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inside is not None:
            return is_public(inside)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


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


class CheckedBackend(TimedBackend):
    """Connects to checked addresses only."""

    def __init__(self, *, encrypted: bool, allow_private: bool) -> None:
        """Take what :func:`resolved` is to check."""
        self._encrypted, self._allow_private = encrypted, allow_private

    def addresses(self, host: str, port: int) -> list[str]:
        """What ``host`` leads to, checked."""
        found = resolved(host, port, encrypted=self._encrypted, allow_private=self._allow_private)
        return [str(address) for address in found]
