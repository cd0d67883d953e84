"""From a foreign table to timings: which column is what, numbers and units, one row per run and phase.

The result has the columns of :data:`~vastbench.analysis.artefacts.rule.COLUMNS`. Its ``attrs`` say what a reader must know:
``ignored``, the columns that were not read, and ``notes``, sentences on what was decided about rows and columns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vastbench.analysis.artefacts.rule import resolution
from vastbench.errors import SHOWN, SettingsError, did_you_mean
from vastbench.io.words import (
    CENSORED,
    FAILED,
    INVALID,
    VALID,
    Reading,
    answers,
    command,
    counts,
    is_status,
    missing,
    outcomes,
    plain,
    refused,
    worst,
)
from vastbench.record.formats import counted, decimals, listed
from vastbench.record.numbers import LARGEST
from vastbench.record.phases import PARENTS, PhaseName

if TYPE_CHECKING:
    import pandas as pd

UNITS = {
    1.0: ("s", "sec", "secs", "second", "seconds"),
    1e-3: ("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"),
    1e-6: ("us", "µs", "usec", "usecs", "microsecond", "microseconds"),
    1e-9: ("ns", "nsec", "nanos", "nanosecond", "nanoseconds"),
    60.0: ("min", "mins", "minute", "minutes"),
    3600.0: ("h", "hour", "hours"),
}
SECONDS = {word: factor for factor, words in UNITS.items() for word in words}
ALIASES = {
    "run": ("run", "run_id", "id", "trial"),
    "phase": ("phase", "step", "stage", "metric"),
    "kind": ("kind",),
    "parent": ("parent",),
    "final": ("final",),
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
DURATIONS = ("", "duration", "time", "elapsed", "value")
BOUNDS = ("start", "start_lower", "end", "end_lower", "end_upper", "queued")
HINT = "Give run,phase,seconds, or one column per phase with its unit in its name, such as boot_s or boot_ms."

CREATED, STARTED, ENDED = "created", "started", "ended"
MOMENTS = {
    CREATED: ("created", "queued", "submitted", "creation", "enqueued"),
    STARTED: ("start", "started", "begin", "began"),
    ENDED: ("end", "ended", "finish", "finished", "stop", "stopped", "complete", "completed"),
}
"""What a column of timestamps says that happened."""
STEPS = {(CREATED, STARTED): "created to started", (STARTED, ENDED): "started to ended"}
"""The phases between two such moments."""
_EPOCH = {1e17: 1e-9, 1e14: 1e-6, 1e11: 1e-3, 1e8: 1.0}  # numbers above these are times since 1970 in that part of a second


def long_table(place: Path, frame: pd.DataFrame, unit: str, first: int, how: Reading = Reading()) -> pd.DataFrame:  # noqa: B008 (frozen)
    """The long table of a long or wide one whose cells are text or JSON values.

    ``unit`` and ``first`` name a row in messages: ``line`` 2 is the first row of a CSV file. Raises SettingsError, naming
    ``place``, without timings, for a value that is not a number and a word of an outcome that is not known.
    """
    frame = frame.reset_index(drop=True)
    roles, numbers = _roles(place, frame, how), _Numbers(place, unit, first)
    frame, notes = _counting(place, frame, roles.marks)
    table = _told(place, frame, roles, numbers, how)
    notes += _read_as(frame, roles.status, table, how)
    read = {column: (base, numbers.times(frame[column], column, factor)) for column, (base, factor) in roles.timed.items()}
    ignored = roles.ignored
    begins: dict[str, pd.Series[float]] = {}
    if roles.unit is not None and read:
        table, read, more = _by_unit(place, frame[roles.unit], table, read)
        notes += more
    elif not read and len(frame):
        read, ignored, begins = _between(frame[roles.ignored], numbers, how, alone="phase" in table)
        if not read:
            raise _no_times(place, frame, roles)
    if "run" not in table:
        alone = unit == "record" and "phase" in table
        table["run"] = "run" if alone else [f"{unit} {first + i}" for i in table.index]
    elif roles.groups:
        table["run"] = _apart(table)
    if how.unit and all(duration(column) for column in read):
        notes.append(f"the unit {how.unit} was not needed: each column of times names its own")
    table, more = _stacked(place, table, _merged(place, read, first, unit), begins)
    _tidy(place, table)
    table.attrs["ignored"] = [str(column) for column in ignored]
    table.attrs["notes"] = notes + more
    return table


def _counting(place: Path, frame: pd.DataFrame, marks: list[Any]) -> tuple[pd.DataFrame, list[str]]:
    """The rows that are not marked invalid, and how many are."""
    if not marks or frame.empty:
        return frame, []
    kept = counts(place, {str(column): frame[column] for column in marks})
    if not kept.any():
        raise refused(place, f"has {counted(len(frame), 'row')}, all of them marked invalid", "Look at the column.")
    left_out, named = int((~kept).sum()), listed([str(column) for column in marks])
    return frame[kept], [f"{counted(left_out, 'row')} marked invalid (column {named}) not counted"] if left_out else []


def _told(place: Path, frame: pd.DataFrame, roles: _Roles, numbers: _Numbers, how: Reading) -> pd.DataFrame:
    """The columns beside the durations."""
    table = frame[list(roles.known)].rename(columns=roles.known)
    for column, (factor, target) in roles.factors.items():
        table[target] = numbers.read(frame[column], column, factor)
    for name in set(NUMBERS) & set(roles.known.values()):
        table[name] = numbers.read(table[name], name)
    if roles.status:
        table["outcome"] = worst([outcomes(place, str(column), frame[column], how) for column in roles.status])
    if roles.groups:
        table["group"] = _grouped(frame, roles.groups)
    return table


@dataclass(frozen=True, slots=True)
class _Roles:
    """What each column of a foreign table is.

    ``known`` and ``factors`` lead to a column of timings (the latter with a factor), ``timed`` are durations: their phase and
    seconds per unit.
    """

    known: dict[Any, str]
    factors: dict[Any, tuple[float, str]]
    timed: dict[Any, tuple[str, float]]
    status: list[Any]
    marks: list[Any]
    groups: list[Any]
    unit: Any
    ignored: list[Any]


def _roles(place: Path, frame: pd.DataFrame, how: Reading) -> _Roles:
    names = {column: plain_name(column) for column in frame.columns}
    chosen = [_named(place, names, name, "column") for name in how.columns]
    groups = [_named(place, names, name, "group-by") for name in how.group_by]
    factor = _unit(how.unit) if how.unit else None
    free = {column: name for column, name in names.items() if column not in chosen}
    status = [column for column, name in free.items() if is_status(name, frame[column])]
    marks = [column for column, name in free.items() if name in (*VALID, *INVALID)]
    known = {column: target for column, name in free.items() for target, alike in ALIASES.items() if name in alike}
    if list(known.values()).count("phase") > 1:  # a metric is a phase where nothing else is
        known = {column: target for column, target in known.items() if names[column] != "metric"}
    unit = next((column for column, name in free.items() if name in ("unit", "units")), None)
    factors = {column: (LINKS[name], "link_bytes_per_s") for column, name in free.items() if name in LINKS}
    timed: dict[Any, tuple[str, float]] = {}
    for column, name in names.items():
        if column in known or column in status:
            continue
        found = duration(column) or _bare(column, name, factor, asked=column in chosen, unit=unit is not None)
        if not found:
            if column in chosen:
                raise _without_unit(place, column, "--column", str(column))
        elif found[0] in LIMITS and column not in chosen:
            factors[column] = (found[1], LIMITS[found[0]])
        elif column in chosen or (not chosen and found[0] not in BOUNDS):
            timed[column] = found
    if chosen and len(timed) == 1 and "phase" in known.values():
        timed = {column: ("", factor) for column, (_, factor) in timed.items()}
    targets = [*known.values(), *(target for _, target in factors.values())]
    if twice := next((name for name in targets if targets.count(name) > 1), None):
        raise refused(place, f"has several columns for {twice!r}", "Keep one of them.")
    used = {*known, *factors, *timed, *status, *marks, *groups, *([] if unit is None else [unit])}
    return _Roles(known, factors, timed, status, marks, groups, unit, [c for c in frame.columns if c not in used])


def plain_name(column: Any) -> str:
    """A column's name in small letters and underscores: ``startedAt`` and ``Started At`` are ``started_at``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(column).strip())
    return words.lower().replace(" ", "_").replace("-", "_")


