"""What runs cost together, by meter (see :mod:`vastbench.record.cost`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.summary import attempted, passed
from vastbench.record.numbers import quotient
from vastbench.record.phases import PhaseName

if TYPE_CHECKING:
    import pandas as pd

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


def cost_summary(phases: pd.DataFrame) -> pd.DataFrame:
    """What the attempted runs of ``phases`` cost by meter, per run and per success, in USD; one row per ``METERS``.

    Columns: ``n`` attempted runs of which the meter is known; ``total_usd`` of them, where the row ``all meters`` is the sum
    of the three meters' rows; ``per_run_usd`` and ``median_usd``, mean and median over these n; ``per_success_usd`` =
    total_usd ÷ number of runs that passed, so that it holds what the failures cost. What is missing is NaN: without any known
    value, and per success when none passed. Where n is less than the attempted runs, totals and costs per success
    are the least that it can have been. Raises UsageError for runs of several kinds that were not pooled.

    Examples
    --------
    >>> vastbench.cost_summary(vastbench.load("default-300"))[["meter", "n", "per_run_usd", "per_success_usd"]].round(5)
            meter    n  per_run_usd  per_success_usd
    0         gpu  300      0.00129          0.00144
    1     storage  300      0.00020          0.00022
    2    transfer  300      0.00000          0.00000
    3  all meters  300      0.00149          0.00166
    4       naive  300      0.00925          0.01027
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


def naive_ratio(runs: pd.DataFrame) -> float:
    """How many times the metered cost wall clock × price says, over the rows of ``runs`` of which both are known; NaN if none.

    ``runs`` has the columns ``cost_usd`` and ``naive_usd`` of :func:`~vastbench.analysis.frames.runs_table`.
    """
    both = runs.dropna(subset=["cost_usd", "naive_usd"])
    return quotient(both["naive_usd"].sum(), both["cost_usd"].sum())
