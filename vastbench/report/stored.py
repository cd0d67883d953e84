"""Stores that are only read: one that is not there is not made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vastbench.errors import NotFound

if TYPE_CHECKING:
    from vastbench.store import Store


def existing(place: str | Path) -> Store:
    """The store at ``place``, a file or a database URL. Raises NotFound for a SQLite file that is not there."""
    from vastbench.store import Store

    file = str(place)
    if "://" in file:
        file = file.partition(":///")[2].partition("?")[0] if file.startswith("sqlite") else ""
    if file and not file.startswith((":memory:", "file:")) and not Path(file).expanduser().exists():
        raise NotFound(f"There is no store {file}.", hint="Make runs: vastbench run; or name another with --store.")
    return Store(place)
