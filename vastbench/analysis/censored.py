"""Durations that are known within bounds, or were cut off before they ended: curves, quantiles and their intervals.

One observation is an interval: the duration is above ``lower`` and at most ``upper``; exact where both are equal; still
running when last seen where ``upper`` is infinite; both infinite for one that can never end. Nothing is imputed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import attempted
from vastbench.analysis.clusters import cluster_weights, repeated
from vastbench.analysis.fits import Fit, fit
from vastbench.analysis.intervals import CONFIDENCE, proportion_interval, quantile_ranks
from vastbench.analysis.npmle import maximise, support
from vastbench.timing import Outcome, PhaseName

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = [
    "Curve",
    "Durations",
    "Estimate",
    "Fit",
    "curve",
    "curve_steps",
    "curve_table",
    "durations",
    "fit",
    "kaplan_meier",
    "plateau",
    "quantile_estimate",
    "turnbull",
]

NEGLIGIBLE = 0.05
"""Bounds with a median width of at most this part of the values' interquartile range hide nothing worth deconvolving."""

ROUNDING = 1e-7
"""Sums of mass this near to a probability are that probability."""


@dataclass(frozen=True, slots=True)
class Durations:
    """Durations in (``lower``, ``upper``] seconds, and the ``machine`` of each (NaN where unknown; None where all are)."""

    lower: np.ndarray
    upper: np.ndarray
    machine: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for bounds that are missing, in the wrong order or not as many as each other."""
        check(self.lower, self.upper)
        if self.machine is not None and len(self.machine) != len(self.lower):
            raise ValueError(f"{len(self.machine)} machines are named for {len(self.lower)} durations; name one for each.")

    def __len__(self) -> int:
        """How many durations there are, those that were cut off included."""
        return len(self.lower)

    @property
    def ended(self) -> np.ndarray:
        """Which of them ended."""
        import numpy as np

        ended: np.ndarray = np.isfinite(self.upper)
        return ended


@dataclass(frozen=True, slots=True)
class Curve:
    """A distribution whose ``mass`` lies somewhere within the intervals (``left``, ``right``]; ``mass`` adds up to 1.

    ``right`` may be infinite: that mass ends later than anything seen, or never. ``method`` says how the curve was made.
    """

    left: np.ndarray
    right: np.ndarray
    mass: np.ndarray
    method: str

    def survival(self, t: Any) -> tuple[Any, Any]:
        """The least and the greatest share, 0–1, that has not ended by ``t`` seconds; of an array, one pair each."""
        import numpy as np

        t = np.asarray(t, dtype=float)
        surely_ended = self._summed(self.right)(t, "right")
        exact = self.left == self.right
        begun = self._summed(np.where(exact, self.left, np.nextafter(self.left, np.inf)))(t, "right")
        return np.clip(1 - begun, 0, 1)[()], np.clip(1 - surely_ended, 0, 1)[()]

    def quantile(self, p: float) -> tuple[float, float]:
        """Between which seconds the ``p``-quantile can lie: (x, inf) when too little ended to bound it, NaN without mass."""
        if not len(self.mass):
            return math.nan, math.nan
        return _step(self.left, self.mass, p, "left"), _step(self.right, self.mass, p, "right")

    def _summed(self, places: np.ndarray) -> Any:
        import numpy as np

        order = np.argsort(places, kind="stable")
        placed, sums = places[order], np.concatenate([[0.0], np.cumsum(self.mass[order])])
        return lambda t, side: sums[np.searchsorted(placed, t, side=side)]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantile in seconds, ``low`` to ``high`` its interval, of ``n`` durations of which ``censored`` did not end.

    ``value`` is NaN where too few ended: the quantile then is above ``low``, and ``high`` is infinite. ``low`` and ``high`` are
    NaN where so few values allow no interval. ``method`` says how both were found.
    """

    value: float
    low: float
    high: float
    n: int
    censored: int
    method: str


