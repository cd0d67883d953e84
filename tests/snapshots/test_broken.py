"""What breaks on the way leaves no snapshot and no folder, and says what it was."""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.processes import until
from tests.snapshots.conftest import connected, emulated
from tests.ssh.machine import Machine, Relay
from vastbench.errors import (
    CheckFailed,
    ConnectionLost,
    DeadlineExceeded,
    NotFound,
    SnapshotError,
    SnapshotRefused,
    UsageError,
)
from vastbench.snapshots import (
    Entry,
    LocalPlace,
    Manifest,
    check,
    manifest_of,
    read_manifest,
    restore,
    snapshots_in,
    take,
    verify,
)
from vastbench.snapshots.snapshot import Snapshot
from vastbench.ssh.session import Session


class Interrupting(LocalPlace):
    """A place that does something when the first bytes of an archive have come or gone."""

    def __init__(self, folder: Path, act) -> None:
        super().__init__(folder)
        self.act = act

    @contextmanager
    def write(self, name):
        with super().write(name) as file:
            yield _Acting(file, self.act) if name.endswith(".archive") else file

    @contextmanager
    def read(self, name):
        with super().read(name) as file:
            yield _Acting(file, self.act) if name.endswith(".archive") else file


class _Acting:
    def __init__(self, file, act) -> None:
        self.file, self.act = file, act

    def write(self, data):
        self.file.write(data)
        self.act()

    def read(self, size=-1):
        data = self.file.read(size)
        self.act()
        return data


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A folder of which nothing compresses, with more than fits into any buffer on the way."""
    folder = tmp_path / "big"
    folder.mkdir()
    (folder / "random").write_bytes(os.urandom(12_000_000))
    return folder


# --- the connection


def test_a_connection_that_drops_leaves_no_snapshot(machine, big, tmp_path):
    place = Interrupting(tmp_path / "place", machine.drop_all)
    with connected(machine) as session, pytest.raises(ConnectionLost):
        take(session, str(big), place)
    assert list((tmp_path / "place").iterdir()) == []


def test_a_connection_that_drops_before_the_exit_status_leaves_none(machine, big, place, tmp_path, monkeypatch):
    flag, stream = tmp_path / "flag", Session.stream

    def lingering(session, command, **more):
        return stream(session, f"{command}; touch {flag}; sleep 30" if "--create" in command else command, **more)

    monkeypatch.setattr(Session, "stream", lingering)
    with connected(machine) as session:
        dropping = threading.Thread(target=lambda: (until(flag.exists), machine.drop_all()))
        dropping.start()
        with pytest.raises(ConnectionLost):
            take(session, str(big), place)
        dropping.join()
    assert place.names() == []


def test_a_connection_that_drops_leaves_no_folder(machine, big, place, tmp_path):
    with connected(machine) as session:
        snapshot = take(session, str(big), place)
        with pytest.raises(ConnectionLost):
            restore(session, snapshot, Interrupting(tmp_path / "place", machine.drop_all), str(tmp_path / "back"))
    assert not (tmp_path / "back").exists()


def test_a_half_open_connection_ends_at_the_limit(machine, big, place, tmp_path):
    relay = Relay(machine.port)
    try:
        with connected(relay) as session:
            frozen = Interrupting(tmp_path / "place", relay.freeze)
            with pytest.raises((DeadlineExceeded, ConnectionLost)):
                take(session, str(big), frozen, timeout_s=3)
    finally:
        relay.stop()
    assert list((tmp_path / "place").iterdir()) == []


# --- the disks


def test_a_full_disk_on_the_machine_leaves_no_folder(big, place, session, tmp_path):
    snapshot = take(session, str(big), place)
    with emulated() as (port, key), connected(port, key) as emulated_session:
        emulated_session.run("mount -t tmpfs -o size=1m small /mnt")
        with pytest.raises(SnapshotError, match=r"was not restored: .*(Wrote only|No space left on device)"):
            restore(emulated_session, snapshot, place, "/mnt/back")
        assert emulated_session.run("ls -A /mnt").stdout == ""


def test_a_full_disk_of_the_place_is_said_and_leaves_nothing(big, session, tmp_path):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place = Interrupting(tmp_path / "place", full)
    with pytest.raises(SnapshotError, match=r"place cannot be written: No space left on device"):
        take(session, str(big), place)
    assert list((tmp_path / "place").iterdir()) == []
    assert session.run("echo still here").stdout == "still here\n"


def test_a_place_that_cannot_be_read_is_no_end_of_the_archive(big, place, session, tmp_path):
    def bad():
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    snapshot = take(session, str(big), place)
    with pytest.raises(SnapshotError, match="cannot be read: Input/output error"):
        restore(session, snapshot, Interrupting(tmp_path / "place", bad), str(tmp_path / "back"))
    assert not (tmp_path / "back").exists()


# --- what is kept


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("part", ["archive", "manifest"])
@pytest.mark.parametrize("damage", [flipped, cut, emptied])
@pytest.mark.parametrize("which", [0, 1])
def test_damage_to_any_part_of_a_chain_is_refused(work, place, session, tmp_path, part, damage, which):
    full = take(session, str(work), place)
    (work / "added").write_bytes(b"new")
    second = take(session, str(work), place, full)
    damage(tmp_path / "place" / getattr((full, second)[which], part))
    with pytest.raises(SnapshotRefused):
        verify(second, place)
    with pytest.raises(SnapshotRefused):
        restore(session, second, place, str(tmp_path / "back"))
    assert {one.name for one in tmp_path.iterdir()} == {"place", "work"}


@pytest.mark.parametrize("damage", [cut, emptied, flipped])
def test_a_damaged_description_is_no_snapshot(work, place, session, tmp_path, damage):
    snapshot = take(session, str(work), place)
    damage(tmp_path / f"place/{snapshot.id}.json")
    with pytest.raises((SnapshotRefused, NotFound)):
        verify(snapshot, place)


def test_without_its_description_there_is_no_snapshot(work, place, session, tmp_path):
    full = take(session, str(work), place)
    second = take(session, str(work), place, full)
    (tmp_path / f"place/{full.id}.json").unlink()
    assert [one.id for one in snapshots_in(place)] == [second.id]
    with pytest.raises(NotFound, match="no whole snapshot"):
        restore(session, second, place, str(tmp_path / "back"))


def test_another_snapshots_archive_is_refused(work, place, session, tmp_path):
    full = take(session, str(work), place)
    (work / "added").write_bytes(b"new")
    other = take(session, str(work), place)
    shutil.copy(tmp_path / "place" / other.archive, tmp_path / "place" / full.archive)
    with pytest.raises(SnapshotRefused, match="its archive has"):
        verify(full, place)
    with pytest.raises(SnapshotRefused, match="another one of that name"):
        restore(session, replace(full, sha256=other.sha256), place, str(tmp_path / "back"))


# --- archives that somebody made to break out


def planted(place: LocalPlace, snapshot: Snapshot, *members: tuple[str, str | bytes]) -> Snapshot:
    """``snapshot`` with another archive in its place, which its description fits."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    data = file.getvalue()
    with place.write(snapshot.archive) as kept:
        kept.write(data)
    wrong = replace(snapshot, sha256=hashlib.sha256(data).hexdigest(), bytes_stored=len(data), compression="none")
    with place.write(f"{snapshot.id}.json") as kept:
        kept.write(json.dumps(wrong.to_dict()).encode())
    return wrong


