"""The store keeps runs and leases, and says clearly when it cannot."""

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from vastbench.errors import NotFound, StoreError
from vastbench.report.files import read_run
from vastbench.resources import shared
from vastbench.store import LeaseRow, Store
from vastbench.store.database import HEAD, connect
from vastbench.store.tables import metadata

SEED = shared("data/runs") / "2026-01-02-rtx4090.json"


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "runs.sqlite") as opened:
        yield opened


def lease(label="vb-1", **changes):
    plain = LeaseRow(label, "run-1", 1, "http://127.0.0.1", 7001, 0.2, "2026-01-01T00:00:00+00:00", "2026-01-01T01:00:00+00:00")
    return replace(plain, **changes)


def test_a_run_is_read_back_as_it_was_written(store):
    run = read_run(SEED)
    store.save_run(run)
    assert store.run(run.id) == run
    assert store.runs() == [run]


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


def test_a_lease_survives_a_store_that_is_never_closed(tmp_path):
    first = Store(tmp_path / "runs.sqlite")
    first.open_lease(lease())
    with Store(tmp_path / "runs.sqlite") as second:
        assert second.leases() == [lease()]
    first.close()


def test_commits_are_synced_and_readers_do_not_block_writers(store):
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_many_threads_write_at_once(store):
    threads = [threading.Thread(target=store.open_lease, args=(lease(f"vb-{i}"),)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.leases()) == 24


def test_two_processes_may_open_a_new_store_at_once(tmp_path):
    errors = []

    def open_it():
        try:
            Store(tmp_path / "new.sqlite").close()
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_the_migrations_make_what_the_tables_say(tmp_path):
    engine = connect(tmp_path / "runs.sqlite")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == HEAD
    engine.dispose()


def test_head_is_the_newest_migration():
    import vastbench.store

    versions = Path(vastbench.store.__file__).parent / "migrations" / "versions"
    assert max(path.name for path in versions.glob("0*.py")).startswith(HEAD)


def test_a_newer_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "runs.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="9999"):
        Store(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but longer than a header of one hundred bytes " * 4)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"notes\.txt"):
        Store(path)
    assert path.read_bytes() == before


def test_a_read_only_store_is_said_to_be_one(tmp_path):
    path = tmp_path / "runs.sqlite"
    Store(path).close()
    with pytest.raises(StoreError, match="readonly"):
        Store(f"sqlite:///file:{path}?mode=ro&uri=true").open_lease(lease())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be made"):
        Store(tmp_path / "file" / "runs.sqlite")


def test_an_unusable_url_is_a_store_error():
    with pytest.raises(StoreError):
        Store("nosuchdatabase://localhost/x")


def test_a_password_never_shows():
    with pytest.raises(StoreError) as caught:
        Store("nosuchdatabase://user:canary@localhost/x")
    assert "canary" not in str(caught.value)
