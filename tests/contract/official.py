"""The marketplace's own command-line client, in its own environment, against the emulator."""

import json
import re
import subprocess
from dataclasses import dataclass
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
        return self._run([str(_BIN / "vastai"), *map(str, words)], more)

    def raw(self, *words: object, key: str | None = None) -> Any:
        """What ``vastai WORDS --raw`` prints, read as JSON."""
        return self(*words, "--raw", key=key).json

    def python(self, program: str) -> Any:
        """What a program that uses the client's Python interface prints, read as JSON."""
        output = self._run([str(_BIN / "python"), "-c", program], {})
        assert output.out, output.err
        return output.json

    def _run(self, command: list[str], more: dict[str, str]) -> Output:
        done = subprocess.run(
            command,
            env=self._environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )
        return Output(_COLOUR.sub("", done.stdout), _COLOUR.sub("", done.stderr))
