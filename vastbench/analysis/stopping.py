"""When a study has measured enough: intervals of a quantile that hold however often one looks, and the rule that stops on them.

An interval made for a fixed number of runs errs far more often than it says when one looks after every run and stops as soon
as it pleases. :func:`quantile_sequence` holds at all times at once. Of n independent runs the number that lies below the
p-quantile is binomial; the ratio of its beta-binomial mixture to the binomial is a martingale that starts at 1, so that it ever
reaches 1/α with a probability of at most α (Ville's inequality; Robbins, Ann. Math. Stat. 41, 1970, 1397). The counts at which
it is below 1/α, read as ranks of the ordered sample, are the interval (Howard & Ramdas, Bernoulli 28, 2022, 1704). It holds for
every distribution, also with ties.

Runs on one machine are not independent, and no rule of this kind holds for them: it counts the first run of each machine
alone, unless the question is about these very machines.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from vastbench.analysis.intervals import CONFIDENCE
from vastbench.analysis.summary import attempted
from vastbench.errors import UsageError
from vastbench.timing import Outcome, PhaseName

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

MIXING = 4.0
"""The weight of the mixture's prior, Beta(4p, 4(1 − p)): from 20 to 400 runs no other brings a rank more than two closer."""

USEFUL = "time until useful"
"""What a rule is about unless a phase is named: seconds from a run's start until a command has ended on its machine."""

COUNTS = ("machines", "runs")
"""What a rule may count: the first run of each machine, or every run."""


