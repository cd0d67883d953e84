"""The failover drill: a machine is lost while it works, and its work goes on elsewhere.

Nobody tells the drill that the machine is lost, nor when: it must notice. What it lost in doing so, in time and in acknowledged
records, is what a user of the marketplace would lose.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace

from vastbench.clock import Clock
from vastbench.errors import CheckFailed, DeadlineExceeded, SshError, VastbenchError
from vastbench.record.acceptance import Criterion
from vastbench.record.conditions import COLD, STANDBY, Conditions
from vastbench.record.cost import HOURS_PER_MONTH
from vastbench.record.formats import counted, dollars, seconds
from vastbench.record.moments import Moment
from vastbench.record.phases import Phase, PhaseName, of_machine, renting, returning
from vastbench.rental.provisioner import Machine
from vastbench.scenarios.drill import Drill, Scenario
from vastbench.scenarios.heartbeat import Beat, Detector, HeartbeatRule, Loss
from vastbench.scenarios.ledger import FOLDER, Acknowledged, Writer, read_back
from vastbench.scenarios.pulse import Pulse, wait_for_loss
from vastbench.scenarios.workspace import Workspace
from vastbench.snapshots import Place, Snapshot, check, kept_in, limit_s, manifest_of, read_manifest, restore, take

REPLACEMENT = "replacement"

HEDGED = "hedged"
"""The variant in which several replacements are rented, and the first that runs commands is used."""

MANUAL = "manual"
"""The variant of the published report: snapshot, pause, a second GPU, restore. The operator decides: nothing is detected."""

MAKE = "make workspace"
"""Script sent → the files that the work needs are there."""

START_WORK = "start work"
"""Workload begun → its first records are acknowledged."""

FIRST_SNAPSHOT = "first snapshot"
"""Asked for → whole, read back and verified."""

WORK = "work until lost"
"""First snapshot whole → last record acknowledged by the machine that is lost."""

LOST_WORK = "work that was lost"
"""Last record in the last whole snapshot acknowledged → last record of all acknowledged: the recovery point."""

PAUSE = "pause"
"""The operator's stop sent → the status says that the machine does not run: in place of a loss and its notice."""

NOTICE = "notice the loss"
"""Last record acknowledged → the machine is known to be lost, which it is since some moment in between."""

RESTORE = "restore"
"""Replacement runs commands → it has the last whole snapshot, compared file by file."""

RESUME = "resume writing"
"""Restored → the first record after the loss is acknowledged."""

STEADY = 5
"""So many acknowledged records are a steady state."""

STEADY_S = 60.0
"""Clock seconds in which a steady state must be reached."""

LOST_WITHIN_S = (20.0, 120.0)
"""Clock seconds from the first snapshot on, within which the machine is lost."""

PAUSED_WITHIN_S = 120.0
"""Clock seconds within which the status must say that a machine was stopped."""

SILENT_S = 5.0
"""Clock seconds for which a paused machine must leave a command unanswered."""

NEVER_LOST_S = 600.0
"""Clock seconds that the drill waits for the loss."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A whole snapshot and the last record in it."""

    snapshot: Snapshot
    last: int


