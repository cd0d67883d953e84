"""What a failover would take, by the name of drills that were made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from vastbench.analysis import failover
from vastbench.analysis.failover import Forecast, Plan, beside, by_way, check, measured, parts_of, plan_of, table, what_ifs
from vastbench.answers.selection import Which, runs_of
from vastbench.scenarios.failover import MANUAL, RESUME, recovery_of

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.analysis.failover import Check, Parts

SAMPLE = "failover-40"
"""The bundled drills that it rests on unless told otherwise."""


def estimate(
    data: pd.DataFrame | str | Path | None = None,
    *,
    boots: pd.DataFrame | str | Path | None = None,
    hedge: int | None = None,
    stagger_s: float | None = None,
    standby: bool | None = None,
    interval_s: float = 30.0,
    losses_per_month: float = 1.0,
    seed: int = 1,
    **which: Unpack[Which],
) -> Forecast:
    """Estimate how long a failover takes, what is lost and what it costs, from drills that were made. It rents nothing.

    Where there are drills of several variants, it rests on those without one, and is held against those of each.

    Parameters
    ----------
    data
        Runs of the failover drill: a frame, a file, a store, a study, a data set; by default the bundled drills.
    boots
        Runs that show how long a machine takes to be had, instead of the drills' own; needed where these raced machines.
    hedge
        Machines that are rented at once, 1 to 10; the first wins. This and the next two are by default as in the drills.
    stagger_s
        Seconds after which the next of them is rented, if none has come.
    standby
        Whether a machine is kept ready.
    interval_s
        Seconds from one snapshot to the next.
    losses_per_month
        Machines lost in a month.
    seed
        The same one draws the same failovers.
    **which
        ``study``, ``where``, ``store`` as of :func:`vastbench.load`; ``pool=True`` takes runs of several kinds for one sample.

    Returns
    -------
    Forecast
        It shows itself. ``parts``: seconds of each part, of RTO and of RPO at 5 %, the median and 95 %. ``plans``: RTO and RPO
        in seconds, an incident and a month in USD, of this plan and of others. ``checks``: held against the drills.

    Raises
    ------
    UsageError
        A part that no run shows, drills that raced their machines without ``boots``, a plan that cannot be.
    NotFound
        No such file, study, data set or run.

    Examples
    --------
    >>> made = vastbench.estimate(hedge=2)
    >>> made.plans["plan"].tolist()[:3]
    ['as asked', '3 machines at once', '5 machines at once']
    >>> made.plans[["rto_p50_s", "rpo_p50_s"]].iloc[0].round(0).tolist()
    [98.0, 15.0]
    """
    drills = runs_of(data, which, sample=SAMPLE)
    others = None if boots is None else runs_of(boots, {}).phases
    ways = by_way(drills.phases)
    rests_on = next(iter(ways.values()))
    parts = parts_of(rests_on, others, names=recovery_of(rests_on["variant"].iloc[0]))
    drilled = plan_of(rests_on, recovery_of(rests_on["variant"].iloc[0])["machine"][0])
    plan = Plan(
        drilled.hedge if hedge is None else hedge,
        drilled.stagger_s if stagger_s is None else stagger_s,
        drilled.standby if standby is None else standby,
        interval_s,
        losses_per_month,
    )
    return Forecast(
        table(failover.estimate(parts, plan, seed=seed)),
        what_ifs(parts, beside(plan), seed=seed),
        {name: _held(rows, parts, rests_on, seed) for name, rows in ways.items()},
        drills.place,
    )


def _held(drills: pd.DataFrame, parts: Parts, rests_on: pd.DataFrame, seed: int) -> Check:
    """The estimate held against drills of one variant; a pause is no loss that is noticed, and is taken from them."""
    variant = drills["variant"].iloc[0]
    names = recovery_of(variant)
    if variant == MANUAL:
        parts = replace(parts, samples={**parts.samples, "notice": parts_of(drills, names=names).samples["notice"]})
    tries = max(plan_of(one, names["machine"][0]).tries for one in (drills, rests_on))
    plan = replace(plan_of(drills, names["machine"][0]), tries=tries)
    return check(parts, measured(drills, names["notice"][0], RESUME), plan, seed=seed)
