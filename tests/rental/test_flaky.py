"""A marketplace where much goes wrong: every run ends with an outcome and a cause, none hangs, none leaks."""

from collections import Counter
from typing import NamedTuple

import pytest

from tests.fleet import bench, make_runs
from vastbench.errors import exit_code_of
from vastbench.record.conditions import Conditions
from vastbench.record.lease import LeaseRow
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.run import Run
from vastbench.vast.models import Instance

RUNS, AT_ONCE, SPEED = 40, 8, 50
CONDITIONS = Conditions(boot_deadline_s=400, ssh_deadline_s=200)


class Flaky(NamedTuple):
    """The runs, the instances still listed after them, and the leases."""

    runs: list[Run]
    left: list[Instance]
    leases: list[LeaseRow]


@pytest.fixture(scope="module")
def flaky(tmp_path_factory):
    with bench(tmp_path_factory.mktemp("flaky"), profile="flaky", seed=3, speed=SPEED) as opened:
        runs = make_runs(opened, RUNS, AT_ONCE, CONDITIONS)
        left = opened.api.list_instances().value
        return Flaky(runs, left, opened.store.leases())


def test_every_run_ends_passed_or_failed_or_censored_with_a_cause(flaky):
    runs = flaky.runs
    assert len(runs) == RUNS
    for run in runs:
        assert (run.outcome is Outcome.PASSED) == (run.cause == "")
        assert run.cause != "internal", run.detail
        assert exit_code_of(run.cause) != 1
    seen = Counter(f"{run.outcome} {run.cause}".strip() for run in runs)
    assert seen["passed"] > 0
    assert len(seen) > 1, f"a flaky market must show more than {seen}"


def test_no_run_outlasts_its_deadlines(flaky):
    for run in flaky.runs:
        for name, deadline in ((PhaseName.WAIT_RUNNING, 400), (PhaseName.WAIT_SSH, 200)):
            phase = run.phase(name)
            if phase is not None and phase.seconds is not None:
                assert phase.lower <= deadline


def test_nothing_leaks(flaky):
    assert flaky.left == []
    still_open = [lease for lease in flaky.leases if lease.state != "closed"]
    assert all(lease.verdict == "unknown" and lease.instance_id is None for lease in still_open), still_open
    created = {run.resources["instance_id"] for run in flaky.runs if run.resources.get("instance_id")}
    assert created <= {lease.instance_id for lease in flaky.leases if lease.verdict in {"destroyed", "already gone"}}


def test_retries_are_attempts_of_their_own(flaky):
    again = [run for run in flaky.runs if len(run.attempts) > 1]
    assert again, "with three offers in ten gone, some run must have tried again"
    for run in again:
        assert [attempt.number for attempt in run.attempts] == list(range(1, len(run.attempts) + 1))
        assert {attempt.cause for attempt in run.attempts[:-1]} <= {"offer_gone", "rate_limited"}
        searches = [phase for phase in run.phases if phase.name == PhaseName.SEARCH]
        assert [phase.attempt for phase in searches] == [attempt.number for attempt in run.attempts]
