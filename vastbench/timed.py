"""One time limit over a whole exchange, kept where bytes move: a peer that sends one now and then does not prolong it.

Limits are real seconds. They nest: what is exchanged inside another limit ends with the earlier of the two.
"""

from __future__ import annotations

import math
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

import httpcore

GRACE_S = 3.0
"""Real seconds that an exchange which is wanted no more still has to come to an end."""

LOOK_UP_S = 0.5
"""Real seconds after which a wait for bytes looks whether they are still wanted."""


class _Limit:
    """Until when, in monotonic seconds; ``unless`` is set once the exchange is not wanted any more."""

    def __init__(self, until: float, unless: threading.Event | None) -> None:
        self._until, self._unless = until, unless

    @property
    def until(self) -> float:
        if self._unless is not None and self._unless.is_set():
            self._until, self._unless = min(self._until, time.monotonic() + GRACE_S), None
        return self._until


_limits: ContextVar[tuple[_Limit, ...]] = ContextVar("limits", default=())


@contextmanager
def within(seconds: float, unless: threading.Event | None = None) -> Iterator[None]:
    """Give all that the body exchanges so many seconds together; :data:`GRACE_S` more once ``unless`` is set."""
    token = _limits.set((*_limits.get(), _Limit(time.monotonic() + seconds, unless)))
    try:
        yield
    finally:
        _limits.reset(token)


def seconds_left() -> float:
    """What is left of the limits here; at most 0 when they are over."""
    return min((limit.until - time.monotonic() for limit in _limits.get()), default=math.inf)


class TimedBackend(httpcore.NetworkBackend):
    """Connects over TCP; every step of an exchange has what is left of the limits around it."""

    def addresses(self, host: str, port: int) -> list[str]:
        """What ``host`` leads to. Raises OSError when it is not known."""
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(one[4][0]) for one in found))

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of ``host`` that answers; all of them have ``timeout`` together."""
        try:
            addresses = self.addresses(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("its name is not known") from error
        until = time.monotonic() + _left(timeout)

        def connected(address: str, seconds: float) -> TimedStream:
            stream = httpcore.SyncBackend().connect_tcp(address, port, _left(seconds), local_address, socket_options)
            return TimedStream(stream)

        for address in addresses[:-1]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return connected(address, (until - time.monotonic()) / 2)
        return connected(addresses[-1], until - time.monotonic())


class TimedStream(httpcore.NetworkStream):
    """A stream whose every step has what is left of the limits around it."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        """Take the stream that moves the bytes."""
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Whatever comes next."""
        quiet_until = time.monotonic() + (threading.TIMEOUT_MAX if timeout is None else timeout)
        while True:
            try:
                return self._stream.read(max_bytes, _left(min(quiet_until - time.monotonic(), LOOK_UP_S)))
            except httpcore.ReadTimeout:
                _left(quiet_until - time.monotonic())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send it all."""
        self._stream.write(buffer, _left(timeout))

    def close(self) -> None:
        """Close it."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same, encrypted."""
        return TimedStream(self._stream.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> object:
        """What the stream knows of itself."""
        return self._stream.get_extra_info(info)


def _left(timeout: float | None = None) -> float:
    left = min(seconds_left(), threading.TIMEOUT_MAX if timeout is None else timeout)
    if left <= 0:
        raise httpcore.ReadTimeout("its time is over")
    return left
