"""The emulator's life: one event loop in one daemon thread, shared by the HTTP server, the SSH servers and the market."""

from __future__ import annotations

import atexit
import ctypes.util
import gc
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vastbench.errors import SettingsError, UsageError

# Everything heavy is imported by start(): whoever only wants the name should not pay for servers.
if TYPE_CHECKING:
    from types import FrameType

    from vastbench.emulator.engine import Engine

log = logging.getLogger(__name__)

_START_S = 30.0
_STOP_S = 60.0


class Emulator:
    """A stand-in Vast.ai on loopback.

    ``profile``: a name or a TOML file; ``seed``: repeats the same draws; ``speed``: emulated seconds per real one; ``port``: 0
    takes any free one; ``truth``: the file that the truth log is appended to; ``faults``: what goes wrong, by name, with its
    probability (:data:`vastbench.emulator.faults.FAULTS`); ``for_others``: its key is given away, so that where commands inside
    would run as this process's user they are refused; ``shapes``: a file of :mod:`vastbench.emulator.shapes` whose shapes its
    answers take, and whose key's permissions its key has. Use it as a context manager, or call :meth:`start` and :meth:`stop`.
    Raises NotFound or SettingsError for a bad profile, UsageError for a bad speed, port or fault.
    """

    def __init__(
        self,
        profile: str | Path = "default",
        *,
        seed: int | None = None,
        speed: float = 1.0,
        port: int = 0,
        truth: Path | None = None,
        faults: Mapping[str, float] | None = None,
        for_others: bool = False,
        shapes: Path | None = None,
    ) -> None:
        """Check the settings; nothing runs yet."""
        from vastbench.emulator.faults import checked
        from vastbench.emulator.profile import load
        from vastbench.emulator.shapes import read_shapes

        if not (isinstance(speed, (int, float)) and 0 < speed < 10_000):
            raise UsageError(f"The emulator's speed is {speed!r}.", hint="Give a speed between 0 and 10000, such as 1 or 20.")
        if not (isinstance(port, int) and 0 <= port <= 65_535):
            raise UsageError(f"The emulator's port is {port!r}.", hint="Give a port between 1 and 65535, or 0 for any.")
        self.speed = speed
        self._name, self._profile = profile, load(profile)
        if shapes is not None:
            self._profile = self._profile.model_copy(update=read_shapes(shapes)._asdict())
        self._seed = seed
        self._port = port
        self._truth = truth
        self._faults = checked(faults or {})
        self._for_others = for_others
        self._engine: Engine | None = None
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._url = ""
        self._events: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Where it listens; never its key."""
        return f"<Emulator {self._name} at {self._url or 'nowhere yet'}, speed {self.speed:g}>"

    def start(self) -> Emulator:
        """Start serving; returns itself when it is ready. Starting twice does nothing.

        Raises SettingsError when the truth log cannot be written or the port is taken.
        """
        with self._lock:
            if self._engine is None:
                try:
                    self._start()
                except BaseException:
                    self._end()
                    raise
        return self

    def _start(self) -> None:
        from vastbench.emulator import faults
        from vastbench.emulator.truth import TruthLog

        with _no_compiler():
            from vastbench.emulator.engine import Engine

        seed = self._seed if self._seed is not None else self._profile.seed
        drawn = seed if seed is not None else secrets.randbits(32)
        spoilt, spoiling = faults.applied(self._profile, self._faults), faults.Faults(self._faults, drawn)
        try:
            truth = TruthLog(self.speed, self._truth)
        except OSError as error:
            raise SettingsError(
                f"The truth log {self._truth} cannot be written: {error}.", hint="Give another file."
            ) from error
        try:
            listening = _listen(self._port)
        except OSError as error:
            truth.close()
            raise SettingsError(
                f"Port {self._port} cannot be used: {error}.", hint="Give another port, or 0 for any."
            ) from error
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        engine = self._engine = Engine(spoilt, spoiling, drawn, self.speed, truth, listening, for_others=self._for_others)
        self._thread = threading.Thread(target=engine.run, name="vastbench-emulator", daemon=True)
        self._pid = os.getpid()
        atexit.register(self.stop)
        self._thread.start()
        if not engine.ready.wait(_START_S) or engine.failure is not None:
            why = engine.failure or f"it was not ready within {_START_S:g} s"
            hint = "`vastbench doctor` says what this machine lacks; temporary files go where TMPDIR says."
            raise UsageError(f"The emulator did not start: {why}.", hint=hint) from engine.failure
        self._url, self._events = url, truth.events

    def stop(self) -> None:
        """End every instance and the server; leaves no thread, process, port or folder. Stopping twice does nothing.

        An interruption is raised when it has ended; a second one at once.
        """
        if os.getpid() != self._pid:  # in a process forked from the one that it runs in
            return
        with self._lock:
            engine = self._engine
            self._end()
        if engine is not None and (engine.failure is not None or not engine.ended.is_set()):
            log.warning("The emulator did not end as it should; its processes may be left: %r", engine.failure)

    def _end(self) -> None:
        engine, thread = self._engine, self._thread
        if engine is not None and thread is not None and thread.is_alive():
            try:
                engine.stop()
                engine.ended.wait(_STOP_S)
            finally:  # no join before: one that is interrupted takes the thread for ended
                if engine.ended.wait(_STOP_S):
                    thread.join()
        if engine is not None:
            engine.close()
        self._engine = self._thread = None
        atexit.unregister(self.stop)

    def __enter__(self) -> Emulator:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    @property
    def url(self) -> str:
        """Where the API answers, such as ``http://127.0.0.1:40001``. Raises UsageError before the first start."""
        if not self._url:
            raise UsageError("The emulator has not been started.", hint="Use it in a with statement, or call start().")
        return self._url

    @property
    def api_key(self) -> str:
        """The account's key; a new one for every start. Raises UsageError while it does not run."""
        return self._running().api_key

    @property
    def events(self) -> list[dict[str, Any]]:
        """The truth log so far (see vastbench.emulator.truth); still readable after the stop."""
        return self._events

    @property
    def seed(self) -> int:
        """What the draws follow from: give it to another emulator to repeat them. Raises UsageError while it does not run."""
        return self._running().seed

    @property
    def alive(self) -> list[int]:
        """The ids of the instances that exist and bill now, whatever the API shows. For referees, not for clients."""
        return self._running().alive()

    def lose(self, instance: int, within_s: tuple[float, float]) -> None:
        """Have a running instance be lost within so many emulated seconds from now (from, to): withdrawn, exited, or offline.

        When and how is drawn from the seed and stands in the truth log as ``lost``; the API shows it late or not at all.
        """
        self._running().lose(instance, within_s)

    def has_lost(self, instance: int) -> bool:
        """Whether that was done to the instance. For who asked for it, when it is over."""
        return self._running().has_lost(instance)

    @property
    def struck(self) -> set[str]:
        """The chosen faults that have struck; one that is a chance of the profile is taken to strike the first instance."""
        from vastbench.emulator.faults import FAULTS

        rented = any(event["event"] == "create_effective" for event in self.events)
        drawn = {name for name in self._faults if FAULTS[name].parameter}
        return self._running().struck | (drawn if rented else set())

    @property
    def isolation(self) -> str:
        """How instances are kept apart: ``namespace`` or ``plain``. Raises UsageError while it does not run."""
        return self._running().isolation_name

    def _running(self) -> Engine:
        if self._engine is None:
            raise UsageError("The emulator is not running.", hint="Use it in a with statement, or call start().")
        return self._engine


