"""The hibernation drill: a machine whose work has ended is noticed, saved and given up, and its work is woken on another.

Whether it was idle is judged from all that it has, over a window (:mod:`vastbench.scenarios.idle`). What that judgement must
never do, the drill tries before it relies on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vastbench.errors import CheckFailed
from vastbench.record.acceptance import Criterion
from vastbench.record.conditions import Conditions
from vastbench.record.formats import counted, decimals, seconds
from vastbench.record.moments import Moment
from vastbench.record.phases import PhaseName, of_machine, renting, returning
from vastbench.rental.provisioner import Machine
from vastbench.scenarios.drill import HEDGING, Drill, Scenario
from vastbench.scenarios.idle import PERIOD_S, Gpu, IdleRule, Sample, State, judge
from vastbench.scenarios.usage import Reading, read_sample
from vastbench.scenarios.workspace import Workspace
from vastbench.snapshots import Manifest, Place, Snapshot, check, kept_in, limit_s, manifest_of, read_manifest, restore, take
from vastbench.ssh.session import Session

WOKEN = "woken"
"""The machine on which the work is woken."""

FOLDER = "/workspace/vastbench"

MAKE = "make workspace"
"""Script sent → the files that the work needs are there."""

WORK = "work"
"""Work begun → ended; it keeps a core busy."""

NOTICE_IDLE = "notice idleness"
"""Work ended → the machine is judged idle, by a whole window."""

TRY_RULE = "try the rule"
"""Begun → what is not idle was not judged idle."""

SAVE = "save"
"""Judged idle, and the rule tried → the snapshot is whole."""

ASLEEP = "asleep"
"""Machine confirmed gone → woken on demand: nothing is paid meanwhile."""

RESTORE = "restore"
"""First command sent → the folder has its name on the machine that was rented to wake."""

COMPARE = "compare"
"""Command sent → every file, mode, owner and link is what it was."""

WORK_S = 60.0
"""Clock seconds of work."""

NEVER_IDLE_S = 900.0
"""Clock seconds within which the machine must be judged idle after its work."""

ASLEEP_S = 30.0
"""Clock seconds until the work is woken."""


def run(drill: Drill) -> None:
    """Work, be idle, be noticed, saved and given up; wake, and be whole.

    Raises CheckFailed when the work was not seen or its end never was, when the rule lets something through that is not idle,
    and when what was woken differs; SnapshotError, and what SSH raises.
    """
    with kept_in(drill.conditions.place) as place:
        with drill.rent_raced() as machine:
            before, snapshot = _fall_asleep(drill, machine, place)
        with drill.recorder.phase(ASLEEP):
            drill.recorder.clock.rest(ASLEEP_S)
            if drill.provisioner.account.api.get_instance(machine.lease.instance_id).value is not None:
                raise CheckFailed("The instance that was given up is there again.", hint="Destroy it by hand: it may bill.")
        with drill.rent(WOKEN) as woken:
            with drill.recorder.phase(RESTORE):
                restore(woken.session, snapshot, place, FOLDER)
            with drill.recorder.phase(COMPARE):
                check(read_manifest(woken.session, FOLDER), before)
        _report(drill)


@dataclass(slots=True)
class Looks:
    """The looks at one machine so far."""

    session: Session
    gpus: int
    samples: list[Sample]
    last: Reading | None = None

    def look(self, drill: Drill) -> None:
        """Look once more."""
        sample, self.last = read_sample(self.session, drill.recorder.clock.now, self.gpus, self.last)
        self.samples.append(sample)


def _fall_asleep(drill: Drill, machine: Machine, place: Place) -> tuple[Manifest, Snapshot]:
    """Work on the machine until it is judged idle, and save it: what the workspace was, and the snapshot of it."""
    phase, clock, session = drill.recorder.phase, drill.recorder.clock, machine.session
    rule, looks = IdleRule(), Looks(session, machine.offer.num_gpus or 1, [])
    limit = _limit_s(drill.conditions)
    with phase(MAKE):
        Workspace.of_run(drill.run_id, drill.conditions, FOLDER).make(session, limit)
    with phase(WORK):
        session.run("nohup sh -c 'while :; do :; done' >/dev/null 2>&1 & echo $! > /tmp/vastbench.work")
        until = clock.now() + WORK_S
        while clock.now() < until:
            looks.look(drill)
            clock.rest(PERIOD_S)
        looks.look(drill)
        seen = judge(looks.samples, rule, clock.now())
        if seen.state is not State.BUSY:
            raise CheckFailed(
                f"The work was not seen: the machine is judged {seen.state}, because {seen.reason}.",
                hint="A rule that does not see work would hibernate it.",
            )
        session.run("kill $(cat /tmp/vastbench.work)")
    ended = clock.now()
    with phase(NOTICE_IDLE) as noticing:
        noticing.start = Moment.exact(ended)
        while (verdict := judge(looks.samples, rule, clock.now())).state is not State.IDLE:
            if clock.now() > ended + NEVER_IDLE_S:
                raise CheckFailed(
                    f"The machine was not judged idle in {NEVER_IDLE_S:g} s: it is {verdict.state}, because {verdict.reason}.",
                    hint="Look at what runs there, or choose another image.",
                )
            clock.rest(looks.samples[-1].at + PERIOD_S - clock.now())
            looks.look(drill)
    with phase(TRY_RULE):
        tried = _try(rule, looks.samples, clock.now())
    with phase(SAVE):
        before = read_manifest(session, FOLDER, timeout_s=limit)
        snapshot = take(session, FOLDER, place, manifest=before)
        check(manifest_of(snapshot, place), before)
    drill.checks["idle"] = {
        "says": f"{verdict.reason}; {counted(len(tried), 'state')} that only look idle were not judged so",
        "tried": tried,
        "samples": len(looks.samples),
    }
    return before, snapshot


def _try(rule: IdleRule, samples: Sequence[Sample], now: float) -> list[str]:
    """Judge what is not idle, made from the samples of a machine that is; raises CheckFailed for what is judged so."""
    window = [one for one in samples if one.at > now - rule.window_s - rule.gap_s]
    *earlier, last = window
    cases = {
        "one sample": ([last], State.UNKNOWN),
        "no samples": ([], State.UNKNOWN),
        "a GPU that cannot be read": ([replace(one, gpus=(Gpu(),) * len(one.gpus)) for one in window], State.UNKNOWN),
        "counters that cannot be read": ([replace(one, cpu_pct=None) for one in window], State.UNKNOWN),
        "a second GPU that works": ([replace(one, gpus=(*one.gpus, Gpu(90.0, 1.0, 2.0))) for one in window], State.BUSY),
        "a GPU that worked a minute ago": (
            [*(one for one in earlier if one.at < now - 60), *(_working(one) for one in window if one.at >= now - 60)],
            State.BUSY,
        ),
        "a loaded model": (
            [replace(one, gpus=tuple(replace(gpu, used_mb=9000.0, total_mb=24000.0) for gpu in one.gpus)) for one in window],
            State.HELD,
        ),
        "a download": ([replace(one, net_bytes_per_s=1e7) for one in window], State.BUSY),
        "looks that stopped": ([one for one in window if one.at < now - rule.gap_s - PERIOD_S], State.UNKNOWN),
    }
    for name, (made, expected) in cases.items():
        found = judge(made, rule, now)
        if found.state is not expected:
            raise CheckFailed(
                f"The idle rule judges {name} as {found.state}, not {expected}: {found.reason}.",
                hint="A pass of this drill would prove nothing: report this.",
            )
    return list(cases)


def _working(sample: Sample) -> Sample:
    return replace(sample, gpus=tuple(replace(gpu, use_pct=90.0) for gpu in sample.gpus))


def _report(drill: Drill) -> None:
    """Keep from which idle time on hibernating pays: the time that is paid for it, before the machine is gone and after."""
    took = {one.name: one.seconds or 0.0 for one in drill.recorder.phases}
    before_s = sum(took[name] for name in (NOTICE_IDLE, TRY_RULE, SAVE, *returning()))
    waking_s = sum(took[name] for name in (f"{WOKEN}: wait SSH", RESTORE, COMPARE))
    ends = {one.name: one.end.upper for one in drill.recorder.phases}
    woken_s = ends[COMPARE] - ends[ASLEEP]  # tries at a machine that came to nothing were waited for, too
    drill.checks["hibernation"] = {
        "says": f"nothing was paid from {seconds(before_s)} after the work's end on; woken and compared in {seconds(woken_s)}; "
        f"by the GPU's meter it pays from {decimals((before_s + waking_s) / 60, 1)} idle minutes on",
        "until_unpaid_s": before_s,
        "wake_s": woken_s,
        "pays_from_s": before_s + waking_s,
    }


def _limit_s(conditions: Conditions) -> float:
    return limit_s(1e6 * (conditions.size_mb or 0.0), conditions.files or 0)


def _work_s(conditions: Conditions) -> float:
    """All that is done on either machine: making, saving, restoring and comparing the workspace, and being idle."""
    return 5 * _limit_s(conditions) + WORK_S + NEVER_IDLE_S + ASLEEP_S


HIBERNATION = Scenario(
    "hibernation",
    "until an idle GPU is noticed, saved and no longer paid, and until its work is awake on another",
    {
        **renting(),
        **dict.fromkeys((MAKE, WORK, NOTICE_IDLE, TRY_RULE, SAVE)),
        **returning(),
        ASLEEP: None,
        **renting(WOKEN),
        **dict.fromkeys((RESTORE, COMPARE)),
        **returning(WOKEN),
    },
    ready=COMPARE,
    work_s=_work_s,
    run=run,
    machines=("", WOKEN),
    options={"files": 200, "size_mb": 16.0, "place": None, **HEDGING},
    acceptance=(
        Criterion("the work wakes", 180.0, "s", of_machine(WOKEN, PhaseName.REGISTER_KEY), COMPARE, stretch=120.0),
        Criterion("nothing is paid any more after the work's end", 1800.0, "s", NOTICE_IDLE, PhaseName.CONFIRM),
        Criterion("runs pass", 0.95, "share"),
        Criterion("hibernating and waking cost, the work included", 0.05, "USD"),
    ),
)
