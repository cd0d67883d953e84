"""SFTP into an emulated machine's own files.

The server runs in the emulator's process, so no path may lead it out of the machine: every component is opened from its
parent's descriptor without following links, and links are resolved here, with the machine's root as the root. A machine that
swaps a folder for a link in mid-walk gets an error, not the host's file. As root, the kernel judges every step by the
machine's own host user.
"""

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from typing import IO

import asyncssh
from asyncssh.constants import FXF_APPEND, FXF_CREAT, FXF_EXCL, FXF_READ, FXF_TRUNC, FXF_WRITE

from vastbench.emulator.judged import judged_as

_HOME = b"/root"
_MAX_LINKS = 40
_REORDERED = ("OpenSSH", "paramiko")
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class GuestFiles(asyncssh.SFTPServer):
    """One SFTP session; ``root`` is a descriptor of the machine's root folder, which the session closes."""

    def __init__(
        self, chan: "asyncssh.SSHServerChannel[bytes]", root: int, uid: int | None, count: Callable[[int, int], None]
    ) -> None:
        """Take the channel, the root, the machine's host user, and who counts (bytes up, bytes down)."""
        super().__init__(chan)
        self._root = root
        self._uid = uid
        self._count = count

    def exit(self) -> None:
        """Close the root folder, and end the channel as a program would: scp takes a missing status for a failure."""
        os.close(self._root)
        with contextlib.suppress(asyncssh.Error, OSError):
            self.channel.exit(0)

    # -- the walk ----------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _parent(self, path: bytes, *, follow: bool) -> Iterator[tuple[int, bytes]]:
        """A descriptor of the folder that holds ``path`` and the last name in it; ``follow`` resolves a link at the end."""
        with judged_as(self._uid):
            folders, name = self._walk(path, follow)
            try:
                yield folders[-1], name
            finally:
                for fd in folders[1:]:
                    os.close(fd)

    def _walk(self, path: bytes, follow: bool) -> tuple[list[int], bytes]:
        todo = posixpath.join(_HOME, path).split(b"/")[::-1]
        folders, links, last = [self._root], 0, b"."
        try:
            while todo:
                name = todo.pop()
                if name in (b"", b"."):
                    continue
                final = not any(rest not in (b"", b".") for rest in todo)
                if name == b"..":
                    if len(folders) > 1:
                        os.close(folders.pop())
                    last = b"."
                    continue
                target = self._link(folders[-1], name) if follow or not final else None
                if target is not None:
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    if target.startswith(b"/"):
                        while len(folders) > 1:
                            os.close(folders.pop())
                    todo += target.split(b"/")[::-1]
                    last = b"."
                elif final:
                    last = name
                else:
                    folders.append(os.open(name, _FOLDER, dir_fd=folders[-1]))
        except BaseException:
            for fd in folders[1:]:
                os.close(fd)
            raise
        return folders, last

    @staticmethod
    def _link(folder: int, name: bytes) -> bytes | None:
        try:
            return os.readlink(name, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None
            raise

    # -- what clients ask ----------------------------------------------------------------------------------------------------

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> IO[bytes]:
        """Open or create a file."""
        writes, reads = bool(pflags & FXF_WRITE), bool(pflags & FXF_READ)
        flags = os.O_RDWR if writes and reads else os.O_WRONLY if writes else os.O_RDONLY
        for asked, flag in ((FXF_APPEND, os.O_APPEND), (FXF_CREAT, os.O_CREAT), (FXF_TRUNC, os.O_TRUNC), (FXF_EXCL, os.O_EXCL)):
            flags |= flag if pflags & asked else 0
        mode = 0o644 if attrs.permissions is None else attrs.permissions & 0o7777
        with self._parent(path, follow=not pflags & FXF_EXCL) as (folder, name):
            # A pipe or device of the machine's making must not stop the emulator.
            fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EISDIR, "Not a regular file")
        return os.fdopen(fd, ("r+b" if reads else "wb") if writes else "rb", buffering=0)

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Read, and count."""
        data = super().read(file_obj, offset, size)
        assert isinstance(data, bytes)  # noqa: S101
        self._count(len(data), 0)
        return data

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write, and count."""
        self._count(0, len(data))
        written = super().write(file_obj, offset, data)
        assert isinstance(written, int)  # noqa: S101
        return written

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """Attributes of what ``path`` leads to."""
        with self._parent(path, follow=True) as (folder, name):
            return _attributes(os.stat(name, dir_fd=folder, follow_symlinks=False))

    def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """Attributes of ``path`` itself."""
        with self._parent(path, follow=False) as (folder, name):
            return _attributes(os.stat(name, dir_fd=folder, follow_symlinks=False))

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        """Attributes of an open file."""
        return _attributes(os.fstat(file_obj.fileno()))  # type: ignore[attr-defined]

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Set size, mode and times; owners are the machine's own affair."""
        flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_RDONLY if attrs.size is None else os.O_WRONLY)
        with self._parent(path, follow=True) as (folder, name):
            fd = os.open(name, flags, dir_fd=folder)
            try:
                _apply(fd, attrs)
            finally:
                os.close(fd)

    def lsetstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """The same, for links the same as for what they lead to."""
        self.setstat(path, attrs)

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        """The same for an open file."""
        with judged_as(self._uid):
            _apply(file_obj.fileno(), attrs)  # type: ignore[attr-defined]

    def listdir(self, path: bytes) -> list[bytes]:
        """The names in a folder."""
        with self._parent(path, follow=True) as (folder, name):
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                return [b".", b"..", *map(os.fsencode, os.listdir(fd))]  # noqa: PTH208
            finally:
                os.close(fd)

    def remove(self, path: bytes) -> None:
        """Remove a file or link."""
        with self._parent(path, follow=False) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Make a folder."""
        mode = 0o755 if attrs.permissions is None else attrs.permissions & 0o7777
        with self._parent(path, follow=False) as (folder, name):
            os.mkdir(name, mode, dir_fd=folder)

    def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""
        with self._parent(path, follow=False) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename, but never onto something that exists."""
        with contextlib.suppress(FileNotFoundError):
            self.lstat(newpath)
            raise asyncssh.SFTPFailure("File already exists")
        self.posix_rename(oldpath, newpath)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename, replacing what is there."""
        with self._parent(oldpath, follow=False) as (old, name), self._parent(newpath, follow=False) as (new, other):
            os.replace(name, other, src_dir_fd=old, dst_dir_fd=new)

    def readlink(self, path: bytes) -> bytes:
        """Where a link leads, as the machine wrote it."""
        with self._parent(path, follow=False) as (folder, name):
            return os.readlink(name, dir_fd=folder)

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """Make a link; it is resolved with the machine's root as the root."""
        # Clients take us for OpenSSH and send its order of the two names; asyncssh reorders for some of them only.
        client = str(self.connection.get_extra_info("client_version"))
        if not any(name in client for name in _REORDERED):
            oldpath, newpath = newpath, oldpath
        with self._parent(newpath, follow=False) as (folder, name):
            os.symlink(oldpath, name, dir_fd=folder)

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        """Make a second name for a file."""
        with self._parent(oldpath, follow=False) as (old, name), self._parent(newpath, follow=False) as (new, other):
            os.link(name, other, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)

    def realpath(self, path: bytes) -> bytes:
        """The absolute form of ``path``; relative paths start in root's home."""
        return posixpath.normpath(posixpath.join(_HOME, path))

    def statvfs(self, path: bytes) -> os.statvfs_result:
        """Space on the disk under ``path``."""
        with self._parent(path, follow=True) as (folder, _):
            return os.fstatvfs(folder)

    def format_user(self, uid: int | None) -> str:  # noqa: ARG002
        """Every file of the machine belongs to its root."""
        return "root"

    def format_group(self, gid: int | None) -> str:  # noqa: ARG002
        """The same for groups."""
        return "root"


def _attributes(found: os.stat_result) -> asyncssh.SFTPAttrs:
    """Attributes as the machine sees them: everything is root's."""
    attrs = asyncssh.SFTPAttrs.from_local(found)
    attrs.uid = attrs.gid = 0
    return attrs


def _apply(fd: int, attrs: asyncssh.SFTPAttrs) -> None:
    if attrs.size is not None:
        os.ftruncate(fd, attrs.size)
    if attrs.permissions is not None:
        os.fchmod(fd, attrs.permissions & 0o7777)
    if attrs.atime is not None and attrs.mtime is not None:
        os.utime(fd, (attrs.atime, attrs.mtime))
