"""Repeats on one machine are not independent: how much less they say, and intervals that draw whole machines.

A machine that is not known is one of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

DOMINANT = 0.5
"""One machine with more than this share of the values decides their quantiles alone."""

AT_ONCE = 4_000_000
"""How many drawn rows are held in memory together."""


@dataclass(frozen=True, slots=True)
class DesignEffect:
    """How much the values of a phase say, given that several come from one machine.

    ``n`` values came from ``machines`` machines, ``largest_share`` (0–1) of them from one. ``icc`` is the share of the variance
    of the logarithm of time that lies between machines, 0–1; ``design_effect`` by how much the variance of a mean grows for it,
    and ``effective_n`` = n ÷ design_effect, how many independent runs would say as much. The three are NaN where they cannot be
    known: the intra-class correlation with fewer than two machines or without any repeat.
    """

    n: int
    machines: int
    icc: float
    design_effect: float
    effective_n: float
    largest_share: float


def design(values: np.ndarray, machine: np.ndarray | None) -> DesignEffect:
    """The design of the finite ``values``, seconds, by the ``machine`` of each (NaN or None: unknown).

    The intra-class correlation is that of a one-way analysis of variance with unequal groups (Donner 1986), on the logarithm
    of the positive values, cut to 0–1; the design effect is 1 + (m − 1) × icc with m = Σ size² ÷ Σ size (Kish 1965).
    Without repeats the design effect is 1. Raises ValueError when there are not as many machines as values.
    """
    import numpy as np

    values = np.asarray(values, dtype=float)
    labels = numbered(machine, len(values))
    ended = np.isfinite(values)
    sizes = np.bincount(labels[ended]) if ended.any() else np.zeros(0, dtype=int)
    sizes = sizes[sizes > 0]
    n, machines = int(ended.sum()), len(sizes)
    largest = float(sizes.max() / n) if n else math.nan
    if machines == n:
        return DesignEffect(n, machines, math.nan, 1.0 if n else math.nan, float(n), largest)
    positive = ended & (np.where(ended, values, 0.0) > 0)
    icc = _correlation((np.log(values[positive]), labels[positive])) if positive.any() else math.nan
    effect = 1 + (float((sizes**2).sum()) / n - 1) * icc
    return DesignEffect(n, machines, icc, effect, n / effect, largest)


def _correlation(*samples: tuple[np.ndarray, np.ndarray]) -> float:
    """The intra-class correlation that the values of all samples have in common, each about its own mean; by their labels."""
    import numpy as np

    between = within = size = 0.0
    n = machines = 0
    for values, named in samples:
        _, labels = np.unique(named, return_inverse=True)
        sizes = np.bincount(labels)
        means = np.bincount(labels, values) / sizes
        between += float(sizes @ (means - values.mean()) ** 2)
        within += float(((values - means[labels]) ** 2).sum())
        size += len(values) - float((sizes**2).sum()) / len(values)
        n, machines = n + len(values), machines + len(sizes)
    free = machines - len(samples)
    if free < 1 or machines == n:
        return math.nan
    between, within, size = between / free, within / (n - machines), size / free
    whole = between + (size - 1) * within
    return min(1.0, max(0.0, (between - within) / whole)) if whole > 0 else math.nan


def numbered(machine: np.ndarray | None, n: int) -> np.ndarray:
    """The machine of each of ``n`` rows as a number from 0 on, without gaps; a row without a known machine has its own.

    Raises ValueError when ``machine`` has another length.
    """
    import numpy as np
    import pandas as pd

    if machine is None:
        return np.arange(n)
    if len(machine) != n:
        raise ValueError(f"{len(machine)} machines are named for {n} values; name one for each.")
    codes, known = pd.factorize(pd.array(machine))
    unknown = codes < 0
    return np.where(unknown, len(known) + np.cumsum(unknown) - 1, codes)


def how_many(machine: np.ndarray | None, n: int) -> int:
    """How many machines gave ``n`` rows; one that is not known counts by itself."""
    return int(numbered(machine, n).max(initial=-1)) + 1


def repeated(machine: np.ndarray) -> bool:
    """Whether any known machine is named more than once."""
    return how_many(machine, len(machine)) < len(machine)


@dataclass(frozen=True, slots=True)
class EffectiveN:
    """The effective ``n`` of a sample; ``independent`` where no machine repeats, so that it is the sample's size."""

    n: float
    independent: bool


