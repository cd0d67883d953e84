"""A study: one scenario, repeated under the same conditions until enough runs are made.

::

    announce a run (synced) ── make it ── store it ──┐      N workers, one bench: one polling stream, one set of rate limits
           ▲                                         │
           └──────────── repeats missing ────────────┘

A run that we ended ourselves (interrupted, killed, out of budget) stays in the store and is made again. A study may also end
before its repeats are made: when a quantile is known well enough (see :mod:`vastbench.analysis.stopping`), or its time is up.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import STOPPED_BY_US
from vastbench.analysis.stopping import Settled
from vastbench.errors import (
    BudgetRefused,
    Interrupted,
    KeyRejected,
    LeaseNotClosed,
    NoOffer,
    StoreError,
    StudyFailed,
    StudyIncomplete,
    UsageError,
    VastbenchError,
)
from vastbench.interrupts import shield
from vastbench.run import Run
from vastbench.timing import Listener, Outcome, Phase, PhaseName

if TYPE_CHECKING:
    from vastbench.analysis.stopping import StoppingRule
    from vastbench.bench import Bench

log = logging.getLogger(__name__)
NAME = re.compile(r"[A-Za-z0-9._-]{1,80}")
MOST_REPEATS, MOST_WORKERS = 100_000, 64

ENOUGH = frozenset({BudgetRefused.cause, KeyRejected.cause})
"""Causes after which another run would end the same way."""

APART_S = 6.0
"""Clock seconds between the beginnings of two runs: the marketplace allows ten searches a minute and a create every 4.5 s, and
a run that queued for its turn would show the queue in its total."""

EMPTY_MARKETS = 3
"""After so many runs in a row that found no offer, the market is taken to have none."""


class EndedBy(StrEnum):
    """The rule that ended a study, or its last sitting."""

    PRECISION = "precision"
    REPEATS = "repeats"
    BUDGET = "budget"
    TIME = "time"


@dataclass(frozen=True)
class Study:
    """One study as it stands in the store, its ``runs`` oldest first.

    ``repeats``: how many runs are wanted. ``conditions``: what every run asked for (see
    :class:`~vastbench.provision.Conditions`), ``source`` (``emulator`` or ``live``) and the emulator's ``profile``.
    ``stopping``: the rule on which it may end before its repeats are made. ``ended_by``: the rule that ended its last sitting;
    None while it goes on, and when no rule did.
    """

    name: str
    scenario: str
    repeats: int
    conditions: dict[str, Any]
    started_at: str
    runs: tuple[Run, ...] = ()
    stopping: StoppingRule | None = None
    ended_by: EndedBy | None = None

    @property
    def wanted(self) -> int:
        """How many runs make it complete: its repeats, or those that it has when they were precise enough."""
        return len(self.made) if self.ended_by is EndedBy.PRECISION else self.repeats

    @property
    def made(self) -> tuple[Run, ...]:
        """The runs that ended by themselves, passed or not; the others were ended by us and are made again."""
        return tuple(run for run in self.runs if run.cause not in STOPPED_BY_US)

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
        """What keeps the study from being a success: StudyIncomplete, StudyFailed when no run passed, or None."""
        made = len(self.made)
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

    def to_dict(self) -> dict[str, Any]:
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

    def __str__(self) -> str:
        """Its counts and the medians of its phases as text."""
        from vastbench.report.text import study_text

        return study_text(self)

    def _repr_html_(self) -> str:
        from vastbench.report.html import study_html

        return study_html(self)


def require_passed(runs: Sequence[Run]) -> None:
    """Raise StudyFailed when none of ``runs`` passed, as there is nothing then that figures could rest on.

    It says how they ended, why, and what to do next.
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


