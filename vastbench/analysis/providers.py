"""What the measured runs paid, beside the price table: per hour, per GPU, per GB of GPU memory, per run.

List prices are not results: every row keeps its region, tier, date and source, and says which GPU it is for. Rows of the table
without a region (:func:`without_region`) are left out of comparisons, as the same instance may cost half as much again
elsewhere.

>>> compared = vastbench.providers.compare(vastbench.price_list(), vastbench.load("default-300"))
>>> compared[["provider", "gpu", "usd_per_hour"]].head(2).round(3)
             provider       gpu  usd_per_hour
0  Vast.ai (emulated)  RTX 4090         0.230
1                 AWS      A10G         1.006
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import of_one_kind
from vastbench.analysis.frames import runs_table
from vastbench.record.numbers import LARGEST
from vastbench.record.phases import Outcome, PhaseName

if TYPE_CHECKING:
    import pandas as pd

PROVIDER = "Vast.ai"
REGIONS_NAMED = 3

COLUMNS = {
    "provider": "str",
    "instance_type": "str",
    "region": "str",
    "tier": "str",
    "gpu": "str",
    "gpu_count": "float64",
    "gpu_memory_gb": "float64",
    "as_of": "str",
    "source": "str",
    "ours": "bool",
    "usd_per_hour": "float64",
    "usd_per_hour_low": "float64",
    "usd_per_hour_high": "float64",
    "usd_per_gpu_hour": "float64",
    "usd_per_gb_hour": "float64",
    "usd_per_run": "float64",
    "ratio_per_hour": "float64",
    "ratio_per_gb_hour": "float64",
}
"""The columns of :func:`compare`."""


def compare(prices: pd.DataFrame, phases: pd.DataFrame) -> pd.DataFrame:
    """The measured runs' price in the first row (``ours``), then one row per row of ``prices`` that has a region.

    ``prices`` is the table of :func:`vastbench.io.prices.prices`, ``phases`` a tidy frame. The columns are ``COLUMNS``:
    ``usd_per_hour`` of the whole instance (ours: the median over all runs with a price, GPU and disk, and the lowest and the
    highest of them in ``usd_per_hour_low`` and ``usd_per_hour_high``), ``usd_per_gpu_hour``,
    ``usd_per_gb_hour`` (per GB of GPU memory of the whole instance), ``ratio_per_hour`` and ``ratio_per_gb_hour`` (row ÷
    ours), and ``usd_per_run``: price × the median seconds from ``running`` to destroyed of runs that passed.
    ``gpu_memory_gb`` is nominal, ours is rounded to whole GB; ``as_of`` is a day, or the first "to" the last day of the runs.

    ``usd_per_run`` assumes that the other instance takes as long as ours did and is billed by the second, from running to
    destroyed, without a minimum; disk and traffic are left out. Boot times there are not known.

    If the runs rented several kinds of GPU, ours is the kind (name and number) with the most runs. Without a run that has a
    price there is no row of ours, and the ratios are missing; without a run that passed, ``usd_per_run`` is missing.
    """
    import pandas as pd

    phases = of_one_kind(phases)
    listed = prices[prices["region"].notna()]
    rows = pd.DataFrame(
        {
            "provider": listed["provider"],
            "instance_type": listed["instance_type"],
            "region": listed["region"],
            "tier": listed["pricing"],
            "gpu": listed["gpu_name"],
            "gpu_count": listed["gpu_count"],
            "gpu_memory_gb": listed["gpu_memory_gb"],
            "as_of": listed["as_of"].dt.strftime("%Y-%m-%d"),
            "source": listed["source"],
            "ours": False,
            "usd_per_hour": listed["price_usd_per_hour"],
        }
    )
    kind = _most_rented(phases)
    records: list[dict[Any, Any]] = rows.to_dict("records")
    if not kind.empty:
        records.insert(0, _ours(kind))
    table = pd.DataFrame(records, columns=list(COLUMNS)).astype(COLUMNS)
    table["usd_per_gpu_hour"] = table["usd_per_hour"] / table["gpu_count"]
    table["usd_per_gb_hour"] = table["usd_per_gpu_hour"] / table["gpu_memory_gb"]
    table["usd_per_run"] = table["usd_per_hour"] * _billable_s(kind).median() / 3600
    if not kind.empty:
        table["ratio_per_hour"] = table["usd_per_hour"] / table["usd_per_hour"].iloc[0]
        table["ratio_per_gb_hour"] = table["usd_per_gb_hour"] / table["usd_per_gb_hour"].iloc[0]
    derived = table.columns[list(COLUMNS).index("usd_per_gpu_hour") :]  # per GB of no memory there is no price
    table[derived] = table[derived].where(table[derived].abs() <= LARGEST)
    return table


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
    """The rows of ``prices`` that :func:`compare` leaves out because their source gives no region."""
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
        "tier": "marketplace",
        "gpu": runs["gpu"].iloc[0],
        "gpu_count": runs["num_gpus"].astype("float64").iloc[0],
        "gpu_memory_gb": round(runs["gpu_memory_gb"].median(), 0),
        "as_of": " to ".join(dict.fromkeys((days[0], days[-1]))) if days else None,
        "source": ", ".join(sorted(set(runs["source"]))),
        "ours": True,
        "usd_per_hour": runs["usd_per_hour"].median(),
        "usd_per_hour_low": runs["usd_per_hour"].min(),
        "usd_per_hour_high": runs["usd_per_hour"].max(),
    }


def _billable_s(phases: pd.DataFrame) -> pd.Series[float]:
    """Seconds from running to destroyed, by run that passed: what a GPU meter counts."""
    passed = phases[phases["final"] & (phases["run_outcome"] == Outcome.PASSED)]
    ends = passed.set_index("run")
    running = ends.loc[ends["phase"] == PhaseName.WAIT_RUNNING, "end_upper_s"]
    return ends.loc[ends["phase"] == PhaseName.DESTROY, "end_upper_s"].sub(running).dropna()


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
