"""Anybody's timings as one long table, for the artefact detector: CSV, JSON, Parquet, stored runs.

The table's columns are :data:`~vastbench.analysis.artefacts.rule.COLUMNS`. What is read:

* long CSV: ``run,phase,seconds`` and whatever of the other columns there is; the time's column names its unit;
* wide CSV: a column per phase, its unit in its name (``boot_s``, ``wait_ssh_ms``, ``boot (s)``), a row per run;
* JSON, and lines of JSON: a list of such records, one record, ``{phase: seconds}``, the shape of the first published run with
  its status log, vastbench's own records, and what the tools of :data:`~vastbench.io.foreign.READERS` write;
* two timestamps in place of a time (``started_at``, ``ended_at``);
* Parquet files, vastbench's own and others.

A missing value is an empty cell, null, NaN or a word such as n/a. Anything else that is not a number, and an impossible
number (infinity, 1e308), is refused by name.
"""

from __future__ import annotations

import csv
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vastbench.analysis.artefacts.detector import timings_of
from vastbench.analysis.artefacts.rule import ANSWER, DURATION
from vastbench.analysis.frames import phases_table, shown_as_text
from vastbench.bundled import shared
from vastbench.errors import NotFound, SettingsError
from vastbench.io import parquet
from vastbench.io.foreign import AGGREGATED, READERS, from_locust, from_records
from vastbench.io.long import duration, long_table
from vastbench.io.seed import KEYS, seed_from_run
from vastbench.io.words import Reading, refused
from vastbench.record.document import run_from_dict
from vastbench.record.formats import listed
from vastbench.record.numbers import measurable
from vastbench.record.phases import PhaseName
from vastbench.record.run import Run

if TYPE_CHECKING:
    import pandas as pd

LARGEST_MB = 100
"""A larger file is refused unread, and MOST_ROWS bound what a smaller one may become: both keep the memory bounded."""

MOST_ROWS = 1_000_000


def read(place: str | Path, how: Reading = Reading()) -> pd.DataFrame:  # noqa: B008 (frozen)
    """The timings in a file, or in a data set that comes with vastbench, as a long table.

    Raises NotFound where there is no such file, SettingsError for a file that is too large, cannot be read, holds no timings or
    a word that is asked about; the message names the file, and the line and column of a value that is not a number.
    """
    shown_as_text()
    path = _found(Path(place))
    # What a file holds decides, as its name may not tell: many tools write lines of JSON into a .json or .log.
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PAR1":
                return _from_parquet(path, how)
        size = path.stat().st_size
        if size > LARGEST_MB * 1e6:
            part = f"Take a part of it: head -n 100000 {shlex.quote(str(path))} > part{path.suffix}"
            hint = "Export fewer runs." if path.suffix.lower() == ".json" else part
            raise refused(path, f"has {size / 1e6:.0f} MB; at most {LARGEST_MB} are read", hint)
        content = path.read_bytes()
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror}", "Check the path.") from None
    if not content.strip():
        raise refused(path, "is empty", "Was it cut off while copying?")
    json_like = content.removeprefix(_MARK).lstrip()[:1] in (b"{", b"[") or path.suffix.lower().startswith(".json")
    return _from_json(path, content, how) if json_like else _from_csv(path, content, how)


_MARK = b"\xef\xbb\xbf"