@pytest.mark.parametrize("members", ["up", "absolute", "through a link", "over a link"])
def test_an_archive_cannot_break_out_of_its_folder(work, place, session, tmp_path, members):
    out = tmp_path / "outside"
    out.mkdir()
    (out / "there").write_bytes(b"untouched")
    wrong = planted(
        place,
        take(session, str(work), place),
        *{
            "up": [("../outside/there", b"overwritten"), ("../outside/new", b"new")],
            "absolute": [(f"{out}/there", b"overwritten"), (f"{out}/new", b"new")],
            "through a link": [("./way", str(out)), ("./way/there", b"overwritten"), ("./way/new", b"new")],
            "over a link": [("./there", f"{out}/there"), ("./there", b"overwritten")],
        }[members],
    )
    with contextlib.suppress(SnapshotError):
        restore(session, wrong, place, str(tmp_path / "back"))
        with pytest.raises(CheckFailed):
            check(read_manifest(session, str(tmp_path / "back")), manifest_of(wrong, place))
    assert {one.name: one.read_bytes() for one in out.iterdir()} == {"there": b"untouched"}


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "a//b", "./a"])
def test_a_manifest_names_nothing_outside_its_folder(path):
    lines = Manifest((Entry(b"", "folder", 0o755, 0, 0), Entry(os.fsencode(path), "file", 0o644, 0, 0))).to_bytes()
    with pytest.raises(SnapshotRefused, match="leads out of the folder"):
        Manifest.from_bytes(lines)


