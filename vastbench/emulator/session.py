"""What runs behind one SSH channel: a command on three pipes, or a shell on a terminal."""

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import struct
import termios
from abc import ABC, abstractmethod
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass

import asyncssh

from vastbench.emulator import guest
from vastbench.emulator.sandbox import Sandbox, reaped

CHUNK = 65536
"""Bytes moved at a time."""

_HANGUP_GRACE_S = 0.5
_CLIENT_VARIABLES = re.compile(r"(LANG|LC_\w+)")
_PLAIN_VALUE = re.compile(r"[\w.@:+-]{0,100}")


async def ready(fd: int, add: Callable[..., None], remove: Callable[[int], object]) -> None:
    """Wait until ``fd`` can be read or written; ``add`` and ``remove`` are the loop's methods for the one or the other."""
    come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(fd, lambda: None if come.done() else come.set_result(None))
    try:
        await come
    finally:
        remove(fd)


@dataclass(slots=True)
class Traffic:
    """SSH payload in bytes: ``up`` out of the machine, ``down`` into it."""

    up: int = 0
    down: int = 0

    def count(self, up: int, down: int) -> None:
        """Add to both directions."""
        self.up += up
        self.down += down


class Session(ABC):
    """What commands and terminals have in common."""

    def __init__(self, sandbox: Sandbox, traffic: Traffic, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        """Take the machine's walls, who counts, and what the client asked for."""
        self.sandbox = sandbox
        self.traffic = traffic
        self.process = process
        self.cut: Callable[[], None] | None = None

    @abstractmethod
    async def run(self) -> None:
        """Carry the session to its exit status. Raises SandboxError or OSError when it cannot start."""

    def argv(self, **more: str) -> list[str]:
        """The words that start it inside; ``more`` are variables of ours."""
        command = self.process.command
        peer = self.process.get_extra_info("peername") or ("", 0)
        here = self.process.get_extra_info("sockname") or ("", 0)
        variables = {"SSH_CONNECTION": f"{peer[0]} {peer[1]} {here[0]} {here[1]}"} | more
        for key, value in self.process.env.items():
            if _CLIENT_VARIABLES.fullmatch(key) and _PLAIN_VALUE.fullmatch(value):
                variables[key] = value
        text = self.sandbox.localise(command) if command is not None else None
        return guest.session_argv(self.sandbox.prefix, text, variables)

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
                self.sandbox.signal(child, signal.SIGKILL)
            await reaped(child)

    async def hang_up(self, child: Process) -> None:
        """End the command's process group as a lost terminal would; daemons that left it stay."""
        self.sandbox.signal(child, signal.SIGHUP)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), _HANGUP_GRACE_S)

    def report(self, status: int) -> None:
        """Send the exit status (a negative one is the signal that ended the command), or ``cut`` the connection instead."""
        if self.cut is not None:
            self.cut()
            return
        with contextlib.suppress(asyncssh.Error, OSError):
            if status < 0:
                self.process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
            else:
                self.process.exit(status)

    def client_signal(self, name: str, child: Process) -> None:
        """Pass on a signal that the client named."""
        number = getattr(signal, f"SIG{name}", None)
        if number is not None:
            self.sandbox.signal(child, number)


class Command(Session):
    """A session without a terminal: three pipes."""

    async def run(self) -> None:
        """Run it, all of its output sent before its status."""
        self._bound_input()
        child = await self.sandbox.spawn(self.argv(), stdin=PIPE, stdout=PIPE, stderr=PIPE)
        feeding = asyncio.ensure_future(self._feed(child))
        try:
            await self.until_gone(asyncio.ensure_future(self._carry(child)), child)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    def _bound_input(self) -> None:
        """Let the client send on only when all that it sent has been read.

        asyncssh lets it send on by a whole window as soon as a part is read: of a command that reads slowly, it would keep all
        of a long input in memory.
        """
        process, full = self.process, self.process._should_pause_reading
        process._should_pause_reading = (  # type: ignore[method-assign]
            lambda: process._recv_buf_len > 0 if process._read_paused else full()
        )

    async def _carry(self, child: Process) -> int:
        assert child.stdout is not None and child.stderr is not None  # noqa: PT018, S101
        await asyncio.gather(self._pump(child.stdout, self.process.stdout), self._pump(child.stderr, self.process.stderr))
        return await child.wait()

    async def _pump(self, source: asyncio.StreamReader, sink: "asyncssh.SSHWriter[bytes]") -> None:
        while data := await source.read(CHUNK):
            self.traffic.count(len(data), 0)
            sink.write(data)
            await sink.drain()

    async def _feed(self, child: Process) -> None:
        stdin = child.stdin
        assert stdin is not None  # noqa: S101
        while True:
            try:
                data = await self.process.stdin.read(CHUNK)
            except asyncssh.SignalReceived as received:
                self.client_signal(received.signal, child)
                continue
            except (asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
                continue
            except (asyncssh.Error, OSError):
                break
            if not data:
                break
            self.traffic.count(0, len(data))
            try:
                stdin.write(data)
                await stdin.drain()
            except OSError:
                continue  # the command reads no more; signals still count
        stdin.close()


class Terminal(Session):
    """A session on a pseudo-terminal."""

    async def run(self) -> None:
        """Run it; losing the terminal hangs up on what it runs."""
        master, slave = os.openpty()
        os.set_blocking(master, False)
        self._master = master
        try:
            self._resize(*self.process.term_size)
            term = self.process.term_type or "xterm"
            argv = self.argv(TERM=term if _PLAIN_VALUE.fullmatch(term) else "xterm")
            try:
                child = await self.sandbox.spawn(argv, stdin=slave, stdout=slave, stderr=slave, tty=True)
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
            self.traffic.count(len(data), 0)
            self.process.stdout.write(data)
            await self.process.stdout.drain()
        return await child.wait()

    async def _read(self, loop: asyncio.AbstractEventLoop) -> bytes:
        while True:
            try:
                return os.read(self._master, CHUNK)
            except BlockingIOError:
                await ready(self._master, loop.add_reader, loop.remove_reader)
            except OSError:  # EIO: the last process closed the terminal
                return b""

    async def _feed(self, child: Process) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await self.process.stdin.read(CHUNK)
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
            self.traffic.count(0, len(data))
            while data:
                try:
                    data = data[os.write(self._master, data) :]
                except BlockingIOError:
                    await ready(self._master, loop.add_writer, loop.remove_writer)
                except OSError:
                    return
            if ended and self.process.stdin.at_eof():
                return
