"""Moments, phases and their recorder: the measurement as values. Pure: no network, no disk, and time only through a clock.

The timeline of an integration run, in clock seconds. Each phase ends where the text says and begins where the one before it
ended, unless it says otherwise::

    register SSH key    request sent          → acknowledged                    (ours; the account must know the key first)
    search offers       request sent          → offers read
    create instance     create sent           → contract id read
    wait running        contract id read      → actual_status is running
      allocate            contract id read    → first non-null status
      pull image          first loading       → running
      reporting lag       container started   → running    (by the guest's own clock; overlaps the end of pull image)
    wait SSH            running               → a command exits 0
      port                running             → TCP connection accepted
      banner              port                → SSH identification read
      login               banner              → key accepted
      first command       login               → exit 0
    check GPU           command sent          → nvidia-smi names the GPU that was rented
    create file         command sent          → written, synced, exit 0
    verify file         command sent          → SHA-256 equal
    destroy instance    delete sent           → acknowledged
    confirm destroyed   acknowledged          → GET by id says null and every page of the list lacks it
    remove SSH key      request sent          → acknowledged                    (ours)
    unattributed        whatever the rows above leave of the total (queueing for rate limits, retries)

A moment is an instant known only within bounds. Where it comes from polling, four readings are kept: when the last negative
answer was asked for and received, and when the first positive answer was. The event lies in (no_sent, yes_received].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from vastbench.clock import Clock
from vastbench.errors import BudgetRefused, DeadlineExceeded, Interrupted, VastbenchError


class PhaseName(StrEnum):
    """Every phase that reports, charts, the store and the notebooks may name, in the seed's words where it had them."""

    REGISTER_KEY = "register SSH key"
    SEARCH = "search offers"
    CREATE = "create instance"
    WAIT_RUNNING = "wait running"
    ALLOCATE = "allocate"
    PULL = "pull image"
    REPORTING = "reporting lag"
    WAIT_SSH = "wait SSH"
    PORT = "port"
    BANNER = "banner"
    LOGIN = "login"
    FIRST_COMMAND = "first command"
    CHECK_GPU = "check GPU"
    CREATE_FILE = "create file"
    VERIFY_FILE = "verify file"
    DESTROY = "destroy instance"
    CONFIRM = "confirm destroyed"
    REMOVE_KEY = "remove SSH key"
    UNATTRIBUTED = "unattributed"
    TOTAL = "total"


PARENTS: dict[PhaseName, PhaseName] = {
    PhaseName.ALLOCATE: PhaseName.WAIT_RUNNING,
    PhaseName.PULL: PhaseName.WAIT_RUNNING,
    PhaseName.REPORTING: PhaseName.WAIT_RUNNING,
    PhaseName.PORT: PhaseName.WAIT_SSH,
    PhaseName.BANNER: PhaseName.WAIT_SSH,
    PhaseName.LOGIN: PhaseName.WAIT_SSH,
    PhaseName.FIRST_COMMAND: PhaseName.WAIT_SSH,
}
"""Which phase each indented phase of the timeline belongs to; all others are top-level rows."""


class Outcome(StrEnum):
    """How a run or a phase ended. ``censored``: stopped by a deadline, a budget or the user before it could end."""

    PASSED = "passed"
    FAILED = "failed"
    CENSORED = "censored"


LARGEST, SMALLEST = 1e18, 1e-30


def measurable(value: Any) -> Any:
    """Whether a number can have been measured, or which of an array: finite, and so far from a float's limits that no rate,
    ratio or square of such numbers reaches them."""
    size = abs(value)
    return (size == 0) | ((size >= SMALLEST) & (size <= LARGEST))


