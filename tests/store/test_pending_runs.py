"""A run that the store refuses waits in a file, and is taken in later."""

import json
import os
import stat
import subprocess
import sys
import tempfile

import pytest
import sqlalchemy as sa

from tests.store.records import SEED
from vastbench.errors import StoreError
from vastbench.io.files import read_run
from vastbench.record.document import run_to_dict
from vastbench.store import Store
from vastbench.store.pending_runs import folders_of

RUN = read_run(SEED)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def refuse(store):
    """Make the store refuse runs, as a database does that was damaged."""
    with store._engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE phases RENAME TO phases_away"))


def relent(store):
    with store._engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE phases_away RENAME TO phases"))


def kept_by(store, run=RUN):
    with pytest.raises(StoreError, match="The next command on this store takes the run in") as refused:
        store.save_run_or_keep(run)
    (path,) = (path for folder in folders_of(store._engine.url) for path in folder.glob(f"{run.id}.json"))
    assert str(path) in refused.value.message
    return path


def test_a_run_that_is_stored_leaves_no_file(store):
    store.save_run_or_keep(RUN)
    assert store.runs() == [RUN]
    assert not any(folder.exists() for folder in folders_of(store._engine.url))


def test_a_run_that_is_refused_is_taken_in_when_the_store_relents(store, caplog):
    refuse(store)
    path = kept_by(store)
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    assert store.take_in_pending_runs() == []
    assert str(path) in caplog.text
    relent(store)
    assert store.take_in_pending_runs() == [RUN.id]
    assert store.runs() == [RUN]
    assert list(path.parent.iterdir()) == []
    assert store.take_in_pending_runs() == []


def test_a_run_waits_beside_a_file_and_in_the_data_folder_for_a_server(tmp_path, place):
    with Store(place) as store:
        beside, _ = folders_of(store._engine.url)
    assert beside == tmp_path / "runs.sqlite.unsaved" or beside.parent == tmp_path / "data/vastbench/unsaved"


def test_runs_wait_for_their_own_store_alone(tmp_path):
    with Store(tmp_path / "one.sqlite") as one, Store(tmp_path / "two.sqlite") as two:
        refuse(one)
        path = kept_by(one)
        assert two.take_in_pending_runs() == []
        assert path.exists()


def test_a_run_that_is_there_already_is_only_removed(store):
    refuse(store)
    path = kept_by(store)
    relent(store)
    store.save_run(RUN)
    assert store.take_in_pending_runs() == []
    assert not path.exists()


def test_a_file_that_is_no_run_is_left_and_named(store, caplog):
    refuse(store)
    folder = kept_by(store).parent
    relent(store)
    texts = {"cut": json.dumps(run_to_dict(RUN))[:-40], "list": "[]", "other": '{"format": 99}', "deep": "[" * 99999}
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(text)
    assert store.take_in_pending_runs() == [RUN.id]
    assert {path.stem for path in folder.iterdir()} == texts.keys()
    assert all(f"{name}.json" in caplog.text for name in texts)


def test_a_run_waits_in_the_temporary_folder_when_the_first_is_blocked(store, tmp_path):
    refuse(store)
    beside, elsewhere = folders_of(store._engine.url)
    beside.parent.mkdir(parents=True, exist_ok=True)
    beside.write_text("in the way")
    assert kept_by(store).parent == elsewhere
    relent(store)
    assert store.take_in_pending_runs() == [RUN.id]


def test_a_temporary_folder_that_others_may_write_is_not_used(store):
    refuse(store)
    beside, elsewhere = folders_of(store._engine.url)
    beside.parent.mkdir(parents=True, exist_ok=True)
    beside.write_text("in the way")
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    with pytest.raises(StoreError, match="is lost"):
        store.save_run_or_keep(RUN)
    relent(store)
    (elsewhere / "planted.json").write_text(json.dumps(run_to_dict(RUN)))
    assert store.take_in_pending_runs() == []


UNTIL_IT_IS_FULL = """
import resource, sys, tempfile
from dataclasses import replace
from pathlib import Path
from vastbench.errors import StoreError
from vastbench.io.files import read_run
from vastbench.store import Store

way, seed, folder = sys.argv[1], read_run(Path(sys.argv[2])), Path(sys.argv[3])
tempfile.tempdir = sys.argv[4]

def narrow():
    if way == "disk":
        (folder / "ballast").write_bytes(bytes(400_000))
    else:  # no file may grow beyond this
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))

def widen():
    if way == "disk":
        (folder / "ballast").unlink()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

with Store(folder / "runs.sqlite") as store:
    narrow()
    stored = []
    for number in range(500):
        run = replace(seed, id=f"run-{number:03}")
        try:
            store.save_run_or_keep(run)
        except StoreError as error:
            refusal = error
            break
        stored.append(run.id)
    assert ("its disk is full" if way == "disk" else "disk I/O error") in refusal.message, refusal
    assert len(stored) > 2, stored
    whole = store._engine.raw_connection()
    assert whole.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    whole.close()
    assert sorted(one.id for one in store.runs()) == stored
    kept = [path for place in (folder, Path(tempfile.tempdir)) for path in place.rglob("run-*.json")]
    assert [path.stem for path in kept] == [run.id], kept
    assert str(kept[0]) in refusal.message, refusal
with Store(folder / "runs.sqlite") as store:
    if way == "disk":  # a limit on files leaves room in the journal, which is empty again
        assert store.take_in_pending_runs() == []
    widen()
    assert store.take_in_pending_runs() == [run.id]
    assert store.run(run.id) == run
    assert sorted(one.id for one in store.runs()) == [*stored, run.id]
"""


def until_it_is_full(way, folder, *inside):
    disk, elsewhere = folder / "disk", folder / "elsewhere"
    disk.mkdir()
    elsewhere.mkdir()
    command = [*inside, sys.executable, "-c", UNTIL_IT_IS_FULL, way, SEED, disk, elsewhere]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_store_that_cannot_grow_loses_no_run_and_stays_whole(tmp_path):
    until_it_is_full("limit", tmp_path)


def test_a_full_disk_loses_no_run_and_leaves_the_store_whole(tmp_path):
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    mount = "mount -t tmpfs -o size=1m,mode=700 small"
    if subprocess.run([*unshare, *mount.split(), "/tmp"], check=False).returncode:
        pytest.skip("this machine allows no mounts; the test with a limit on file sizes goes the same way")
    until_it_is_full("disk", tmp_path, *unshare, "sh", "-c", f'{mount} "$1" && shift && exec "$@"', "sh", tmp_path / "disk")
