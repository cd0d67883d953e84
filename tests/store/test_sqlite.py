"""A store in a file: synced, private, and refused as it is when it is something else."""

import os
import sqlite3
import stat
from dataclasses import replace

import pytest

from tests.store.records import SEED, lease
from vastbench.errors import NotFound, SettingsError, StoreError
from vastbench.io.files import read_run
from vastbench.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "runs.sqlite") as opened:
        yield opened


def test_commits_are_synced_and_readers_do_not_block_writers(store):
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but longer than a header of one hundred bytes " * 4)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"notes\.txt"):
        Store(path)
    assert path.read_bytes() == before


def test_who_only_reads_makes_no_store(tmp_path):
    (tmp_path / "empty.sqlite").touch()
    with sqlite3.connect(tmp_path / "theirs.sqlite") as connection:
        connection.execute("CREATE TABLE notes (words)")
    connection.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for place in ("typo.sqlite", "typo/runs.sqlite", "empty.sqlite", "theirs.sqlite"):
        for named in (tmp_path / place, f"sqlite:///{tmp_path}/{place}"):
            with pytest.raises(NotFound, match=f"There is no store .*{place}"):
                Store.existing(named)
    with pytest.raises(StoreError, match="unable to open"):
        Store.existing(f"sqlite:///file:{tmp_path}/typo.sqlite?uri=true")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_is_no_store(tmp_path):
    for opener in (Store, Store.existing):
        with pytest.raises(StoreError, match="is a folder"):
            opener(tmp_path)


def test_a_read_only_store_is_said_to_be_one(tmp_path):
    path = tmp_path / "runs.sqlite"
    Store(path).close()
    with pytest.raises(StoreError, match="readonly"):
        Store(f"sqlite:///file:{path}?mode=ro&uri=true").open_lease(lease())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be made"):
        Store(tmp_path / "file" / "runs.sqlite")


def test_a_newer_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "runs.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SettingsError, match="9999"):
        Store(path)
    assert path.read_bytes() == before


def test_an_unusable_url_is_a_store_error():
    with pytest.raises(StoreError):
        Store("nosuchdatabase://localhost/x")


def test_a_password_never_shows():
    with pytest.raises(StoreError) as caught:
        Store("nosuchdatabase://user:canary@localhost/x")
    assert "canary" not in str(caught.value)


def test_a_new_store_is_its_users_alone(tmp_path):
    path = tmp_path / "new" / "runs.sqlite"
    with Store(path) as store:
        store.open_lease(lease())
        modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    assert modes == {"runs.sqlite": 0o600, "runs.sqlite-wal": 0o600, "runs.sqlite-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_mode_that_a_user_gave_a_store_stays(tmp_path):
    path = tmp_path / "runs.sqlite"
    Store(path).close()
    path.chmod(0o640)
    Store(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_reader_does_not_wait_for_a_writer(tmp_path):
    with Store(tmp_path / "runs.sqlite") as store:
        store.save_run(read_run(SEED))
        with store._engine.begin():  # holds the file's lock
            assert len(store.runs()) == 1


CHANGES = {
    "deleted": lambda path: path.unlink(),
    "moved": lambda path: path.rename(path.with_name("away.sqlite")),
    "replaced": lambda path: (path.unlink(), Store(path).close()),
    "cut off": lambda path: os.truncate(path, 0),
    "without its log": lambda path: path.with_name(f"{path.name}-wal").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_store_that_is_no_longer_the_one_that_was_opened_is_noticed(tmp_path, change):
    """SQLite itself writes on into a file that nobody can find any more."""
    path, run = tmp_path / "runs.sqlite", read_run(SEED)
    with Store(path) as store:
        store.save_run(run)
        CHANGES[change](path)
        for use in (lambda: store.beat("me"), store.runs, lambda: store.study("s"), store.leases):
            with pytest.raises(StoreError, match="is not the one that was opened"):
                use()
        later = replace(run, id="later")
        with pytest.raises(StoreError, match=r"The run later is kept in .*later\.json"):
            store.save_run_or_keep(later)
        if change == "deleted":
            assert not path.exists()
            with Store(path) as new:
                assert new.take_in_pending_runs() == ["later"]
                assert new.runs() == [later]


def test_a_store_that_others_use_and_that_grows_stays_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, run = tmp_path / "runs.sqlite", read_run(SEED)
    with Store("runs.sqlite") as store:
        monkeypatch.chdir("/")
        for number in range(3):
            with Store(path) as other:
                other.save_run(replace(run, id=f"{number}"))
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            store.beat("me")
        assert len(store.runs()) == 3