def quotient(part: float, whole: float) -> float:
    """``part`` ÷ ``whole``; NaN, which is a missing value, where there is none or it is beyond all that can be measured."""
    found = float(part) / float(whole) if whole else math.nan  # numpy's own division warns
    return found if abs(found) <= LARGEST else math.nan


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant known within bounds, in clock seconds.

    ``no_sent``/``no_received``: when the last answer that said "not yet" was asked for and received.
    ``yes_sent``/``yes_received``: the same for the first answer that said "it has happened"; None when none ever did.
    ``source``: what told us: ``action`` (our own doing, exact), ``poll``, ``ssh``, ``guest`` (the instance's own clock),
    ``file`` (an imported record).
    """

    no_sent: float
    no_received: float
    yes_sent: float | None
    yes_received: float | None
    source: str = "action"

    def __post_init__(self) -> None:
        """Refuse readings that no clock shows or that run backwards."""
        readings = [r for r in (self.no_sent, self.yes_received) if r is not None]
        if not all(abs(r) <= LARGEST for r in readings) or readings != sorted(readings):
            raise ValueError(f"a moment's readings must be finite and in order, and at most {LARGEST:g} s: {self}")

    @classmethod
    def exact(cls, reading: float, source: str = "action") -> Moment:
        """An instant that is our own doing, known exactly."""
        return cls(reading, reading, reading, reading, source)

    @classmethod
    def between(cls, lower: float, upper: float | None, source: str) -> Moment:
        """An instant in (``lower``, ``upper``]; ``upper`` None when it was never seen to have happened."""
        return cls(lower, lower, upper, upper, source)

    @property
    def lower(self) -> float:
        """The event lies after this reading (or at it, for an exact moment)."""
        return self.no_sent

    @property
    def upper(self) -> float:
        """The event lies at or before this reading; infinity when it was never seen."""
        return math.inf if self.yes_received is None else self.yes_received

    @property
    def seen(self) -> bool:
        """Whether the event was seen to have happened."""
        return self.yes_received is not None


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of a scenario, from one moment to another, within one attempt.

    ``detail`` is one short line of evidence (an exit status, the last status seen); never a secret. ``queued_s``: clock seconds
    before its end that it stood in a queue of our own (for a place to shake hands in): the instrument's time, not the phase's.
    """

    name: PhaseName
    start: Moment
    end: Moment
    outcome: Outcome = Outcome.PASSED
    attempt: int = 1
    detail: str = ""
    queued_s: float = 0.0

    @property
    def parent(self) -> PhaseName | None:
        """The phase that this one is a part of."""
        return PARENTS.get(self.name)

    @property
    def seconds(self) -> float | None:
        """What the user waited, in clock seconds: from when the start was known to when the end was; None when unseen.

        Our own queueing is left out; the bounds keep it, because the event may have happened after it.
        """
        return self.end.upper - self.start.upper - self.queued_s if self.end.seen and self.start.seen else None

    @property
    def lower(self) -> float:
        """The least that the true duration can be: max(0, end.lower − start.upper)."""
        return max(0.0, self.end.lower - self.start.upper) if self.start.seen else 0.0

    @property
    def upper(self) -> float:
        """The most that the true duration can be: end.upper − start.lower; infinity for a censored phase."""
        return self.end.upper - self.start.lower


Listener = Callable[[PhaseName, Phase | None], None]
"""Hears of a phase's begin (phase None) and of its end."""


class Recorder:
    """Collects the phases of one run, and tells a listener as they begin and end.

    ``listener(name, phase)`` is called with None when a phase begins and with the phase when it ends; it draws progress.
    An exception that it raises ends the phase like any other.
    """

    def __init__(self, clock: Clock, listener: Listener | None = None) -> None:
        """Start the run's clock now."""
        self.clock = clock
        self.attempt = 1
        self.phases: list[Phase] = []
        self.started = clock.now()
        self.ended: float | None = None
        self._listener = listener

    def add(self, phase: Phase) -> Phase:
        """Keep a finished phase under the current attempt and tell the listener."""
        kept = replace(phase, attempt=self.attempt)
        self.phases.append(kept)
        if self._listener:
            self._listener(kept.name, kept)
        return kept

    @contextmanager
    def phase(self, name: PhaseName, start: Moment | None = None) -> Iterator[Open]:
        """Time a phase: the body sets ``.start`` and ``.end``; what it leaves unset is now.

        When the body raises, the phase is kept all the same: censored for a deadline or an interruption, failed for anything
        else, with an end that was never seen, and the error goes on.
        """
        opened = Open(start)
        entered = Moment.exact(self.clock.now())
        try:
            if self._listener:
                self._listener(name, None)
            yield opened
        except BaseException as error:
            last = opened.last_negative if opened.last_negative is not None else self.clock.now()
            begun = opened.start or entered
            end = opened.end or Moment.between(max(last, begun.lower), None, "action")
            self.add(Phase(name, begun, end, outcome_of(error), detail=summary_of(error)))
            raise
        end = opened.end or Moment.exact(self.clock.now())
        self.add(Phase(name, opened.start or entered, end, opened.outcome, detail=opened.detail, queued_s=opened.queued_s))

    def finish(self) -> float:
        """Stop the run's clock; the total in clock seconds."""
        self.ended = self.clock.now()
        return self.ended - self.started


@dataclass(slots=True)
class Open:
    """A phase that is being timed. ``last_negative``: when its end was last asked for in vain (bounds a censored phase)."""

    start: Moment | None = None
    end: Moment | None = None
    outcome: Outcome = Outcome.PASSED
    detail: str = ""
    last_negative: float | None = None
    queued_s: float = 0.0


def outcome_of(error: BaseException) -> Outcome:
    """Censored for what stops an observation from outside (deadline, budget, user), failed for everything else."""
    stopped = isinstance(error, (DeadlineExceeded, BudgetRefused, Interrupted, KeyboardInterrupt, SystemExit))
    return Outcome.CENSORED if stopped else Outcome.FAILED


def cause_of(error: BaseException) -> str:
    """The short name under which a failed or censored run files ``error``."""
    if isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit)):
        return Interrupted.cause
    return error.cause if isinstance(error, VastbenchError) else "internal"


