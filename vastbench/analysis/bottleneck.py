"""Where the time of a run goes, what makes runs differ, and what a faster phase would save.

All of it is over the runs that passed and whose phases, with the retries and what is unattributed, add up to the total. A
phase that such a run did not have took none of its total and counts as 0 s there. ``retries`` is what earlier tries took in
phases that ended; what an earlier try waited in vain is unattributed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import of_one_kind, passed
from vastbench.analysis.frames import column, seconds_table, top_level
from vastbench.analysis.survival.clusters import cluster_bootstrap, numbered, repeated
from vastbench.analysis.survival.intervals import CONFIDENCE
from vastbench.record.numbers import SMALLEST, quotient
from vastbench.record.phases import PhaseName
from vastbench.record.run import ROUNDING_S

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

RETRIES = "retries"
"""The name of the part that the earlier tries of a run make up."""

FACTORS = (0.0, 0.5)
"""What :func:`what_if` multiplies a phase with: gone, and halved."""

FEWEST_FOR_VARIANCE = 3
FEWEST_FOR_TRIMMING = 20
"""Fewer runs than this have none beyond p95."""
FEWEST_FOR_BOOTSTRAP = 6
"""Below it the resampled medians span no more than the sample itself: their interval would promise too much."""

MOST_DRAWN = 1000
"""More runs than this are not resampled whole: that would take minutes and move the third digit of an interval."""

AT_ONCE = 100_000
"""How many totals are resampled together: as many as stay in a processor's cache."""

SHARE_COLUMNS = {
    "phase": "str",
    "n": "int64",
    "mean_s": "float64",
    "mean_share": "float64",
    "variance_share": "float64",
    "variance_share_trimmed": "float64",
    "spearman": "float64",
}

WHAT_IF_COLUMNS = {
    "phase": "str",
    "factor": "float64",
    "n": "int64",
    "median_total_s": "float64",
    "saved_s": "float64",
    "saved_low_s": "float64",
    "saved_high_s": "float64",
}


def shares(phases: pd.DataFrame) -> pd.DataFrame:
    """What each phase contributes to the mean of the total, and to its variance; both shares add up to 1.

    One row per top-level phase that any of the runs had, in order of time, then ``retries`` and ``unattributed``. Columns:
    ``n`` runs; ``mean_s``, the mean over all n of them, in seconds; ``mean_share`` = mean_s ÷ mean total;
    ``variance_share`` = Cov(phase, total) ÷ Var(total), missing below n = 3 or when the totals do not differ;
    ``variance_share_trimmed``, the same without the runs whose total lies beyond p95, missing below n = 20, because a few slow
    runs can decide the variance; ``spearman``, the rank correlation of the phase with the total, missing where either does
    not vary or below n = 3. A negative variance share is a phase that is short when the total is long. Runs in which
    phases passed at the same time do not count, as their seconds add up to more than their total. No such run: no row.

    Examples
    --------
    >>> vastbench.shares(vastbench.load("default-300"))[["phase", "mean_s", "mean_share"]].round(2).loc[3:4]
              phase  mean_s  mean_share
    3  wait running   84.45        0.80
    4      wait SSH   11.81        0.11
    """
    import pandas as pd

    parts, _ = _parts(phases)
    total, n = parts.sum(axis=1), len(parts)
    trimmed = parts[total <= total.quantile(0.95)] if n >= FEWEST_FOR_TRIMMING else parts[:0]
    found = pd.DataFrame(
        {
            "n": n,
            "mean_s": parts.mean(),
            "mean_share": [quotient(mean, total.mean()) if n else None for mean in parts.mean()],
            "variance_share": _variance_shares(parts),
            "variance_share_trimmed": _variance_shares(trimmed),
            "spearman": _rank_correlations(parts),
        },
        index=parts.columns,
    )
    found = found.rename_axis("phase").reset_index()
    return (found if n else found[:0])[list(SHARE_COLUMNS)].astype(SHARE_COLUMNS)


def what_if(phases: pd.DataFrame, *, resamples: int = 2000, seed: int = 1) -> pd.DataFrame:
    """What the median total of ``phases`` would be if a phase took no time, or half of it, all else staying as it was.

    Two rows per phase of :func:`shares`, ``factor`` 0 and 0.5. Each run's total is computed anew with the phase times the
    factor; ``median_total_s`` is the median of these, and ``saved_s`` the median total as it is minus that. The phase's own
    median says nothing of it, as quantiles do not add. ``saved_low_s`` to ``saved_high_s`` is the 95 % percentile interval of a
    bootstrap that draws whole runs (Efron 1979), or whole machines where they repeat, ``resamples`` times from ``seed``;
    missing below 6 of what is drawn. All in seconds.

    Of more than 1,000 runs a sample of that size, the same for the same seed, is drawn from. For independent runs the interval
    is then narrowed by √(1000 ÷ n), to what it would be for n (Bickel, Götze and van Zwet 1997); where machines repeat it is
    left as it is, which is a little too wide.

    Examples
    --------
    >>> saved = vastbench.what_if(vastbench.load("default-300"), resamples=200)
    >>> saved[saved["phase"] == "wait running"][["factor", "saved_s", "saved_low_s", "saved_high_s"]].round(1)
       factor  saved_s  saved_low_s  saved_high_s
    6     0.0     83.2         80.3          88.0
    7     0.5     41.4         39.9          44.1
    """
    import numpy as np
    import pandas as pd

    parts, machine = _parts(phases)
    n = len(parts)
    if not n:
        return pd.DataFrame(columns=list(WHAT_IF_COLUMNS)).astype(WHAT_IF_COLUMNS)
    seconds = parts.to_numpy().T
    total = seconds.sum(axis=0)
    cases = [(name, factor) for name in parts.columns for factor in FACTORS]
    changed = np.array([total - (1 - factor) * seconds[parts.columns.get_loc(name)] for name, factor in cases])
    medians = np.median(changed, axis=1)
    low, high = _saved_intervals(total, changed, machine, resamples, seed)
    rows = {
        "phase": [name for name, _ in cases],
        "factor": [factor for _, factor in cases],
        "n": n,
        "median_total_s": medians,
        "saved_s": np.median(total) - medians,
        "saved_low_s": low,
        "saved_high_s": high,
    }
    return pd.DataFrame(rows).astype(WHAT_IF_COLUMNS)


