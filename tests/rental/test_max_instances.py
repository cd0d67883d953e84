"""At most so many instances at once, whoever rents them: a run waits for its place, and not for ever."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import accumulate

import pytest

from tests.fleet import bench, make_runs, reachable
from tests.profiles import certain
from tests.store.records import lease
from vastbench.bench.workers import run_study
from vastbench.emulator import Emulator
from vastbench.owner import owner
from vastbench.record import conditions
from vastbench.record.conditions import Conditions
from vastbench.record.phases import Outcome, PhaseName

SPEED = 60


@pytest.fixture(scope="module")
def vast(tmp_path_factory):
    with Emulator(certain(tmp_path_factory.mktemp("market")), seed=4, speed=SPEED) as running:
        yield running


@pytest.fixture
def live(vast, tmp_path, monkeypatch):
    """A live bench that allows one instance."""
    reachable(vast, SPEED, monkeypatch)
    with bench(tmp_path, live=True, budget_usd=9, max_instances=1) as opened:
        yield opened


def take_the_place(opened):
    now = datetime.now(UTC)
    dates = {"opened_at": now.isoformat(), "deadline_at": (now + timedelta(minutes=1)).isoformat()}
    opened.store.open_lease(lease("theirs", url=opened.api.url, owner=owner(), **dates))


def test_a_run_waits_for_a_place_and_goes_on_when_one_is_free(live):
    waited = threading.Event()
    searches = []

    def hear(name, phase):
        searches.extend([phase] if name == PhaseName.SEARCH and phase is None else [])
        if len(searches) == 2:  # it found no place the first time
            waited.set()

    take_the_place(live)
    with ThreadPoolExecutor(1) as pool:
        going_on = pool.submit(live.run, None, hear)
        assert waited.wait(30)
        assert [row.label for row in live.store.leases()] == ["theirs"]
        live.store.close_lease("theirs", verdict="destroyed")
        run = going_on.result(60)
    assert run.outcome is Outcome.PASSED
    assert [attempt.outcome for attempt in run.attempts] == [Outcome.PASSED]  # waiting is no attempt


def test_a_run_that_gets_no_place_ends_with_what_is_open_and_what_to_do(live, vast, monkeypatch):
    monkeypatch.setattr(conditions, "CLOSING_RESERVE_S", -50.0)
    take_the_place(live)
    before = len(vast.events)
    run = live.run(Conditions(boot_deadline_s=1, ssh_deadline_s=1))
    assert (run.outcome, run.cause) == (Outcome.CENSORED, "budget")
    assert f"Open leases on {vast.url}: 1; at most 1 instances may exist at once" in run.detail
    assert "--max-instances" in run.detail
    assert not [one for one in vast.events[before:] if one["event"] == "create_effective"]
    live.store.close_lease("theirs", verdict="destroyed")
    assert live.spent_usd == 0


def most_at_once(events):
    """How many instances were alive at once at most, by what truly happened: dates in the store are taken before its locks."""
    changes = {"create_effective": 1, "destroy_effective": -1}
    return max(accumulate(changes.get(one["event"], 0) for one in events))


def test_runs_at_once_take_turns(live, vast):
    runs = make_runs(live, 2, at_once=2)
    assert [run.outcome for run in runs] == [Outcome.PASSED] * 2
    assert len(live.store.leases()) == 2
    assert most_at_once(vast.events) == 1


def test_a_study_has_no_more_workers_than_there_may_be_instances(tmp_path):
    heard = []
    with bench(tmp_path, profile=certain(tmp_path), seed=1, speed=SPEED, study="s", max_instances=1) as opened:
        study = run_study(opened, opened.open_study(2), workers=4, listener=heard.append)
        assert most_at_once(opened.emulator.events) == 1
    assert study.passed == 2
    assert {len(progress.workers) for progress in heard} == {1}
    assert all(len(run.phases) == len(study.runs[0].phases) for run in study.runs)  # none waited for its place
