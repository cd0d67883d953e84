"""What comes within a time that one is ready to wait: how often it does, and how long one waits on average."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vastbench.analysis.stopping import observations
from vastbench.analysis.survival.clusters import alike, error, how_many, numbered
from vastbench.analysis.survival.intervals import CONFIDENCE
from vastbench.analysis.survival.rates import rate
from vastbench.errors import UsageError
from vastbench.record.stopping import USEFUL

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

WITHIN_COLUMNS = {
    "within_s": "float64",
    "n": "int64",
    "machines": "int64",
    "rate": "float64",
    "low_rate": "float64",
    "high_rate": "float64",
    "mean_s": "float64",
    "mean_low_s": "float64",
    "mean_high_s": "float64",
}


def ready_within(phases: pd.DataFrame, *times_s: float, quantity: str = USEFUL) -> pd.DataFrame:
    """How often ``quantity`` comes within each of ``times_s``, and how long one waits who gives up then.

    One row per time, over the ``n`` attempted runs of the tidy frame ``phases`` that reached it, on so many ``machines``: the
    ``rate`` of those that had it by ``within_s`` seconds, 0–1, with its interval
    (:func:`~vastbench.analysis.survival.rates.rate`), and ``mean_s``, the mean of what was waited until then, by those in vain
    too: the restricted mean (Royston and Parmar 2013). Its 95 % interval is Student's t with the variance between machines;
    both are missing for a single machine with several runs.

    ``quantity`` is a phase or ``time to ready``. Raises UsageError for no time, one that is not positive, and one that is
    beyond what some run was waited for in vain.

    Examples
    --------
    >>> found = vastbench.ready_within(vastbench.load("default-300"), 90, 180)
    >>> found[["within_s", "n", "rate", "mean_s"]].round(2)
       within_s    n  rate  mean_s
    0      90.0  300  0.33   86.07
    1     180.0  300  0.89  106.76
    """
    import numpy as np
    import pandas as pd

    if not times_s or not all(0 < time < math.inf for time in times_s):
        raise UsageError(f"Within {', '.join(map(str, times_s)) or 'no time'}.", hint="Give positive numbers of seconds.")
    seen = observations(phases, quantity, waited=True)
    waited = seen.lower[~seen.ended & np.isfinite(seen.lower)].min(initial=math.inf)
    if max(times_s) > waited:
        raise UsageError(
            f"Within {max(times_s):g} s cannot be known: a run was waited for {waited:g} s only.",
            hint=f"Give at most {math.floor(waited)} s.",
        )
    rows = []
    for time in times_s:
        had = rate(seen.upper <= time, seen.machine)
        low, high = _mean_within(np.minimum(seen.upper, time), numbered(seen.machine, len(seen)), time)
        mean = float(np.minimum(seen.upper, time).mean()) if len(seen) else math.nan
        counts = (time, len(seen), how_many(seen.machine, len(seen)))
        rows.append((*counts, had.value, had.low, had.high, mean, low, high))
    return pd.DataFrame(rows, columns=list(WITHIN_COLUMNS)).astype(WITHIN_COLUMNS)


def _mean_within(values: np.ndarray, labels: np.ndarray, within: float) -> tuple[float, float]:
    """The interval of the mean of ``values`` from 0 to ``within``, by the machine of each."""
    from scipy.stats import t

    if labels.max(initial=0) < 1:
        return math.nan, math.nan
    mean = float(values.mean())
    half = float(t.ppf((1 + CONFIDENCE) / 2, max(alike(labels) - 1, 0.5))) * error((values - mean) / len(values), labels)
    return max(0.0, mean - half), min(within, mean + half)
