"""What the measured runs paid, beside the price table: per hour, per GPU, per GB of GPU memory, per run and per success.

List prices are not results: every row keeps its region, tier, date and source, says which GPU it is for, what its provider
bills, and which of that is not known. Rows of the table that have no region, and that no rule places (:func:`without_region`),
are left out of comparisons, as the same instance may cost half as much again elsewhere.

>>> compared = vastbench.providers.compare(vastbench.price_list(), vastbench.load("default-300"))
>>> compared[compared["instance_type"].isin(["300 runs", "g5.xlarge"])][["provider", "gpu", "usd_per_hour"]].head(2).round(3)
             provider       gpu  usd_per_hour
0  Vast.ai (emulated)  RTX 4090         0.230
9                 AWS      A10G         1.006
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import attempted, of_one_kind
from vastbench.analysis.billing import TERMS, VAST, Billed, Mean, Terms, billed, break_even, per, rentals
from vastbench.analysis.frames import runs_table
from vastbench.analysis.survival.clusters import numbered
from vastbench.record.numbers import LARGEST
from vastbench.record.phases import Outcome

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PROVIDER = "Vast.ai"
REGIONS_NAMED = 3

STALE_AFTER_DAYS = 365
"""An older price is stale: it is shown, and marked."""

COLUMNS = {
    "provider": "str",
    "instance_type": "str",
    "region": "str",
    "placed": "str",
    "tier": "str",
    "gpu": "str",
    "gpu_count": "float64",
    "gpu_memory_gb": "float64",
    "as_of": "str",
    "stale": "bool",
    "source": "str",
    "ours": "bool",
    "minimum_s": "float64",
    "granularity_s": "float64",
    "boot_billed": "boolean",
    "disk_usd_per_gb_month": "float64",
    "billing_source": "str",
    "billing_note": "str",
    "lacking": "str",
    "usd_per_hour": "float64",
    "usd_per_hour_low": "float64",
    "usd_per_hour_high": "float64",
    "usd_per_gpu_hour": "float64",
    "usd_per_gb_hour": "float64",
    "usd_per_run": "float64",
    "usd_per_run_low": "float64",
    "usd_per_run_high": "float64",
    "usd_per_success": "float64",
    "usd_per_success_low": "float64",
    "usd_per_success_high": "float64",
    "break_even_rate": "float64",
    "ratio_per_hour": "float64",
    "ratio_per_gb_hour": "float64",
}
"""The columns of :func:`compare`."""


def compare(prices: pd.DataFrame, phases: pd.DataFrame) -> pd.DataFrame:
    """The measured runs' price in the first row (``ours``), then one row per row of ``prices`` that has a region.

    ``prices`` is the table of :func:`vastbench.io.prices.prices`, ``phases`` a tidy frame. The columns are ``COLUMNS``:

    - ``usd_per_hour`` of the whole instance (ours: the median over all runs with a price, GPU and disk, and the lowest and the
      highest of them in ``usd_per_hour_low`` and ``usd_per_hour_high``), ``usd_per_gpu_hour``, ``usd_per_gb_hour`` (per GB of
      GPU memory of the whole instance), ``ratio_per_hour`` and ``ratio_per_gb_hour`` (row ÷ ours).
    - ``usd_per_run``, ``usd_per_success``: what our attempted runs would cost there, failed ones included, ÷ those attempted
      and ÷ those that passed, each with its 95 % interval (``_low``, ``_high``) over machines. GPU and disk are billed on the
      row's own terms (:mod:`vastbench.analysis.billing`); ``lacking`` names those of ``minimum_s``, ``granularity_s``,
      ``boot_billed`` and ``disk_usd_per_gb_month`` that are not known, and then the figures are the least that they can be.
      Ours are GPU and storage meter of our runs. Traffic is left out.
    - ``break_even_rate``: the share of our runs that may fail before a success costs more here than it does there where none
      fails (a failed run costs what ours did on average, or as much as one that passed where none failed).
    - ``stale``: the price is more than ``STALE_AFTER_DAYS`` older than our last run (without runs, than the newest price).

    ``gpu_memory_gb`` is nominal, ours is rounded to whole GB; ``as_of`` is a day, or the first "to" the last day of the runs.
    That another instance boots and works as long as ours did is assumed, not known.

    If the runs rented several kinds of GPU, ours is the kind (name and number) with the most runs. Without a run that has a
    price there is no row of ours, and what follows from our runs is missing.
    """
    import pandas as pd

    phases = of_one_kind(phases)
    kind = _most_rented(phases)
    listed = prices[prices["region"].notna()]
    last = kind["started_at"].max() if not kind.empty else pd.NaT
    today = prices["as_of"].max() if pd.isna(last) else last.tz_localize(None)
    rows = pd.DataFrame(
        {
            "provider": listed["provider"],
            "instance_type": listed["instance_type"],
            "region": listed["region"],
            "placed": listed["placed"],
            "tier": listed["pricing"],
            "gpu": listed["gpu_name"],
            "gpu_count": listed["gpu_count"],
            "gpu_memory_gb": listed["gpu_memory_gb"],
            "as_of": listed["as_of"].dt.strftime("%Y-%m-%d"),
            "stale": (today - listed["as_of"]).dt.days > STALE_AFTER_DAYS,
            "source": listed["source"],
            "ours": False,
            **{name: listed[name] for name in (*TERMS, "billing_source", "billing_note")},
            "usd_per_hour": listed["price_usd_per_hour"],
        }
    )
    records: list[dict[Any, Any]] = rows.to_dict("records")
    if not kind.empty:
        records.insert(0, _ours(kind))
    _bill(records, kind)
    table = pd.DataFrame(records, columns=list(COLUMNS)).astype(COLUMNS)
    table["usd_per_gpu_hour"] = table["usd_per_hour"] / table["gpu_count"]
    table["usd_per_gb_hour"] = table["usd_per_gpu_hour"] / table["gpu_memory_gb"]
    if not kind.empty:
        table["ratio_per_hour"] = table["usd_per_hour"] / table["usd_per_hour"].iloc[0]
        table["ratio_per_gb_hour"] = table["usd_per_gb_hour"] / table["usd_per_gb_hour"].iloc[0]
    derived = table.columns[list(COLUMNS).index("usd_per_gpu_hour") :]  # per GB of no memory there is no price
    table[derived] = table[derived].where(table[derived].abs() <= LARGEST)
    return table


def _bill(records: list[dict[Any, Any]], kind: pd.DataFrame) -> None:
    """Put into each of the rows, ours first if there is one, what the runs of one ``kind`` cost or would cost there."""
    import numpy as np

    tried = attempted(kind)
    runs, rented = runs_table(tried), rentals(tried)
    good = (runs["run_outcome"] == Outcome.PASSED).to_numpy(dtype=bool)
    machine = numbered(runs["machine"].to_numpy(dtype=float, na_value=np.nan), len(runs))
    paid = _paid(runs, rented)
    passed_usd = per(paid[good], np.ones(int(good.sum())), machine[good]).value
    failed_usd = per(paid[~good], np.ones(int((~good).sum())), machine[~good]).value if not good.all() else passed_usd
    bills: dict[Terms, Billed] = {}
    for row in records:
        terms = _terms(row)
        bill = bills.get(terms) or bills.setdefault(terms, billed(rented, runs, terms))
        usd = paid if row["ours"] else bill.usd(row["usd_per_hour"])
        lacking = [] if row["ours"] and runs["storage_usd"].notna().all() else [*terms.lacking]
        row["lacking"] = ", ".join(lacking)
        costs: dict[str, Mean] = {
            "usd_per_run": per(usd, np.ones(len(usd)), machine),
            "usd_per_success": per(usd, good, machine),
        }
        for name, cost in costs.items():
            row |= {name: cost.value, f"{name}_low": cost.low, f"{name}_high": cost.high}
        if not row["ours"]:
            there = per(usd[good], np.ones(int(good.sum())), machine[good]).value
            row["break_even_rate"] = break_even(passed_usd, failed_usd, there)


def _paid(runs: pd.DataFrame, rented: pd.DataFrame) -> np.ndarray:
    """What each of our runs cost by the GPU and the storage meter, the GPU's seconds rounded up as Vast.ai's terms say."""
    used = rented.assign(billed_s=VAST.billed_s(rented["boot_s"].to_numpy(float), rented["work_s"].to_numpy(float)))
    each = used.groupby("run")[["work_s", "billed_s"]].sum().reindex(runs["run"])
    rounded = (each["billed_s"] / each["work_s"]).where(each["work_s"] > 0, 1.0).to_numpy(dtype=float)
    usd: np.ndarray = runs["gpu_usd"].to_numpy(dtype=float) * rounded + runs["storage_usd"].fillna(0.0).to_numpy(dtype=float)
    return usd


def _terms(row: dict[Any, Any]) -> Terms:
    """The terms of a row, as they stand in its columns."""
    import pandas as pd

    known = {name: None if pd.isna(row[name]) else row[name] for name in TERMS}
    boot = known.pop("boot_billed")
    return Terms(**known, boot_billed=None if boot is None else bool(boot))


def same_gpu(comparison: pd.DataFrame) -> pd.DataFrame:
    """The rows of a :func:`compare` frame with our GPU: the same name, and the same memory within 10 % where both are known.

    Names are compared without case, vendor, underscores or the generation of SXM ("A100 SXM4" is "A100 SXM"). The number of
    GPUs may differ. Empty when there is no row of ours.
    """
    ours = comparison[comparison["ours"]]
    if ours.empty:
        return ours
    difference = comparison["gpu_memory_gb"] / ours["gpu_memory_gb"].iloc[0] - 1
    alike: pd.Series[bool] = difference.isna() | difference.abs().le(0.1)
    return comparison[alike & (_plain(comparison["gpu"]) == _plain(ours["gpu"]).iloc[0])].reset_index(drop=True)


def without_region(prices: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``prices`` that :func:`compare` leaves out: their source names no region, and no rule places them."""
    return prices[prices["region"].isna()]