@contextmanager
def _no_compiler() -> Iterator[None]:
    """Keep the SSH library from looking for optional libraries when it is first imported: it asks gcc, which costs time and
    would be given all of our environment, keys included."""

    def find_nothing(name: str) -> str | None:  # noqa: ARG001
        return None

    find, ctypes.util.find_library = ctypes.util.find_library, find_nothing
    try:
        yield
    finally:
        ctypes.util.find_library = find


def serve(emulator: Emulator, emit: Callable[[str], None]) -> None:
    """Run ``emulator`` until SIGTERM or SIGINT; ``emit`` gets the lines that a shell evaluates to use it. Main thread only."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    former = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with emulator:
            emit(f"export VAST_URL={emulator.url}")
            emit(f"export VAST_API_KEY={emulator.api_key}")
            if emulator.speed != 1:
                emit(f"export VASTBENCH_SPEED={emulator.speed:g}")
            # Modules stay for good: leaving them out of every full collection saves pauses of some 60 ms.
            gc.freeze()
            ended.wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _listen(port: int) -> socket.socket:
    # With the protocol spelled out asyncio sets TCP_NODELAY; without it replies wait up to 40 ms for the client's delayed ACK.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            # Elsewhere the option would let two emulators share one port.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(2048)
    except OSError:
        listening.close()
        raise
    return listening
