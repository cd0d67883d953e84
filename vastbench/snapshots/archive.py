"""The archive of a snapshot: tar, compressed where the machine can, streamed through a command of the session.

Nothing is written to the machine's disk to take a snapshot, and nothing of a stream is kept in memory. An archive is hashed on
its way, on both ways; the machine's word for it is never asked.
"""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import shlex
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from vastbench.errors import CommandFailed, SnapshotError, UsageError, VastbenchError
from vastbench.snapshots.manifest import Entry, Manifest, check_unchanged, read_manifest
from vastbench.snapshots.place import Place, failing
from vastbench.snapshots.snapshot import Measured, Snapshot, chain, manifest_of, new_id, verify_archive
from vastbench.ssh.command import Readable
from vastbench.ssh.session import Session

FLOOR_S, SECONDS_PER_GB, SECONDS_PER_FILE = 120.0, 600.0, 0.02
"""A snapshot or a restore may take so many clock seconds, and so many more for each GB in its files and for each file."""

COMPRESSIONS = {"zstd": "zstd -3 -T0", "gzip": "gzip -1", "none": ""}
"""The programs by which tar compresses, the best first."""

_CHOOSE = "; ".join(f"command -v {name} >/dev/null && {{ echo {name}; exit; }}" for name in ("zstd", "gzip")) + "; echo none"

_PREPARE = (
    'part=$1 target=$2; [ ! -e "$target" ] || { [ -d "$target" ] && [ ! -h "$target" ] && [ -z "$(ls -A -- "$target")" ]; } || '
    '{ echo "something is there already" >&2; exit 73; }; mkdir -p -- "$part"'
)
_COMMIT = 'part=$1 target=$2; [ ! -d "$target" ] || rmdir -- "$target" || exit; mv -T -- "$part" "$target"'


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore sent to the machine: ``bytes_sent`` of ``archives``, the streams taking ``stream_s`` clock seconds."""

    archives: int
    bytes_sent: int
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
    for the stream, by default :func:`limit_s` of the folder's size.

    Raises SnapshotError for a folder that holds no file or changes meanwhile, and when the place fails; SnapshotRefused for a
    parent that is damaged; and what :meth:`vastbench.ssh.session.Session.stream` raises. Nothing is kept then.
    """
    taken_at, asked = datetime.now(UTC).isoformat(), session.clock.now()
    before = manifest_of(parent, place) if parent else Manifest(())
    manifest = manifest or read_manifest(session, folder)
    if not manifest.files:
        raise SnapshotError(f"{folder!r} holds no file.", hint="Give the folder with the work; nothing was kept.")
    wanted = changed(before, manifest)
    compression = session.run(_CHOOSE).stdout.strip()
    if compression not in COMPRESSIONS:
        raise SnapshotError(f"The machine names the compression {compression[:40]!r}.", hint="Rent another machine.")
    begun = Snapshot(
        id=new_id(),
        manifest_sha256=manifest.digest,
        sha256="",
        files=manifest.files,
        bytes_raw=manifest.size_bytes,
        bytes_changed=Manifest(wanted).size_bytes,
        bytes_stored=0,
        compression=compression,
        host_key=session.pin.fingerprint(session.endpoint.address) or "",
        taken_at=taken_at,
        asked=asked,
        whole=asked,
        stream_s=0.0,
        parent=parent.id if parent else "",
    )
    limit = limit_s(manifest.size_bytes, manifest.files) if timeout_s is None else timeout_s
    try:
        stored = _store(session, folder, place, begun, wanted, limit)
        check_unchanged(session, folder, manifest)
        with place.write(stored.manifest) as file:
            file.write(manifest.to_bytes())
        verify_archive(stored, place)
        manifest_of(stored, place)
        snapshot = replace(stored, whole=session.clock.now())
        with place.write(f"{snapshot.id}.json") as file:
            file.write(json.dumps(snapshot.to_dict(), indent=2).encode() + b"\n")
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
    done, before = Restored(0, 0, 0.0), Manifest(())
    links = chain(snapshot, place)
    limit = limit_s(snapshot.bytes_raw, snapshot.files) if timeout_s is None else timeout_s
    try:
        session.run(_script(_PREPARE, part, target))
    except CommandFailed as failed:
        raise SnapshotError(
            f"{folder!r} cannot be restored: {failed.message}", hint="Give a folder that does not exist, or is empty."
        ) from failed
    try:
        for one in links:
            after = manifest_of(one, place)
            _remove(session, part, outdated(before, after), limit)
            sent, took_s = _extract(session, one, place, part, limit)
            done = Restored(done.archives + 1, done.bytes_sent + sent, done.stream_s + took_s)
            before = after
        session.run(_script(_COMMIT, part, target))
    except BaseException as error:
        with contextlib.suppress(Exception):  # the machine may be gone; the error that counts is on its way
            session.run(f"rm -rf -- {shlex.quote(part)}")
        if isinstance(error, CommandFailed):
            raise SnapshotError(
                f"The snapshot {snapshot.id} was not restored: {error.message}",
                hint=f"The machine needs room for the folder, GNU's tar, and {snapshot.compression} if that is a program.",
            ) from error
        raise
    return done


