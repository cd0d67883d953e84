"""Distributions of durations that are known within bounds, without assuming their shape.

One observation is an interval: the duration is above ``lower`` and at most ``upper``; exact where both are equal; still
running when last seen where ``upper`` is infinite; both infinite for one that can never end. Nothing is imputed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vastbench.analysis.survival.npmle import maximise, support

if TYPE_CHECKING:
    import numpy as np

NEGLIGIBLE = 0.05
"""Bounds with a median width of at most this part of the values' interquartile range hide nothing worth deconvolving."""

MOST_ENDS = 20_000
"""Of more durations the bounds are rounded outwards to that many instants between 0 and the latest."""

ROUNDING = 1e-7
"""Sums of mass this near to a probability are that probability."""


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
        earliest = np.where(self.left == self.right, self.left, np.nextafter(self.left, np.inf))
        least, greatest = (1 - self._up_to(t, places) for places in (earliest, self.right))
        # The two are sums of the same masses in another order, which may round them apart by as little as it likes.
        return np.clip(least, 0, 1)[()], np.clip(np.maximum(least, greatest), 0, 1)[()]

    def quantile(self, p: float) -> tuple[float, float]:
        """Between which seconds the ``p``-quantile can lie: (x, inf) when too little ended to bound it, NaN without mass.

        Where exactly ``p`` of the mass ends before a gap, the quantile is anywhere in the gap, as the median of an even number.
        """
        if not len(self.mass):
            return math.nan, math.nan
        return self._first(self.left, p - ROUNDING), self._first(self.right, p + ROUNDING)

    def middle(self, p: float) -> float:
        """The middle of where the ``p``-quantile can lie, in seconds; NaN where that has no end."""
        low, high = self.quantile(p)
        return (low + high) / 2 if math.isfinite(high) else math.nan

    def _up_to(self, t: np.ndarray, places: np.ndarray) -> Any:
        import numpy as np

        order = np.argsort(places, kind="stable")
        sums = np.concatenate([[0.0], np.cumsum(self.mass[order])])
        return sums[np.searchsorted(places[order], t, side="right")]

    def _first(self, places: np.ndarray, p: float) -> float:
        """The smallest of ``places`` with at least ``p`` of the mass up to it, else the last."""
        import numpy as np

        order = np.argsort(places, kind="stable")
        at = int(np.searchsorted(np.cumsum(self.mass[order]), p))
        return float(places[order][min(at, len(order) - 1)])


def turnbull(lower: np.ndarray, upper: np.ndarray) -> Curve:
    """The nonparametric maximum likelihood estimate of durations in (``lower``, ``upper``] (Peto 1973, Turnbull 1976).

    Converged by the Kuhn–Tucker conditions, see :mod:`vastbench.analysis.survival.npmle`. Of more than 20,000 durations the
    bounds are rounded outwards to a 20,000th of the latest, which moves no quantile by more. Raises ValueError for bounds that
    are missing or in the wrong order, and RuntimeError if the search should not end.
    """
    lower, upper = check(lower, upper)
    if not len(lower):
        return Curve(lower, lower, lower, "Turnbull")
    pairs, counts = _counted(*_coarser(_merged(lower, upper), upper))
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
        return Curve(lower, lower, lower, "Kaplan–Meier")
    order, mass = product_limit(middles(lower, upper), np.isfinite(upper))
    some = mass > 0
    left, right, mass = lower[order][some], upper[order][some], mass[some]
    rest = 1 - float(mass.sum())
    if rest > ROUNDING:
        last = _merged(lower, upper)[~np.isfinite(upper)].max()
        left, right, mass = np.append(left, last), np.append(right, np.inf), np.append(mass, rest)
    return Curve(left, right, mass / mass.sum(), "Kaplan–Meier")


def curve(lower: np.ndarray, upper: np.ndarray) -> Curve:
    """:func:`kaplan_meier` where the bounds are :func:`negligible`, else :func:`turnbull`; ``method`` says which."""
    return kaplan_meier(lower, upper) if negligible(lower, upper) else turnbull(lower, upper)


def negligible(lower: np.ndarray, upper: np.ndarray) -> bool:
    """Whether the bounds are so narrow against the spread of the values that Kaplan–Meier serves as well as Turnbull.

    That is a median width of at most 5 % of the interquartile range of the middles of those that ended.
    """
    import numpy as np

    lower, upper = check(lower, upper)
    ended = np.isfinite(upper)
    if not ended.any():
        return True
    lower, upper = lower[ended], upper[ended]
    first, third = np.quantile((lower + upper) / 2, [0.25, 0.75])
    return bool(np.median(upper - lower) <= NEGLIGIBLE * (third - first))


def middles(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The middle of the bounds of each duration that ended, and the lower bound of each that did not."""
    import numpy as np

    found: np.ndarray = np.where(np.isfinite(upper), lower / 2 + np.where(np.isfinite(upper), upper, 0.0) / 2, lower)
    return found


def product_limit(time: np.ndarray, ended: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The order of durations by ``time`` and, in that order, the mass of each, 0 for one that has not ``ended``.

    Those that end at the same time come before those that were cut off then. ``weights`` says how often each was seen, one row
    for each of several samples, and then there is one row of mass for each.
    """
    import numpy as np

    order = np.lexsort((~ended, time))
    weight = np.ones(len(order)) if weights is None else weights[..., order].astype(float)
    at_risk = np.cumsum(weight[..., ::-1], axis=-1)[..., ::-1]
    hazard = np.divide(weight * ended[order], at_risk, out=np.zeros_like(weight), where=at_risk > 0)
    left = np.cumprod(1 - hazard, axis=-1)
    before = np.concatenate([np.ones_like(left[..., :1]), left[..., :-1]], axis=-1)
    return order, before * hazard


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


def latest(lower: np.ndarray, upper: np.ndarray) -> float:
    """The last instant at which anything was seen, 0 if nothing ever was: what did not end by then ends later or never."""
    import numpy as np

    seen = np.concatenate([lower[np.isfinite(lower)], upper[np.isfinite(upper)]])
    return float(seen.max()) if len(seen) else 0.0


def _merged(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The lower bounds, where those that never end are no longer told apart from any that may yet.

    Else the estimate would make certain what was cut off last never to end, only because others never do.
    """
    import numpy as np

    never = np.isinf(lower)
    cut_off = np.isinf(upper) & ~never
    return np.where(never & cut_off.any(), latest(lower, upper), lower)


def _coarser(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bounds, of very many rounded outwards to one of ``MOST_ENDS`` instants: finer ones nobody can see."""
    import numpy as np

    if len(lower) <= MOST_ENDS:
        return lower, upper
    step = latest(lower, upper) / MOST_ENDS
    exact = lower == upper
    return np.where(exact, lower, np.floor(lower / step) * step), np.where(exact, upper, np.ceil(upper / step) * step)


def _counted(lower: np.ndarray, upper: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The distinct intervals, and how often each was seen."""
    import numpy as np

    order = np.lexsort((upper, lower))
    lower, upper = lower[order], upper[order]
    new = np.flatnonzero(np.concatenate([[True], (lower[1:] != lower[:-1]) | (upper[1:] != upper[:-1])]))
    return (lower[new], upper[new]), np.diff(np.append(new, len(lower))).astype(float)
