"""Anybody's timings as one long table, for the artefact detector: CSV, JSON, Parquet, stored runs.

The table's columns are :data:`~vastbench.analysis.artefacts.rule.COLUMNS`. What is read:

* long CSV: ``run,phase,seconds`` and whatever of the other columns there is; the time's column names its unit;
* wide CSV: a column per phase, its unit in its name (``boot_s``, ``wait_ssh_ms``, ``boot (s)``), a row per run;
* JSON: a list of such records, one record, ``{phase: seconds}``, the shape of the first published run with its status log, or
  vastbench's own records;
* vastbench's own Parquet files.

A missing value is an empty cell, null, NaN or a word such as n/a. Anything else that is not a number, and an impossible
number (infinity, 1e308), is refused by name.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vastbench.analysis.artefacts.detector import timings_of
from vastbench.analysis.artefacts.rule import ANSWER, DURATION
from vastbench.analysis.frames import phases_table, shown_as_text
from vastbench.bundled import shared
from vastbench.errors import NotFound, SettingsError, clean
from vastbench.io.seed import KEYS, seed_from_run
from vastbench.record.document import run_from_dict
from vastbench.record.numbers import LARGEST, measurable
from vastbench.record.phases import PARENTS, PhaseName
from vastbench.record.run import Run

if TYPE_CHECKING:
    import pandas as pd

LARGEST_MB = 100
"""A larger CSV or JSON file is refused: it would fill the memory."""

UNITS = {
    1.0: ("s", "sec", "secs", "second", "seconds"),
    1e-3: ("ms", "msec", "millisecond", "milliseconds"),
    1e-6: ("us", "µs", "microseconds"),
    1e-9: ("ns", "nanoseconds"),
    60.0: ("min", "mins", "minutes"),
    3600.0: ("h", "hours"),
}
ALIASES = {
    "run": ("run", "run_id", "id", "trial"),
    "phase": ("phase", "step", "stage"),
    "kind": ("kind",),
    "parent": ("parent",),
    "final": ("final",),
    "outcome": ("outcome", "status", "success"),
    "machine": ("machine", "machine_id", "host", "host_id"),
    "bytes": ("bytes", "size_bytes"),
    "link_bytes_per_s": ("link_bytes_per_s",),
    "verified": ("verified", "file_verified"),
    "content_hash": ("content_hash", "sha256", "hash"),
    "files": ("files",),
    "attempts": ("attempts", "tries"),
    "retries_allowed": ("retries_allowed", "max_retries"),
}
LIMITS = {
    "poll_period": "poll_period_s",
    "poll_interval": "poll_period_s",
    "timeout": "timeout_s",
    "deadline": "timeout_s",
    "lower": "lower_s",
    "upper": "upper_s",
}
LINKS = {"link_mbps": 1e6 / 8, "link_gbps": 1e9 / 8}
NUMBERS = ("seconds", "poll_period_s", "timeout_s", "bytes", "link_bytes_per_s", "files", "attempts", "retries_allowed")
MISSING = ("", "nan", "na", "n/a", "null", "none", "-", "–")
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
ENDS = {"passed": ("passed", "pass", "ok", "success", "true", "yes", "1"), "censored": ("censored", "timeout", "stopped")}
DURATIONS = ("", "duration", "time", "elapsed", "value")
BOUNDS = ("start", "start_lower", "end", "end_lower", "end_upper", "queued")


def read(place: str | Path) -> pd.DataFrame:
    """The timings in a file, or in a data set that comes with vastbench, as a long table.

    Raises NotFound where there is no such file, SettingsError for a file that is too large, cannot be read or holds no timings;
    the message names the file, and the line and column of a value that is not a number.
    """
    shown_as_text()
    path = _found(Path(place))
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        from vastbench.io.tables import load

        return timings_of(load(path))
    if suffix not in (".csv", ".tsv", ".txt", ".json"):
        raise _refused(path, f"is {suffix or 'of no kind that its name tells'}", "Give a CSV, JSON or Parquet file.")
    try:
        size = path.stat().st_size
        if size > LARGEST_MB * 1e6:
            raise _refused(path, f"has {size / 1e6:.0f} MB; at most {LARGEST_MB} are read", "Split it.")
        content = path.read_bytes()
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}", "Check the path.") from None
    if not content.strip():
        raise _refused(path, "is empty", "Was it cut off while copying?")
    return _from_json(path, content) if suffix == ".json" else _from_csv(path, content)


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
        raise _refused(path, "is not a file", "Name a file of timings.")
    raise NotFound(
        f"There is no {str(path)!r}.", hint="Give a CSV, JSON or Parquet file, a stored run, or a data set in data/."
    )


_BUNDLED = (("studies", "parquet"), ("runs", "json"), ("published", "csv"))


def _refused(path: Path, reason: str, hint: str) -> SettingsError:
    """The error; what a file's own words in ``reason`` could do to a terminal is taken out."""
    return SettingsError(f"{str(path)!r} {clean(reason)}.", hint=hint)


