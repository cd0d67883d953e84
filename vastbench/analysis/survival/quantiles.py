"""What a study's runs say of how long something takes, when much of it is known within bounds or was cut off.

A duration is an interval, see :mod:`vastbench.analysis.survival.curves`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vastbench.analysis.survival.bands import bands
from vastbench.analysis.survival.clusters import alike, effective_n, numbered, repeated
from vastbench.analysis.survival.curves import (
    ROUNDING,
    curve,
    latest,
    middles,
    negligible,
    product_limit,
)
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.intervals import CONFIDENCE, quantile_levels
from vastbench.analysis.survival.rates import Rate, rate

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


FEW_MACHINES = 6
"""From so many machines of equal size on, their own variance says how far runs on one resemble each other. Of fewer it often
looks small by chance, and the intervals that it then allows are too narrow."""

FEW_BEYOND = 1.5
"""Where machines repeat and fewer of equal size than this are beyond a quantile, as of ten beyond the p90, how alike their runs
are there is not known either, and an interval would be given only where it looks too narrow by luck."""

RUNS_EACH = 6
"""A median of fewer runs is missing on too many machines where a third of the runs fail."""

MOST_STEPS = 1000
"""More steps of a curve cannot be seen."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantile in seconds, ``low`` to ``high`` its interval, of ``n`` durations of which ``censored`` did not end.

    ``value`` is NaN where too few ended to say: the quantile then is above ``low``. ``high`` is infinite where it may be beyond
    all that ended; both are NaN where so few values or machines allow no interval. ``method`` says how both were found, and
    ``effective_n`` of how many independent values the interval is, 0 where there is none for lack of machines.
    """

    value: float
    low: float
    high: float
    n: int
    censored: int
    method: str
    effective_n: float


def quantile_estimate(found: Durations, p: float, *, confidence: float = CONFIDENCE) -> Estimate:
    """The ``p``-quantile of durations, those that were cut off or never end included, and its interval.

    ``value`` is the middle of where :func:`curve` has it. The interval lies between two fractional order statistics
    (:func:`~vastbench.analysis.survival.intervals.quantile_levels`) of the middles of the bounds, which is right as long as the
    polls do not keep step with what they watch; where the bounds are wide it reaches over what Turnbull's estimate leaves open
    at the same levels, which holds even if they do. Where machines repeat, the interval is that of the effective n
    (:func:`~vastbench.analysis.survival.clusters.effective_n`). Fewer than ``FEW_MACHINES`` that are
    :func:`~vastbench.analysis.survival.clusters.alike` do not know how much machines differ: then the interval of the median is
    Student's t on the logarithms of the medians of each of them, as long as these are of ``RUNS_EACH`` values on average, and
    other quantiles have none. Nor has one beyond which fewer than ``FEW_BEYOND`` machines lie (p90: fewer than 15), nor
    anything of fewer than three machines.
    """
    return quantile_estimates(found, (p,), confidence=confidence)[0]


def quantile_estimates(found: Durations, levels: Iterable[float], *, confidence: float = CONFIDENCE) -> list[Estimate]:
    """:func:`quantile_estimate` at each of ``levels``, 0–1, in less time than one after another."""
    n, censored = len(found), int((~found.ended).sum())
    if not n:
        return [Estimate(math.nan, math.nan, math.nan, 0, 0, "none", 0.0) for _ in levels]
    estimated, wide = curve(found.lower, found.upper), not negligible(found.lower, found.upper)
    times = middles(found.lower, found.upper)
    order, mass = product_limit(times, found.ended)
    last = latest(found.lower, found.upper)
    labels = numbered(found.machine, n)
    few = repeated(labels) and alike(labels) < FEW_MACHINES

    def of_machines(p: float) -> Estimate:
        value, method = estimated.middle(p), f"{estimated.method}; t on the medians of machines"
        low, high = _of_machines(found, labels, value, confidence) if p == 0.5 else (math.nan, math.nan)
        return Estimate(value, low, high, n, censored, method, 0.0 if math.isnan(low) else float(labels.max() + 1))

    def one(p: float) -> Estimate:
        value = estimated.middle(p)
        effective = effective_n(found.ended & ~(times > value), found.machine, confidence)
        method = f"{estimated.method}; {'order statistics' if effective.independent else 'effective order statistics'}"
        enough = effective.independent or alike(labels) * min(p, 1 - p) >= FEW_BEYOND
        between = quantile_levels(effective.n, p, confidence) if enough else None
        if between is None:
            return Estimate(value, math.nan, math.nan, n, censored, method, effective.n)
        low, high = (_interpolated(times[order], mass, level) for level in between)
        if wide:
            low, high = min(low, estimated.quantile(between[0])[0]), max(high, estimated.quantile(between[1])[1])
        if math.isnan(value):
            return Estimate(value, min(low, last), math.inf, n, censored, method, effective.n)
        # Bounds that differ much in width can have the middle of what is known outside the order statistics of the middles.
        return Estimate(value, min(low, value), max(high, value), n, censored, method, effective.n)

    return [of_machines(p) if few else one(p) for p in levels]


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


def plateau(found: Durations, confidence: float = CONFIDENCE) -> Rate:
    """The share of durations that did not end, and its interval: see :func:`~vastbench.analysis.survival.rates.rate`.

    A share and never a time: whether those that a deadline cut off would have ended later is unknown.
    """
    return rate(~found.ended, found.machine, confidence)


def _of_machines(found: Durations, labels: np.ndarray, value: float, confidence: float) -> tuple[float, float]:
    """The interval of the median ``value`` from that of each machine, whose logarithms are taken for normal; NaN where none is.

    Where many fail, the median of all is not the middle of the machines' own: the interval reaches as far from both.
    """
    import numpy as np
    from scipy.stats import t

    machines = int(labels.max()) + 1
    if machines < 3 or len(labels) < RUNS_EACH * machines or not value > 0:
        return math.nan, math.nan
    wide = not negligible(found.lower, found.upper)
    curves = [curve(found.lower[labels == one], found.upper[labels == one]) for one in range(machines)]
    medians = np.array([one.quantile(0.5) if wide else (one.middle(0.5),) * 2 for one in curves])
    if not (np.isfinite(medians) & (medians > 0)).all():
        return math.nan, math.nan
    logs = np.log(medians)
    (low, high), middle = logs.mean(axis=0), math.log(value)
    half = float(t.ppf((1 + confidence) / 2, machines - 1) * logs.std(axis=0, ddof=1).max()) / math.sqrt(machines)
    return math.exp(min(low, middle) - half), math.exp(max(high, middle) + half)


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
