"""What a study will take, by the name of runs that were made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from vastbench.analysis import plan as planning
from vastbench.analysis.plan import Plan
from vastbench.answers.selection import Which, runs_of
from vastbench.record.stopping import USEFUL

if TYPE_CHECKING:
    import pandas as pd


def plan(
    width: float,
    data: pd.DataFrame | str | Path | None = None,
    *,
    quantile: float = 0.5,
    of: str = USEFUL,
    workers: int = 4,
    usd_per_hour: float | None = None,
    seed: int = 1,
    **which: Unpack[Which],
) -> Plan:
    """Say how many runs, minutes, requests and dollars it takes to know a time well enough. It rents nothing.

    Parameters
    ----------
    width
        How wide the 95 % interval may be at most, as a part of its middle: 0.15 for ± 7.5 %.
    data
        The runs from which campaigns are drawn: a frame, a file, a store, a study, a data set; by default the bundled sample.
    quantile
        Of which quantile, between 0 and 1; 0.5 is the median.
    of
        Of what: ``time to ready``, or a phase.
    workers
        How many runs at once, 1 to 64.
    usd_per_hour
        The price of a machine in USD per hour, instead of the runs' own prices.
    seed
        The same one draws the same campaigns.
    **which
        ``study``, ``where``, ``store`` as of :func:`vastbench.load`; ``pool=True`` takes runs of several kinds for one sample.

    Returns
    -------
    Plan
        It shows itself. ``fixed`` and ``stopping`` hold runs, real minutes, requests and USD: of a number of runs chosen
        beforehand, and of a study that stops by itself.

    Raises
    ------
    UsageError
        Fewer than 6 runs that came to an end, or a width, quantile, quantity, number of workers or price that cannot be.
    NotFound
        No such file, study, data set or run.

    Examples
    --------
    >>> made = vastbench.plan(0.3)
    >>> made.fixed.runs, made.fixed.runs_high
    (22, 40)
    >>> print(f"{made.stopping.usd:.2f} USD")
    0.07 USD
    """
    runs = runs_of(data, which)
    made = planning.plan(
        runs.phases, width, quantile=quantile, quantity=of, workers=workers, usd_per_hour=usd_per_hour, seed=seed
    )
    return replace(made, source=runs.place)
