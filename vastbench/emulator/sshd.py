"""The SSH server of one emulated machine: endpoints that can refuse, accept and close, and real sessions behind them."""

import asyncio
import contextlib
import itertools
import socket
import struct
import time
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

import asyncssh

from vastbench.emulator.network import LOOPBACK, connected
from vastbench.emulator.pace import Pace
from vastbench.emulator.sandbox import Sandbox, SandboxError
from vastbench.emulator.session import CHUNK, Command, Session, Terminal, Traffic, ready
from vastbench.emulator.sftp import GuestFiles
from vastbench.emulator.spec import SshDelays
from vastbench.emulator.sshfaults import SshTrouble

_ENTER_REAL_S = 0.012
"""Real seconds that entering a machine and starting a shell there take; part of a command's drawn delay, not on top of it."""


class HeldPort:
    """A loopback port that is ours from the start: bound without listening, so that the kernel refuses connections."""

    def __init__(self) -> None:
        """Take a free port. Raises OSError when there is none."""
        self._reservation = self._socket(0)
        self.number: int = self._reservation.getsockname()[1]
        self._listener: socket.socket | None = None

    @staticmethod
    def _socket(port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # A second socket on the same port listens; closing it leaves the port refused, and still ours.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((LOOPBACK, port))
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock

    def prepare(self) -> None:
        """Make the listening socket without letting it listen yet."""
        if self._listener is None:
            self._listener = self._socket(self.number)

    def listen(self) -> socket.socket:
        """Accept connections from now on."""
        self.prepare()
        assert self._listener is not None  # noqa: S101
        self._listener.listen(128)
        return self._listener

    def refuse(self) -> None:
        """Refuse connections again; the port stays ours."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def release(self) -> None:
        """Give the port back. Idempotent."""
        self.refuse()
        self._reservation.close()


@dataclass(slots=True)
class Door:
    """One way in: a port and how slow it is."""

    port: HeldPort
    delays: SshDelays


@dataclass(slots=True)
class SshServer:
    """Everything behind the doors of one boot: one host key, one set of user keys, one sandbox."""

    sandbox: Sandbox
    pace: Pace
    host_key: asyncssh.SSHKey
    traffic: Traffic
    accepted: Callable[[], Collection[bytes]]
    log: Callable[[str], None]
    trouble: SshTrouble
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    connections: "set[asyncssh.SSHServerConnection]" = field(default_factory=set)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    _closed: bool = False

    def __post_init__(self) -> None:
        """Answer, unless told otherwise."""
        self.answering.set()

    async def open(self, doors: Iterable[Door]) -> tuple[int, int]:
        """Let every door accept; the monotonic nanoseconds before the first and after the last of them did."""
        doors = list(doors)
        swapped = self.trouble.other_host_key is not None
        # Made before: whoever connects first would wait for it, and take SSH for not yet ready.
        options = [await self._options(door.delays, self.host_key, hangs_up=swapped) for door in doors]
        for door in doors:
            door.port.prepare()
        before = time.monotonic_ns()
        listening = [(door.port.listen(), door, own) for door, own in zip(doors, options, strict=True)]
        for _, door, own in listening[:]:
            if (inside := self.sandbox.inside.get(door.port.number)) is not None:
                inside.listen()
                listening.append((inside, door, own))
        after = time.monotonic_ns()
        for listener, door, own in listening:
            self.start(self._accept(listener, door.delays, own))
        return before, after

    def close(self, doors: Iterable[Door]) -> None:
        """Refuse new connections, drop the old ones, and begin to end what served them."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for door in doors:
            door.port.refuse()
        for connection in list(self.connections):
            connection.abort()

    def fall_silent(self) -> None:
        """Hear nothing more, on the connections there are and on new ones, and close none: the network is gone."""
        self.answering.clear()
        for connection in self.connections:
            if isinstance(transport := connection._transport, asyncio.Transport):
                transport.pause_reading()

    async def wait_closed(self) -> None:
        """Wait until nothing is left of what was begun behind the doors."""
        await asyncio.gather(*self._tasks, *(one.wait_closed() for one in self.connections), return_exceptions=True)

    def start(self, work: Coroutine[Any, Any, None], sock: socket.socket | None = None) -> None:
        """Do ``work`` until the server is closed, which waits for it; ``sock`` is closed then, even if it has not yet begun."""
        if self._closed:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        if sock is not None:
            task.add_done_callback(lambda task: sock.close() if task.cancelled() else None)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket, delays: SshDelays, options: asyncssh.SSHServerConnectionOptions) -> None:
        other = self.trouble.other_host_key
        for count in itertools.count(1):
            try:
                connection = await _accepted(listener)
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self.answering.is_set():
                self.start(self._stay_silent(connection, count), connection)
                continue
            self.start(self._greet(connection, options), connection)
            if other is not None:
                options, other = await self._options(delays, other), None

    async def _options(
        self, delays: SshDelays, host_key: asyncssh.SSHKey, *, hangs_up: bool = False
    ) -> asyncssh.SSHServerConnectionOptions:
        options: asyncssh.SSHServerConnectionOptions = await asyncssh.SSHServerConnectionOptions.construct(
            server_host_keys=[host_key],
            server_factory=lambda: _Login(self, delays, hangs_up=hangs_up),
            process_factory=lambda process: self.start(self._serve(process, delays)),
            sftp_factory=lambda channel: self._files(channel),
            encoding=None,
            # Without a root of its own a machine has no name for its user, which scp asks for.
            allow_scp=bool(self.sandbox.prefix),
            agent_forwarding=False,
            x11_forwarding=False,
            compression_algs=["none", "zlib@openssh.com"],
            tcp_keepalive=True,
            server_version="OpenSSH_8.9p1",
            gss_host=None,
        )
        return options

    async def pass_on(self, listener: socket.socket) -> None:
        """Carry what connects to ``listener``, inside the machine, on to the port of the same number of the host's loopback."""
        port = listener.getsockname()[1]
        with contextlib.suppress(OSError):
            while True:
                connection = await _accepted(listener)
                self.start(self._passed_on(connection, port), connection)

    async def _passed_on(self, connection: socket.socket, port: int) -> None:
        try:
            outer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            connection.close()
            return
        with contextlib.closing(outer[1]):
            await _carry(await asyncio.open_connection(sock=connection), outer, lambda _up, _down: None)

    async def _stay_silent(self, sock: socket.socket, count: int) -> None:
        """Close every other connection at once; the rest wait for a server that never looks at them."""
        if count % 2:
            await self.answering.wait()
        sock.close()

    async def _greet(self, sock: socket.socket, options: asyncssh.SSHServerConnectionOptions) -> None:
        try:
            await self.pace.sleep(self.trouble.banner_delay_s())
            if (garbage := self.trouble.garbage()) is not None:
                await asyncio.get_running_loop().sock_sendall(sock, garbage)
                sock.close()
                return
            await asyncssh.run_server(sock, options=options)
        except (asyncssh.Error, OSError, EOFError):
            sock.close()

    async def empty_workspace(self) -> None:
        """Remove what /workspace holds, from inside the machine: its links lead nowhere else."""
        command = ["/bin/sh", "-c", self.sandbox.localise("find /workspace -mindepth 1 -delete")]
        await (await self.sandbox.spawn(command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)).wait()

    def _files(self, channel: "asyncssh.SSHServerChannel[bytes]") -> GuestFiles:
        return GuestFiles(channel, self.sandbox.open_root(), self.sandbox.uid, self.traffic.count)

    async def _serve(self, process: "asyncssh.SSHServerProcess[bytes]", delays: SshDelays) -> None:
        """Run one command or shell, from the client's request to its exit status."""
        await self.pace.sleep(delays.command_s() - _ENTER_REAL_S * self.pace.speed)
        if self.trouble.swallows():
            _transport_of(process).pause_reading()
            await asyncio.get_running_loop().create_future()
        kind: type[Session] = Terminal if process.term_type else Command
        session = kind(self.sandbox, self.traffic, process)
        if self.trouble.resets():
            session.cut = lambda: _reset(process)
        try:
            await session.run()
        except (SandboxError, OSError, asyncssh.Error) as error:
            self.log(f"sshd: a session could not start: {error}")
            with contextlib.suppress(asyncssh.Error, OSError):
                process.stderr.write(f"{error}\n".encode())
                process.exit(255)


