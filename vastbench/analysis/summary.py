"""What a study's runs say: how many passed, why the others did not, and how long each phase takes.

Every function takes the tidy frame of :mod:`vastbench.analysis.frames` and leaves it as it is. Intervals are exact, at 95 %.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import STOPPED_BY_US, attempted, passed
from vastbench.analysis.intervals import proportion_interval, quantile_interval
from vastbench.timing import PARENTS, Outcome, PhaseName

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OUTCOME_COLUMNS", "STOPPED_BY_US", "SUMMARY_COLUMNS", "attempted", "outcomes", "passed", "phase_summary"]

OUTCOME_COLUMNS = {
    "outcome": "str",
    "cause": "str",
    "runs": "int64",
    "attempted": "int64",
    "rate": "float64",
    "rate_low": "float64",
    "rate_high": "float64",
}

SUMMARY_COLUMNS = {
    "phase": "str",
    "parent": "str",
    "n": "int64",
    "unfinished": "int64",
    "median_s": "float64",
    "median_low_s": "float64",
    "median_high_s": "float64",
    "p90_s": "float64",
    "p90_low_s": "float64",
    "p90_high_s": "float64",
    "mean_s": "float64",
    "min_s": "float64",
    "max_s": "float64",
    "bounds_s": "float64",
}


def outcomes(phases: pd.DataFrame) -> pd.DataFrame:
    """How the attempted runs ended: one row per outcome and cause, passed first, then the most frequent.

    Columns: ``outcome``, ``cause`` (empty for passed), ``runs``, ``attempted`` (of how many), ``rate`` = runs ÷ attempted, and
    its exact interval ``rate_low`` to ``rate_high``. The row of passed runs is there also when none passed; without any
    attempted run there is no row.
    """
    import pandas as pd

    runs = attempted(phases)
    runs = runs[runs["phase"] == PhaseName.TOTAL]
    counts = Counter(zip(runs["run_outcome"], runs["cause"].fillna(""), strict=True))
    n = len(runs)
    if n:
        counts[(str(Outcome.PASSED), "")] += 0
    ordered = sorted(counts.items(), key=lambda item: (item[0][0] != Outcome.PASSED, -item[1], item[0]))
    rows = [(*kind, k, n, k / n, *proportion_interval(k, n)) for kind, k in ordered]
    return pd.DataFrame(rows, columns=list(OUTCOME_COLUMNS)).astype(OUTCOME_COLUMNS)


def phase_summary(phases: pd.DataFrame) -> pd.DataFrame:
    """How long each phase takes: one row per phase that an attempted run reached, in order of time, children after parents.

    The sample of a phase is its last try in each attempted run, where that passed; ``n`` counts it, and ``unfinished`` the
    last tries that did not pass: they have no seconds, and long ones are among them, so quantiles of a phase with unfinished
    tries are those of the tries that ended. The row ``total`` is of runs that passed.

    Columns, in seconds: ``median_s`` with its interval ``median_low_s`` to ``median_high_s`` (missing below n = 6), ``p90_s``
    with ``p90_low_s`` to ``p90_high_s`` (all three missing where there is no interval, below n = 36), ``mean_s``, ``min_s``,
    ``max_s`` and ``bounds_s``, the median width of what is known of one duration: ``upper_s`` − ``lower_s``.
    """
    import pandas as pd

    last = attempted(phases)
    last = last[last["final"]]
    good = last["outcome"] == Outcome.PASSED
    sample = last[good].dropna(subset="seconds")
    unfinished = last.loc[~good, "phase"].value_counts()
    widths = (sample["upper_s"] - sample["lower_s"]).groupby(sample["phase"]).median()
    seconds = {str(name): group for name, group in sample.groupby("phase")["seconds"]}
    empty = pd.Series(dtype="float64")
    reached = set(last["phase"])
    rows = [
        {
            "phase": str(name),
            "parent": None if name is PhaseName.TOTAL else str(PARENTS.get(name, PhaseName.TOTAL)),
            "unfinished": unfinished.get(str(name), 0),
            "bounds_s": widths.get(str(name), math.nan),
        }
        | _described(seconds.get(str(name), empty))
        for name in PhaseName
        if name in reached
    ]
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS)).astype(SUMMARY_COLUMNS)


def _described(seconds: pd.Series[float]) -> dict[str, Any]:
    median_low, median_high = quantile_interval(seconds, 0.5)
    p90_low, p90_high = quantile_interval(seconds, 0.9)
    return {
        "n": len(seconds),
        "median_s": seconds.median(),
        "median_low_s": median_low,
        "median_high_s": median_high,
        "p90_s": math.nan if math.isnan(p90_high) else seconds.quantile(0.9),
        "p90_low_s": p90_low,
        "p90_high_s": p90_high,
        "mean_s": seconds.mean(),
        "min_s": seconds.min(),
        "max_s": seconds.max(),
    }
