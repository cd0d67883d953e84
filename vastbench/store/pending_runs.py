"""Runs that a store refused: each waits in a file, whole and synced, until the store takes it in."""

import hashlib
import json
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from vastbench.errors import SettingsError, StoreError
from vastbench.record.document import run_from_dict, run_to_dict
from vastbench.record.plain import dumps
from vastbench.record.run import Run
from vastbench.settings import data_folder
from vastbench.store.refusals import place_of

log = logging.getLogger(__name__)


def keep(run: Run, url: sa.URL, *, because: StoreError) -> Path:
    """Write ``run`` to a file of its own, synced and readable by the user alone; its path.

    Raises StoreError, with the reason ``because`` of which it was to be kept, when no folder can be written.
    """
    text = dumps(run_to_dict(run), ensure_ascii=True)
    folders = folders_of(url)
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _ours(folder):
                return _write(folder / f"{run.id}.json", text)
        except OSError as error:
            log.info("the run %s cannot be kept in %s: %s", run.id, folder, error)
    tried = " nor in ".join(map(str, folders))
    raise StoreError(f"{because.message} The run {run.id} is lost: it cannot be kept in {tried}.", hint=because.hint) from None


def kept(url: sa.URL) -> Iterator[tuple[Path, Run]]:
    """The runs that wait for the store at ``url``, with their files; a file without a run is named in a warning."""
    for folder in folders_of(url):
        if not folder.is_dir() or not _ours(folder):
            continue
        for path in sorted(folder.glob("*.json")):
            try:
                run = run_from_dict(json.loads(path.read_text(encoding="utf-8")))
            except FileNotFoundError:
                continue  # taken in by somebody else
            except (OSError, ValueError, AttributeError, RecursionError, SettingsError) as error:
                log.warning("The file %s does not hold a run and is left: %s", path, error)
            else:
                yield path, run


def folders_of(url: sa.URL) -> list[Path]:
    """Where runs may wait for the store at ``url``, the best place first: beside it, and in the system's temporary folder."""
    place = place_of(url)
    in_file = url.get_backend_name() == "sqlite" and url.database and not url.database.startswith((":memory:", "file:"))
    if in_file:
        place = str(Path(place).resolve())
    own = hashlib.sha256(place.encode()).hexdigest()[:12]
    beside = Path(f"{place}.unsaved") if in_file else data_folder() / "unsaved" / own
    return [beside, Path(tempfile.gettempdir()) / f"vastbench-unsaved-{os.geteuid()}-{own}"]


def _ours(folder: Path) -> bool:
    """Whether only this user can have put anything there; anybody may make a folder in the temporary one."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _write(path: Path, text: str) -> Path:
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(part).rename(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path