async def _accepted(listener: socket.socket) -> socket.socket:
    """The next connection. The loop's own sock_accept loses one when it is cancelled in the moment in which it came."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            await ready(listener.fileno(), loop.add_reader, loop.remove_reader)
            continue
        connection.setblocking(False)
        return connection


def _transport_of(process: "asyncssh.SSHServerProcess[bytes]") -> asyncio.Transport:
    transport = process.channel.get_connection()._transport
    assert isinstance(transport, asyncio.Transport)  # noqa: S101
    return transport


def _reset(process: "asyncssh.SSHServerProcess[bytes]") -> None:
    """End the connection as a machine that lost its power does when it is back: with a reset."""
    transport = _transport_of(process)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Login(asyncssh.SSHServer):
    """One connection until its user is known; ``hangs_up``: it never is."""

    def __init__(self, server: SshServer, delays: SshDelays, *, hangs_up: bool) -> None:
        self._server = server
        self._delays = delays
        self._hangs_up = hangs_up
        self._made_at = 0.0
        self._waited = False
        self._user = ""
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._made_at = self._server.pace.now()
        self._server.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._connection is not None:
            self._server.connections.discard(self._connection)

    async def begin_auth(self, username: str) -> bool:
        self._user = username
        if not self._waited:
            self._waited = True
            # From the connection on: the handshake's own work is part of the drawn delay.
            await self._server.pace.sleep_until(self._made_at + self._delays.login_s())
            if self._server.trouble.forgets_files:
                await self._server.empty_workspace()
        if self._hangs_up and self._connection is not None:
            self._connection.abort()
        return True

    def public_key_auth_supported(self) -> bool:
        # OpenSSH answers a repeated request for the login service, and paramiko repeats it with every attempt; asyncssh hangs
        # up. This is called before every refusal, which makes it the place to allow the next one.
        if self._connection is not None:
            self._connection._next_service = b"ssh-userauth"
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == "root" and key.public_data in self._server.accepted()

    def connection_requested(
        self,
        dest_host: str,
        dest_port: int,
        orig_host: str,  # noqa: ARG002
        orig_port: int,  # noqa: ARG002
    ) -> "Callable[[asyncssh.SSHReader[Any], asyncssh.SSHWriter[Any]], None]":
        if dest_host not in ("localhost", LOOPBACK, "::1"):
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "only the loopback is reachable")
        return lambda reader, writer: self._server.start(self._forward(dest_port, reader, writer))

    async def _forward(self, port: int, reader: "asyncssh.SSHReader[bytes]", writer: "asyncssh.SSHWriter[bytes]") -> None:
        try:
            sock = await self._server.sandbox.tcp_socket()
            inner = await asyncio.open_connection(sock=await connected(sock, port))
        except (OSError, SandboxError):
            writer.close()
            return
        await _carry(inner, (reader, writer), self._server.traffic.count)


async def _carry(inner: tuple[Any, Any], outer: tuple[Any, Any], count: Callable[[int, int], None]) -> None:
    """Move bytes both ways between two pairs of reader and writer until both sides have said all; closes the writers."""

    async def move(reader: Any, writer: Any, up: int, down: int) -> None:
        while data := await reader.read(CHUNK):
            count(up * len(data), down * len(data))
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    try:
        await asyncio.gather(move(inner[0], outer[1], 1, 0), move(outer[0], inner[1], 0, 1))
    except (asyncssh.Error, OSError):
        pass
    finally:
        inner[1].close()
        outer[1].close()
