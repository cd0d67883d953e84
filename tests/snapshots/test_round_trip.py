"""What comes back is what was there: every file, mode, owner and link, first and incremental."""

import shutil
from pathlib import Path

import pytest

from tests.snapshots.conftest import ODD_NAMES
from vastbench.errors import SnapshotError
from vastbench.snapshots import check, compare, manifest_of, read_manifest, restore, snapshots_in, take, verify
from vastbench.snapshots import manifest as manifests
from vastbench.snapshots.manifest import check_unchanged


def restored(session, snapshot, place, to: Path):
    """The manifest of ``snapshot``, restored to ``to``."""
    restore(session, snapshot, place, str(to))
    return read_manifest(session, str(to))


def test_everything_comes_back_with_its_mode_owner_and_links(session, work, place, tmp_path):
    before = read_manifest(session, str(work))
    assert {f"odd/{name}".encode("utf-8", "surrogateescape") for name in ODD_NAMES} <= before.by_path.keys()
    snapshot = take(session, str(work), place)
    check(restored(session, snapshot, place, tmp_path / "back"), before)
    assert manifest_of(snapshot, place) == before
    assert (tmp_path / "back/hard").samefile(tmp_path / "back/deep/er/big")


def test_holes_stay_holes(session, work, place, tmp_path):
    snapshot = take(session, str(work), place)
    restore(session, snapshot, place, str(tmp_path / "back"))
    assert (tmp_path / "back/sparse").stat().st_blocks * 512 < 1_000_000
    assert snapshot.bytes_stored < 1_000_000


def change(work: Path) -> None:
    """Change, add, remove and replace one of everything."""
    (work / "sparse").unlink()
    shutil.rmtree(work / "empty")
    (work / "dangling").unlink()
    (work / "dangling").mkdir()
    (work / "dangling/now a folder").write_bytes(b"file")
    shutil.rmtree(work / "deep/er")
    (work / "deep/er").symlink_to("/tmp")
    (work / "inside").unlink()
    (work / "inside").write_bytes(b"a file now")
    (work / "added").write_bytes(b"new")
    (work / "added too").hardlink_to(work / "setuid")
    (work / "closed").chmod(0o755)
    (work / "odd" / ODD_NAMES[0]).write_bytes(b"changed")


def test_an_incremental_snapshot_restores_what_was_changed(session, work, place, tmp_path):
    full = take(session, str(work), place)
    change(work)
    after = read_manifest(session, str(work))
    second = take(session, str(work), place, full)
    assert second.parent == full.id
    assert second.bytes_changed < full.bytes_changed / 10
    verify(second, place)
    check(restored(session, second, place, tmp_path / "second"), after)
    (work / "added").unlink()
    third = take(session, str(work), place, second)
    check(restored(session, third, place, tmp_path / "third"), read_manifest(session, str(work)))
    check(restored(session, full, place, tmp_path / "first"), manifest_of(full, place))
    assert [one.id for one in snapshots_in(place)] == [full.id, second.id, third.id]


def test_a_link_that_becomes_a_file_of_its_own_comes_back_as_one(session, work, place, tmp_path):
    full = take(session, str(work), place)
    shutil.copy2(work / "hard", work / "copy")
    (work / "copy").replace(work / "hard")
    second = take(session, str(work), place, full)
    check(restored(session, second, place, tmp_path / "back"), read_manifest(session, str(work)))
    assert not (tmp_path / "back/hard").samefile(tmp_path / "back/deep/er/big")


def test_a_restore_stays_out_of_a_folder_with_anything_in_it(session, work, place, tmp_path):
    snapshot = take(session, str(work), place)
    (tmp_path / "back").mkdir()
    restore(session, snapshot, place, str(tmp_path / "back"))
    for there in (tmp_path / "back", tmp_path / "place" / snapshot.archive):
        with pytest.raises(SnapshotError, match="something is there already"):
            restore(session, snapshot, place, str(there))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["back", "place", "work"]


def test_a_folder_that_changes_meanwhile_is_not_kept(session, work, place):
    before = read_manifest(session, str(work))
    (work / "added").write_bytes(b"after the look at it")
    with pytest.raises(SnapshotError, match="was changed"):
        take(session, str(work), place, manifest=before)
    assert place.names() == []


def test_blocks_that_a_file_system_adds_later_are_no_change(session, work, monkeypatch):
    before = read_manifest(session, str(work))
    monkeypatch.setattr(manifests, "_LIST", manifests._LIST.replace("%b", "9%b"))
    check_unchanged(session, str(work), before)
    (work / "added").write_bytes(b"")
    with pytest.raises(SnapshotError, match="was changed"):
        check_unchanged(session, str(work), before)


@pytest.mark.parametrize("planted", ["f 644 0 0", "f x 0 0 1 1 1:1 0.0", "f 644 0 0 1 1 1:1 0.0 0"])
def test_a_listing_that_cannot_be_read_is_said(session, work, monkeypatch, planted):
    monkeypatch.setattr(manifests, "_LIST", f"{manifests._LIST} && printf '{planted}\\0a\\0\\0000\\0'")
    with pytest.raises(SnapshotError, match="cannot be read"):
        read_manifest(session, str(work))


def test_a_folder_without_a_file_is_not_kept(session, place, tmp_path):
    (tmp_path / "hollow/inside").mkdir(parents=True)
    with pytest.raises(SnapshotError, match="holds no file"):
        take(session, str(tmp_path / "hollow"), place)
    with pytest.raises(SnapshotError, match="cannot be listed"):
        take(session, str(tmp_path / "not there"), place)
    assert place.names() == []


def test_every_kind_of_difference_is_named(session, work, tmp_path):
    before = read_manifest(session, str(work))
    change(work)
    found = {(one.path, one.what) for one in compare(before, read_manifest(session, str(work)))}
    assert {
        (b"sparse", "missing"),
        (b"added", "extra"),
        (b"dangling", "kind"),
        (b"closed", "mode"),
        (b"setuid", "link"),
        (b"odd/new\nline", "sha256"),
    } <= found
    assert compare(before, before) == []
