"""The report's tables as texts: the same cells for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from vastbench.record.formats import EXACT_S, MISSING, bounds, decimals, percent
from vastbench.render.findings import cell
from vastbench.render.sentences.drills import amount_of, interval_of, limit_of, n_of, range_of
from vastbench.render.sentences.money import billed
from vastbench.render.text import name_width

Row = Mapping[str, Any]


class Column(NamedTuple):
    """A heading, what makes its cells, whether they are numbers (set to the right), and ``minor``: left out on a phone."""

    head: str
    text: Callable[[Row], str]
    number: bool = True
    minor: bool = False


class Table(NamedTuple):
    """Texts, ready to be escaped: ``head``, ``rows``, which columns hold ``numbers``, how deep each row is indented, and which
    columns are ``minor``.
    """

    head: list[str]
    rows: list[list[str]]
    numbers: list[bool]
    depths: list[int]
    minor: list[bool]


def value(name: str) -> Callable[[Row], str]:
    """Cells of the value ``name``, formatted by the unit in the name."""
    return lambda row: cell(name, row.get(name))


def interval(low: str, high: str) -> Callable[[Row], str]:
    """Cells such as ``60.10 … 72.80``, ``> 60.10`` where only that end is known, or – where there is no interval."""

    def text(row: Row) -> str:
        if row[low] is None:
            return MISSING
        return f"> {cell(low, row[low])}" if row[high] is None else f"{cell(low, row[low])} … {cell(high, row[high])}"

    return text


def _bounds(row: Row) -> str:
    return "exact" if row["bounds_s"] is not None and row["bounds_s"] < EXACT_S else cell("bounds_s", row["bounds_s"])


def _tenths(name: str) -> Callable[[Row], str]:
    """Cells of a number that has no unit."""
    return lambda row: decimals(row[name], 1)


def _machines(row: Row) -> str:
    return "not named" if row["ended"] and row["unnamed"] == row["ended"] else f"{row['machines']}"


def _least(name: str) -> Callable[[Row], str]:
    """Cells of a sum over all attempted runs, which is a least one where the cost of some is not known."""
    return lambda row: ("at least " if row["n"] < row["attempted"] and row[name] is not None else "") + cell(name, row[name])


def _dated(row: Row) -> str:
    return (row["as_of"] or MISSING) + (", stale" if row["stale"] else "")


def _billed(name: str) -> Callable[[Row], str]:
    """Cells of what runs cost on a provider's terms: a least one where a term is not known."""
    return lambda row: ("≥ " if row["lacking"] and row[name] is not None else "") + cell(name, row[name])


def _machine(row: Row) -> str:
    memory = MISSING if row["gpu_memory_gb"] is None else f"{row['gpu_memory_gb']:g}"
    return f"{row['gpu_count']:g} × {row['gpu']}, {memory} GB"


