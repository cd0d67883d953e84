"""One SSH connection in separate steps, each with its own time limit: connect, identification, key exchange, key offer.

paramiko's own ``connect`` does all of this in one call, without TCP_NODELAY and with limits that a silent machine can outlast.
Limits here are real seconds. Failures that a booting machine shows raise :class:`NotYet`; those that waiting cannot mend raise
:class:`SshError`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_NEWKEYS,
)
from paramiko.packet import Packetizer
from paramiko.transport import ChannelMap

from vastbench.errors import SshError, clean
from vastbench.record.formats import seconds
from vastbench.ssh.keys import HostKeyPin, RunKey

USER = "root"
"""The login name on every instance."""

DEAD_PEER_S = 10
"""Seconds after which a peer that acknowledges nothing is given up, also on an idle connection."""

IDENTIFICATION_BYTES = 8192
"""How much a server may say before its identification line; more is not SSH."""

LARGEST_PACKET_BYTES = 256 * 1024
"""The longest packet that is read, as in OpenSSH; 35,000 bytes are usual."""

MOST_UNREAD_BYTES = 4 * 1024 * 1024
"""What a channel may keep unread: twice the window that the machine was given."""

_logger = logging.getLogger("vastbench.ssh")
_logger.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of an instance: through the marketplace's ``proxy``, or ``direct`` to the machine."""

    kind: Literal["proxy", "direct"]
    host: str
    port: int

    def __post_init__(self) -> None:
        """Refuse an address that no connection can be made to."""
        if not self.host or not 0 < self.port < 65536:
            raise SshError(
                f"The {self.kind} address is {self.host!r}, port {self.port}.",
                hint="The marketplace gave no usable SSH address: destroy the instance and rent another.",
            )

    @property
    def address(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """The address and its kind."""
        return f"{self.address} ({self.kind})"


class NotYet(Exception):
    """A failure that a machine which is still booting shows; trying again is right.

    ``symptom`` is one of a few fixed words to count by; ``silent`` says that nothing was heard, rather than a no.
    """

    def __init__(self, symptom: str, detail: str = "", *, silent: bool = False) -> None:
        """Take the symptom and one line of detail."""
        super().__init__(clean(f"{symptom}: {detail}" if detail else symptom))
        self.symptom = symptom
        self.silent = silent


class Packets(Packetizer):
    """Refuses packets of a length that no SSH server sends; paramiko would read 4 GB on a machine's word."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """The next ``n`` bytes."""
        if n > LARGEST_PACKET_BYTES:
            raise paramiko.SSHException(f"it announced a packet of {n} bytes")
        return super().read_all(n, check_rekey)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over connections in bytes, SSH's own words not counted: ``down`` to the machine, ``up`` from it."""

    down: int = 0
    up: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        """Both together."""
        return Traffic(self.down + other.down, self.up + other.up)


_HEAD_BYTES = {MSG_CHANNEL_DATA: 4, MSG_CHANNEL_EXTENDED_DATA: 8}
"""What stands between a channel's number and its data."""


def _within_window(kind: int, feed: Callable[[paramiko.Channel, paramiko.Message], None]) -> Callable[..., None]:
    """``feed``, counted, unless the machine sends more than it was allowed to; paramiko would keep it all."""

    def take(channel: paramiko.Channel, message: paramiko.Message) -> None:
        packet = message.packet
        if isinstance(channel.transport, RareTransport):
            channel.transport.received_bytes += packet.getbuffer().nbytes - packet.tell() - _HEAD_BYTES[kind]
        if len(channel.in_buffer) + len(channel.in_stderr_buffer) > MOST_UNREAD_BYTES:
            raise paramiko.SSHException("it sent more than there was room for")
        feed(channel, message)

    return take


class _Channels(ChannelMap):
    """The channels of a transport, which they know before they are listed.

    paramiko lists them first: a connection that ended in between died with a traceback, and whoever waited for it waited on.
    """

    def __init__(self, transport: paramiko.Transport) -> None:
        super().__init__()
        self._transport = transport

    def put(self, number: int, channel: paramiko.Channel) -> None:
        channel._set_transport(self._transport)  # type: ignore[attr-defined]  # not in the stubs
        super().put(number, channel)


class RareTransport(paramiko.Transport):
    """A transport that wakes every 5 s instead of ten times a second, so that hundreds of them fit into one process.

    It bounds what a machine can make it keep, and for how long it can be kept from sending by a key exchange without end.

    paramiko makes a channel's messages under the channel's lock and sends them outside it. One that is overtaken by the
    channel's close, as an end of file by that of a quick command, is about no channel any more: a server then ends the whole
    connection. Such messages are dropped here, where they are sent one at a time.

    While keys are exchanged anew, every 512 MB, nobody may send, and paramiko lets its own reading thread wait for that, too:
    which then never reads the machine's part of the exchange. What that thread has to say (that a channel is closed, as the
    machine closes it meanwhile) is kept here until the exchange is over.
    """

    _active_check_timeout = 5.0
    _channel_handler_table = paramiko.Transport._channel_handler_table | {  # type: ignore[attr-defined]  # not in the stubs
        kind: _within_window(kind, paramiko.Transport._channel_handler_table[kind])  # type: ignore[attr-defined]
        for kind in (MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA)
    }

    def __init__(self, sock: socket.socket) -> None:
        """Take a connected socket."""
        super().__init__(sock)
        self._channels = _Channels(self)
        self.packetizer = Packets(sock)
        self.packetizer.set_log(self.logger)
        self.clear_to_send_timeout = DEAD_PEER_S
        self._closed_channels: set[bytes] = set()
        self.sent_bytes = self.received_bytes = 0
        self._kept: list[paramiko.Message] = []
        self._handler_table[MSG_NEWKEYS] = self._use_new_keys  # type: ignore[attr-defined]  # not in the stubs

    def open_channel(self, *words: Any, **more: Any) -> paramiko.Channel:
        """A channel; the machine may give it the number of one that is closed."""
        channel = super().open_channel(*words, **more)
        self._closed_channels.discard(channel.remote_chanid.to_bytes(4, "big"))
        return channel

    def _send_user_message(self, data: paramiko.Message) -> None:
        if threading.current_thread() is self and not self.clear_to_send.is_set():
            self._kept.append(data)
        else:
            super()._send_user_message(data)  # type: ignore[misc]  # not in the stubs

    def _use_new_keys(self, message: paramiko.Message) -> None:
        super()._parse_newkeys(message)  # type: ignore[misc]  # not in the stubs
        kept, self._kept = self._kept, []
        for one in kept:
            self._send_user_message(one)

    def _send_message(self, data: paramiko.Message) -> None:
        said = data.asbytes()
        if MSG_CHANNEL_WINDOW_ADJUST <= said[0] <= MSG_CHANNEL_FAILURE:
            if said[1:5] in self._closed_channels:
                return
            if said[0] == MSG_CHANNEL_CLOSE:
                self._closed_channels.add(said[1:5])
            if said[0] == MSG_CHANNEL_DATA:
                self.sent_bytes += len(said) - 5 - _HEAD_BYTES[MSG_CHANNEL_DATA]
        super()._send_message(data)  # type: ignore[misc]  # not in the stubs


def hang_up(channel: paramiko.Channel) -> None:
    """Close ``channel``, whose other side may be gone and whose connection another thread may have closed."""
    with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
        channel.close()


class RepeatableLogin(AuthHandler):
    """Asks for the login service once per connection, as RFC 4252 has it, however often a key is offered.

    paramiko asks again for each offer; OpenSSH puts up with that and other servers end the connection.
    """

    _accepted = False

    def _request_auth(self) -> None:
        if not self._accepted:
            super()._request_auth()  # type: ignore[misc]  # not in the stubs
            return
        answer = paramiko.Message()
        answer.add_string("ssh-userauth")
        answer.rewind()
        self._parse_service_accept(answer)

    def _parse_service_accept(self, m: paramiko.Message) -> None:
        self._accepted = True
        super()._parse_service_accept(m)  # type: ignore[misc]  # not in the stubs


class Connection:
    """One connection to one endpoint. ``interrupt`` may be called from any thread; everything else belongs to one owner."""

    def __init__(self, endpoint: Endpoint, pin: HostKeyPin) -> None:
        """Prepare; nothing is sent before :meth:`connect`."""
        self.endpoint = endpoint
        self.pin = pin
        self._socket: socket.socket | None = None
        self._transport: RareTransport | None = None
        self._closed = False
        self._pid = os.getpid()
        self._lock = threading.Lock()

    @property
    def transport(self) -> paramiko.Transport:
        """The transport, from :meth:`exchange_keys` on."""
        if self._transport is None:
            raise SshError(f"{self.endpoint} has no transport yet.")
        return self._transport

    @property
    def alive(self) -> bool:
        """Whether the transport still runs."""
        return self._transport is not None and self._transport.is_active()

    @property
    def traffic(self) -> Traffic:
        """What has gone over it; the count stays when the connection is closed."""
        transport = self._transport
        return Traffic() if transport is None else Traffic(transport.sent_bytes, transport.received_bytes)

    def connect(self, limit_s: float) -> None:
        """Open the TCP connection: to each of the name's addresses in turn, at most ``limit_s`` real seconds each."""
        try:
            found = socket.getaddrinfo(self.endpoint.host, self.endpoint.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NotYet("name not found", str(error)) from error
        last: NotYet | None = None
        for family, kind, protocol, _, address in found:
            try:
                return self._connect(family, kind, protocol, address, limit_s)
            except TimeoutError as error:
                last = NotYet("no answer", f"nothing within {seconds(limit_s)}", silent=True)
                last.__cause__ = error
            except OSError as error:
                last = NotYet(_symptom(error), str(error))
                last.__cause__ = error
        raise last or NotYet("name not found")

    def _connect(self, family: int, kind: int, protocol: int, address: object, limit_s: float) -> None:
        with self._lock:
            if self._closed:
                raise NotYet("stopped")
            if self._socket is not None:
                self._socket.close()
            self._socket = sock = socket.socket(family, kind, protocol)
        sock.settimeout(limit_s)
        _tune(sock)
        sock.connect(address)  # type: ignore[arg-type]  # whatever getaddrinfo gave
        # A closed port in the ephemeral range can be "answered" by our own outgoing socket.
        if sock.getsockname() == sock.getpeername():
            raise ConnectionRefusedError("connected to itself")

    def identify(self, limit_s: float) -> None:
        """Wait until the server has named itself with a line that starts with ``SSH-``; nothing is consumed or sent."""
        sock = self._socket
        if sock is None:
            raise NotYet("stopped")
        ends = time.monotonic() + limit_s
        seen = b""
        while (remaining := ends - time.monotonic()) > 0:
            try:
                sock.settimeout(max(remaining, 0.001))
                now = sock.recv(IDENTIFICATION_BYTES, socket.MSG_PEEK)
            except TimeoutError:
                break
            except OSError as error:
                raise NotYet(_symptom(error), str(error)) from error
            if not now:
                raise NotYet("closed early", "closed before it named itself")
            if any(line.startswith(b"SSH-") for line in now.split(b"\n")[:-1]):
                return
            if len(now) == IDENTIFICATION_BYTES or (len(now) >= 255 and b"\n" not in now):
                raise NotYet("not SSH", f"began with {now[:40]!r}")
            if now == seen:
                # Peeking does not wait for more than what has been peeked at already, and does not see the end behind it.
                if _hung_up(sock):
                    raise NotYet("not SSH", f"said {now[:40]!r} and hung up")
                time.sleep(0.01)
            seen = now
        if seen:
            raise NotYet("not SSH", f"said {seen[:40]!r} and no identification within {seconds(limit_s)}", silent=True)
        raise NotYet("silent", f"accepted, and said nothing for {seconds(limit_s)}", silent=True)

    def exchange_keys(self, limit_s: float) -> None:
        """Negotiate encryption and check the host key.

        Raises :class:`vastbench.errors.HostKeyChanged`, and :class:`SshError` when no common method exists.
        """
        negotiated = threading.Event()
        with self._lock:
            if self._closed or self._socket is None:
                raise NotYet("stopped")
            transport = self._transport = RareTransport(self._socket)
        transport.set_log_channel("vastbench.ssh.paramiko")
        transport.banner_timeout = transport.handshake_timeout = limit_s
        options = transport.get_security_options()
        gcm = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
        options.ciphers = _first(gcm, options.ciphers)
        options.key_types = _first(self.pin.algorithms(self.endpoint.address), options.key_types)
        # With an event this returns at once; without one it would come back silently after a timeout, as if it had worked.
        transport.start_client(event=negotiated)
        if not negotiated.wait(limit_s):
            raise NotYet("no key exchange", f"nothing within {seconds(limit_s)}", silent=True)
        if not (transport.is_active() and transport.initial_kex_done):
            error = transport.get_exception()
            if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
                raise SshError(
                    f"{self.endpoint} speaks no SSH that we share: {error}.",
                    hint="Its SSH server is too old: choose another image or offer.",
                ) from error
            raise NotYet(_symptom(error), str(error or "closed during key exchange")) from error
        self.pin.check(self.endpoint.address, transport.get_remote_server_key())

    def offer_key(self, key: RunKey, limit_s: float) -> None:
        """Log in. After ``NotYet("permission denied")`` the connection lives on, and the key may be offered again.

        Raises :class:`SshError` when the server takes no public keys at all.
        """
        answered = threading.Event()
        transport = self.transport
        if not transport.is_active():
            raise NotYet("lost during login", "the connection had died")
        if not isinstance(transport.auth_handler, RepeatableLogin):
            transport.auth_handler = RepeatableLogin(transport)
        try:
            transport.auth_handler.auth_publickey(USER, key.pkey, answered)
        except (paramiko.SSHException, OSError, EOFError, TypeError) as error:
            # TypeError: a connection that dies meanwhile takes along what paramiko makes its offer from.
            raise NotYet("lost during login", str(error)) from error
        if not answered.wait(limit_s):
            raise NotYet("no login answer", f"nothing within {seconds(limit_s)}", silent=True)
        if transport.is_authenticated():
            return
        refusal = transport.get_exception()
        if isinstance(refusal, paramiko.BadAuthenticationType):
            raise SshError(
                f"{self.endpoint} takes no public keys, only {', '.join(refusal.allowed_types)}.",
                hint="Choose an image whose SSH server accepts public keys.",
            ) from refusal
        if not transport.is_active():
            raise NotYet("lost during login", str(refusal or "closed")) from refusal
        raise NotYet("permission denied", f"key {key.fingerprint} refused")

    def interrupt(self) -> None:
        """Make whatever another thread is doing with this connection fail now; that thread closes it."""
        with self._lock:
            self._closed = True
            sock = self._socket
        if sock is not None:
            # A blocked reader notices a shutdown at once, and a mere close only when its own time limit ends.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection; repeated calls do nothing, nor does one in a process forked from ours, which shares it."""
        if os.getpid() != self._pid:
            return
        self.interrupt()
        transport = self._transport
        if transport is not None:
            transport.close()
            if transport.is_alive() and transport is not threading.current_thread():
                transport.join(1.0)
            # A failed handshake leaves a timer thread behind, which would hold up the end of the process.
            transport.packetizer.complete_handshake()
        if self._socket is not None:
            self._socket.close()


def _hung_up(sock: socket.socket) -> bool:
    """Whether the other side will send no more, where the system can tell (Linux)."""
    if not hasattr(select, "POLLRDHUP"):
        return False
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
    settings = {
        idle: DEAD_PEER_S // 2,
        getattr(socket, "TCP_KEEPINTVL", None): 1,
        getattr(socket, "TCP_KEEPCNT", None): DEAD_PEER_S // 2,
        getattr(socket, "TCP_USER_TIMEOUT", None): DEAD_PEER_S * 1000,
    }
    for option, value in settings.items():
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _first(wanted: Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    kept = tuple(name for name in wanted if name in available)
    return kept + tuple(name for name in available if name not in kept)


def _symptom(error: BaseException | None) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
        return "reset"
    if error is None or isinstance(error, EOFError):
        return "closed early"
    return "unreachable" if isinstance(error, OSError) else "garbled"