def _named(place: Path, names: Mapping[Any, str], wanted: str, option: str) -> Any:
    """The column that ``--column`` or ``--group-by`` means."""
    for column, name in names.items():
        if str(column) == wanted or name == plain_name(wanted):
            return column
    there = ", ".join(str(column) for column in list(names)[:SHOWN])
    close = did_you_mean(wanted, map(str, names))
    raise refused(place, f"has no column {wanted!r} (--{option})", f"{close}There are: {there}.")


def _unit(word: str) -> float:
    try:
        return SECONDS[word.strip().lower()]
    except KeyError:
        raise SettingsError(f"{word!r} is no unit of time.", hint=f"Give one of {', '.join(SECONDS)}.") from None


def _without_unit(place: Path, column: Any, *options: str) -> SettingsError:
    hint = f"Give it: {command(place, *options, '--unit', 's')}"
    return refused(place, f"has the column {str(column)!r}, whose name tells no unit", hint)


def _bare(column: Any, name: str, factor: float | None, *, asked: bool, unit: bool) -> tuple[str, float] | None:
    """What a column of times is called whose own name tells no unit: it was asked for, or is called ``duration``."""
    if asked and (factor or unit):
        return ("" if name in DURATIONS else str(column).strip(), factor or 1.0)
    if name in DURATIONS[1:] and (factor or unit):
        return name, factor or 1.0
    return None


