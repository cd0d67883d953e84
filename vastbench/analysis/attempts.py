"""Which runs of a tidy frame count: those that ended by themselves, and those that passed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.record.phases import Outcome

if TYPE_CHECKING:
    import pandas as pd

KILLED = "killed"
"""The cause of a run whose process ended without storing it."""

STOPPED_BY_US = frozenset({"interrupted", KILLED, "budget"})
"""Causes of runs that we ended ourselves: they say nothing of the marketplace and are not counted as attempted."""


def attempted(phases: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs that ended by themselves, whatever their outcome: all but those ``STOPPED_BY_US``."""
    return phases[~phases["cause"].isin(STOPPED_BY_US)]


def passed(phases: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs that passed."""
    return phases[phases["run_outcome"] == Outcome.PASSED]