def durations(phases: pd.DataFrame, phase: PhaseName) -> Durations:
    """How long ``phase`` took in the attempted runs of the tidy frame that reached it, in its last try of each.

    A try that passed lies in (``lower_s``, ``upper_s``]; a total is exact. A try that a deadline cut off is above its
    ``lower_s``, and only that is known. One that failed can never end with success: both its bounds are infinite, so that the
    curve of the rest levels off below 1. That is the cumulative incidence of success (Fine and Gray 1999) where, as under one
    common deadline, no try was cut off while others were still being decided; otherwise it errs towards *never*.
    """
    import numpy as np

    rows = attempted(phases)
    rows = rows[(rows["phase"] == phase) & rows["final"]]
    exact = phase in (PhaseName.TOTAL, PhaseName.UNATTRIBUTED)
    lower = rows["seconds" if exact else "lower_s"].to_numpy(dtype=float, na_value=np.nan)
    upper = rows["seconds" if exact else "upper_s"].to_numpy(dtype=float, na_value=np.nan)
    outcome = rows["outcome"].to_numpy()
    good, failed = outcome == Outcome.PASSED, outcome == Outcome.FAILED
    upper = np.where(good & ~np.isnan(upper), upper, np.inf)
    lower = np.where(failed, np.inf, np.minimum(lower, upper))
    # Without even a lower bound a try says only that it took some time; without an exact difference, nothing.
    known = ~np.isnan(lower) if exact else np.full(len(rows), True)
    lower = np.nan_to_num(lower, nan=0.0, posinf=np.inf)
    machine = rows["machine"].to_numpy(dtype=float, na_value=np.nan)[known]
    return Durations(lower[known], upper[known], None if np.isnan(machine).all() else machine)


def turnbull(lower: np.ndarray, upper: np.ndarray) -> Curve:
    """The nonparametric maximum likelihood estimate of durations in (``lower``, ``upper``] (Peto 1973, Turnbull 1976).

    Converged by the Kuhn–Tucker conditions, see :mod:`vastbench.analysis.npmle`. Raises ValueError for bounds that are missing
    or in the wrong order, and RuntimeError if the search should not end.
    """
    import numpy as np

    lower, upper = check(lower, upper)
    empty = np.zeros(0)
    if not len(lower):
        return Curve(empty, empty, empty, "Turnbull")
    pairs, counts = _counted(lower, upper)
    cells = support(*pairs)
    found = maximise(cells, counts)
    if not found.converged:
        raise RuntimeError(f"Turnbull's estimate did not converge in {found.steps} steps (excess {found.excess:.1e}).")
    return Curve(cells.left, cells.right, found.mass, "Turnbull")


def kaplan_meier(lower: np.ndarray, upper: np.ndarray) -> Curve:
    """The product-limit estimate (Kaplan and Meier 1958): durations that ended are ordered by the middle of their bounds.

    Each keeps its own bounds, so that the curve's ``survival`` and ``quantile`` still say what is certain; for exact durations
    it is :func:`turnbull`. Raises ValueError for bounds that are missing or in the wrong order.
    """
    import numpy as np

    lower, upper = check(lower, upper)
    if not len(lower):
        return Curve(lower, upper, lower, "Kaplan–Meier")
    order, mass = _product_limit(lower, upper)
    left, right, last = lower[order], upper[order], max(0.0, 1 - float(mass.sum()))
    ended = mass > 0
    beyond = lower[~np.isfinite(upper)]
    if last > ROUNDING and len(beyond):
        mass, left = np.append(mass[ended], last), np.append(left[ended], beyond.max())
        return Curve(left, np.append(right[ended], np.inf), mass, "Kaplan–Meier")
    return Curve(left[ended], right[ended], mass[ended] / mass.sum(), "Kaplan–Meier")


def curve(lower: np.ndarray, upper: np.ndarray) -> Curve:
    """:func:`kaplan_meier` where the bounds are negligible against the spread of the values, else :func:`turnbull`.

    Negligible is a median width of at most 5 % of the interquartile range of the middles of the bounds of those that ended.
    """
    return kaplan_meier(lower, upper) if negligible(lower, upper) else turnbull(lower, upper)


