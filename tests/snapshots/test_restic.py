"""Snapshots in a restic repository: what comes back, what is refused, and where its password never goes."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fleet import bench
from tests.processes import until
from tests.profiles import certain
from tests.snapshots.conftest import connected, emulated
from tests.snapshots.test_round_trip import change
from vastbench.emulator import engine
from vastbench.errors import DeadlineExceeded, SnapshotError, SnapshotRefused, UsageError
from vastbench.record.conditions import Conditions
from vastbench.record.phases import Outcome
from vastbench.snapshots import LocalPlace, Repository, check, read_manifest, restore, snapshots_in, take, verify
from vastbench.ssh.session import Session

PASSWORD = "correct horse \\ battery 'staple'"
KEYS = {"RESTIC_PASSWORD": PASSWORD, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret-of-the-store"}

with_restic = pytest.mark.skipif(not shutil.which("restic"), reason="restic is not installed")
with_s3 = pytest.mark.skipif(not importlib.util.find_spec("nanio"), reason="nanio is not installed")


@contextmanager
def s3(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real S3 endpoint over a folder: the address of its bucket for restic, and its process."""
    (folder / "bucket").mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    names = {"NANIO_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"], "NANIO_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"]}
    words = [sys.executable, "-m", "nanio", "serve", "--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(words, env=os.environ | names, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: answers(port))
            yield f"s3:http://127.0.0.1:{port}/bucket/work", process
        finally:
            process.kill()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def sftp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real SFTP server, which the machine reaches by OpenSSH's own client: an emulated instance's."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with emulated(key.with_suffix(".pub").read_text().strip()) as (port, _):
        given = (
            "-F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o IdentitiesOnly=yes"
        )
        (tmp_path / "bin").mkdir()
        ssh = tmp_path / "bin/ssh"
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {given} -i {key} -p {port} "$@"\n')
        ssh.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        yield "sftp:root@127.0.0.1:/workspace/repository"


@pytest.fixture(params=["folder", pytest.param("s3", marks=with_s3), "sftp"])
def repository(request, tmp_path, monkeypatch) -> Iterator[Repository]:
    with contextlib.ExitStack() as stack:
        if request.param == "folder":
            url = str(tmp_path / "repository")
        elif request.param == "s3":
            url, _ = stack.enter_context(s3(tmp_path / "s3"))
        else:
            url = stack.enter_context(sftp(tmp_path, monkeypatch))
        yield Repository(url, LocalPlace(tmp_path / "place"), KEYS)


@pytest.fixture
def in_folder(tmp_path) -> Repository:
    return Repository(str(tmp_path / "repository"), LocalPlace(tmp_path / "place"), KEYS)


def packs(tmp_path: Path) -> list[Path]:
    return sorted(one for one in (tmp_path / "repository/data").rglob("*") if one.is_file())


@with_restic
def test_first_and_incremental_snapshots_come_back_whole(machine, repository, work, tmp_path):
    with connected(machine) as session:
        full = take(session, str(work), repository)
        change(work)
        after = read_manifest(session, str(work))
        second = take(session, str(work), repository, full)
        assert (full.compression, second.parent, len(second.sha256)) == ("restic", full.id, 64)
        assert second.bytes_stored < full.bytes_stored
        verify(second, repository, session)
        restore(session, second, repository, str(tmp_path / "back"))
        check(read_manifest(session, str(tmp_path / "back")), after)
        restore(session, full, repository, str(tmp_path / "old"))
        assert (tmp_path / "old/sparse").stat().st_size == 30_000_000
        assert snapshots_in(repository) == [full, second]
        assert [one.name for one in tmp_path.iterdir() if "part" in one.name] == []


@with_restic
def test_another_word_opens_nothing_and_keeps_nothing(in_folder, work, session, tmp_path):
    snapshot = take(session, str(work), in_folder)
    wrong = Repository(str(tmp_path / "repository"), LocalPlace(tmp_path / "place"), KEYS | {"RESTIC_PASSWORD": "another"})
    for attempt in (
        lambda: take(session, str(work), wrong),
        lambda: restore(session, snapshot, wrong, str(tmp_path / "back")),
        lambda: verify(snapshot, wrong, session),
    ):
        with pytest.raises(SnapshotError, match="wrong password") as refused:
            attempt()
        assert PASSWORD not in str(refused.value)
    assert snapshots_in(in_folder) == [snapshot]
    assert not (tmp_path / "back").exists()


@with_restic
def test_damage_in_the_repository_is_refused(in_folder, work, session, tmp_path):
    snapshot = take(session, str(work), in_folder)
    for pack in packs(tmp_path):
        content = bytearray(pack.read_bytes())
        content[len(content) // 4] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(content)
    with pytest.raises(SnapshotRefused, match="restic check"):
        verify(snapshot, in_folder, session)
    with pytest.raises(SnapshotError):
        restore(session, snapshot, in_folder, str(tmp_path / "back"))
    assert not (tmp_path / "back").exists()


@with_restic
def test_a_snapshot_that_the_repository_has_not_is_refused(in_folder, work, session, tmp_path):
    snapshot = take(session, str(work), in_folder)
    with pytest.raises(SnapshotRefused, match="another one of that name"):
        restore(session, replace(snapshot, sha256="0" * 64), in_folder, str(tmp_path / "back"))
    shutil.rmtree(tmp_path / "repository/snapshots")
    (tmp_path / "repository/snapshots").mkdir()
    for attempt in (lambda: verify(snapshot, in_folder, session), lambda: restore(session, snapshot, in_folder, "/tmp/never")):
        with pytest.raises(SnapshotRefused, match="does not have it"):
            attempt()


@with_restic
def test_a_full_disk_is_said_on_both_ways(work, tmp_path):
    (work / "random").write_bytes(os.urandom(4_000_000))
    with emulated() as (port, key), connected(port, key) as session:
        session.run("mount -t tmpfs -o size=1m small /mnt && mkdir -p /workspace/work")
        session.run("head -c 4000000 /dev/urandom >/workspace/work/random", timeout_s=60)
        place = LocalPlace(tmp_path / "place")
        with pytest.raises(SnapshotError, match="no space left on device"):
            take(session, "/workspace/work", Repository("/mnt/repository", place, KEYS))
        assert place.names() == []
        repository = Repository("/workspace/repository", place, KEYS)
        snapshot = take(session, "/workspace/work", repository)
        session.run("rm -rf /mnt/*")
        with pytest.raises(SnapshotError, match="no space left on device"):
            restore(session, snapshot, repository, "/mnt/back")
        assert session.run("ls -A /mnt").stdout == ""


@with_restic
@with_s3
def test_an_endpoint_that_goes_down_in_the_middle_keeps_nothing(machine, work, tmp_path):
    (work / "random").write_bytes(os.urandom(80_000_000))
    place = LocalPlace(tmp_path / "place")
    with connected(machine) as session, s3(tmp_path / "s3") as (url, process):

        def stop_in_the_middle():
            until(lambda: sum(one.stat().st_size for one in (tmp_path / "s3").rglob("*") if one.is_file()) > 5_000_000)
            process.send_signal(signal.SIGSTOP)

        stopping = threading.Thread(target=stop_in_the_middle)
        stopping.start()
        with pytest.raises(DeadlineExceeded):
            take(session, str(work), Repository(url, place, KEYS), timeout_s=6)
        stopping.join()
        assert place.names() == []
        process.kill()
    with connected(machine) as session, s3(tmp_path / "s3") as (url, _):
        repository = Repository(url, place, KEYS)
        snapshot = take(session, str(work), repository)
        verify(snapshot, repository, session)
        restore(session, snapshot, repository, str(tmp_path / "back"))
        check(read_manifest(session, str(tmp_path / "back")), read_manifest(session, str(work)))


# --- secrets


SPY = """#!/bin/sh
{ tr '\\0' '\\n' </proc/$$/cmdline; echo; } >>"$SPY/argv"
{ tr '\\0' '\\n' </proc/$PPID/environ; echo; } >>"$SPY/around"
{ echo "password=$RESTIC_PASSWORD"; echo "repository=$RESTIC_REPOSITORY"; echo "key=$AWS_SECRET_ACCESS_KEY"; } >>"$SPY/own"
exit 1
"""


def test_password_keys_and_address_reach_that_one_process_only(machine, work, tmp_path, monkeypatch):
    for folder in ("bin", "spied", "home"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin/restic").write_text(SPY)
    (tmp_path / "bin/restic").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SPY", str(tmp_path / "spied"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    repository = Repository("s3:http://nobody.example/bucket", LocalPlace(tmp_path / "place"), KEYS)
    with connected(machine) as session, pytest.raises(SnapshotError) as failed:
        take(session, str(work), repository)
    own = (tmp_path / "spied/own").read_text()
    assert f"password={PASSWORD}\nrepository=s3:http://nobody.example/bucket\nkey=secret-of-the-store\n" in own
    seen = (tmp_path / "spied/argv").read_text() + (tmp_path / "spied/around").read_text()
    seen += "".join(machine.commands) + str(failed.value) + repr(repository)
    for secret in (PASSWORD, "secret-of-the-store", "nobody.example"):
        assert secret not in seen, secret
    assert list((tmp_path / "home").rglob("*")) == []


def test_without_a_password_there_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.delenv("RESTIC_PASSWORD", raising=False)
    with pytest.raises(UsageError, match="no password"):
        Repository("s3:http://host/bucket", LocalPlace(tmp_path))
    with pytest.raises(UsageError, match="more than one line"):
        Repository("s3:http://host/bucket", LocalPlace(tmp_path), KEYS | {"AWS_SESSION_TOKEN": "a\nb"})


def test_a_machine_that_can_have_no_restic_says_so(machine, work, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    run = Session.run

    def without(session, command, **more):
        return run(session, "true" if "restic" in command else command, **more)

    monkeypatch.setattr(Session, "run", without)
    with connected(machine) as session, pytest.raises(SnapshotError, match="no restic, and none can be installed"):
        take(session, str(work), Repository("/nowhere", LocalPlace(tmp_path / "place"), KEYS))


# --- the drill


@with_restic
@with_s3
def test_the_snapshot_drill_passes_with_a_repository_on_s3(tmp_path, monkeypatch):
    choose = engine.choose_isolation

    async def on_this_network():
        # Emulated machines have a network of their own, from which no endpoint can be reached.
        return replace(await choose(), own_network=False)

    monkeypatch.setattr(engine, "choose_isolation", on_this_network)
    monkeypatch.setattr(engine, "_tried", [])
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with s3(tmp_path / "s3") as (url, _), bench(tmp_path, profile=certain(tmp_path), seed=4, speed=20) as opened:
        conditions = Conditions(boot_deadline_s=120, ssh_deadline_s=60, files=60, size_mb=1.5, repository=url)
        run = opened.run(conditions, scenario="snapshot")
    assert (run.outcome, run.detail) == (Outcome.PASSED, "")
    assert run.validation["first snapshot"]["compression"] == "restic"
    assert "restic's repository" in str(run)
    assert PASSWORD not in str(run.validation) + str(run.conditions)
