"""What a study's runs say: how many passed, why the others did not, and how long each phase takes.

Every function takes the tidy frame of :mod:`vastbench.analysis.frames` and leaves it as it is. Intervals are at 95 %.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from vastbench.analysis.attempts import attempted, machines, of_one_kind, passed, totals
from vastbench.analysis.durations import durations_of
from vastbench.analysis.frames import timeline
from vastbench.analysis.survival.clusters import how_many
from vastbench.analysis.survival.quantiles import quantile_estimate, quantile_estimates
from vastbench.analysis.survival.rates import Each, rate
from vastbench.record.phases import Outcome
from vastbench.record.run import NOT_COUNTED

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NOT_COUNTED", "OUTCOME_COLUMNS", "SUMMARY_COLUMNS", "attempted", "outcomes", "passed", "phase_summary"]

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
    "cut_off": "int64",
    "failed": "int64",
    "median_s": "float64",
    "median_low_s": "float64",
    "median_high_s": "float64",
    "p90_s": "float64",
    "p90_low_s": "float64",
    "p90_high_s": "float64",
    "true_median_low_s": "float64",
    "true_median_high_s": "float64",
    "mean_s": "float64",
    "min_s": "float64",
    "max_s": "float64",
    "bounds_s": "float64",
    "machines": "int64",
    "effective_n": "float64",
    "method": "str",
}

USED = ["run", "phase", "parent", "final", "cause", "outcome", "seconds", "lower_s", "upper_s", "machine"]
"""The columns of the tidy frame that :func:`phase_summary` needs: the others are not worth moving a million rows of."""


def outcomes(phases: pd.DataFrame, *, each: Each = "run") -> pd.DataFrame:
    """How the attempted runs of ``phases`` ended: one row per outcome and cause, passed first, then the most frequent.

    Columns: ``outcome``, ``cause`` (empty for passed), ``runs``, ``attempted`` (of how many), ``rate`` = runs ÷ attempted, and
    its 95 % interval ``rate_low`` to ``rate_high``, which reckons with the likeness of runs on one machine
    (:func:`~vastbench.analysis.survival.rates.rate`) and is missing for one machine with several runs. With each ``"machine"``
    the rate is the mean of the machines' own: what one drawn at random does, however often it was rented. The row of passed
    runs is there also when none passed; without any attempted run there is no row. Raises UsageError for runs of several kinds
    that were not pooled.

    Examples
    --------
    >>> vastbench.outcomes(vastbench.load("default-300"))[["outcome", "cause", "runs", "rate"]]
        outcome        cause  runs  rate
    0    passed                270  0.90
    1  censored     deadline    24  0.08
    2    failed  boot_failed     6  0.02
    """
    import numpy as np
    import pandas as pd

    runs = totals(phases)
    ends = list(zip(runs["run_outcome"], runs["cause"].fillna(""), strict=True))
    counts = Counter(ends)
    if ends:
        counts[(str(Outcome.PASSED), "")] += 0
    kinds = sorted(counts, key=lambda kind: (kind[0] != Outcome.PASSED, -counts[kind], kind))
    found = [(kind, rate(np.array([end == kind for end in ends]), machines(runs), each=each)) for kind in kinds]
    rows = [(*kind, one.hits, one.n, one.value, one.low, one.high) for kind, one in found]
    return pd.DataFrame(rows, columns=list(OUTCOME_COLUMNS)).astype(OUTCOME_COLUMNS)


def phase_summary(phases: pd.DataFrame) -> pd.DataFrame:
    """How long each phase takes: one row per phase that an attempted run reached, in order of time, children after parents.

    The sample of a phase is its last try in each attempted run that reached it: ``n`` of these passed and ``unfinished`` did
    not: ``cut_off`` of these by a deadline, ``failed`` others. Medians and p90 are of all of them, as a half that ended says
    little of a phase in which a third got stuck: a try that a deadline cut off is known to be longer than it had waited, one
    that failed never ends. So ``median_s`` is missing when half of the tries or more did not end.

    Columns, in seconds: ``median_s`` and ``p90_s`` of what the user waited, with their 95 % intervals ``median_low_s`` to
    ``median_high_s`` (missing where the effective n is below 6) and ``p90_low_s`` to ``p90_high_s``
    (with ``p90_s`` missing below 36 of them); an upper end is infinite when so many did not end that nothing bounds it.
    ``true_median_low_s`` to ``true_median_high_s`` is the 95 % interval of the median of the duration itself, without what
    polling adds to it: see :func:`~vastbench.analysis.survival.quantiles.quantile_estimate`, for the other intervals too. Of
    those that ended: ``mean_s``, ``min_s``, ``max_s`` and ``bounds_s``, the median width of what is known of one duration:
    ``upper_s`` − ``lower_s``; ``machines``, how many machines they came from. ``effective_n`` is how many independent tries
    would say as much of the median, as its interval has it; missing where machines are too few for one. ``method`` is how the
    true median was found. A part of a phase that the deadline of the whole cut off had the less time the longer the parts
    before it took: its censoring is not independent, as the estimate has it.
    """
    import pandas as pd

    last = attempted(of_one_kind(phases)[USED])
    tries = {str(name): rows for name, rows in last[last["final"]].groupby("phase", sort=False)}
    rows = [
        {"phase": name, "parent": parent} | _described(tries[name]) for name, parent in timeline(last).items() if name in tries
    ]
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS)).astype(SUMMARY_COLUMNS)


def _described(tries: pd.DataFrame) -> dict[str, object]:
    good = tries[tries["outcome"] == Outcome.PASSED].dropna(subset="seconds")
    seconds = good["seconds"]
    waited = durations_of(tries, waited=True)
    median, p90 = quantile_estimates(waited, (0.5, 0.9))
    true = quantile_estimate(durations_of(tries), 0.5)
    return {
        "n": len(seconds),
        "unfinished": int((tries["outcome"] != Outcome.PASSED).sum()),
        "cut_off": int((tries["outcome"] == Outcome.CENSORED).sum()),
        "failed": int((tries["outcome"] == Outcome.FAILED).sum()),
        "median_s": median.value,
        "median_low_s": median.low,
        "median_high_s": median.high,
        "p90_s": math.nan if math.isnan(p90.low) else p90.value,
        "p90_low_s": p90.low,
        "p90_high_s": p90.high,
        "true_median_low_s": true.low,
        "true_median_high_s": true.high,
        "mean_s": seconds.mean(),
        "min_s": seconds.min(),
        "max_s": seconds.max(),
        "bounds_s": (good["upper_s"] - good["lower_s"]).median(),
        "machines": how_many(machines(good), len(good)),
        "effective_n": median.effective_n or math.nan,
        "method": true.method,
    }