def duration(column: Any) -> tuple[str, float] | None:
    """What a column of durations is called without its unit, and seconds per unit; None for any other column."""
    words = re.fullmatch(r"(.*?)[ _\-.]*[(\[]?([a-zµ]+)[)\]]?", str(column).strip().lower(), re.DOTALL)
    if not words or (words[1] and str(column).strip()[len(words[1])] not in " _-.(["):
        return None
    base = words[1].replace("_", " ").strip()
    base = base.replace(" ", "_") if base.replace(" ", "_") in (*LIMITS, *BOUNDS) else base
    base = "total" if base in ("total time", "overall") else base
    return (base, SECONDS[words[2]]) if words[2] in SECONDS else None


def _no_times(place: Path, frame: pd.DataFrame, roles: _Roles) -> SettingsError:
    """The error for a table without a column of times: what there is, and how it could be read."""
    there = ", ".join(str(column) for column in list(frame.columns)[:SHOWN]) or "none"
    number = next((column for column in roles.ignored if _number(frame[column])), None)
    if number is None:
        return refused(place, f"has no column of times; its columns are {there}", HINT)
    read = command(place, "--column", str(number), "--unit", "s")
    return refused(place, f"has no column of times that names its unit; its columns are {there}", f"For example: {read}")


def _number(column: pd.Series[Any]) -> bool:
    """Whether a column holds nothing but numbers and missing values, and at least one number."""
    import pandas as pd

    cells = column[~column.map(missing)].map(lambda value: None if isinstance(value, (bool, int)) else value)
    whole = column.map(lambda value: isinstance(value, int) and not isinstance(value, bool)).any()
    found = pd.to_numeric(cells.dropna(), errors="coerce")
    return bool(found.notna().all() and (len(found) or whole))


def _grouped(frame: pd.DataFrame, columns: Iterable[Any]) -> pd.Series[Any]:
    """The values by which rows are kept apart, in words: ``gpu A100, region ES``."""
    words = [f"{column} " + frame[column].map(lambda value: "unknown" if missing(value) else str(value)) for column in columns]
    joined: pd.Series[Any] = words[0]
    for other in words[1:]:
        joined = joined + ", " + other
    return joined