def effective_n(
    hit: np.ndarray, machine: np.ndarray | None, confidence: float, *, weight: np.ndarray | None = None
) -> EffectiveN:
    """How many independent runs would tell the share of ``hit`` as well as these, of which several may be of one machine.

    n ÷ the design effect of that share (the variance between machines, by linearisation, over that of independent runs; never
    below 1), times (t(n − 1) ÷ t(m − 1))² at ``confidence``: few machines do not know their own variance well (Korn and
    Graubard 1998), where m is the number of :func:`alike` ones. At most n; 0 for a single machine with several values.
    ``weight``: that of each value in the share, adding up to 1; all weigh the same without.
    """
    import numpy as np
    from scipy.stats import t

    n = len(hit)
    labels = numbered(machine, n)
    machines = int(labels.max(initial=-1)) + 1
    if machines == n:
        return EffectiveN(float(n), True)
    if machines < 2:
        return EffectiveN(0.0, False)
    weight = np.full(n, 1 / n) if weight is None else weight
    share = float(weight @ hit)
    variance = error(weight * (hit - share), labels) ** 2
    plain = share * (1 - share) / n if hit.any() and not hit.all() else 0.0
    effect = max(1.0, variance / plain) if plain > 0 else 1.0
    one_side = (1 + confidence) / 2
    # Below one and a half equal machines the quantile of t is beyond all use, and soon beyond its own computation.
    known = float(t.ppf(one_side, n - 1) / t.ppf(one_side, max(alike(labels, weight) - 1, 0.5)))
    return EffectiveN(n / effect * known**2, False)


def error(apart: np.ndarray, labels: np.ndarray) -> float:
    """The standard error of a sum of values that lie ``apart`` from what is expected, by the machine of each, two or more.

    It is that of the machines' own sums (linearisation, Binder 1983), as values on one machine are not independent.
    """
    import numpy as np

    sums = np.bincount(labels, apart)
    sums = sums[np.bincount(labels) > 0]
    return math.sqrt(len(sums) / (len(sums) - 1) * float(sums @ sums))


def alike(labels: np.ndarray, weight: np.ndarray | None = None) -> float:
    """How many machines with equal numbers of runs tell as much as these, n² ÷ Σ size², as most is known from few of them.

    With the ``weight`` of each run in place of 1.
    """
    import numpy as np

    sizes = np.bincount(labels, weight)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def effective_ns(samples: Sequence[tuple[np.ndarray, np.ndarray | None]], confidence: float) -> list[float]:
    """:func:`effective_n` of the shares of hits in samples that are compared: of each its hits and the machine of each.

    A sample in which all runs hit, or none, cannot show how far machines resemble themselves, so that the intra-class
    correlation (Donner 1986) is that of all samples, each about its own share; 1 where none of them varies. The design effect
    follows from it (Kish 1965), and the machines of all samples together know it (t at ``confidence``, Korn and Graubard 1998).
    0 for a sample of no run or of a single machine with several.
    """
    from scipy.stats import t

    known = [(hit.astype(float), numbered(machine, len(hit))) for hit, machine in samples if len(hit)]
    if not any(repeated(labels) for _, labels in known):
        return [float(len(hit)) for hit, _ in samples]
    icc = _correlation(*known)
    one_side, freedom = (1 + confidence) / 2, sum(alike(labels) - 1 for _, labels in known)

    def one(hit: np.ndarray, machine: np.ndarray | None) -> float:
        n, labels = len(hit), numbered(machine, len(hit))
        if not n or (n > 1 and labels.max() == 0):
            return 0.0
        effect = 1 + (n / alike(labels) - 1) * (1.0 if math.isnan(icc) else icc)
        ratio = float(t.ppf(one_side, max(n - 1, 0.5)) / t.ppf(one_side, max(freedom, 0.5)))
        return n / effect * min(1.0, ratio) ** 2

    return [one(*sample) for sample in samples]


def drawn_machines(machines: int, width: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each machine is drawn when as many as there are are drawn with replacement, ``resamples`` times from ``seed``.

    Batches of integers, one row per draw and one column per machine: as many rows at once as memory allows where each becomes
    a row of ``width`` numbers. The batches do not change what is drawn.
    """
    import numpy as np

    random, at_once = np.random.default_rng(seed), max(1, AT_ONCE // max(width, 1))
    for start in range(0, resamples, at_once):
        yield random.multinomial(machines, np.full(machines, 1 / machines), size=min(at_once, resamples - start))


def cluster_bootstrap(
    statistic: Callable[..., Any],
    data: np.ndarray | tuple[np.ndarray, ...],
    machine: np.ndarray | None,
    *,
    resamples: int = 1000,
    seed: int = 1,
) -> np.ndarray:
    """``statistic`` of ``resamples`` samples of whole machines, drawn with replacement (Field and Welsh 2007, random cluster).

    ``data`` is an array with one row per value, or a tuple of such arrays, handed to ``statistic`` as its arguments; the
    machines are drawn from ``seed``. The result has one row per resample. Raises ValueError for no rows or unequally many.
    """
    import numpy as np

    columns = data if isinstance(data, tuple) else (data,)
    lengths = {len(column) for column in columns}
    if len(lengths) != 1 or not all(lengths):
        raise ValueError(f"The columns have {sorted(lengths)} rows; give at least one, and as many of each.")
    (n,) = lengths
    labels = numbered(machine, n)
    rows = np.arange(n)
    return np.asarray(
        [
            statistic(*(column[np.repeat(rows, times)] for column in columns))
            for weights in drawn_machines(int(labels.max(initial=-1)) + 1, n, resamples, seed)
            for times in weights[:, labels]
        ]
    )