def _from_csv(path: Path, content: bytes) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.csv as reader

    first = content.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0]
    delimiter = max((",", ";", "\t"), key=lambda mark: first.count(mark.encode()))
    try:
        names = next(csv.reader([first.decode("utf-8").rstrip("\r")], delimiter=delimiter), [])
        # Everything as text: what is a number is decided here, by line and column, not guessed by a library.
        as_text = reader.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        parsing = reader.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        table = reader.read_csv(pa.BufferReader(content), parse_options=parsing, convert_options=as_text)
    except (pa.ArrowException, csv.Error, UnicodeDecodeError) as error:
        raise _refused(path, f"is not a readable CSV: {str(error).splitlines()[0][:200]}", "Check the file.") from None
    if twice := [name for name in table.column_names if table.column_names.count(name) > 1]:
        raise _refused(path, f"has the column {twice[0]!r} {table.column_names.count(twice[0])} times", "Name each once.")
    return long_table(path, table.to_pandas().astype(object), "line", 2)


def _from_json(path: Path, content: bytes) -> pd.DataFrame:
    import pandas as pd

    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"is not JSON: {str(error)[:200]}", "Was it cut off while copying?") from None
    records = plain if isinstance(plain, list) else [plain]
    if not records or not all(isinstance(record, dict) and record for record in records):
        raise _refused(path, "holds no records of timings", "Give a list of objects, or one object.")
    if all("format" in record for record in records):
        try:
            return of_runs(run_from_dict(record) for record in records)
        except SettingsError as error:
            raise SettingsError(f"{str(path)!r}: {error.message}", hint=error.hint) from None
    if all(isinstance(record.get("timings"), dict) for record in records):
        return _of_seeds(path, records)
    if nested := next((name for record in records for name, value in record.items() if isinstance(value, (dict, list))), None):
        raise _refused(path, f"holds a list or an object under {nested!r}", "Give flat records: a name and a number each.")
    try:
        frame = pd.DataFrame.from_records(records).astype(object)
    except (ValueError, TypeError, OverflowError) as error:
        raise _refused(path, f"holds no table of timings: {str(error)[:200]}", "Give records of one form.") from None
    if len(records) == 1 and not any(_duration(name) for name in frame.columns):
        frame = pd.DataFrame({"phase": list(records[0]), "seconds": list(records[0].values())}, dtype=object)
    return long_table(path, frame, "record", 1)


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


def long_table(place: Path, frame: pd.DataFrame, unit: str, first: int) -> pd.DataFrame:
    """The long table of a long or wide one whose cells are text or JSON values.

    ``unit`` and ``first`` name a row in messages: ``line`` 2 is the first row of a CSV file. ``attrs["ignored"]`` of the result
    lists the unused columns. Raises SettingsError, naming ``place``, without timings and for a value that is not a number.
    """
    names = {column: str(column).strip().lower().replace(" ", "_").replace("-", "_") for column in frame.columns}
    known = {column: target for column, name in names.items() for target, alike in ALIASES.items() if name in alike}
    factors = {column: (LINKS[name], "link_bytes_per_s") for column, name in names.items() if name in LINKS}
    timed = {column: found for column in frame.columns if column not in known and (found := _duration(column))}
    for column, (base, factor) in list(timed.items()):
        if base in LIMITS:
            factors[column] = (factor, LIMITS[base])
            del timed[column]
        elif base in BOUNDS:
            del timed[column]
    targets = [*known.values(), *(target for _, target in factors.values())]
    if twice := next((name for name in targets if targets.count(name) > 1), None):
        raise _refused(place, f"has several columns for {twice!r}", "Keep one of them.")
    numbers = _Numbers(place, unit, first)
    table = frame[list(known)].rename(columns=known)
    for column, (factor, target) in factors.items():
        table[target] = numbers.read(frame[column], column, factor)
    for name in set(NUMBERS) & set(known.values()):
        table[name] = numbers.read(table[name], name)
    read = {column: (base, numbers.read(frame[column], column, factor)) for column, (base, factor) in timed.items()}
    if "run" not in table:
        alone = unit == "record" and "phase" in table
        table["run"] = "run" if alone else [f"{unit} {first + i}" for i in range(len(table))]
    table = _stacked(place, table, read)
    _tidy(table)
    table.attrs["ignored"] = [str(column) for column in frame.columns if column not in {*known, *factors, *timed}]
    return table


