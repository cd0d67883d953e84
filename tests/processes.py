"""Real processes for tests: an emulator started by hand, and commands that talk to it."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Self

BIN = Path(sys.executable).parent
VASTBENCH = str(BIN / "vastbench")

LATER = ("alembic.command", "pandas", "scipy.stats", "vastbench.emulator.engine", "vastbench.render")
"""What commands import when they need it: here it is there before they begin."""

_Forking = multiprocessing.get_context("forkserver")
_Forking.set_forkserver_preload(
    ["tests.processes", "vastbench.cli", "vastbench.bench.bench", "vastbench.emulator.app", "papermill", *LATER]
)


def hear_interrupts() -> None:
    """Let this process and those below it be stopped by SIGINT: a shell starts background jobs with it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def command(*words: object, env: Mapping[str, str], cwd: Path, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
    """``vastbench WORDS`` in a process of its own, its standard input closed."""
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        process = forked(words, env, cwd, out, err)
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["vastbench", *map(str, words)], timeout_s, err.read_bytes())
        return subprocess.CompletedProcess(["vastbench", *words], process.exitcode, out.read_text(), err.read_text())


class Started:
    """A process that is ``vastbench WORDS``, to be read from and signalled while it runs; killed at the end of its block.

    As a ``subprocess.Popen`` with two pipes of text, and forked as :func:`forked` says.
    """

    def __init__(self, *words: object, env: Mapping[str, str], cwd: Path, first: Callable[[], None] | None = None) -> None:
        ours, theirs = zip(*(_Forking.Pipe(duplex=False) for _ in range(2)), strict=True)
        self._process = forked(words, env, cwd, *theirs, first)
        self.stdout, self.stderr = (os.fdopen(os.dup(end.fileno()), encoding="utf-8") for end in ours)
        for end in (*ours, *theirs):
            end.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def send_signal(self, number: int) -> None:
        """Send the signal ``number`` to it."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Its exit status, once it has ended."""
        self._process.join(timeout_s)
        assert self._process.exitcode is not None, f"not over within {timeout_s:g} s"
        return self._process.exitcode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._process.kill()
        self._process.join()
        self.stdout.close()
        self.stderr.close()


def forked(
    words: Sequence[object],
    env: Mapping[str, str],
    cwd: Path,
    out: Path | Connection,
    err: Path | Connection,
    first: Callable[[], None] | None = None,
) -> BaseProcess:
    """A process that is ``vastbench WORDS``, started; what it prints goes to ``out`` and ``err``.

    It is forked from one that has imported everything already, as importing takes longer than most commands. ``first``, a
    function of a module, is called in it before the command is.
    """
    process = _Forking.Process(target=_become, args=([*map(str, words)], dict(env), str(cwd), out, err, first))
    process.start()
    return process


def _become(
    words: list[str],
    env: dict[str, str],
    cwd: str,
    out: Path | Connection,
    err: Path | Connection,
    first: Callable[[], None] | None,
) -> None:
    from vastbench.cli import main

    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for place, number in ((out, 1), (err, 2)):
        there = place.fileno() if isinstance(place, Connection) else os.open(place, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(there, number)
    # What they were before may have been files, which can be wound back, and these remember it.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", errors="backslashreplace", closefd=False) for number in (1, 2))
    sys.argv = ["vastbench", *words]
    if first:
        first()
    main()


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without anything of vastbench's or Vast's, at home in ``home``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAST", "XDG_"))}
    kept["PATH"] = f"{BIN}{os.pathsep}{kept['PATH']}"
    return kept | {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "data")} | more


def until(true: Callable[[], object], patience_s: float = 60.0) -> None:
    """Wait until ``true`` is; fail when it does not become so."""
    give_up = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < give_up, f"not within {patience_s:g} s"
        time.sleep(0.05)


@contextmanager
def emulator_process(home: Path, *options: str) -> Iterator[dict[str, str]]:
    """``vastbench emulator`` as a newcomer starts it; gives the environment that its export lines make."""
    environment = clean_environment(home)
    wanted = {"VAST_URL", "VAST_API_KEY"} | ({"VASTBENCH_SPEED"} if "--speed" in options else set())
    with Started("emulator", *options, env=environment, cwd=Path.cwd()) as process:
        exports: dict[str, str] = {}
        while not wanted <= exports.keys():
            line = process.stdout.readline()
            assert line, f"the emulator ended with {process.wait()}: {process.stderr.read()}"
            if found := re.fullmatch(r"export (\w+)=['\"]?([^'\"\n]*)['\"]?\n", line):
                exports[found[1]] = found[2]
        try:
            yield environment | exports
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0, process.stderr.read()
