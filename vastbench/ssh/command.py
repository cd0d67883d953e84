"""One command on one channel of a transport: everything it says is read as it comes, and one watchdog ends it in time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import paramiko

from vastbench.errors import ConnectionLost, SshError, clean
from vastbench.ssh.transport import hang_up

CHUNK = 128 * 1024
"""Bytes moved at a time."""

Sink = Callable[[bytes], None]


class Readable(Protocol):
    """What is read chunk by chunk: a file, or whatever makes its bytes as they are asked for."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most ``size``; none at the end."""


def shorten(command: str, length: int = 80) -> str:
    """``command`` in one line of at most ``length`` characters, for messages."""
    line = clean(" ".join(command.split()))
    return line if len(line) <= length else line[: length - 1] + "…"


def execute(
    transport: paramiko.Transport, command: str, *, limit_s: float, source: Readable | None, stdout: Sink, stderr: Sink
) -> int:
    """Run ``command`` and return its exit status.

    ``source`` is sent as standard input, then end of file. ``stdout`` and ``stderr`` get every chunk, ``stderr`` from another
    thread; what they raise ends the command and is raised here. Raises TimeoutError after ``limit_s`` real seconds,
    :class:`SshError` when the server refuses, :class:`ConnectionLost` when no exit status came.
    """
    expired = threading.Event()
    try:
        return _executed(transport, command, limit_s, expired, source, (stdout, stderr))
    except ConnectionLost as error:
        if expired.is_set():
            raise TimeoutError("it had not ended") from error
        raise


def _executed(
    transport: paramiko.Transport,
    command: str,
    limit_s: float,
    expired: threading.Event,
    source: Readable | None,
    sinks: tuple[Sink, Sink],
) -> int:
    """:func:`execute`, for which a command that was hung up on in time, ``expired``, is a connection that was lost."""
    helpers: list[_Helper] = []
    try:
        with _channel(transport, limit_s, expired) as channel:
            _request(channel, transport, command, expired)
            helpers.append(_Helper(channel, lambda: _drain(channel.recv_stderr, sinks[1])))
            helpers.append(_Helper(channel, lambda: _feed(channel, source)))
            _drain(channel.recv, sinks[0])
            helpers[0].join()
            channel.status_event.wait()
            status = channel.recv_exit_status()
    finally:
        for helper in helpers:
            helper.join()
    for helper in helpers:
        if helper.error is not None:
            raise helper.error
    if status == -1:
        state = "the connection died" if not transport.is_active() else "the command was killed or its channel closed"
        raise ConnectionLost(f"no exit status came: {state}")
    return status


@contextlib.contextmanager
def _channel(transport: paramiko.Transport, limit_s: float, expired: threading.Event) -> Iterator[paramiko.Channel]:
    """A channel, closed at the end of the block or after ``limit_s`` real seconds; ``expired`` is set if it was the latter."""
    began = time.monotonic()
    try:
        channel = transport.open_session(timeout=limit_s)
    except paramiko.ChannelException as error:
        raise SshError(f"the server refused a channel: {error}") from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        if transport.is_active() and time.monotonic() - began >= limit_s:
            raise TimeoutError("no channel was opened") from error
        raise ConnectionLost(f"the connection is gone: {error}") from error

    def give_up() -> None:
        expired.set()
        hang_up(channel)

    watchdog = threading.Timer(max(0.0, limit_s - (time.monotonic() - began)), give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield channel
    finally:
        watchdog.cancel()
        hang_up(channel)


def _request(channel: paramiko.Channel, transport: paramiko.Transport, command: str, expired: threading.Event) -> None:
    try:
        channel.exec_command(command.encode("utf-8", "surrogateescape"))
    except (paramiko.SSHException, OSError, EOFError) as error:
        if expired.is_set():
            raise TimeoutError("the server did not say whether it would run it") from error
        if not transport.is_active():
            raise ConnectionLost(f"the connection died: {error}") from error
        raise SshError(f"the server refused to run it: {error}") from error


def _drain(receive: Callable[[int], bytes], sink: Sink) -> None:
    while data := _next(receive):
        sink(data)


def _next(receive: Callable[[int], bytes]) -> bytes:
    """The next bytes, none at the end. Raises ConnectionLost: to take some, the machine is told that it may send more."""
    try:
        return receive(CHUNK)
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise ConnectionLost(f"the connection died while it was read: {str(error) or type(error).__name__}") from error


def _feed(channel: paramiko.Channel, source: Readable | None) -> None:
    # A command may end without reading its input: then its exit status says what happened, not the failed write.
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        try:
            while source is not None and (data := source.read(CHUNK)):
                channel.sendall(data)
        finally:
            channel.shutdown_write()


class Dialogue:
    """A command that is talked to line by line while it runs. What it says on standard error is not read."""

    def __init__(self, channel: paramiko.Channel, transport: paramiko.Transport) -> None:
        """Take a channel on which the command runs."""
        self._channel, self._transport = channel, transport
        self._ahead = b""

    def say(self, line: bytes) -> None:
        """Send one line, given without its end. Raises ConnectionLost when nobody listens any more."""
        try:
            self._channel.sendall(line + b"\n")
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._lost() from error

    def hear(self) -> bytes:
        """The next line, without its end. Raises ConnectionLost when there will be none, SshError for one of over 128 kB."""
        while b"\n" not in self._ahead:
            if len(self._ahead) > CHUNK:
                raise SshError(f"it wrote a line of more than {CHUNK:,} bytes")
            data = _next(self._channel.recv)
            if not data:
                raise self._lost()
            self._ahead += data
        line, _, self._ahead = self._ahead.partition(b"\n")
        return line

    def _lost(self) -> ConnectionLost:
        return ConnectionLost("the command ended" if self._transport.is_active() else "the connection died")


@contextlib.contextmanager
def converse(transport: paramiko.Transport, command: str, *, limit_s: float) -> Iterator[Dialogue]:
    """Start ``command`` and talk to it while the block runs; it is hung up on at the end, or after ``limit_s`` real seconds.

    Raises TimeoutError then, and otherwise what :func:`execute` raises for a channel that cannot be had or does not last.
    """
    expired = threading.Event()
    with _channel(transport, limit_s, expired) as channel:
        try:
            _request(channel, transport, command, expired)
            yield Dialogue(channel, transport)
        except ConnectionLost as error:
            if expired.is_set():
                raise TimeoutError("it had not said all") from error
            raise


class _Helper(threading.Thread):
    """A thread that works beside the reader of standard output; an error in it closes the channel and is kept."""

    def __init__(self, channel: paramiko.Channel, work: Callable[[], None]) -> None:
        super().__init__(daemon=True, name="vastbench-ssh-command")
        self._channel, self._work = channel, work
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 (raised by the reader)
            self.error = error
            hang_up(self._channel)
