"""What a run costs, by meter: GPU only while running, storage from creation until destroyed, bytes both ways.

A month has 720 hours. Sources of the rules: Vast.ai's billing pages; an instance is not charged for its GPU while it loads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.summary import attempted, passed
from vastbench.record.cost import Cost
from vastbench.record.moments import Moment
from vastbench.record.phases import PhaseName

if TYPE_CHECKING:
    import pandas as pd

HOURS_PER_MONTH = 720
SECONDS_PER_HOUR = 3600

METERS = {
    "gpu": "gpu_usd",
    "storage": "storage_usd",
    "transfer": "transfer_usd",
    "all meters": "cost_usd",
    "naive": "naive_usd",
}
"""The rows of :func:`cost_summary` and the columns of the tidy frame that they are made of."""

COST_COLUMNS = {
    "meter": "str",
    "n": "int64",
    "total_usd": "float64",
    "per_run_usd": "float64",
    "median_usd": "float64",
    "per_success_usd": "float64",
}


def run_cost(
    *,
    usd_per_hour: float | None,
    total_s: float | None,
    running: Moment | None,
    created: Moment | None,
    destroyed: Moment | None,
    gpu_usd_per_hour: float | None = None,
    storage_usd_per_gb_month: float | None = None,
    disk_gb: float | None = None,
    bytes_down: int = 0,
    bytes_up: int = 0,
    usd_per_gb_down: float | None = None,
    usd_per_gb_up: float | None = None,
) -> Cost:
    """The three meters of one run, and the naive figure beside them, all in USD.

    ``usd_per_hour`` is the whole hourly price as advertised, ``gpu_usd_per_hour`` the GPU's part of it (default: the whole).
    Moments are in clock seconds; a meter whose price or moments are missing is None. The GPU meter's bounds follow from the
    bounds of ``running`` and ``destroyed``; its point value takes the readings that the user saw, so that it is 0 for an
    instance that was never seen running, with the time since the last look as its upper bound.
    """
    gpu_rate = usd_per_hour if gpu_usd_per_hour is None else gpu_usd_per_hour
    gpu = lower = upper = storage = None
    if gpu_rate is not None and running and destroyed and destroyed.seen:
        per_second = gpu_rate / SECONDS_PER_HOUR
        gpu = max(0.0, destroyed.upper - running.upper) * per_second  # an instance never seen running has run for 0 s
        lower = max(0.0, destroyed.lower - running.upper) * per_second
        upper = (destroyed.upper - running.lower) * per_second
    if storage_usd_per_gb_month is not None and disk_gb is not None and created and destroyed and destroyed.seen:
        hours = (destroyed.upper - created.upper) / SECONDS_PER_HOUR
        storage = hours * disk_gb * storage_usd_per_gb_month / HOURS_PER_MONTH
    return Cost(
        gpu_usd=gpu,
        gpu_lower_usd=lower,
        gpu_upper_usd=upper,
        storage_usd=storage,
        transfer_usd=_transfer(bytes_down, usd_per_gb_down, bytes_up, usd_per_gb_up),
        naive_usd=usd_per_hour * total_s / SECONDS_PER_HOUR if usd_per_hour is not None and total_s is not None else None,
    )


def _transfer(down: int, usd_per_gb_down: float | None, up: int, usd_per_gb_up: float | None) -> float | None:
    if usd_per_gb_down is None or usd_per_gb_up is None:
        return None
    return (down * usd_per_gb_down + up * usd_per_gb_up) / 1e9


def cost_summary(phases: pd.DataFrame) -> pd.DataFrame:
    """What the attempted runs of a tidy frame cost by meter, per run and per success, in USD; one row per ``METERS``.

    Columns: ``n`` attempted runs of which the meter is known; ``total_usd`` of them, where the row ``all meters`` is the sum
    of the three meters' rows; ``per_run_usd`` and ``median_usd``, mean and median over these n; ``per_success_usd`` =
    total_usd ÷ number of runs that passed, so that it holds what the failures cost. What is missing is NaN: without any known
    value, and per success when none passed. Where n is less than the attempted runs, totals and costs per success
    are the least that it can have been.
    """
    import pandas as pd

    tried = attempted(phases)
    runs = tried[tried["phase"] == PhaseName.TOTAL]
    usd = runs[list(METERS.values())].set_axis(list(METERS), axis=1)
    total = usd.sum(min_count=1)
    total["all meters"] = total[["gpu", "storage", "transfer"]].sum(min_count=1)
    successes = passed(runs)["run"].nunique()
    found = pd.DataFrame(
        {
            "n": usd.count(),
            "total_usd": total,
            "per_run_usd": usd.mean(),
            "median_usd": usd.median(),
            "per_success_usd": total / successes if successes else float("nan"),
        }
    )
    return found.rename_axis("meter").reset_index().astype(COST_COLUMNS)
