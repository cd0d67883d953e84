"""Conditions compared in blocks: what was measured at about the same time is set side by side.

A block holds one run of each condition. What changes with the hour or with the market changes both runs of a pair alike and
leaves their ratio as it is, so that the interval of the ratio does not widen for it (Fisher 1935; Box, Hunter and Hunter 2005,
§3.2).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vastbench.analysis.attempts import attempted
from vastbench.analysis.columns import check_run_column
from vastbench.analysis.comparison import compare
from vastbench.analysis.frames import in_words, only
from vastbench.analysis.stopping import observations
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.intervals import CONFIDENCE
from vastbench.analysis.survival.quantiles import Estimate, quantile_estimate
from vastbench.errors import UsageError
from vastbench.record.phases import PhaseName

if TYPE_CHECKING:
    import pandas as pd

PAIRED_COLUMNS = {
    "condition": "str",
    "against": "str",
    "blocks": "int64",
    "ratio": "float64",
    "low": "float64",
    "high": "float64",
    "effective_n": "float64",
    "unpaired_ratio": "float64",
    "unpaired_low": "float64",
    "unpaired_high": "float64",
    "narrower": "float64",
}
"""The columns of :func:`paired`."""


def blocks(phases: pd.DataFrame, by: str = "study") -> pd.DataFrame:
    """One row per attempted run of the tidy frame, in the order of their beginning: ``run``, ``condition`` and ``block``.

    ``condition`` is the value of the column ``by``. A block ends where a condition would come a second time: its runs are those
    that were made at about the same time, also after a restart or where a run had to be made again. Raises UsageError for a
    column that does not exist, and for a condition whose runs are of several kinds.
    """
    import pandas as pd

    check_run_column(by)
    rows = pd.concat([attempted(of_one) for _, of_one in phases.groupby(by, sort=False, dropna=False)])
    runs = rows[rows["final"] & (rows["phase"] == PhaseName.TOTAL)].sort_values(["started_at", "run"], kind="stable")
    found = runs[["run"]].assign(condition=runs[by].map(in_words)).reset_index(drop=True)
    block, numbers = 0, []
    there: set[str] = set()
    for condition in found["condition"]:
        if condition in there:
            block, there = block + 1, set()
        there.add(condition)
        numbers.append(block)
    return found.assign(block=numbers)


def paired(
    phases: pd.DataFrame, by: str = "study", *, against: str | None = None, confidence: float = CONFIDENCE
) -> pd.DataFrame:
    """How many times as long each condition takes to be ready as one of them does, by blocks.

    Parameters
    ----------
    phases
        A tidy frame of one scenario: a study of several conditions (``vastbench.load("gpus")``).
    by
        The column whose values are the conditions.
    against
        The value that the others are compared with; by default the first in the order of the alphabet.
    confidence
        Of the intervals.

    Returns
    -------
    pandas.DataFrame
        One row per other condition. ``ratio``: the median of the ratios of time to ready in a block, ``condition`` ÷
        ``against``, with its interval from ``low`` to ``high``, of ``blocks`` in which at least one of the two was ready; one
        that failed counts as longer. Where machines repeat, the interval is that of ``effective_n``, which those of either
        condition allow at most. ``unpaired_ratio`` with its interval is the ratio of the medians of the same runs, as
        :func:`vastbench.compare` has it; ``narrower`` is how wide the paired interval is on the logarithm beside that one: 0.5
        is half as wide. NaN is missing.

    Raises
    ------
    UsageError
        A single condition, or a column that does not exist.
    NotFound
        No run has the value ``against``.

    Examples
    --------
    >>> found = vastbench.paired(vastbench.load("conditions-160"), against="conditions-160.RTX-3090.small")
    >>> found[["condition", "ratio", "low", "high", "blocks"]].round(2).head(1)
                           condition  ratio   low  high  blocks
    0  conditions-160.RTX-3090.large   1.71  1.34  2.79      40
    """
    import pandas as pd

    found = blocks(phases, by)
    conditions = sorted(found["condition"].unique())
    if len(conditions) < 2:
        raise UsageError(f"All runs have the same {by}, so that there is nothing to compare.", hint="Choose another column.")
    base = in_words(only(phases, by, against, "the frame")[by].iloc[0]) if against is not None else conditions[0]
    place = found.pivot_table(index="block", columns="condition", values="run", aggfunc="first")
    rows = []
    for condition in conditions:
        if condition == base:
            continue
        both = place[[base, condition]].dropna()
        a, b = (phases[phases["run"].isin(both[name])] for name in (base, condition))
        ratio = _ratio(_in_order(a, both[base]), _in_order(b, both[condition]), confidence) if len(both) else None
        apart = compare(a, b, by=by).effects.iloc[0] if len(both) else None
        row = {"condition": condition, "against": base, "blocks": 0}
        if ratio is not None and apart is not None:
            row |= {"blocks": ratio.n, "ratio": ratio.value, "low": ratio.low, "high": ratio.high}
            row |= {"effective_n": ratio.effective_n, "unpaired_ratio": apart["ratio"]}
            row |= {"unpaired_low": apart["ratio_low"], "unpaired_high": apart["ratio_high"]}
            row["narrower"] = _width(ratio.low, ratio.high) / _width(apart["ratio_low"], apart["ratio_high"])
        rows.append(row)
    return pd.DataFrame(rows, columns=list(PAIRED_COLUMNS)).astype(PAIRED_COLUMNS)


def _in_order(phases: pd.DataFrame, runs: pd.Series) -> Durations:
    """The times to ready of ``runs``, which are all of ``phases``, in that order."""
    import numpy as np

    seen = observations(phases)
    made = blocks(phases)["run"].to_numpy()
    order = np.array([int(np.flatnonzero(made == run)[0]) for run in runs])
    machine = None if seen.machine is None else seen.machine[order]
    return Durations(seen.lower[order], seen.upper[order], machine)


def _ratio(a: Durations, b: Durations, confidence: float) -> Estimate:
    """The median of the ratios B ÷ A, pair by pair, of those in which one of the two came."""
    import numpy as np

    known = a.ended | b.ended
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = (b.lower / a.upper)[known], (b.upper / a.lower)[known]
    low = np.where(np.isfinite(a.upper[known]), low, 0.0)
    high = np.where(np.isnan(high), np.inf, high)
    each = [
        quantile_estimate(Durations(low, high, None if one.machine is None else one.machine[known]), 0.5, confidence=confidence)
        for one in (a, b)
    ]
    return min(each, key=lambda estimate: estimate.effective_n)


def _width(low: float, high: float) -> float:
    return math.log(high / low) if low > 0 and math.isfinite(high) else math.nan
