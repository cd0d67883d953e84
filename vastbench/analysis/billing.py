"""What the same runs would be billed anywhere: one model for all providers, Vast.ai included.

Of each machine that a run rented, failed runs included: ``billed seconds = max(minimum, work, rounded up to the granularity)``,
where the work goes from running to destroyed and the boot, from created to running, counts where it is billed; a machine that
was billed for nothing costs nothing. The disk is billed from creation to destruction. What a provider's sources do not say is
missing, never guessed: then the figure is the least that it can be, and :attr:`Terms.lacking` names what is left out.

How long a boot or a run takes elsewhere, and how often one fails there, is not known: ours are taken for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vastbench.analysis.survival.clusters import alike, error
from vastbench.analysis.survival.intervals import CONFIDENCE
from vastbench.record.cost import SECONDS_PER_HOUR, storage_usd_per_hour
from vastbench.record.phases import PhaseName

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LEAST_MACHINES = 3
"""Fewer machines than these show nothing of how machines differ: a mean over them has no interval."""

TERMS = {"minimum_s": "minimum", "granularity_s": "granularity", "boot_billed": "boot", "disk_usd_per_gb_month": "disk"}
"""The columns of a price table that hold a provider's terms, and what each is called."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a provider bills; None for what its sources do not say.

    ``minimum_s``: the least seconds per machine; ``granularity_s``: seconds are rounded up to a multiple of these;
    ``boot_billed``: whether the time until the machine runs is billed; ``disk_usd_per_gb_month``: 0 where the disk belongs to
    the instance.
    """

    minimum_s: float | None = None
    granularity_s: float | None = None
    boot_billed: bool | None = None
    disk_usd_per_gb_month: float | None = None

    @property
    def lacking(self) -> tuple[str, ...]:
        """The terms that are not known."""
        return tuple(word for name, word in TERMS.items() if getattr(self, name) is None)

    def billed_s(self, boot_s: np.ndarray, work_s: np.ndarray) -> np.ndarray:
        """The seconds that machines with such boots and such work are billed; the least where a term is not known.

        >>> import numpy as np
        >>> Terms(60.0, 1.0, boot_billed=False).billed_s(np.array([70.0, 70.0]), np.array([23.4, 0.0])).tolist()
        [60.0, 0.0]
        """
        import numpy as np

        used = work_s + boot_s if self.boot_billed else work_s
        if self.granularity_s:
            # What polls measured to a billionth of a second above a whole one is that whole one.
            used = np.ceil(np.round(used / self.granularity_s, 9)) * self.granularity_s
        return np.where(used > 0, np.maximum(used, self.minimum_s or 0.0), np.where(np.isnan(used), np.nan, 0.0))


VAST = Terms(minimum_s=0.0, granularity_s=1.0, boot_billed=False)
"""Vast.ai's: per second while the instance runs, without a minimum (its billing pages, as in :mod:`vastbench.record.cost`).
Each host sets the price of its disk; what ours cost is known from their meters."""


class Mean(NamedTuple):
    """A mean or a ratio of sums with its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float


def rentals(phases: pd.DataFrame) -> pd.DataFrame:
    """The machines that the runs of the tidy frame ``phases`` rented, one row per try: ``run``, ``boot_s``, ``work_s``.

    ``boot_s``: from created to running, or to destroyed where it never ran; ``work_s``: from running to destroyed. Both are
    NaN for a machine whose destruction was not seen.
    """
    import pandas as pd

    named = phases["phase"].str.rsplit(": ", n=1)
    wanted = {
        PhaseName.CREATE: "created",
        PhaseName.WAIT_RUNNING: "running",
        PhaseName.DESTROY: "destroyed",
        PhaseName.CONFIRM: "gone",
    }
    moment = named.str[-1].map({str(name): word for name, word in wanted.items()})
    rows = phases.assign(of=named.str[:-1].str.join(""), moment=moment)
    rows = rows[rows["moment"].notna() & rows["end_upper_s"].notna()]
    if rows.empty:
        return pd.DataFrame({"run": [], "boot_s": [], "work_s": []}).astype({"run": "str"})
    key = ["run", "of", "attempt"]
    moments = rows.groupby([*key, "moment"], sort=False)["end_upper_s"].last().unstack().reindex(columns=list(wanted.values()))
    moments = moments[moments["created"].notna()]
    end = moments["destroyed"].fillna(moments["gone"])
    running = moments["running"].fillna(end)
    found = pd.DataFrame({"boot_s": (running - moments["created"]).clip(lower=0), "work_s": (end - running).clip(lower=0)})
    found.loc[end.isna()] = math.nan
    return found.reset_index(["of", "attempt"], drop=True).reset_index()


