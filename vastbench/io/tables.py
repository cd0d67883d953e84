"""Where tables come from and go to: stores, Parquet, CSV, Excel and JSON files, the data that comes with vastbench."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from vastbench.analysis.columns import COLUMNS
from vastbench.analysis.frames import conformed, only, phases_table, runs_from, table_of
from vastbench.analysis.tidied import left_out, tidied
from vastbench.bundled import shared
from vastbench.errors import SHOWN, NotFound, SchemaError, SettingsError, UsageError, clean
from vastbench.io import excel, parquet
from vastbench.io.files import naming, read_runs
from vastbench.io.timings import read as read_timings
from vastbench.io.words import How, Reading, reading
from vastbench.record.document import run_to_dict
from vastbench.record.formats import listed
from vastbench.record.plain import dumps

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.record.run import Run

log = logging.getLogger(__name__)

SAMPLE = "default-300"
"""The data set in ``data/studies`` that notebooks look at unless told otherwise."""

NEVER_MISSING = ("study", "cause", "detail")
"""Columns of words in which nothing means none: in a CSV file an empty cell could be either."""


def load(
    *places: str | Path | None,
    study: str | None = None,
    gpu: str | None = None,
    where: Mapping[str, str | float] | str | None = None,
    store: str | Path | None = None,
    **how: Unpack[How],
) -> pd.DataFrame:
    """The tidy frame (:data:`~vastbench.analysis.columns.COLUMNS`) of everything in ``places``, no run twice.

    Nothing is ever made.

    Parameters
    ----------
    *places
        Files, database URLs or names. What a file holds decides how it is read: a table as Parquet, CSV or Excel, runs as JSON,
        a store, or timings of another tool as :func:`vastbench.check` reads them, phase after phase, without prices and places.
        A name means the study of that name in the default store (VASTBENCH_STORE, else the data directory), or in ``store``,
        and that of a study of several conditions all of its runs (``gpus`` for ``gpus.old`` and ``gpus.new``); only where there
        is none, the data set of that name that comes with vastbench. No place, or None, is the ``study`` in that store, or the
        sample data set.
    study
        Only the runs of this study.
    gpu
        Only the runs that got this GPU, as in ``"RTX 4090"``.
    where
        Only the runs with these values of columns of a run: ``{"scale": 20}`` or ``"scale=20,region=Spain, ES"``.
    store
        Where a study is looked for: a file or a database URL.
    **how
        ``passed``, ``unit``, ``column`` and ``group_by`` as of :func:`vastbench.check`, for timings of other tools.

    Returns
    -------
    pandas.DataFrame
        One row per run and phase, what is known of the run repeated in each; seconds, USD and GB, the unit in the column's
        name. :func:`vastbench.columns` says what each column holds.

    Raises
    ------
    NotFound
        A place is not there, or no run is left; the message says which ones there are.
    SchemaError
        A table of another version.
    SettingsError
        A file that cannot be read.
    StoreError
        A store that cannot be read.

    Examples
    --------
    >>> phases = vastbench.load("default-300", where={"region": "Vietnam, VN"})
    >>> phases["run"].nunique(), phases["phase"].nunique()
    (111, 20)
    """
    import pandas as pd

    asked = reading(**how)
    frames = [_load(place, study, store, asked) for place in places or (None,)]
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    if len(frames) > 1:
        # A run may lie in several places; its rows are kept where they were read first.
        owner = pd.Series([i for i, f in enumerate(frames) for _ in range(len(f))], index=frame.index)
        frame = frame[owner == owner.groupby(frame["run"]).transform("min")]
    found_in = ", ".join(str(place or SAMPLE) for place in places or (None,))
    try:
        frame = only(frame, "study", study, found_in)
    except NotFound as missing:
        raise NotFound(missing.message, hint=f"{missing.hint} {_there_is(store)}") from None
    found_in = found_in if study is None else f"the study {study!r} in {found_in}"
    for name, value in ({"gpu": gpu} | wanted(where)).items():
        frame = only(frame, name, value, found_in)
    return frame.reset_index(drop=True)


def wanted(where: Mapping[str, str | float] | str | None) -> dict[str, str | float]:
    """The columns and values of ``where``, which may be written ``COLUMN=VALUE,COLUMN=VALUE``. Raises UsageError.

    >>> wanted("scale=20, source=live")
    {'scale': '20', 'source': 'live'}
    """
    if not isinstance(where, str):
        return dict(where or {})
    pairs = [one.partition("=") for one in where.split(",")]
    if lacking := [column for column, sign, _ in pairs if not sign]:
        raise UsageError(f"where {lacking[0]!r} names no value.", hint="Write it COLUMN=VALUE, for example scale=20.")
    return {column.strip(): value.strip() for column, _, value in pairs}


def export(data: pd.DataFrame | Sequence[Run], path: str | Path) -> None:
    """Write runs to a file; the end of its name says in which format. :func:`vastbench.load` reads all of them.

    Parameters
    ----------
    data
        A tidy frame (:func:`vastbench.load`), or runs.
    path
        ``.parquet``, ``.csv`` and ``.xlsx`` hold the tidy frame; ``.json`` holds whole records: of runs everything, of a frame
        what it tells of them. Excel needs the extra ``excel``. A file that is there is replaced, at once and whole.

    Raises
    ------
    SettingsError
        A name of another end, or Excel without openpyxl.
    UsageError
        The file cannot be written, or Excel cannot hold the table.

    Examples
    --------
    >>> phases = vastbench.load("2026-01-02-rtx4090")
    >>> vastbench.export(phases, "runs.csv")
    >>> vastbench.load("runs.csv").equals(phases)
    True
    """
    import pandas as pd

    path = Path(path)
    check_format(path)
    if path.suffix.lower() == JSON:
        runs = runs_from(data) if isinstance(data, pd.DataFrame) else data
        text = dumps([run_to_dict(run) for run in runs], indent=1)
        return _write(path, lambda target: target.write_text(text + "\n", encoding="utf-8"))
    frame = data if isinstance(data, pd.DataFrame) else phases_table(data)
    return _write(path, lambda target: TABLES[path.suffix.lower()](frame, target))


def check_format(path: Path) -> None:
    """Raise SettingsError for the name of a file in which nothing can be exported."""
    known = [*TABLES, JSON]
    if path.suffix.lower() not in known:
        raise SettingsError(
            f"{path.name!r} is no {listed(known, 'or')} file.", hint="For example: vastbench export runs.parquet"
        )


def _to_csv(frame: pd.DataFrame, path: Path | StringIO) -> None:
    # Only what ends a line makes the writer quote a cell in which it stands.
    frame.to_csv(path, index=False, lineterminator="\r\n")


JSON = ".json"

TABLES: dict[str, Callable[[pd.DataFrame, Path], None]] = {".parquet": parquet.write, ".csv": _to_csv, ".xlsx": excel.write}
"""How a tidy frame is written, by the end of the file's name."""


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path`` and rename, so that a reader never sees half a file."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(half)
            half.replace(path)
        finally:
            half.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be written: {error.strerror}.", hint="Name another file.") from None


