"""The SSH server of one emulated machine: endpoints that can refuse, accept and close, and real sessions behind them."""

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import socket
import struct
import termios
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import asyncssh

from vastbench.emulator import guest
from vastbench.emulator.pace import Pace
from vastbench.emulator.sandbox import Sandbox, SandboxError
from vastbench.emulator.sftp import GuestFiles
from vastbench.emulator.spec import SshDelays

LOOPBACK = "127.0.0.1"
_CHUNK = 65536
_HANGUP_GRACE_S = 0.5
_CLIENT_VARIABLES = re.compile(r"(LANG|LC_\w+)")
_PLAIN_VALUE = re.compile(r"[\w.@:+-]{0,100}")


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
class Traffic:
    """SSH payload in bytes: ``up`` out of the machine, ``down`` into it."""

    up: int = 0
    down: int = 0

    def count(self, up: int, down: int) -> None:
        """Add to both directions."""
        self.up += up
        self.down += down


@dataclass(slots=True)
class SshServer:
    """Everything behind the doors of one boot: one host key, one set of user keys, one sandbox."""

    sandbox: Sandbox
    pace: Pace
    host_key: asyncssh.SSHKey
    traffic: Traffic
    accepted: Callable[[], frozenset[bytes]]
    log: Callable[[str], None]
    connections: "set[asyncssh.SSHServerConnection]" = field(default_factory=set)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    def open(self, doors: Iterable[Door]) -> tuple[int, int]:
        """Let every door accept; the monotonic nanoseconds before the first and after the last of them did."""
        doors = list(doors)
        for door in doors:
            door.port.prepare()
        before = time.monotonic_ns()
        listening = [(door.port.listen(), door) for door in doors]
        after = time.monotonic_ns()
        for listener, door in listening:
            self._start(self._accept(listener, door.delays))
        return before, after

    async def close(self, doors: Iterable[Door]) -> None:
        """Refuse new connections, drop the old ones, and end what served them."""
        for task in self._tasks:
            task.cancel()
        for door in doors:
            door.port.refuse()
        for connection in list(self.connections):
            connection.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: "asyncio.Future[None] | object") -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket, delays: SshDelays) -> None:
        loop = asyncio.get_running_loop()
        options = await asyncssh.SSHServerConnectionOptions.construct(
            server_host_keys=[self.host_key],
            server_factory=lambda: _Login(self, delays),
            process_factory=lambda process: self.serve(process, delays),
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
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self._greet(connection, options))

    async def _greet(self, sock: socket.socket, options: asyncssh.SSHServerConnectionOptions) -> None:
        try:
            await asyncssh.run_server(sock, options=options)
        except (asyncssh.Error, OSError, EOFError):
            sock.close()
        except asyncio.CancelledError:
            sock.close()
            raise

    def _files(self, channel: "asyncssh.SSHServerChannel[bytes]") -> GuestFiles:
        return GuestFiles(channel, self.sandbox.open_root(), self.sandbox.uid, self.traffic.count)

    async def serve(self, process: "asyncssh.SSHServerProcess[bytes]", delays: SshDelays) -> None:
        """Run one command or shell, from the client's request to its exit status."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await self.pace.sleep(delays.command_s())
        session = _Terminal(self, process) if process.term_type else _Command(self, process)
        try:
            await session.run()
        except (SandboxError, OSError) as error:
            self.log(f"sshd: a session could not start: {error}")
            with contextlib.suppress(asyncssh.Error, OSError):
                process.exit(255)


class _Login(asyncssh.SSHServer):
    """One connection until its user is known."""

    def __init__(self, server: SshServer, delays: SshDelays) -> None:
        self._server = server
        self._delays = delays
        self._waited = False
        self._user = ""
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._connection is not None:
            self._server.connections.discard(self._connection)

    async def begin_auth(self, username: str) -> bool:
        self._user = username
        if not self._waited:
            self._waited = True
            await self._server.pace.sleep(self._delays.login_s())
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
    ) -> "Callable[[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]], object]":
        if dest_host not in ("localhost", LOOPBACK, "::1"):
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "only the loopback is reachable")
        return lambda reader, writer: self._forward(dest_port, reader, writer)

    async def _forward(self, port: int, reader: "asyncssh.SSHReader[bytes]", writer: "asyncssh.SSHWriter[bytes]") -> None:
        try:
            near_reader, near_writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            writer.close()
            return

        async def inward() -> None:
            while data := await reader.read(_CHUNK):
                self._server.traffic.count(0, len(data))
                near_writer.write(data)
                await near_writer.drain()
            near_writer.write_eof()

        async def outward() -> None:
            while data := await near_reader.read(_CHUNK):
                self._server.traffic.count(len(data), 0)
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        try:
            await asyncio.gather(inward(), outward())
        except (asyncssh.Error, OSError):
            pass
        finally:
            near_writer.close()
            writer.close()


class _Session:
    """What commands and terminals have in common."""

    def __init__(self, server: SshServer, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        self.server = server
        self.process = process

    def argv(self, **more: str) -> list[str]:
        sandbox = self.server.sandbox
        command = self.process.command
        peer = self.process.get_extra_info("peername") or ("", 0)
        here = self.process.get_extra_info("sockname") or ("", 0)
        variables = {"SSH_CONNECTION": f"{peer[0]} {peer[1]} {here[0]} {here[1]}"} | more
        for key, value in self.process.env.items():
            if _CLIENT_VARIABLES.fullmatch(key) and _PLAIN_VALUE.fullmatch(value):
                variables[key] = value
        return guest.session_argv(sandbox.prefix, sandbox.localise(command) if command is not None else None, variables)

    async def until_gone(self, work: "asyncio.Task[int]", child: Process) -> None:
        """Wait for the work's exit status and send it; when the client goes first, hang up on the command."""
        gone = asyncio.ensure_future(self.process.channel.wait_closed())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                self.report(work.result())
            else:
                await self.hang_up(child)
        finally:
            for task in (gone, work):
                task.cancel()
            await asyncio.gather(gone, work, return_exceptions=True)
            if child.returncode is None:
                self.server.sandbox.signal(child, signal.SIGKILL)
                await child.wait()

    async def hang_up(self, child: Process) -> None:
        """End the command's process group as a lost terminal would; daemons that left it stay."""
        self.server.sandbox.signal(child, signal.SIGHUP)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), _HANGUP_GRACE_S)

    def report(self, status: int) -> None:
        with contextlib.suppress(asyncssh.Error, OSError):
            if status < 0:
                self.process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
            else:
                self.process.exit(status)

    def client_signal(self, name: str, child: Process) -> None:
        number = getattr(signal, f"SIG{name}", None)
        if number is not None:
            self.server.sandbox.signal(child, number)


