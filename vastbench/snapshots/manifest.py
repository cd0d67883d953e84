"""What a folder on a machine holds: every file, folder and link with its mode, owner, size and SHA-256.

One command lists it, so that nothing needs to be installed on the image but GNU's find, tar and sha256sum, which every Debian,
Ubuntu and Red Hat image has. Names are bytes and travel between null characters: a name may hold whatever a file system allows.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property

from vastbench.errors import CheckFailed, CommandFailed, SnapshotError, SnapshotRefused, clean
from vastbench.record.formats import counted
from vastbench.ssh.session import Session

MANIFEST_LIMIT = 256_000_000
"""Bytes that the listing of a folder may have: about two million files."""

MANIFEST_S = 600.0
"""Clock seconds that listing and hashing a folder may take unless told otherwise."""

SHOWN_DIFFERENCES = 5
"""How many differences a message names."""

_LIST = r"""cd -- "$1" && find . ! -type s -printf '%y %m %U %G %s %n %D:%i %C@\0%P\0%l\0%b\0'"""
_HASH = r"""&& printf '\0' && find . -type f -exec sha256sum -z -- {} +"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a folder.

    ``path``: below the folder, empty for the folder itself. ``kind``: ``file``, ``folder``, ``symlink`` or find's letter for
    another kind. ``mode``: permission bits, setuid, setgid and sticky included. ``size``: bytes of a file, 0 for all else.
    ``sha256``: of a file's content. ``target``: where a symbolic link leads. ``link``: the first path of the files that are one
    by hard links; empty for a file with one name.
    """

    path: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    size: int = 0
    sha256: str = ""
    target: bytes = b""
    link: bytes = b""

    @property
    def shown(self) -> str:
        """The path for people."""
        return clean(self.path.decode("utf-8", "replace")) or "the folder itself"


@dataclass(frozen=True)
class Manifest:
    """The entries of a folder by path, in the order of their bytes.

    ``disk_bytes``: what its files take on the disk, holes not counted. ``state``: a digest over all times of
    change, for a second look at the same folder on the same machine; empty when it was read from a place. Neither
    is compared.
    """

    entries: tuple[Entry, ...]
    disk_bytes: int = field(default=0, compare=False)
    state: str = field(default="", compare=False)

    @cached_property
    def by_path(self) -> dict[bytes, Entry]:
        """The entries by their path."""
        return {entry.path: entry for entry in self.entries}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the manifest's document: equal for equal folders, whatever the machine."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def files(self) -> int:
        """How many regular files there are; each name of a hard link counts."""
        return sum(entry.kind == "file" for entry in self.entries)

    @property
    def size_bytes(self) -> int:
        """Bytes in its files, holes included; those of a hard link are counted once."""
        return sum(entry.size for entry in self.entries if entry.link in (b"", entry.path))

    def to_bytes(self) -> bytes:
        """The document that a place keeps: one JSON line for each entry."""
        lines = ({name: _text(value) for name, value in asdict(entry).items()} for entry in self.entries)
        return b"".join(json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n" for line in lines)

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read back what :meth:`to_bytes` wrote. Raises SnapshotRefused for anything else."""
        try:
            entries = tuple(_entry(json.loads(line)) for line in data.splitlines())
            if not entries or entries[0].path:
                raise ValueError("it does not begin with the folder itself")
            return cls(entries)
        except (ValueError, TypeError, KeyError) as error:
            raise SnapshotRefused(
                f"A manifest cannot be read: {error}.", hint="The place was changed from outside: take another snapshot."
            ) from None


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not the same at ``path``: ``missing``, ``extra``, or the name of the field that differs."""

    path: bytes
    what: str
    expected: object = None
    found: object = None

    def __str__(self) -> str:
        """One line, such as ``a.txt: mode is 644, not 600``."""
        shown = Entry(self.path, "", 0, 0, 0).shown
        if self.what in ("missing", "extra"):
            return f"{shown} is {self.what}"
        found, expected = (f"{one:o}" if self.what == "mode" else _for_people(one) for one in (self.found, self.expected))
        return f"{shown}: {self.what} is {found}, not {expected}"


def read_manifest(session: Session, folder: str, *, timeout_s: float = MANIFEST_S) -> Manifest:
    """List and hash everything in ``folder`` on the machine; sockets are left out, as no archive can hold them.

    ``timeout_s``: clock seconds. Raises SnapshotError for a folder that is not there, cannot be read or has not GNU's tools,
    and what :meth:`vastbench.ssh.session.Session.stream` raises.
    """
    fields = iter(_listed(session, folder, _LIST + _HASH, timeout_s).split(b"\0"))
    try:
        seen = list(_seen(fields))
        hashes = {path.removeprefix(b"./"): value.decode() for value, path in _hashes(fields)}
        names: dict[str, list[bytes]] = defaultdict(list)
        for one in seen:
            if one.letter == "f":
                names[one.inode].append(one.path)
        entries = [one.entry(hashes, min(names[one.inode], default=b"") if len(names[one.inode]) > 1 else b"") for one in seen]
        disk_bytes = sum({one.inode: 512 * int(one.blocks) for one in seen if one.letter == "f"}.values())
    except KeyError as error:
        raise _changed(session, folder) from error
    except ValueError as error:
        raise SnapshotError(
            f"{session.endpoint}: the listing of {folder!r} cannot be read: {error}.", hint="Do not use this machine."
        ) from error
    return Manifest(tuple(sorted(entries, key=lambda entry: entry.path)), disk_bytes, _state(seen))


def check_unchanged(session: Session, folder: str, manifest: Manifest, *, timeout_s: float = MANIFEST_S) -> None:
    """Raise SnapshotError when anything in ``folder`` has been changed since ``manifest`` was read from it."""
    if _state(_seen(iter(_listed(session, folder, _LIST, timeout_s).split(b"\0")))) != manifest.state:
        raise _changed(session, folder)


def compare(expected: Manifest, found: Manifest) -> list[Difference]:
    """Every difference between two folders, in the order of paths; times are not compared.

    >>> a = Manifest((Entry(b"", "folder", 0o755, 0, 0), Entry(b"x", "file", 0o644, 0, 0, 1, "aa")))
    >>> b = Manifest((Entry(b"", "folder", 0o755, 0, 0), Entry(b"x", "file", 0o600, 0, 0, 1, "aa")))
    >>> [str(one) for one in compare(a, b)]
    ['x: mode is 600, not 644']
    """
    return list(_differences(expected, found))


def check(found: Manifest, expected: Manifest) -> None:
    """Raise CheckFailed unless both say the same and hold files: nothing compared with nothing proves nothing."""
    for manifest, name in ((expected, "expected"), (found, "found")):
        if not manifest.files:
            raise CheckFailed(
                f"The {name} folder holds no file.", hint="Comparing it proves nothing: was the folder written, or restored?"
            )
    differences = compare(expected, found)
    if differences:
        shown = "; ".join(str(one) for one in differences[:SHOWN_DIFFERENCES])
        more = f"; and {len(differences) - SHOWN_DIFFERENCES:,} more" if len(differences) > SHOWN_DIFFERENCES else ""
        raise CheckFailed(
            f"The folder differs in {counted(len(differences), 'place')}: {shown}{more}.",
            hint="It is not the folder that the snapshot was taken of: do not go on with it.",
        )


def _differences(expected: Manifest, found: Manifest) -> Iterator[Difference]:
    for path in sorted(expected.by_path.keys() | found.by_path.keys()):
        there, here = expected.by_path.get(path), found.by_path.get(path)
        if there is None or here is None:
            yield Difference(path, "missing" if here is None else "extra")
            continue
        for name in ("kind", "mode", "uid", "gid", "size", "sha256", "target", "link"):
            if getattr(there, name) != getattr(here, name):
                yield Difference(path, name, getattr(there, name), getattr(here, name))
                if name == "kind":
                    break


def _listed(session: Session, folder: str, script: str, timeout_s: float) -> bytes:
    heard = bytearray()

    def hear(data: bytes) -> None:
        heard.extend(data)
        if len(heard) > MANIFEST_LIMIT:
            raise SnapshotError(
                f"The listing of {folder!r} has more than {MANIFEST_LIMIT:,} bytes.", hint="Snapshot a folder with fewer files."
            )

    try:
        session.stream(f"sh -c {shlex.quote(script)} sh {shlex.quote(folder)}", sink=hear, timeout_s=timeout_s)
    except CommandFailed as failed:
        raise SnapshotError(
            f"The folder {folder!r} cannot be listed: {failed.message}",
            hint="It must be there, be left alone meanwhile, and the image must have GNU's find and sha256sum.",
        ) from failed
    return bytes(heard)


def _hashes(fields: Iterator[bytes]) -> Iterator[list[bytes]]:
    return (field.split(b"  ", 1) for field in fields if field)


def _check_inside(path: bytes) -> None:
    """Raise ValueError for a path that leads out of the folder."""
    if path and not {b"", b".", b".."}.isdisjoint(path.split(b"/")):
        raise ValueError(f"the path {path[:80]!r} leads out of the folder")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What find says of one thing; ``blocks`` may change by itself, long after a file was written."""

    head: bytes
    path: bytes
    target: bytes
    blocks: bytes

    @property
    def letter(self) -> str:
        return chr(self.head[0])

    @property
    def inode(self) -> str:
        return self.head.split(b" ")[6].decode()

    def entry(self, hashes: dict[bytes, str], link: bytes) -> Entry:
        """Raises KeyError for a file that was not hashed, ValueError for what cannot be read."""
        _check_inside(self.path)
        letter, mode, uid, gid, size, *_ = self.head.decode().split(" ")
        kind = {"f": "file", "d": "folder", "l": "symlink"}.get(letter, letter)
        if kind != "file":
            return Entry(self.path, kind, int(mode, 8), int(uid), int(gid), target=self.target)
        return Entry(self.path, kind, int(mode, 8), int(uid), int(gid), int(size), hashes[self.path], link=link)