def _parts(phases: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """One row per run whose seconds add up, one column per part of the total; and the machine of each, NaN where unknown.

    Runs in which phases passed at the same time are left out: their seconds add up to more.
    """
    import numpy as np

    # No more columns than these: the others are text, whose copies would take most of the time and memory.
    needed = of_one_kind(phases)[["run", "run_outcome", "phase", "parent", "final", "seconds", "machine"]]
    rows = passed(needed)
    machine = rows.loc[rows["phase"] == PhaseName.TOTAL, "machine"].to_numpy(dtype=float, na_value=np.nan)
    runs = seconds_table(rows)
    names = {column(name): name for name in top_level(rows)} | {"retries_s": RETRIES}
    excess = runs[[*names, column(PhaseName.UNATTRIBUTED)]].sum(axis=1) - runs["total_s"]
    whole = (runs["unattributed_s"].notna() & ~(excess > ROUNDING_S)).to_numpy()
    runs, machine = runs[whole], machine[whole]
    had = [name for name in names if runs[name].notna().any()]
    parts = runs[[*had, column(PhaseName.UNATTRIBUTED)]].fillna(0.0)
    return parts.rename(columns=names | {column(PhaseName.UNATTRIBUTED): str(PhaseName.UNATTRIBUTED)}), machine


def _variance_shares(parts: pd.DataFrame) -> Any:
    import numpy as np

    total = parts.sum(axis=1).to_numpy()
    if len(parts) < FEWEST_FOR_VARIANCE or _constant(total):
        return np.nan
    away = total - total.mean()
    spread = away @ away
    return (parts - parts.mean()).to_numpy().T @ away / spread if spread >= SMALLEST else np.nan


def _rank_correlations(parts: pd.DataFrame) -> Any:
    import numpy as np

    if len(parts) < FEWEST_FOR_VARIANCE:
        return np.nan
    ranks = parts.assign(total=parts.sum(axis=1)).rank()
    away = (ranks - ranks.mean()).to_numpy()
    products = away.T @ away[:, -1]
    lengths = np.sqrt((away**2).sum(axis=0) * products[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lengths > 0, products / lengths, np.nan)[:-1]


def _constant(values: np.ndarray) -> bool:
    """Whether the values differ by no more than rounding: less than a nanosecond in a second."""
    return bool(values.max() - values.min() <= 1e-9 * abs(values).max())


def _saved_intervals(total: np.ndarray, changed: np.ndarray, machine: np.ndarray, resamples: int, seed: int) -> tuple[Any, Any]:
    import numpy as np

    n = len(total)
    if n > MOST_DRAWN:
        kept = np.random.default_rng(seed).choice(n, MOST_DRAWN, replace=False)
        low, high = _percentiles(total[kept], changed[:, kept], machine[kept], resamples, seed)
        if repeated(machine[kept]):
            return low, high
        centre = np.median(total) - np.median(changed, axis=1)
        of_kept = np.median(total[kept]) - np.median(changed[:, kept], axis=1)
        narrowed = math.sqrt(MOST_DRAWN / n)
        return centre + narrowed * (low - of_kept), centre + narrowed * (high - of_kept)
    return _percentiles(total, changed, machine, resamples, seed)


def _percentiles(total: np.ndarray, changed: np.ndarray, machine: np.ndarray, resamples: int, seed: int) -> tuple[Any, Any]:
    """The percentile intervals of what is saved in each case, over draws of runs or, where they repeat, of machines."""
    import numpy as np
    from scipy.stats import bootstrap

    n = len(total)
    if int(numbered(machine, n).max()) + 1 < FEWEST_FOR_BOOTSTRAP:
        return np.nan, np.nan
    if repeated(machine):
        by_run = np.vstack([total, changed]).T

        def saved_by(drawn: np.ndarray) -> Any:
            medians = np.median(drawn, axis=0)
            return medians[0] - medians[1:]

        found = cluster_bootstrap(saved_by, by_run, machine, resamples=resamples, seed=seed)
        return tuple(np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0))

    def saved(drawn: np.ndarray, axis: int) -> Any:
        return np.median(total[drawn], axis=axis) - np.median(changed[:, drawn], axis=axis)

    interval = bootstrap(
        (np.arange(n),),
        saved,
        n_resamples=resamples,
        batch=max(1, AT_ONCE // changed.size),
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return interval.low, interval.high
