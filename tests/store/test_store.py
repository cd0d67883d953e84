"""The store keeps runs and leases, and says clearly when it cannot."""

import json
import re
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

import vastbench.store
from tests.store.records import SEED, lease
from vastbench.errors import NotFound, SettingsError, StoreError, TooManyInstances, UsageError
from vastbench.io.files import read_run
from vastbench.owner import owner
from vastbench.record.cost import Bill, Charges
from vastbench.store import Store
from vastbench.store.database import HEAD, connect
from vastbench.store.rows import run_row
from vastbench.store.tables import metadata


def test_a_run_is_read_back_as_it_was_written(store):
    run = read_run(SEED)
    store.save_run(run)
    assert store.run(run.id) == run
    assert store.runs() == [run]


def test_what_no_database_takes_is_replaced_and_the_run_is_stored(store):
    hostile = "an \0 and half \ud83d of a pair"
    resources = {"gpu_name": "x" * 300, "price": float("nan"), hostile: [hostile, (float("inf"),)]}
    attempts = tuple(replace(one, detail=hostile) for one in read_run(SEED).attempts)
    store.save_run(replace(read_run(SEED), detail=hostile, resources=resources, attempts=attempts))
    (run,) = store.runs()
    (cleaned,) = {run.detail, *(one.detail for one in run.attempts)}
    assert cleaned.replace("\ufffd", "") == "an  and half  of a pair"
    assert run.resources == {"gpu_name": "x" * 300, "price": None, cleaned: [cleaned, [None]]}
    store.open_lease(lease(note=hostile))
    store.update_lease("vb-1", note=hostile + hostile)
    store.close_lease("vb-1", verdict="destroyed", note=hostile)
    assert store.leases()[0].note == cleaned


def test_a_run_is_found_by_the_beginning_of_its_id_and_as_the_last(store):
    run = read_run(SEED)
    store.save_run(run)
    assert store.run(run.id[:8]).id == run.id
    assert store.run("last").id == run.id


def test_an_ambiguous_or_unknown_name_is_refused(store):
    for number in (1, 2):
        store.save_run(replace(read_run(SEED), id=f"run-{number}"))
    with pytest.raises(NotFound, match="Several"):
        store.run("run-")
    with pytest.raises(NotFound, match="no run"):
        store.run("100%")


def test_an_exact_id_wins_over_a_longer_one(store):
    for name in ("run-1", "run-11"):
        store.save_run(replace(read_run(SEED), id=name))
    assert store.run("run-1").id == "run-1"


def test_a_run_is_never_overwritten(store):
    store.save_run(read_run(SEED))
    with pytest.raises(StoreError):
        store.save_run(read_run(SEED))


def test_the_newest_runs_come_first(store):
    for number in (1, 2, 3):
        store.save_run(replace(read_run(SEED), id=f"r{number}", started_at=f"2026-01-0{number}T00:00:00"))
    assert [run.id for run in store.runs(limit=2)] == ["r3", "r2"]


def test_a_lease_is_open_until_it_is_closed(store):
    store.open_lease(lease())
    assert [row.label for row in store.leases(open_only=True)] == ["vb-1"]
    store.update_lease("vb-1", state="closed", verdict="destroyed")
    assert store.leases(open_only=True) == []
    assert store.leases()[0].verdict == "destroyed"


def test_changing_a_lease_that_is_not_there_is_an_error(store):
    with pytest.raises(StoreError, match="vb-9"):
        store.update_lease("vb-9", state="closed")


def test_a_lease_is_closed_once_and_its_verdict_stays(store):
    store.open_lease(lease())
    assert store.close_lease("vb-1", verdict="destroyed", note="by its run")
    assert not store.close_lease("vb-1", verdict="already gone", note="by a reaper")
    (closed,) = store.leases()
    assert (closed.state, closed.verdict, closed.note) == ("closed", "destroyed", "by its run")
    assert datetime.fromisoformat(closed.closed_at).utcoffset() == timedelta(0)
    with pytest.raises(StoreError, match="vb-9"):
        store.close_lease("vb-9", verdict="destroyed")


def test_only_open_leases_of_the_same_marketplace_take_a_place(store):
    store.open_lease(lease("closed"), at_most=1)
    store.close_lease("closed", verdict="destroyed")
    store.open_lease(lease("elsewhere", url="https://elsewhere.example"), at_most=1)
    store.open_lease(lease("held", state="held"), at_most=1)
    with pytest.raises(TooManyInstances, match=r"Open leases on http://127\.0\.0\.1: 1; at most 1") as refused:
        store.open_lease(lease("too many"), at_most=1)
    assert "--max-instances" in refused.value.hint
    assert "too many" not in {row.label for row in store.leases()}
    store.open_lease(lease("who sets no limit minds none"))


def test_an_owner_is_alive_as_of_its_last_beat(store):
    assert store.beats() == {}
    for owner_id in ("one", "two", "one"):
        store.beat(owner_id)
    beats = {owner_id: datetime.fromisoformat(date) for owner_id, date in store.beats().items()}
    assert beats["one"] > beats["two"]
    assert beats["one"].utcoffset() == timedelta(0)


