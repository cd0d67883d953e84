"""Timings as public tools write them, turned into flat records: :data:`READERS` is the one list of what is known.

A reader is a name, whether it fits an object of a JSON file, and the rows of that object. Its rows have the columns of a long
table (``run``, ``phase``, a time with its unit); all checks are :func:`~vastbench.io.long.long_table`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vastbench.io.long import ALIASES, duration, plain_name
from vastbench.io.words import EXIT_CODES, PERHAPS_STATUS, STATUS, refused

if TYPE_CHECKING:
    import pandas as pd

Record = Mapping[str, Any]
Row = dict[str, Any]

AGGREGATED = "the values are quantiles and means of many timings, not single ones: their form alone can be checked"


class Reader(NamedTuple):
    """A format: its ``name``, whether an object of a file is in it, the ``rows`` of such an object, and what to say of them."""

    name: str
    fits: Callable[[Record], bool]
    rows: Callable[[Record], Iterable[Row]]
    note: str = ""


class Lacking(ValueError):
    """A file of a known format without single timings; says with which option the tool writes them."""


def from_records(path: Path, records: Sequence[Record], most: int) -> tuple[list[Row], Reader | None]:
    """The first ``most`` rows of the records of a JSON file, and who read them; as they are where no reader knows them.

    Raises SettingsError for a file of a known format that holds no single timings, or broken ones.
    """
    for reader in READERS:
        if all(reader.fits(record) for record in records):
            try:
                return list(islice((row for record in records for row in reader.rows(record)), most)), reader
            except Lacking as lacking:
                raise refused(path, f"is from {reader.name} and holds no single timings", str(lacking)) from None
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise refused(path, f"looks like {reader.name}, but is broken at {error}", "Export it again.") from None
    return _unwrapped(records), None


def _unwrapped(records: Sequence[Record]) -> list[Row]:
    """The flat records; of one object around a single list of objects, that list."""
    if len(records) == 1:
        inner = [value for value in records[0].values() if _objects(value)]
        if len(inner) == 1:
            return [dict(row) for row in inner[0]]
    return [dict(record) for record in records]


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _hyperfine(record: Record) -> Iterator[Row]:
    for result in record["results"]:
        times = result.get("times")
        if not times:
            raise Lacking("Use hyperfine --export-json: it keeps the times of all runs.")
        codes = result.get("exit_codes") or [None] * len(times)
        for number, (seconds, code) in enumerate(zip(times, codes, strict=True), 1):
            yield {"run": f"{result['command']} {number}", "phase": result["command"], "seconds": seconds, "exit_code": code}


def _pyperf(record: Record) -> Iterator[Row]:
    shared = record.get("metadata") or {}
    for number, benchmark in enumerate(record["benchmarks"], 1):
        about = shared | (benchmark.get("metadata") or {})
        name, unit = about.get("name", f"benchmark {number}"), about.get("unit", "second")
        for process, run in enumerate(benchmark["runs"], 1):
            for value in run.get("values") or ():
                yield {"run": f"{name} process {process}", "phase": name, "value": value, "unit": unit}


def _pytest_benchmark(record: Record) -> Iterator[Row]:
    for benchmark in record["benchmarks"]:
        values = benchmark["stats"].get("data")
        if not values:
            raise Lacking("Use pytest --benchmark-json FILE, or --benchmark-save-data: they keep each round.")
        name = benchmark.get("fullname") or benchmark["name"]
        for number, seconds in enumerate(values, 1):
            yield {"run": f"{name} {number}", "phase": name, "seconds": seconds, **_labels(benchmark.get("params") or {})}


def _github(record: Record) -> Iterator[Row]:
    for job in record.get("jobs", [record]):
        made, begun, done = (_either(job, word) for word in ("created_at", "started_at", "completed_at"))
        if _either(job, "conclusion") == "skipped" or str(job.get("status") or "completed") != "completed":
            continue  # it did not take place, or is not over
        about = {"run": str(job.get("id") or job.get("databaseId") or job["name"]), "job": job["name"]}
        ended = {"conclusion": job.get("conclusion")}
        if made:
            yield about | {"phase": "queued", "started_at": made, "ended_at": begun}
        yield about | ended | {"phase": "run job", "started_at": begun, "ended_at": done}
        for step in job.get("steps") or ():
            if step.get("conclusion") != "skipped":
                times = {"started_at": _either(step, "started_at"), "ended_at": _either(step, "completed_at")}
                yield about | times | {"phase": step["name"], "parent": "run job", "conclusion": step.get("conclusion")}


def _either(record: Record, name: str) -> Any:
    """The value of ``started_at``, which ``gh`` writes ``startedAt``."""
    first, *rest = name.split("_")
    return record.get(name, record.get(first + "".join(word.title() for word in rest)))


def _is_job(record: Record) -> bool:
    return bool(_either(record, "started_at") and _either(record, "completed_at") and "name" in record and "steps" in record)


def _perfkit(record: Record) -> Iterator[Row]:
    about = record.get("metadata") or dict(
        pair.strip("|").partition(":")[::2] for pair in str(record.get("labels") or "").split(",") if ":" in pair
    )
    run = record.get("run_uri") or record.get("test") or "run"
    yield {"run": run, "phase": record["metric"], "value": record["value"], "unit": record["unit"], **_labels(about)}


def _labels(about: Record) -> Row:
    """Labels as columns to group by, without those that would be taken for something else."""
    taken = {
        *STATUS,
        *PERHAPS_STATUS,
        *EXIT_CODES,
        "unit",
        "units",
        "value",
        *(one for some in ALIASES.values() for one in some),
    }
    return {
        name: str(value)
        for name, value in about.items()
        if isinstance(value, (str, int, float)) and plain_name(name) not in taken and not duration(name)
    }


def _kube_burner(record: Record) -> Iterator[Row]:
    if "quantileName" in record:
        raise Lacking("Give podLatencyMeasurement-*.json of the same folder: it has a row for each pod.")
    run = str(record.get("podName") or record.get("name") or record.get("uuid"))
    for name, value in record.items():
        if name.endswith("Latency"):
            milliseconds = {"phase": plain_name(name.removesuffix("Latency")).replace("_", " "), "duration_ms": value}
            yield {"run": run, "machine": record.get("nodeName"), "job": record.get("jobName")} | milliseconds


def _clusterloader(record: Record) -> Iterator[Row]:
    for number, item in enumerate(record["dataItems"], 1):
        labels = item.get("labels") or {}
        name = " ".join(map(str, labels.values())) or f"item {number}"
        for quantile, value in item["data"].items():
            yield {"run": f"{name} {number}", "phase": f"{name} {quantile}", "value": value, "unit": item["unit"]}


def _under(record: Record, key: str, *inner: str) -> bool:
    """Whether ``key`` holds objects that all have the ``inner`` keys."""
    held = record.get(key)
    return _objects(held) and all(name in one for one in held or () for name in inner)


READERS = (
    Reader("hyperfine", lambda one: _under(one, "results", "command"), _hyperfine),
    Reader("pyperf", lambda one: _under(one, "benchmarks", "runs"), _pyperf),
    Reader("pytest-benchmark", lambda one: _under(one, "benchmarks", "stats"), _pytest_benchmark),
    Reader("GitHub's jobs", lambda one: _under(one, "jobs", "name") or _is_job(one), _github),
    Reader("PerfKitBenchmarker", lambda one: {"metric", "value", "unit"} <= set(one), _perfkit),
    Reader("kube-burner", lambda one: "Latency" in str(one.get("metricName")), _kube_burner),
    Reader("clusterloader2", lambda one: _under(one, "dataItems", "data", "unit"), _clusterloader, AGGREGATED),
)
"""The formats of JSON files that are known beside flat records."""


def from_locust(frame: pd.DataFrame) -> pd.DataFrame | None:
    """The statistics of Locust, times in ms, as a table whose columns name their unit; None for any other table."""
    whole = {"Type", "Name", "Request Count", "Median Response Time"}
    history = {"Timestamp", "Type", "Name", "Total Median Response Time"}
    if not (whole <= set(frame.columns) or history <= set(frame.columns)):
        return None
    rows = frame[frame["Name"] != "Aggregated"]
    rows = frame if rows.empty else rows
    times = [str(name) for name in frame.columns if str(name).endswith(("Response Time", "%"))]
    run = rows["Type"] + " " + rows["Name"] + (" " + rows["Timestamp"] if "Timestamp" in rows else "")
    table = rows[times].rename(columns={name: f"{name.lower().replace(' response time', '')}_ms" for name in times})
    return table.assign(run=run)
