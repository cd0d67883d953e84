"""What pollers would have reported that take the poll at which they saw an event for the event itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.summary import attempted
from vastbench.record.phases import Outcome

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PERIODS_S = (2.0, 10.0)
"""Common seconds between two polls."""


def known_durations(phases: pd.DataFrame, phase: str) -> tuple[np.ndarray, np.ndarray]:
    """The bounds, in seconds, of the last tries of ``phase`` in the attempted runs of the tidy frame ``phases`` that ended."""
    rows = attempted(phases)
    rows = rows[(rows["phase"] == phase) & rows["final"] & (rows["outcome"] == Outcome.PASSED)]
    rows = rows.dropna(subset=["lower_s", "upper_s"])
    return rows["lower_s"].to_numpy(), rows["upper_s"].to_numpy()


def naive_readings(lower: np.ndarray, upper: np.ndarray, period_s: float, *, seed: int = 1) -> np.ndarray:
    """Simulated readings, in seconds: what a poll every ``period_s`` would have made of durations in (``lower``, ``upper``].

    Each duration is drawn evenly from its bounds, and read at the first poll at or after its end; the first poll falls on a
    random part of the period. A reading is therefore half a period too long on average. All draws follow from ``seed``.
    Raises ValueError for a period that is not above 0.
    """
    import numpy as np

    if not period_s > 0:
        raise ValueError(f"The period is {period_s!r} s; a poller needs one above 0.")
    # The draws of the durations do not depend on the period, so that pollers can be compared on the same runs.
    durations = np.random.default_rng([seed, 0]).uniform(lower, upper)
    first = np.random.default_rng([seed, 1]).uniform(0.0, 1.0, len(durations)) * period_s
    return first + np.ceil((durations - first) / period_s) * period_s