def _load(place: str | Path | None, study: str | None, store: str | Path | None, how: Reading) -> pd.DataFrame:
    if place is not None and "://" in str(place):
        return _from_store(place)
    if place is not None and Path(place).is_file():
        return _from_file(Path(place), how)
    name = study if place is None else str(place)
    if name is not None and not (runs := _runs_of(name, store)).empty:
        return runs
    bundled = [shared("data") / f"studies/{place or SAMPLE}.parquet", shared("data") / f"runs/{place or SAMPLE}.json"]
    if found := next((path for path in bundled if path.is_file()), None):
        return _from_file(found, how)
    if Path(str(place)).exists():
        what = "a folder" if Path(str(place)).is_dir() else "no plain file"
        raise SettingsError(
            f"{str(place)!r} is {what}, and there is no study of that name.", hint=f"Name a file. {_there_is(store)}"
        )
    raise NotFound(f"There is no {str(place)!r}: no file, study or data set has that name.", hint=_there_is(store))


def _from_store(place: str | Path) -> pd.DataFrame:
    from vastbench.store import Store

    with Store.existing(place) as store:
        return table_of(store.each_part())


def _runs_of(study: str, store: str | Path | None) -> pd.DataFrame:
    """The runs of a study in ``store``, or in the default one, which need not be there; an empty frame when it has none."""
    from vastbench.settings import default_store
    from vastbench.store import Store

    try:
        opened = Store.existing(store or default_store())
    except NotFound:
        if store is not None:
            raise
        return phases_table([])
    with opened:
        return table_of(opened.each_part(study=study))


