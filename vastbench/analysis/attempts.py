"""Which runs of a tidy frame count: those of one kind that ended by themselves, and those that passed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.frames import in_words
from vastbench.errors import UsageError, tally
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.run import NOT_COUNTED

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MEASURED = "measured elsewhere"
"""The scenario of timings that vastbench did not make."""

KIND = ("scenario", "source", "scale", "variant", "hedge", "stagger_s")
"""Columns of the tidy frame in which runs must agree to be one sample: what was done, where, on which clock, in which way."""

POOLED = "pooled"
"""The attribute of a frame whose runs were pooled on purpose."""


def pool(phases: pd.DataFrame) -> pd.DataFrame:
    """The runs of ``phases``, to be taken for one sample although they differ in scenario, source, clock scale or variant.

    Summaries, findings, comparisons and reports refuse such runs otherwise, because their figures would describe none of them.
    The mark is an attribute of the frame: selecting rows keeps it, joining it with other frames may not.

    Examples
    --------
    >>> mixed = vastbench.load("default-300", "2026-01-02-rtx4090")
    >>> vastbench.summary(mixed)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vastbench.errors.UsageError: The runs differ in source and scale, and so are not one sample: ...
    >>> len(vastbench.summary(vastbench.pool(mixed)))
    20
    """
    pooled = phases.copy()
    pooled.attrs[POOLED] = True
    return pooled


def of_one_kind(phases: pd.DataFrame) -> pd.DataFrame:
    """``phases`` itself. Raises UsageError when its runs differ in one of ``KIND`` and were not pooled on purpose."""
    mixed = [name for name in KIND if name in phases and _differ(phases[name])]
    if mixed and not phases.attrs.get(POOLED):
        runs = phases.drop_duplicates("run")[mixed].dropna().astype(object)
        counts = {kind: len(those) for kind, those in runs.groupby(mixed, sort=False)}
        words = [" and ".join(f"{name} {in_words(value)}" for name, value in zip(mixed, kind, strict=True)) for kind in counts]
        kinds = dict(zip(words, counts.values(), strict=True))
        name, value = mixed[0], in_words(next(iter(counts))[0])
        raise UsageError(
            f"The runs differ in {' and '.join(mixed)}, and so are not one sample: {tally(kinds)}.",
            hint=f'Choose one kind: where="{name}={value}", on the command line --where {name}={value}. '
            f'Or keep them apart where that is offered: by="{name}". '
            "Or pool them on purpose: vastbench.pool(phases), --pool.",
        )
    return phases


def begun(runs: pd.DataFrame) -> pd.Series:
    """When the ``runs`` began of which that is known; of those measured elsewhere without dates only the order is."""
    dates = runs["started_at"]
    known: pd.Series = dates[(runs["scenario"] != MEASURED) | (dates.dt.year > 1970)].dropna()
    return known


def _differ(values: pd.Series) -> bool:
    return values.nunique() > 1  # a run that died has told no scale


def attempted(phases: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs that count, whatever their outcome: all but those whose cause is in ``NOT_COUNTED``.

    Raises UsageError like :func:`of_one_kind`.
    """
    left_out = of_one_kind(phases)["cause"].isin(NOT_COUNTED)
    return phases[~left_out] if left_out.any() else phases


def passed(phases: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs that passed."""
    return phases[phases["run_outcome"] == Outcome.PASSED]


def totals(phases: pd.DataFrame) -> pd.DataFrame:
    """The one row of each attempted run that is the run as a whole."""
    rows = attempted(phases)
    return rows[rows["phase"] == PhaseName.TOTAL]


def machines(rows: pd.DataFrame) -> np.ndarray:
    """The machine of each row, NaN where it is not known."""
    import numpy as np

    return rows["machine"].to_numpy(dtype=float, na_value=np.nan)