def negligible(lower: np.ndarray, upper: np.ndarray) -> bool:
    """Whether the bounds of the durations that ended are so narrow that Kaplan–Meier serves as well as Turnbull."""
    import numpy as np

    ended = np.isfinite(upper)
    if not ended.any():
        return True
    width = float(np.median(upper[ended] - lower[ended]))
    low, high = np.quantile((lower[ended] + upper[ended]) / 2, [0.25, 0.75])
    return bool(width <= NEGLIGIBLE * (high - low))


def quantile_estimate(
    found: Durations, p: float, *, confidence: float = CONFIDENCE, resamples: int = 1000, seed: int = 1
) -> Estimate:
    """The ``p``-quantile of durations, those that were cut off or never end included, and its interval.

    ``value`` is the middle of where :func:`curve` has it. Where no machine repeats, the interval lies between two order
    statistics: of the lower bounds below and of the upper ones above, so that it holds whatever polling hides. Where machines
    repeat, it is the percentile interval of ``resamples`` draws of whole machines from ``seed``, again on the bounds.
    """
    import numpy as np

    n, censored = len(found), int((~found.ended).sum())
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0, 0, "none")
    estimated = curve(found.lower, found.upper)
    left, right = estimated.quantile(p)
    value = (left + right) / 2 if math.isfinite(right) else math.nan
    if repeated(found.machine, n):
        method = "whole machines drawn"
        low, high = _drawn_quantiles(found, p, confidence, resamples, seed)
    else:
        method = "order statistics"
        ranks = quantile_ranks(n, p, confidence)
        low, high = (np.sort(found.lower)[ranks[0] - 1], np.sort(found.upper)[ranks[1] - 1]) if ranks else (math.nan, math.nan)
    if math.isnan(value) and not math.isnan(low):
        high = math.inf
    return Estimate(value, float(low), float(high), n, censored, f"{estimated.method}, {method}")


def curve_table(
    phases: pd.DataFrame, phase: PhaseName, *, confidence: float = CONFIDENCE, resamples: int = 500, seed: int = 1
) -> pd.DataFrame:
    """The table of :func:`curve_steps` for the tries of ``phase``; see :func:`durations`."""
    return curve_steps(durations(phases, phase), confidence=confidence, resamples=resamples, seed=seed)


def curve_steps(found: Durations, *, confidence: float = CONFIDENCE, resamples: int = 500, seed: int = 1) -> pd.DataFrame:
    """The share of durations that had ended with success by each time, for drawing.

    Columns: ``time_s``, every instant at which the share can change; ``ended_low`` to ``ended_high``, the share from right after
    it to the next instant, as far as the polls tell (see :class:`Curve`); ``band_low`` to ``band_high``, its pointwise
    percentile band over ``resamples`` draws of whole machines from ``seed`` (of runs, where no machine repeats). None that
    ended: no row.
    """
    import numpy as np
    import pandas as pd

    estimated = curve(found.lower, found.upper)
    times = np.unique(np.concatenate([estimated.left, estimated.right]))
    times = times[np.isfinite(times)]
    if not found.ended.any():
        times = times[:0]
    low, high = estimated.survival(np.nextafter(times, np.inf))
    band_low, band_high = _bands(found, times, confidence, resamples, seed)
    columns = {"time_s": times, "ended_low": 1 - high, "ended_high": 1 - low, "band_low": band_low, "band_high": band_high}
    return pd.DataFrame(columns)


def plateau(found: Durations, confidence: float = CONFIDENCE) -> tuple[int, int, float, float]:
    """How many durations did not end, of how many, and the exact interval of that share, 0–1 (NaN of none).

    A share and never a time: whether what a deadline cut off would have ended later, nobody saw.
    """
    n, never = len(found), int((~found.ended).sum())
    return never, n, *proportion_interval(never, n, confidence)


