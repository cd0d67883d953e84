"""The band of a curve: between which shares it lies in samples like this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.clusters import drawn_machines, numbered
from vastbench.analysis.curves import product_limit

if TYPE_CHECKING:
    import numpy as np

    from vastbench.analysis.censored import Durations


def bands(
    found: Durations, times: np.ndarray, *, confidence: float, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pointwise percentile band at the ascending ``times`` of the share that has ended, 0–1.

    Whole machines are drawn ``resamples`` times from ``seed``. Below, each draw counts what had ended by its upper bound, above
    by its lower one, so that the band holds whatever the polls hide. Where no machine repeats and none was cut off early, the
    share of a draw is binomial, and the band is that of infinitely many draws.
    """
    import numpy as np

    if not len(times):
        return times, times
    labels = numbered(found.machine, len(found))
    both = []
    for bounds, level in ((found.upper, (1 - confidence) / 2), (found.lower, (1 + confidence) / 2)):
        ends = np.where(found.ended, bounds, found.lower)
        if np.isinf(found.upper).all() or ends[~found.ended].min(initial=np.inf) >= ends[found.ended].max():
            both.append(_counted(ends, found.ended, labels, times, level, resamples, seed))
        else:
            both.append(_estimated(ends, found.ended, labels, times, level, resamples, seed))
    return both[0], both[1]


def _counted(
    ends: np.ndarray, ended: np.ndarray, labels: np.ndarray, times: np.ndarray, level: float, resamples: int, seed: int
) -> np.ndarray:
    """Of shares that are plain counts: what had ended on each machine by each time, over the runs of the machines drawn."""
    import numpy as np
    from scipy.stats import binom

    n, machines, many = len(ends), int(labels.max()) + 1, len(times)
    place = np.searchsorted(times, ends[ended], side="left")
    if machines == n:
        shares = np.cumsum(np.bincount(place, minlength=many + 1)[:many]) / n
        limit: np.ndarray = binom.ppf(level, n, shares) / n
        return limit
    cells = np.bincount(labels[ended] * (many + 1) + place, minlength=machines * (many + 1)).reshape(machines, -1)
    by_time = np.cumsum(cells[:, :many], axis=1, dtype=float)
    sizes = np.bincount(labels).astype(float)
    batches = drawn_machines(machines, machines + many, resamples, seed)
    return _quantile([weights @ by_time / (weights @ sizes)[:, None] for weights in batches], level)


def _estimated(
    ends: np.ndarray, ended: np.ndarray, labels: np.ndarray, times: np.ndarray, level: float, resamples: int, seed: int
) -> np.ndarray:
    """Of shares that Kaplan and Meier's estimate must tell, because some were cut off while others were still to end."""
    import numpy as np

    at = np.searchsorted(np.sort(ends), times, side="right")
    shares = []
    for weights in drawn_machines(int(labels.max()) + 1, len(ends), resamples, seed):
        _, mass = product_limit(ends, ended, weights[:, labels])
        sums = np.cumsum(mass, axis=1)
        shares.append(np.where(at > 0, sums[:, at - 1], 0.0))
    return _quantile(shares, level)


def _quantile(batches: list[np.ndarray], level: float) -> np.ndarray:
    import numpy as np

    limit: np.ndarray = np.quantile(np.concatenate(batches), level, axis=0)
    return limit
