"""The folder of a running emulator, and those that killed ones left behind.

An emulator holds a lock in its folder for as long as it runs; the kernel lets go of it however the process ends.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "vastbench-emulator-"

_LOCK = "running"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A new folder, locked while the body runs and removed with all that is in it afterwards."""
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    unlocked = directory / "starting"
    with unlocked.open("x") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unlocked.rename(directory / _LOCK)  # only now: nobody ever finds it without its lock
        try:
            # Machines run as strangers to this user and have to find their way to their own folders.
            directory.chmod(0o711)
            yield directory
        finally:
            empty(directory)


def remove() -> None:
    """Remove the folders of this user's emulators that were killed; nothing that cannot be removed matters."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Without a lock file it is one that is just being made; a link or another user's is nobody's business.
        with contextlib.suppress(OSError):
            found = directory.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            with (directory / _LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                empty(directory)


def empty(directory: Path) -> None:
    """Remove a tree whose owner may have closed folders in it to us."""
    if os.geteuid() != 0:
        for parent, folders, _ in os.walk(directory):
            for name in folders:
                path = Path(parent) / name
                if not path.is_symlink():
                    path.chmod(stat.S_IRWXU)
    shutil.rmtree(directory, ignore_errors=True)