def _apart(table: pd.DataFrame) -> pd.Series[Any]:
    """Names of runs that are in one group only: run 1 of one group is not run 1 of the next."""
    run = table["run"].map(str)
    if (table["group"].groupby(run).nunique() <= 1).all():
        return run
    return run + " of " + table["group"]


def _read_as(frame: pd.DataFrame, status: list[Any], table: pd.DataFrame, how: Reading) -> list[str]:
    """Which words were taken for a failure because of ``--passed``."""
    if not how.passed or not status:
        return []
    cells = frame[status[0]][table["outcome"].eq("failed")].map(lambda value: str(value).strip())
    words = [word[:40] for word in cells.unique() if plain(word) not in (*FAILED, *CENSORED)]
    return [f"taken for failed: {listed(words[:SHOWN])} (column {status[0]})"] if words else []


def _by_unit(
    place: Path, units: pd.Series[Any], table: pd.DataFrame, read: dict[Any, tuple[str, pd.Series[float]]]
) -> tuple[pd.DataFrame, dict[Any, tuple[str, pd.Series[float]]], list[str]]:
    """Rows by the unit that stands in each; what is measured in no unit of time (bytes, %) is left out, and said."""
    words = units.map(lambda value: "" if missing(value) else str(value).strip())
    factors = words.map(lambda word: SECONDS.get(word.lower(), math.nan)).astype("float64")
    timed = factors.notna()
    if not timed.any():
        there = ", ".join(repr(word[:20]) for word in words.unique()[:SHOWN])
        raise refused(place, f"has no row whose unit is one of time; the column 'unit' holds {there}", HINT)
    kept = {column: (base, (seconds * factors)[timed]) for column, (base, seconds) in read.items()}
    others = [word or "none" for word in words[~timed].unique()]
    notes = (
        [f"{counted(int((~timed).sum()), 'row')} in units of no time ({listed(others[:SHOWN])}) not counted"] if others else []
    )
    return table[timed], kept, notes


def _between(
    frame: pd.DataFrame, numbers: _Numbers, how: Reading, *, alone: bool
) -> tuple[dict[Any, tuple[str, pd.Series[float]]], list[Any], dict[str, pd.Series[float]]]:
    """The phases between columns of timestamps, the columns that are none, and when each phase began.

    ``boot_start`` and ``boot_end`` are the phase ``boot``; ``created_at``, ``started_at`` and ``completed_at`` are two phases.
    """
    pairs: dict[str, dict[str, Any]] = {}
    for column in frame.columns:
        if found := _moment(column):
            pairs.setdefault(found[0], {}).setdefault(found[1], column)
    read: dict[Any, tuple[str, pd.Series[float]]] = {}
    begins: dict[str, pd.Series[float]] = {}
    used: set[Any] = set()
    for base, moments in pairs.items():
        at = {kind: numbers.moments(frame[column], column, how) for kind, column in moments.items() if len(moments) > 1}
        for (begin, end), name in STEPS.items():
            if begin in at and end in at and not (alone and begin == CREATED):
                called = "" if alone else f"{base} {name}" if base and CREATED in at else base or name
                read[f"{moments[begin]} to {moments[end]}"] = called, at[end] - at[begin]
                begins[called] = at[begin]
                used |= {moments[begin], moments[end]}
    return read, [column for column in frame.columns if column not in used], begins


def _moment(column: Any) -> tuple[str, str] | None:
    """What a column of timestamps is of, and which of the three moments it is; None for any other column."""
    words = plain_name(column).split("_")
    while words and words[-1] in ("at", "time", "ts", "timestamp", "date", "utc", *SECONDS):
        words.pop()
    kind = next((kind for kind, names in MOMENTS.items() if words and words[-1] in names), None)
    return (" ".join(words[:-1]), kind) if kind else None