def _stacked(place: Path, table: pd.DataFrame, timed: dict[Any, tuple[str, pd.Series[float]]]) -> pd.DataFrame:
    """One row per run and phase, from the columns of durations."""
    import pandas as pd

    if not timed or table.empty:
        raise _refused(place, "holds no timings" if table.empty else "has no column of times", HINT)
    if "phase" in table:
        values = {base: seconds for base, seconds in timed.values() if base in DURATIONS}
        if len(values) != 1:
            raise _refused(place, f"has {len(values)} columns of durations beside the phase, not one", HINT)
        table["seconds"] = next(iter(values.values()))
        stated = next((seconds for base, seconds in timed.values() if base == "total"), None)
        if stated is None or (table["phase"] == "total").any():
            return table
        whole = table[["run"]].assign(phase="total", seconds=stated).drop_duplicates("run")
        return pd.concat([table, whole], ignore_index=True)
    # A phase given in two units is the same phase; the column named first is kept.
    phases: dict[str, pd.Series[float]] = {}
    for base, seconds in timed.values():
        phases.setdefault(base or "seconds", seconds)
    parts = [table.assign(phase=name, seconds=seconds) for name, seconds in phases.items()]
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


HINT = "Give run,phase,seconds, or one column per phase with its unit in its name, such as boot_s or boot_ms."


def _tidy(table: pd.DataFrame) -> None:
    """Words as the rules know them: phases in vastbench's words where they are the same, outcomes, true and false."""
    known = {str(name).lower(): str(name) for name in PhaseName}
    words = table["phase"].map(lambda value: str(value).strip())
    table["phase"] = words.map({word: known.get(word.lower().replace("_", " "), word) for word in words.unique()})
    table["run"] = table["run"].map(str)
    if "parent" not in table:
        table["parent"] = table["phase"].map({str(child): str(parent) for child, parent in PARENTS.items()})
    for name in ("kind", "parent", "machine", "content_hash"):
        if name in table:
            table[name] = table[name].map(lambda value: None if _missing(value) else value).astype(object)
    if "outcome" in table:
        ends = {word: end for end, alike in ENDS.items() for word in alike}
        words = table["outcome"].map(lambda value: "" if _missing(value) else str(value).strip().lower())
        table["outcome"] = words.map(lambda word: ends.get(word, "failed") if word else None).astype(object)
    for name in ("final", "verified"):
        if name in table:
            table[name] = table[name].map(lambda value: WORDS.get(str(value).strip().lower())).astype(object)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip().lower() in MISSING


def _duration(column: Any) -> tuple[str, float] | None:
    """What a column of durations is called without its unit, and seconds per unit; None for any other column."""
    words = re.fullmatch(r"(.*?)[ _\-.]*[(\[]?([a-zµ]+)[)\]]?", str(column).strip().lower(), re.DOTALL)
    if not words or (words[1] and str(column).strip()[len(words[1])] not in " _-.(["):
        return None
    base = words[1].replace("_", " ").strip()
    base = base.replace(" ", "_") if base.replace(" ", "_") in (*LIMITS, *BOUNDS) else base
    base = "total" if base in ("total time", "overall") else base
    return next(((base, factor) for factor, names in UNITS.items() if words[2] in names), None)


class _Numbers:
    """Reads a column of numbers, or names the file and line of a value that is not a number."""

    def __init__(self, place: Path, unit: str, first: int) -> None:
        self.place, self.unit, self.first = place, unit, first

    def read(self, column: pd.Series[Any], name: object, factor: float = 1.0) -> pd.Series[float]:
        import numpy as np
        import pandas as pd

        missing = column.map(_missing)
        # An integer that no float can hold raises as such; as a text it is merely not a number.
        cells = column.map(lambda value: str(value) if type(value) is int else value)
        numbers = pd.to_numeric(cells.where(~missing), errors="coerce").astype("float64")
        numbers *= factor
        wrong = ~missing & (~(numbers.abs() <= LARGEST) | column.map(lambda value: isinstance(value, bool)))
        if wrong.any():
            row = int(np.flatnonzero(wrong.to_numpy())[0])
            shown = str(column.iloc[row])[:40]
            where = f"in the column {name!r}, {self.unit} {self.first + row}"
            reason = f"has {shown!r} {where}, not a finite number of at most {LARGEST:g}"
            raise _refused(self.place, reason, "Leave a missing value empty.")
        return numbers
