"""The dated price table that comes with vastbench, and checks of it.

``data/prices/gpu_prices.csv`` holds list prices of GPU instances, each with its date and its source, collected from public
machine-readable catalogues. :func:`prices` reads it, or a newer file of the same columns; :func:`check` says which rows to
doubt. A finding is a reason to look, not a proof of a mistake, and no price is ever corrected here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vastbench.analysis.frames import shown_as_text
from vastbench.analysis.providers import STALE_AFTER_DAYS
from vastbench.bundled import shared
from vastbench.errors import NotFound, SettingsError
from vastbench.io.terms import NAMED, UNKNOWN, billing_of, explanation, place_of
from vastbench.record.formats import dollars, percent
from vastbench.record.numbers import measurable

if TYPE_CHECKING:
    import pandas as pd

TIERS = ("on-demand", "spot", "marketplace")
"""Posted rate, interruptible rate, rate that single hosts ask."""

COLUMNS = {
    "provider": "who rents it out",
    "instance_type": "the provider's name for it",
    "region": "where; empty where the source does not say",
    "gpu_name": "the GPU's name",
    "gpu_count": "GPUs in the instance",
    "gpu_memory_gb": "nominal memory of one GPU in GB; may be missing",
    "vcpus": "virtual CPUs of the instance; may be missing",
    "memory_gb": "main memory of the instance in GB; may be missing",
    "price_usd_per_hour": "USD per hour for the whole instance, before tax, disk and traffic",
    "pricing": "on-demand, spot or marketplace",
    "as_of": "the date of the price",
    "source": "where the price was read",
}
"""The columns of a file of prices and what they hold."""

ADDED = {
    "placed": "how the region is known: source, or the rule of data/prices/places.csv that gave it; missing with the region",
    "minimum_s": "seconds that are billed at least; missing where no source says",
    "granularity_s": "seconds are billed in multiples of these; missing where no source says",
    "boot_billed": "whether the time until the machine runs is billed; missing where no source says",
    "disk_usd_per_gb_month": "0 where the disk belongs to the instance; missing where no source says",
    "billing_source": "where the four terms were read; missing where nothing is known",
    "billing_note": "what else is billed; may be missing",
}
"""The columns that :func:`prices` adds to those of the file, and what they hold."""

PEERS_LOW, PEERS_HIGH, PEERS_MIN = 0.4, 2.5, 4
MANY_GPUS, LIKE_MANY = 4, 0.5

# USD per hour for one vCPU and for one GB of main memory on GCP in us-central1: the only pair of rates that gives the machine's
# part of the table's own prices of a2-highgpu-1g and of a2-megagpu-16g ($2.93391 for each A100 taken off).
GCP_VCPU_USD, GCP_MEMORY_GB_USD, GCP_MACHINE_ONLY = 0.031611, 0.004237, 1.5

_NUMBER = re.compile(r"\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII)


def prices(path: str | Path | None = None) -> pd.DataFrame:
    """List prices of GPU instances, each with its date and its source; the index ``row`` is the line in the file.

    Columns: ``provider``, ``instance_type``, ``region``, ``gpu_name``, ``gpu_count``, ``gpu_memory_gb`` of one GPU, ``vcpus``,
    ``memory_gb``, ``price_usd_per_hour`` of the whole instance before tax, disk and traffic, ``pricing`` (on-demand, spot or
    marketplace), ``as_of`` (a timestamp) and ``source``. Where the source names no region, a rule may place the price, and
    ``placed`` says which kind of rule (``source`` where none was needed). What the provider bills stands beside it, as far as
    it is known: ``minimum_s``, ``granularity_s``, ``boot_billed``, ``disk_usd_per_gb_month``, ``billing_source`` and
    ``billing_note``.

    ``path`` is another CSV file of the same columns; None is the table that comes with vastbench. Raises NotFound for a file
    that is not there, SettingsError, with line and value, for one that is malformed or cut off.

    Examples
    --------
    >>> vastbench.price_list()[["provider", "instance_type", "price_usd_per_hour"]].head(2)
        provider     instance_type  price_usd_per_hour
    row
    2      Akash  A100 marketplace                1.08
    3      Akash  H100 marketplace                1.25
    """
    import pandas as pd

    shown_as_text()
    place = shared("data/prices") / "gpu_prices.csv" if path is None else Path(path)
    rows = dict(_rows(place))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS)).rename_axis("row")
    floats = ["gpu_memory_gb", "vcpus", "memory_gb", "price_usd_per_hour"]
    words = ["provider", "instance_type", "region", "gpu_name", "pricing", "source"]
    dtypes = {"gpu_count": "int64", "as_of": "datetime64[s]"} | dict.fromkeys(floats, "float64") | dict.fromkeys(words, "str")
    return _completed(table.astype(dtypes))


def _completed(table: pd.DataFrame) -> pd.DataFrame:
    """A file's prices with ``ADDED``: placed by rule where the file names no region, and with their provider's terms."""
    import pandas as pd

    rules = [place_of(*pair) for pair in zip(table["provider"], table["source"], strict=True)]
    named = table["region"].notna()
    region = pd.Series([rule and rule.region for rule in rules], index=table.index, dtype="str")
    placed = pd.Series([rule and rule.placed for rule in rules], index=table.index, dtype="str")
    known = [billing_of(*pair) or UNKNOWN for pair in zip(table["provider"], table["instance_type"], strict=True)]
    added: dict[str, Any] = {
        "placed": placed.where(~named, NAMED),
        "minimum_s": pd.array([one.terms.minimum_s for one in known], dtype="float64"),
        "granularity_s": pd.array([one.terms.granularity_s for one in known], dtype="float64"),
        "boot_billed": pd.array([one.terms.boot_billed for one in known], dtype="boolean"),
        "disk_usd_per_gb_month": pd.array([one.terms.disk_usd_per_gb_month for one in known], dtype="float64"),
        "billing_source": pd.array([one.source or None for one in known], dtype="str"),
        "billing_note": pd.array([one.note or None for one in known], dtype="str"),
    }
    return table.assign(region=table["region"].where(named, region), **added)[[*COLUMNS, *ADDED]]


def check(prices: pd.DataFrame, *, today: date) -> pd.DataFrame:
    """What to doubt in a price table: one row per finding.

    Columns: ``row`` (the line in the file), ``rule``, ``detail``, and ``explained``: what is known of the matter, if anything.

    The rules are the keys of ``RULES``, in whose order the findings come. An empty frame means that no rule found anything.
    ``prices`` is a table of :func:`vastbench.price_list`, ``today`` the day from which a price's age counts.

    Examples
    --------
    >>> from datetime import date
    >>> vastbench.doubtful_prices(vastbench.price_list(), today=date(2026, 11, 1))["rule"].value_counts().to_dict()
    {'stale date': 40, 'far from peers': 7, 'one GPU priced like many': 2}
    """
    import pandas as pd

    providers, types = prices["provider"].to_dict(), prices["instance_type"].to_dict()
    found = [
        Finding(row, rule, detail, explanation(str(providers[row]), str(types[row]), rule))
        for rule, look in RULES.items()
        for row, detail in look(prices, today)
    ]
    dtypes = {"row": "int64"} | dict.fromkeys(Finding._fields[1:], "str")
    return pd.DataFrame(found, columns=list(Finding._fields)).astype(dtypes)


class Finding(NamedTuple):
    """One reason to doubt one row, and what explains it."""

    row: int
    rule: str
    detail: str
    explained: str | None


Found = Iterator[tuple[Any, str]]


def _no_region(prices: pd.DataFrame, _: date) -> Found:
    for row in prices.index[prices["region"].isna()]:
        yield row, "no region, and no rule that places it: left out of comparisons"


def _stale(prices: pd.DataFrame, today: date) -> Found:
    for row, as_of in prices["as_of"].dt.date.items():
        days = (today - as_of).days
        if days > STALE_AFTER_DAYS:
            yield row, f"as of {as_of}, {days} days ago"


def _future(prices: pd.DataFrame, today: date) -> Found:
    for row, as_of in prices["as_of"].dt.date.items():
        if as_of > today:
            yield row, f"as of {as_of}, after today ({today})"


def _spot_above(prices: pd.DataFrame, _: date) -> Found:
    # A zone in brackets lies in the region before it: spot prices are by zone, posted ones by region.
    region = prices["region"].str.replace(r" \(.*\)$", "", regex=True)
    keyed = prices.assign(region=region).reset_index()
    key = ["provider", "instance_type", "region", "gpu_name", "gpu_count", "gpu_memory_gb"]
    posted = keyed[keyed["pricing"] == "on-demand"].groupby(key, dropna=False)["price_usd_per_hour"].max().rename("posted")
    for pair in _records(keyed[keyed["pricing"] == "spot"].merge(posted, on=key)):
        spot, other = pair["price_usd_per_hour"], pair["posted"]
        if spot > other:
            yield pair["row"], f"spot {dollars(spot)} is above on-demand {dollars(other)}"


def _far_from_peers(prices: pd.DataFrame, _: date) -> Found:
    each = prices.assign(usd=prices["price_usd_per_hour"] / prices["gpu_count"]).reset_index()
    for _key, peers in each.groupby(["gpu_name", "gpu_memory_gb", "pricing"], dropna=False):
        median, dates = peers["usd"].median(), peers["as_of"].dt.date
        for one in _records(peers) if len(peers) >= PEERS_MIN else []:
            ratio = one["usd"] / median
            if not PEERS_LOW <= ratio <= PEERS_HIGH:
                size = "" if one["gpu_memory_gb"] != one["gpu_memory_gb"] else f" {one['gpu_memory_gb']:g} GB"
                group = f"{len(peers)} {one['pricing']} rows of {one['gpu_name']}{size}, {dates.min()} to {dates.max()}"
                yield one["row"], f"{dollars(one['usd'])} per GPU is {ratio:.2f} × the median of {group}"


def _like_many(prices: pd.DataFrame, _: date) -> Found:
    key = ["provider", "gpu_name", "gpu_memory_gb", "pricing"]
    single = prices[prices["gpu_count"] == 1].reset_index()
    for row, pairs in single.merge(prices[prices["gpu_count"] >= MANY_GPUS], on=key, suffixes=("", "_many")).groupby("row"):
        nearest = _records(pairs.sort_values("price_usd_per_hour_many"))[0]
        one, many = nearest["price_usd_per_hour"], nearest["price_usd_per_hour_many"]
        if one > LIKE_MANY * many:
            share = f"{percent(one / many, 0)} of the {dollars(many)} for {nearest['gpu_count_many']}"
            why = f"({nearest['instance_type_many']}): it pays for CPUs and memory, or is another row's"
            yield row, f"{dollars(one)} for 1 GPU is {share} {why}"


def _machine_only(prices: pd.DataFrame, _: date) -> Found:
    google = prices[(prices["provider"] == "GCP") & (prices["pricing"] == "on-demand")]
    for one in _records(google.reset_index()):
        usd, machine = one["price_usd_per_hour"], one["vcpus"] * GCP_VCPU_USD + one["memory_gb"] * GCP_MEMORY_GB_USD
        if usd <= GCP_MACHINE_ONLY * machine:
            near = f"{dollars(usd)} is near the {dollars(machine)}"
            yield one["row"], f"{near} of CPUs and memory alone: add the accelerator's row"


def _records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")


RULES: dict[str, Callable[[Any, date], Found]] = {
    "GCP machine without accelerator": _machine_only,
    "one GPU priced like many": _like_many,
    "spot above on-demand": _spot_above,
    "far from peers": _far_from_peers,
    "date in the future": _future,
    "stale date": _stale,
    "missing region": _no_region,
}
"""The rules of :func:`check`, what asks for a look first.