def _stacked(
    place: Path,
    table: pd.DataFrame,
    merged: tuple[dict[str, pd.Series[float]], list[str]],
    begins: dict[str, pd.Series[float]],
) -> tuple[pd.DataFrame, list[str]]:
    """One row per run and phase, from the columns of durations, and what was decided about columns.

    Where the phases have moments, ``began_s`` is when each began, in seconds since 1970 or since anything else.
    """
    import pandas as pd

    if table.empty:
        raise refused(place, "holds no timings", HINT)
    phases, notes = merged
    if "phase" in table:
        values = {base: seconds for base, seconds in phases.items() if base in DURATIONS}
        if len(values) != 1:
            raise refused(place, f"has {len(values)} columns of durations beside the phase, not one", HINT)
        table["seconds"] = next(iter(values.values()))
        if "" in begins:
            table["began_s"] = begins[""]
        stated = phases.get("total")
        if stated is None or (table["phase"] == "total").any():
            return table.reset_index(drop=True), notes
        keys = [name for name in ("run", "group") if name in table]
        whole = table[keys].assign(phase="total", seconds=stated).drop_duplicates()
        return pd.concat([table, whole], ignore_index=True), notes
    parts = [table.assign(phase=base or "seconds", seconds=seconds) for base, seconds in phases.items()]
    if begins:
        parts = [part.assign(began_s=begins.get(base, math.nan)) for part, base in zip(parts, phases, strict=True)]
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True), notes


def _merged(
    place: Path, timed: dict[Any, tuple[str, pd.Series[float]]], first: int, unit: str
) -> tuple[dict[str, pd.Series[float]], list[str]]:
    """The columns by phase. Two columns of one phase (``boot_s``, ``boot_ms``) must say the same where both say something."""
    phases: dict[str, pd.Series[float]] = {}
    named: dict[str, Any] = {}
    notes = []
    for column, (base, seconds) in timed.items():
        if base not in phases:
            phases[base], named[base] = seconds, column
            continue
        before = phases[base]
        # The coarser one may be rounded or cut off; the finer one is kept.
        grains = resolution(before), resolution(seconds)
        differ = (before - seconds).abs() > max(grains) * (1 + 1e-6)
        if differ.any():
            row = int(str(differ.idxmax()))
            said = f"{decimals(before[row], 3)} s and {decimals(seconds[row], 3)} s in {unit} {first + row}"
            reason = f"says two things of one quantity in the columns {str(named[base])!r} and {str(column)!r}: {said}"
            raise refused(place, reason, f"Name one: {command(place, '--column', str(named[base]))}")
        notes.append(f"{column} and {named[base]} say the same, the finer one is read")
        phases[base] = before.fillna(seconds) if grains[0] <= grains[1] else seconds.fillna(before)
    return phases, notes


def _tidy(place: Path, table: pd.DataFrame) -> None:
    """Words as the rules know them: phases in vastbench's words where they are the same, true and false."""
    known = {str(name).lower(): str(name) for name in PhaseName}
    words = table["phase"].map(lambda value: str(value).strip())
    table["phase"] = words.map({word: known.get(word.lower().replace("_", " "), word) for word in words.unique()})
    table["run"] = table["run"].map(str)
    if "parent" not in table:
        table["parent"] = table["phase"].map({str(child): str(parent) for child, parent in PARENTS.items()})
    for name in ("kind", "parent", "machine", "content_hash"):
        if name in table:
            table[name] = table[name].map(lambda value: None if missing(value) else value).astype(object)
    for name in ("final", "verified"):
        if name in table:
            table[name] = answers(place, name, table[name])


