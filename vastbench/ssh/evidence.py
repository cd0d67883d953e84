"""From answers to bounds: when did each step of "SSH is ready" become possible? Pure.

What is bounded. The true moment of a step is the first instant from which the machine would have let a try of that step
succeed. It is not the instant at which our try succeeded, and a server that takes long to answer is slow, not unready.

Upper bound: when the step was first seen to succeed. It had become possible by then.

Lower bound: the last failed try, of this step or of one before it, that preceded the success. A step cannot be possible while
one before it is not, so a refused connection also bounds the first command. The bound is the instant at which the failed try
*asked*, because the machine decides at some time after being asked:

- an explicit no inside a living connection (a refused key, a command that exits non-zero) was decided after that request;
- a connection that dies, or never speaks SSH, may have been doomed when it was accepted, so it counts from its ``connect``.

A try that succeeds moves no lower bound: it says nothing about how long success had been waiting. So steps that succeed on
their first try share the bound of the step before, and the very first one has ``since``.

Silence is a weaker no. When a try was given up after L seconds and the same step later took longer than L to succeed, the
silence may have been mere slowness; such tries are no evidence and are left out. The bounds get wider and stay true.

What is assumed: readiness comes in the order of the steps and, once a command has succeeded, was not lost between the last
failure and that success; a refused key is judged when it is offered (OpenSSH reads the key files at each offer).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from vastbench.record.moments import Moment


class Step(StrEnum):
    """The steps to a usable machine, in order, in the words of :class:`vastbench.record.phases.PhaseName`."""

    PORT = "port"
    BANNER = "banner"
    LOGIN = "login"
    FIRST_COMMAND = "first command"


ORDER = {step: place for place, step in enumerate(Step)}
"""The place of each step."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A try that did not get past ``step``; readings in clock seconds.

    ``asked``: the instant before which the machine cannot have decided. ``ended``: when the failure was known. ``silence``: how
    long nothing was heard before we gave up; None when the machine answered, closed or refused.
    """

    step: Step
    asked: float
    ended: float
    symptom: str
    silence: float | None = None


@dataclass(frozen=True, slots=True)
class Success:
    """The first success of a step: when it was asked for, when it was seen, and how long the machine took to answer."""

    asked: float
    seen: float
    took: float


def bounds(since: float, failures: Iterable[Failure], successes: Mapping[Step, Success]) -> dict[Step, Moment]:
    """The moment of every step from what one endpoint showed; a step never seen gets a moment without an upper bound.

    ``since``: a reading at which nothing was known to be ready, the lower bound where no failure gives a better one.
    """
    evidence = [f for f in failures if _proves(f, successes.get(f.step))]
    moments: dict[Step, Moment] = {}
    for step in Step:
        success = successes.get(step)
        no_sent, no_received = since, since
        for failure in evidence:
            before = success is None or failure.asked < success.asked
            if ORDER[failure.step] <= ORDER[step] and before and failure.asked > no_sent:
                no_sent, no_received = failure.asked, failure.ended
        if success is None:
            moments[step] = Moment(no_sent, no_received, None, None, "ssh")
        else:
            moments[step] = Moment(no_sent, no_received, success.asked, success.seen, "ssh")
    return moments


def _proves(failure: Failure, success: Success | None) -> bool:
    return failure.silence is None or success is None or failure.silence >= success.took
