"""Phases, and the tree that they make.

Every scenario rents and gives back machines, whose phases are these, in clock seconds. Each ends where the text says and begins
where the one before it ended, unless it says otherwise::

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
    …                   the scenario's own work
    destroy instance    delete sent           → acknowledged
    confirm destroyed   acknowledged          → GET by id says null and every page of the list lacks it
    remove SSH key      request sent          → acknowledged                    (ours)
    unattributed        whatever the rows above leave of the total (queueing for rate limits, retries)

Where a run rents several machines, each but the first has a name, and its phases carry it: ``standby: wait running``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from vastbench.record.moments import Moment
from vastbench.record.numbers import quotient


class PhaseName(StrEnum):
    """The phases that every scenario shares, in their order, and the two rows that are computed and never recorded.

    A scenario names those of its own work itself, so the name of a phase is any text.
    """

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
    DESTROY = "destroy instance"
    CONFIRM = "confirm destroyed"
    REMOVE_KEY = "remove SSH key"
    UNATTRIBUTED = "unattributed"
    TOTAL = "total"


COMPUTED = frozenset({PhaseName.UNATTRIBUTED, PhaseName.TOTAL})
"""Rows of tables that no run records."""

PARENTS: dict[PhaseName, PhaseName] = {
    PhaseName.ALLOCATE: PhaseName.WAIT_RUNNING,
    PhaseName.PULL: PhaseName.WAIT_RUNNING,
    PhaseName.REPORTING: PhaseName.WAIT_RUNNING,
    PhaseName.PORT: PhaseName.WAIT_SSH,
    PhaseName.BANNER: PhaseName.WAIT_SSH,
    PhaseName.LOGIN: PhaseName.WAIT_SSH,
    PhaseName.FIRST_COMMAND: PhaseName.WAIT_SSH,
}
"""Which phase each indented phase above belongs to; the others are top-level rows."""

LONGEST_NAME = 40
"""Characters in the name of a phase, that of its machine included, and in a scenario's."""

Timeline = Mapping[str, str | None]
"""The names of a scenario's phases in their order, each with the phase that it is a part of; None at the top level."""

_RETURNING = (PhaseName.DESTROY, PhaseName.CONFIRM, PhaseName.REMOVE_KEY)


def of_machine(machine: str, phase: str) -> str:
    """The name of a shared phase of that machine; the machine without a name leaves it as it is.

    >>> of_machine("standby", "wait running")
    'standby: wait running'
    """
    return f"{machine}: {phase}" if machine else str(phase)


def renting(machine: str = "") -> Timeline:
    """The phases from registering the key until a machine runs commands."""
    return _shared(machine, (one for one in PhaseName if one not in COMPUTED and one not in _RETURNING))


def returning(machine: str = "") -> Timeline:
    """The phases in which a machine is given back."""
    return _shared(machine, _RETURNING)


def _shared(machine: str, phases: Iterable[PhaseName]) -> Timeline:
    parents = {one: PARENTS.get(one) for one in phases}
    return {of_machine(machine, one): parent and of_machine(machine, parent) for one, parent in parents.items()}


class Outcome(StrEnum):
    """How a run or a phase ended. ``censored``: stopped by a deadline, a budget or the user before it could end."""

    PASSED = "passed"
    FAILED = "failed"
    CENSORED = "censored"


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of a scenario, from one moment to another, within one attempt.

    ``parent``: the name of the phase that it is a part of, None for one of the top level. ``detail`` is one short line of
    evidence (an exit status, the last status seen); never a secret. ``queued_s``: clock seconds before its end that it stood in
    a queue of our own (for a place to shake hands in): the instrument's time, not the phase's.
    """

    name: str
    start: Moment
    end: Moment
    outcome: Outcome = Outcome.PASSED
    attempt: int = 1
    detail: str = ""
    queued_s: float = 0.0
    parent: str | None = None

    def __post_init__(self) -> None:
        """A phase that every scenario shares knows what it is a part of."""
        if self.parent is None and self.name in PARENTS:
            object.__setattr__(self, "parent", PARENTS[PhaseName(self.name)])

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

    name: str
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

    Top-level seconds, ``unattributed`` included, add up to ``total`` whenever the last try of every phase has seconds, and by
    more than it where phases passed at the same time; what an earlier try waited in vain is unattributed. The bottleneck is the
    longest top-level phase of a run in which each of them passed: one that failed is no time to save, and one that has no end
    may be the longest.
    """
    top = [p for p in phases if p.parent is None]
    last = {p.name: p for p in top}
    finished = [p for p in top if p.seconds is not None and p.outcome is Outcome.PASSED]
    whole = all(p.seconds is not None and p.outcome is Outcome.PASSED for p in last.values())
    longest = max(finished, key=lambda p: p.seconds or 0.0, default=None) if whole else None
    rows: list[Row] = []
    for phase in top:
        rows.append(_row(phase, 0, total, bottleneck=phase is longest))
        inside = [c for c in phases if c.parent == phase.name and c.attempt == phase.attempt]
        rows.extend(_row(child, 1, total) for child in inside)
    rest = unattributed(phases, total)
    if rest is not None:
        share = _share(rest, total)
        rows.append(Row(PhaseName.UNATTRIBUTED, 0, rest, None, None, share, Outcome.PASSED, 0))
    return rows


def unattributed(phases: Sequence[Phase], total: float | None) -> float | None:
    """What the top-level ``phases`` leave of ``total``; None when that is unknown, or the end of the last try of one."""
    seconds = [(p, p.seconds) for p in phases if p.parent is None]
    if total is None or None in {p.name: took for p, took in seconds}.values():
        return None
    return total - sum(took or 0.0 for _, took in seconds) + _overlap([p for p, took in seconds if took is not None])


def _overlap(phases: list[Phase]) -> float:
    """The seconds that passed in more than one of ``phases``, as often as they did beyond once."""
    overlap, reached = 0.0, -math.inf
    for start, end in sorted((p.start.upper, p.end.upper) for p in phases):
        overlap += max(0.0, min(end, reached) - start)
        reached = max(reached, end)
    return overlap


def _share(seconds: float, total: float | None) -> float | None:
    share = quotient(seconds, total or 0.0)
    return None if math.isnan(share) else share


def _row(phase: Phase, depth: int, total: float | None, *, bottleneck: bool = False) -> Row:
    seconds = phase.seconds
    upper = phase.upper if math.isfinite(phase.upper) else None
    share = None if seconds is None else _share(seconds, total)
    return Row(phase.name, depth, seconds, phase.lower, upper, share, phase.outcome, phase.attempt, phase.detail, bottleneck)
