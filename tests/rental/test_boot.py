"""The bounds of every moment hold the truth: the emulator's own log is the referee."""

import math
from collections import defaultdict

import pytest

from tests.fleet import bench, make_runs
from tests.profiles import certain
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.run import Run

RUNS = 24


GUEST = {
    "container_started": "container_started",
    "onstart_started": "onstart_started",
    "sshd_up": "ssh_open",
    "key_installed": "key_written",
}
"""What the instance's own account names, and what the emulator calls the same event."""


def true_moments(events: list[dict], run: Run) -> dict[str, tuple[float, float]]:
    """The first event of each kind of the run's instance, as (not before, at the latest) in emulated seconds."""
    first: dict[str, tuple[float, float]] = {}
    for event in events:
        # Every run's key reaches every machine of the account; only its own is looked for.
        if event["instance"] == run.resources["instance_id"] and event.get("comment") in (None, f"vastbench-{run.id}"):
            name = event["event"] if event["event"] != "status" else f"status {event['status']}"
            first.setdefault(name, (event["not_before_s"], event["s"]))
            if event["event"] == "status":
                first.setdefault("status any", (event["not_before_s"], event["s"]))
    return first


def measured_moments(run: Run) -> dict[str, Moment]:
    """The run's moments that the emulator knows the truth of, in emulated seconds from the run's start.

    ``guest ssh_open``: when SSH opened by the instance's own account, beside ``ssh_open`` as seen from here.
    """

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
    told = {GUEST[name]: Moment(**readings) for name, readings in run.guest.get("moments", {}).items()}
    return {name: moment for name, moment in found.items() if moment is not None} | {
        f"guest {name}" if name in found else name: moment for name, moment in told.items()
    }


def misses(run: Run, events: list[dict]) -> list[str]:
    """The moments of a run whose bounds do not hold the truth."""
    truth = true_moments(events, run)
    wrong = []
    for name, moment in measured_moments(run).items():
        name = name.removeprefix("guest ")
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


def test_the_truth_lies_within_the_bounds_of_every_moment_of_every_run(measured):
    runs, events = measured
    rented = [run for run in runs if run.resources.get("instance_id")]
    assert [miss for run in rented for miss in misses(run, events)] == []
    assert len(rented) >= 0.8 * RUNS


def test_the_comparison_is_made_for_every_kind_of_moment(measured):
    runs, events = measured
    compared: dict[str, int] = defaultdict(int)
    for run in runs:
        if run.outcome is Outcome.PASSED:
            truth = true_moments(events, run)
            for name in measured_moments(run):
                compared[name] += name.removeprefix("guest ") in truth
    passed = sum(run.outcome is Outcome.PASSED for run in runs)
    assert passed > RUNS / 2
    for name in ("create_effective", "status running", "ssh_open", "ssh_ready", "destroy_effective", "gone"):
        assert compared[name] == passed, name
    # A machine that stood still for two seconds is not believed; on a busy computer that may happen to a few.
    for name in ("container_started", "onstart_started", "guest ssh_open", "key_written"):
        assert compared[name] >= 0.9 * passed, name


def test_the_comparison_would_see_a_moment_outside_its_bounds(measured):
    runs, events = measured
    run = next(run for run in runs if run.outcome is Outcome.PASSED)
    compared = {name.removeprefix("guest ") for name in measured_moments(run)} & true_moments(events, run).keys()
    shifted = [event | {"s": event["s"] + 1000, "not_before_s": event["not_before_s"] + 1000} for event in events]
    assert len(misses(run, shifted)) >= len(compared) >= 6  # more where the instance's own account is believed


def test_the_bounds_are_narrower_than_what_was_waited(measured):
    runs, _ = measured
    for run in runs:
        running = run.phase(PhaseName.WAIT_RUNNING)
        if running and running.end.seen:
            assert math.isfinite(running.upper)
            assert running.end.upper - running.end.lower < running.seconds


def test_in_real_time_the_container_start_is_known_to_a_round_trip(tmp_path):
    quick = tmp_path / "quick.toml"
    quick.write_text(f"""extends = "{certain(tmp_path)}"
about = "A boot of a few seconds"
[boot]
appears = {{ kind = "fixed", value = 1, basis = "assumption" }}
running = {{ kind = "fixed", value = 5, basis = "assumption" }}
reporting_lag = {{ kind = "fixed", value = 2, basis = "assumption" }}
[ssh]
accepts = {{ kind = "fixed", value = 1, basis = "assumption" }}
""")
    with bench(tmp_path, profile=quick, seed=5, speed=1) as opened:
        runs, events = make_runs(opened, 3, at_once=3), opened.emulator.events
        assert [miss for run in runs for miss in misses(run, events)] == []
    for run in runs:
        assert run.guest["trusted"], run.guest["why"]
        started = Moment(**run.guest["moments"]["container_started"])
        lag = run.phase(PhaseName.REPORTING)
        assert started.upper - started.lower < run.guest["rtt_min_s"] + 0.1
        assert lag.start == started
        assert lag.end == run.phase(PhaseName.WAIT_RUNNING).end
        truth = true_moments(events, run)
        (early, late), (begun, started_by) = truth["status running"], truth["container_started"]
        assert lag.lower <= late - begun
        assert early - started_by <= lag.upper


def test_every_tree_adds_up(measured):
    runs, _ = measured
    for run in runs:
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