def _from_parquet(path: Path, how: Reading) -> pd.DataFrame:
    """vastbench's own table, or anybody's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if parquet.is_own(path):
        return timings_of(parquet.read(path))
    try:
        held = pq.ParquetFile(path)
        _few(path, held.metadata.num_rows)
        frame = held.read().replace_schema_metadata(None).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise refused(path, f"is not a readable Parquet file: {str(error).splitlines()[0][:200]}", "Check it.") from None
    return long_table(path, frame.astype(object), "row", 0, how)


def _few(path: Path, rows: int) -> None:
    if rows > MOST_ROWS:
        raise refused(path, f"has more than {MOST_ROWS:,} rows, and no more are read", "Take a part of it, drawn at random.")


def of_runs(runs: Iterable[Run]) -> pd.DataFrame:
    """The timings of runs, with what their records say of checks; of an imported run, what its record reported."""
    import pandas as pd

    runs = list(runs)
    tables = [_of_seeds(Path(run.id), [seed_from_run(run)], [run.id]) for run in runs if run.source == "import"]
    own = [run for run in runs if run.source != "import"]
    if own:
        table = timings_of(phases_table(own))
        files = {run.id: _content_check(run) for run in own}
        table["verified"] = table["run"].map({name: file.get("matches") for name, file in files.items()}).astype(object)
        table["content_hash"] = table["run"].map({name: file.get("sha256") for name, file in files.items()}).astype(object)
        written = table["run"].map({name: file.get("bytes") for name, file in files.items()}).astype("float64")
        of_phase = table["run"].map({name: file.get("phase") for name, file in files.items()}).astype(object)
        table["bytes"] = written.where(table["phase"] == of_phase)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({name: [] for name in ("run", "phase", "seconds")})


def _content_check(run: Run) -> Mapping[str, Any]:
    """What the run's record says of a content that it wrote and read back, whatever its scenario calls that."""
    return next((one for one in run.validation.values() if isinstance(one, dict) and "sha256" in one), {})


def _found(path: Path) -> Path:
    if path.is_file():
        return path
    named = [shared(f"data/{kind}") / f"{path}.{suffix}" for kind, suffix in _BUNDLED]
    for known in named:
        if known.is_file():
            return known
    if path.exists():
        raise refused(path, "is not a file", "Name a file of timings.")
    raise NotFound(
        f"There is no {str(path)!r}.", hint="Give a CSV, JSON or Parquet file, a stored run, or a data set in data/."
    )


_BUNDLED = (("studies", "parquet"), ("runs", "json"), ("published", "csv"))


def _from_csv(path: Path, content: bytes, how: Reading) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.csv as reader

    first = content.removeprefix(_MARK).lstrip().split(b"\n", 1)[0]
    delimiter = max((",", ";", "\t"), key=lambda mark: first.count(mark.encode()))
    _few(path, content.count(b"\n"))
    try:
        names = next(csv.reader([first.decode("utf-8").rstrip("\r")], delimiter=delimiter), [])
        # Everything as text: what is a number is decided here, by line and column, not guessed by a library.
        as_text = reader.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        parsing = reader.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        table = reader.read_csv(pa.BufferReader(content), parse_options=parsing, convert_options=as_text)
    except (pa.ArrowException, csv.Error, UnicodeDecodeError) as error:
        raise refused(path, f"is not a readable CSV: {str(error).splitlines()[0][:200]}", "Check the file.") from None
    if twice := [name for name in table.column_names if table.column_names.count(name) > 1]:
        raise refused(path, f"has the column {twice[0]!r} {table.column_names.count(twice[0])} times", "Name each once.")
    frame = table.to_pandas().astype(object)
    if (locust := from_locust(frame)) is not None:
        return _noting(long_table(path, locust, "line", 2, how), AGGREGATED)
    return long_table(path, frame, "line", 2, how)


def _noting(table: pd.DataFrame, note: str) -> pd.DataFrame:
    table.attrs["notes"] += [note] if note else []
    return table


