"""One command on one channel of a transport: everything it says is read as it comes, and one watchdog ends it in time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import IO

import paramiko

from vastbench.errors import ConnectionLost, SshError, VastbenchError

CHUNK = 128 * 1024
"""Bytes moved at a time."""

Sink = Callable[[bytes], None]


def shorten(command: str, length: int = 80) -> str:
    """``command`` in one line of at most ``length`` characters, for messages."""
    line = " ".join(command.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def execute(
    transport: paramiko.Transport, command: str, *, limit_s: float, source: IO[bytes] | None, stdout: Sink, stderr: Sink
) -> int:
    """Run ``command`` and return its exit status.

    ``source`` is sent as standard input, then end of file. ``stdout`` and ``stderr`` get every chunk, ``stderr`` from another
    thread; what they raise ends the command and is raised here. Raises TimeoutError after ``limit_s`` real seconds,
    :class:`SshError` when the server refuses, :class:`ConnectionLost` when no exit status came.
    """
    began = time.monotonic()
    try:
        channel = transport.open_session(timeout=limit_s)
    except paramiko.ChannelException as error:
        raise SshError(f"the server refused a channel: {error}") from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        if transport.is_active() and time.monotonic() - began >= limit_s:
            raise TimeoutError("no channel was opened") from error
        raise ConnectionLost(f"the connection is gone: {error}") from error
    expired = threading.Event()

    def give_up() -> None:
        expired.set()
        channel.close()

    watchdog = threading.Timer(max(0.0, limit_s - (time.monotonic() - began)), give_up)
    watchdog.daemon = True
    watchdog.start()
    helpers: list[_Helper] = []
    try:
        _request(channel, transport, command, expired)
        helpers.append(_Helper(channel, lambda: _drain(channel.recv_stderr, stderr)))
        helpers.append(_Helper(channel, lambda: _feed(channel, source)))
        _drain(channel.recv, stdout)
        helpers[0].join()
        channel.status_event.wait()
        status = channel.recv_exit_status()
    finally:
        watchdog.cancel()
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
            channel.close()
        for helper in helpers:
            helper.join()
    for helper in helpers:
        if helper.error is not None:
            raise helper.error
    if status == -1:
        if expired.is_set():
            raise TimeoutError("it had not ended")
        state = "the connection died" if not transport.is_active() else "the command was killed or its channel closed"
        raise ConnectionLost(f"no exit status came: {state}")
    return status


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
    while data := receive(CHUNK):
        sink(data)


def _feed(channel: paramiko.Channel, source: IO[bytes] | None) -> None:
    # A command may end without reading its input: then its exit status says what happened, not the failed write.
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        try:
            while source is not None and (data := source.read(CHUNK)):
                channel.sendall(data)
        finally:
            channel.shutdown_write()


class _Helper(threading.Thread):
    """A thread that works beside the reader of standard output; an error in it closes the channel and is kept."""

    def __init__(self, channel: paramiko.Channel, work: Callable[[], None]) -> None:
        super().__init__(daemon=True, name="vastbench-ssh-command")
        self._channel, self._work = channel, work
        self.error: VastbenchError | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except VastbenchError as error:
            self.error = error
            self._channel.close()
