"""The failover drill: a machine is lost while it works, and its work goes on elsewhere.

Nobody tells the drill that the machine is lost, nor when: it must notice. What it lost in doing so, in time and in acknowledged
records, is what a user of the marketplace would lose.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vastbench.clock import Clock
from vastbench.errors import CheckFailed, DeadlineExceeded, VastbenchError
from vastbench.record.moments import Moment
from vastbench.record.phases import Phase, renting, returning
from vastbench.rental.provisioner import Machine
from vastbench.scenarios.drill import Drill, Scenario
from vastbench.scenarios.ledger import FOLDER, Acknowledged, Writer, read_back
from vastbench.snapshots import LocalPlace, Place, Snapshot, read_manifest, restore, take

REPLACEMENT = "replacement"

START_WORK = "start work"
"""Workload begun → its first records are acknowledged."""

FIRST_SNAPSHOT = "first snapshot"
"""Asked for → whole, read back and verified."""

WORK = "work until lost"
"""First snapshot whole → last record acknowledged by the machine that is lost."""

LOST_WORK = "work that was lost"
"""Last record in the last whole snapshot acknowledged → last record of all acknowledged: the recovery point."""

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

INTERVAL_S = 30.0
"""Clock seconds from one snapshot to the next."""

LOST_WITHIN_S = (20.0, 120.0)
"""Clock seconds from the first snapshot on, within which the machine is lost."""

WORK_S = 900.0
"""Clock seconds that all but the renting may take."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A whole snapshot and the last record in it."""

    snapshot: Snapshot
    last: int


class Saver(threading.Thread):
    """Takes a snapshot of the work every ``INTERVAL_S``, each on top of the one before, while its block runs."""

    def __init__(self, machine: Machine, writer: Writer, place: Place, clock: Clock) -> None:
        """Take the machine and its writer; nothing is saved yet."""
        super().__init__(name="vastbench-saver", daemon=True)
        self._machine, self._writer, self._place, self._clock = machine, writer, place, clock
        self._over = threading.Event()
        self.saved: list[Saved] = []

    def save(self) -> Saved:
        """Take a snapshot now. Raises what taking one does, and ConnectionLost when the machine is lost."""
        last = self._writer.close_file()
        parent = self.saved[-1].snapshot if self.saved else None
        self.saved.append(Saved(take(self._machine.session, FOLDER, self._place, parent), last))
        return self.saved[-1]

    def run(self) -> None:
        """The thread's work; a snapshot that fails is not made, and what it would have held is lost if the machine is."""
        due = self._clock.now() + INTERVAL_S
        while not self._clock.wait(self._over, due - self._clock.now()):
            due += INTERVAL_S
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
    clock = drill.recorder.clock
    with tempfile.TemporaryDirectory(prefix="vastbench-") as folder, drill.rent() as first:
        place = LocalPlace(folder)
        with Writer(first.session, clock, limit_s=WORK_S) as writer:
            with drill.recorder.phase(START_WORK):
                writer.wait_for(STEADY, timeout_s=STEADY_S)
            saver = Saver(first, writer, place, clock)
            with drill.recorder.phase(FIRST_SNAPSHOT):
                saver.save()
            begun = Moment.exact(clock.now())
            with _losing(drill, first) as happened, saver:
                lost = _notice(drill, writer)
                # Asked only now: until then nobody tells the drill.
                if not happened():
                    raise CheckFailed(
                        "The machine was given up, and nobody had taken it away: a false alarm.",
                        hint="The way to it may be slow. A longer limit for heartbeats finds losses later.",
                    )
        first.rental.lost = True
        noticed = Moment.exact(clock.now())
        saved, written = saver.saved[-1], writer.acknowledged
        kept = next(one for one in reversed(written) if one.number <= saved.last)
        last = Moment.exact(written[-1].received)
        drill.recorder.add(Phase(WORK, begun, last))
        drill.recorder.add(Phase(LOST_WORK, Moment.exact(kept.received), last))
        drill.recorder.add(Phase(NOTICE, last, noticed))
        with drill.rent(REPLACEMENT) as second:
            first_write = _recover(drill, second, place, saved)
            drill.checks["recovery"] = {
                "lost_after_s": lost.lower - drill.recorder.started,
                "lost_before_s": lost.upper - drill.recorder.started,
                "rto_lower_s": first_write.sent - lost.upper,
                "rto_upper_s": first_write.received - lost.lower,
                "rpo_s": written[-1].received - kept.received,
                "rpo_records": written[-1].number - saved.last,
                "records": written[-1].number,
                "snapshots": len(saver.saved),
            }


@contextmanager
def _losing(drill: Drill, machine: Machine) -> Iterator[Callable[[], bool]]:
    if drill.losing is None:
        raise CheckFailed("Nothing can lose the machine.", hint="Run the drill by a bench: Bench().run(scenario='failover').")
    with drill.losing(machine.lease.instance_id, LOST_WITHIN_S) as happened:
        yield happened


def _notice(drill: Drill, writer: Writer) -> Moment:
    """Wait until the machine is known to be lost: when it was. Raises DeadlineExceeded when that does not happen."""
    clock = drill.recorder.clock
    give_up = clock.now() + WORK_S
    while clock.now() < give_up:
        clock.rest(1.0)
        silent = writer.outstanding is not None and clock.now() - writer.outstanding > 15
        if writer.error is not None or silent:
            last = writer.acknowledged[-1]
            return Moment(last.sent, last.received, clock.now(), clock.now(), "ssh")
    raise DeadlineExceeded("The machine was not lost.", waited_for="the loss", last_seen="it works", hint="Look at it.")


def _recover(drill: Drill, machine: Machine, place: Place, saved: Saved) -> Acknowledged:
    """Restore the last snapshot on the replacement and work on there: the first record that it acknowledges."""
    clock = drill.recorder.clock
    with drill.recorder.phase(RESTORE):
        restore(machine.session, saved.snapshot, place, FOLDER)
        found = read_manifest(machine.session, FOLDER)
        matches = found.digest == saved.snapshot.manifest_sha256
        drill.checks["restore"] = {"phase": RESTORE, "files": found.files, "bytes": found.size_bytes, "matches": matches}
        if not matches:
            raise CheckFailed("The replacement does not have what was saved.", hint="Do not use this machine.")
    with drill.recorder.phase(RESUME) as phase:
        last = read_back(machine.session)
        if last != saved.last:
            raise CheckFailed(
                f"The replacement has {last} records, not {saved.last}.", hint="The snapshot does not hold what it should."
            )
        with Writer(machine.session, clock, last=last, limit_s=WORK_S) as writer:
            first = writer.wait_for(1, timeout_s=STEADY_S)[0]
            phase.end = Moment.between(first.sent, first.received, "ssh")
            writer.wait_for(STEADY, timeout_s=STEADY_S)
    return first


FAILOVER = Scenario(
    "failover",
    "until work that lost its machine goes on elsewhere, and what of it is missing",
    {
        **renting(),
        START_WORK: None,
        FIRST_SNAPSHOT: None,
        WORK: None,
        LOST_WORK: WORK,
        NOTICE: None,
        **renting(REPLACEMENT),
        RESTORE: None,
        RESUME: None,
        **returning(REPLACEMENT),
        **returning(),
    },
    ready=RESUME,
    work_s=WORK_S,
    run=run,
    machines=("", REPLACEMENT),
)
