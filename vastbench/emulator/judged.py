"""File accesses of this process that the kernel judges as a machine's own user would be judged."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


@contextlib.contextmanager
def judged_as(uid: int | None) -> Iterator[None]:
    """Let the kernel see the host user ``uid`` in file accesses of this thread; None changes nothing."""
    if uid is None or _libc is None:
        yield
        return
    _libc.setfsgid(uid)
    _libc.setfsuid(uid)
    try:
        yield
    finally:
        _libc.setfsuid(os.geteuid())
        _libc.setfsgid(os.getegid())
