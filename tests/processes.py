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
from multiprocessing.process import BaseProcess
from pathlib import Path

BIN = Path(sys.executable).parent
VASTBENCH = str(BIN / "vastbench")

LATER = ("alembic.command", "pandas", "scipy.stats", "vastbench.emulator.engine", "vastbench.render")
"""What commands import when they need it: here it is there before they begin."""

_Forking = multiprocessing.get_context("forkserver")
_Forking.set_forkserver_preload(
    ["tests.processes", "vastbench.cli", "vastbench.bench.bench", "vastbench.emulator.app", "papermill", *LATER]
)


def command(*words: object, env: Mapping[str, str], cwd: Path, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
    """``vastbench WORDS`` in a process of its own, its standard input closed.

    A process that somebody reads from while it runs is better started as :data:`VASTBENCH`.
    """
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        process = forked(words, env, cwd, out, err)
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["vastbench", *map(str, words)], timeout_s, err.read_bytes())
        return subprocess.CompletedProcess(["vastbench", *words], process.exitcode, out.read_text(), err.read_text())


def forked(
    words: Sequence[object],
    env: Mapping[str, str],
    cwd: Path,
    out: Path,
    err: Path,
    first: Callable[[], None] | None = None,
) -> BaseProcess:
    """A process that is ``vastbench WORDS``, started; what it prints goes to the files ``out`` and ``err``.

    It is forked from one that has imported everything already, as importing takes longer than most commands. ``first``, a
    function of a module, is called in it before the command is.
    """
    process = _Forking.Process(target=_become, args=([*map(str, words)], dict(env), str(cwd), str(out), str(err), first))
    process.start()
    return process


def _become(words: list[str], env: dict[str, str], cwd: str, out: str, err: str, first: Callable[[], None] | None) -> None:
    from vastbench.cli import main

    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for place, number in ((out, 1), (err, 2)):
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT, 0o600), number)
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
    command = [VASTBENCH, "emulator", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            assert process.stdout is not None
            exports = {}
            while not {"VAST_URL", "VAST_API_KEY"} <= exports.keys() or (
                "--speed" in options and "VASTBENCH_SPEED" not in exports
            ):
                line = process.stdout.readline()
                assert line, f"the emulator ended with {process.wait(10)}"
                if found := re.fullmatch(r"export (\w+)=['\"]?([^'\"\n]*)['\"]?\n", line):
                    exports[found[1]] = found[2]
            yield environment | exports
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
