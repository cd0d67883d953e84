"""Shares of runs, and intervals that reckon with the likeness of runs on one machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vastbench.analysis.survival.clusters import alike, effective_n, numbered
from vastbench.analysis.survival.intervals import CONFIDENCE, proportion_interval

if TYPE_CHECKING:
    import numpy as np

Each = Literal["run", "machine"]
"""What counts once in a share: each run, or each machine, whose runs then share its weight."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share, 0–1: of ``n`` runs ``hits`` had it, and ``low`` to ``high`` is the interval of its ``value``.

    ``effective_n`` is of how many independent runs the interval is. NaN where nothing is known: the share of no run, and the
    interval of a single machine with several runs, whose ``effective_n`` is 0.
    """

    hits: int
    n: int
    value: float
    low: float
    high: float
    effective_n: float


def rate(hit: np.ndarray, machine: np.ndarray | None, confidence: float = CONFIDENCE, *, each: Each = "run") -> Rate:
    """The share of ``hit`` by the ``machine`` of each run (NaN or None: unknown, and so one of its own), and its interval.

    The interval is the exact one (Clopper and Pearson 1934) of as many runs as their effective n (Korn and Graubard 1998;
    :func:`~vastbench.analysis.survival.clusters.effective_n`), as far as the runs show how alike those on one machine are. Of k
    machines with the rarer of both outcomes, all runs but 1 ÷ (1 + k²) count like that, and of the rest every machine counts
    once: all of them where all runs agree, half of them where one machine has all that failed. The rule is ours;
    ``benchmarks/coverage.py`` shows what it holds. With each ``machine`` the ``value`` is the mean of the machines' own shares:
    what a machine drawn at random does, however often each was rented. Raises ValueError when there are not as many machines as
    runs.

    Examples
    --------
    >>> import numpy as np
    >>> passed, machine = np.array([True] * 8 + [False] * 2), np.array([1, 1, 1, 1, 2, 3, 4, 5, 6, 6])
    >>> found = rate(passed, machine)
    >>> print(found.hits, found.n, round(found.low, 2), round(found.high, 2))
    8 10 0.09 1.0
    """
    import numpy as np

    hit = np.asarray(hit, dtype=bool)
    n, labels = len(hit), numbered(machine, len(hit))
    if not n:
        return Rate(0, 0, math.nan, math.nan, math.nan, 0.0)
    sizes = np.bincount(labels)
    weight = np.full(n, 1 / n) if each == "run" else 1 / (len(sizes) * sizes[labels])
    value = float(hit.mean()) if each == "run" else float(min(1.0, weight @ hit))
    effective = effective_n(hit, machine, confidence, weight=weight).n
    if effective and len(sizes) < n:
        once = alike(labels) if each == "run" else float(len(sizes))
        met = len(np.unique(labels[hit if hit.mean() <= 0.5 else ~hit]))
        unknown = 1 / (1 + met**2)
        effective = min(effective, 1 / ((1 - unknown) / effective + unknown / once)) if met else once
        value = value if met else float(hit[0])
    low, high = proportion_interval(value * effective, effective, confidence)
    return Rate(int(hit.sum()), n, value, low, high, effective)
