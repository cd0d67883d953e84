"""The archive of a snapshot: tar, compressed where the machine can, streamed through a command of the session.

Nothing is written to the machine's disk to take a snapshot, and nothing of a stream is kept in memory. An archive is hashed on
its way, on both ways; the machine's word for it is never asked.
"""

from __future__ import annotations

import io
import shlex
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from vastbench.errors import CommandFailed, SnapshotError
from vastbench.snapshots.manifest import Entry, Manifest
from vastbench.snapshots.place import Place, failing
from vastbench.snapshots.snapshot import Measured, Snapshot, verify_archive
from vastbench.ssh.command import Readable
from vastbench.ssh.session import Session

COMPRESSIONS = {"zstd": "zstd -3 -T0", "gzip": "gzip -1", "none": ""}
"""The programs by which tar compresses, the best first."""

_CHOOSE = "; ".join(f"command -v {name} >/dev/null && {{ echo {name}; exit; }}" for name in ("zstd", "gzip")) + "; echo none"


def compression_of(session: Session) -> str:
    """The best compression that the machine has. Raises SnapshotError for an answer that is none."""
    found = session.run(_CHOOSE).stdout.strip()
    if found not in COMPRESSIONS:
        raise SnapshotError(f"The machine names the compression {found[:40]!r}.", hint="Rent another machine.")
    return found


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


def store(session: Session, folder: str, place: Place, begun: Snapshot, wanted: Iterable[Entry], limit: float) -> Snapshot:
    """Stream an archive of the ``wanted`` entries into the place: the snapshot with its size and its SHA-256.

    ``limit``: clock seconds. Raises SnapshotError when the place or the command fails, and what a stream raises.
    """
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


def extract(session: Session, snapshot: Snapshot, place: Place, part: str, limit: float) -> tuple[int, float]:
    """Stream the archive into the folder ``part``: the bytes that were sent, and the clock seconds that they took.

    Raises SnapshotRefused for an archive that is not the snapshot's, SnapshotError when the place fails, and what a stream
    raises.
    """
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


def remove(session: Session, part: str, paths: list[bytes], limit: float) -> None:
    """Delete these paths below the folder ``part``."""
    if paths:
        names = b"".join(b"./" + path + b"\0" for path in paths)
        session.stream(f"cd -- {shlex.quote(part)} && xargs -0 rm -rf --", source=io.BytesIO(names), timeout_s=limit)


def _through(compression: str) -> str:
    program = COMPRESSIONS[compression]
    return f" --use-compress-program={shlex.quote(program)}" if program else ""
