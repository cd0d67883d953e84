"""Is it longer in one group than in another? Scores of durations known within bounds, tests upon them, and P(A < B).

A score is a duration's place in the pooled sample: its rank, or the log-rank score of Sun (1996) for what is known within
bounds or was cut off. Under the hypothesis that the groups do not differ, any of the runs could have been in either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vastbench.analysis.survival.clusters import numbered, repeated
from vastbench.analysis.survival.curves import Curve, latest, middles, negligible, turnbull
from vastbench.analysis.survival.intervals import CONFIDENCE, proportion_interval

if TYPE_CHECKING:
    import numpy as np

    from vastbench.analysis.survival.durations import Durations

MOST_SPLITS = 200_000
"""As many ways to split the runs into the two groups are gone through one by one; beyond them a formula serves."""

LEAST_MACHINES = 1.5
"""With fewer machines of equal size the variance between them is not known."""

MOST_PAIRS = 10_000
"""Up to this many pairs of values the distribution of Mann and Whitney's statistic is computed, not approximated."""


@dataclass(frozen=True, slots=True)
class Test:
    """The two-sided ``p_value`` of the test that ``name`` says; NaN where nothing can be tested.

    ``statistic``: U, z or χ². ``least``: below what the p-value of an exact test cannot be with as many runs; else NaN.
    """

    name: str
    p_value: float
    statistic: float = math.nan
    least: float = math.nan


@dataclass(frozen=True, slots=True)
class Chance:
    """The probability that a run of A takes less time than one of B, equal ones counted half, and its interval, each 0–1."""

    value: float
    low: float
    high: float