def quantile_sequence(
    lower: ArrayLike, upper: ArrayLike, p: float = 0.5, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The interval of the ``p``-quantile that holds after every run at once, in the unit of the values.

    An observation lies somewhere from ``lower`` to ``upper``, which are equal where it is exact; an infinite ``upper`` says
    that it had not happened by ``lower``, two infinities that it never will. The observations must be independent. An end that
    lies beyond the sample is −inf or inf: at 95 % the median has both from 9 observations on. Over all sizes of a sample the
    interval misses the quantile with a probability of at most 1 − ``confidence``. Raises ValueError for a ``p`` or
    ``confidence`` that is not between 0 and 1, and for missing or disordered bounds.
    """
    import numpy as np

    low, high = np.sort(np.asarray(lower, dtype=float)), np.sort(np.asarray(upper, dtype=float))
    if low.shape != high.shape or np.isnan(low).any() or np.isnan(high).any() or (low > high).any():
        raise ValueError("the bounds of the observations are missing or disordered")
    few, many = ranks(low.size, p, confidence)
    return (float(low[few - 1]) if few else -math.inf, float(high[many]) if many < high.size else math.inf)


@lru_cache(maxsize=65_536)
def ranks(n: int, p: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """The least and the greatest number of ``n`` independent values at or below the ``p``-quantile that the sequence allows.

    Raises ValueError when ``p`` or ``confidence`` is not between 0 and 1.
    """
    if not (0 < p < 1 and 0 < confidence < 1):
        raise ValueError(f"not between 0 and 1: p = {p}, confidence = {confidence}")
    import numpy as np
    from scipy.special import betaln

    below = np.arange(n + 1)
    a, b = MIXING * p, MIXING * (1 - p)
    mixture = betaln(a + below, b + n - below) - betaln(a, b)
    allowed = np.flatnonzero(mixture - below * math.log(p) - (n - below) * math.log1p(-p) < -math.log1p(-confidence))
    return int(allowed[0]), int(allowed[-1])


def relative_width(low: float, high: float) -> float:
    """The width of an interval as a share of its middle: 0.15 for ± 7.5 %.

    Infinite where an end is open or the middle is not positive.
    """
    middle = (low + high) / 2
    return (high - low) / middle if math.isfinite(high) and math.isfinite(low) and middle > 0 else math.inf


class Observations(NamedTuple):
    """What attempted runs say of one quantity, in the order in which they began; see :func:`observations`.

    ``lower`` and ``upper`` in seconds. ``machine``: each run's machine; a negative number of the run's own where unknown.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    machine: NDArray[np.int64]

    def __add__(self, other: tuple[Any, ...]) -> Observations:
        """These and then the ``other`` ones; unknown machines stay distinct."""
        import numpy as np

        lower, upper, machine = other
        unknown = np.where(machine < 0, machine + min(self.machine.min(initial=0), 0), machine)
        joined = zip(self, (lower, upper, unknown), strict=True)
        return Observations(*(np.concatenate(pair) for pair in joined))

    def first_of_each_machine(self) -> Observations:
        """Only the first run on each machine: independent where machines are."""
        import numpy as np

        kept = np.sort(np.unique(self.machine, return_index=True)[1])
        return Observations(self.lower[kept], self.upper[kept], self.machine[kept])


def observations(phases: pd.DataFrame, quantity: str = USEFUL) -> Observations:
    """What the attempted runs of the tidy frame ``phases`` say of ``quantity``, in the order in which they began.

    ``quantity`` is a phase, which the runs that did not reach it are silent about, or ``time until useful``, about which every
    run speaks. What passed lies between its bounds; what a deadline cut off was longer than was waited; what failed never came,
    and its bounds are infinite. A run that failed after its first command was of no use either.
    """
    import numpy as np

    rows = attempted(phases)
    rows = rows[rows["final"]].sort_values(["started_at", "run"], kind="stable")
    if quantity == USEFUL:
        runs = rows[rows["phase"] == PhaseName.TOTAL].set_index("run")
        seen = rows[rows["phase"] == PhaseName.WAIT_SSH].set_index("run").reindex(runs.index)
        waited = rows[rows["outcome"] == Outcome.CENSORED].groupby("run")["end_lower_s"].max().reindex(runs.index)
        outcome, lower, upper = runs["run_outcome"], seen["end_lower_s"], seen["end_upper_s"]
    else:
        runs = rows[rows["phase"] == quantity]
        outcome, waited = runs["outcome"], runs["lower_s"]
        lower, upper = runs["lower_s"].fillna(runs["seconds"]), runs["upper_s"].fillna(runs["seconds"])
    came = ((outcome == Outcome.PASSED) & lower.notna() & upper.notna()).to_numpy()
    cut = (outcome == Outcome.CENSORED).to_numpy()
    late = np.where(cut, waited.fillna(0.0).to_numpy(), np.inf)
    unknown = -1 - np.arange(len(runs))
    return Observations(
        np.where(came, lower.to_numpy(), late),
        np.where(came, upper.to_numpy(), np.inf),
        np.where(runs["machine"].isna(), unknown, runs["machine"].fillna(0).to_numpy(dtype=np.int64)),
    )


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """Stop once the interval of a quantile is narrow enough.

    ``width``: the widest that :func:`quantile_sequence` may be, as a share of its middle (0.15 for ± 7.5 %). ``quantile``:
    which one of ``quantity``, which is ``time until useful`` or a phase. ``counts``: ``machines`` for the first run of each,
    which holds for machines like them, or ``runs``, which takes runs on one machine as independent and so holds for these very
    machines alone. Raises UsageError for what cannot be.
    """

    width: float
    quantile: float = 0.5
    quantity: str = USEFUL
    counts: str = "machines"
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        """Refuse a rule that no study could follow."""
        for name, value in (("width", self.width), ("quantile", self.quantile), ("confidence", self.confidence)):
            if not (isinstance(value, float) and 0 < value < 1):
                raise UsageError(f"The {name} to stop at is {value!r}.", hint="Give a share between 0 and 1, for example 0.15.")
        if self.quantity not in (USEFUL, *PhaseName):
            raise UsageError(f"There is no quantity {self.quantity!r}.", hint=f"Choose {USEFUL!r} or a phase.")
        if self.counts not in COUNTS:
            raise UsageError(f"A rule cannot count {self.counts!r}.", hint="Choose machines or runs.")

    def observed(self, phases: pd.DataFrame) -> Observations:
        """What the runs of a tidy frame say of this rule's quantity."""
        return observations(phases, self.quantity)

    def counted(self, seen: Observations) -> Observations:
        """Those of the observations that the rule counts."""
        return seen.first_of_each_machine() if self.counts == "machines" else seen

    def interval(self, seen: Observations) -> tuple[float, float]:
        """The interval of the quantile, valid at any time, in seconds; an open end is infinite."""
        kept = self.counted(seen)
        return quantile_sequence(kept.lower, kept.upper, self.quantile, self.confidence)

    def met(self, seen: Observations) -> bool:
        """Whether the interval is narrow enough."""
        return relative_width(*self.interval(seen)) <= self.width

    def to_dict(self) -> dict[str, Any]:
        """The rule, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, rule: dict[str, Any]) -> Self:
        """The rule that :meth:`to_dict` wrote."""
        return cls(**rule)