COLUMNS: dict[str, tuple[Column, ...]] = {
    "phases": (
        Column("phase", value("phase"), number=False),
        Column("n", lambda row: f"{row['n'] + row['unfinished']}"),
        Column("not finished", value("unfinished"), minor=True),
        Column("median s", value("median_s")),
        Column("95 % interval s", interval("median_low_s", "median_high_s")),
        Column("p90 s", value("p90_s"), minor=True),
        Column("of those that ended: min … max s", interval("min_s", "max_s"), minor=True),
        Column("known within s", _bounds, minor=True),
        Column("share of mean", value("mean_share"), minor=True),
        Column("share of variance", value("variance_share"), minor=True),
    ),
    "certainty": (
        Column("what", value("quantity"), number=False),
        Column("n", value("n")),
        Column("never", value("never_rate")),
        Column("95 % interval", interval("never_low_rate", "never_high_rate"), minor=True),
        Column("median s", value("median_s")),
        Column("95 % interval s", interval("median_low_s", "median_high_s")),
        Column("p90 s", value("p90_s"), minor=True),
        Column("95 % interval s", interval("p90_low_s", "p90_high_s"), minor=True),
        Column("known within s", _bounds, minor=True),
        Column("machines", _machines, minor=True),
        Column("design effect", _tenths("design_effect"), minor=True),
        Column("effective n", _tenths("effective_n"), minor=True),
    ),
    "outcomes": (
        Column("outcome", value("outcome"), number=False),
        Column("cause", lambda row: row["cause"] or MISSING, number=False),
        Column("runs", value("runs")),
        Column("of", value("attempted"), minor=True),
        Column("rate", value("rate"), minor=True),
        Column("95 % interval", interval("rate_low", "rate_high")),
    ),
    "what_if": (
        Column("phase", value("phase"), number=False),
        Column("times", value("factor")),
        Column("n", value("n"), minor=True),
        Column("median total of passed runs would be s", value("median_total_s"), minor=True),
        Column("saved s", value("saved_s")),
        Column("95 % interval s", interval("saved_low_s", "saved_high_s")),
    ),
    "costs": (
        Column("meter", value("meter"), number=False),
        Column("n", value("n"), minor=True),
        Column("all runs USD", _least("total_usd"), minor=True),
        Column("per run USD", value("per_run_usd")),
        Column("median USD", value("median_usd"), minor=True),
        Column("per success USD", _least("per_success_usd")),
    ),
    "providers": (
        Column("what", lambda row: f"{row['provider']} {row['instance_type']}", number=False),
        Column("GPU", _machine, number=False, minor=True),
        Column("region", lambda row: row["region"] or MISSING, number=False, minor=True),
        Column("tier", value("tier"), number=False, minor=True),
        Column("as of", _dated, number=False, minor=True),
        Column("USD per hour", value("usd_per_hour"), minor=True),
        Column("per GPU", value("usd_per_gpu_hour")),
        Column("per GB of GPU memory", value("usd_per_gb_hour"), minor=True),
        Column("per run", _billed("usd_per_run")),
        Column("95 % interval", interval("usd_per_run_low", "usd_per_run_high"), minor=True),
        Column("per success", _billed("usd_per_success"), minor=True),
        Column("95 % interval", interval("usd_per_success_low", "usd_per_success_high"), minor=True),
        Column("cheaper here up to failed", value("break_even_rate"), minor=True),
        Column("× ours", value("ratio_per_hour"), minor=True),
        Column("× ours per GB", value("ratio_per_gb_hour"), minor=True),
    ),
    "billing": (
        Column("provider", value("provider"), number=False),
        Column("what is billed, and how that is known", billed, number=False),
    ),
    "seed_ratios": (
        Column("dearer", value("dear"), number=False),
        Column("its GPU", value("dear_gpu"), number=False, minor=True),
        Column("cheaper", value("cheap"), number=False),
        Column("its GPU", value("cheap_gpu"), number=False, minor=True),
        Column("ratio per hour", value("ratio")),
        Column("over regions", interval("ratio_lowest", "ratio_highest"), minor=True),
        Column("per GB of GPU memory", value("ratio_per_gb")),
        Column("at the usual price", value("ratio_at_level"), minor=True),
    ),
    "measures": (
        Column("what", value("what"), number=False),
        Column("n", n_of),
        Column("median", partial(amount_of, name="value")),
        Column("95 % interval", interval_of),
        Column("nine in ten by", partial(amount_of, name="tail"), minor=True),
        Column("least to most", range_of, number=False, minor=True),
    ),
    "acceptance": (
        Column("criterion", value("what"), number=False),
        Column("limit", limit_of, number=False, minor=True),
        Column("n", value("n"), minor=True),
        Column("measured", partial(amount_of, name="value")),
        Column("95 % interval", interval_of),
        Column("verdict", value("verdict"), number=False),
    ),
    "parts": (
        Column("part", value("part"), number=False),
        Column("one in twenty by s", _tenths("p05"), minor=True),
        Column("half by s", _tenths("p50")),
        Column("95 % interval s", lambda row: MISSING if row["low"] is None else f"{row['low']:.1f} … {_tenths('high')(row)}"),
        Column("p95 s", _tenths("p95")),
    ),
    "plans": (
        Column("plan", value("plan"), number=False),
        Column("RTO half by s", _tenths("rto_p50_s")),
        Column("RTO p95 s", _tenths("rto_p95_s")),
        Column("RPO p95 s", _tenths("rpo_p95_s"), minor=True),
        Column("an incident USD", value("incident_usd"), minor=True),
        Column("a month USD", value("month_usd")),
        Column("within the published range", lambda row: percent(row["within"]), minor=True),
    ),
    "lacking": (
        Column("question", value("title"), number=False),
        Column("drill", value("scenario"), number=False, minor=True),
        Column("make runs of it", value("command"), number=False),
    ),
    "files": (
        Column("file", value("path"), number=False),
        Column("bytes", lambda row: MISSING if row["bytes"] is None else f"{row['bytes']}", minor=True),
        Column("what it is", value("what"), number=False),
    ),
}
"""The tables' columns by name."""


def table(name: str, rows: Iterable[Row]) -> Table:
    """The table ``name`` over the model's ``rows``; a row with a parent below ``total`` is indented."""
    columns, rows = COLUMNS[name], list(rows)
    return Table(
        [column.head for column in columns],
        [[column.text(row) for column in columns] for row in rows],
        [column.number for column in columns],
        [int(row.get("parent") not in (None, "total")) for row in rows],
        [column.minor for column in columns],
    )


def instrument(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """With what the runs were measured: pairs of a name and its values."""
    known, counts = model["instrument"], model["counts"]

    def listed(name: str) -> str:
        values = [value if isinstance(value, str) else f"{value:g}" for value in known[name]]
        return ", ".join(values) or MISSING

    dates = [known[name].replace("T", " ")[:16] for name in ("first_start", "last_start") if known[name]]
    begun = f"{' to '.join(dict.fromkeys(dates))} UTC" if dates else MISSING
    return [
        ("runs", f"{counts['runs']}, of which {counts['stopped_by_us']} ended by ourselves"),
        ("begun", begun),
        ("source", listed("source")),
        ("profile", listed("profile")),
        ("clock seconds per real second", listed("scale")),
        ("seconds between two polls of the status", listed("poll_period_s")),
        ("scenario", listed("scenario")),
        ("GPU", listed("gpu")),
        ("GPUs in the instance", listed("num_gpus")),
        ("image", listed("image")),
        ("disk GB", listed("disk_gb")),
        ("regions", f"{known['regions']}"),
        ("machines", f"{known['machines']}"),
        ("vastbench", model["vastbench"]),
        ("table schema", f"{model['method']['frame_schema']}"),
    ]


def tree(median_run: Mapping[str, Any]) -> str:
    """The phase tree of one run as text: what was waited, the bounds, the share of the total, the bottleneck marked."""
    wide = name_width("  " * row["depth"] + row["phase"] for row in median_run["tree"])
    lines = [f"{'phase':<{wide}}{'seconds':>9}  {'bounds':<20}{'share':>7}"]
    for row in median_run["tree"]:
        name = "  " * row["depth"] + row["phase"]
        between = bounds(row["lower_s"], row["upper_s"])
        figures = f"{cell('seconds', row['seconds']):>9}  {between:<20}{cell('share', row['share']):>7}"
        lines.append(f"{name:<{wide}}{figures}" + ("  ◀ bottleneck" if row["bottleneck"] else ""))
    lines.append(f"{'total':<{wide}}{cell('seconds', median_run['total_s']):>9}")
    return "\n".join(lines)
