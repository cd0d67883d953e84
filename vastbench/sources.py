"""Where tables come from and go to: the store, Parquet and JSON files, the data that comes with vastbench."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vastbench.analysis.frames import SCHEMA, conformed, only, phases_table
from vastbench.errors import NotFound, SchemaError, SettingsError, UsageError
from vastbench.report.files import read_runs
from vastbench.resources import shared

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.run import Run

SAMPLE = "default-300"
"""The data set in ``data/studies`` that notebooks look at unless told otherwise."""

SCHEMA_KEY = b"vastbench_schema"


def load(*places: str | Path | None, study: str | None = None, gpu: str | None = None) -> pd.DataFrame:
    """The tidy frame (:data:`~vastbench.analysis.frames.COLUMNS`) of everything in ``places``, no run twice.

    A place is a Parquet file, a JSON file of runs, a store (file or database URL), or the name of a data set that comes with
    vastbench; None, or no place, is the sample data set. ``study`` keeps the runs of one study, ``gpu`` those that got this
    GPU. Raises NotFound for a place that is not there and when no run is left, saying which ones there are; SchemaError for a
    table of another version, SettingsError for a file that cannot be read.
    """
    import pandas as pd

    frames = [_load(str(place or SAMPLE)) for place in places or (None,)]
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    if len(frames) > 1:
        # A run may lie in several places; its rows are kept where they were read first.
        owner = pd.Series([i for i, f in enumerate(frames) for _ in range(len(f))], index=frame.index)
        frame = frame[owner == owner.groupby(frame["run"]).transform("min")]
    where = ", ".join(str(place or SAMPLE) for place in places or (None,))
    frame = only(frame, "study", study, where)
    frame = only(frame, "gpu", gpu, where if study is None else f"the study {study!r} in {where}")
    return frame.reset_index(drop=True)


def export(frame: pd.DataFrame, path: Path) -> None:
    """Write a tidy frame as a Parquet file that carries its schema's version. Raises UsageError when that cannot be done."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata((table.schema.metadata or {}) | {SCHEMA_KEY: str(SCHEMA).encode()})
    _write(path, lambda target: pq.write_table(table, target, compression="zstd"))


def export_runs(runs: list[Run], path: Path) -> None:
    """Write runs as a JSON list of their records, losing nothing. Raises UsageError when that cannot be done."""
    text = json.dumps([run.to_dict() for run in runs], indent=1, ensure_ascii=False, allow_nan=False)
    _write(path, lambda target: target.write_text(text + "\n", encoding="utf-8"))


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


def _load(place: str) -> pd.DataFrame:
    suffix = Path(place).suffix.lower()
    if "://" not in place and not Path(place).exists():
        bundled = [shared("data/studies") / f"{place}.parquet", shared("data/runs") / f"{place}.json"]
        found = next((path for path in bundled if path.is_file()), None)
        if found is None:
            raise NotFound(f"There is no {place!r}.", hint="Give a Parquet or JSON file, a store, or a data set in data/.")
        place, suffix = str(found), found.suffix
    if suffix == ".parquet":
        return _from_parquet(Path(place))
    if suffix == ".json":
        return _from_json(Path(place))
    from vastbench.store import Store

    with Store.existing(place) as store:
        return phases_table(reversed(store.runs()))


def _from_json(path: Path) -> pd.DataFrame:
    # A run may be in the file twice, as it may lie in several places: it is kept where it was read first.
    runs: dict[str, Run] = {}
    for run in read_runs(path):
        runs.setdefault(run.id, run)
    return _naming(path, lambda: phases_table(runs.values()))


def _naming(path: Path, read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What ``read`` returns; a SchemaError that it raises names the file."""
    try:
        return read()
    except SchemaError as error:
        raise SchemaError(f"{str(path)!r}: {error.message}", hint=error.hint) from None


def _from_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"{str(path)!r} is not a readable Parquet file: {reason}.", hint="Export it again.") from None
    version = (table.schema.metadata or {}).get(SCHEMA_KEY, b"").decode(errors="replace")
    if version != str(SCHEMA):
        raise SchemaError(
            f"{str(path)!r} has schema {version or 'unknown'}; this vastbench reads schema {SCHEMA}.",
            hint="Export it again with this vastbench, or read it with the one that wrote it.",
        )
    nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
    if nested:
        # Into a column of text pandas would take a list as its text.
        raise SchemaError(f"{str(path)!r}: the column {nested[0]!r} holds lists or records.", hint="Export it with vastbench.")
    try:
        # The schema says how columns are to be read; what pandas noted beside them is not needed and may be broken.
        frame = table.replace_schema_metadata(None).to_pandas()
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise SchemaError(f"{str(path)!r} is no table of runs: {reason}.", hint="Export it again with vastbench.") from None
    return _naming(path, lambda: conformed(frame))
