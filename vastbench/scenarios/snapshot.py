"""The snapshot drill: make a workspace on one machine, keep it twice, destroy the machine, restore it on another, compare all.

It passes only if every file, mode, owner and link is the same, and if what is damaged, empty or another snapshot is refused.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from vastbench.errors import CheckFailed, SnapshotError, SnapshotRefused, UsageError, VastbenchError
from vastbench.record.acceptance import Criterion
from vastbench.record.conditions import Conditions
from vastbench.record.formats import counted, decimals, percent, seconds
from vastbench.record.phases import PhaseName, of_machine, renting, returning
from vastbench.rental.provisioner import Machine
from vastbench.scenarios.drill import HEDGING, Drill, Scenario
from vastbench.scenarios.workspace import Workspace
from vastbench.snapshots import (
    Manifest,
    Place,
    Repository,
    Snapshot,
    check,
    compare,
    find_snapshot,
    kept_in,
    limit_s,
    manifest_of,
    read_manifest,
    restore,
    take,
    verify,
)
from vastbench.snapshots.place import Writable
from vastbench.ssh.command import Readable
from vastbench.ssh.session import Session
from vastbench.ssh.transport import Traffic

SECOND = "second"
"""The machine on which the workspace is restored."""

FOLDER = "/workspace/vastbench"
"""The workspace, on both machines."""

MAKE = "make workspace"
"""Script sent → its files are there."""

READ = "read manifest"
"""Command sent → every file listed and hashed."""

FIRST = "first snapshot"
"""Command sent → whole: streamed, hashed, read again from its place and named."""

VERIFY = "verify first snapshot"
"""Begun → all that a restore needs was read again and hashed."""

CHANGE = "change workspace"
"""Script sent → files are rewritten, added, removed, renamed, replaced."""

READ_AGAIN = "read manifest again"
"""Command sent → every file listed and hashed."""

INCREMENTAL = "incremental snapshot"
"""Command sent → whole; holds what was changed since the first."""

VERIFY_BOTH = "verify both snapshots"
"""Begun → all that a restore needs was read again and hashed."""

RESTORE = "restore"
"""First command sent → the folder has its name on the second machine."""

COMPARE = "compare"
"""Command sent → every file, mode, owner and link is what it was on the first machine."""

REFUSE = "refuse what is wrong"
"""Begun → every negative control was refused."""

STEPS = (MAKE, READ, FIRST, VERIFY, CHANGE, READ_AGAIN, INCREMENTAL, VERIFY_BOTH, RESTORE, COMPARE, REFUSE)

RESTORES = 4
"""How often a restore is begun: once, and once for each control that needs a machine."""

ROOM = 2.5
"""The disk holds the workspace so many times: as it is restored, and once more for the controls."""


def run(drill: Drill) -> None:
    """Take two snapshots of a workspace on one machine and restore them on another.

    Raises CheckFailed for any difference and for a control that is not refused, SnapshotError, and what SSH raises.
    """
    conditions = drill.conditions
    workspace = Workspace.of_run(drill.run_id, conditions, FOLDER)
    needed_gb = ROOM * workspace.size_bytes / 1e9
    if needed_gb > conditions.disk_gb:
        raise UsageError(
            f"A workspace of {workspace.size_bytes / 1e9:g} GB needs a disk of {needed_gb:g} GB, and {conditions.disk_gb:g} GB "
            "were asked for.",
            hint="Give a larger --disk or a smaller --size.",
        )
    with kept_in(conditions.place) as kept:
        place = Repository(conditions.repository, kept) if conditions.repository else kept
        with drill.rent_raced() as first:
            before, snapshot = _keep(drill, first, workspace, place)
        with drill.rent(SECOND) as second:
            found = _bring_back(drill, second, snapshot, place, before)
            with drill.recorder.phase(REFUSE):
                damage, folders = _refuse(second.session, snapshot, place, found)
            drill.checks["refused"] = {
                "says": f"{', '.join(damage)}, and {len(folders)} folders with something wrong",
                "controls": [*damage, *folders],
                "matches": True,
            }
        if (speed := drill.recorder.clock.speed) != 1:
            drill.checks["rates"] = {
                "says": f"the clock runs {speed:g} times as fast as bytes do; take rates at --speed 1",
                "clock_speed": speed,
            }


def _keep(drill: Drill, machine: Machine, workspace: Workspace, place: Place) -> tuple[Manifest, Snapshot]:
    """The workspace as it was last seen on the first machine, and the snapshot of it."""
    phase, session, limit = drill.recorder.phase, machine.session, limit_s(workspace.size_bytes, workspace.files)
    with phase(MAKE):
        workspace.make(session, limit)
    with phase(READ):
        before = read_manifest(session, FOLDER, timeout_s=limit)
    links = sum(one.kind == "symlink" or one.link not in (b"", one.path) for one in before.entries)
    drill.checks["workspace"] = {
        "says": f"{counted(before.files, 'file')}, {_mb(before.size_bytes)}, {counted(links, 'link')}; seed {workspace.seed}",
        "files": before.files,
        "entries": len(before.entries),
        "bytes": before.size_bytes,
        "disk_bytes": before.disk_bytes,
        "seed": workspace.seed,
    }
    if not before.files:
        raise CheckFailed(f"{FOLDER} holds no file.", hint="The machine did not make the workspace: do not use it.")
    with phase(FIRST):
        full = take(session, FOLDER, place, manifest=before)
    _check_origin(full, session, before, place)
    first_s = _report(drill, FIRST, full, machine)
    with phase(VERIFY):
        verify(full, place, session)
    with phase(CHANGE):
        workspace.change(session, limit)
    with phase(READ_AGAIN):
        after = read_manifest(session, FOLDER, timeout_s=limit)
    if not compare(before, after):
        raise CheckFailed(
            "The workspace was changed, and nothing differs.", hint="The machine's disk may lose what is written."
        )
    with phase(INCREMENTAL):
        snapshot = take(session, FOLDER, place, full, manifest=after)
    _check_origin(snapshot, session, after, place)
    second_s = _report(drill, INCREMENTAL, snapshot, machine)
    drill.checks["both snapshots"] = _compared(full, first_s, snapshot, second_s)
    with phase(VERIFY_BOTH):
        verify(snapshot, place, session)
    if isinstance(place, Repository):  # the machine sent both there, and read what was there to verify it, twice
        both = full.bytes_stored + snapshot.bytes_stored
        machine.rental.elsewhere += Traffic(down=full.bytes_stored + both, up=both)
    return after, snapshot


def _bring_back(drill: Drill, machine: Machine, snapshot: Snapshot, place: Place, before: Manifest) -> Manifest:
    """Restore the snapshot on the second machine and compare all; the manifest of what came back."""
    with drill.recorder.phase(RESTORE):
        restored = restore(machine.session, snapshot, place, FOLDER)
    took_s = drill.recorder.phases[-1].seconds or 0.0
    if restored.bytes_sent is None:  # restic fetched it by itself: both snapshots at most
        stored = snapshot.bytes_stored + find_snapshot(place, snapshot.parent).bytes_stored
        machine.rental.elsewhere += Traffic(down=stored)
        source = f"restic's repository ({_mb(stored)} of this run in it)"
    else:
        source = f"{counted(restored.archives, 'archive')} ({_mb(restored.bytes_sent)} sent)"
    drill.checks[RESTORE] = {
        "says": f"{_mb(snapshot.bytes_raw)} from {source}, {_speed(took_s, snapshot.bytes_raw)}",
        "archives": restored.archives,
        "bytes_raw": snapshot.bytes_raw,
        "bytes_sent": restored.bytes_sent,
        "seconds": took_s,
        "stream_s": restored.stream_s,
        "link_mbit_per_s": machine.offer.inet_down,
        "disk_mb_per_s": machine.offer.disk_bw,
    }
    with drill.recorder.phase(COMPARE):
        found = read_manifest(machine.session, FOLDER, timeout_s=limit_s(snapshot.bytes_raw, snapshot.files))
        check(found, before)
    drill.checks[COMPARE] = {
        "says": f"all {len(found.entries):,} files, folders and links are the same in content, mode, owner and target",
        "entries": len(found.entries),
        "manifest_sha256": found.digest,
        "matches": True,
    }
    return found


def _check_origin(snapshot: Snapshot, session: Session, folder: Manifest, place: Place) -> None:
    """Raise CheckFailed unless the snapshot is of that folder, and of the machine of that session."""
    key = session.pin.fingerprint(session.endpoint.address)
    if snapshot.host_key != key:
        raise CheckFailed(
            f"The snapshot {snapshot.id} came from the machine {snapshot.host_key}, not from {key}.",
            hint="It must be taken where the work is, before that machine is given back.",
        )
    check(manifest_of(snapshot, place), folder)


def _refuse(session: Session, snapshot: Snapshot, place: Place, found: Manifest) -> tuple[list[str], list[str]]:
    """Try what must be refused: the names of the damage, and of what was wrong with folders.

    Raises CheckFailed for a control that was let through. What lies in a repository of restic's is not ours to damage.
    """
    control = f"{FOLDER}-control"

    def spoiled(name: str, instead: Instead) -> Callable[[], object]:
        wrong: Place = _Spoiled(place, name, instead)
        if isinstance(place, Repository):
            wrong = place.described_in(wrong)
        return lambda: restore(session, snapshot, wrong, control)

    first = find_snapshot(place, snapshot.parent)
    damage = {"an empty manifest": spoiled(snapshot.manifest, lambda _: io.BytesIO())}
    if not isinstance(place, Repository):
        damage["another snapshot"] = spoiled(first.archive, snapshot.archive)
        damage["one flipped byte"] = spoiled(first.archive, _Flipped)
    for name, attempt in damage.items():
        _must_be_refused(name, SnapshotRefused, attempt)
    wrong = {"an empty folder": Manifest(()), "an older folder": manifest_of(first, place), **_altered(found)}
    for name, manifest in wrong.items():
        _must_be_refused(name, CheckFailed, lambda manifest=manifest: check(manifest, found))  # type: ignore[misc]
    left = session.run(f"ls -d {control}* 2>/dev/null", check=False).stdout.strip()
    if left:
        raise CheckFailed(f"A restore that was refused left {left[:200]}.", hint="It must leave nothing: report this.")
    return list(damage), list(wrong)


def _must_be_refused(name: str, refusal: type[VastbenchError], attempt: Callable[[], object]) -> None:
    try:
        attempt()
    except refusal:
        return
    except (CheckFailed, SnapshotError) as other:
        raise CheckFailed(
            f"The control was refused for another reason: {name}: {other.message}", hint="It proves nothing: report this."
        ) from other
    raise CheckFailed(f"The control was not refused: {name}.", hint="A pass of this drill would prove nothing: report this.")


def _altered(found: Manifest) -> dict[str, Manifest]:
    """The folder with one thing wrong, each in a way that counting files does not see."""
    file = max((one for one in found.entries if one.kind == "file"), key=lambda one: (one.size, one.path))
    changes = {
        "one file missing": (),
        "one file too many": (file, replace(file, path=file.path + b" too many")),
        "other content": (replace(file, sha256=hashlib.sha256(b"other").hexdigest()),),
        "another mode": (replace(file, mode=file.mode ^ 0o111),),
        "another owner": (replace(file, uid=file.uid + 1),),
    }
    others = tuple(one for one in found.entries if one is not file)
    altered = {name: Manifest((*others, *instead)) for name, instead in changes.items()}
    for number, one in enumerate(found.entries):
        if one.kind == "symlink":
            elsewhere = (*found.entries[:number], replace(one, target=one.target + b"/else"), *found.entries[number + 1 :])
            return altered | {"a link that leads elsewhere": Manifest(elsewhere)}
    return altered


Instead = Callable[[Readable], Readable] | str
"""What is given in the place of something: made of it, or kept under another name."""


class _Spoiled:
    """A place that gives something else for one name."""

    def __init__(self, place: Place, name: str, instead: Instead) -> None:
        self._place, self._name, self._instead = place, name, instead
        self.where = place.where

    @contextmanager
    def read(self, name: str) -> Iterator[Readable]:
        instead = self._instead if name == self._name else name
        with self._place.read(instead if isinstance(instead, str) else name) as file:
            yield file if isinstance(instead, str) else instead(file)

    def write(self, name: str) -> AbstractContextManager[Writable]:
        return self._place.write(name)

    def names(self) -> list[str]:
        return self._place.names()

    def remove(self, name: str) -> None:
        self._place.remove(name)


class _Flipped:
    """A file with one bit of its 1,000th byte, or of its last, the other way round."""

    AT = 1000

    def __init__(self, file: Readable) -> None:
        self._file, self._at = file, 0

    def read(self, size: int = -1) -> bytes:
        data = bytearray(self._file.read(size))
        if data and self._at <= self.AT:
            data[min(self.AT - self._at, len(data) - 1)] ^= 1
            self._at = self.AT + 1
        return bytes(data)


def _report(drill: Drill, name: str, snapshot: Snapshot, machine: Machine) -> float:
    """Keep what the snapshot was, in numbers and in words; the seconds that it took."""
    took_s = drill.recorder.phases[-1].seconds or 0.0
    changed = (
        f"{_mb(snapshot.bytes_changed)} of {_mb(snapshot.bytes_raw)} were changed, "
        if snapshot.parent
        else f"{_mb(snapshot.bytes_raw)} "
    )
    share = snapshot.bytes_stored / snapshot.bytes_changed if snapshot.bytes_changed else None
    drill.checks[name] = {
        "says": f"{changed}kept as {_mb(snapshot.bytes_stored)} ({snapshot.compression}, {percent(share, 0)}), "
        f"{_speed(took_s, snapshot.bytes_changed)}",
        "id": snapshot.id,
        "bytes_raw": snapshot.bytes_raw,
        "bytes_changed": snapshot.bytes_changed,
        "bytes_stored": snapshot.bytes_stored,
        "compression": snapshot.compression,
        "seconds": took_s,
        "stream_s": snapshot.stream_s,
        "link_mbit_per_s": machine.offer.inet_up,
        "disk_mb_per_s": machine.offer.disk_bw,
    }
    return took_s


def _compared(first: Snapshot, first_s: float, second: Snapshot, second_s: float) -> dict[str, object]:
    """The incremental snapshot beside the first, and the line through both: seconds before the first byte, and per GB."""
    says = f"the incremental one took {percent(second_s / first_s, 0)} of the first one's time"
    gb, took_s = (first.bytes_changed - second.bytes_changed) / 1e9, first_s - second_s
    if gb <= 0 or took_s <= 0:  # noise: no line leads up through them
        return {"says": says}
    per_gb_s = took_s / gb
    fixed_s = first_s - per_gb_s * first.bytes_changed / 1e9
    line = f"a line through both: {seconds(fixed_s)} and {per_gb_s:,.0f} s per GB"
    return {"says": f"{says}; {line}", "fixed_s": fixed_s, "s_per_gb": per_gb_s}


def _mb(size_bytes: float) -> str:
    return f"{decimals(size_bytes / 1e6, 1)} MB"


def _speed(took_s: float, size_bytes: int) -> str:
    """How long, and at which rates."""
    if not took_s or not size_bytes:
        return f"in {seconds(took_s)}"
    return f"in {seconds(took_s)}: {decimals(size_bytes / 1e6 / took_s, 1)} MB/s, {took_s / size_bytes * 1e9:,.0f} s per GB"


def _work_s(conditions: Conditions) -> float:
    """The limits of all that it may do on a machine, one after the other."""
    each = limit_s(1e6 * (conditions.size_mb or 0.0), conditions.files or 0)
    return (len(STEPS) + RESTORES) * each


SNAPSHOT = Scenario(
    "snapshot",
    "until a workspace that was kept on one GPU is whole again on another; checks every file, and that damage is refused",
    {
        **renting(),
        **dict.fromkeys(STEPS[:-3]),
        **returning(),
        **renting(SECOND),
        **dict.fromkeys(STEPS[-3:]),
        **returning(SECOND),
    },
    ready=COMPARE,
    work_s=_work_s,
    run=run,
    machines=("", SECOND),
    options={"files": 200, "size_mb": 16.0, "place": None, "repository": None, **HEDGING},
    acceptance=(
        Criterion(
            "the workspace is whole again", 300.0, "s", of_machine(SECOND, PhaseName.REGISTER_KEY), COMPARE, stretch=180.0
        ),
        *(
            Criterion(what, 600.0, "s/GB", place=(step, "seconds"), per=(step, "bytes_raw"), stretch=300.0)
            for what, step in (("a first snapshot takes, for each GB", FIRST), ("restoring takes, for each GB", RESTORE))
        ),
        Criterion("runs pass", 0.95, "share"),
    ),
)
