"""Collects the phases of one run as they pass, and says how an error ends one."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace

from vastbench.clock import Clock
from vastbench.errors import BudgetRefused, DeadlineExceeded, Interrupted, LeaseNotClosed, VastbenchError, interruption_in
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, Phase, Timeline, of_machine, renting, returning

Listener = Callable[[str, Phase | None], None]
"""Hears of a phase's begin (phase None) and of its end."""


class Recorder:
    """Collects the phases of one run, and tells a listener as they begin and end.

    ``listener(name, phase)`` is called with None when a phase begins and with the phase when it ends; it draws progress.
    An exception that it raises ends the phase like any other.
    """

    def __init__(self, clock: Clock, listener: Listener | None = None, timeline: Timeline | None = None) -> None:
        """Start the run's clock now. ``timeline``: the phases that there may be; by default, those of renting alone."""
        self.clock = clock
        self.machine = ""
        self.attempt = 1
        self.tries: list[int] = []
        self.phases: list[Phase] = []
        self.started = clock.now()
        self._timeline = {**renting(), **returning()} if timeline is None else timeline
        self._listener = listener
        self._numbers = itertools.count(1)

    def of_machine(self, machine: str, clock: Clock) -> Recorder:
        """A recorder of one try at a machine, which is waited for by ``clock``: its phases carry the machine's name, its
        attempts (``tries``) are its own."""
        if not machine and clock is self.clock:
            return self
        one = copy(self)
        one.machine, one.clock, one.tries = machine, clock, []
        return one

    def begin_attempt(self) -> None:
        """Number what follows as another attempt to rent; no other of the run, on whatever machine, has its number."""
        self.attempt = next(self._numbers)
        self.tries.append(self.attempt)

    def add(self, phase: Phase) -> Phase:
        """Keep a finished phase under the current attempt and tell the listener. Raises KeyError for one of no timeline."""
        name = of_machine(self.machine, phase.name)
        kept = replace(phase, name=name, attempt=self.attempt, parent=self._timeline[name])
        self.phases.append(kept)
        if self._listener:
            self._listener(kept.name, kept)
        return kept

    @contextmanager
    def phase(self, name: str, start: Moment | None = None) -> Iterator[Open]:
        """Time a phase: the body sets ``.start`` and ``.end``; what it leaves unset is now.

        When the body raises, the phase is kept all the same: censored for a deadline or an interruption, failed for anything
        else, with an end that was never seen, and the error goes on.
        """
        opened, before = Open(start), sys.exception()
        entered = Moment.exact(self.clock.now())
        try:
            if self._listener:
                self._listener(of_machine(self.machine, name), None)
            yield opened
        except BaseException as error:
            last = opened.last_negative if opened.last_negative is not None else self.clock.now()
            begun = opened.start or entered
            end = opened.end or Moment.between(max(last, begun.lower), None, "action")
            self.add(Phase(name, begun, end, outcome_of(error, since=before), detail=summary_of(error)))
            raise
        end = opened.end or Moment.exact(self.clock.now())
        self.add(Phase(name, opened.start or entered, end, opened.outcome, detail=opened.detail, queued_s=opened.queued_s))

    def finish(self) -> float:
        """The run's total until now, in clock seconds."""
        return self.clock.now() - self.started


@dataclass(slots=True)
class Open:
    """A phase that is being timed. ``last_negative``: when its end was last asked for in vain (bounds a censored phase)."""

    start: Moment | None = None
    end: Moment | None = None
    outcome: Outcome = Outcome.PASSED
    detail: str = ""
    last_negative: float | None = None
    queued_s: float = 0.0


def outcome_of(error: BaseException, *, since: BaseException | None = None) -> Outcome:
    """Censored for what stops an observation from outside (deadline, budget, user), failed for everything else.

    ``since``: what was being handled before.
    """
    stopped = isinstance(error, (DeadlineExceeded, BudgetRefused)) or _interrupted(error, since)
    return Outcome.CENSORED if stopped else Outcome.FAILED


def cause_of(error: BaseException) -> str:
    """The short name under which a failed or censored run files ``error``."""
    if _interrupted(error):
        return Interrupted.cause
    return error.cause if isinstance(error, VastbenchError) else "internal"


def _interrupted(error: BaseException, since: BaseException | None = None) -> bool:
    """Whether the user or the system stopped it, whatever that broke: a signal may come between a lock and its ``with``.

    That an instance may still bill counts for more.
    """
    return not isinstance(error, LeaseNotClosed) and interruption_in(error, since=since) is not None


def summary_of(error: BaseException, *, with_hint: bool = False) -> str:
    """One line of evidence about ``error``, with its next step if wanted; at most 600 characters."""
    if isinstance(error, VastbenchError):
        text = error.in_full if with_hint else error.message
    elif isinstance(error, Interrupted):
        text = error.message
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:600]