class _Numbers:
    """Reads a column of numbers, or names the file and line of a value that is not a number."""

    def __init__(self, place: Path, unit: str, first: int) -> None:
        self.place, self.unit, self.first = place, unit, first

    def read(self, column: pd.Series[Any], name: object, factor: float = 1.0) -> pd.Series[float]:
        import pandas as pd

        absent = column.map(missing)
        # An integer that no float can hold raises as such; as a text it is merely not a number.
        cells = column.map(lambda value: str(value) if type(value) is int else value)
        numbers = pd.to_numeric(cells.where(~absent), errors="coerce").astype("float64") * factor
        return self._checked(column, name, numbers, absent)

    def times(self, column: pd.Series[Any], name: object, factor: float) -> pd.Series[float]:
        """Durations in seconds. A cell that has its own unit is read by it: ``850ms``, ``1m30s``, ``0:01:12.5``."""
        import pandas as pd

        whole = column.map(lambda value: value.total_seconds() if isinstance(value, timedelta) else None)
        if whole.notna().any():  # it knows its own unit
            return self._checked(column, name, whole.astype("float64"), column.map(missing))
        if not column.map(lambda value: isinstance(value, str)).any():
            return self.read(column, name, factor)
        own = column.map(spoken)
        if own.isna().all():
            return self.read(column, name, factor)
        rest = self.read(column.where(own.isna(), None), name, factor)
        return self._checked(column, name, pd.Series(own, dtype="float64").fillna(rest), column.map(missing))

    def moments(self, column: pd.Series[Any], name: object, how: Reading) -> pd.Series[float]:
        """Timestamps as seconds: ISO 8601, seconds or parts of them since 1970, or numbers in the unit that is named."""
        import pandas as pd

        absent = column.map(missing)
        cells = column.map(lambda value: str(value) if type(value) is int else value).where(~absent)
        numbers = pd.to_numeric(cells, errors="coerce").astype("float64")
        if numbers.notna().any():
            unit = duration(name)
            size = float(numbers.abs().median())
            epoch = next((factor for least, factor in _EPOCH.items() if size > least), None)
            factor = unit[1] if unit else epoch or (_unit(how.unit) if how.unit else None)
            if factor is None:
                raise _without_unit(self.place, name)
            return self._checked(column, name, numbers * factor, absent)
        stamps = pd.to_datetime(
            cells.map(lambda value: None if missing(value) else str(value)), errors="coerce", utc=True, format="ISO8601"
        )
        since = (stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        return self._checked(column, name, since.astype("float64"), absent, "a timestamp such as 2026-01-02T03:04:05Z")

    def _checked(
        self,
        column: pd.Series[Any],
        name: object,
        numbers: pd.Series[float],
        absent: pd.Series[bool],
        what: str = f"a finite number of at most {LARGEST:g}",
    ) -> pd.Series[float]:
        wrong = ~absent & (~(numbers.abs() <= LARGEST) | column.map(lambda value: isinstance(value, bool)))
        if wrong.any():
            row = int(str(wrong.idxmax()))
            where = f"in the column {name!r}, {self.unit} {self.first + row}"
            raise refused(
                self.place,
                f"has {str(column[row])[:40]!r} {where}, not {what}",
                "Write numbers such as 1234.5, and leave a missing value empty.",
            )
        return numbers


_SPOKEN = re.compile(r"(\d+(?:\.\d+)?)\s*(hours|hour|h|ms|min|m|seconds|second|secs|sec|s|us|µs|ns)")


def spoken(cell: Any) -> float | None:
    """The seconds of a cell that has its own unit, or of ``hours:minutes:seconds``; None for any other cell.

    >>> spoken("850ms"), spoken("1m30s"), spoken("0:01:12.5"), spoken("12")
    (0.85, 90.0, 72.5, None)
    """
    text = str(cell).strip().lower()
    if clock := re.fullmatch(r"(\d{1,4}):([0-5]\d):([0-5]\d(?:\.\d+)?)", text):
        return 3600 * int(clock[1]) + 60 * int(clock[2]) + float(clock[3])
    parts = _SPOKEN.findall(text)
    if not parts or _SPOKEN.sub("", text).strip():
        return None
    return math.fsum(float(number) * (60.0 if unit == "m" else SECONDS[unit]) for number, unit in parts)