def changed(before: Manifest, after: Manifest) -> tuple[Entry, ...]:
    """The entries of ``after`` that an archive over ``before`` must hold: new or changed ones, and hard links all together."""
    groups: dict[bytes, list[Entry]] = defaultdict(list)
    for entry in after.entries:
        groups[entry.link or entry.path].append(entry)
    moved = (group for group in groups.values() if any(before.by_path.get(one.path) != one for one in group))
    return tuple(sorted((one for group in moved for one in group), key=lambda one: one.path))


def outdated(before: Manifest, after: Manifest) -> list[bytes]:
    """The paths of ``before`` that must go before ``after`` can be laid over it; what is changed goes too, folders excepted."""
    coming = {entry.path: entry for entry in changed(before, after)}
    paths = []
    for path, was in before.by_path.items():
        now = after.by_path.get(path)
        if now is None or now.kind != was.kind or (path in coming and now.kind != "folder"):
            paths.append(path)
    return paths


def _store(session: Session, folder: str, place: Place, begun: Snapshot, wanted: Iterable[Entry], limit: float) -> Snapshot:
    """Stream the archive into the place: the snapshot with its size and its SHA-256."""
    names = b"".join(b"./" + entry.path + b"\0" for entry in wanted)
    # Options about names count from where they stand.
    tar = f"tar --create --file=- --directory={shlex.quote(folder)}{_through(begun.compression)}"
    command = f"{tar} --format=gnu --sparse --numeric-owner --no-recursion --null --files-from=-"
    measured = Measured()
    with place.write(begun.archive) as file:

        def keep(data: bytes) -> None:
            with failing(place.where, "written"):
                file.write(data)
            measured.count(data)

        try:
            done = session.stream(command, source=io.BytesIO(names), sink=keep, timeout_s=limit)
        except CommandFailed as failed:
            raise SnapshotError(
                f"The snapshot was not taken: {failed.message}",
                hint="Pause what writes to the folder; the image must have GNU's tar.",
            ) from failed
    return replace(begun, bytes_stored=measured.bytes, sha256=measured.sha256, stream_s=done.received - done.sent)


def _extract(session: Session, snapshot: Snapshot, place: Place, part: str, limit: float) -> tuple[int, float]:
    """Stream the archive into the folder ``part``: the bytes that were sent, and the clock seconds that they took."""
    tar = "tar --extract --file=- --numeric-owner --same-owner --preserve-permissions --delay-directory-restore"
    with place.read(snapshot.archive) as file:
        measured = Measured(_Failing(file, place))
        try:
            done = session.stream(
                f"{tar}{_through(snapshot.compression)} --directory={shlex.quote(part)}",
                source=measured,
                timeout_s=limit,
            )
        except CommandFailed:
            # A machine that cannot read what is damaged says so in many ways; what is damaged is said here, in one.
            verify_archive(snapshot, place)
            raise
    measured.check(snapshot)
    return measured.bytes, done.received - done.sent


class _Failing:
    """A file of a place whose failures are no end of file to whoever sends it."""

    def __init__(self, file: Readable, place: Place) -> None:
        self._file, self._place = file, place

    def read(self, size: int = -1, /) -> bytes:
        with failing(self._place.where, "read"):
            return self._file.read(size)
        raise AssertionError("the block above returns or raises")


def _remove(session: Session, part: str, paths: list[bytes], limit: float) -> None:
    if paths:
        names = b"".join(b"./" + path + b"\0" for path in paths)
        session.stream(f"cd -- {shlex.quote(part)} && xargs -0 rm -rf --", source=io.BytesIO(names), timeout_s=limit)


def _through(compression: str) -> str:
    program = COMPRESSIONS[compression]
    return f" --use-compress-program={shlex.quote(program)}" if program else ""


def _script(script: str, *words: str) -> str:
    return f"sh -c {shlex.quote(script)} sh {' '.join(map(shlex.quote, words))}"


def _target(folder: str) -> str:
    target = folder.rstrip("/")
    if not target.startswith("/") or "\0" in target or target.rsplit("/", 1)[-1] in (".", ".."):
        raise UsageError(f"The folder is {folder!r}.", hint="Give a whole path below /, such as /workspace/job.")
    return target
