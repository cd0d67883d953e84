"""The maximum likelihood estimate of a distribution of which each draw is known only within an interval.

Peto (1973) and Turnbull (1976): the estimate puts its mass on the *innermost* intervals alone, those that begin with some
observation's left end and end with some observation's right end with no other end between. How the mass lies within such an
interval the data do not say. The maximum is found by the hybrid of Wellner and Zhan (1997): expectation–maximisation steps
in turn with steps of the iterative convex minorant. It has been reached when the Kuhn–Tucker conditions hold (Gentleman and
Geyer 1994): no interval's gradient is above the number of observations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

TOLERANCE = 1e-10
"""By how much the greatest gradient per observation may exceed 1: the log-likelihood is then within n × this of its maximum."""

MOST_STEPS = 5000
"""More rounds than any sample has needed by far; beyond them ``converged`` says no."""

HALVINGS = 6
"""How often a step that overshoots is halved before it is given up."""


@dataclass(frozen=True, slots=True)
class Support:
    """The innermost intervals (``left``, ``right``], exact where both are equal, in ascending order and disjoint.

    Observation i may lie in those from ``first[i]`` to ``last[i]``, both included, and in no other.
    """

    left: np.ndarray
    right: np.ndarray
    first: np.ndarray
    last: np.ndarray


@dataclass(frozen=True, slots=True)
class Solution:
    """The mass of each innermost interval, the log-likelihood, and how far the Kuhn–Tucker conditions are from being met.

    ``excess`` is the greatest gradient per observation less 1; it is at most ``TOLERANCE`` where ``converged``.
    """

    mass: np.ndarray
    loglik: float
    excess: float
    steps: int

    @property
    def converged(self) -> bool:
        """Whether the Kuhn–Tucker conditions hold within ``TOLERANCE``."""
        return self.excess <= TOLERANCE


def support(lower: np.ndarray, upper: np.ndarray) -> Support:
    """The innermost intervals of observations in (``lower``, ``upper``], exact where both are equal; infinity is a value."""
    import numpy as np

    values, ranks = np.unique(np.concatenate([lower, upper]), return_inverse=True)
    below, at = ranks[: len(lower)], ranks[len(lower) :]
    # Even places are the values themselves, odd ones the gaps after them, so that open and closed ends cannot be confused.
    starts = np.where(below == at, 2 * at, 2 * below + 1)
    ends = 2 * at
    opens = np.zeros(2 * len(values), dtype=bool)
    closes = np.zeros(2 * len(values), dtype=bool)
    opens[starts] = True
    closes[ends] = True
    places = np.flatnonzero(opens | closes)
    latest = np.maximum.accumulate(np.where(opens[places], places, -1))
    # An end closes an innermost interval when no other end has come since the latest beginning.
    ended = np.cumsum(closes[places]) - closes[places]
    at_latest = np.searchsorted(places, latest)
    innermost = closes[places] & (latest >= 0) & (ended == ended[np.maximum(at_latest, 0)])
    right, left = places[innermost], latest[innermost]
    return Support(
        values[left // 2],
        values[right // 2],
        np.searchsorted(left, starts, side="left"),
        np.searchsorted(right, ends, side="right") - 1,
    )


def maximise(cells: Support, weights: np.ndarray) -> Solution:
    """The mass on ``cells`` under which observations that were each seen ``weights`` times (all above 0) are most likely."""
    import numpy as np

    many, n = len(cells.left), float(weights.sum())
    if many == 1:
        return Solution(np.ones(1), 0.0, 0.0, 0)
    ends = np.bincount(np.concatenate([cells.first, cells.last]), np.concatenate([weights, weights]), many) / (2 * n)
    # A mass of 0 would hide from the expectation step what the gradient says of it, so that every interval begins with some.
    mass = _expectation_step((ends + 1 / many) / 2, weights, cells)
    steps = 0
    while True:
        chances = _chances(mass, cells)
        excess = float(_gradient(weights / chances, cells).max()) / n - 1
        if excess <= TOLERANCE or steps == MOST_STEPS:
            return Solution(mass, _loglik(weights, chances), excess, steps)
        steps += 1
        # The expectation step comes last: of exact values it gives the estimate to the last digit, which the sums of the other
        # would blur beyond the tolerance where there are tens of thousands of them.
        mass = _expectation_step(_minorant_step(mass, weights, cells), weights, cells)


def _expectation_step(mass: np.ndarray, weights: np.ndarray, cells: Support) -> np.ndarray:
    """The mass after one step of expectation and maximisation."""
    found = mass * _gradient(weights / _chances(mass, cells), cells)
    share: np.ndarray = found / found.sum()
    return share


def _loglik(weights: np.ndarray, chances: np.ndarray) -> float:
    import numpy as np

    # Not a dot product: a library that spreads it over threads waits for them longer than one processor takes for it.
    return float((weights * np.log(chances)).sum())


def _chances(mass: np.ndarray, cells: Support) -> np.ndarray:
    """The probability of each observation."""
    import numpy as np

    total = np.concatenate([[0.0], np.cumsum(mass)])
    # A difference of sums loses the small mass of an interval that an observation has to itself, so that is read directly.
    found: np.ndarray = np.where(cells.first == cells.last, mass[cells.first], total[cells.last + 1] - total[cells.first])
    return found


def _gradient(each: np.ndarray, cells: Support) -> np.ndarray:
    """What each innermost interval gains from the observations that it may hold."""
    import numpy as np

    many = len(cells.left)
    change = np.bincount(cells.first, each, many + 1) - np.bincount(cells.last + 1, each, many + 1)
    found: np.ndarray = np.cumsum(change)[:many]
    return found


def _minorant_step(mass: np.ndarray, weights: np.ndarray, cells: Support) -> np.ndarray:
    """The mass after one Newton step with a diagonal curvature in the cumulative masses, kept ascending; never less likely."""
    import numpy as np
    from scipy.optimize import isotonic_regression

    inner = len(mass) - 1
    chances = _chances(mass, cells)
    once, twice = weights / chances, weights / chances**2
    up, down = cells.last < inner, cells.first > 0
    above, below = cells.last[up], cells.first[down] - 1
    slope = np.bincount(above, once[up], inner) - np.bincount(below, once[down], inner)
    curvature = np.bincount(above, twice[up], inner) + np.bincount(below, twice[down], inner)
    aim = np.clip(isotonic_regression(np.cumsum(mass)[:-1] + slope / curvature, weights=curvature).x, 0.0, 1.0)
    direction = np.diff(aim, prepend=0.0, append=1.0) - mass
    best, step = _loglik(weights, chances), 1.0
    for _ in range(HALVINGS):
        tried: np.ndarray = np.maximum(mass + step * direction, 0.0)
        chances = _chances(tried, cells)
        if chances.min() > 0 and _loglik(weights, chances) > best:
            return tried
        step /= 2
    return mass