def _there_is(store: str | Path | None) -> str:
    """What names mean something, for somebody whose name does not."""
    from vastbench.settings import default_store
    from vastbench.store import Store

    named = sorted(path.stem for kind in ("studies", "runs") for path in (shared("data") / kind).iterdir())
    hint = f"Data sets that come with vastbench: {', '.join(named)}."
    try:
        with Store.existing(store or default_store()) as opened:
            studies = [study.name for study in opened.studies()]
            return f"Studies in {opened.place}: {', '.join(studies[:SHOWN]) or 'none'}. {hint}"
    except NotFound as missing:
        return f"{missing.message} {hint}"


def _from_file(path: Path, how: Reading) -> pd.DataFrame:
    """The table that a file holds, whatever its name says."""
    from vastbench.store.database import is_sqlite

    if is_sqlite(path):
        return _from_store(path)
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise SettingsError(f"{str(path)!r} cannot be read: {error.strerror}.", hint="Check the file's rights.") from None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise SettingsError(f"{str(path)!r} is empty.", hint="Was it cut off while copying?")
    if head.startswith(b"PK\x03\x04"):
        return _from_excel(path)
    reader = parquet.read if head.startswith(b"PAR1") else _from_json if text.startswith((b"{", b"[")) else _from_csv
    try:
        return reader(path)
    except SettingsError as error:
        if any(mark in head for mark in OWN) or (reader is parquet.read and parquet.is_own(path)):
            raise
        return _foreign(path, how, error)


OWN = (b"run_outcome", b'"format"', b"test_name", b'"timings"')
"""What the beginning of a file of vastbench's own has: such a one is broken, and no file of another tool."""


def _foreign(path: Path, how: Reading, error: SettingsError) -> pd.DataFrame:
    """The timings of another tool; else ``error``, why the file is none of ours, and why it is none of theirs."""
    try:
        timings = read_timings(path, how)
        for note in [*timings.attrs.get("notes", ()), *left_out(timings)]:
            log.warning("%s: %s.", clean(path.name), clean(note))
        # Run 1 of one file is not run 1 of another, also where both files have one name.
        whose = f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:6]}"
        return tidied(timings.assign(run=whose + " " + timings["run"]))
    except SettingsError as other:
        named = f"{str(path)!r} "
        theirs = f" it {other.message.removeprefix(named)}" if other.message.startswith(named) else f": {other.message}"
        hint = other.hint if isinstance(error, SchemaError) else f"{other.hint} {error.hint}"
        raise type(error)(f"{error.message} As timings of another tool{theirs}", hint=hint) from None


def _from_excel(path: Path) -> pd.DataFrame:
    """The sheet as CSV, so that one place decides what a cell means."""
    text = StringIO()
    _to_csv(excel.read(path), text)
    text.seek(0)
    return _from_csv(path, text)


def _from_csv(path: Path, text: StringIO | None = None) -> pd.DataFrame:
    """A table as :func:`export` writes it, or pandas from our frame: no cell is both empty and missing."""
    import pandas as pd

    # Numbers with fractions and dates are read as text, which `conformed` turns into the very values that were written.
    dtypes = {name: column.dtype if column.dtype in ("bool", "int64", "Int64") else "str" for name, column in COLUMNS.items()}
    try:
        frame = pd.read_csv(text or path, encoding="utf-8-sig", dtype=dtypes, keep_default_na=False, na_values=[""])
    except (OSError, ValueError, OverflowError) as error:
        reason = clean(str(error).splitlines()[0][:200].rstrip("."))
        raise SettingsError(
            f"{str(path)!r} holds no table of runs: {reason}.",
            hint="Give what `vastbench export` wrote (Parquet, CSV, Excel, JSON), or a store; unpack a packed file first.",
        ) from None
    words = [name for name in NEVER_MISSING if name in frame.columns]
    frame[words] = frame[words].fillna("")
    return naming(path, lambda: conformed(frame))


def _from_json(path: Path) -> pd.DataFrame:
    # A run may be in the file twice, as it may lie in several places: it is kept where it was read first.
    runs: dict[str, Run] = {}
    for run in read_runs(path):
        runs.setdefault(run.id, run)
    return naming(path, lambda: phases_table(runs.values()))
