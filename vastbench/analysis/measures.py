"""What drills found out: each quantity with its n and its interval, and a line through runs of several sizes.

Which quantities these are, :func:`vastbench.question` says.

>>> asked = vastbench.question("hibernation")
>>> found = vastbench.measures.measured(vastbench.load("hibernation-20"), asked.measures)
>>> found[["what", "unit", "n", "value", "low", "high"]].round(1).head(2)
                         what unit   n  value    low   high
0  time until nothing is paid    s  19  283.3  280.9  287.4
1    noticing that it is idle    s  19  274.9  273.5  278.9
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import attempted, of_one_kind, passed
from vastbench.analysis.bottleneck import FEWEST_FOR_BOOTSTRAP
from vastbench.analysis.durations import durations_of, exact
from vastbench.analysis.spans import span, with_span
from vastbench.analysis.survival.clusters import cluster_bootstrap, how_many, numbered
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.intervals import CONFIDENCE
from vastbench.analysis.survival.quantiles import quantile_estimates
from vastbench.errors import SchemaError
from vastbench.record.acceptance import Criterion, Measure, Place
from vastbench.record.numbers import measurable
from vastbench.record.phases import PhaseName

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FACTOR = {"ms": 1e3, "min": 1 / 60, "MB": 1e-6, "MB/s": 1e-6, "Mbit/s": 8e-6, "s/GB": 1e9}
"""What seconds, bytes and their quotients are multiplied by to be of the unit; those that are not named are of it already."""

SIZES = 3
"""Through fewer sizes no line is laid."""

USED = ["run", "phase", "parent", "final", "cause", "outcome", "run_outcome", "seconds", "machine", "figures", "queued_s"]
USED += ["lower_s", "upper_s", "start_s", "start_lower_s", "end_lower_s", "end_upper_s"]
"""The columns of the tidy frame that :func:`measured` needs: moving the others takes longest."""

APART = 1.25
"""A size is another one from so many times the smaller on."""


def measured(phases: pd.DataFrame, measures: Sequence[Measure | Criterion]) -> pd.DataFrame:
    """One row for each quantity, over the attempted runs of a tidy frame.

    Columns: ``what``; ``unit``, that of the others; ``n`` runs that show it, on so many ``machines``, ``never`` of them so that
    they never came to its end; ``value``, the median of what was waited, with its 95 % interval ``low`` to ``high``; ``tail``,
    what nine in ten had by then, where there are enough runs for its interval; ``least`` and ``most`` of those that came;
    ``within``, how wide one is known at the median. Raises SchemaError for figures that are none.
    """
    import numpy as np
    import pandas as pd

    rows: list[dict[str, Any]] = []
    counted = attempted(of_one_kind(phases)[USED])
    for one in measures:
        (found, bounded), factor = _waited_and_known(counted, one), FACTOR.get(one.unit, 1.0)
        half, nine = quantile_estimates(found, (0.5, 0.9))
        came = found.upper[found.ended]
        known = {
            "value": half.value,
            "low": half.low,
            "high": half.high,
            "tail": nine.value if math.isfinite(nine.low) else math.nan,
            "least": came.min() if len(came) else math.nan,
            "most": came.max() if len(came) else math.nan,
            "within": float(np.median(bounded.upper[bounded.ended] - bounded.lower[bounded.ended]))
            if bounded.ended.any()
            else math.nan,
        }
        counts: dict[str, Any] = {"what": one.what, "unit": one.unit, "n": len(found), "never": int((~found.ended).sum())}
        counts["machines"] = how_many(found.machine, len(found))
        rows.append(counts | {name: value * factor for name, value in known.items()})
    return pd.DataFrame(rows)


def _waited_and_known(phases: pd.DataFrame, one: Measure | Criterion) -> tuple[Durations, Durations]:
    """The quantity in each run that shows it, in seconds, bytes or whatever its figure is of: as it was read, and in bounds."""
    if one.place:
        found = _figures(phases, one.place, one.per)
    elif isinstance(one, Measure) and one.parts:
        found = _together(phases, one.parts)
    else:
        rows = span(phases, one.what, one.first, one.last)
        return durations_of(rows, waited=True), durations_of(rows)
    return found, found


def _together(phases: pd.DataFrame, parts: Sequence[str]) -> Durations:
    """What these phases took together in each run that passed."""
    rows = passed(phases[phases["final"] & phases["phase"].isin(parts)])
    runs = rows.groupby("run", sort=False)
    return exact(runs["seconds"].sum(min_count=len(parts)), runs["machine"].first())


def _figures(phases: pd.DataFrame, place: Place, per: Place) -> Durations:
    """The figure at ``place`` over the one at ``per`` in each run that has both."""
    import pandas as pd

    runs = phases[(phases["phase"] == PhaseName.TOTAL) & phases["figures"].notna()]
    values = [_quotient(figures, place, per) for figures in map(_read, runs["figures"])]
    return exact(pd.Series(values, dtype=float), runs["machine"])


def _read(figures: str) -> Any:
    try:
        return json.loads(figures)
    except (ValueError, RecursionError):
        raise SchemaError(f"The column 'figures' holds {figures[:40]!r}.", hint="Export the table with vastbench.") from None


def _quotient(figures: Any, place: Place, per: Place) -> float:
    value, whole = _at(figures, place), _at(figures, per) if per else 1.0
    found = value / whole if whole else math.nan
    return found if found >= 0 and measurable(found) else math.nan


def _at(found: Any, place: Place) -> float:
    """The number at that place, the mean of a list; NaN where there is none."""
    for name in place:
        found = found.get(name) if isinstance(found, dict) else None
    values = found if isinstance(found, list) else [found]
    numbers = [float(one) for one in values if type(one) in (int, float) and measurable(one)]
    return sum(numbers) / len(numbers) if numbers else math.nan


@dataclass(frozen=True, slots=True)
class Line:
    """What a snapshot takes by its size: ``fixed_s`` seconds whatever it is, and ``per_gb_s`` more for each GB (1e9 bytes).

    Both with their 95 % interval (NaN below 6 runs), over ``n`` runs of so many different ``sizes``; below three, no line.
    """

    n: int
    sizes: int
    fixed_s: float = math.nan
    fixed_low_s: float = math.nan
    fixed_high_s: float = math.nan
    per_gb_s: float = math.nan
    per_gb_low_s: float = math.nan
    per_gb_high_s: float = math.nan


def line(phases: pd.DataFrame, size: Place, took: Place, *, resamples: int = 2000, seed: int = 1) -> Line:
    """The line of least squares through the bytes at ``size`` and the seconds at ``took``; intervals draw whole machines."""
    import numpy as np

    rows = attempted(phases)
    runs = rows[(rows["phase"] == PhaseName.TOTAL) & rows["figures"].notna()]
    read = [_read(figures) for figures in runs["figures"]]
    gb, seconds = (np.array([_at(one, place) for one in read], dtype=float) for place in (size, took))
    there = np.isfinite(gb * seconds) & (gb > 0)
    gb, seconds = gb[there] / 1e9, seconds[there]
    machine = numbered(runs["machine"].to_numpy(dtype=float, na_value=np.nan), len(runs))[there]
    if (sizes := _sizes(gb)) < SIZES:
        return Line(len(gb), sizes)
    fixed, per_gb = _fitted(gb, seconds)
    if len(gb) < FEWEST_FOR_BOOTSTRAP:
        return Line(len(gb), sizes, fixed_s=fixed, per_gb_s=per_gb)
    drawn = cluster_bootstrap(_fitted, (gb, seconds), machine, resamples=resamples, seed=seed)
    low, high = np.nanquantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=0).tolist()
    return Line(len(gb), sizes, fixed, low[0], high[0], per_gb, low[1], high[1])


def _sizes(gb: np.ndarray) -> int:
    """How many sizes there are that differ by more than chance makes the files of one workspace differ."""
    found = 0
    smallest = -math.inf
    for one in sorted(gb.tolist()):
        if one >= APART * smallest:
            found, smallest = found + 1, one
    return found


def _fitted(gb: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Where the line begins and how steep it is; NaN for a single size."""
    import numpy as np

    spread = gb - gb.mean()
    if not (spread @ spread) > 0:
        return math.nan, math.nan
    slope = float(spread @ seconds / (spread @ spread))
    return float(np.mean(seconds)) - slope * float(gb.mean()), slope


def with_curves(phases: pd.DataFrame, measures: Sequence[Measure]) -> pd.DataFrame:
    """The tidy frame with those quantities that are drawn as further phases (:func:`~vastbench.analysis.spans.with_span`)."""
    for one in measures:
        phases = with_span(phases, one.what, one.first, one.last) if one.drawn else phases
    return phases
