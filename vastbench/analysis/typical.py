"""The run that stands for a study where only one can be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.summary import passed
from vastbench.record.phases import PhaseName

if TYPE_CHECKING:
    import pandas as pd


def median_run(phases: pd.DataFrame) -> pd.DataFrame:
    """The rows of the run that passed and whose total is nearest the median total; the first such run, no row if none did.

    Examples
    --------
    >>> phases = vastbench.load("default-300")
    >>> print(vastbench.median_run(phases).set_index("phase")["seconds"]["total"].round(1))
    102.2
    """
    rows = passed(phases)
    totals = rows[rows["phase"] == PhaseName.TOTAL].dropna(subset="seconds").set_index("run")["seconds"]
    if totals.empty:
        return phases[:0]
    return rows[rows["run"] == (totals - totals.median()).abs().idxmin()]