- GCP sells machine and accelerator separately; a machine's row alone reads about five times too low.
- A row with one GPU costs more than half of what the same provider asks for four or more of that GPU.
- Spot is dearer than on-demand for the same provider, instance type and region.
- The price per GPU lies outside 0.4–2.5 × the median of rows of the same GPU, memory and tier (four rows or more).
- The date lies in the future, or more than 365 days back.
- The region is missing, and no rule places the price: the same instance may cost half as much again elsewhere.
"""


def _rows(place: Path) -> Iterator[tuple[int, tuple[Any, ...]]]:
    try:
        text = place.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"There is no price table {str(place)!r}.", hint="Name a CSV file.") from None
    except OSError as error:
        raise SettingsError(f"{str(place)!r} cannot be read: {error.strerror}.", hint="Name a CSV file.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{str(place)!r} is not UTF-8 text.", hint="Save it as CSV in UTF-8.") from None
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        head = next(reader, [])
        missing = [name for name in COLUMNS if name not in head]
        if missing:
            raise SettingsError(
                f"{str(place)!r} lacks the columns {', '.join(missing)}.", hint=f"The columns are: {', '.join(COLUMNS)}."
            )
        if not text.endswith("\n"):
            last = text.rsplit("\n", 1)[-1][-60:]
            raise SettingsError(
                f"{str(place)!r} is cut off: its last line does not end: {last!r}.",
                hint="Copy it again; if it is whole, end its last line.",
            )
        count = 0
        for fields in reader:
            line = reader.line_num
            if len(fields) != len(head):
                raise SettingsError(
                    f"{str(place)!r}, line {line}: {len(fields)} fields instead of {len(head)}: {','.join(fields)[:80]!r}.",
                    hint="Was the file cut off, or a comma left without quotes?",
                )
            values = dict(zip(head, fields, strict=True))
            yield line, tuple(_value(name, values[name].strip(), f"{str(place)!r}, line {line}") for name in COLUMNS)
            count += 1
        if not count:
            raise SettingsError(f"{str(place)!r} holds no prices, only column names.", hint="Was the file cut off?")
    except csv.Error as error:
        raise SettingsError(f"{str(place)!r}, line {reader.line_num}: {error}.", hint="Was the file cut off?") from None


def _value(name: str, text: str, where: str) -> Any:
    if name in {"region", "gpu_memory_gb", "vcpus", "memory_gb"} and not text:
        return None
    if name == "as_of":
        try:
            return datetime.strptime(text, "%Y-%m-%d")  # noqa: DTZ007 (a price has a day, not an hour)
        except ValueError:
            raise SettingsError(f"{where}: {name} is {text!r}, no date.", hint="Write it as 2026-05-24.") from None
    if name in {"gpu_count", "gpu_memory_gb", "vcpus", "memory_gb", "price_usd_per_hour"}:
        number = float(text) if _NUMBER.fullmatch(text) else 0.0
        if not (number > 0 and measurable(number)) or (name == "gpu_count" and not number.is_integer()):
            kind = "whole number" if name == "gpu_count" else "number"
            raise SettingsError(f"{where}: {name} is {text!r}, no {kind} above 0.", hint="Correct or remove the line.")
        return number
    if not text or (name == "pricing" and text not in TIERS):
        wanted = f"one of {', '.join(TIERS)}" if name == "pricing" else "a text"
        raise SettingsError(f"{where}: {name} is {text!r}, not {wanted}.", hint="Correct or remove the line.")
    return text