def _seen(fields: Iterator[bytes]) -> Iterator[_Seen]:
    """The records of a listing, up to the empty one that ends it."""
    while head := next(fields, b""):
        if head.count(b" ") != 7:
            raise ValueError(f"a record is {head[:80]!r}")
        yield _Seen(head, next(fields, b""), next(fields, b""), next(fields, b""))


def _state(seen: Iterable[_Seen]) -> str:
    """A digest over all but the blocks, in the order of paths."""
    digest = hashlib.sha256()
    for one in sorted(seen, key=lambda one: one.path):
        digest.update(b"\0".join((one.head, one.path, one.target, b"")))
    return digest.hexdigest()


def _changed(session: Session, folder: str) -> SnapshotError:
    return SnapshotError(
        f"{session.endpoint}: {folder!r} was changed while its snapshot was taken.",
        hint="Pause what writes to it, or take the snapshot of a copy.",
    )


def _text(value: object) -> object:
    return os.fsdecode(value) if isinstance(value, bytes) else value


def _entry(line: dict[str, object]) -> Entry:
    raw = {name: os.fsencode(str(line[name])) for name in ("path", "target", "link")}
    _check_inside(raw["path"])
    return Entry(**{**line, **raw})  # type: ignore[arg-type]  # checked by what compares it


def _for_people(value: object) -> str:
    if isinstance(value, bytes):
        return clean(value.decode("utf-8", "replace")) or "nothing"
    return str(value)[:12] if value != "" else "nothing"
