"""How long from the start of a run until its GPU could be used: the question that a boot time answers only in part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.intervals import quantile_interval
from vastbench.analysis.summary import passed
from vastbench.timing import PhaseName

if TYPE_CHECKING:
    import pandas as pd

USEFUL_COLUMNS = {
    "n": "int64",
    "median_s": "float64",
    "median_low_s": "float64",
    "median_high_s": "float64",
    "earliest_median_s": "float64",
    "bounds_s": "float64",
}


def until_useful(phases: pd.DataFrame) -> pd.DataFrame:
    """Seconds from the start of a run until a command on the machine had ended with success, as one row.

    The sample is the runs of the tidy frame ``phases`` that passed: a machine with the wrong GPU answers commands too, but is
    of no use. Earlier tries of a run count, since the user waited for them. Columns: ``n``; ``median_s``, of when the user
    knew it, with its exact 95 % interval ``median_low_s`` to ``median_high_s`` (missing below n = 6); ``earliest_median_s``,
    of the earliest instants that the looks of the same runs allow; ``bounds_s``, the median width between the two in one
    run. All NaN for n = 0.
    """
    import pandas as pd

    rows = passed(phases)
    ready = rows[(rows["phase"] == PhaseName.WAIT_SSH) & rows["final"]].dropna(subset="end_upper_s")
    low, high = quantile_interval(ready["end_upper_s"], 0.5)
    found = {
        "n": len(ready),
        "median_s": ready["end_upper_s"].median(),
        "median_low_s": low,
        "median_high_s": high,
        "earliest_median_s": ready["end_lower_s"].median(),
        "bounds_s": (ready["end_upper_s"] - ready["end_lower_s"]).median(),
    }
    return pd.DataFrame([found]).astype(USEFUL_COLUMNS)
