"""Waiting for a place of our own is recorded, and no part of what it would pollute."""

import threading
import time

import pytest

from tests.fleet import bench
from tests.profiles import certain
from vastbench.analysis.frames import phases_table, runs_from
from vastbench.record.moments import Moment
from vastbench.record.phases import Phase, PhaseName, tree
from vastbench.ssh import probe

SPEED = 20
HELD_S = 12.0


def test_seconds_leave_the_queue_out_and_the_bounds_keep_it():
    phase = Phase(PhaseName.WAIT_SSH, Moment.exact(10), Moment.between(12, 30, "ssh"), queued_s=8.0)
    assert phase.seconds == 12
    assert (phase.lower, phase.upper) == (2, 20)
    rest = tree([phase], 20.0)[-1]
    assert (rest.name, rest.seconds) == (PhaseName.UNATTRIBUTED, 8.0)


class Taken(threading.BoundedSemaphore):
    """Places that are all taken until ``HELD_S`` clock seconds after the first one is asked for."""

    def __init__(self):
        super().__init__(8)
        self.until_s = None

    def acquire(self, timeout):
        now = time.monotonic()
        self.until_s = self.until_s or now + HELD_S / SPEED
        if now < self.until_s:
            time.sleep(min(timeout, self.until_s - now))
            return False
        return super().acquire(timeout=timeout)


@pytest.fixture(scope="module")
def queued_run(tmp_path_factory):
    """A run that found every place for a handshake taken, for ``HELD_S`` clock seconds after it had asked for one."""
    folder = tmp_path_factory.mktemp("queue")
    taken = Taken()
    with pytest.MonkeyPatch.context() as patch, bench(folder, profile=certain(folder), seed=5, speed=SPEED) as opened:
        patch.setattr(probe, "HANDSHAKES", taken)
        run = opened.run()
        stored = opened.store.run(run.id)
    return run, stored


def test_queueing_for_a_handshake_is_unattributed_and_not_in_the_wait(queued_run):
    run, _ = queued_run
    wait, login = run.phase(PhaseName.WAIT_SSH), run.phase(PhaseName.LOGIN)
    assert wait.queued_s == login.queued_s > HELD_S / 2
    assert run.instrument["ssh_queued_s"] >= wait.queued_s
    assert wait.seconds == pytest.approx(wait.end.upper - wait.start.upper - wait.queued_s)
    assert login.seconds < HELD_S / 2
    assert next(row.seconds for row in run.rows() if row.name == PhaseName.UNATTRIBUTED) >= wait.queued_s
    assert sum(row.seconds for row in run.rows() if row.depth == 0) == pytest.approx(run.total_s)


def test_store_and_table_keep_it(queued_run):
    run, stored = queued_run
    assert stored.phase(PhaseName.WAIT_SSH) == run.phase(PhaseName.WAIT_SSH)
    table = phases_table([run]).set_index("phase")
    assert table.loc["wait SSH", "queued_s"] == run.phase(PhaseName.WAIT_SSH).queued_s
    assert table.loc["wait SSH", "seconds"] == run.seconds(PhaseName.WAIT_SSH)
    (again,) = runs_from(phases_table([run]))
    assert again.seconds(PhaseName.WAIT_SSH) == pytest.approx(run.seconds(PhaseName.WAIT_SSH))


def test_the_status_polls_are_stored_with_the_run_and_end_with_the_boot(queued_run):
    run, stored = queued_run
    polls = run.instrument["sightings"]
    running = run.phase(PhaseName.WAIT_RUNNING).end
    assert polls[-1]["status"] == "running"
    assert polls[-1]["first"] == [running.yes_sent, running.yes_received]
    assert polls[-2]["last"] == [running.no_sent, running.no_received]
    assert sum(spell["polls"] for spell in polls) == run.instrument["polls"]
    assert polls[-1]["last"][1] < run.phase(PhaseName.WAIT_SSH).end.upper
    assert stored.instrument["sightings"] == polls
