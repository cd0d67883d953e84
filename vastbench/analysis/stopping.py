"""When a study has measured enough: intervals of a quantile that hold however often one looks, and the rule that stops on them.

An interval made for a fixed number of runs errs far more often than it says when one looks after every run and stops as soon
as it pleases. :func:`quantile_sequence` holds at all times at once. Of n independent runs the number that lies below the
p-quantile is binomial; the ratio of its beta-binomial mixture to the binomial is a martingale that starts at 1, so that it ever
reaches 1/α with a probability of at most α (Ville's inequality; Robbins, Ann. Math. Stat. 41, 1970, 1397). The counts at which
it is below 1/α, read as ranks of the ordered sample, are the interval (Howard & Ramdas, Bernoulli 28, 2022, 1704). It holds for
every distribution, also with ties.

Runs on one machine are not independent, and no such guarantee exists for them: they enter with their effective n,
as in every interval of vastbench. ``benchmarks/coverage.py`` counts how often that errs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from vastbench.analysis.attempts import KIND, attempted, of_one_kind
from vastbench.analysis.durations import durations
from vastbench.analysis.frames import phases_table
from vastbench.analysis.survival.clusters import effective_n
from vastbench.analysis.survival.curves import check
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.intervals import CONFIDENCE
from vastbench.record.numbers import quotient
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.stopping import USEFUL, StoppingRule

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from vastbench.record.run import Run

USED = [*KIND, "run", "started_at", "run_outcome", "cause", "ready", "phase", "final", "outcome", "machine", "seconds"]
USED += ["lower_s", "upper_s", "end_lower_s", "end_upper_s"]
"""The columns of the tidy frame that :func:`observations` needs: sorting all would take most of its time."""

MIXING = 4.0
"""The weight of the mixture's prior, Beta(4p, 4(1 − p)): from 20 to 400 runs no other brings a rank more than two closer."""


def quantile_sequence(
    lower: np.ndarray,
    upper: np.ndarray,
    p: float = 0.5,
    confidence: float = CONFIDENCE,
    *,
    machine: np.ndarray | None = None,
) -> tuple[float, float]:
    """The interval of the ``p``-quantile that holds after every run at once, in the unit of the values.

    An observation lies somewhere from ``lower`` to ``upper``, which are equal where it is exact; an infinite ``upper`` says
    that it had not happened by ``lower``, two infinities that it never will. An end that lies beyond the sample is −inf or inf:
    at 95 % the median has both from 9 observations on. Where no ``machine`` (NaN: unknown) repeats, the interval misses the
    quantile at any size of the sample with a probability of at most 1 − ``confidence``; where some do, that is approximate.
    Raises ValueError for a ``p`` or ``confidence`` that is not between 0 and 1, and for missing or disordered bounds.
    """
    import numpy as np

    lower, upper = check(lower, upper)
    few, many = ranks(len(upper), p, confidence, effective_n_at(upper, machine, p, confidence))
    low, high = np.sort(lower), np.sort(upper)
    return (float(low[few - 1]) if few else -math.inf, float(high[many]) if many < high.size else math.inf)


@lru_cache(maxsize=16_384)
def ranks(n: int, p: float, confidence: float = CONFIDENCE, effective: float | None = None) -> tuple[int, int]:
    """The least and the greatest number of ``n`` values at or below the ``p``-quantile that the sequence allows.

    ``effective``: their effective n, which need not be a whole number; ``n`` if unset. Raises ValueError when ``p`` or
    ``confidence`` is not between 0 and 1.
    """
    if not (0 < p < 1 and 0 < confidence < 1):
        raise ValueError(f"not between 0 and 1: p = {p}, confidence = {confidence}")
    import numpy as np
    from scipy.special import betaln

    size = n if effective is None else effective
    below = np.linspace(0, size, n + 1)
    a, b = MIXING * p, MIXING * (1 - p)
    mixture = betaln(a + below, b + size - below) - betaln(a, b)
    allowed = np.flatnonzero(mixture - below * math.log(p) - (size - below) * math.log1p(-p) < -math.log1p(-confidence))
    return int(allowed[0]), int(allowed[-1])


def effective_n_at(upper: np.ndarray, machine: np.ndarray | None, p: float, confidence: float = CONFIDENCE) -> float:
    """How many independent runs tell as much of the ``p``-quantile as these, of which several may be of one machine.

    The :func:`~vastbench.analysis.survival.clusters.effective_n` of the share that ended by the sample's quantile.
    """
    import numpy as np

    quantile = np.sort(upper)[math.ceil(p * len(upper)) - 1] if len(upper) else math.nan
    return effective_n(np.isfinite(upper) & (upper <= quantile), machine, confidence).n