class Saver(threading.Thread):
    """Keeps the work while its block runs, each snapshot on top of the one before.

    The next begins early enough to be whole when the last record of the one before is ``interval_s`` old, if it takes as long.
    """

    def __init__(self, machine: Machine, writer: Writer, place: Place, clock: Clock, interval_s: float) -> None:
        """Take the machine and its writer; nothing is saved yet."""
        super().__init__(name="vastbench-saver", daemon=True)
        self._machine, self._writer, self._place = machine, writer, place
        self._clock, self._interval_s = clock, interval_s
        self._over, self._due = threading.Event(), 0.0
        self.saved: list[Saved] = []

    def save(self) -> Saved:
        """Take a snapshot now. Raises what taking one does, and ConnectionLost when the machine is lost."""
        begun, last = self._clock.now(), self._writer.close_file()
        parent = self.saved[-1].snapshot if self.saved else None
        try:
            self.saved.append(Saved(take(self._machine.session, FOLDER, self._place, parent), last))
        finally:
            took = self._clock.now() - begun
            self._due = begun + max(self._interval_s - took, self._interval_s / 2)
        return self.saved[-1]

    def run(self) -> None:
        """The thread's work; a snapshot that fails is not made, and what it would have held is lost if the machine is."""
        while not self._clock.wait(self._over, self._due - self._clock.now()):
            try:
                self.save()
            except VastbenchError:
                if not self._machine.session.alive:
                    return

    def __enter__(self) -> Saver:
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Begin no other; one that is under way on a lost machine is not waited for."""
        self._over.set()


def run(drill: Drill) -> None:
    """Work on one machine, lose it, notice that, restore on another, and work on.

    Raises CheckFailed when the work was not steady before, came back wrong or was never lost, and what SSH raises.
    """
    with kept_in(drill.conditions.place) as place, _machines(drill) as (first, replacing):
        before = _lose(drill, first, place)
        with replacing as second:
            restored, first_write = _recover(drill, second, place, before.saved)
            _report(drill, before, restored, first_write)


@contextmanager
def _machines(drill: Drill) -> Iterator[tuple[Machine, AbstractContextManager[Machine]]]:
    """The first machine, and what has the second: it is rented then, or has been there from the start."""
    conditions = drill.conditions
    if conditions.variant == STANDBY:
        with drill.rent_all() as (first, standby):
            usd_per_hour = standby.offer.usd_per_hour(conditions.disk_gb)
            drill.checks[STANDBY] = {
                "says": f"a second machine was kept ready from the start, at {dollars(usd_per_hour)}/h: "
                f"{dollars(usd_per_hour * HOURS_PER_MONTH)} a month",
                "usd_per_hour": usd_per_hour,
            }
            yield first, nullcontext(standby)
    else:
        with drill.rent() as first:
            yield first, drill.rent_raced(REPLACEMENT)


@dataclass(frozen=True, slots=True)
class Before:
    """What is known of the machine that was lost: the last snapshot, what it acknowledged, and when it was lost.

    ``kept``: the last record that the snapshot holds. ``snapshots``: how many there were.
    """

    saved: Saved
    written: list[Acknowledged]
    kept: Acknowledged
    loss: Loss
    snapshots: int


def _lose(drill: Drill, machine: Machine, place: Place) -> Before:
    """Work on the machine until it is known to be lost. Raises CheckFailed for work that was never steady and a false alarm."""
    phase, clock, interval_s = drill.recorder.phase, drill.recorder.clock, drill.conditions.interval_s or 0.0
    with phase(MAKE):
        Workspace.of_run(drill.run_id, drill.conditions, FOLDER).make(machine.session, _limit_s(drill.conditions))
    with Writer(machine.session, clock) as writer:
        with phase(START_WORK):
            writer.wait_for(STEADY, timeout_s=STEADY_S)
        saver = Saver(machine, writer, place, clock, interval_s)
        with phase(FIRST_SNAPSHOT):
            saver.save()
        begun, manual = Moment.exact(clock.now()), drill.conditions.variant == MANUAL
        if manual:
            writer.wait_for(len(writer.acknowledged) + 1, timeout_s=STEADY_S)
            loss = _pause(drill, machine)
        else:
            with _losing(drill, machine) as happened, saver:
                loss = _notice(drill, machine, writer)
                # Asked only now: until then nobody tells the drill.
                if not happened():
                    raise CheckFailed(
                        "The machine was given up, and nobody had taken it away: a false alarm.",
                        hint="The way to it may be slow. A longer limit for heartbeats finds losses later.",
                    )
    noticed = Moment.exact(clock.now())
    machine.rental.lost = loss.moment
    saved, written = saver.saved[-1], writer.acknowledged
    kept, last = written[saved.last - 1], Moment.exact(written[-1].received)
    drill.recorder.add(Phase(WORK, begun, last))
    drill.recorder.add(Phase(LOST_WORK, Moment.exact(kept.received), last))
    if not manual:
        drill.recorder.add(Phase(NOTICE, last, noticed))
    return Before(saved, written, kept, loss, len(saver.saved))


def _report(drill: Drill, before: Before, restored: int, first_write: Acknowledged) -> None:
    """Keep what was lost and for how long the work stood still, in numbers and in words."""
    last, start = before.written[-1], drill.recorder.started
    # It was alive when it took the last record that it acknowledged, or answered a heartbeat after that.
    lost_after, lost_before = max(last.sent, before.loss.moment.lower), before.loss.moment.upper
    rto_s, missing = first_write.received - lost_after, last.number - restored
    rpo_s = last.received - before.kept.received
    drill.checks["recovery"] = {
        "says": f"the work went on at most {seconds(rto_s)} after the loss; "
        f"{missing} of {counted(last.number, 'acknowledged record')} are missing: {seconds(rpo_s)} of work"
        + (f"; {before.loss.reason}" if drill.conditions.variant == MANUAL else ""),
        "noticed_by": before.loss.reason,
        "lost_after_s": lost_after - start,
        "lost_before_s": lost_before - start,
        "rto_lower_s": first_write.sent - lost_before,
        "rto_upper_s": rto_s,
        "rpo_s": rpo_s,
        "rpo_records": missing,
        "records": last.number,
        "snapshots": before.snapshots,
    }


def _pause(drill: Drill, machine: Machine) -> Loss:
    """Stop the machine, as its operator does: the loss, which nobody has to notice.

    Raises DeadlineExceeded when its status does not say so, CheckFailed when it runs commands all the same.
    """
    account, clock, instance_id = drill.provisioner.account, drill.recorder.clock, machine.lease.instance_id
    with drill.recorder.phase(PAUSE) as phase:
        stop = account.api.stop_instance(instance_id)
        phase.start = Moment.exact(stop.sent)
        with account.watch.follow(instance_id, stop.sent, clock, machine.lease.label) as following:
            phase.end = following.wait_until(
                lambda seen: seen.instance is not None and seen.instance.actual_status != "running",
                deadline=stop.received + PAUSED_WITHIN_S,
                waited_for="status stopped",
            )
    with suppress(SshError, DeadlineExceeded):
        machine.session.run("true", timeout_s=SILENT_S)
        raise CheckFailed(
            f"Instance {instance_id} is paused, and runs commands.", hint="Its work would go on twice: destroy it by hand."
        )
    machine.rental.paused = Moment.between(stop.sent, phase.end.upper, "action")
    return Loss(machine.rental.paused, "its operator paused it; nothing was detected")


@contextmanager
def _losing(drill: Drill, machine: Machine) -> Iterator[Callable[[], bool]]:
    if drill.losing is None:
        raise CheckFailed("Nothing can lose the machine.", hint="Run the drill by a bench: Bench().run(scenario='failover').")
    with drill.losing(machine.lease.instance_id, LOST_WITHIN_S) as happened:
        yield happened


def rule_for(speed: float) -> HeartbeatRule:
    """The rule on a clock of that speed: a heartbeat has 0.3 real seconds at least, and silence has to last a real one."""
    usual, period_s = HeartbeatRule(), max(1.0, 0.1 * speed)
    silence_s = max(usual.silence_s, 1.0 * speed)
    return replace(usual, period_s=period_s, timeout_s=3 * period_s, silence_s=silence_s, blind_s=max(usual.blind_s, silence_s))


def _notice(drill: Drill, machine: Machine, writer: Writer) -> Loss:
    """Wait until the machine is known to be lost.

    Raises CheckFailed when it was not, and what broke the work on a machine that is still there.
    """
    clock, lease = drill.recorder.clock, machine.lease
    last = writer.acknowledged[-1]
    detector = Detector(rule_for(clock.speed), Beat(last.sent, last.received))
    with drill.provisioner.account.watch.follow(lease.instance_id, clock.now(), clock, lease.label) as following:
        loss = wait_for_loss(Pulse(machine), following, detector, clock.now() + NEVER_LOST_S)
    if loss is None:
        raise writer.error or CheckFailed("The machine was not lost.", hint="Whatever was to lose it has failed: run it again.")
    return loss


def _recover(drill: Drill, machine: Machine, place: Place, saved: Saved) -> tuple[int, Acknowledged]:
    """Restore the last snapshot on the replacement and work on there: its last record, and the first that it adds."""
    clock = drill.recorder.clock
    with drill.recorder.phase(RESTORE):
        restore(machine.session, saved.snapshot, place, FOLDER)
        found, expected = read_manifest(machine.session, FOLDER), manifest_of(saved.snapshot, place)
        matches = found.digest == expected.digest
        drill.checks[RESTORE] = {"files": found.files, "bytes": found.size_bytes, "matches": matches}
        check(found, expected)
    with drill.recorder.phase(RESUME) as phase:
        last = read_back(machine.session)
        if last != saved.last:
            raise CheckFailed(
                f"The replacement has {last} records, not {saved.last}.", hint="The snapshot does not hold what it should."
            )
        with Writer(machine.session, clock, last=last) as writer:
            first = writer.wait_for(1, timeout_s=STEADY_S)[0]
            phase.end = Moment.between(first.sent, first.received, "ssh")
            writer.wait_for(STEADY, timeout_s=STEADY_S)
    return last, first


def _limit_s(conditions: Conditions) -> float:
    return limit_s(1e6 * (conditions.size_mb or 0.0), conditions.files or 0)


def _work_s(conditions: Conditions) -> float:
    """All but the renting: making the workspace, a first snapshot, the wait for the loss, the restore."""
    return 3 * _limit_s(conditions) + 3 * STEADY_S + NEVER_LOST_S


def recovery_of(variant: str | None) -> dict[str, tuple[str, str]]:
    """The parts of a recovery in drills of that variant, each with the phases with which it begins and ends."""
    return RECOVERY | ({"notice": (PAUSE, PAUSE)} if variant == MANUAL else {})


RECOVERY = {
    "notice": (NOTICE, NOTICE),
    "machine": (of_machine(REPLACEMENT, PhaseName.REGISTER_KEY), of_machine(REPLACEMENT, PhaseName.WAIT_SSH)),
    "unpaid": (of_machine(REPLACEMENT, PhaseName.REGISTER_KEY), of_machine(REPLACEMENT, PhaseName.WAIT_RUNNING)),
    "restore": (RESTORE, RESTORE),
    "resume": (RESUME, RESUME),
}
"""The parts of a recovery, each with the phases with which it begins and ends; ``unpaid``: what is not billed of a machine."""

FAILOVER = Scenario(
    "failover",
    "until work that lost its machine goes on elsewhere, and what of it is missing",
    {
        **renting(),
        MAKE: None,
        START_WORK: None,
        FIRST_SNAPSHOT: None,
        WORK: None,
        LOST_WORK: WORK,
        NOTICE: None,
        PAUSE: None,
        **renting(REPLACEMENT),
        RESTORE: None,
        RESUME: None,
        **returning(REPLACEMENT),
        **returning(),
    },
    ready=RESUME,
    work_s=_work_s,
    run=run,
    machines=("", REPLACEMENT),
    options={"files": 200, "size_mb": 16.0, "place": None, "interval_s": 30.0},
    variants={COLD: {}, HEDGED: {"hedge": 2, "stagger_s": 0.0}, STANDBY: {}, MANUAL: {}},
    acceptance=(
        Criterion("the loss is noticed", 30.0, "s", NOTICE, NOTICE),
        Criterion("a second GPU runs commands", 180.0, "s", *RECOVERY["machine"]),
        Criterion("the work goes on", 300.0, "s", NOTICE, RESUME, stretch=180.0),
        Criterion("the work goes on after a pause", 300.0, "s", PAUSE, RESUME, stretch=180.0),
        Criterion("runs pass", 0.95, "share"),
        Criterion("a run costs, the first machine included", 0.05, "USD"),
    ),
)