class Billed(NamedTuple):
    """Of each run, the hours that its machines' GPUs are billed, and what their disks cost in USD."""

    hours: np.ndarray
    disk_usd: np.ndarray

    def usd(self, usd_per_hour: float) -> np.ndarray:
        """What each run costs at this price per hour."""
        usd: np.ndarray = self.hours * usd_per_hour + self.disk_usd
        return usd


def billed(rented: pd.DataFrame, runs: pd.DataFrame, terms: Terms) -> Billed:
    """What each of ``runs`` would be billed on these terms, all machines that it rented together.

    ``rented`` is a frame of :func:`rentals`, ``runs`` one of :func:`~vastbench.analysis.frames.runs_table`, whose ``disk_gb``
    is billed where the price of a disk is known; an unknown size is left out. NaN where the record does not say when a machine
    was made, or when it ended; 0 for a run that rented none.
    """
    import numpy as np

    boot, work = rented["boot_s"].to_numpy(dtype=float), rented["work_s"].to_numpy(dtype=float)
    seconds = rented.assign(gpu=terms.billed_s(boot, work), disk=boot + work)
    hours = seconds.groupby("run")[["gpu", "disk"]].sum() / SECONDS_PER_HOUR
    hours = hours.reindex(runs["run"].where(~runs["run"].isin(rented.loc[np.isnan(boot), "run"])))
    none = ~runs["run"].isin(rented["run"]) & runs["instance"].isna()
    hours.loc[none.to_numpy(dtype=bool)] = 0.0
    disk_gb = runs["disk_gb"].fillna(0.0).to_numpy(dtype=float)
    per_gb_hour = storage_usd_per_hour(1.0, terms.disk_usd_per_gb_month or 0.0)
    return Billed(hours["gpu"].to_numpy(), hours["disk"].to_numpy() * disk_gb * per_gb_hour)


def per(usd: np.ndarray, of: np.ndarray, machine: np.ndarray) -> Mean:
    """Σ ``usd`` ÷ Σ ``of`` over runs whose cost is known, with its interval by Student's t over whole machines.

    ``of`` is 1 for each run for a cost per run, or 1 for those that passed for a cost per success; ``machine`` the number of
    each run's machine, from 0 on (:func:`~vastbench.analysis.survival.clusters.numbered`). The variance is that of the
    machines' sums about the ratio (linearisation, as in survey sampling), taken on the logarithm because costs lean to the
    right; its degrees of freedom are those of as many machines of equal size as tell as much. No interval below
    ``LEAST_MACHINES`` of these.
    """
    import numpy as np
    from scipy.special import stdtrit

    known = ~np.isnan(usd)
    usd, of, labels = usd[known], of[known].astype(float), machine[known]
    if not of.sum() > 0:
        return Mean(math.nan, math.nan, math.nan)
    value = float(usd.sum() / of.sum())
    equal = alike(labels)
    if equal < LEAST_MACHINES or value <= 0:
        return Mean(value, math.nan, math.nan)
    part = error((usd - value * of) / usd.sum(), labels)  # of the value
    factor = math.exp(float(stdtrit(equal - 1, (1 + CONFIDENCE) / 2)) * part)
    return Mean(value, value / factor, value * factor)


def break_even(passed_usd: float, failed_usd: float, other_usd: float) -> float:
    """The share of runs that may fail before a success costs more than ``other_usd``, what one costs where none fails.

    ``passed_usd`` and ``failed_usd`` are what a run that passed and one that failed cost on average: a success costs
    passed + failed × share ÷ (1 − share). 0 where even a run that passed is dearer, 1 where failed runs cost nothing.

    >>> break_even(1.0, 1.0, 4.0)
    0.75
    """
    if math.isnan(passed_usd) or math.isnan(other_usd) or math.isnan(failed_usd):
        return math.nan
    if passed_usd >= other_usd:
        return 0.0
    if failed_usd <= 0:
        return 1.0
    odds = (other_usd - passed_usd) / failed_usd
    return odds / (1 + odds)
