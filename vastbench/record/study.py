"""A study as it stands, and as it goes on: values only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vastbench.errors import AccountRefused, StudyFailed, StudyIncomplete, UsageError, VastbenchError, clean
from vastbench.record.phases import Outcome
from vastbench.record.run import NOT_COUNTED, OF_THE_ACCOUNT, Run
from vastbench.record.shown import Shown
from vastbench.record.stopping import StoppingRule

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}")


MOST_REPEATS, MOST_WORKERS = 100_000, 64

CREATE_EVERY_S = 4.5
"""Clock seconds from one create to the next that the marketplace allows an account, as it documents."""

APART_S = 6.0
"""Clock seconds between the beginnings of two runs: the marketplace allows ten searches a minute and a create every
CREATE_EVERY_S, and a run that queued for its turn would show the queue in its total."""


class EndedBy(StrEnum):
    """The rule that ended a study, or its last launch."""

    PRECISION = "precision"
    REPEATS = "repeats"
    BUDGET = "budget"
    TIME = "time"
    ACCOUNT = "account"


@dataclass(frozen=True, repr=False)
class Study(Shown):
    """One study as it stands in the store, its ``runs`` oldest first.

    ``repeats``: how many runs are wanted. ``conditions``: what every run asked for (see
    :class:`~vastbench.record.conditions.Conditions`), ``source`` (``emulator`` or ``live``) and the emulator's ``profile``.
    ``stopping``: the rule on which it may end before its repeats are made. ``ended_by``: the rule that ended its last launch;
    None while it goes on, and when no rule did.

    It shows itself: ``print`` it, or end a cell with it.

    Examples
    --------
    >>> runs = vastbench.runs_from(vastbench.load("failover-40"))
    >>> vastbench.Study("mine", "failover", 50, {"source": "emulator"}, "2026-11-29T00:00:00+00:00", tuple(runs))
    <Study mine: 40 of 50 runs made, 33 passed>
    """

    name: str
    scenario: str
    repeats: int
    conditions: Mapping[str, Any]
    started_at: str
    runs: tuple[Run, ...] = ()
    stopping: StoppingRule | None = None
    ended_by: EndedBy | None = None

    def __repr__(self) -> str:
        """One short line: print a study to see it whole."""
        return f"<Study {clean(self.name)}: {len(self.made)} of {self.repeats} runs made, {self.passed} passed>"

    @property
    def wanted(self) -> int:
        """How many runs make it complete: its repeats, or those that it has when they were precise enough."""
        return len(self.made) if self.ended_by is EndedBy.PRECISION else self.repeats

    @property
    def made(self) -> tuple[Run, ...]:
        """The runs that count, passed or not; the others (``NOT_COUNTED``) are made again."""
        return tuple(run for run in self.runs if run.cause not in NOT_COUNTED)

    @property
    def passed(self) -> int:
        """How many runs passed."""
        return sum(run.outcome is Outcome.PASSED for run in self.runs)

    @property
    def causes(self) -> dict[str, int]:
        """Why made runs did not pass: how many by cause, the most frequent first."""
        return dict(Counter(run.cause for run in self.made if run.outcome is not Outcome.PASSED).most_common())

    @property
    def spent_usd(self) -> float | None:
        """What all runs cost together in USD, by meter; None when no run has a cost."""
        known = [run.cost.total_usd for run in self.runs if run.cost.total_usd is not None]
        return sum(known) if known else None

    def shortfall(self) -> VastbenchError | None:
        """What keeps the study from being a success: AccountRefused, StudyIncomplete, StudyFailed when none passed, or None."""
        made = len(self.made)
        if made < self.wanted and self.ended_by is EndedBy.ACCOUNT:
            refused = next((run.detail for run in reversed(self.runs) if run.cause in OF_THE_ACCOUNT), "")
            return AccountRefused(
                f"The study {self.name} was stopped after {made} of {self.repeats} runs, the marketplace refuses the account: "
                f"{refused.rstrip('.')}.",
                hint="Mend that; started again with the same name it goes on.",
            )
        if made < self.wanted:
            last = self.runs[-1] if self.runs else None
            reason = f"; the last run ended with {last.cause}: {last.detail}" if last and last.cause else ""
            reason = "; its time was up" if self.ended_by is EndedBy.TIME else reason
            return StudyIncomplete(
                f"The study {self.name} has {made} of {self.repeats} runs{reason.rstrip('.')}.",
                hint="Started again with the same name it goes on.",
            )
        if self.passed == 0:
            causes = ", ".join(f"{number} × {cause}" for cause, number in self.causes.items())
            return StudyFailed(
                f"None of the {made} runs of the study {self.name} passed: {causes}.", hint="See `vastbench runs`."
            )
        return None

    def to_dict(self) -> dict[str, object]:
        """The study in JSON-ready counts, with the ids of its runs."""
        return {
            "name": self.name,
            "scenario": self.scenario,
            "repeats": self.repeats,
            "conditions": self.conditions,
            "stopping": self.stopping and self.stopping.to_dict(),
            "ended_by": self.ended_by and str(self.ended_by),
            "started_at": self.started_at,
            "made": len(self.made),
            "passed": self.passed,
            "causes": self.causes,
            "spent_usd": self.spent_usd,
            "runs": [run.id for run in self.runs],
        }


def require_passed(runs: Sequence[Run]) -> None:
    """Raise StudyFailed when none of ``runs`` passed, as no figure could rest on them.

    It says how they ended, why, and what to do next. For the last cell of a notebook that a schedule runs.

    Examples
    --------
    >>> vastbench.require_passed([vastbench.load_run("2026-01-02-rtx4090")])
    >>> vastbench.require_passed([])
    Traceback (most recent call last):
    vastbench.errors.StudyFailed: No run was made, so none passed. Ask for at least one.
    """
    if any(run.outcome is Outcome.PASSED for run in runs):
        return
    if not runs:
        raise StudyFailed("No run was made, so none passed.", hint="Ask for at least one.")
    ends = Counter(f"{run.outcome} ({run.cause})" for run in runs).most_common()
    said = ", ".join(f"{number} {end}" for end, number in ends)
    none = "The only run did not pass" if len(runs) == 1 else f"None of the {len(runs)} runs passed"
    raise StudyFailed(
        f"{none}: {said}. The last one: {runs[-1].detail}",
        hint="Run it again with other parameters, or set require_passed to False to look at such runs.",
    )


def check_name(name: str) -> str:
    """``name``, if a study may have it: it becomes part of commands and of files' names. Raises UsageError."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"A study cannot have the name {name[:100]!r}.",
            hint="Use 1 to 80 letters, digits, dots, underscores and hyphens; the first is no dot or hyphen.",
        )
    return name


