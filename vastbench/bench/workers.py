"""A study: one scenario, repeated under the same conditions until enough runs are made.

::

    announce a run (synced) ── make it ── store it ──┐      N workers, one bench: one polling stream, one set of rate limits
           ▲                                         │
           └──────────── repeats missing ────────────┘

A run that says nothing of a machine (``NOT_COUNTED``) stays in the store and is made again. A study may also end
before its repeats are made: when a quantile is known well enough (see :mod:`vastbench.analysis.stopping`), or its time is up.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING

from vastbench.analysis.stopping import StoppingMonitor
from vastbench.errors import (
    BudgetRefused,
    Interrupted,
    LeaseNotClosed,
    NoOffer,
    StoreError,
    UsageError,
)
from vastbench.interrupts import shield, wait_for
from vastbench.record.conditions import Conditions
from vastbench.record.phases import Outcome, Phase
from vastbench.record.recorder import Listener
from vastbench.record.run import NOT_COUNTED, OF_THE_ACCOUNT, Run
from vastbench.record.study import APART_S, EndedBy, Study, StudyListener, StudyProgress, WorkerStatus, check_plan
from vastbench.scenarios import find_scenario

if TYPE_CHECKING:
    from vastbench.bench.bench import Bench

log = logging.getLogger(__name__)

EMPTY_MARKETS = 3
"""After so many runs in a row that found no offer, the market is taken to have none."""


def run_study(
    bench: Bench, study: Study, *, workers: int = 4, listener: StudyListener | None = None, minutes: float | None = None
) -> Study:
    """Make the repeats that ``study`` lacks, up to ``workers`` at once, and return it as it then stands in the store.

    A complete study is returned as it is. No further run is begun once the study's stopping rule is met, after ``minutes``,
    after a run that was refused for the budget or the account, or after three in a row that found no offer; what is under way
    still ends. The rule that ended it is stored.

    Parameters
    ----------
    bench
        An open bench of this study.
    study
        What ``bench.open_study`` gave.
    workers
        How many runs at once, 1 to 64.
    listener
        Hears of every phase that begins and of every run that ends, as :func:`vastbench.notebook_study_progress`.
    minutes
        Real minutes after which no run is begun.

    Raises
    ------
    UsageError
        An unfit number of workers or minutes.
    LeaseNotClosed
        An instance may still exist.
    StoreError
        The store refuses.
    Interrupted
        It was stopped: runs under way are ended early, their instances destroyed, and they are stored as interrupted.

    Examples
    --------
    >>> with vastbench.Bench(profile="cached", seed=1, speed=20, store="runs.sqlite", study="first") as bench:
    ...     vastbench.run_study(bench, bench.open_study(repeats=2), workers=2)
    <Study first: 2 of 2 runs made, ... passed>
    """
    queue = Queue(study.name, (bench.store.study(study.name),), repeat(study.name, study.repeats - len(study.made)))
    return _make(bench, queue, workers, listener, minutes)[0]


def run_design(
    bench: Bench, *, workers: int = 4, listener: StudyListener | None = None, minutes: float | None = None
) -> tuple[Study, ...]:
    """Make the runs that the design of ``bench`` lacks, block after block, and return its studies as they then stand.

    Every block makes one run of each condition, in random order. It ends as :func:`run_study` does; by its stopping rule once
    all conditions are known well enough.

    Parameters
    ----------
    bench
        An open bench of a design (``Bench(study=vastbench.read_design("gpus.toml"))``).
    workers, listener, minutes
        As of :func:`run_study`.

    Raises
    ------
    UsageError
        A bench without a design, or one that was begun under other conditions.
    LeaseNotClosed, StoreError, Interrupted
        As :func:`run_study`.

    Examples
    --------
    >>> asked = [vastbench.Condition(name, vastbench.Conditions(name)) for name in ("RTX_3090", "RTX_4090")]
    >>> gpus = vastbench.Design("gpus", tuple(asked), repeats=1)
    >>> with vastbench.Bench(profile="cached", seed=1, speed=20, store="runs.sqlite", study=gpus) as bench:
    ...     vastbench.run_design(bench)
    (<Study gpus.RTX_3090: 1 of 1 runs made, ... passed>, <Study gpus.RTX_4090: 1 of 1 runs made, ... passed>)
    """
    studies = bench.open_design()
    order = bench.design.order({study.name: len(study.made) for study in studies})
    return _make(bench, Queue(bench.design.name, studies, order), workers, listener, minutes)


@dataclass(frozen=True, slots=True)
class Queue:
    """What is to be made under ``name``: runs of these ``studies``, in the ``order`` of their names."""

    name: str
    studies: tuple[Study, ...]
    order: Iterable[str]

    @property
    def repeats(self) -> int:
        """How many runs there are to be in the end."""
        return sum(study.repeats for study in self.studies)

    @property
    def made(self) -> int:
        """How many there are."""
        return sum(len(study.made) for study in self.studies)


def _make(bench: Bench, queue: Queue, workers: int, listener: StudyListener | None, minutes: float | None) -> tuple[Study, ...]:
    check_plan(queue.name, workers=workers)
    if minutes is not None and not minutes > 0:
        raise UsageError(f"The study is to end after {minutes} minutes.", hint="Give more than 0.")
    if all(len(study.made) >= study.wanted for study in queue.studies):
        return queue.studies
    if bench.max_instances:
        # Runs that each hold one machine and wait for another's place would wait for each other.
        at_once = max(find_scenario(one.scenario).at_once(Conditions.of(one.conditions)) for one in queue.studies)
        workers = max(1, min(workers, bench.max_instances // at_once))
    crew = Workers(bench, queue, workers, listener or (lambda _: None), minutes)
    if crew.ended_by is None:
        for study in queue.studies:
            bench.store.end_study(study.name, None)
        crew.work()
    return tuple(_ended(bench, study.name, crew.ended_by) for study in queue.studies)


def _ended(bench: Bench, name: str, ended_by: EndedBy | None) -> Study:
    """The study of that name, its end written down and told."""
    study = bench.store.study(name)
    if ended_by is not None:
        if ended_by is not EndedBy.PRECISION and len(study.made) >= study.repeats:
            ended_by = EndedBy.REPEATS  # others may still lack runs
        bench.store.end_study(name, ended_by)
        log.info("The study %s was ended by its %s.", name, ended_by)
        study = replace(study, ended_by=ended_by)
    bench.notifier.study_ended(study)
    return study


class Workers:
    """The workers of one launch and what they have done so far."""

    def __init__(self, bench: Bench, queue: Queue, workers: int, listener: StudyListener, minutes: float | None = None) -> None:
        """Take what they are to make, how many they are, who hears of them, and when to end."""
        self._settled = {study.name: StoppingMonitor(study.stopping, study.made) for study in queue.studies}
        self.ended_by = EndedBy.PRECISION if self._precise else None
        self._until = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self._bench = bench
        self._studies = {study.name: study for study in queue.studies}
        self._order = deque(queue.order)
        self._repeats = queue.repeats
        self._listener = listener
        self._lock = threading.Lock()
        self._enough = False
        self._error: BaseException | None = None
        self._begun = {study.name: len(study.made) for study in queue.studies}
        self._ended = 0
        self._empty_markets = 0
        self._next_begin = bench.clock.now()
        self._started = time.monotonic()
        self._now = StudyProgress(
            study=queue.name,
            repeats=queue.repeats,
            made=queue.made,
            passed=sum(study.passed for study in queue.studies),
            spent_usd=sum(study.spent_usd or 0.0 for study in queue.studies),
            left_s=None,
            speed=bench.clock.speed,
            workers=(None,) * workers,
        )

    def work(self) -> None:
        """Let the workers work until they are done; raises what ended them early."""
        # Events, because a join that a signal has broken takes its thread for ended.
        places = {place: threading.Event() for place in range(min(len(self._now.workers), self._repeats - self._now.made))}
        threads = [
            threading.Thread(target=self._worker, args=(place, ended), name=f"vastbench-worker-{place + 1}", daemon=True)
            for place, ended in places.items()
        ]
        try:
            for thread in threads:
                thread.start()
            for ended in places.values():
                wait_for(ended)
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
                    if not self._order:
                        return
                    study = self._studies[self._order.popleft()]
                    self._begun[study.name] += 1
                    number, shown = self._begun[study.name], sum(self._begun.values())
                    begin = max(self._next_begin, self._bench.clock.now())
                    self._next_begin = begin + APART_S
                self._bench.clock.rest(begin - self._bench.clock.now())
                if self._over():
                    return
                run = self._bench.run_next(study, self._hears(place, shown))
                if run is None:
                    self._leave(study)
                else:
                    self._note(place, number, run)
        except Interrupted as stopped:
            # A stopped bench is known to have stopped; an interruption of its own is news.
            with self._lock:
                if not self._bench.clock.stopping.is_set():
                    self._error = self._error or stopped
        except BaseException as error:  # noqa: BLE001 (raised again by the thread that waits)
            with self._lock:
                self._error = self._error or error
            self._bench.stop()
        finally:
            self._tell(place, None)

    def _leave(self, study: Study) -> None:
        """Others make what is missing of ``study``."""
        with self._lock:
            self._order = deque(name for name in self._order if name != study.name)

    @property
    def _precise(self) -> bool:
        return all(monitor.precise for monitor in self._settled.values())

    def _hears(self, place: int, number: int) -> Listener:
        def listen(name: str, phase: Phase | None) -> None:
            if phase is None:
                self._tell(place, WorkerStatus(number, name, self._bench.clock.now()))

        return listen

    def _tell(self, place: int, doing: WorkerStatus | None) -> None:
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
            made = self._now.made + (run.cause not in NOT_COUNTED)
            if run.cause in NOT_COUNTED:
                self._order.appendleft(run.study)
            self._settled[run.study].add(number, run)
            rules = {
                EndedBy.PRECISION: self._precise,
                EndedBy.REPEATS: made >= self._repeats,
                EndedBy.BUDGET: run.cause == BudgetRefused.cause,
                EndedBy.ACCOUNT: run.cause in OF_THE_ACCOUNT,
            }
            self.ended_by = self.ended_by or next((rule for rule, met in rules.items() if met), None)
            self._enough |= self.ended_by is not None or self._empty_markets >= EMPTY_MARKETS
            rule = self._studies[run.study].stopping
            pace_s = (time.monotonic() - self._started) / self._ended
            self._now = replace(
                self._now,
                made=made,
                passed=self._now.passed + (run.outcome is Outcome.PASSED),
                spent_usd=self._now.spent_usd + (run.cost.total_usd or 0.0),
                left_s=max(0, self._repeats - made) * pace_s,
                widths=None if rule is None else (max(one.width for one in self._settled.values()), rule.width),
                workers=(*self._now.workers[:place], None, *self._now.workers[place + 1 :]),
            )
            self._say(replace(self._now, ended=run))

    def _say(self, news: StudyProgress) -> None:
        try:
            self._listener(news)
        except Exception:
            log.warning("Progress is no longer shown: its listener failed.", exc_info=True)
            self._listener = lambda _: None