class _Command(_Session):
    """A session without a terminal: three pipes."""

    async def run(self) -> None:
        child = await self.server.sandbox.spawn(self.argv(), stdin=PIPE, stdout=PIPE, stderr=PIPE)
        feeding = asyncio.ensure_future(self._feed(child))
        try:
            await self.until_gone(asyncio.ensure_future(self._carry(child)), child)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            child._transport.close()  # type: ignore[attr-defined]  # pipes that daemons still hold would stay open

    async def _carry(self, child: Process) -> int:
        assert child.stdout is not None and child.stderr is not None  # noqa: PT018, S101
        await asyncio.gather(self._pump(child.stdout, self.process.stdout), self._pump(child.stderr, self.process.stderr))
        return await child.wait()

    async def _pump(self, source: asyncio.StreamReader, sink: "asyncssh.SSHWriter[bytes]") -> None:
        while data := await source.read(_CHUNK):
            self.server.traffic.count(len(data), 0)
            sink.write(data)
            await sink.drain()

    async def _feed(self, child: Process) -> None:
        stdin = child.stdin
        assert stdin is not None  # noqa: S101
        while True:
            try:
                data = await self.process.stdin.read(_CHUNK)
            except asyncssh.SignalReceived as received:
                self.client_signal(received.signal, child)
                continue
            except (asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
                continue
            except (asyncssh.Error, OSError):
                break
            if not data:
                break
            self.server.traffic.count(0, len(data))
            try:
                stdin.write(data)
                await stdin.drain()
            except OSError:
                continue  # the command reads no more; signals still count
        stdin.close()


class _Terminal(_Session):
    """A session on a pseudo-terminal."""

    async def run(self) -> None:
        master, slave = os.openpty()
        os.set_blocking(master, False)
        self._master = master
        try:
            self._resize(*self.process.term_size)
            term = self.process.term_type or "xterm"
            argv = self.argv(TERM=term if _PLAIN_VALUE.fullmatch(term) else "xterm")
            try:
                child = await self.server.sandbox.spawn(argv, stdin=slave, stdout=slave, stderr=slave, tty=True)
            finally:
                os.close(slave)
            feeding = asyncio.ensure_future(self._feed(child))
            try:
                await self.until_gone(asyncio.ensure_future(self._carry(child)), child)
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
        finally:
            os.close(master)

    def _resize(self, width: int, height: int, pixel_width: int, pixel_height: int) -> None:
        size = struct.pack("HHHH", height or 24, width or 80, pixel_width, pixel_height)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    async def _carry(self, child: Process) -> int:
        loop = asyncio.get_running_loop()
        while data := await self._read(loop):
            self.server.traffic.count(len(data), 0)
            self.process.stdout.write(data)
            await self.process.stdout.drain()
        return await child.wait()

    async def _ready(self, add: Callable[..., None], remove: Callable[[int], object]) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        add(self._master, lambda: ready.done() or ready.set_result(None))
        try:
            await ready
        finally:
            remove(self._master)

    async def _read(self, loop: asyncio.AbstractEventLoop) -> bytes:
        while True:
            try:
                return os.read(self._master, _CHUNK)
            except BlockingIOError:
                await self._ready(loop.add_reader, loop.remove_reader)
            except OSError:  # EIO: the last process closed the terminal
                return b""

    async def _feed(self, child: Process) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await self.process.stdin.read(_CHUNK)
            except asyncssh.TerminalSizeChanged as changed:
                self._resize(changed.width, changed.height, changed.pixwidth, changed.pixheight)
                continue
            except asyncssh.SignalReceived as received:
                self.client_signal(received.signal, child)
                continue
            except asyncssh.BreakReceived:
                data = b"\x03"
            except (asyncssh.Error, OSError):
                return
            data = data or b"\x04"
            ended = data == b"\x04"
            self.server.traffic.count(0, len(data))
            while data:
                try:
                    data = data[os.write(self._master, data) :]
                except BlockingIOError:
                    await self._ready(loop.add_writer, loop.remove_writer)
                except OSError:
                    return
            if ended and self.process.stdin.at_eof():
                return
