"""Intervals of proportions and quantiles. The values are taken as independent, or come with their effective n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95


def proportion_interval(k: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact interval (Clopper and Pearson 1934) of a proportion of which ``k`` of ``n`` cases were seen, each 0–1.

    Neither need be whole: an effective n seldom is. (nan, nan) for n = 0. Raises ValueError when ``k`` is not in 0 … ``n`` or
    ``confidence`` not in 0 … 1.
    """
    low, high = proportion_intervals([k], n, confidence)
    return float(low[0]), float(high[0])


def proportion_intervals(
    k: Sequence[float] | np.ndarray, n: float, confidence: float = CONFIDENCE
) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper ends of :func:`proportion_interval` for each of several counts ``k``."""
    import numpy as np
    from scipy.special import betaincinv

    seen = np.asarray(k, dtype=float)
    if ((seen < 0) | (seen > n)).any() or not 0 < confidence < 1:
        raise ValueError(f"A count must lie in 0 to n = {n} and a confidence of {confidence} must lie between 0 and 1.")
    if n == 0:
        return np.full(len(seen), math.nan), np.full(len(seen), math.nan)
    tail = (1 - confidence) / 2
    low, high = np.zeros(len(seen)), np.ones(len(seen))
    some, not_all = seen > 0, seen < n
    low[some] = betaincinv(seen[some], n - seen[some] + 1, tail)
    high[not_all] = betaincinv(seen[not_all] + 1, n - seen[not_all], 1 - tail)
    return low, high


def quantile_levels(n: float, p: float, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Which two levels of a sample with the effective n ``n``, as shares i ÷ (n + 1), enclose the ``p``-quantile.

    Fractional order statistics (Hutson 1999): they are not rounded to whole ranks, so that the interval keeps its
    ``confidence`` at small n too instead of exceeding it. None where the bound on either side would lie
    beyond the sample: at 95 % the median needs n = 6 and p90 needs 36. Raises ValueError when ``p`` or ``confidence`` is not
    between 0 and 1.
    """
    if not (0 < p < 1 and 0 < confidence < 1):
        raise ValueError(f"A quantile of {p} at a confidence of {confidence} cannot be; both must lie between 0 and 1.")
    below, above = _lowest_level(n, p, confidence), _lowest_level(n, 1 - p, confidence)
    return None if below is None or above is None else (below, 1 - above)


def _lowest_level(n: float, p: float, confidence: float) -> float | None:
    from scipy.optimize import brentq
    from scipy.special import betainc

    def surplus(rank: float) -> float:
        """How surely the value of this rank lies below the quantile, above what is asked for."""
        return float(betainc(rank, n + 1 - rank, p)) - (1 + confidence) / 2

    if not n >= 1 or surplus(1.0) < 0:
        return None
    return float(brentq(surplus, 1.0, n)) / (n + 1)
