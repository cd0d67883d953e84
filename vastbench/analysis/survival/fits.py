"""Parametric distributions of durations that are known within bounds, by maximum likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import numpy as np

Family = Literal["lognormal", "weibull"]

FEWEST = 3
"""Fewer values that ended than this have no two parameters worth naming."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted family. ``params``: ``mu`` and ``sigma`` of the logarithm of seconds (lognormal), or ``scale`` in seconds and
    ``shape`` (weibull). ``loglik`` is comparable between families fitted to the same values, ``n`` how many these were.
    """

    family: Family
    params: dict[str, float]
    loglik: float
    n: int

    @property
    def median_s(self) -> float:
        """The fitted median, in seconds."""
        return self.quantile(0.5)

    def quantile(self, p: float) -> float:
        """The fitted ``p``-quantile, in seconds."""
        return float(self._frozen().ppf(p))

    def ended(self, t: Any) -> Any:
        """The fitted share that has ended by ``t`` seconds, 0–1; of an array, one share each."""
        return self._frozen().cdf(t)

    def _frozen(self) -> Any:
        from scipy import stats

        if self.family == "lognormal":
            return stats.lognorm(self.params["sigma"], scale=math.exp(self.params["mu"]))
        return stats.weibull_min(self.params["shape"], scale=self.params["scale"])


def fit(lower: np.ndarray, upper: np.ndarray, family: Family = "lognormal") -> Fit | None:
    """``family`` fitted to durations in (``lower``, ``upper``] seconds: exact where equal, cut off where upper is infinite.

    Values that never end (both infinite) are left out: a family describes those that can. The likelihood is that of
    scipy.stats.CensoredData. None when fewer than 3 values ended, when all that did could be equal, so that no spread is the
    likeliest one, or when the search for the maximum finds none. Raises ValueError for another family.
    """
    import numpy as np
    from scipy import stats

    if family not in get_args(Family):
        raise ValueError(f"There is no family {family!r}; choose one of {', '.join(get_args(Family))}.")
    lower, upper = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
    can_end = np.isfinite(lower)
    lower, upper = lower[can_end], upper[can_end]
    ended = np.isfinite(upper)
    if ended.sum() < FEWEST or lower[ended].max() <= upper[ended].min() or upper[ended].min() <= 0:
        return None
    exact, left = lower == upper, ended & (lower <= 0)
    between = ended & ~exact & ~left
    data = stats.CensoredData(
        uncensored=lower[exact],
        left=upper[left],
        interval=np.column_stack([lower[between], upper[between]]),
        right=lower[~ended & (lower > 0)],
    )
    known = stats.lognorm if family == "lognormal" else stats.weibull_min
    try:
        with np.errstate(all="ignore"):
            shape, _, scale = known.fit(data, floc=0)
            frozen = known(shape, scale=scale)
            loglik = float(
                frozen.logpdf(lower[exact]).sum()
                + frozen.logcdf(upper[left]).sum()
                + np.log(frozen.cdf(upper[between]) - frozen.cdf(lower[between])).sum()
                + frozen.logsf(lower[~ended]).sum()
            )
    except (stats.FitError, ValueError):
        return None
    if not all(math.isfinite(value) and value > 0 for value in (shape, scale)) or not math.isfinite(loglik):
        return None
    params = {"mu": math.log(scale), "sigma": shape} if family == "lognormal" else {"scale": scale, "shape": shape}
    return Fit(family, {name: float(value) for name, value in params.items()}, loglik, len(lower))
