"""What a study's runs say of how long something takes, when much of it is known within bounds or was cut off.

A duration is an interval, see :mod:`vastbench.analysis.survival.curves`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vastbench.analysis.survival.bands import bands
from vastbench.analysis.survival.clusters import effective_n
from vastbench.analysis.survival.curves import (
    ROUNDING,
    curve,
    latest,
    middles,
    negligible,
    product_limit,
)
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.intervals import CONFIDENCE, proportion_interval, quantile_levels

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


MOST_STEPS = 1000
"""More steps of a curve cannot be seen."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantile in seconds, ``low`` to ``high`` its interval, of ``n`` durations of which ``censored`` did not end.

    ``value`` is NaN where too few ended to say: the quantile then is above ``low``. ``high`` is infinite where it may be beyond
    all that ended; both are NaN where so few values allow no interval. ``method`` says how both were found.
    """

    value: float
    low: float
    high: float
    n: int
    censored: int
    method: str


def quantile_estimate(found: Durations, p: float, *, confidence: float = CONFIDENCE) -> Estimate:
    """The ``p``-quantile of durations, those that were cut off or never end included, and its interval.

    ``value`` is the middle of where :func:`curve` has it. The interval lies between two fractional order statistics
    (:func:`~vastbench.analysis.survival.intervals.quantile_levels`) of the middles of the bounds, which is right as long as the
    polls do not keep step with what they watch; where the bounds are wide it reaches over what Turnbull's estimate leaves open
    at the same levels, which holds even if they do. Where machines repeat, the interval is that of the effective n
    (:func:`~vastbench.analysis.survival.clusters.effective_n`); a single machine allows no interval.
    """
    return quantile_estimates(found, (p,), confidence=confidence)[0]


def quantile_estimates(found: Durations, levels: Iterable[float], *, confidence: float = CONFIDENCE) -> list[Estimate]:
    """:func:`quantile_estimate` at each of ``levels``, 0–1, in less time than one after another."""
    n, censored = len(found), int((~found.ended).sum())
    if not n:
        return [Estimate(math.nan, math.nan, math.nan, 0, 0, "none") for _ in levels]
    estimated, wide = curve(found.lower, found.upper), not negligible(found.lower, found.upper)
    times = middles(found.lower, found.upper)
    order, mass = product_limit(times, found.ended)
    last = latest(found.lower, found.upper)

    def one(p: float) -> Estimate:
        value = estimated.middle(p)
        effective = effective_n(found.ended & ~(times > value), found.machine, confidence)
        method = f"{estimated.method}; {'order statistics' if effective.independent else 'effective order statistics'}"
        between = quantile_levels(effective.n, p, confidence)
        if between is None:
            return Estimate(value, math.nan, math.nan, n, censored, method)
        low, high = (_interpolated(times[order], mass, level) for level in between)
        if wide:
            low, high = min(low, estimated.quantile(between[0])[0]), max(high, estimated.quantile(between[1])[1])
        if math.isnan(value):
            return Estimate(value, min(low, last), math.inf, n, censored, method)
        # Bounds that differ much in width can have the middle of what is known outside the order statistics of the middles.
        return Estimate(value, min(low, value), max(high, value), n, censored, method)

    return [one(p) for p in levels]


def curve_steps(found: Durations, *, confidence: float = CONFIDENCE, resamples: int = 500, seed: int = 1) -> pd.DataFrame:
    """The share of durations that had ended with success by each time, for drawing.

    Columns: ``time_s``, every instant at which the share can change, or 1,000 of them evenly in their order; ``ended_low`` to
    ``ended_high``, the share from right after it to the next instant, as far as the polls tell (see :class:`Curve`);
    ``band_low`` to ``band_high``, its pointwise percentile band over ``resamples`` draws of whole machines from ``seed`` (of
    runs, where no machine repeats). None that ended: no row.
    """
    import numpy as np
    import pandas as pd

    estimated = curve(found.lower, found.upper)
    times = np.unique(np.concatenate([estimated.left, estimated.right]))
    times = times[np.isfinite(times)]
    if not found.ended.any():
        times = times[:0]
    if len(times) > MOST_STEPS:
        times = times[np.linspace(0, len(times) - 1, MOST_STEPS).round().astype(int)]
    low, high = estimated.survival(np.nextafter(times, np.inf))
    band_low, band_high = bands(found, times, confidence=confidence, resamples=resamples, seed=seed)
    columns = {"time_s": times, "ended_low": 1 - high, "ended_high": 1 - low, "band_low": band_low, "band_high": band_high}
    return pd.DataFrame(columns)


def plateau(found: Durations, confidence: float = CONFIDENCE) -> tuple[int, int, float, float]:
    """How many durations did not end, of how many, and the exact interval of that share, 0–1 (NaN of none).

    A share and never a time: whether those that a deadline cut off would have ended later is unknown.
    """
    n, never = len(found), int((~found.ended).sum())
    return never, n, *proportion_interval(never, n, confidence)


def _interpolated(times: np.ndarray, mass: np.ndarray, level: float) -> float:
    """The fractional order statistic at ``level``, between the ordered ``times`` of those with mass; infinite beyond them."""
    import numpy as np

    some = mass > 0
    n = len(times)
    values, places = np.append(times[some], math.inf), np.append(np.cumsum(mass[some]), 1.0) * n / (n + 1)
    above = int(np.searchsorted(places[:-1], level - ROUNDING))
    if above == 0 or math.isinf(values[above]) or places[above] - level < ROUNDING:
        return float(values[above])
    share = (level - places[above - 1]) / (places[above] - places[above - 1])
    return float(values[above - 1] + share * (values[above] - values[above - 1]))
