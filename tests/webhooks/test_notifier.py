"""Whoever has news waits for nobody, whatever is wrong with who is to be told."""

import logging
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from tests.fleet import bench
from tests.profiles import certain
from tests.webhooks.receiver import SECRET, receiving
from vastbench.bench.workers import run_study
from vastbench.bundled import shared
from vastbench.errors import BudgetRefused, LeaseNotClosed
from vastbench.io.files import read_run
from vastbench.record.conditions import Conditions
from vastbench.record.lease import LeaseRow
from vastbench.record.phases import Outcome
from vastbench.store import Store
from vastbench.store.outbox import DELIVERED, PENDING, Outbox
from vastbench.webhooks import Event, Notifier, notifier

SEED = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
NOWHERE = "http://127.0.0.1:1/hook"


@pytest.fixture
def place(tmp_path):
    return tmp_path / "runs.sqlite"


@pytest.fixture
def told(place):
    """Add a receiver to the store that a bench or a notifier will open."""

    def add(url, **more):
        with Store(place) as store:
            return Outbox(store).add(url, SECRET, allow_private=True, **more)

    return add


def on_the_emulator(tmp_path, **settings):
    return bench(tmp_path, profile=certain(tmp_path), seed=1, speed=60, **settings)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "vastbench-webhooks"]


def drop_tables(store):
    with Outbox(store)._transaction() as connection:
        connection.execute(sa.text("DROP TABLE webhook_deliveries"))
        connection.execute(sa.text("DROP TABLE webhook_configs"))


def test_nobody_to_tell_needs_no_thread(place):
    with Store(place) as store, Notifier(store) as nobody:
        assert threads() == []
        nobody.notify(Event.TEST, {})
        nobody.run_ended(SEED)
    with Store(place) as store:
        assert Outbox(store).deliveries() == []


def test_a_study_on_the_emulator_tells_each_thing_once(tmp_path, told):
    with receiving() as receiver:
        told(receiver.url)
        with on_the_emulator(tmp_path, study="first", budget_usd=1.0) as opened:
            study = run_study(opened, opened.open_study(2), workers=2)
            key = opened.emulator.api_key
    (finished,) = receiver.data("study.finished")
    assert finished["study"] == "first"
    assert (finished["made"], finished["passed"], finished["ended_by"]) == (2, 2, "repeats")
    assert finished["spent_usd"] == pytest.approx(study.spent_usd)
    ended = {data["run"]: data for data in receiver.data("run.finished")}
    assert len(receiver.ids) == len(set(receiver.ids)) == 3
    for run in study.runs:
        data = ended.pop(run.id)
        assert (data["study"], data["outcome"], data["cause"]) == ("first", "passed", None)
        assert data["total_s"] == pytest.approx(run.total_s)
        assert 0 < data["useful_s"] < data["total_s"]
        assert data["cost_usd"] == pytest.approx(run.cost.total_usd)
        assert data["gpu_name"] == "RTX 4090"
    assert ended == {}
    assert key not in str(receiver.payloads)
    assert threads() == []


def test_a_run_that_fails_is_told_with_its_cause(tmp_path, told):
    with receiving() as receiver:
        told(receiver.url, events=["run.failed"])
        with on_the_emulator(tmp_path) as opened:
            run = opened.run(Conditions(max_usd_per_hour=0.001))
    (data,) = receiver.data("run.failed")
    assert (data["run"], data["cause"], data["outcome"]) == (run.id, "no_offer", "failed")
    assert "0.001" in data["detail"]
    assert data["useful_s"] is None


def test_a_hanging_receiver_does_not_delay_a_run_and_is_tried_again_later(tmp_path, told, place):
    with receiving(500, hold=True) as receiver:
        told(receiver.url)
        with on_the_emulator(tmp_path) as opened:
            opened.notifier.notify(Event.TEST, {})
            assert receiver.came.wait(20)
            run = opened.run()
            assert run.outcome is Outcome.PASSED
            assert not receiver.free.is_set()
        receiver.free.set()
        for thread in threads():
            thread.join(20)
        with Store(place) as store:
            outbox = Outbox(store)
            assert {one.event: one.state for one in outbox.deliveries()} == {"test": PENDING, "run.finished": PENDING}
            outbox.hasten(datetime.now(UTC))
            with Notifier(store):
                pass
            assert {one.event: one.state for one in outbox.deliveries()} == {"test": DELIVERED, "run.finished": DELIVERED}
    assert len(receiver.ids) == 3
    assert len(set(receiver.ids)) == 2


