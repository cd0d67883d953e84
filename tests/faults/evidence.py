"""Planted secrets in every run of the matrix, and what the runs leave behind, to be searched for them."""

import contextlib
import json
import logging
import secrets
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from traceback import TracebackException
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.hostile.canaries import EMULATOR_KEY, SEED, planted, search
from vastbench.record.document import run_to_dict
from vastbench.record.run import Run
from vastbench.ssh.keys import RunKey

_USUAL = frozenset(vars(logging.makeLogRecord({})))
"""What every log record has; anything else was added by whoever logged."""


class Logs(logging.Handler):
    """Keeps what this process logs, by logger, until it is taken out to be searched."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self._texts: dict[str, list[str]] = defaultdict(list)
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        added = {name: value for name, value in vars(record).items() if name not in _USUAL}
        self._texts[record.name].append(f"{self.format(record)} {record.args!r} {added!r}")

    def taken(self) -> dict[str, str]:
        """The texts since the last time, of all runs of this process: each is handed out once."""
        with self.lock or contextlib.nullcontext():
            texts, self._texts = self._texts, defaultdict(list)
        return {f"the log of {name}": "\n".join(lines) for name, lines in texts.items()}


@contextlib.contextmanager
def planting() -> Iterator[Logs]:
    """Plant the canaries in every emulator and run of this process, and keep its logs of every level."""
    loggers = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    levels = {one: one.level for one in (logging.root, *loggers)}
    made, logs = secrets.token_hex, Logs()
    with (
        patch.object(secrets, "token_hex", lambda nbytes=None: EMULATOR_KEY + made(8) if nbytes == 32 else made(nbytes)),
        patch.object(
            RunKey, "generate", lambda comment="vastbench": RunKey(Ed25519PrivateKey.from_private_bytes(SEED), comment)
        ),
        patch.object(logging.root, "handlers", [logs]),
    ):
        try:
            for one in levels:
                one.setLevel(logging.DEBUG if one is logging.root else logging.NOTSET)
            yield logs
        finally:
            for one, level in levels.items():
                one.setLevel(level)


def left_by(run: Run | None, error: BaseException | None) -> dict[str, str]:
    """What a run hands to its caller, as texts: its record in each form, and its error with all local variables."""
    texts = {}
    if run is not None:
        texts |= {"the run's JSON": json.dumps(run_to_dict(run)), "its text": str(run), "its page": run._repr_html_()}
    if error is not None:
        told = TracebackException.from_exception(error, capture_locals=True)
        texts |= {"the error": f"{error!r}\n{error}\n{vars(error)!r}", "its traceback": "".join(told.format())}
    return texts


def found_in(texts: dict[str, str], *folders: Path) -> tuple[str, ...]:
    """Where a canary lies."""
    return tuple(search(planted(), folders, texts))
