"""Exact intervals of proportions and quantiles. They take the runs as independent of each other."""

from __future__ import annotations

import math
from collections.abc import Iterable

CONFIDENCE = 0.95


def proportion_interval(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact interval (Clopper and Pearson 1934) of a proportion of which ``k`` of ``n`` cases were seen, each 0–1.

    (nan, nan) for n = 0. Raises ValueError when ``k`` is not in 0 … ``n`` or ``confidence`` not in 0 … 1.
    """
    from scipy.stats import binomtest

    if n == 0 and k == 0:
        return math.nan, math.nan
    found = binomtest(int(k), int(n)).proportion_ci(confidence, method="exact")
    return float(found.low), float(found.high)


def quantile_ranks(n: int, p: float, confidence: float = CONFIDENCE) -> tuple[int, int] | None:
    """Which two of ``n`` ordered values, counted from 1, enclose the ``p``-quantile; None where ``n`` allows no such interval.

    See :func:`quantile_interval`. Raises ValueError when ``p`` or ``confidence`` is not between 0 and 1.
    """
    if n < 1:
        return None
    low, high = quantile_interval(range(1, n + 1), p, confidence)
    return None if math.isnan(low) else (int(low), int(high))


def quantile_interval(values: Iterable[float], p: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of the ``p``-quantile between two order statistics of ``values``, in their unit.

    Missing values are left out. It holds for every continuous distribution (Conover, Practical Nonparametric Statistics, 1999,
    §3.2), at the price that few values have none: (nan, nan) where the bound on either side would lie beyond the sample. At
    95 % the median needs 6 values and p90 needs 36. Raises ValueError when ``p`` or ``confidence`` is not between 0 and 1.
    """
    import numpy as np
    from scipy.stats import quantile_test

    known = np.asarray(list(values), dtype=float)
    known = known[~np.isnan(known)]
    if not known.size:
        return math.nan, math.nan
    found = quantile_test(known, p=p).confidence_interval(confidence)
    low, high = float(found.low), float(found.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (math.nan, math.nan)
