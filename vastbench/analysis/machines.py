"""Which machines are slow: was it the machine, or luck?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.stopping import observations
from vastbench.analysis.survival.curves import middles
from vastbench.analysis.survival.intervals import CONFIDENCE
from vastbench.record.stopping import USEFUL

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MACHINE_COLUMNS = {
    "machine": "int64",
    "n": "int64",
    "failed": "int64",
    "median_s": "float64",
    "ratio": "float64",
    "ratio_low": "float64",
    "ratio_high": "float64",
    "verdict": "str",
}

SLOW, FAST, OPEN = "slow", "fast", "not decided"


def machines(phases: pd.DataFrame, quantity: str = USEFUL) -> pd.DataFrame:
    """How slow each machine is beside the others, as far as the runs of the tidy frame ``phases`` can tell.

    One row per machine that is known, the slowest first. ``quantity`` is a phase or ``time to ready``.

    Columns: ``machine``, its id; ``n`` attempted runs that reached ``quantity``, ``failed`` of them without it; ``median_s`` of
    the others; ``ratio``, how many times as long as on a usual machine it takes there, with its 95 % interval; and the
    ``verdict``, ``slow`` or ``fast`` where that leaves out 1. The ratio is shrunk towards 1, the more the fewer runs there are
    and the less machines differ: logarithms of time are taken for normal about their machine's mean, and these means for normal
    too, with the variances of a one-way analysis (empirical Bayes, Morris 1983). So a machine with one slow run is not *slow*,
    where runs of one machine differ as much. The interval is missing where machines differ no more than the runs on one do, and
    the ratio, too, where no known machine repeats: then nothing tells a machine from luck.

    Examples
    --------
    >>> found = vastbench.machines(vastbench.load("default-300"))
    >>> found[["machine", "n", "median_s", "ratio", "ratio_low", "ratio_high", "verdict"]].head(3).round(2)
       machine   n  median_s  ratio  ratio_low  ratio_high      verdict
    0     1003  22    112.71   1.15       1.05        1.26         slow
    1     1105  21    115.01   1.14       1.03        1.25         slow
    2     1161  16    104.24   1.08       0.98        1.20  not decided
    """
    import numpy as np
    import pandas as pd

    seen = observations(phases, quantity, waited=True)
    machine = np.full(len(seen), np.nan) if seen.machine is None else seen.machine
    known = ~np.isnan(machine)
    frame = pd.DataFrame({"machine": machine[known], "s": middles(seen.lower, seen.upper)[known], "ended": seen.ended[known]})
    ended = frame[frame["ended"] & (frame["s"] > 0)]
    table = frame.groupby("machine").agg(n=("ended", "size"), ended=("ended", "sum")).reset_index()
    table["failed"] = table["n"] - table["ended"]
    table["median_s"] = table["machine"].map(ended.groupby("machine")["s"].median())
    estimates = shrunk(np.log(ended["s"].to_numpy()), ended["machine"].to_numpy())
    for column, values in zip(("ratio", "ratio_low", "ratio_high"), estimates, strict=True):
        table[column] = table["machine"].map(values).astype(float)
    table["verdict"] = np.select([table["ratio_low"] > 1, table["ratio_high"] < 1], [SLOW, FAST], OPEN)
    ranked = table.sort_values(["ratio", "machine"], ascending=[False, True], ignore_index=True)
    return ranked[list(MACHINE_COLUMNS)].astype(MACHINE_COLUMNS)


def shrunk(logs: np.ndarray, machine: np.ndarray) -> tuple[dict[float, float], ...]:
    """By machine the ratio and the ends of its interval, nothing where machines cannot be told from luck."""
    import numpy as np
    from scipy.stats import t

    ids, label = np.unique(machine, return_inverse=True)
    n, many = len(logs), len(ids)
    if many < 2 or many == n:
        return {}, {}, {}
    sizes = np.bincount(label)
    means = np.bincount(label, logs) / sizes
    within = float(((logs - means[label]) ** 2).sum()) / (n - many)
    size = (n - float((sizes**2).sum()) / n) / (many - 1)
    between = max(0.0, (float(sizes @ (means - logs.mean()) ** 2) / (many - 1) - within) / size)
    if not between > 0:
        return dict.fromkeys(ids.tolist(), 1.0), {}, {}
    weight = 1 / (between + within / sizes)
    usual = float(weight @ means / weight.sum())
    shrink = between / (between + within / sizes)
    effect = shrink * (means - usual)
    # What the usual machine is, is not known exactly either.
    error = np.sqrt(shrink * within / sizes + shrink**2 / weight.sum())
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - many)) * error
    return tuple(dict(zip(ids.tolist(), np.exp(part).tolist(), strict=True)) for part in (effect, effect - half, effect + half))