def summary_of(error: BaseException, *, with_hint: bool = False) -> str:
    """One line of evidence about ``error``, with its next step if wanted; at most 600 characters."""
    if isinstance(error, VastbenchError):
        text = str(error) if with_hint else error.message
    elif isinstance(error, Interrupted):
        text = error.message
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:600]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a run's tree. ``share`` is the part of the total, 0–1; missing values are None, never 0."""

    name: PhaseName
    depth: int
    seconds: float | None
    lower: float | None
    upper: float | None
    share: float | None
    outcome: Outcome
    attempt: int
    detail: str = ""
    bottleneck: bool = field(default=False)


def tree(phases: list[Phase], total: float | None) -> list[Row]:
    """The rows of a run's tree, in order of time, children under their parents, with what is unattributed at the end.

    Top-level seconds, ``unattributed`` included, add up to ``total`` whenever the last try of every phase has seconds; what
    an earlier try waited in vain is unattributed. The bottleneck is the longest top-level phase, and unknown when one of them
    has no end: that one may be it.
    """
    top = [p for p in phases if p.parent is None]
    last = {p.name: p for p in top}
    finished = [p for p in top if p.seconds is not None]
    whole = all(p.seconds is not None for p in last.values())
    longest = max(finished, key=lambda p: p.seconds or 0.0, default=None) if whole else None
    rows: list[Row] = []
    for phase in top:
        rows.append(_row(phase, 0, total, bottleneck=phase is longest))
        inside = [c for c in phases if c.parent is phase.name and c.attempt == phase.attempt]
        rows.extend(_row(child, 1, total) for child in inside)
    if total is not None and whole:
        rest = total - sum(p.seconds or 0.0 for p in finished)
        share = _share(rest, total)
        rows.append(Row(PhaseName.UNATTRIBUTED, 0, rest, None, None, share, Outcome.PASSED, 0))
    return rows


def _share(seconds: float, total: float | None) -> float | None:
    share = quotient(seconds, total or 0.0)
    return None if math.isnan(share) else share


def _row(phase: Phase, depth: int, total: float | None, *, bottleneck: bool = False) -> Row:
    seconds = phase.seconds
    upper = phase.upper if math.isfinite(phase.upper) else None
    share = None if seconds is None else _share(seconds, total)
    return Row(phase.name, depth, seconds, phase.lower, upper, share, phase.outcome, phase.attempt, phase.detail, bottleneck)
