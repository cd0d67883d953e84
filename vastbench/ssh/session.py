"""A logged-in machine: run commands, move files, open tunnels, all over one transport.

Files travel through a command's standard input and output rather than SFTP: it needs nothing but a shell and ``cat`` on the
image, takes fewer round trips, and was measured faster for large content.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import shlex
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from vastbench.clock import Clock
from vastbench.errors import CommandFailed, ConnectionLost, DeadlineExceeded, SshError, UsageError
from vastbench.ssh.command import Dialogue, Readable, Sink, converse, execute, shorten
from vastbench.ssh.keys import HostKeyPin
from vastbench.ssh.transport import Connection, Endpoint, Traffic
from vastbench.ssh.tunnel import tunnel

OUTPUT_LIMIT = 10_000_000
"""Bytes that a command of :meth:`Session.run` may print, both streams together."""

GET_LIMIT = 100_000_000
"""Bytes that :meth:`Session.get` takes into memory unless told otherwise."""


STREAM_NOISE = 65536
"""Bytes that start-up files may print before a streamed command."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command did. ``sent`` and ``received`` are clock readings: before its channel was asked for, after its exit."""

    command: str
    exit_code: int
    stdout: str
    stderr: str
    sent: float
    received: float


class Session:
    """One authenticated connection to one machine; commands may run from several threads at once.

    Time limits are clock seconds. Every error names the address and the command.
    """

    def __init__(self, connection: Connection, clock: Clock) -> None:
        """Take over a connection that has logged in."""
        self._connection = connection
        self._clock = clock

    @property
    def endpoint(self) -> Endpoint:
        """The address that this session is connected to."""
        return self._connection.endpoint

    @property
    def clock(self) -> Clock:
        """The clock that its time limits and readings are of."""
        return self._clock

    @property
    def pin(self) -> HostKeyPin:
        """The host key that its machine showed, for further connections there."""
        return self._connection.pin

    @property
    def traffic(self) -> Traffic:
        """What has gone over it until now, whoever sent it: commands, files, streams and tunnels."""
        return self._connection.traffic

    @property
    def alive(self) -> bool:
        """Whether the connection still stands, as far as is known here."""
        return self._connection.alive

    def run(self, command: str, *, timeout_s: float = 60.0, check: bool = True, stdin: bytes | None = None) -> CommandResult:
        """Run ``command`` in root's shell and read all it prints (UTF-8; other bytes are replaced).

        What the image's start-up files print before it is left out. Raises :class:`CommandFailed` for a non-zero exit unless
        ``check`` is false, :class:`DeadlineExceeded` after ``timeout_s``, :class:`ConnectionLost` when no exit status came, and
        :class:`SshError` for more than 10 MB of output and for a machine whose start-up files end the shell.
        """
        output = _Output(OUTPUT_LIMIT)
        source = io.BytesIO(stdin) if stdin is not None else None
        sent = self._clock.now()
        marker = secrets.token_hex(8)
        code = self._execute(f"printf '\\n%s\\n' {marker}; {command}", timeout_s, source, output.out, output, shorten(command))
        _, begun, said = output.text(output.parts).partition(f"\n{marker}\n")
        if not begun and code == 0:
            raise self._not_run(command)
        result = CommandResult(command, code, said, output.text(output.errors), sent, self._clock.now())
        if check:
            self._check(command, code, result.stderr)
        return result

    def stream(
        self, command: str, *, source: Readable | None = None, sink: Sink | None = None, timeout_s: float = 300.0
    ) -> CommandResult:
        """Run ``command`` while ``source`` flows into its standard input and its output into ``sink``; nothing is kept here.

        Streams of any length need the same little memory. What start-up files print is left out, and the result's ``stdout`` is
        empty. What ``source`` and ``sink`` raise ends the command and is raised here. ``sink`` may have got a part of the
        output when anything is raised. Raises what :meth:`run` raises.

        >>> session.stream("tar -c /workspace", sink=file.write, timeout_s=600)  # doctest: +SKIP
        """
        marker = secrets.token_hex(8)
        framed = _Framed(sink or _nowhere, marker)
        errors = _Output(OUTPUT_LIMIT)
        sent = self._clock.now()
        code = self._execute(f"printf '\\n%s\\n' {marker}; {command}", timeout_s, source, framed, errors, shorten(command))
        received = self._clock.now()
        said = errors.text(errors.errors)
        self._check(command, code, said)
        if not framed.begun:
            raise self._not_run(command)
        return CommandResult(command, code, "", said, sent, received)

    def put(self, data: bytes | Path, remote: str, *, timeout_s: float = 300.0) -> None:
        """Write ``data``, or the content of a local file, to the file ``remote``: whole, synced and counted, or not at all.

        It goes to a new name beside the target, is counted and synced there, then renamed over it. Raises what
        :meth:`run` raises, and :class:`UsageError` for a path that names no file.
        """
        target = _remote(remote)
        # A random name beside the target: nothing that is there already is touched before the rename.
        folder, _, name = target.rpartition("/")
        part = f"{folder}/.{name[:40]}.{secrets.token_hex(6)}.part" if folder else f"/.{name[:40]}.{secrets.token_hex(6)}.part"
        with _source(data) as (source, size):
            script = (
                f"part={shlex.quote(part)}; target={shlex.quote(target)}; "
                '[ -d "$target" ] && { echo "a folder is in the way" >&2; exit 73; }; '
                "trap 'rm -f -- \"$part\"' EXIT; "
                'cat > "$part" || exit; '
                f'n=$(wc -c < "$part"); [ "$n" -eq {size} ] || {{ echo "$n of {size} bytes arrived" >&2; exit 74; }}; '
                '{ sync -- "$part" 2>/dev/null || sync; } && mv -f -- "$part" "$target"'
            )
            errors = _Output(OUTPUT_LIMIT)
            label = f"put {remote!r}"
            code = self._execute(f"sh -c {shlex.quote(script)}", timeout_s, source, errors.out, errors, label)
        self._check(label, code, errors.text(errors.errors))

    def get(self, remote: str, *, timeout_s: float = 300.0, limit_bytes: int = GET_LIMIT) -> bytes:
        """The content of the regular file ``remote``, its length checked against what the machine says.

        Raises what :meth:`run` raises, and :class:`SshError` when the file is longer than ``limit_bytes`` or comes short.
        """
        buffer = io.BytesIO()
        self._get(remote, buffer, timeout_s, limit_bytes)
        return buffer.getvalue()

    def get_to(self, remote: str, local: Path, *, timeout_s: float = 300.0, limit_bytes: int = 1 << 40) -> None:
        """Copy the regular file ``remote`` to ``local``, which is replaced only when all has come. Raises like :meth:`get`."""
        try:
            descriptor, name = tempfile.mkstemp(prefix=".vastbench-", dir=local.parent)
        except OSError as error:
            raise UsageError(
                f"{local} cannot be written: {error.strerror}.", hint="Give a path in a writable folder."
            ) from error
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                self._get(remote, file, timeout_s, limit_bytes)
            part.replace(local)
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def dialogue(self, command: str, *, timeout_s: float = 60.0) -> Iterator[Dialogue]:
        """Run ``command`` and talk to it line by line while the block runs; then it is hung up on.

        The whole block may take ``timeout_s``. Raises :class:`DeadlineExceeded` then, and :class:`ConnectionLost` when the
        command or the connection ends before it has answered.
        """
        with (
            self._limits(command, timeout_s, shorten(command), str) as limit,
            converse(self._connection.transport, command, limit_s=limit) as talk,
        ):
            yield talk

    @contextmanager
    def tunnel(self, remote_port: int, remote_host: str = "127.0.0.1") -> Iterator[int]:
        """A local port that leads to ``remote_port`` as the machine sees it, while the block runs."""
        with tunnel(self._connection.transport, remote_host, remote_port) as port:
            yield port

    def close(self) -> None:
        """End the connection and everything that runs over it; repeated calls do nothing."""
        self._connection.close()

    def __enter__(self) -> Session:
        """The session itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """The address and whether it lives."""
        return f"Session({self.endpoint}, {'alive' if self.alive else 'closed'})"

    def _get(self, remote: str, file: IO[bytes], timeout_s: float, limit_bytes: int) -> None:
        # Start-up files may print before the script does; the marker tells their words from the length.
        marker = secrets.token_hex(8)
        script = (
            f"target={shlex.quote(_remote(remote))}; "
            '[ -f "$target" ] || { echo "no such regular file" >&2; exit 66; }; '
            f'n=$(wc -c < "$target") || exit; printf "\\n%s %s\\n" {marker} $((n)); '
            f'[ "$n" -le {limit_bytes} ] || {{ echo "$n bytes, more than {limit_bytes}" >&2; exit 75; }}; '
            'exec cat < "$target"'
        )
        incoming = _Incoming(file, limit_bytes, marker)
        errors = _Output(OUTPUT_LIMIT)
        label = f"get {remote!r}"
        code = self._execute(f"sh -c {shlex.quote(script)}", timeout_s, None, incoming, errors, label)
        self._check(label, code, errors.text(errors.errors))
        if incoming.received != incoming.announced:
            raise SshError(
                f"{self.endpoint}: {remote!r} came with {incoming.received} bytes and was announced with {incoming.announced}.",
                hint="Is it being written to? Try again when it is finished.",
            )

    def _execute(
        self, command: str, timeout_s: float, source: Readable | None, stdout: Sink, errors: _Output, label: str = ""
    ) -> int:
        with self._limits(command, timeout_s, label or shorten(command), errors.tail) as limit:
            return execute(self._connection.transport, command, limit_s=limit, source=source, stdout=stdout, stderr=errors.err)
        raise AssertionError("the block above returns or raises")

    @contextmanager
    def _limits(self, command: str, timeout_s: float, shown: str, tail: Callable[[], str]) -> Iterator[float]:
        """The real seconds that ``command`` may take; what goes wrong with it is raised with the address and its last words."""
        if "\0" in command:
            raise UsageError(f"The command {shown!r} holds a null character.", hint="No shell can take it: remove it.")
        limit = self._clock.socket_timeout(timeout_s)
        where = f"{self.endpoint}: {shown}"
        try:
            yield limit
        except TimeoutError as error:
            last = tail() or "nothing on standard error"
            raise DeadlineExceeded(
                f"{where}: {error} after {limit * self._clock.speed:g} s (last on stderr: {last}).",
                waited_for=shown,
                last_seen=last,
                hint="Give it more time, or look at the machine: it may hang.",
            ) from error
        except ConnectionLost as error:
            raise ConnectionLost(
                f"{where}: {error.message} (last on stderr: {tail() or 'nothing'}).",
                hint="Whether the command did its work is unknown: connect again and look.",
            ) from error
        except SshError as error:
            raise SshError(f"{where}: {error.message}.", hint=error.hint) from error

    def _not_run(self, command: str) -> SshError:
        return SshError(
            f"{self.endpoint}: {shorten(command)} was not run: the machine's start-up files ended the shell before it.",
            hint="Choose another image, or look at its root's .bashrc.",
        )

    def _check(self, command: str, code: int, stderr: str) -> None:
        if code == 0:
            return
        tail = stderr[-2000:]
        brief = shorten(tail.strip()[-300:], 300) or "nothing on standard error"
        raise CommandFailed(
            f"{self.endpoint}: {shorten(command)} ended with exit code {code}: {brief}.",
            command=command,
            exit_code_remote=code,
            stderr_tail=tail,
            hint="The message is the machine's own.",
        )


class _Output:
    """What a command prints, both streams under one limit."""

    def __init__(self, limit: int) -> None:
        self.parts: list[bytes] = []
        self.errors: list[bytes] = []
        self._left = limit
        self._limit = limit
        self._lock = threading.Lock()

    def out(self, data: bytes) -> None:
        self._take(data)
        self.parts.append(data)

    def err(self, data: bytes) -> None:
        self._take(data)
        self.errors.append(data)

    def _take(self, data: bytes) -> None:
        with self._lock:
            self._left -= len(data)
            if self._left < 0:
                raise SshError(
                    f"it printed more than {self._limit:,} bytes",
                    hint="Send its output to a file on the machine and fetch that.",
                )

    def tail(self) -> str:
        return shorten(self.text(self.errors).strip()[-200:], 200)

    @staticmethod
    def text(parts: list[bytes]) -> str:
        return b"".join(parts).decode("utf-8", "replace")


class _Framed:
    """A sink that passes on what comes after the line with the marker; start-up files may print before it."""

    def __init__(self, sink: Sink, marker: str) -> None:
        self._sink, self._line, self._head = sink, f"\n{marker}\n".encode(), b""
        self.begun = False

    def __call__(self, data: bytes) -> None:
        if not self.begun:
            self._head += data
            _, mark, data = self._head.partition(self._line)
            if not mark:
                if len(self._head) > STREAM_NOISE:
                    raise SshError(f"the machine's start-up files printed more than {STREAM_NOISE:,} bytes")
                return
            self.begun, self._head = True, b""
        if data:
            self._sink(data)


def _nowhere(data: bytes) -> None:
    """A sink for output that nobody wants."""


class _Incoming:
    """A sink for what a start-up file prints, one line with the marker and a length, and then the content itself."""

    NOISE = 65536

    def __init__(self, file: IO[bytes], limit: int, marker: str) -> None:
        self._file, self._limit = file, limit
        self._line = re.compile(rb"\n" + marker.encode() + rb" (\d{1,18})\n")
        self._head = b""
        self.announced: int | None = None
        self.received = 0

    def __call__(self, data: bytes) -> None:
        if self.announced is None:
            self._head += data
            found = self._line.search(self._head)
            if found is None:
                if len(self._head) > self.NOISE:
                    raise SshError(f"the machine's shell said {self._head[:60]!r} where a length belongs")
                return
            self.announced = int(found[1])
            data, self._head = self._head[found.end() :], b""
        self.received += len(data)
        if self.received > min(self.announced, self._limit):
            raise SshError(f"more bytes came than the {self.announced} announced (at most {self._limit} are taken)")
        self._file.write(data)


@contextmanager
def _source(data: bytes | Path) -> Iterator[tuple[IO[bytes], int]]:
    if isinstance(data, bytes):
        yield io.BytesIO(data), len(data)
        return
    try:
        file = data.open("rb")
    except OSError as error:
        raise UsageError(f"{data} cannot be read: {error.strerror}.", hint="Give a readable file.") from error
    with file:
        yield file, os.fstat(file.fileno()).st_size


def _remote(path: str) -> str:
    """``path`` in a form that no command takes for an option or for a folder."""
    if not path or "\0" in path or path.rsplit("/", 1)[-1] in ("", ".", ".."):
        raise UsageError(f"The remote path is {path!r}.", hint="Give the path of a file, such as /workspace/data.bin.")
    return path if path.startswith("/") else f"./{path}"
