"""Where a report is built: a hidden folder beside its place, which it takes only when it is whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vastbench.errors import UsageError

MARK = "report.json"
"""What every report holds: a folder without it is not a report and is not replaced."""


@contextmanager
def building(out: Path) -> Iterator[Path]:
    """An empty hidden folder beside ``out`` to build in; what is not published by :func:`publish` is removed at the end.

    Raises UsageError when ``out`` is something else than a report or nothing, cannot be made, or is being built already.
    """
    check_replaceable(out)
    folder, old = _beside(out, "building"), _beside(out, "replaced")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"{str(out)!r} cannot be made: {error.strerror}.", hint="Name another folder.") from None
    try:
        try:
            # The lock ends with its process, so that what a killed one left is free to be cleared.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"A report is being built for {str(out)!r} already.", hint="Wait for it.") from None
        if old.is_dir() and not out.exists():
            old.rename(out)
        try:
            _clear(folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def publish(folder: Path, out: Path) -> None:
    """Put the whole report in ``folder`` in the place of the one at ``out``, if there is one."""
    check_replaceable(out)
    old = _beside(out, "replaced")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    folder.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def check_replaceable(out: Path) -> None:
    """Raise UsageError unless ``out`` is free, an empty folder or a report."""
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir() or (any(out.iterdir()) and not (out / MARK).is_file()):
        what = "a link" if out.is_symlink() else "a folder without a report.json" if out.is_dir() else "a file"
        raise UsageError(f"{str(out)!r} is {what}, not a report: it is left as it is.", hint="Name another folder.")


def _beside(out: Path, word: str) -> Path:
    return out.with_name(f".{out.name}.{word}")


def _clear(folder: Path) -> None:
    for item in folder.iterdir():
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()
