"""A workload that can be held to what it promised: numbered, checksummed records, each acknowledged once it is on the disk.

The records lie in an open file beside the folder that is saved; closing it moves it in. So a snapshot that is taken while
the workload goes on holds whole files only, and everything up to a known record.
"""

from __future__ import annotations

import hashlib
import secrets
import shlex
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from vastbench.clock import Clock
from vastbench.errors import CheckFailed, ConnectionLost, DeadlineExceeded, SshError, VastbenchError
from vastbench.ssh.command import Dialogue
from vastbench.ssh.session import Session

FOLDER = "/workspace/vastbench"
"""What is saved and restored: the workload's files, and its closed records in ``ledger``."""

OPEN = "/workspace/vastbench.open"
"""The records since the last close."""

CLOSE_S = 30.0
"""Clock seconds that closing a file of records may take."""

LONGEST_S = 86_400.0
"""Clock seconds that a workload may go on."""

_SCRIPT = f"""
mkdir -p {FOLDER}/ledger || exit
while IFS= read -r line; do
  case $line in
    close\\ *) if [ -f {OPEN} ]; then mv {OPEN} "{FOLDER}/ledger/${{line#close }}" || exit; sync; fi; echo closed ;;
    *) printf '%s\\n' "$line" >> {OPEN} && sync {OPEN} && echo "${{line%% *}}" || exit ;;
  esac
done
"""


def record(number: int) -> str:
    """A new record: its number, random content, and the first 16 hex digits of the SHA-256 of both."""
    text = f"{number} {secrets.token_hex(16)}"
    return f"{text} {_checksum(text)}"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def last_of(lines: Sequence[str]) -> int:
    """The number of the last of the records ``lines``, which begin at 1 and leave none out; 0 for none.

    Raises CheckFailed for one whose checksum is wrong, and for a gap.
    """
    for number, line in enumerate(lines, 1):
        text, _, checksum = line.rpartition(" ")
        if checksum != _checksum(text):
            raise CheckFailed(f"Record {number} came back damaged: {line!r:.100}.", hint="The restore is not to be trusted.")
        if text.partition(" ")[0] != str(number):
            raise CheckFailed(
                f"Record {number} is missing: in its place is {line!r:.100}.", hint="The restore is not to be trusted."
            )
    return len(lines)


def read_back(session: Session, *, timeout_s: float = 60.0) -> int:
    """The number of the last record that the machine has in closed files. Raises CheckFailed for damaged and missing ones."""
    script = f'cd {FOLDER}/ledger 2>/dev/null || exit 0; for one in $(ls | sort -n); do cat "$one" || exit; done'
    return last_of(session.run(f"sh -c {shlex.quote(script)}", timeout_s=timeout_s).stdout.splitlines())


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A record that the machine has: its number, and when it was sent and its acknowledgement received, in clock seconds."""

    number: int
    sent: float
    received: float


class Writer(threading.Thread):
    """Appends a record every ``period_s`` clock seconds, from the one after ``last`` on, while its block runs and it can."""

    def __init__(self, session: Session, clock: Clock, *, last: int = 0, period_s: float = 1.0) -> None:
        """Take the machine's session; nothing is written before the with-block is entered."""
        super().__init__(name="vastbench-writer", daemon=True)
        self._session, self._clock, self._period_s = session, clock, period_s
        self._last = last
        self._news = threading.Condition()
        self._over = False
        self._to_close = False
        self._closed = last
        self._acknowledged: list[Acknowledged] = []
        self.outstanding: float | None = None
        self.error: VastbenchError | None = None

    @property
    def acknowledged(self) -> list[Acknowledged]:
        """What was acknowledged so far, in order."""
        with self._news:
            return list(self._acknowledged)

    def wait_for(self, count: int, *, timeout_s: float) -> list[Acknowledged]:
        """Wait until ``count`` records are acknowledged: all that are. Raises CheckFailed when that takes too long."""
        with self._news:
            self._wait(lambda: len(self._acknowledged) >= count, timeout_s)
            if len(self._acknowledged) < count:
                why = f": {self.error.message}" if self.error is not None else ""
                raise CheckFailed(
                    f"The workload had {len(self._acknowledged)} of {count} records acknowledged in {timeout_s:g} s{why}.",
                    hint="The machine does not write steadily: what follows would say nothing.",
                )
            return list(self._acknowledged)

    def close_file(self) -> int:
        """Close the file of records: the number of the last one in it. Raises ConnectionLost where the machine is lost."""
        with self._news:
            self._to_close = True
            self._news.notify_all()
            self._wait(lambda: not self._to_close, CLOSE_S)
            if self._to_close:
                raise ConnectionLost("the workload did not close its file of records", hint="The machine may be lost.")
            return self._closed

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> None:
        self._news.wait_for(lambda: done() or self._over or self.error is not None, self._clock.real_s(timeout_s))

    def run(self) -> None:
        """The thread's work."""
        try:
            with self._session.dialogue(f"sh -c {shlex.quote(_SCRIPT)}", timeout_s=LONGEST_S) as talk:
                while self._goes_on(talk):
                    pass
        except (SshError, DeadlineExceeded) as error:
            with self._news:
                self.error = error
                self._news.notify_all()

    def _goes_on(self, talk: Dialogue) -> bool:
        """Write the next record, then close the file if that is asked for, and rest."""
        number, sent = self._last + 1, self._clock.now()
        self.outstanding = sent
        _tell(talk, record(number), str(number))
        self.outstanding = None
        self._last = number
        with self._news:
            self._acknowledged.append(Acknowledged(number, sent, self._clock.now()))
            self._news.notify_all()
            self._news.wait_for(
                lambda: self._over or self._to_close, self._clock.real_s(sent + self._period_s - self._clock.now())
            )
            to_close = self._to_close
        if to_close:
            _tell(talk, f"close {number}", "closed")
            with self._news:
                self._closed, self._to_close = number, False
                self._news.notify_all()
        return not self._over

    def __enter__(self) -> Writer:
        """Begin to write."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Write no more. A machine that says nothing more is not waited for."""
        with self._news:
            self._over = True
            self._news.notify_all()
        self.join(self._clock.real_s(self._period_s) + 0.2)


def _tell(talk: Dialogue, line: str, expected: str) -> None:
    talk.say(line.encode())
    heard = talk.hear().decode("ascii", "replace")
    if heard != expected:
        raise SshError(f"the workload answered {heard!r:.60}, not {expected!r}")