def _from_json(path: Path, content: bytes, how: Reading) -> pd.DataFrame:
    import pandas as pd

    records = _records(path, content)
    if all("format" in record for record in records):
        try:
            return of_runs(run_from_dict(record) for record in records)
        except SettingsError as error:
            raise SettingsError(f"{str(path)!r}: {error.message}", hint=error.hint) from None
    if all(isinstance(record.get("timings"), dict) for record in records):
        return _of_seeds(path, records)
    rows, reader = from_records(path, records, MOST_ROWS + 1)
    _few(path, len(rows))
    nested = sorted({name for row in rows for name, value in row.items() if isinstance(value, (dict, list))})
    flat = [{name: value for name, value in row.items() if name not in nested} for row in rows] if nested else rows
    if not flat or (nested and not any(flat)):
        forms = listed([reader.name for reader in READERS])
        found = f"holds lists or objects under {nested[0]!r}" if nested else "holds no timings"
        raise refused(
            path, f"{found}, and is not in a form that is known ({forms})", "Give flat records: a name and a number each."
        )
    try:
        frame = pd.DataFrame.from_records(flat).astype(object)
    except (ValueError, TypeError, OverflowError) as error:
        raise refused(path, f"holds no table of timings: {str(error)[:200]}", "Give records of one form.") from None
    if len(flat) == 1 and not how.columns and not any(duration(name) for name in frame.columns) and reader is None:
        frame = pd.DataFrame({"phase": list(flat[0]), "seconds": list(flat[0].values())}, dtype=object)
    table = _noting(long_table(path, frame, "record", 1, how), reader.note if reader else "")
    table.attrs["ignored"] += nested
    return table


def _records(path: Path, content: bytes) -> list[dict[str, Any]]:
    """The objects of a JSON document, or of lines of JSON. Raises SettingsError, with the line that is none."""
    text = content.removeprefix(_MARK)
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if len(lines) < 2 or not lines[0][1].strip().endswith(b"}"):
            raise refused(path, f"is not JSON: {str(error)[:200]}", "Was it cut off while copying?") from None
        _few(path, len(lines))
        plain = [_line(path, number, line) for number, line in lines]
    records = plain if isinstance(plain, list) else [plain]
    if not records or not all(isinstance(record, dict) and record for record in records):
        raise refused(path, "holds no records of timings", "Give a list of objects, or one object.")
    return records


def _line(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise refused(path, f"is not JSON in line {number}: {str(error)[:200]}", "Was it cut off while copying?") from None


def _of_seeds(path: Path, records: Sequence[Mapping[str, Any]], names: list[str] | None = None) -> pd.DataFrame:
    """Records of the first published run's shape; whatever beside ``timings`` is missing or broken is not there."""
    import pandas as pd

    phases = {key.removesuffix("_sec"): str(name) for name, key in KEYS.items()}
    tables = []
    for number, record in enumerate(records, 1):
        table = long_table(path, pd.DataFrame([record["timings"]], dtype=object), "record", number)
        table["phase"] = table["phase"].map(lambda name: phases.get(name.replace(" ", "_"), name))
        checks, polls, tries = (_part(record, name) for name in ("validation", "poll_log", "ssh_log"))
        for phase, log in ((PhaseName.WAIT_RUNNING, polls), (PhaseName.WAIT_SSH, tries)):
            if (pause := _positive(log.get("sleep_sec"))) is not None:
                table.loc[table["phase"] == phase, "poll_period_s"] = pause
        table["kind"] = DURATION
        noted = [answer[0] for answer in _list(polls.get("answers")) if isinstance(answer, list) and answer]
        answers = [float(at) for at in noted if _positive(at) is not None or at == 0]
        log_rows = pd.DataFrame({"phase": str(PhaseName.WAIT_RUNNING), "seconds": answers, "kind": ANSWER})
        table = pd.concat([table, log_rows], ignore_index=True) if answers else table
        table["run"] = names[number - 1] if names else str(record.get("timestamp") or f"record {number}")
        success, hashed = checks.get("success"), checks.get("sha256") or checks.get("content_hash")
        table["outcome"] = {True: "passed", False: "failed"}.get(success) if isinstance(success, bool) else None
        table["verified"] = pd.Series([checks.get("file_verified") is True] * len(table), dtype=object)
        table["content_hash"] = pd.Series([hashed] * len(table), dtype=object)
        table["machine"] = pd.Series([_part(record, "resources").get("machine_id")] * len(table), dtype=object)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _positive(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if number > 0 and measurable(number) else None
