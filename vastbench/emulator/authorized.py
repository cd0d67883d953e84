"""The keys that a machine accepts, as the file in which a real one keeps them."""

import contextlib
import os
import secrets
from collections.abc import Iterable

from vastbench.emulator.judged import judged_as

_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write(root: int, uid: int | None, lines: Iterable[str]) -> None:
    """Put ``lines`` into ``/root/.ssh/authorized_keys`` of the machine whose root folder is the descriptor ``root``.

    The file changes at once and as a whole. Every step is judged as the machine's host user ``uid`` and follows no link of
    the machine's making. Raises OSError when the machine has put something else in the way.
    """
    content = "".join(f"{line.strip()}\n" for line in lines).encode()
    with judged_as(uid):
        home = os.open("root", _FOLDER, dir_fd=root)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(".ssh", 0o700, dir_fd=home)
            folder = os.open(".ssh", _FOLDER, dir_fd=home)
        finally:
            os.close(home)
        name = f".authorized_keys.{secrets.token_hex(4)}"
        try:
            with os.fdopen(os.open(name, _NEW, 0o600, dir_fd=folder), "wb") as file:
                file.write(content)
            os.replace(name, "authorized_keys", src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(folder)