def sun_scores(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The log-rank score of each duration in (``lower``, ``upper``], by Sun (1996) from Turnbull's estimate of them all.

    The score of a group, their sum, is its observed less its expected number of ends: positive where they come early (Fay and
    Shaw, Journal of Statistical Software 36 (2), 2010, §2). Durations that never end count as cut off after all others.
    """
    import numpy as np

    never = np.isinf(lower)
    lower = np.where(never, latest(lower, upper), lower)
    pooled = turnbull(lower, upper)
    left = np.concatenate([[1.0], np.clip(1 - np.cumsum(pooled.mass), 0.0, 1.0)])
    left[-1] = 0.0
    hazard = np.divide(pooled.mass, left[:-1], out=np.zeros_like(pooled.mass), where=left[:-1] > 0)
    log = -np.concatenate([[0.0], np.cumsum(hazard)])
    before, after = _cells(pooled, lower, upper)
    scores: np.ndarray = (left[before] * log[before] - left[after] * log[after]) / (left[before] - left[after])
    return scores


def difference(a: Durations, b: Durations) -> Test:
    """The test of whether the durations of ``a`` and ``b`` differ that fits what is known of them.

    All ended and known well enough to be ordered: Mann and Whitney's, exact where there are no ties or few runs. Some cut off:
    the log-rank test. Known within wide bounds: the log-rank test with the scores of Sun (1996) in its permutation form. Few
    runs: that test over every split of them into the two groups, and then the p-value cannot be below what their number allows.
    Repeats on a machine: the same scores, whose variance is that between machines (t-test by Welch's degrees of freedom).
    NaN where a group is empty or nothing ended.
    """
    import numpy as np

    lower, upper = (np.concatenate([getattr(a, side), getattr(b, side)]) for side in ("lower", "upper"))
    in_b = np.arange(len(lower)) >= len(a)
    if not len(a) or not len(b) or not np.isfinite(upper).any():
        return Test("none", math.nan)
    ended, wide = np.isfinite(upper), not negligible(lower, upper)
    times = middles(lower, upper)
    if wide:
        name, scores = "log-rank on intervals", sun_scores(lower, upper)
    elif ended.all():
        from scipy.stats import rankdata

        name, scores = "Mann–Whitney", -rankdata(times)
    else:
        name, scores = "log-rank", sun_scores(times, np.where(ended, times, np.inf))
    machines = together(a, b)
    if repeated(machines):
        return _between_machines(f"{name}, by machine", scores, in_b, machines)
    if ended.all() and not wide and len(np.unique(times)) == len(times) and len(a) * len(b) <= MOST_PAIRS:
        from scipy.stats import mannwhitneyu

        found = mannwhitneyu(times[~in_b], times[in_b], method="exact")
        return Test(f"{name}, exact", float(found.pvalue), float(found.statistic), 2 / math.comb(len(scores), len(b)))
    if math.comb(len(scores), len(b)) <= MOST_SPLITS:
        return _all_splits(f"{name}, exact", scores, in_b)
    if name == "log-rank":
        return _log_rank(times, ended, in_b)
    return _permutation(name, scores, in_b)


def chance(a: Durations, b: Durations, confidence: float = CONFIDENCE) -> Chance:
    """The probability that a duration drawn from ``a`` is below one drawn from ``b``.

    From the estimates of both distributions (Efron 1967 for what was cut off): mass whose order the bounds or the deadlines
    hide counts half, as ties do. The interval is that of Brunner and Munzel (2000) on the log odds, with the variance between
    machines where they repeat. Where no pair is in the other order, min(n) disjoint pairs were all so, and the exact interval
    of that proportion is given. NaN where a group is empty or nothing ended.
    """
    import numpy as np

    if not len(a) or not len(b) or not (a.ended.any() or b.ended.any()):
        return Chance(math.nan, math.nan, math.nan)
    a, b = _orderable(a, b)
    of_a, of_b = turnbull(a.lower, a.upper), turnbull(b.lower, b.upper)
    place_a, place_b = _placements(a, of_a, of_b), 1 - _placements(b, of_b, of_a)
    # Sums of the same masses in another order; what is certain must come out as certain.
    value = round(float((place_a.mean() + place_b.mean()) / 2), 12)
    machines = together(a, b)
    # The chance is the mean of both, so that its error is the difference of one and the negative of the other.
    spread = Spread.of(place_a, -place_b, machines[: len(a)], machines[len(a) :])
    if spread is None:
        return Chance(value, math.nan, math.nan)
    if value in (0.0, 1.0) or not spread.variance > 0:
        pairs = min(len(np.unique(part)) for part in (machines[: len(a)], machines[len(a) :]))
        low, high = proportion_interval(round(value * pairs), pairs, confidence)
        return Chance(value, min(low, value), max(high, value))
    from scipy.special import expit, logit
    from scipy.stats import t

    half = float(t.ppf((1 + confidence) / 2, spread.freedom)) * math.sqrt(spread.variance) / (value * (1 - value))
    return Chance(value, float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def holm(p_values: np.ndarray) -> np.ndarray:
    """The p-values adjusted for their number by Holm (1979); missing ones do not count and stay missing."""
    import numpy as np

    p_values = np.asarray(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    adjusted = np.full(len(p_values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


def together(a: Durations, b: Durations) -> np.ndarray:
    """The machine of each duration of both as a number from 0 on; one that is not known is a machine of its own."""
    import numpy as np

    named = [np.full(len(group), np.nan) if group.machine is None else group.machine for group in (a, b)]
    return numbered(np.concatenate(named), len(a) + len(b))


def _all_splits(name: str, scores: np.ndarray, in_b: np.ndarray) -> Test:
    """The share of all ways to choose as many runs as are in B whose sum of scores is as far from its mean as that of B."""
    import numpy as np

    centred = scores - scores.mean()
    # The smaller group tells as much as the larger one, since all scores together are 0.
    chosen = in_b if in_b.sum() * 2 <= len(in_b) else ~in_b
    sums, many = np.zeros((1, int(chosen.sum()) + 1)), int(chosen.sum())
    found: list[list[np.ndarray]] = [[np.zeros(1)]] + [[np.zeros(0)] for _ in range(many)]
    for score in centred:
        for size in range(many, 0, -1):
            found[size] = [np.concatenate([*found[size], *(part + score for part in found[size - 1])])]
    sums = np.abs(found[many][0])
    seen, rounding = abs(float(centred[chosen].sum())), 1e-9 * max(1.0, float(np.abs(centred).max()))
    p_value, least = (float((sums >= far - rounding).mean()) for far in (seen, float(sums.max())))
    return Test(name, p_value, least=least)


def _permutation(name: str, scores: np.ndarray, in_b: np.ndarray) -> Test:
    import numpy as np
    from scipy.stats import norm

    n, centred = len(scores), scores - scores.mean()
    share = in_b.mean()
    variance = float(centred @ centred) * n / (n - 1) * share * (1 - share)
    if not variance > 0:
        return Test(name, 1.0, 0.0)
    z = float(centred[in_b].sum()) / math.sqrt(variance)
    return Test(name, float(2 * norm.sf(np.abs(z))), z)


def _log_rank(times: np.ndarray, ended: np.ndarray, in_b: np.ndarray) -> Test:
    import numpy as np
    from scipy.stats import CensoredData, logrank

    times = np.where(np.isinf(times), times[np.isfinite(times)].max(), times)
    a, b = (CensoredData(times[group & ended], right=times[group & ~ended]) for group in (~in_b, in_b))
    found = logrank(a, b)
    return Test("log-rank", float(found.pvalue), float(found.statistic) ** 2)


@dataclass(frozen=True, slots=True)
class Spread:
    """The ``variance`` of a difference of two means, its degrees of ``freedom``, and the ``correlation`` of the two."""

    variance: float
    freedom: float
    correlation: float

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray, machine_a: np.ndarray, machine_b: np.ndarray) -> Spread | None:
        """Of values of which those on one machine are not independent; None where a group has a single machine.

        Each group's variance is that of its sums by machine. Machines with unequal numbers of values count as n² ÷ Σ size²
        equal ones, as in :func:`~vastbench.analysis.survival.clusters.effective_n`. Where machines are in both groups, the
        groups vary together, and the degrees of freedom are those of the group that has fewer; else they are Welch's.
        """
        import numpy as np

        machines = 1 + int(max(machine_a.max(), machine_b.max()))
        sums, variances, freedoms = [], [], []
        for values, machine in ((a, machine_a), (b, machine_b)):
            sizes, n = np.bincount(machine, minlength=machines), len(values)
            alike, many = n * n / float(sizes @ sizes), int((sizes > 0).sum())
            if alike < LEAST_MACHINES:
                return None
            scale = math.sqrt(many / (many - 1)) / n
            sums.append(np.bincount(machine, values - values.mean(), machines) * scale)
            variances.append(float(sums[-1] @ sums[-1]))
            freedoms.append(alike - 1)
        together = float(sums[0] @ sums[1])
        apart = not np.intersect1d(machine_a, machine_b).size
        divisor = sum(part**2 / freedom for part, freedom in zip(variances, freedoms, strict=True))
        welch = sum(variances) ** 2 / divisor if divisor > 0 else 1.0
        product = math.sqrt(variances[0] * variances[1])
        return cls(
            max(0.0, sum(variances) - 2 * together),
            welch if apart else min(freedoms),
            min(1.0, max(-1.0, together / product)) if product > 0 else 0.0,
        )


def _between_machines(name: str, scores: np.ndarray, in_b: np.ndarray, machines: np.ndarray) -> Test:
    import numpy as np
    from scipy.stats import t

    spread = Spread.of(scores[~in_b], scores[in_b], machines[~in_b], machines[in_b])
    if spread is None:
        return Test("none: one machine decides a group", math.nan)
    apart = float(scores[in_b].mean() - scores[~in_b].mean())
    if not spread.variance > 0:
        return Test(name, 1.0, 0.0) if apart == 0 else Test("none: no spread between machines", math.nan)
    z = apart / math.sqrt(spread.variance)
    return Test(name, float(2 * t.sf(np.abs(z), spread.freedom)), z)


def _orderable(a: Durations, b: Durations) -> tuple[Durations, Durations]:
    """Both groups as exact times where bounds hide next to nothing, and those that never end as cut off last where any were."""
    import numpy as np

    lower, upper = (np.concatenate([getattr(a, side), getattr(b, side)]) for side in ("lower", "upper"))
    ended, never = np.isfinite(upper), np.isinf(lower)
    if negligible(lower, upper):
        times = middles(lower, upper)
        lower, upper = times, np.where(ended, times, np.inf)
    if (~ended & ~never).any():
        lower = np.where(never, latest(lower, upper), lower)
    return replace(a, lower=lower[: len(a)], upper=upper[: len(a)]), replace(b, lower=lower[len(a) :], upper=upper[len(a) :])


def _cells(of: Curve, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of the curve's cells in which each duration may lie, and the one after the last."""
    import numpy as np

    first = np.where(lower == upper, np.searchsorted(of.right, lower, "left"), np.searchsorted(of.right, lower, "right"))
    return first, np.searchsorted(of.right, upper, "right")


def _placements(group: Durations, own: Curve, other: Curve) -> np.ndarray:
    """The probability of each duration to be below one of the ``other`` group, given what is known of it.

    A duration may lie in the cells of its ``own`` group's curve that meet its bounds, by their mass.
    """
    import numpy as np

    first, after = _cells(own, group.lower, group.upper)
    mass, below = (np.concatenate([[0.0], np.cumsum(part)]) for part in (own.mass, own.mass * _below(own, other)))
    found: np.ndarray = (below[after] - below[first]) / (mass[after] - mass[first])
    return found.clip(0.0, 1.0)


def _below(own: Curve, other: Curve) -> np.ndarray:
    """For each cell of ``own`` the share of ``other`` that lies above it, plus half of what may be on either side."""
    import numpy as np

    mass = np.concatenate([[0.0], np.cumsum(other.mass)])
    above = mass[-1] - mass[np.searchsorted(other.left, own.right, "left")]
    under = mass[np.searchsorted(other.right, own.left, "right")]
    # What is exact and equal is in both, and so counts half as well.
    share: np.ndarray = above + (1 - above - under) / 2
    return share
