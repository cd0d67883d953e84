"""How long each phase takes, by the name of runs and by group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from vastbench.analysis.columns import check_run_column
from vastbench.analysis.summary import SUMMARY_COLUMNS, phase_summary
from vastbench.answers.selection import Which, runs_of

if TYPE_CHECKING:
    import pandas as pd


def summary(data: pd.DataFrame | str | Path | None = None, *, by: str = "", **which: Unpack[Which]) -> pd.DataFrame:
    """How long each phase takes: one row per phase that an attempted run reached, in order of time, children after parents.

    The sample of a phase is its last try in each attempted run that reached it. Medians are of all of these: a try that a
    deadline cut off is known to be longer than it had waited, one that failed never ends. Intervals are at 95 %.

    Parameters
    ----------
    data
        A frame, a file, a store, a study, a data set; by default the bundled sample.
    by
        A column of a run, such as ``region``: then its values are the first column, those with the most runs first. Runs in
        which it is missing are left out.
    **which
        ``study``, ``where``, ``store`` as of :func:`vastbench.load`; ``pool=True`` takes runs of several kinds for one sample.

    Returns
    -------
    pandas.DataFrame
        ``n`` tries that passed, ``unfinished`` others. In seconds: ``median_s`` and ``p90_s`` of what the user waited, with
        their intervals ``median_low_s`` to ``median_high_s`` and ``p90_low_s`` to ``p90_high_s``, missing where there are too
        few independent runs for one; ``true_median_low_s`` to ``true_median_high_s`` without what polling adds; ``mean_s``,
        ``min_s``, ``max_s``; ``bounds_s``, how exactly one is known. ``machines`` and ``effective_n``, how many independent
        tries would say as much.

    Raises
    ------
    UsageError
        Runs of several kinds that were not pooled (:func:`vastbench.pool`).
    NotFound
        No such file, study, data set, run or column.

    Examples
    --------
    >>> table = vastbench.summary("default-300").set_index("phase")
    >>> table.loc["wait running", ["n", "median_s", "median_low_s", "median_high_s"]].astype(float).round(1).tolist()
    [276.0, 84.4, 79.2, 88.6]
    >>> vastbench.summary("snapshot-20", by="gpu")[["gpu", "phase"]].head(1)
            gpu             phase
    0  RTX 4090  register SSH key
    """
    import pandas as pd

    phases = runs_of(data, which).phases
    if not by:
        return phase_summary(phases)
    check_run_column(by)
    values = phases.drop_duplicates("run")[by].value_counts().index
    parts = [phase_summary(phases[phases[by] == value]).assign(**{by: value}) for value in values]
    if not parts:
        return phase_summary(phases.iloc[:0]).assign(**{by: pd.Series(dtype="str")})[[by, *SUMMARY_COLUMNS]]
    return pd.concat(parts, ignore_index=True)[[by, *SUMMARY_COLUMNS]]
