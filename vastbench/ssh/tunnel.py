"""A port of the machine, reachable on loopback here: each local connection becomes one channel of the transport."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko

from vastbench.ssh.transport import hang_up

CONNECTIONS = 32
"""How many local connections one tunnel serves at a time; more wait in the listener's queue."""

OPEN_S = 10.0
"""Real seconds within which the machine must open a forwarded connection."""


@contextmanager
def tunnel(transport: paramiko.Transport, remote_host: str, remote_port: int) -> Iterator[int]:
    """Listen on 127.0.0.1 and forward to ``remote_host``:``remote_port`` as the machine sees it; yields the local port.

    A connection that the machine refuses is closed. Leaving the block ends the listener and every connection through it.
    """
    server = _Listener(transport, (remote_host, remote_port))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True, name="vastbench-tunnel")
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.drop_all()
        server.server_close()
        thread.join()


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    # The handlers are joined on close, which drop_all makes prompt.
    block_on_close = True

    def __init__(self, transport: paramiko.Transport, target: tuple[str, int]) -> None:
        self.transport, self.target = transport, target
        self.slots = threading.BoundedSemaphore(CONNECTIONS)
        self._open: set[socket.socket | paramiko.Channel] = set()
        self._lock = threading.Lock()
        self._dropped = False
        super().__init__(("127.0.0.1", 0), _Forward)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        while not self.slots.acquire(timeout=0.1):
            if self._dropped or not self.transport.is_active():
                self.shutdown_request(request)
                return
        super().process_request(request, client_address)

    def shutdown(self) -> None:
        self._dropped = True
        super().shutdown()

    def hold(self, end: socket.socket | paramiko.Channel) -> None:
        with self._lock:
            self._open.add(end)
            dropped = self._dropped
        if dropped:
            _shut(end)

    def release(self, end: socket.socket | paramiko.Channel) -> None:
        with self._lock:
            self._open.discard(end)

    def drop_all(self) -> None:
        with self._lock:
            self._dropped = True
            ends = list(self._open)
        for end in ends:
            _shut(end)


class _Forward(socketserver.BaseRequestHandler):
    server: _Listener

    def handle(self) -> None:
        local: socket.socket = self.request
        server = self.server
        channel: paramiko.Channel | None = None
        server.hold(local)
        try:
            local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            channel = server.transport.open_channel("direct-tcpip", server.target, self.client_address, timeout=OPEN_S)
            server.hold(channel)
            upwards = threading.Thread(target=_copy, args=(local, channel), daemon=True, name="vastbench-tunnel-up")
            upwards.start()
            _copy(channel, local)
            upwards.join()
        except (paramiko.SSHException, OSError, EOFError):
            # The machine would not connect: to the local side that is a connection which closes.
            return
        finally:
            server.release(local)
            if channel is not None:
                server.release(channel)
                hang_up(channel)
            server.slots.release()


def _copy(source: socket.socket | paramiko.Channel, target: socket.socket | paramiko.Channel) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except (OSError, EOFError, paramiko.SSHException):
        # One side vanished: neither direction has a future.
        _shut(source)
        _shut(target)
        return
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        target.shutdown(socket.SHUT_WR)


def _shut(end: socket.socket | paramiko.Channel) -> None:
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        end.shutdown(socket.SHUT_RDWR)
    if isinstance(end, paramiko.Channel):
        hang_up(end)
