"""What a launch finds of earlier ones: runs that died, leases of dead emulators, money spent, draws already made."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from vastbench.bench.launches import launch_seed, record_killed_runs, spent_at_most_usd
from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.owner import owner
from vastbench.record.cost import Bill, Cost, at_most_usd
from vastbench.record.lease import LeaseRow
from vastbench.record.phases import Outcome
from vastbench.rental.reap import close_after_dead_emulators
from vastbench.store import Store

RUN = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
CONDITIONS = {"gpu_name": "RTX 4090", "source": "live"}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "runs.sqlite") as opened:
        opened.open_study("s", scenario="integration", repeats=5, conditions=CONDITIONS)
        yield opened


@pytest.fixture(scope="module")
def dead():
    """The owner that a process was that has ended."""
    code = "import json; from vastbench.owner import owner; print(json.dumps(owner(emulator=True)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def lease(label, whose, **changes):
    known = {"opened_at": "2026-01-01T00:00:00+00:00", "deadline_at": "2026-01-01T00:30:00+00:00", "state": "held"}
    return LeaseRow(label, "r1", 1, "https://vast.example", 7001, 0.2, owner=whose, **(known | changes))


def test_a_run_whose_process_died_is_stored_as_killed(store, dead):
    assert store.announce_run("s", "r1", dead)
    store.open_lease(lease("vb-1", dead, instance_id=11))
    (run,) = record_killed_runs(store, store.study("s"))
    assert store.runs() == [run]
    assert (run.outcome, run.cause, run.phases, run.total_s) == (Outcome.CENSORED, "killed", (), None)
    assert (run.study, run.source, run.conditions) == ("s", "live", CONDITIONS)
    assert (run.resources["instance_id"], run.cost.total_usd) == (11, None)
    assert str(dead["pid"]) in run.detail
    assert store.unfinished("s") == []
    assert record_killed_runs(store, store.study("s")) == []


def test_runs_of_the_living_and_of_other_hosts_are_left_alone(store, dead):
    store.announce_run("s", "mine", owner())
    store.announce_run("s", "far", dead | {"host": "elsewhere"})
    assert record_killed_runs(store, store.study("s")) == []
    assert {one.run_id for one in store.unfinished("s")} == {"mine", "far"}


def test_only_leases_in_emulators_that_died_are_closed(store, dead):
    store.open_lease(lease("inside", dead))
    store.open_lease(lease("live", dead | {"emulator": False}))
    store.open_lease(lease("old", {name: value for name, value in dead.items() if name != "emulator"}))
    store.open_lease(lease("alive", owner(emulator=True)))
    assert close_after_dead_emulators(store) == 1
    closed = {row.label: row for row in store.leases() if row.state == "closed"}
    assert set(closed) == {"inside"}
    assert closed["inside"].verdict == "already gone"
    assert closed["inside"].note
    assert closed["inside"].closed_at


def test_the_first_launch_has_the_seed_and_later_launches_draw_anew():
    assert launch_seed(7, 0) == 7
    later = [launch_seed(7, number) for number in range(1, 500)]
    assert len({7, *later}) == 500
    assert later == [launch_seed(7, number) for number in range(1, 500)]
    assert launch_seed(8, 3) != launch_seed(7, 3)
    assert launch_seed(None, 3) is None


def test_the_upper_bound_is_that_of_the_meters_or_the_naive_cost():
    assert Cost(gpu_usd=0.01, gpu_upper_usd=0.02, storage_usd=0.001, naive_usd=0.5).at_most_usd == 0.021
    assert Cost(naive_usd=0.5).at_most_usd == 0.5
    assert Cost().at_most_usd is None


def test_what_was_charged_counts_where_it_is_more_than_the_meters_say():
    cost, bill = Cost(gpu_usd=0.01, gpu_upper_usd=0.02), Bill(total_usd=0.03, rounding_usd=0.0005)
    assert at_most_usd(cost, bill) == 0.0305
    assert at_most_usd(cost, replace(bill, total_usd=0.01)) == 0.02  # of what may not have all come
    assert at_most_usd(cost, Bill()) == 0.02
    assert at_most_usd(Cost(), bill) is None  # nor does it bound what a killed run cost


def test_money_spent_is_the_meters_upper_bound_or_the_leases_worst_case():
    closed = {"state": "closed", "closed_at": "2026-01-01T00:30:00+00:00"}
    never = lease("vb-2", {}, verdict="never created", **closed)
    leases = [lease("vb-1", {}, verdict="destroyed", **closed), never]  # half an hour at 0.2 $/h, four times as fast
    metered = {"m": 0.021, "i": 0.5, "r1": None, "n": None}
    assert spent_at_most_usd(metered, leases, speed=4) == pytest.approx(0.021 + 0.5 + 0.2 * 0.5 * 4)


def test_an_open_lease_counts_at_its_worst_whatever_its_run_has_metered():
    dates = {"opened_at": "2126-01-01T00:00:00+00:00", "deadline_at": "2126-01-01T00:30:00+00:00"}
    leaked = lease("vb-1", {}, verdict="leaked", **dates)
    theirs = replace(lease("vb-2", {}, **dates), run_id="r2")
    assert spent_at_most_usd({"r1": 0.021, "r2": None}, [leaked, theirs], speed=1) == pytest.approx(2 * 0.2 * 0.5)


def test_two_launches_that_begin_at_once_have_different_numbers(store):
    assert [store.begin_launch("s"), store.begin_launch("s"), store.begin_launch("other")] == [0, 1, 0]


def test_a_run_stored_while_it_is_recorded_as_killed_stays_as_it_is(store, dead, monkeypatch):
    study = store.study("s")
    store.announce_run("s", "r1", dead)
    announced = store.unfinished("s")
    store.save_run(replace(RUN, id="r1", study="s"))
    monkeypatch.setattr(store, "unfinished", lambda _: announced)
    record_killed_runs(store, study)
    assert [run.cause for run in store.study("s").runs] == [""]