def seed_ratios(prices: pd.DataFrame) -> pd.DataFrame:
    """The price ratios of the published report of 2026-01-02, from the table, with what they leave unsaid.

    That report set AWS g5.xlarge (1.006 USD per hour) and GCP a2-highgpu-1g (3.673) against a Vast.ai RTX 4090 at 0.1689, the
    cheapest of 64 offers; the third row is GCP against AWS. One row per ratio:

    - ``dear``, ``cheap`` and for each of them ``_gpu``, ``_gpu_memory_gb``, ``_region``, ``_usd_per_hour``;
    - ``ratio``: of the hourly prices, as published;
    - ``dear_lowest_usd``, ``dear_highest_usd``, ``dear_regions``: the dearer one's on-demand price over the table's regions,
      and ``ratio_lowest``, ``ratio_highest`` from them;
    - ``ratio_per_gb``: of the prices per GB of GPU memory;
    - ``level_usd_per_hour``: the table's typical price of the cheap GPU on that marketplace, where the cheap one is its
      minimum, and ``ratio_at_level``: the ratio at that price.

    A row whose prices are not in the table is left out.
    """
    import pandas as pd

    aws = _pick(prices, "AWS", "g5.xlarge", "us-east-1")
    google = _pick(prices, "GCP", "a2-highgpu-1g", "us-central1")
    cheapest = _pick(prices, PROVIDER, "offer 29292839")
    level = _pick(prices, PROVIDER, "1x-RTX_4090-32-65536")
    pairs = [(aws, cheapest, level), (google, cheapest, level), (google, aws, None)]
    rows = [_ratio(prices, dear, cheap, usual) for dear, cheap, usual in pairs if dear is not None and cheap is not None]
    return pd.DataFrame(rows, columns=list(RATIO_COLUMNS)).astype(RATIO_COLUMNS)