@pytest.mark.parametrize("folder", ["work", "", "/", "/workspace/..", "/a\0b"])
def test_only_a_whole_path_is_restored_to(work, place, session, folder):
    snapshot = take(session, str(work), place)
    with pytest.raises(UsageError, match="The folder is"):
        restore(session, snapshot, place, folder)


# --- the image


@pytest.mark.parametrize(("missing", "compression"), [(("zstd",), "gzip"), (("zstd", "gzip"), "none")])
def test_a_machine_without_zstd_compresses_as_it_can(machine, work, place, tmp_path, monkeypatch, missing, compression):
    monkeypatch.setenv("PATH", str(path_without(tmp_path, *missing)))
    with connected(machine) as session:
        before = read_manifest(session, str(work))
        snapshot = take(session, str(work), place)
        assert snapshot.compression == compression
        restore(session, snapshot, place, str(tmp_path / "back"))
        check(read_manifest(session, str(tmp_path / "back")), before)


def test_a_machine_that_cannot_unpack_it_says_what_it_needs(machine, work, place, session, tmp_path, monkeypatch):
    snapshot = take(session, str(work), place)
    monkeypatch.setenv("PATH", str(path_without(tmp_path, "zstd")))
    with connected(machine) as bare, pytest.raises(SnapshotError, match="zstd"):
        restore(bare, snapshot, place, str(tmp_path / "back"))
    assert not (tmp_path / "back").exists()


def path_without(tmp_path: Path, *missing: str) -> Path:
    """A folder with all programs of this machine but some."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for one in Path("/usr/bin").iterdir():
        if one.name not in missing:
            (folder / one.name).symlink_to(one)
    return folder


def test_start_up_files_that_print_spoil_nothing(work, place, tmp_path):
    machine = Machine()
    run = machine._process

    async def chatty(process):
        process.stdout.write(b"Welcome!\nyou have mail\n")
        await run(process)

    machine._process = chatty
    with connected(machine) as session:
        before = read_manifest(session, str(work))
        snapshot = take(session, str(work), place)
        restore(session, snapshot, place, str(tmp_path / "back"))
        check(read_manifest(session, str(tmp_path / "back")), before)
    machine.stop()


# --- size


def test_thousands_of_small_files_and_one_big_one_come_back(place, session, tmp_path):
    for number in range(20):
        (tmp_path / f"many/{number}").mkdir(parents=True)
        for other in range(200):
            (tmp_path / f"many/{number}/{other}").write_bytes(b"%d" % other)
    (tmp_path / "many/big").write_bytes(os.urandom(1_000_000) * 40)
    snapshot = take(session, str(tmp_path / "many"), place)
    restore(session, snapshot, place, str(tmp_path / "back"))
    check(read_manifest(session, str(tmp_path / "back")), manifest_of(snapshot, place))
    assert snapshot.files == 4001


def test_a_long_stream_is_never_held_in_memory(session, tmp_path):
    program = LONG_STREAM.format(folder=str(Path(__file__).parents[2]))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    streamed, grown_kb = map(int, done.stdout.split())
    assert streamed == 400_000_000
    assert grown_kb < 60_000


LONG_STREAM = """
import resource, sys
sys.path.insert(0, {folder!r})
from tests.snapshots.conftest import connected, emulated
from tests.ssh.machine import Machine

machine, count = Machine(), [0]
with connected(machine) as session:
    session.run("true")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    def sink(data):
        count[0] += len(data)
    session.stream("head -c 400000000 /dev/zero", sink=sink)
    print(count[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
machine.stop()
"""


def test_an_emulated_machine_takes_no_more_than_its_command_reads():
    class Counting:
        read_bytes = 0

        def read(self, size=-1):
            self.read_bytes += size
            return bytes(size)

    sent = Counting()
    with emulated() as (port, key), connected(port, key) as session, pytest.raises(DeadlineExceeded):
        session.stream("head -c 8000000 >/dev/null; exec sleep 60", source=sent, timeout_s=4)
    assert 8_000_000 <= sent.read_bytes < 20_000_000
