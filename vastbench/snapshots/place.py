"""Where snapshots are kept: a local folder, or any store that fsspec opens."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from vastbench.errors import SnapshotError, UsageError, VastbenchError, clean
from vastbench.ssh.command import Readable


class Writable(Protocol):
    """What takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Take them all."""


class Place(Protocol):
    """What keeps the parts of snapshots, by their names. Every method raises SnapshotError when the place fails."""

    @property
    def where(self) -> str:
        """The place for people; never holds a password."""

    def write(self, name: str) -> AbstractContextManager[Writable]:
        """A file to write; it is there under ``name``, whole, when the block ends well, and otherwise not at all."""

    def read(self, name: str) -> AbstractContextManager[Readable]:
        """What is kept under ``name``, from its beginning."""

    def names(self) -> list[str]:
        """The names of all that is kept, in their order."""

    def remove(self, name: str) -> None:
        """Forget ``name``; nothing happens when it is not there."""


class LocalPlace:
    """A folder of this machine, made when something is first written; what lies there can be read by its owner only."""

    def __init__(self, folder: Path | str) -> None:
        """Take the folder."""
        self._folder = Path(folder)

    @property
    def where(self) -> str:
        """The folder."""
        return str(self._folder)

    @contextmanager
    def write(self, name: str) -> Iterator[Writable]:
        """A temporary file beside the others, synced and renamed when the block ends well."""
        part: Path | None = None
        try:
            with self._failing("written"):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor, made = tempfile.mkstemp(prefix=".part-", dir=self._folder)
                part = Path(made)
                with os.fdopen(descriptor, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self._folder / name)
                part = None
                self._sync()
        finally:
            if part is not None:
                part.unlink(missing_ok=True)

    @contextmanager
    def read(self, name: str) -> Iterator[Readable]:
        """The file."""
        with self._failing("read", name), (self._folder / name).open("rb") as file:
            yield file

    def names(self) -> list[str]:
        """The files that are whole."""
        with self._failing("read"):
            if not self._folder.is_dir():
                return []
            return sorted(one.name for one in self._folder.iterdir() if not one.name.startswith("."))

    def remove(self, name: str) -> None:
        """Delete the file."""
        with self._failing("written"):
            (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def _failing(self, how: str, name: str = "") -> Iterator[None]:
        with failing(f"{self._folder / name}", how):
            yield

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def __repr__(self) -> str:
        """The folder."""
        return f"LocalPlace({self.where!r})"


class StorePlace:
    """A folder of whatever store fsspec opens, such as ``s3://bucket/snapshots``; fsspec and its own libraries are optional."""

    def __init__(self, url: str) -> None:
        """Open the store. Raises UsageError where fsspec, or its library for this store, is missing."""
        try:
            import fsspec
        except ImportError:
            raise UsageError(
                f"{clean(url)} needs fsspec, which is not installed.", hint="pip install 'vastbench[stores]', or give a folder."
            ) from None
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise UsageError(f"{clean(url)} cannot be opened: {error}.", hint="Install the library that it names.") from None
        self._scheme = url.partition("://")[0]

    @property
    def where(self) -> str:
        """The address without what may be a secret in it."""
        return f"{self._scheme}://{self._root}"

    @contextmanager
    def write(self, name: str) -> Iterator[Writable]:
        """An object that the store shows when it is closed; it is taken away again when the block does not end well."""
        with self._failing("written", name):
            self._files.makedirs(self._root, exist_ok=True)
            file = self._files.open(self._at(name), "wb")
        whole = False
        try:
            yield _StoreFile(file, lambda how: self._failing(how, name))
            with self._failing("written", name):
                file.close()
            whole = True
        finally:
            if not whole:
                with contextlib.suppress(Exception):  # the error that counts is on its way
                    file.close()
                with contextlib.suppress(Exception):
                    self._files.rm_file(self._at(name))

    @contextmanager
    def read(self, name: str) -> Iterator[Readable]:
        """The object."""
        with self._failing("read", name):
            file = self._files.open(self._at(name), "rb")
        try:
            yield _StoreFile(file, lambda how: self._failing(how, name))
        finally:
            file.close()

    def names(self) -> list[str]:
        """The objects."""
        with self._failing("read"):
            if not self._files.exists(self._root):
                return []
            found = self._files.ls(self._root, detail=False, refresh=True)
            return sorted(str(one).rsplit("/", 1)[-1] for one in found)

    def remove(self, name: str) -> None:
        """Delete the object."""
        with self._failing("written", name), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._at(name))

    @contextmanager
    def _failing(self, how: str, name: str = "") -> Iterator[None]:
        try:
            with failing(f"{self.where}/{name}".rstrip("/"), how):
                yield
        except VastbenchError:
            raise
        except Exception as error:  # every store's library has errors of its own
            raise SnapshotError(
                f"{clean(self.where)} cannot be {how}: {clean(error)[:300]}.",
                hint="Are its address and its keys the right ones?",
            ) from error

    def _at(self, name: str) -> Any:
        return f"{self._root.rstrip('/')}/{name}"

    def __repr__(self) -> str:
        """The address."""
        return f"StorePlace({self.where!r})"


class _StoreFile:
    """A store's open object, whose errors say where they happened."""

    def __init__(self, file: Any, failing: Callable[[str], AbstractContextManager[None]]) -> None:
        self._file, self._failing = file, failing

    def write(self, data: bytes, /) -> None:
        with self._failing("written"):
            self._file.write(data)

    def read(self, size: int = -1, /) -> bytes:
        with self._failing("read"):
            return bytes(self._file.read(size))
        raise AssertionError("the block above returns or raises")


def open_place(where: str | Path) -> Place:
    """The place that ``where`` names: a folder, or an address with ``://`` that fsspec opens. Raises UsageError without it."""
    return StorePlace(where) if isinstance(where, str) and "://" in where else LocalPlace(where)


@contextmanager
def kept_in(where: str | None) -> Iterator[Place]:
    """The place that ``where`` names or, if that is None, a temporary folder that is removed when the block ends."""
    if where is not None:
        yield open_place(where)
        return
    with tempfile.TemporaryDirectory(prefix="vastbench-snapshots-", ignore_cleanup_errors=True) as folder:
        yield open_place(folder)


@contextmanager
def failing(what: str, how: str) -> Iterator[None]:
    """Let an error of the operating system or of a store say what could not be read or written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or (os.strerror(errno.ENOENT) if isinstance(error, FileNotFoundError) else str(error))
        raise SnapshotError(
            f"{clean(what)} cannot be {how}: {reason}.", hint="Free space there, or give another place for snapshots."
        ) from error