_SIDE = {"": "str", "_gpu": "str", "_gpu_memory_gb": "float64", "_region": "str", "_usd_per_hour": "float64"}
RATIO_COLUMNS = {
    **{side + name: dtype for side in ("dear", "cheap") for name, dtype in _SIDE.items()},
    "ratio": "float64",
    "dear_lowest_usd": "float64",
    "dear_highest_usd": "float64",
    "dear_regions": "int64",
    "ratio_lowest": "float64",
    "ratio_highest": "float64",
    "ratio_per_gb": "float64",
    "level_usd_per_hour": "float64",
    "ratio_at_level": "float64",
}
"""The columns of :func:`seed_ratios`."""


def _most_rented(phases: pd.DataFrame) -> pd.DataFrame:
    """The tidy rows of the runs with a price of the kind of GPU with the most runs."""
    runs = runs_table(phases)
    priced = runs[runs["usd_per_hour"].notna()]
    if priced.empty:
        return phases.iloc[:0]
    kind = priced.groupby(["gpu", "num_gpus"], dropna=False, sort=False).ngroup()
    return phases[phases["run"].isin(priced.loc[kind == kind.mode().iloc[0], "run"])]


def _ours(kind: pd.DataFrame) -> dict[str, object]:
    runs = runs_table(kind)
    emulated = runs["source"].eq("emulator")
    note = " (emulated)" if emulated.all() else " (partly emulated)" if emulated.any() else ""
    days = sorted(set(runs["started_at"].dropna().dt.strftime("%Y-%m-%d")))
    regions = sorted(set(runs["region"].dropna()))
    return {
        "provider": PROVIDER + note,
        "instance_type": f"{len(runs)} run" + "s" * (len(runs) != 1),
        "region": ("; ".join(regions) if len(regions) <= REGIONS_NAMED else f"{len(regions)} regions") or None,
        "placed": "measured",
        "tier": "marketplace",
        "gpu": runs["gpu"].iloc[0],
        "gpu_count": runs["num_gpus"].astype("float64").iloc[0],
        "gpu_memory_gb": round(runs["gpu_memory_gb"].median(), 0),
        "as_of": " to ".join(dict.fromkeys((days[0], days[-1]))) if days else None,
        "source": ", ".join(sorted(set(runs["source"]))),
        "stale": False,
        "ours": True,
        **{name: getattr(VAST, name) for name in TERMS},
        "billing_source": "our runs' own meters",
        "billing_note": None,
        "usd_per_hour": runs["usd_per_hour"].median(),
        "usd_per_hour_low": runs["usd_per_hour"].min(),
        "usd_per_hour_high": runs["usd_per_hour"].max(),
    }