def check_plan(name: str, repeats: int = 1, workers: int = 1) -> None:
    """Raise UsageError for a name, a number of repeats or a number of workers that no study can have."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"The study's name is {name[:100]!r}.", hint="Use 1 to 80 letters, digits, dots, underscores and hyphens."
        )
    for words, value, most in (("repeats", repeats, MOST_REPEATS), ("workers", workers, MOST_WORKERS)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise UsageError(f"The number of {words} is {value!r}.", hint=f"Give a whole number from 1 to {most}.")


@dataclass(frozen=True, slots=True)
class Doing:
    """What a worker is doing: the number of its run (from 1), the phase, and the clock reading since when."""

    run: int
    phase: PhaseName
    since: float


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """Where a study stands, at one moment.

    ``made``, ``passed`` and ``spent_usd`` (by meter) count earlier sittings too. ``left_s``: real seconds until the end at
    the pace of this sitting, None before its first run has ended. ``speed``: clock seconds per real second.
    ``workers``: what each is doing, None for nothing. ``ended``: the run that has just ended, if that is the news.
    """

    study: str
    repeats: int
    made: int
    passed: int
    spent_usd: float
    left_s: float | None
    speed: float
    workers: tuple[Doing | None, ...]
    ended: Run | None = None

    @property
    def failed(self) -> int:
        """Made runs that did not pass."""
        return self.made - self.passed


StudyListener = Callable[[StudyProgress], None]
"""Hears of every phase that begins and of every run that ends; one call at a time."""


def run_study(
    bench: Bench, study: Study, *, workers: int = 4, listener: StudyListener | None = None, minutes: float | None = None
) -> Study:
    """Make the repeats that ``study`` lacks, up to ``workers`` at once, and return it as it then stands in the store.

    ``study`` is what ``bench.open_study`` gave. A complete study is returned as it is. No further run is begun once the
    study's stopping rule is met, after ``minutes`` of real time, after a run that was refused for the budget or the API key, or
    after three in a row that found no offer; what is under way still ends. The rule that ended it is stored. Raises UsageError
    for an unfit number of workers or minutes, LeaseNotClosed when an instance may still exist, StoreError when the store
    refuses, and the interruption that stopped it: then runs under way are ended early, their instances destroyed, and they are
    stored as interrupted.
    """
    check_plan(study.name, study.repeats, workers)
    if minutes is not None and not minutes > 0:
        raise UsageError(f"The study is to end after {minutes} minutes.", hint="Give more than 0.")
    study = bench.store.study(study.name)
    if len(study.made) >= study.wanted:
        return study
    settled = Settled(study.stopping, study.made)
    ended_by = EndedBy.PRECISION if settled.precise else None
    if ended_by is None:
        bench.store.end_study(study.name, None)
        workers = min(workers, bench.max_instances or workers)
        crew = _Crew(bench, study, workers, listener or (lambda _: None), settled, minutes)
        crew.work()
        ended_by = crew.ended_by
    if ended_by is not None:
        bench.store.end_study(study.name, ended_by)
        log.info("The study %s was ended by its %s.", study.name, ended_by)
    study = bench.store.study(study.name)
    bench.notifier.study_ended(study)
    return study


class _Crew:
    """The workers of one sitting and what they have done so far."""

    def __init__(
        self, bench: Bench, study: Study, workers: int, listener: StudyListener, settled: Settled, minutes: float | None
    ) -> None:
        self.ended_by: EndedBy | None = None
        self._settled = settled
        self._until = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self._bench = bench
        self._study = study
        self._listener = listener
        self._lock = threading.Lock()
        self._enough = False
        self._error: BaseException | None = None
        self._begun = len(study.made)
        self._ended = 0
        self._empty_markets = 0
        self._next_begin = bench.clock.now()
        self._started = time.monotonic()
        self._now = StudyProgress(
            study=study.name,
            repeats=study.repeats,
            made=len(study.made),
            passed=study.passed,
            spent_usd=study.spent_usd or 0.0,
            left_s=None,
            speed=bench.clock.speed,
            workers=(None,) * workers,
        )

    def work(self) -> None:
        """Let the workers work until they are done; raises what ended them early."""
        # Events, because a join that a signal has broken takes its thread for ended.
        places = {
            place: threading.Event() for place in range(min(len(self._now.workers), self._study.repeats - self._now.made))
        }
        threads = [
            threading.Thread(target=self._worker, args=(place, ended), name=f"vastbench-worker-{place + 1}", daemon=True)
            for place, ended in places.items()
        ]
        try:
            for thread in threads:
                thread.start()
            for ended in places.values():
                ended.wait()
        except BaseException as stopped:
            with shield():
                self._bench.stop()
                for thread, ended in zip(threads, places.values(), strict=True):
                    if thread.ident is not None:
                        ended.wait()
            if isinstance(self._error, (LeaseNotClosed, StoreError)):
                raise self._error from stopped  # that something may bill, or was not stored, is the graver news
            raise
        if self._error is not None:
            raise self._error

    def _worker(self, place: int, ended: threading.Event) -> None:
        try:
            self._make_runs(place)
        finally:
            ended.set()

    def _make_runs(self, place: int) -> None:
        try:
            while not self._over():
                with self._lock:
                    self._begun += 1
                    number = self._begun
                    begin = max(self._next_begin, self._bench.clock.now())
                    self._next_begin = begin + APART_S
                self._bench.clock.rest(begin - self._bench.clock.now())
                if self._over():
                    return
                run = self._bench.run_next(self._study, self._hears(place, number))
                if run is None:
                    return
                self._note(place, number, run)
        except Interrupted as stopped:
            # Whoever stopped the bench knows why; alone it would be news.
            with self._lock:
                if not self._bench.clock.stopping.is_set():
                    self._error = self._error or stopped
        except BaseException as error:  # noqa: BLE001 (raised again by the thread that waits)
            with self._lock:
                self._error = self._error or error
            self._bench.stop()
        finally:
            self._tell(place, None)

    def _hears(self, place: int, number: int) -> Listener:
        def listen(name: PhaseName, phase: Phase | None) -> None:
            if phase is None:
                self._tell(place, Doing(number, name, self._bench.clock.now()))

        return listen

    def _tell(self, place: int, doing: Doing | None) -> None:
        with self._lock:
            workers = (*self._now.workers[:place], doing, *self._now.workers[place + 1 :])
            self._now = replace(self._now, workers=workers)
            self._say(self._now)

    def _over(self) -> bool:
        """Whether no further run is to begin."""
        with self._lock:
            if not self._enough and time.monotonic() >= self._until:
                self._enough, self.ended_by = True, EndedBy.TIME
            return self._enough

    def _note(self, place: int, number: int, run: Run) -> None:
        """Count a run that has ended and decide whether more are worth making."""
        if run.cause == LeaseNotClosed.cause:
            raise LeaseNotClosed(f"Run {run.id}: {run.detail}")
        if run.cause == StoreError.cause:
            raise StoreError(f"Run {run.id}: {run.detail}")
        with self._lock:
            self._empty_markets = self._empty_markets + 1 if run.cause == NoOffer.cause else 0
            self._ended += 1
            made = self._now.made + (run.cause not in STOPPED_BY_US)
            self._settled.add(number, run)
            rules = {
                EndedBy.PRECISION: self._settled.precise,
                EndedBy.REPEATS: made >= self._study.repeats,
                EndedBy.BUDGET: run.cause == BudgetRefused.cause,
            }
            self.ended_by = self.ended_by or next((rule for rule, met in rules.items() if met), None)
            self._enough |= self.ended_by is not None or run.cause in ENOUGH or self._empty_markets >= EMPTY_MARKETS
            pace_s = (time.monotonic() - self._started) / self._ended
            self._now = replace(
                self._now,
                made=made,
                passed=self._now.passed + (run.outcome is Outcome.PASSED),
                spent_usd=self._now.spent_usd + (run.cost.total_usd or 0.0),
                left_s=max(0, self._study.repeats - made) * pace_s,
                workers=(*self._now.workers[:place], None, *self._now.workers[place + 1 :]),
            )
            self._say(replace(self._now, ended=run))

    def _say(self, news: StudyProgress) -> None:
        try:
            self._listener(news)
        except Exception:
            log.warning("Progress is no longer shown: its listener failed.", exc_info=True)
            self._listener = lambda _: None
