"""Whether drills keep what was asked of them: each criterion with its n and its interval, or not tested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vastbench.analysis.attempts import attempted, machines, passed
from vastbench.analysis.durations import exact
from vastbench.analysis.measures import measured
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.analysis.survival.rates import rate
from vastbench.record.acceptance import Criterion
from vastbench.record.phases import Outcome, PhaseName

if TYPE_CHECKING:
    import pandas as pd

NOT_TESTED, MET, NOT_MET, OPEN = "not tested", "met", "not met", "open"


def acceptance(phases: pd.DataFrame, criteria: Sequence[Criterion]) -> pd.DataFrame:
    """One row for each criterion, over the attempted runs of a tidy frame.

    Columns: ``what``, ``limit`` and ``stretch`` in ``unit``, ``n``, ``value`` (the median, or the share of runs that passed)
    with its 95 % interval ``low`` to ``high``, and ``verdict``: ``met`` or ``not met`` where the whole interval is on that side
    of the limit, ``open`` where it is on both or there are too few runs for one, ``not tested`` without a run. A run that never
    came to the end of a span took for ever.
    """
    import pandas as pd

    rows = attempted(phases)
    return pd.DataFrame([_row(rows, one) for one in criteria])


def _row(phases: pd.DataFrame, one: Criterion) -> dict[str, object]:
    ask = _median if one.place else {"share": _success, "USD": _cost}.get(one.unit, _median)
    n, value, low, high = ask(phases, one)
    kept = [x >= one.limit if one.unit == "share" else x <= one.limit for x in (low, high)]
    if not n:
        verdict = NOT_TESTED
    elif math.isnan(low + high) or len(set(kept)) > 1:
        verdict = OPEN
    else:
        verdict = MET if kept[0] else NOT_MET
    known = {"what": one.what, "limit": one.limit, "stretch": one.stretch, "unit": one.unit}
    return known | {"n": n, "value": value, "low": low, "high": high, "verdict": verdict}


def _median(phases: pd.DataFrame, one: Criterion) -> tuple[int, float, float, float]:
    (row,) = measured(phases, [one]).to_dict("records")
    return row["n"], row["value"], row["low"], row["high"]


def _cost(phases: pd.DataFrame, _: Criterion) -> tuple[int, float, float, float]:
    runs = passed(phases[phases["phase"] == PhaseName.TOTAL])
    found = quantile_estimate(exact(runs["cost_usd"], runs["machine"]), 0.5)
    return found.n, found.value, found.low, found.high


def _success(phases: pd.DataFrame, _: Criterion) -> tuple[int, float, float, float]:
    runs = phases[phases["phase"] == PhaseName.TOTAL]
    found = rate((runs["run_outcome"] == Outcome.PASSED).to_numpy(), machines(runs))
    return found.n, found.value, found.low, found.high
