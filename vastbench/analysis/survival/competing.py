"""Failures as competing causes: how large a share of the runs has ended, in which way, by which time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.attempts import attempted
from vastbench.analysis.survival.intervals import CONFIDENCE, proportion_intervals
from vastbench.record.phases import Outcome, PhaseName

if TYPE_CHECKING:
    import pandas as pd

INCIDENCE_COLUMNS = {
    "outcome": "str",
    "cause": "str",
    "time_s": "float64",
    "runs": "int64",
    "attempted": "int64",
    "incidence": "float64",
    "low": "float64",
    "high": "float64",
}


def incidence(phases: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """The cumulative incidence of each outcome and cause: the share of the attempted runs that had ended so by a time.

    Every attempted run has ended, with success, with a failure or at its deadline, and none was lost from sight, so that the
    estimator for competing risks (Aalen and Johansen 1978) is a plain count with an exact interval. What a deadline cut off
    is an outcome of its own here: it had not ended by itself, and nobody knows how it would have.

    One row per outcome, cause and ``time_s``, the seconds since the run's start of each of their endings, ascending, passed
    first: the last row of each is what :func:`vastbench.analysis.summary.outcomes` says. Columns: ``outcome``; ``cause``
    (empty for passed); ``runs``, how many had ended so by then; ``attempted``, of how many; ``incidence`` = runs ÷ attempted,
    and its exact pointwise interval ``low`` to ``high``, all 0–1. Runs without a total have a missing ``time_s`` and come last.
    """
    import pandas as pd

    runs = attempted(phases)
    runs = runs[runs["phase"] == PhaseName.TOTAL]
    n = len(runs)
    causes = runs["cause"].fillna("")
    ends = pd.DataFrame({"outcome": runs["run_outcome"], "cause": causes, "time_s": runs["seconds"], "count": 1})
    order = ends.groupby(["outcome", "cause"])["count"].transform("sum")
    ends = ends.assign(first=ends["outcome"] != Outcome.PASSED, many=-order)
    ends = ends.sort_values(["first", "many", "outcome", "cause", "time_s"], kind="stable")
    ends["runs"] = ends.groupby(["outcome", "cause"])["count"].cumsum()
    ends = ends.drop_duplicates(["outcome", "cause", "time_s"], keep="last")
    low, high = proportion_intervals(ends["runs"].to_numpy(), n, confidence)
    found = ends.assign(attempted=n, incidence=ends["runs"] / n if n else 0.0, low=low, high=high)
    return found[list(INCIDENCE_COLUMNS)].astype(INCIDENCE_COLUMNS).reset_index(drop=True)
