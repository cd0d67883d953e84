"""Which runs of a tidy frame count: those that ended by themselves, and those that passed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.record.phases import Outcome
from vastbench.record.run import STOPPED_BY_US

if TYPE_CHECKING:
    import pandas as pd


def attempted(phases: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs that ended by themselves, whatever their outcome: all but those ``STOPPED_BY_US``."""
    return phases[~phases["cause"].isin(STOPPED_BY_US)]


def passed(phases: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs that passed."""
    return phases[phases["run_outcome"] == Outcome.PASSED]
