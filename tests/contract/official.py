"""The marketplace's own command-line client, in its own environment, against the emulator."""

import atexit
import contextlib
import json
import os
import re
import select
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_BIN = _ROOT / ".venv-vastai" / "bin"
_LIMIT_S = 60
_COLOUR = re.compile(r"\x1b\[[0-9;]*[mK]")


@dataclass(frozen=True)
class Output:
    """What a command printed, without its colours. The client's exit status says nothing and is not looked at."""

    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output read as JSON."""
        try:
            return json.loads(self.out)
        except ValueError:
            pytest.fail(f"no JSON on standard output: {self.out!r}, on standard error: {self.err!r}")


class Client:
    """``vastai``, with one environment for all its commands."""

    def __init__(self, environment: dict[str, str]) -> None:
        """Use ``environment``; its home keeps the client's caches."""
        if not (_BIN / "vastai").exists():
            pytest.fail(f"The official client is not in {_BIN}. `make test` puts it there.")
        self._environment = environment | {"VASTAI_NO_UPDATE_CHECK": "1", "COLUMNS": "250"}

    def __call__(self, *words: object, key: str | None = None) -> Output:
        """Run ``vastai WORDS``, with another API key where one is given."""
        more = {} if key is None else {"VAST_API_KEY": key}
        return self._run(["vastai", *map(str, words)], more)

    def raw(self, *words: object, key: str | None = None) -> Any:
        """What ``vastai WORDS --raw`` prints, read as JSON."""
        return self(*words, "--raw", key=key).json

    def python(self, program: str) -> Any:
        """What a program that uses the client's Python interface prints, read as JSON."""
        output = self._run(["-c", program], {})
        assert output.out, output.err
        return output.json

    def _run(self, words: Sequence[str], more: dict[str, str]) -> Output:
        with tempfile.TemporaryDirectory() as place:
            out, err = Path(place) / "out", Path(place) / "err"
            _forking().run([list(words), self._environment | more, str(out), str(err)])
            return Output(_COLOUR.sub("", out.read_text()), _COLOUR.sub("", err.read_text()))


_FORK = """
import json, os, sys
import Crypto, aiodns, aiohttp, anyio, dateutil, pkg_resources, psutil, requests, xdg  # what it imports, and nothing of its own

for line in sys.stdin:
    words, environment, out, err = json.loads(line)
    child = os.fork()
    if not child:
        os.environ.clear()
        os.environ.update(environment)
        for place, number in ((os.devnull, 0), (out, 1), (err, 2)):
            os.dup2(os.open(place, os.O_RDWR | os.O_CREAT, 0o600), number)
        if words[0] == "-c":
            exec(words[1], {"__name__": "__main__"})
        else:
            sys.argv = words
            from vastai.cli.main import main
            sys.exit(main())
        sys.exit()
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


class _Forking:
    """A process of the client's environment with all that the client imports, which forks into each command.

    The imports take four times as long as a command. The client's own modules read the environment as they are
    imported: they are imported anew each time.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(_BIN / "python"), "-W", "ignore", "-c", _FORK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        atexit.register(self._end)

    def run(self, job: object) -> None:
        """Run one command to its end, within the limit."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job, allow_nan=False) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], _LIMIT_S)[0]:
            self._end()
            _forking.cache_clear()
            pytest.fail(f"The official client did not end within {_LIMIT_S} s: {job}")
        assert self._process.stdout.readline() == "ended\n"

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


_forking = cache(_Forking)