def test_every_store_has_a_mark_of_its_own_that_stays(tmp_path):
    marks = []
    for name in ("one", "two", "one"):
        with Store(tmp_path / f"{name}.sqlite") as opened:
            marks.append(opened.mark)
    assert marks[0] == marks[2] != marks[1]
    assert all(re.fullmatch("[0-9a-f]{8}", mark) for mark in marks)


def test_a_lease_survives_a_store_that_is_never_closed(place):
    first = Store(place)
    first.open_lease(lease())
    with Store(place) as second:
        assert second.leases() == [lease()]
    first.close()


def test_many_threads_write_at_once(store):
    threads = [threading.Thread(target=store.open_lease, args=(lease(f"vb-{i}"),)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.leases()) == 24


def test_a_new_store_may_be_opened_by_several_at_once(new_place):
    errors = []

    def open_it():
        try:
            Store(new_place).close()
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_the_migrations_make_what_the_tables_say(new_place):
    engine = connect(new_place)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == HEAD
    engine.dispose()


@pytest.mark.parametrize("revision", ["9999", "0000", "zzzz", "00065", "", "'; --"])
def test_a_store_of_an_unknown_schema_is_refused(new_place, revision):
    engine = connect(new_place)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    engine.dispose()
    for opened in (Store, Store.existing):
        with pytest.raises(SettingsError, match=re.escape(repr(revision))) as refused:
            opened(new_place)
        assert "--store" in refused.value.hint


@pytest.mark.parametrize("change", ["DELETE FROM alembic_version", "INSERT INTO alembic_version VALUES ('0001')"])
def test_a_store_that_says_none_or_two_of_its_schemas_is_refused(new_place, change):
    engine = connect(new_place)
    with engine.begin() as connection:
        connection.execute(sa.text(change))
    engine.dispose()
    with pytest.raises(SettingsError, match="schema"):
        Store(new_place)


@pytest.mark.parametrize(
    "name", ["..", ".", ".hidden", "-x", "--help", "a/b", "a\\b", "a b", "a\nb", "a\x1b[31m", "ä", "a" * 81]
)
def test_a_name_that_no_study_can_have_enters_no_store(store, name):
    for enter in (
        lambda: store.open_study(name, scenario="integration", repeats=3, conditions={}),
        lambda: store.save_run(replace(read_run(SEED), study=name)),
    ):
        with pytest.raises(UsageError, match="cannot have the name"):
            enter()
    assert (store.studies(), store.runs()) == ([], [])


def test_head_is_the_newest_migration():
    versions = Path(vastbench.store.__file__).parent / "migrations" / "versions"
    assert max(path.name for path in versions.glob("0*.py")).startswith(HEAD)


BILL = Bill(gpu_usd=0.1, storage_usd=0.01, total_usd=0.11, rounding_usd=0.0005, match="agrees")


def test_charges_are_kept_beside_runs_and_replaced_when_asked_for_again(store):
    run, rows = read_run(SEED), {"900": [{"amount": 0.11, "label": "half a \ud83d"}]}
    store.save_run(run)
    charges = Charges(run.id, "https://market.test", "2026-01-05T00:00:00+00:00", BILL, rows)
    store.save_charges([charges, replace(charges, run_id="never stored")])
    assert store.run(run.id) == replace(run, bill=BILL)
    assert store.charges().keys() == {run.id, "never stored"}
    (row,) = store.charges()[run.id].by_contract["900"]
    assert (row["amount"], row["label"].replace("\ufffd", "")) == (0.11, "half a ")
    store.save_charges([replace(charges, bill=replace(BILL, match="differs"))])
    assert [one.bill.match for one in store.runs()] == ["differs"]
    assert store.charges()["never stored"].bill == BILL


def test_a_run_from_elsewhere_brings_its_bill_along(store):
    run = replace(read_run(SEED), bill=BILL)
    store.save_run(run)
    assert store.runs() == [run]


def test_what_runs_cost_is_read_without_them(store):
    for name, study in (("a", "s"), ("b", "")):
        store.save_run(replace(read_run(SEED), id=name, study=study))
    store.save_charges([Charges("a", "https://market.test", "2026-01-05T00:00:00+00:00", BILL)])
    assert store.costs() == {"a": (read_run(SEED).cost, BILL), "b": (read_run(SEED).cost, Bill())}
    assert store.costs("s").keys() == {"a"}


def test_many_runs_are_read_in_a_handful_of_queries(store):
    run = read_run(SEED)
    for number in range(12):
        store.save_run(replace(run, id=f"run-{number:02}"))
    asked = []
    sa.event.listen(store._engine, "before_cursor_execute", lambda *said: asked.append(said[2]))
    read = store.runs()
    assert [one.id for one in read] == [f"run-{number:02}" for number in reversed(range(12))]
    assert {one.phases for one in read} == {run.phases}
    assert len([words for words in asked if words.startswith("SELECT")]) == 5
    assert [one.id for one in store.runs(limit=2)] == ["run-11", "run-10"]


def test_runs_for_a_table_come_oldest_first_and_some_at_a_time(store, monkeypatch):
    monkeypatch.setattr("vastbench.store.store.BATCH", 2)
    runs = [
        replace(read_run(SEED), id=f"run-{n}", started_at=f"2026-01-0{n}T00:00:00+00:00", study="s") for n in (3, 1, 5, 2, 4)
    ]
    for run in [*runs, replace(read_run(SEED), id="another")]:
        store.save_run(run)
    parts = list(store.each_part(study="s"))
    assert [[run.id for run in some] for some, _ in parts] == [["run-1", "run-2"], ["run-3", "run-4"], ["run-5"]]
    assert all(len(readings) == len(some) * len(runs[0].phases) for some, readings in parts)
    assert sorted(run.id for some, _ in store.each_part() for run in some) == sorted(run.id for run in store.runs())
    assert list(store.each_part(study="none")) == []
    assert store.wanted("s") == 5
    with pytest.raises(NotFound, match="'none'"):
        store.wanted("none")


def test_the_runs_of_a_study_can_be_asked_for(store):
    store.save_run(replace(read_run(SEED), id="a", study="s"))
    store.save_run(replace(read_run(SEED), id="b"))
    assert [run.id for run in store.runs(study="s")] == ["a"]
    store.open_study("begun", scenario="integration", repeats=3, conditions={})
    there = "Studies there: begun (0 runs), no study (1 run), s (1 run)."
    for ask in (lambda: store.runs(study="x"), lambda: store.study("x")):
        with pytest.raises(NotFound, match="study 'x' in") as missing:
            ask()
        assert missing.value.hint == there


def test_a_run_that_is_not_there_is_named_with_those_that_are(store):
    with pytest.raises(NotFound, match=r"no run 'x' in .* Make one: vastbench run"):
        store.run("x")
    for number in range(7):
        store.save_run(replace(read_run(SEED), id=f"run-{number}"))
    with pytest.raises(NotFound, match=r"no run 'x' in .* The newest runs there: run-6, run-5, run-4, run-3, run-2. "):
        store.run("x")
    with pytest.raises(NotFound, match=r"Several runs have an id that begins with 'run' in .* Two of them: run-0, run-1. "):
        store.run("run")


def test_a_study_is_written_down_once_and_may_grow(store):
    made = store.open_study("s", scenario="integration", repeats=3, conditions={"gpu_name": "RTX 4090"})
    grown = store.open_study("s", scenario="integration", repeats=5, conditions={"gpu_name": "RTX 4090", "new": 1})
    assert grown == replace(made, repeats=5)
    assert store.studies() == [grown]
    with pytest.raises(UsageError, match=r"'gpu_name'|gpu_name"):
        store.open_study("s", scenario="integration", repeats=5, conditions={"gpu_name": "RTX 3090"})
    with pytest.raises(UsageError, match="scenario"):
        store.open_study("s", scenario="snapshot", repeats=5, conditions={"gpu_name": "RTX 4090"})
    assert store.study("s") == grown
    with pytest.raises(NotFound, match="nowhere"):
        store.study("nowhere")


def test_no_more_runs_are_announced_than_are_missing(store):
    store.open_study("s", scenario="integration", repeats=3, conditions={})
    here, silent, elsewhere = owner(), owner() | {"host": "elsewhere"}, owner() | {"host": "elsewhere"}
    store.beat(elsewhere["id"])
    for name, cause in (("made", "boot_failed"), ("stopped", "interrupted")):
        store.save_run(replace(read_run(SEED), id=name, study="s", cause=cause))
    assert store.announce_run("s", "one", here)
    assert store.announce_run("s", "lost", silent)  # nobody can tell whether it is under way
    assert store.announce_run("s", "far", elsewhere)
    assert not store.announce_run("s", "two", here)
    assert [one.run_id for one in store.unfinished("s")] == ["one", "lost", "far"]
    store.save_run(replace(read_run(SEED), id="one", study="s", cause="killed"))
    assert store.announce_run("s", "two", here)
    assert store.announced("s") == 4
    with pytest.raises(NotFound, match="nowhere"):
        store.announce_run("nowhere", "four", here)


def test_many_threads_announce_no_run_too_many(store):
    store.open_study("s", scenario="integration", repeats=5, conditions={})
    done = []
    threads = [
        threading.Thread(target=lambda name=f"run-{i}": done.append(store.announce_run("s", name, owner()))) for i in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False] * 11 + [True] * 5


def test_a_store_of_an_older_vastbench_keeps_its_runs(new_place):
    engine = connect(new_place)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(vastbench.store.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        columns = {column["name"] for column in sa.inspect(connection).get_columns("runs")}
        assert "study" not in columns
        row = {name: value for name, value in run_row(read_run(SEED)).items() if name in columns}
        values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}
        named = ", ".join(f":{name}" for name in values)
        connection.execute(sa.text(f"INSERT INTO runs ({', '.join(values)}) VALUES ({named})"), values)
    engine.dispose()
    with Store(new_place) as store:
        (run,) = store.runs()
        assert (run.id, run.study, run.cost) == (read_run(SEED).id, "", read_run(SEED).cost)
        assert store.studies() == []