def check_plan(name: str, repeats: int = 1, workers: int = 1) -> None:
    """Raise UsageError for a name, a number of repeats or a number of workers that no study can have."""
    check_name(name)
    for words, value, most in (("repeats", repeats, MOST_REPEATS), ("workers", workers, MOST_WORKERS)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise UsageError(f"The number of {words} is {value!r}.", hint=f"Give a whole number from 1 to {most}.")


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker is doing: the number of its run (from 1), the phase, and the clock reading since when."""

    run: int
    phase: str
    since: float


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """Where a study stands, at one moment.

    ``made``, ``passed`` and ``spent_usd`` (by meter) count earlier launches too. ``left_s``: real seconds until the end at
    the pace of this launch, None before its first run has ended. ``speed``: clock seconds per real second.
    ``workers``: what each is doing, None for nothing. ``ended``: the run that has just ended, if that is the news. ``widths``:
    how wide the interval is that the study is to know, and how wide it may be, as shares of its middle; None without a rule.
    """

    study: str
    repeats: int
    made: int
    passed: int
    spent_usd: float
    left_s: float | None
    speed: float
    workers: tuple[WorkerStatus | None, ...]
    ended: Run | None = None
    widths: tuple[float, float] | None = None

    @property
    def failed(self) -> int:
        """Made runs that did not pass."""
        return self.made - self.passed


StudyListener = Callable[[StudyProgress], None]
"""Hears of every phase that begins and of every run that ends; one call at a time."""