def _plain(names: pd.Series[str]) -> pd.Series[str]:
    plain = names.str.lower().str.replace("_", " ").str.replace(r"^(nvidia|tesla) ", "", regex=True)
    return plain.str.replace(r"\bsxm\d$", "sxm", regex=True)


def _pick(prices: pd.DataFrame, provider: str, instance_type: str, region: str | None = None) -> dict[Any, Any] | None:
    """The newest row of a list price, or None."""
    found = prices[
        (prices["provider"] == provider) & (prices["instance_type"] == instance_type) & (prices["pricing"] != "spot")
    ]
    if region is not None:
        found = found[found["region"] == region]
    return found.sort_values("as_of", kind="stable").to_dict("records")[-1] if len(found) else None


def _ratio(prices: pd.DataFrame, dear: dict[Any, Any], cheap: dict[Any, Any], level: dict[Any, Any] | None) -> dict[str, Any]:
    asked, paid = dear["price_usd_per_hour"], cheap["price_usd_per_hour"]
    row = {
        f"{side}{name}": value
        for side, one in (("dear", dear), ("cheap", cheap))
        for name, value in {
            "": f"{one['provider']} {one['instance_type']}",
            "_gpu": one["gpu_name"],
            "_gpu_memory_gb": one["gpu_memory_gb"],
            "_region": one["region"],
            "_usd_per_hour": one["price_usd_per_hour"],
        }.items()
    }
    same = prices[(prices["provider"] == dear["provider"]) & (prices["instance_type"] == dear["instance_type"])]
    listed = same[(same["pricing"] == dear["pricing"]) & same["region"].notna()]
    low, high = listed["price_usd_per_hour"].min(), listed["price_usd_per_hour"].max()
    per_gb = (asked / (dear["gpu_count"] * dear["gpu_memory_gb"])) / (paid / (cheap["gpu_count"] * cheap["gpu_memory_gb"]))
    usual = level["price_usd_per_hour"] if level else None
    return row | {
        "ratio": asked / paid,
        "dear_lowest_usd": low,
        "dear_highest_usd": high,
        "dear_regions": listed["region"].nunique(),
        "ratio_lowest": low / paid,
        "ratio_highest": high / paid,
        "ratio_per_gb": per_gb,
        "level_usd_per_hour": usual,
        "ratio_at_level": asked / usual if usual else None,
    }
