"""The snapshot drill: what a whole run shows, and that it fails, for its own reason, whatever is broken."""

import re
import signal
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fleet import bench, reachable
from tests.processes import Started, command, emulator_process
from tests.profiles import certain
from tests.scenarios.test_tries import on_one_machine
from tests.snapshots.conftest import connected
from tests.ssh.machine import Machine
from vastbench.emulator import Emulator
from vastbench.errors import CheckFailed, UsageError
from vastbench.record.conditions import Conditions
from vastbench.record.document import run_from_dict, run_to_dict
from vastbench.record.phases import Outcome
from vastbench.scenarios import drill as drills
from vastbench.scenarios import snapshot as scenario
from vastbench.scenarios.snapshot import COMPARE, FIRST, FOLDER, INCREMENTAL, REFUSE, RESTORE, SNAPSHOT
from vastbench.scenarios.workspace import Workspace
from vastbench.snapshots import (
    LocalPlace,
    Restored,
    archive,
    check,
    find_snapshot,
    keeping,
    read_manifest,
    snapshots_in,
    verify,
)
from vastbench.snapshots import snapshot as kept
from vastbench.ssh.command import CHUNK
from vastbench.ssh.session import CommandResult, Session
from vastbench.store import Store

SPEED = 40
CONDITIONS = Conditions(boot_deadline_s=120, ssh_deadline_s=60, files=60, size_mb=1.5)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A bench for all tests of this file."""
    folder = tmp_path_factory.mktemp("snapshot")
    with bench(folder, profile=certain(folder), seed=4, speed=SPEED) as opened:
        yield opened


@pytest.fixture(scope="module")
def made(opened):
    """A run that passed."""
    return opened.run(CONDITIONS, scenario="snapshot")


def test_a_workspace_comes_back_whole_on_another_machine(made, opened):
    assert (made.outcome, made.detail) == (Outcome.PASSED, "")
    assert {phase.name for phase in made.phases} == set(SNAPSHOT.timeline)
    assert len({got["machine_id"] for got in made.rented}) == 2
    assert made.validation["workspace"]["files"] >= 50
    assert made.validation[COMPARE]["matches"]
    assert len(made.validation["refused"]["controls"]) == 11
    assert opened.emulator.alive == []
    assert opened.store.leases(open_only=True) == []
    assert opened.store.run(made.id) == run_from_dict(run_to_dict(made)) == made


def test_the_figures_are_of_what_was_kept_and_sent(made):
    first, second, back = (made.validation[name] for name in (FIRST, INCREMENTAL, RESTORE))
    assert 1.4e6 < first["bytes_changed"] == first["bytes_raw"] < 1.6e6
    assert second["bytes_changed"] < first["bytes_changed"] / 4
    assert back["bytes_sent"] == first["bytes_stored"] + second["bytes_stored"]
    assert first["seconds"] == made.seconds(FIRST)
    assert 0 < first["stream_s"] < first["seconds"]


def test_the_text_says_what_was_found(made):
    text = str(made)
    assert re.search(r"\n  first snapshot +1\.5 MB kept as \d\.\d MB \(zstd, \d\d %\), in \d", text)
    assert re.search(r"\n  refused +an empty manifest, another snapshot, one flipped byte, and 8 folders", text)
    assert max(map(len, text.splitlines())) < 140
    assert "<b>compare</b> all " in made._repr_html_()


def test_what_was_asked_for_is_recorded_and_nothing_of_other_drills(made, opened):
    assert (made.conditions["files"], made.conditions["size_mb"], "place" in made.conditions) == (60, 1.5, False)
    settled = SNAPSHOT.settled(Conditions())
    assert (settled.files, settled.size_mb) == (200, 16.0)
    assert {"files", "size_mb", "place"} & Conditions().to_dict().keys() == set()
    assert Conditions.of(CONDITIONS.to_dict()) == CONDITIONS
    with pytest.raises(UsageError, match="integration does not know files="):
        opened.run(CONDITIONS, scenario="integration")


def test_its_time_and_its_worst_cost_grow_with_its_size():
    small, large = (SNAPSHOT.lifetime_s(Conditions(size_mb=size)) for size in (16, 16_000))
    assert large - small > 10 * 600 * 16
    in_vain = (drills.TRIES - 1) * Conditions().lifetime_s(0.0)
    assert SNAPSHOT.worst_case_usd(Conditions(size_mb=16), 1.0) == pytest.approx((2 * small + in_vain) / 3600)


def test_a_workspace_that_does_not_fit_the_disk_rents_nothing(opened):
    run = opened.run(replace(CONDITIONS, size_mb=9000), scenario="snapshot")
    assert (run.cause, run.attempts) == ("usage", ())
    assert "--disk" in run.detail


def test_snapshots_stay_in_a_place_that_was_asked_for(opened, tmp_path):
    run = opened.run(replace(CONDITIONS, place=str(tmp_path / "kept")), scenario="snapshot")
    assert run.outcome is Outcome.PASSED
    first, second = snapshots_in(LocalPlace(tmp_path / "kept"))
    assert (second.parent, second.id) == (first.id, run.validation[INCREMENTAL]["id"])
    verify(second, LocalPlace(tmp_path / "kept"))


def test_every_byte_is_metered_on_the_machine_that_moved_it(tmp_path, monkeypatch):
    with Emulator(certain(tmp_path), seed=4, speed=SPEED) as vast:
        reachable(vast, SPEED, monkeypatch)
        with bench(tmp_path, live=True, budget_usd=9) as opened:
            moved = []
            cost_of = drills.cost_of
            monkeypatch.setattr(drills, "cost_of", lambda used, rates: (moved.append(used), cost_of(used, rates))[1])
            run = opened.run(CONDITIONS, scenario="snapshot")
            assert run.outcome is Outcome.PASSED
            counted = sorted({(used.bytes_down, used.bytes_up) for used in moved})
            first, second = (run.validation[name]["bytes_stored"] for name in (FIRST, INCREMENTAL))
            (kept_down, kept_up), (back_down, back_up) = counted
            assert first + second < kept_up < first + second + 200_000
            assert 2 * first + second < back_down < 4 * first
            assert kept_down < 300_000 > back_up


# --- what is broken, each in one place


def after_restore(shell: str) -> Callable:
    """Let ``shell`` do its work in the workspace as soon as it is restored."""

    def broken(patch):
        whole = scenario.restore

        def restore(session, snapshot, place, folder):
            done = whole(session, snapshot, place, folder)
            session.run(f"cd {folder} && {shell}")
            return done

        patch.setattr(scenario, "restore", restore)

    return broken


def only_for_real(real: Callable) -> Callable:
    """Replace ``restore`` by ``real``, except in the controls."""

    def broken(patch):
        whole = scenario.restore
        patch.setattr(scenario, "restore", lambda *given: (real if given[3] == FOLDER else whole)(*given))

    return broken


def restore_another(session, snapshot, place, folder):
    return keeping.restore(session, find_snapshot(place, snapshot.parent), place, folder)


def from_another_machine(patch):
    take = scenario.take
    patch.setattr(scenario, "take", lambda *given, **more: replace(take(*given, **more), host_key="SHA256:other"))


def from_the_lost_machine(patch):
    take = scenario.take
    patch.setattr(scenario, "take", lambda session, *given, **more: (session.close(), take(session, *given, **more)))


def incremental_forgotten(patch):
    take = scenario.take
    patch.setattr(
        scenario, "take", lambda session, folder, place, parent=None, **more: parent or take(session, folder, place, **more)
    )


def count_of_files(found, expected):
    if abs(found.files - expected.files) > expected.files * 0.05:
        raise CheckFailed("another number of files", hint="")


class Short:
    """A file that keeps less than it takes."""

    def __init__(self, file):
        self.file = file

    def write(self, data):
        self.file.write(data[:-100])


def stored_short(patch):
    write = LocalPlace.write

    @contextmanager
    def cut(place, name):
        with write(place, name) as file:
            yield Short(file) if name.endswith(".archive") else file

    patch.setattr(LocalPlace, "write", cut)


def cut_in_its_place(patch):
    take = scenario.take

    def taken(session, folder, place, parent=None, **more):
        snapshot = take(session, folder, place, parent, **more)
        with (Path(place.where) / snapshot.archive).open("r+b") as file:
            file.truncate(snapshot.bytes_stored - 1)
        return snapshot

    patch.setattr(scenario, "take", taken)


def cut_after_the_verification(patch):
    cut_in_its_place(patch)
    patch.setattr(scenario, "verify", lambda *given: None)


def timeout_taken_for_an_end(patch):
    stream = Session.stream

    def cut(session, command, *, sink=None, **more):
        if "--create" not in command:
            return stream(session, command, sink=sink, **more)
        heard: list[bytes] = []
        done = stream(session, command, sink=heard.append, **more)
        sink(b"".join(heard)[: max(1, sum(map(len, heard)) - CHUNK)])
        return CommandResult(command, 0, "", "", done.sent, done.received)

    patch.setattr(Session, "stream", cut)


def manifest_not_looked_at(patch):
    def read(snapshot, place):
        with place.read(snapshot.manifest) as file:
            data = file.read()
        return kept.Manifest.from_bytes(data) if data else kept.Manifest(())

    patch.setattr(keeping, "manifest_of", read)


BROKEN: dict[str, tuple[Callable, str, str]] = {
    "restore skipped": (only_for_real(lambda *given: Restored(1, 1, 0.0)), "snapshot", "cannot be listed"),
    "one byte flipped": (
        after_restore("printf x | dd of=weights/3.bin bs=1 seek=100 conv=notrunc 2>/dev/null"),
        "check_failed",
        "weights/3.bin: sha256 is ",
    ),
    "wrong snapshot restored": (only_for_real(restore_another), "check_failed", "The folder differs in "),
    "empty workspace": (
        lambda patch: patch.setattr(Workspace, "make", lambda self, session, _: session.run(f"mkdir -p {FOLDER}")),
        "check_failed",
        "holds no file",
    ),
    "workspace not changed": (
        lambda patch: patch.setattr(Workspace, "change", lambda *given: None),
        "check_failed",
        "nothing differs",
    ),
    "snapshot of another machine": (from_another_machine, "check_failed", "came from the machine SHA256:other"),
    "snapshot of the lost machine": (from_the_lost_machine, "connection_lost", "the connection is gone"),
    "incremental forgotten": (incremental_forgotten, "check_failed", "The folder differs in "),
    "validated by a count": (
        lambda patch: patch.setattr(scenario, "check", count_of_files),
        "check_failed",
        "not refused: ",
    ),
    "not compared": (
        lambda patch: patch.setattr(scenario, "check", lambda *given: None),
        "check_failed",
        "not refused: an empty folder",
    ),
    "mode lost": (after_restore("chmod 644 text/2.txt weights/1.bin"), "check_failed", "weights/1.bin: mode is 644, not "),
    "link turned into a file": (
        after_restore("cp weights/1.bin copy && rm current && mv copy current"),
        "check_failed",
        "current: kind is file, not symlink",
    ),
    "link leads elsewhere": (after_restore("ln -sfn weights current"), "check_failed", "current: target is weights, not text"),
    "hard link lost": (
        after_restore("cp -p linked copy && mv copy linked"),
        "check_failed",
        "linked: link is nothing, not linked",
    ),
    "a file missing": (after_restore("rm text/2.txt"), "check_failed", "text/2.txt is missing"),
    "a file too many": (after_restore(": > extra && chmod 600 extra"), "check_failed", "extra is extra"),
    "a folder missing": (after_restore("rm -r small/new"), "check_failed", "small/new is missing"),
    "deletion not applied": (
        lambda patch: patch.setattr(archive, "remove", lambda *given: None),
        "check_failed",
        "small/1 is extra",
    ),
    "stored short, named whole": (stored_short, "snapshot_refused", "its archive has "),
    "cut in its place": (cut_in_its_place, "snapshot_refused", "its archive has "),
    "cut after it was verified": (cut_after_the_verification, "snapshot_refused", "its archive has "),
    "archive not hashed": (
        lambda patch: patch.setattr(kept.Measured, "check", lambda *given: None),
        "check_failed",
        "not refused: another snapshot",
    ),
    "manifest not looked at": (
        manifest_not_looked_at,
        "check_failed",
        "an empty manifest",
    ),
    "timeout taken for the end": (timeout_taken_for_an_end, "snapshot", "was not restored"),
    "the same machine again": (
        lambda patch: on_one_machine(patch, scenario.SECOND, ""),
        "check_failed",
        "Two instances of the run were on the machine",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_broken_fails_the_drill_for_its_own_reason(opened, monkeypatch, broken):
    breaks, cause, words = BROKEN[broken]
    breaks(monkeypatch)
    run = opened.run(CONDITIONS, scenario="snapshot")
    assert (run.outcome, run.cause) == (Outcome.FAILED, cause), run.detail
    assert words in run.detail
    assert opened.emulator.alive == []
    assert run.phase(REFUSE) is None or "control" in run.detail


def test_a_snapshot_that_reaches_its_limit_has_no_time_and_no_figures(opened, monkeypatch, tmp_path):
    stream = Session.stream

    def slow(session, command, **more):
        # The archive comes, and its end does not.
        return stream(session, f"{command}; sleep 60" if "--create" in command else command, **more | {"timeout_s": 90})

    monkeypatch.setattr(Session, "stream", slow)
    run = opened.run(replace(CONDITIONS, place=str(tmp_path)), scenario="snapshot")
    assert (run.outcome, run.cause) == (Outcome.CENSORED, "deadline")
    assert (run.phase(FIRST).outcome, run.seconds(FIRST)) == (Outcome.CENSORED, None)
    assert FIRST not in run.validation
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("phase", "whole"), [(FIRST, 0), (INCREMENTAL, 1), (RESTORE, 2)])
def test_killed_in_any_phase_nothing_leaks_and_the_last_whole_one_restores(tmp_path, phase, whole):
    place, store = LocalPlace(tmp_path / "kept"), tmp_path / "runs.sqlite"
    with emulator_process(tmp_path, "--profile", str(certain(tmp_path)), "--speed", "20") as environment:
        words = ["--live", "--budget", "9", "--yes", "--store", store, "--place", place.where, "--size", "40"]
        with Started("run", "snapshot", *words, env=environment, cwd=tmp_path) as process:
            for line in process.stderr:
                if line.strip() == f"{phase} …":
                    break
            process.send_signal(signal.SIGKILL)
        reaped = command("reap", "--live", "--yes", "--store", store, env=environment, cwd=tmp_path)
        assert reaped.returncode == 0, reaped.stderr
    with Store(store) as opened:
        assert {lease.state for lease in opened.leases()} == {"closed"}
    kept_there = snapshots_in(place)
    assert len(kept_there) in (whole, whole + 1)  # the signal comes a moment after the phase has begun
    machine = Machine()
    with connected(machine) as session:
        for one in kept_there[-1:]:
            verify(one, place)
            keeping.restore(session, one, place, str(tmp_path / "back"))
            check(read_manifest(session, str(tmp_path / "back")), kept.manifest_of(one, place))
    machine.stop()