def test_a_run_passes_with_a_dead_receiver_and_leaves_the_rest_pending(tmp_path, told, place):
    told(NOWHERE)
    with on_the_emulator(tmp_path) as opened:
        assert opened.run().outcome is Outcome.PASSED
    with Store(place) as store:
        (one,) = Outbox(store).deliveries()
    assert (one.event, one.state) == ("run.finished", PENDING)
    assert "refused" in one.last_error


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_run_passes_without_the_tables_and_it_is_said_once(tmp_path, told, place, caplog, when):
    told("https://127.0.0.1:1/canary-token")
    if when == "before":
        with Store(place) as store:
            drop_tables(store)
    with caplog.at_level(logging.WARNING), on_the_emulator(tmp_path) as opened:
        if when == "meanwhile":
            drop_tables(opened.store)
        for number in range(3):
            opened.notifier.notify(Event.TEST, {"number": number})
        run = opened.run()
        assert run.outcome is Outcome.PASSED
        assert opened.store.run(run.id) == run
    said = [record.getMessage() for record in caplog.records if "told" in record.getMessage()]
    assert len(said) == 1
    assert "webhook" in said[0]
    assert SECRET not in caplog.text
    assert "canary" not in caplog.text


def test_more_news_than_the_queue_holds_are_dropped_not_waited_for(told, place, monkeypatch, caplog):
    monkeypatch.setattr(notifier, "MOST_QUEUED", 3)
    with receiving(hold=True) as receiver:
        told(receiver.url)
        with Store(place) as store:
            with Notifier(store) as full:
                full.notify(Event.TEST, {"number": 0})
                assert receiver.came.wait(20)
                for number in range(1, 10):
                    full.notify(Event.TEST, {"number": number})
            receiver.free.set()
            for thread in threads():
                thread.join(20)
            assert len(Outbox(store).deliveries()) == 4
    assert caplog.text.count("Not everybody is told") == 1


def test_news_that_cannot_be_told_harm_nothing(told, place, caplog):
    with receiving() as receiver:
        told(receiver.url)
        with Store(place) as store, Notifier(store) as teller:
            teller.notify(Event.TEST, {"x": float("nan")})
            teller.notify(Event.TEST, {"x": object()})
            teller.notify(Event.TEST, lambda: 1 / 0)
            teller.run_ended(None)
            teller.notify(Event.TEST, {"x": 1})
    assert receiver.data("test") == [{"x": 1}]


def test_an_instance_that_may_still_exist_is_told_with_its_lease(told, place):
    opened_at, deadline_at = "2026-01-01T00:00:00+00:00", "2026-01-01T01:00:00+00:00"
    lease = LeaseRow("vb-1", SEED.id, 1, "http://127.0.0.1", 7001, 0.2, opened_at, deadline_at)
    with receiving() as receiver:
        told(receiver.url)
        with Store(place) as store, Notifier(store) as teller:
            store.open_lease(replace(lease, instance_id=42, state="held", verdict="leaked"))
            store.open_lease(replace(lease, label="vb-2", run_id="another"))
            teller.run_ended(replace(SEED, outcome=Outcome.FAILED, cause=LeaseNotClosed.cause))
    assert sorted(receiver.types()) == ["lease.leaked", "run.failed"]
    (data,) = receiver.data("lease.leaked")
    assert (data["label"], data["instance_id"], data["verdict"]) == ("vb-1", 42, "leaked")
    assert "destroy it" in data["hint"]


def test_a_budget_is_told_at_each_threshold_once(told, place):
    refused = replace(SEED, cause=BudgetRefused.cause)
    with receiving() as receiver:
        told(receiver.url)
        with Store(place) as store, Notifier(store) as teller:
            for spent_usd in (0.1, 0.79, 0.8, 0.9):
                teller.spent(1.0, spent_usd, SEED)
            teller.spent(1.0, 0.95, refused)
            teller.spent(1.0, 1.0, SEED)
    told_of = sorted((data["threshold"], data["spent_usd"], data["refused"]) for data in receiver.data("budget.threshold"))
    assert told_of == [(0.8, 0.8, False), (1.0, 0.95, True)]
