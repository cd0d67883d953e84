"""How sure the figures that matter most are: quantiles of all attempted runs, what never ended, and the effective n."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vastbench.analysis.stopping import observations
from vastbench.analysis.survival.clusters import design
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.quantiles import plateau, quantile_estimate
from vastbench.record.phases import PhaseName
from vastbench.record.stopping import USEFUL

if TYPE_CHECKING:
    import pandas as pd

QUANTITIES = (
    USEFUL,
    PhaseName.WAIT_RUNNING,
    PhaseName.ALLOCATE,
    PhaseName.PULL,
    PhaseName.REPORTING,
    PhaseName.WAIT_SSH,
    PhaseName.CONFIRM,
)
"""What is looked for rather than done, so that its bounds, its deadline and its machine matter."""

CERTAINTY_COLUMNS = {
    "quantity": "str",
    "n": "int64",
    "ended": "int64",
    "never_rate": "float64",
    "never_low_rate": "float64",
    "never_high_rate": "float64",
    "median_s": "float64",
    "median_low_s": "float64",
    "median_high_s": "float64",
    "p90_s": "float64",
    "p90_low_s": "float64",
    "p90_high_s": "float64",
    "bounds_s": "float64",
    "unnamed": "int64",
    "machines": "int64",
    "largest_share": "float64",
    "icc": "float64",
    "design_effect": "float64",
    "effective_n": "float64",
    "method": "str",
}


def certainty(phases: pd.DataFrame, quantities: Iterable[str] = QUANTITIES) -> pd.DataFrame:
    """One row for each of ``quantities``, phases or ``time to ready``, that an attempted run of ``phases`` reached.

    Columns: ``n`` attempted runs that reached it, ``ended`` of them with success; ``never_rate`` of the others, with its
    interval (:func:`~vastbench.analysis.survival.rates.rate`); ``median_s`` and ``p90_s`` of what was waited in all n, those
    that were cut off or failed included, as :func:`~vastbench.analysis.summary.phase_summary` has them, with their intervals
    (:func:`~vastbench.analysis.survival.quantiles.quantile_estimate`, which uses the effective n where machines repeat):
    missing where too few ended, and then the interval has at most a lower end, of p90 also where n allows no interval;
    ``bounds_s``, the median width of what is known of one run; ``unnamed``, how many of those that ended name no machine;
    ``machines``, ``largest_share`` and ``icc`` of those that ended
    (:class:`~vastbench.analysis.survival.clusters.DesignEffect`); ``effective_n``, that of the median's interval, and
    ``design_effect`` = n ÷ effective_n, both missing where machines are too few for one; ``method``, that of the median.
    Seconds; rates and shares 0–1.
    Raises UsageError for runs of several kinds that were not pooled.

    Examples
    --------
    >>> table = vastbench.certainty(vastbench.load("default-300"), ["wait running"])
    >>> table[["quantity", "n", "ended", "median_s", "median_low_s", "median_high_s", "effective_n"]].round(1)
           quantity    n  ended  median_s  median_low_s  median_high_s  effective_n
    0  wait running  300    276      84.4          79.2           88.6         74.2
    """
    import pandas as pd

    found = {name: (observations(phases, name, waited=True), observations(phases, name)) for name in map(str, quantities)}
    rows = [_row(name, *pair) for name, pair in found.items() if len(pair[0])]
    return pd.DataFrame(rows, columns=list(CERTAINTY_COLUMNS)).astype(CERTAINTY_COLUMNS)


def _row(name: str, seen: Durations, bounded: Durations) -> dict[str, float | int | str]:
    import numpy as np

    never = plateau(seen)
    of_ended = design(np.where(seen.ended, seen.upper, np.inf), seen.machine)
    row: dict[str, float | int | str] = {
        "quantity": name,
        "n": never.n,
        "ended": never.n - never.hits,
        "never_rate": never.value,
        "never_low_rate": never.low,
        "never_high_rate": never.high,
        "bounds_s": float(np.median(bounded.upper[bounded.ended] - bounded.lower[bounded.ended]))
        if bounded.ended.any()
        else math.nan,
        "unnamed": int(seen.ended.sum() if seen.machine is None else np.isnan(seen.machine[seen.ended]).sum()),
        "machines": of_ended.machines,
        "largest_share": of_ended.largest_share,
        "icc": of_ended.icc,
    }
    for point, p in (("median", 0.5), ("p90", 0.9)):
        estimate = quantile_estimate(seen, p)
        value = math.nan if point == "p90" and math.isnan(estimate.low) else estimate.value
        row |= {f"{point}_s": value, f"{point}_low_s": estimate.low, f"{point}_high_s": estimate.high}
        if point == "median":
            effective = estimate.effective_n or math.nan
            row |= {"method": estimate.method, "effective_n": effective, "design_effect": never.n / effective}
    return row
