"""Places that keep snapshots: a folder, and whatever store fsspec opens. Both keep whole things or nothing."""

import contextlib
import sys
from pathlib import Path

import pytest

from vastbench.errors import SnapshotError, UsageError
from vastbench.record.conditions import Conditions
from vastbench.snapshots import LocalPlace, Place, check, open_place, read_manifest, restore, snapshots_in, take, verify


def places(folder: Path) -> dict[str, str]:
    return {"folder": str(folder / "kept"), "file store": f"file://{folder}/kept", "memory store": f"memory://{folder.name}"}


@pytest.fixture(params=["folder", "file store", "memory store"])
def any_place(request, tmp_path) -> Place:
    if request.param != "folder":
        pytest.importorskip("fsspec")
    return open_place(places(tmp_path)[request.param])


def kept(place: Place, name: str) -> bytes:
    with place.read(name) as file:
        return file.read()


def test_what_was_written_is_read_and_named(any_place):
    assert any_place.names() == []
    for name in ("b", "a"):
        with any_place.write(name) as file:
            file.write(b"first ")
            file.write(name.encode())
    assert any_place.names() == ["a", "b"]
    assert kept(any_place, "a") == b"first a"
    any_place.remove("a")
    any_place.remove("a")
    assert any_place.names() == ["b"]


def test_what_is_not_written_to_its_end_is_not_there(any_place):
    with contextlib.suppress(RuntimeError), any_place.write("name") as file:
        file.write(b"half of it")
        raise RuntimeError
    assert any_place.names() == []
    with pytest.raises(SnapshotError, match="name cannot be read: No such file"), any_place.read("name"):
        pass


def test_snapshots_are_taken_to_it_and_restored_from_it(any_place, session, work, tmp_path):
    full = take(session, str(work), any_place)
    (work / "added").write_bytes(b"new")
    second = take(session, str(work), any_place, full)
    assert snapshots_in(any_place) == [full, second]
    verify(second, any_place)
    restore(session, second, any_place, str(tmp_path / "back"))
    check(read_manifest(session, str(tmp_path / "back")), read_manifest(session, str(work)))


def test_whatever_a_store_raises_says_which_store_and_what(monkeypatch):
    pytest.importorskip("fsspec")
    place = open_place("memory://failing")

    class Unreachable(Exception):
        """A library's own error, no OSError."""

    def fails(*given, **more):
        raise Unreachable("could not connect")

    for name in ("makedirs", "open", "exists", "rm_file"):
        monkeypatch.setattr(place._files, name, fails)
    for attempt in (place.names, lambda: place.remove("x"), place.write("x").__enter__, place.read("x").__enter__):
        with pytest.raises(SnapshotError, match=r"memory:///failing\S* cannot be (read|written): could not connect"):
            attempt()


def test_only_its_owner_reads_a_folder_of_snapshots(session, work, tmp_path):
    place = LocalPlace(tmp_path / "kept")
    snapshot = take(session, str(work), place)
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0
    assert (tmp_path / "kept" / snapshot.archive).stat().st_mode & 0o077 == 0


def test_a_place_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    place = LocalPlace(tmp_path / "file/kept")
    with pytest.raises(SnapshotError, match=r"cannot be written: (Not a directory|File exists)"), place.write("name"):
        pass


def test_without_fsspec_a_store_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match=r"pip install 'vastbench\[stores\]'"):
        open_place("s3://bucket/snapshots")


@pytest.mark.parametrize("url", ["sftp://me:hunter2@host/folder", "rest:http://me:hunter2@host", "s3://key:hunter2@bucket"])
def test_an_address_with_a_password_is_refused_without_showing_it(url):
    with pytest.raises(UsageError) as refused:
        Conditions(place=url, repository=url)
    assert "hunter2" not in str(refused.value)
