"""The bounds of every moment hold the truth: the emulator's own log is the referee."""

import math
from collections import defaultdict

import pytest

from tests.fleet import bench, make_runs
from vastbench.run import Run
from vastbench.timing import Moment, Outcome, PhaseName

RUNS = 50


def true_moments(events: list[dict], instance: int) -> dict[str, tuple[float, float]]:
    """The instance's first event of each kind, as (not before, at the latest) in emulated seconds."""
    first: dict[str, tuple[float, float]] = {}
    for event in events:
        if event["instance"] == instance:
            name = event["event"] if event["event"] != "status" else f"status {event['status']}"
            first.setdefault(name, (event["not_before_s"], event["s"]))
            if event["event"] == "status":
                first.setdefault("status any", (event["not_before_s"], event["s"]))
    return first


def measured_moments(run: Run) -> dict[str, Moment]:
    """The run's moments that the emulator knows the truth of, in emulated seconds from the run's start."""

    def end(name: PhaseName) -> Moment | None:
        phase = run.phase(name)
        return phase.end if phase else None

    pull, create, destroy = run.phase(PhaseName.PULL), run.phase(PhaseName.CREATE), run.phase(PhaseName.DESTROY)
    found = {
        "create_effective": Moment.between(create.start.lower, create.end.upper, "action") if create else None,
        "status any": end(PhaseName.ALLOCATE),
        "status loading": pull.start if pull else None,
        "status running": end(PhaseName.WAIT_RUNNING),
        "ssh_open": end(PhaseName.PORT),
        "ssh_ready": end(PhaseName.FIRST_COMMAND),
        "destroy_effective": Moment.between(destroy.start.lower, destroy.end.upper, "action") if destroy else None,
        "gone": end(PhaseName.CONFIRM),
    }
    return {name: moment for name, moment in found.items() if moment is not None}


def misses(run: Run, events: list[dict]) -> list[str]:
    """The moments of a run whose bounds do not hold the truth."""
    truth = true_moments(events, run.resources["instance_id"])
    wrong = []
    for name, moment in measured_moments(run).items():
        if name not in truth:
            if moment.seen:
                wrong.append(f"{run.id}: {name} was measured but never happened")
            continue
        early, late = (reading - run.origin for reading in truth[name])
        if not (moment.lower <= late and early <= moment.upper):
            wrong.append(
                f"{run.id}: {name} happened in [{early:.3f}, {late:.3f}], not in ({moment.lower:.3f}, {moment.upper:.3f}]"
            )
    return wrong


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    with bench(tmp_path_factory.mktemp("bounds"), profile="default", seed=7, speed=20) as opened:
        runs = make_runs(opened, RUNS, at_once=8)
        return runs, list(opened.emulator.events)


def test_the_truth_lies_within_the_bounds_of_every_moment_of_fifty_runs(measured):
    runs, events = measured
    rented = [run for run in runs if run.resources.get("instance_id")]
    assert [miss for run in rented for miss in misses(run, events)] == []
    assert len(rented) >= 0.8 * RUNS


def test_the_comparison_is_made_for_every_kind_of_moment(measured):
    runs, events = measured
    compared: dict[str, int] = defaultdict(int)
    for run in runs:
        if run.outcome is Outcome.PASSED:
            truth = true_moments(events, run.resources["instance_id"])
            for name in measured_moments(run):
                compared[name] += name in truth
    passed = sum(run.outcome is Outcome.PASSED for run in runs)
    assert passed > RUNS / 2
    for name in ("create_effective", "status running", "ssh_open", "ssh_ready", "destroy_effective", "gone"):
        assert compared[name] == passed, name


def test_the_comparison_would_see_a_moment_outside_its_bounds(measured):
    runs, events = measured
    run = next(run for run in runs if run.outcome is Outcome.PASSED)
    shifted = [event | {"s": event["s"] + 1000, "not_before_s": event["not_before_s"] + 1000} for event in events]
    assert len(misses(run, shifted)) >= 6


def test_the_bounds_are_narrower_than_what_was_waited(measured):
    runs, _ = measured
    for run in runs:
        running = run.phase(PhaseName.WAIT_RUNNING)
        if running and running.end.seen:
            assert math.isfinite(running.upper)
            assert running.end.upper - running.end.lower < running.seconds


def test_every_tree_adds_up(measured):
    for run in measured[0]:
        tops = [row.seconds for row in run.rows() if row.depth == 0]
        if None not in tops:
            assert sum(tops) == pytest.approx(run.total_s, abs=1e-6)


def test_nothing_is_left_on_the_marketplace_and_every_lease_is_closed(tmp_path):
    with bench(tmp_path, profile="cached", seed=2, speed=50) as opened:
        make_runs(opened, 4, at_once=4)
        assert opened.api.list_instances().value == []
        assert opened.api.list_ssh_keys().value == []
        assert opened.store.leases(open_only=True) == []
        assert len(opened.store.leases()) >= 4
