"""How long from the start of a run until its GPU could be used: the question that a boot time answers only in part."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from vastbench.analysis.stopping import observations
from vastbench.analysis.survival.clusters import how_many
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.record.stopping import USEFUL

if TYPE_CHECKING:
    import pandas as pd

USEFUL_COLUMNS = {
    "n": "int64",
    "attempted": "int64",
    "median_s": "float64",
    "median_low_s": "float64",
    "median_high_s": "float64",
    "earliest_median_s": "float64",
    "bounds_s": "float64",
    "machines": "int64",
}


def until_useful(phases: pd.DataFrame) -> pd.DataFrame:
    """Seconds from the start of a run until a command on the machine had ended with success, as one row.

    The sample is all ``attempted`` runs of the tidy frame ``phases``, of which ``n`` passed: one that failed never came so far
    (a machine with the wrong GPU answers commands too, but is of no use), one that a deadline cut off took longer than it
    waited. Earlier tries of a run count, since the user waited for them. Columns: ``median_s``, of when the user knew it, with
    its 95 % interval ``median_low_s`` to ``median_high_s`` (:func:`~vastbench.analysis.survival.quantiles.quantile_estimate`):
    missing when less than half of the runs passed, and the interval below n = 6; ``earliest_median_s``, of the earliest
    instants that the polls of the same runs allow; ``bounds_s``, of those that passed the median width between the two;
    ``machines``, how many they came from (one that is not known counts by itself). All NaN for no run.
    """
    import pandas as pd

    seen = observations(phases, USEFUL)
    known, earliest = (quantile_estimate(one, 0.5) for one in (seen.latest, seen.earliest))
    widths = (seen.upper[seen.ended] - seen.lower[seen.ended]).tolist()
    found = {
        "n": len(widths),
        "attempted": len(seen),
        "median_s": known.value,
        "median_low_s": known.low,
        "median_high_s": known.high,
        "earliest_median_s": earliest.value,
        "bounds_s": median(widths) if widths else float("nan"),
        "machines": how_many(seen.machine, len(seen)),
    }
    return pd.DataFrame([found]).astype(USEFUL_COLUMNS)
