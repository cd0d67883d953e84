"""A snapshot as it is kept: three parts in a place, of which the last to be written makes it one.

``ID.archive`` is the stream, ``ID.manifest`` what the folder held, and ``ID.json`` this description with the SHA-256 of both.
The description is written when the other two were read back and are what they should be: without it there is no snapshot.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from vastbench.errors import NotFound, SnapshotRefused
from vastbench.snapshots.manifest import Manifest
from vastbench.snapshots.place import Place
from vastbench.ssh.command import Readable

FORMAT = 1

CHUNK = 1024 * 1024
"""Bytes read at a time."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole snapshot.

    ``parent``: the id of the one on which it builds, empty for a full one. ``manifest_sha256``: of the whole folder as it was.
    ``files``, ``bytes_raw``: of the whole folder. ``bytes_changed``: of the files in this archive. ``bytes_stored``,
    ``sha256``: of the archive. ``compression``: ``zstd``, ``gzip`` or ``none``. ``host_key``: the fingerprint of the machine it
    came from. ``taken_at``: when the folder began to be read, in UTC. ``asked``, ``whole``: clock readings of that and of when
    it could be restored, by the clock of the process that took it. ``stream_s``: clock seconds in which the archive came.
    """

    id: str
    manifest_sha256: str
    sha256: str
    files: int
    bytes_raw: int
    bytes_changed: int
    bytes_stored: int
    compression: str
    host_key: str
    taken_at: str
    asked: float
    whole: float
    stream_s: float
    parent: str = ""

    @property
    def archive(self) -> str:
        """The name of its archive in its place."""
        return f"{self.id}.archive"

    @property
    def manifest(self) -> str:
        """The name of its manifest in its place."""
        return f"{self.id}.manifest"

    def to_dict(self) -> dict[str, object]:
        """As it is kept."""
        return {"format": FORMAT, **asdict(self)}


def new_id() -> str:
    """An id that sorts by time: ``20260102T030405-1f2e3d``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"


def find_snapshot(place: Place, id: str) -> Snapshot:  # noqa: A002 (as its field is called)
    """The snapshot of that id. Raises NotFound, and SnapshotRefused for a description that is damaged."""
    if f"{id}.json" not in place.names():
        raise NotFound(f"{place.where} has no whole snapshot {id!r}.", hint="One that was cut short is none.")
    with place.read(f"{id}.json") as file:
        return _described(file.read(), id)


def snapshots_in(place: Place) -> list[Snapshot]:
    """The whole snapshots in ``place``, the latest last. Raises SnapshotRefused for a description that is damaged."""
    ids = [name.removesuffix(".json") for name in place.names() if name.endswith(".json")]
    return sorted((find_snapshot(place, one) for one in ids), key=lambda one: (one.taken_at, one.id))


def manifest_of(snapshot: Snapshot, place: Place) -> Manifest:
    """What the folder held. Raises SnapshotRefused when the kept manifest is not the snapshot's, or holds no file."""
    with place.read(snapshot.manifest) as file:
        data = file.read()
    if (found := hashlib.sha256(data).hexdigest()) != snapshot.manifest_sha256:
        raise _refused(snapshot, f"its manifest has SHA-256 {found}, not {snapshot.manifest_sha256}")
    manifest = Manifest.from_bytes(data)
    if not manifest.files:
        raise _refused(snapshot, "its manifest holds no file")
    return manifest


def verify_archive(snapshot: Snapshot, place: Place) -> None:
    """Read the archive again and hash it. Raises SnapshotRefused."""
    with place.read(snapshot.archive) as file:
        measured = Measured(file)
        while measured.read(CHUNK):
            pass
    measured.check(snapshot)


def chain(snapshot: Snapshot, place: Place) -> list[Snapshot]:
    """The snapshots that are restored one after the other, the full one first. Raises SnapshotRefused for one that is not kept
    as it is described here."""
    links: list[Snapshot] = []
    at: str = snapshot.id
    while at:
        kept = find_snapshot(place, at)
        if not links and kept != snapshot:
            raise _refused(snapshot, "another one of that name is kept")
        if kept in links:
            raise _refused(snapshot, "it builds on itself")
        links.append(kept)
        at = kept.parent
    return links[::-1]


class Measured:
    """What is counted and hashed while it is read, or as it comes."""

    def __init__(self, file: Readable | None = None) -> None:
        """Take what is read, if anything is."""
        self._file, self._sha256, self.bytes = file, hashlib.sha256(), 0

    @property
    def sha256(self) -> str:
        """Of what went by."""
        return self._sha256.hexdigest()

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        data = self._file.read(size) if self._file else b""
        self.count(data)
        return data

    def count(self, data: bytes) -> None:
        """Take account of what went by."""
        self._sha256.update(data)
        self.bytes += len(data)

    def check(self, snapshot: Snapshot) -> None:
        """Raise SnapshotRefused unless exactly the snapshot's archive went by."""
        if self.bytes != snapshot.bytes_stored:
            raise _refused(snapshot, f"its archive has {self.bytes:,} bytes, not {snapshot.bytes_stored:,}")
        if self.sha256 != snapshot.sha256:
            raise _refused(snapshot, f"its archive has SHA-256 {self.sha256}, not {snapshot.sha256}")


def _described(data: bytes, id: str) -> Snapshot:  # noqa: A002
    try:
        plain: Mapping[str, object] = json.loads(data)
        if plain["format"] != FORMAT or plain["id"] != id:
            raise ValueError(f"format {plain['format']!r}, id {plain['id']!r}")
        return Snapshot(**{name: value for name, value in plain.items() if name != "format"})  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError) as error:
        raise SnapshotRefused(
            f"The description of the snapshot {id} cannot be read: {error}.", hint="Take another snapshot."
        ) from None


def _refused(snapshot: Snapshot, why: str) -> SnapshotRefused:
    return SnapshotRefused(f"The snapshot {snapshot.id} is refused: {why}.", hint="Restore another one; nothing was restored.")
