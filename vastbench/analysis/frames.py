"""Runs as pandas frames, units in the column names.

``runs_table`` — one row per run:

====================  =======  ==========================================================
``run``               str      the run's id
``outcome``, ``cause``  str    how it ended, and why when it did not pass
``gpu``, ``machine``  str, Int64  what was rented
``usd_per_hour``      float    whole hourly price
``<phase>_s``         float    what the user waited in each top-level phase, NaN when missing
``unattributed_s``    float    what the phases leave of the total
``total_s``           float    the whole run
``cost_usd``          float    by meter
``naive_cost_usd``    float    wall clock × price
====================  =======  ==========================================================

``phases_table`` — one row per run × phase:

====================  =======  ==========================================================
``run``, ``phase``, ``parent``  str    the run, the phase, the phase it is a part of (missing at the top level)
``attempt``           int      which try of the run
``outcome``           str      passed, failed or censored
``seconds``           float    what the user waited, NaN when the end was not seen
``lower``, ``upper``  float    bounds of the true duration in seconds, upper NaN when the end was not seen
``start_s``           float    when the phase began to be waited for, seconds since the run's start
``end_lower_s``, ``end_upper_s``  float  bounds of its end, seconds since the run's start
====================  =======  ==========================================================
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vastbench.run import Run
from vastbench.timing import PARENTS, PhaseName

if TYPE_CHECKING:
    import pandas as pd

TOP_LEVEL = tuple(name for name in PhaseName if name not in PARENTS and name is not PhaseName.UNATTRIBUTED)


def column(name: PhaseName) -> str:
    """The column of a phase: its words joined by underscores, and the unit."""
    return str(name).replace(" ", "_") + "_s"


def runs_table(runs: Iterable[Run]) -> "pd.DataFrame":
    """One row per run, in the given order; the columns are those of the module's table."""
    import pandas as pd

    rows = []
    for run in runs:
        unattributed = next((r.seconds for r in run.rows() if r.name is PhaseName.UNATTRIBUTED), None)
        rows.append(
            {
                "run": run.id,
                "outcome": str(run.outcome),
                "cause": run.cause,
                "gpu": run.resources.get("gpu_name"),
                "machine": run.resources.get("machine_id"),
                "usd_per_hour": run.resources.get("usd_per_hour"),
                **{column(name): run.seconds(name) for name in TOP_LEVEL},
                column(PhaseName.UNATTRIBUTED): unattributed,
                "total_s": run.total_s,
                "cost_usd": run.cost.total_usd,
                "naive_cost_usd": run.cost.naive_usd,
            }
        )
    numbers = ["usd_per_hour", *map(column, TOP_LEVEL), column(PhaseName.UNATTRIBUTED), "total_s", "cost_usd", "naive_cost_usd"]
    frame = pd.DataFrame(rows, columns=["run", "outcome", "cause", "gpu", "machine", *numbers])
    return frame.astype({"machine": "Int64"} | dict.fromkeys(numbers, "float64"))


def phases_table(runs: Iterable[Run]) -> "pd.DataFrame":
    """One row per run and phase, in order of their end; the columns are those of the module's second table."""
    import pandas as pd

    rows = [
        {
            "run": run.id,
            "phase": str(phase.name),
            "parent": str(phase.parent) if phase.parent else None,
            "attempt": phase.attempt,
            "outcome": str(phase.outcome),
            "seconds": phase.seconds,
            "lower": phase.lower,
            "upper": phase.upper if phase.end.seen else None,
            "start_s": phase.start.upper,
            "end_lower_s": phase.end.lower,
            "end_upper_s": phase.end.yes_received,
        }
        for run in runs
        for phase in run.phases
    ]
    numbers = ["seconds", "lower", "upper", "start_s", "end_lower_s", "end_upper_s"]
    frame = pd.DataFrame(rows, columns=["run", "phase", "parent", "attempt", "outcome", *numbers])
    return frame.astype({"attempt": "int64"} | dict.fromkeys(numbers, "float64"))
