"""Runs made by hand, to know what must come out of them."""

from vastbench.record.cost import Cost
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, Phase, PhaseName
from vastbench.record.run import Attempt, Run
from vastbench.scenarios.integration import INTEGRATION

PASSED, FAILED, CENSORED = Outcome


TOP_LEVEL = [name for name, parent in INTEGRATION.timeline.items() if parent is None]
"""The rows of an integration run that add up to its total."""


def made(
    number: int,
    seconds: dict[PhaseName, float],
    *,
    rest: float = 0.0,
    earlier: dict[PhaseName, float] | None = None,
    stopped: PhaseName | None = None,
    outcome: Outcome = PASSED,
    cause: str = "",
    width: float = 0.0,
    cost: Cost | None = None,
) -> Run:
    """A run of phases one after another, in clock seconds.

    ``earlier`` are those of a first try, ``stopped`` is a phase of the last one whose end was never seen, ``rest`` what is
    unattributed; the end of each phase is known within ``width``.
    """
    now, phases = 0.0, []
    tries = [earlier, seconds] if earlier else [seconds]
    for attempt, durations in enumerate(tries, 1):
        for name, duration in durations.items():
            end = Moment.between(now + duration - min(width, duration), now + duration, "poll")
            phases.append(Phase(name, Moment.exact(now), end, attempt=attempt))
            now += duration
    if stopped:
        unseen = Moment.between(now + 600.0, None, "poll")
        phases.append(Phase(stopped, Moment.exact(now), unseen, outcome, attempt=len(tries)))
        now += 600.0
    return Run(
        id=f"run-{number}",
        scenario="integration",
        outcome=outcome,
        cause=cause,
        started_at="2026-01-02T00:00:00+00:00",
        source="emulator",
        phases=tuple(phases),
        attempts=tuple(Attempt(i, outcome if i == len(tries) else FAILED) for i, _ in enumerate(tries, 1)),
        total_s=now + rest,
        cost=cost or Cost(),
    )