def relative_width(low: float, high: float) -> float:
    """The width of an interval as a share of its middle: 0.15 for ± 7.5 %.

    Infinite where an end is open or the middle is not positive.
    """
    middle = (low + high) / 2
    width = quotient(high - low, middle) if math.isfinite(high) and math.isfinite(low) and middle > 0 else math.nan
    return math.inf if math.isnan(width) else width


def observations(phases: pd.DataFrame, quantity: str = USEFUL, *, waited: bool = False) -> Durations:
    """What the attempted runs of the tidy frame ``phases`` say of ``quantity``, in the order in which they began.

    ``quantity`` is a phase (see :func:`~vastbench.analysis.durations.durations`), or ``time to ready``, of which every run
    speaks: one that passed lies between its bounds, one that a deadline cut off was longer than it waited, and one that failed
    never came, also when it failed after its first command. With ``waited`` those that came are what the user waited, exactly:
    until the poll or the answer that showed it.
    """
    rows = of_one_kind(phases)[USED]
    rows = rows[rows["final"] if quantity == USEFUL else rows["phase"] == quantity]
    ordered = rows.sort_values(["started_at", "run"], kind="stable")
    if quantity != USEFUL:
        return durations(ordered, quantity, waited=waited)
    found = _until_useful(ordered)
    return found.latest if waited else found  # a run's start is known exactly


def _until_useful(phases: pd.DataFrame) -> Durations:
    import numpy as np

    rows = attempted(phases)
    rows = rows[rows["final"]]
    runs = rows[rows["phase"] == PhaseName.TOTAL].set_index("run")
    seen = rows[rows["phase"] == rows["ready"]].set_index("run").reindex(runs.index)
    waited = rows[rows["outcome"] == Outcome.CENSORED].groupby("run")["end_lower_s"].max().reindex(runs.index).fillna(0.0)
    came = (runs["run_outcome"] == Outcome.PASSED) & seen["end_upper_s"].notna()
    beyond = np.where(runs["run_outcome"] == Outcome.CENSORED, waited, np.inf)
    return Durations(
        np.where(came, seen["end_lower_s"], beyond),
        np.where(came, seen["end_upper_s"], np.inf),
        runs["machine"].to_numpy(dtype=float, na_value=np.nan),
    )


def joined(one: Durations, other: Durations) -> Durations:
    """The observations of both, ``other`` after ``one``."""
    import numpy as np

    def machines(found: Durations) -> np.ndarray:
        return np.full(len(found), np.nan) if found.machine is None else found.machine

    pairs = ((one.lower, other.lower), (one.upper, other.upper), (machines(one), machines(other)))
    return Durations(*(np.concatenate(pair) for pair in pairs))


def interval(rule: StoppingRule, seen: Durations) -> tuple[float, float]:
    """The interval of the rule's quantile, valid at any time, in seconds; an open end is infinite."""
    return quantile_sequence(seen.lower, seen.upper, rule.quantile, rule.confidence, machine=seen.machine)


class StoppingMonitor:
    """What a stopping rule sees of a study under way: runs in the order of their beginning, up to the first that has not ended.

    Runs that end early would otherwise be seen before those that take long, and the quantile would look small. ``width``: of
    the interval at the last look, as a share of its middle, infinite without one. ``precise``: whether the rule was met at any.
    """

    def __init__(self, rule: StoppingRule | None, made: Sequence[Run]) -> None:
        """Begin with the runs that were ``made`` before; without a rule nothing is ever precise."""
        self._rule = rule
        self._seen = self._say(made)
        self._last = len(made)
        self._ahead: dict[int, Durations | None] = {}
        self.width, self.precise = math.inf, False
        self._look()

    def add(self, number: int, run: Run) -> None:
        """Take in a run that has ended, the ``number``-th that was begun."""
        self._ahead[number] = self._say((run,))
        while self._last + 1 in self._ahead:
            self._last += 1
            found = self._ahead.pop(self._last)
            if self._seen is not None and found is not None:
                self._seen = joined(self._seen, found)
                self._look()

    def _look(self) -> None:
        if self._rule is not None and self._seen is not None:
            self.width = relative_width(*interval(self._rule, self._seen))
            self.precise = self.precise or self.width <= self._rule.width

    def _say(self, runs: Sequence[Run]) -> Durations | None:
        if self._rule is None:
            return None
        return observations(phases_table(runs), self._rule.quantity)
