"""Phases and the tree that they make.

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
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from vastbench.record.moments import Moment
from vastbench.record.numbers import quotient


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
