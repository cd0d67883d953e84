"""The band of a curve: between which shares it lies in samples like this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.survival.clusters import drawn_machines, numbered
from vastbench.analysis.survival.curves import product_limit

if TYPE_CHECKING:
    import numpy as np

    from vastbench.analysis.survival.durations import Durations

Levels = tuple[float, float]
"""The probabilities of the lower and of the upper limit."""


def bands(
    found: Durations, times: np.ndarray, *, confidence: float, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pointwise percentile band at the ascending ``times`` of the share that has ended, 0–1.

    Whole machines are drawn ``resamples`` times from ``seed``, and the curve of each draw is that of its lower bounds and that
    of its upper ones: the band reaches from the lowest to the highest, so that it holds whatever the polls hide. Where no
    machine repeats and none was cut off early, the share of a draw is binomial, and the band is that of infinitely many draws.
    """
    import numpy as np

    if not len(times):
        return times, times
    labels, levels = numbered(found.machine, len(found)), ((1 - confidence) / 2, (1 + confidence) / 2)
    limits = []
    for bounds in (found.lower, found.upper):
        ends = np.where(found.ended, bounds, found.lower)
        plain = ends[~found.ended].min(initial=np.inf) >= ends[found.ended].max(initial=0.0)
        limits.append((_counted if plain else _estimated)(ends, found.ended, labels, times, levels, resamples, seed))
    return np.minimum(limits[0][0], limits[1][0]), np.maximum(limits[0][1], limits[1][1])


def _counted(
    ends: np.ndarray, ended: np.ndarray, labels: np.ndarray, times: np.ndarray, levels: Levels, resamples: int, seed: int
) -> np.ndarray:
    """Of shares that are plain counts: what had ended on each machine by each time, over the runs of the machines drawn."""
    import numpy as np
    from scipy.stats import binom

    n, machines, many = len(ends), int(labels.max()) + 1, len(times)
    place = np.searchsorted(times, ends[ended], side="left")
    if machines == n:
        shares = np.cumsum(np.bincount(place, minlength=many + 1)[:many]) / n
        limits: np.ndarray = np.stack([binom.ppf(level, n, shares) / n for level in levels])
        return limits
    cells = np.bincount(labels[ended] * (many + 1) + place, minlength=machines * (many + 1)).reshape(machines, -1)
    by_time = np.cumsum(cells[:, :many], axis=1, dtype=float)
    sizes = np.bincount(labels).astype(float)
    batches = drawn_machines(machines, machines + many, resamples, seed)
    return _quantiles([weights @ by_time / (weights @ sizes)[:, None] for weights in batches], levels)


def _estimated(
    ends: np.ndarray, ended: np.ndarray, labels: np.ndarray, times: np.ndarray, levels: Levels, resamples: int, seed: int
) -> np.ndarray:
    """Of shares that Kaplan and Meier's estimate must tell, because some were cut off while others were still to end."""
    import numpy as np

    at = np.searchsorted(np.sort(ends), times, side="right")
    shares = []
    for weights in drawn_machines(int(labels.max()) + 1, len(ends), resamples, seed):
        _, mass = product_limit(ends, ended, weights[:, labels])
        sums = np.cumsum(mass, axis=1)
        shares.append(np.where(at > 0, sums[:, at - 1], 0.0))
    return _quantiles(shares, levels)


def _quantiles(batches: list[np.ndarray], levels: Levels) -> np.ndarray:
    import numpy as np

    limits: np.ndarray = np.quantile(np.concatenate(batches), levels, axis=0)
    return limits
