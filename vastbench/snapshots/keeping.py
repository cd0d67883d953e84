"""A snapshot is taken, restored and verified: by an archive in a place, or by restic in its repository."""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from vastbench.errors import CommandFailed, SnapshotError, UsageError, VastbenchError
from vastbench.snapshots import archive
from vastbench.snapshots.manifest import MANIFEST_S, Manifest, check_unchanged, read_manifest
from vastbench.snapshots.place import Place
from vastbench.snapshots.restic import RESTIC, Repository
from vastbench.snapshots.snapshot import Snapshot, chain, manifest_of, new_id, verify_archive
from vastbench.ssh.session import Session

FLOOR_S, SECONDS_PER_GB, SECONDS_PER_FILE = 120.0, 600.0, 0.02
"""A snapshot or a restore may take so many clock seconds, and so many more for each GB in its files and for each file."""

_PREPARE = (
    'part=$1 target=$2; [ ! -e "$target" ] || { [ -d "$target" ] && [ ! -h "$target" ] && [ -z "$(ls -A -- "$target")" ]; } || '
    '{ echo "something is there already" >&2; exit 73; }; mkdir -p -- "$part"'
)
_COMMIT = (
    'part=$1 target=$2 whole=$3; [ ! -d "$target" ] || rmdir -- "$target" || exit; '
    'mv -T -- "$whole" "$target" && rm -rf -- "$part"'
)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore sent to the machine: ``bytes_sent`` of ``archives``, the streams taking ``stream_s`` clock seconds.

    ``bytes_sent`` is None where restic fetched them by itself.
    """

    archives: int
    bytes_sent: int | None
    stream_s: float


def limit_s(size_bytes: float, files: int = 0) -> float:
    """Clock seconds that a snapshot or a restore of so many bytes in so many files may take.

    >>> limit_s(0), limit_s(2e9), limit_s(0, 10_000)
    (120.0, 1320.0, 320.0)
    """
    return FLOOR_S + SECONDS_PER_GB * size_bytes / 1e9 + SECONDS_PER_FILE * files


def take(
    session: Session,
    folder: str,
    place: Place,
    parent: Snapshot | None = None,
    *,
    manifest: Manifest | None = None,
    timeout_s: float | None = None,
) -> Snapshot:
    """Keep ``folder`` as it is now in ``place``; with a ``parent``, only what has changed since that.

    ``manifest``: of the folder as it is, when it was just read; nothing may have changed since. ``timeout_s``: clock seconds
    for the stream, by default :func:`limit_s` of the folder's size; each look at the folder may take as long, by default 600 s.

    Raises SnapshotError for a folder that holds no file or changes meanwhile, and when the place fails; SnapshotRefused for a
    parent that is damaged; and what :meth:`vastbench.ssh.session.Session.stream` raises. Nothing is kept then.
    """
    taken_at, asked = datetime.now(UTC).isoformat(), session.clock.now()
    before = manifest_of(parent, place) if parent else Manifest(())
    looking_s = MANIFEST_S if timeout_s is None else timeout_s
    manifest = manifest or read_manifest(session, folder, timeout_s=looking_s)
    if not manifest.files:
        raise SnapshotError(f"{folder!r} holds no file.", hint="Give the folder with the work; nothing was kept.")
    wanted = archive.changed(before, manifest)
    begun = Snapshot(
        id=new_id(),
        manifest_sha256=manifest.digest,
        sha256="",
        files=manifest.files,
        bytes_raw=manifest.size_bytes,
        bytes_changed=Manifest(wanted).size_bytes,
        bytes_stored=0,
        compression=RESTIC if isinstance(place, Repository) else archive.compression_of(session),
        host_key=session.pin.fingerprint(session.endpoint.address) or "",
        taken_at=taken_at,
        asked=asked,
        whole=asked,
        stream_s=0.0,
        parent=parent.id if parent else "",
    )
    limit = limit_s(manifest.size_bytes, manifest.files) if timeout_s is None else timeout_s
    try:
        if isinstance(place, Repository):
            stored = place.store(session, folder, begun, limit)
        else:
            stored = archive.store(session, folder, place, begun, wanted, limit)
        check_unchanged(session, folder, manifest, timeout_s=looking_s)
        with place.write(stored.manifest) as file:
            file.write(manifest.to_bytes())
        if not isinstance(place, Repository):  # which has checked what it wrote
            verify_archive(stored, place)
        manifest_of(stored, place)
        snapshot = replace(stored, whole=session.clock.now())
        with place.write(f"{snapshot.id}.json") as file:
            file.write(json.dumps(snapshot.to_dict(), indent=2, allow_nan=False).encode() + b"\n")
    except BaseException:
        for name in (begun.archive, begun.manifest):
            with contextlib.suppress(VastbenchError):  # the error that counts is on its way
                place.remove(name)
        raise
    return snapshot


def restore(session: Session, snapshot: Snapshot, place: Place, folder: str, *, timeout_s: float | None = None) -> Restored:
    """Make ``folder`` on the machine what it was when ``snapshot`` was taken, with all that it builds on.

    It is built beside ``folder`` and renamed when all of it has come and has the right SHA-256: ``folder`` is whole or not
    there. ``folder`` must not exist, or be empty. ``timeout_s``: clock seconds for each archive, by default :func:`limit_s` of
    the folder's size.

    Raises SnapshotRefused for a snapshot that is damaged, cut short or another one; SnapshotError when something is in the way,
    the machine's disk is full or the place fails; and what :meth:`vastbench.ssh.session.Session.stream` raises.
    """
    target = _target(folder)
    part = f"{target}.{secrets.token_hex(6)}.part"
    links = chain(snapshot, place)
    limit = limit_s(snapshot.bytes_raw, snapshot.files) if timeout_s is None else timeout_s
    try:
        session.run(_script(_PREPARE, part, target))
    except CommandFailed as failed:
        raise SnapshotError(
            f"{folder!r} cannot be restored: {failed.message}", hint="Give a folder that does not exist, or is empty."
        ) from failed
    try:
        if isinstance(place, Repository):
            manifest_of(snapshot, place)
            whole, took_s = place.lay(session, snapshot, part, limit)
            done = Restored(1, None, took_s)
        else:
            whole, done = part, _lay(session, links, place, part, limit)
        session.run(_script(_COMMIT, part, target, whole))
    except BaseException as error:
        with contextlib.suppress(Exception):  # the machine may be gone; the error that counts is on its way
            session.run(f"rm -rf -- {shlex.quote(part)}")
        if isinstance(error, CommandFailed):
            raise SnapshotError(
                f"The snapshot {snapshot.id} was not restored: {error.message}",
                hint="The machine needs room for the folder, and the programs with which the snapshot was taken.",
            ) from error
        raise
    return done


def _lay(session: Session, links: list[Snapshot], place: Place, part: str, limit: float) -> Restored:
    """Lay the archives over each other in the folder ``part``."""
    before, sent, took_s = Manifest(()), 0, 0.0
    for one in links:
        after = manifest_of(one, place)
        archive.remove(session, part, archive.outdated(before, after), limit)
        more, more_s = archive.extract(session, one, place, part, limit)
        before, sent, took_s = after, sent + more, took_s + more_s
    return Restored(len(links), sent, took_s)


def verify(snapshot: Snapshot, place: Place, session: Session | None = None) -> None:
    """Read again all that a restore would need, the snapshots that it builds on included, and hash it.

    A restic repository is read by the machine of ``session``, which it needs. Raises SnapshotRefused when anything is damaged,
    cut short or another snapshot's; NotFound when one of the chain is missing.
    """
    links = chain(snapshot, place)
    for one in links:
        manifest_of(one, place)
        if not isinstance(place, Repository):
            verify_archive(one, place)
    if isinstance(place, Repository):
        if session is None:
            raise UsageError("A restic repository is verified by a machine.", hint="Give verify() a session.")
        place.check(session, links, limit_s(snapshot.bytes_raw, snapshot.files))


def _script(script: str, *words: str) -> str:
    return f"sh -c {shlex.quote(script)} sh {' '.join(map(shlex.quote, words))}"


def _target(folder: str) -> str:
    target = folder.rstrip("/")
    if not target.startswith("/") or "\0" in target or target.rsplit("/", 1)[-1] in (".", ".."):
        raise UsageError(f"The folder is {folder!r}.", hint="Give a whole path below /, such as /workspace/job.")
    return target