def check(lower: Any, upper: Any) -> tuple[np.ndarray, np.ndarray]:
    """The bounds as arrays of float. Raises ValueError where one is missing, above its other, or has no other."""
    import numpy as np

    lower, upper = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
    if lower.shape != upper.shape or lower.ndim != 1:
        raise ValueError(f"There are {lower.size} lower and {upper.size} upper bounds; give one of each for every duration.")
    wrong = np.flatnonzero(~(lower <= upper) | (lower == -np.inf))
    if len(wrong):
        at = wrong[0]
        raise ValueError(f"Duration {at} lies between {lower[at]} and {upper[at]}; give a lower bound and one not below it.")
    return lower, upper


def _counted(lower: np.ndarray, upper: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The distinct intervals, and how often each was seen."""
    import numpy as np

    order = np.lexsort((upper, lower))
    lower, upper = lower[order], upper[order]
    new = np.flatnonzero(np.concatenate([[True], (lower[1:] != lower[:-1]) | (upper[1:] != upper[:-1])]))
    return (lower[new], upper[new]), np.diff(np.append(new, len(lower))).astype(float)


def _product_limit(lower: np.ndarray, upper: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The order of the durations and, in that order, the mass of each; of several rows of ``weights``, one row of mass each.

    Those that end at the same time come before those that were cut off then.
    """
    import numpy as np

    ended = np.isfinite(upper)
    time = np.where(ended, (lower + np.where(ended, upper, 0.0)) / 2, lower)
    order = np.lexsort((~ended, time))
    weight = np.ones(len(order)) if weights is None else weights[..., order].astype(float)
    at_risk = np.cumsum(weight[..., ::-1], axis=-1)[..., ::-1]
    hazard = np.divide(weight * ended[order], at_risk, out=np.zeros_like(weight), where=at_risk > 0)
    left = np.cumprod(1 - hazard, axis=-1)
    before = np.concatenate([np.ones_like(left[..., :1]), left[..., :-1]], axis=-1)
    return order, before * hazard


def _step(places: np.ndarray, mass: np.ndarray, p: float, side: str) -> float:
    """The smallest place with at least ``p`` of the mass up to it (``left``), or with more than ``p`` (``right``)."""
    import numpy as np

    order = np.argsort(places, kind="stable")
    sums = np.cumsum(mass[order])
    at = np.searchsorted(sums, p - ROUNDING if side == "left" else min(p + ROUNDING, sums[-1]), side="left")
    return float(places[order][min(int(at), len(order) - 1)])


def _drawn_quantiles(found: Durations, p: float, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    import numpy as np

    weights = cluster_weights(found.machine, len(found), resamples=resamples, seed=seed)
    ends = []
    for bounds, level in ((found.lower, (1 - confidence) / 2), (found.upper, (1 + confidence) / 2)):
        # A try that was cut off keeps its lower bound on both sides; one that ended moves to the side asked for.
        one = np.where(found.ended, bounds, found.lower)
        order, mass = _product_limit(one, np.where(found.ended, one, np.inf), weights)
        reached = np.cumsum(mass, axis=1) >= p - ROUNDING
        at = np.where(reached.any(axis=1), reached.argmax(axis=1), len(found))
        values = np.append(one[order], np.inf)[at]
        ends.append(float(np.quantile(values, level, method="inverted_cdf")))
    return ends[0], ends[1]


def _bands(found: Durations, times: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    if not len(times):
        return times, times
    weights = cluster_weights(found.machine, len(found), resamples=resamples, seed=seed)
    bands = []
    for bounds, level in ((found.upper, (1 - confidence) / 2), (found.lower, (1 + confidence) / 2)):
        one = np.where(found.ended, bounds, found.lower)
        order, mass = _product_limit(one, np.where(found.ended, one, np.inf), weights)
        sums = np.concatenate([np.zeros((resamples, 1)), np.cumsum(mass, axis=1)], axis=1)
        at = np.searchsorted(one[order], times, side="right")
        bands.append(np.quantile(sums[:, at], level, axis=0))
    return bands[0], bands[1]
