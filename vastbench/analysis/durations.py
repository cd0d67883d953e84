"""How long a phase took in the runs of a tidy frame, as durations known within bounds or cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import attempted
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.intervals import CONFIDENCE
from vastbench.analysis.survival.quantiles import curve_steps
from vastbench.record.phases import Outcome, PhaseName

if TYPE_CHECKING:
    import pandas as pd


def durations(phases: pd.DataFrame, phase: str, *, waited: bool = False) -> Durations:
    """How long ``phase`` took in the attempted runs of the tidy frame that reached it, in its last try of each.

    A try that passed lies in (``lower_s``, ``upper_s``]; a total is exact. A try that a deadline cut off is above its
    ``lower_s``, and only that is known. One that failed can never end with success: both its bounds are infinite, so that the
    curve of the rest levels off below 1. That is the cumulative incidence of success (Fine and Gray 1999) where, as under one
    common deadline, no try was cut off while others were still being decided; otherwise it errs towards *never*. ``waited``:
    see :func:`durations_of`.
    """
    rows = attempted(phases)
    return durations_of(rows[(rows["phase"] == phase) & rows["final"]], waited=waited)


def durations_of(tries: pd.DataFrame, *, waited: bool = False) -> Durations:
    """The durations of rows of the tidy frame that are a sample of one phase, by the rules of :func:`durations`.

    With ``waited`` those that passed are what the user waited, ``seconds``, as if it were exact: the reading of the poll.
    """
    import numpy as np

    seconds, lower, upper = (tries[name].to_numpy(dtype=float, na_value=np.nan) for name in ("seconds", "lower_s", "upper_s"))
    outcome = tries["outcome"].to_numpy()
    # A total and what is unattributed are differences of exact instants, and have no bounds.
    exact = tries["phase"].isin([PhaseName.TOTAL, PhaseName.UNATTRIBUTED]).to_numpy()
    lower, upper = np.where(exact, seconds, lower), np.where(exact, seconds, upper)
    good, failed = outcome == Outcome.PASSED, outcome == Outcome.FAILED
    if waited:
        lower, upper = np.where(good, seconds, lower), np.where(good, seconds, upper)
    # Without even a lower bound a try says only that it took some time; an exact figure that is missing says nothing.
    known = failed | ~np.isnan(lower) | ~(exact | (waited & good))
    upper = np.where(good & ~np.isnan(upper), upper, np.inf)
    lower = np.where(failed, np.inf, np.fmin(np.nan_to_num(lower), upper))
    machine = tries["machine"].to_numpy(dtype=float, na_value=np.nan)[known]
    return Durations(lower[known], upper[known], None if np.isnan(machine).all() else machine)


def exact(values: pd.Series[float], machine: pd.Series[Any]) -> Durations:
    """The ``values`` that there are, known exactly, each on its ``machine``: seconds, dollars or whatever they are of."""
    import numpy as np

    there = values.notna().to_numpy()
    exact = values.to_numpy(dtype=float)[there]
    machines = machine.to_numpy(dtype=float, na_value=np.nan)[there]
    return Durations(exact, exact, None if np.isnan(machines).all() else machines)


def curve_table(
    phases: pd.DataFrame, phase: str, *, confidence: float = CONFIDENCE, resamples: int = 500, seed: int = 1
) -> pd.DataFrame:
    """The table of :func:`curve_steps` for the tries of ``phase``; see :func:`durations`."""
    return curve_steps(durations(phases, phase), confidence=confidence, resamples=resamples, seed=seed)
