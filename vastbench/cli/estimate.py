"""What a failover would take, estimated from what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from vastbench.cli.app import JsonOption, OfStudy, StoreOption, app, print_json, print_table
from vastbench.errors import UsageError
from vastbench.record.formats import counted, decimals, dollars, percent, seconds

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.analysis.failover import Check, Parts

SAMPLE = "failover-40"
"""The bundled drills that it rests on unless told otherwise."""


@app.command()
def estimate(
    of: Annotated[str, typer.Argument(metavar="[failover]", help="What is estimated: only failovers can be.")] = "failover",
    *,
    source: Annotated[
        Optional[str],  # noqa: UP045 (typer reads it at run time)
        typer.Option("--from", metavar="FILE", help="Runs of the failover drill: a file, a store, a data set."),
    ] = None,
    boots: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--boots", metavar="FILE", help="Runs that show how long a machine takes, instead of the drills' own."),
    ] = None,
    study: OfStudy = None,
    store: StoreOption = None,
    hedge: Annotated[int, typer.Option("--hedge", min=1, max=10, help="Machines that are rented at once; the first wins.")] = 1,
    stagger: Annotated[
        float, typer.Option("--stagger", min=0, help="Seconds after which the next of them is rented, if none has come.")
    ] = 0.0,
    standby: Annotated[bool, typer.Option("--standby", help="A machine is kept ready.")] = False,
    interval: Annotated[float, typer.Option("--interval", min=1, help="Seconds from one snapshot to the next.")] = 30.0,
    losses: Annotated[float, typer.Option("--losses", min=0, help="Machines lost in a month.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draw the same failovers.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Estimate how long a failover takes, what is lost and what it costs, from drills that were made. It rents nothing.

    Without --from or --study it rests on the emulated drills that come with vastbench. Where there are drills of several
    variants, it rests on those without one. The last lines hold it against the drills of each variant.

    For example: vastbench estimate failover --hedge 2 --interval 60
    """
    from vastbench.analysis.failover import Plan, beside, by_way, estimate, parts_of, table, what_ifs
    from vastbench.cli.selection import runs_from
    from vastbench.scenarios.failover import recovery_of

    if of != "failover":
        raise UsageError(
            f"There is no estimate of {of!r}.", hint="Of drills only failovers can be estimated: vastbench estimate."
        )
    drills, place = runs_from(source, study, store, sample=SAMPLE)
    others = None if boots is None else runs_from(boots, None, None)[0]
    ways = by_way(drills)
    rests_on = next(iter(ways.values()))
    parts = parts_of(rests_on, others, names=recovery_of(rests_on["variant"].iloc[0]))
    plan = Plan(hedge, stagger, standby, interval, losses)
    made = estimate(parts, plan, seed=seed)
    found = table(made)
    plans = what_ifs(parts, beside(plan), seed=seed)
    against = {name: _held(rows, parts, rests_on, seed) for name, rows in ways.items()}
    if as_json:
        print_json(
            {
                "source": place,
                "parts": found.to_dict("records"),
                "plans": plans.to_dict("records"),
                "checks": {
                    name: {"n": one.n, "inside": one.inside, "low_s": one.low, "high_s": one.high, "p": one.p}
                    for name, one in against.items()
                },
            }
        )
        return
    _show(found, plans, against, place)


def _held(drills: pd.DataFrame, parts: Parts, rests_on: pd.DataFrame, seed: int) -> Check:
    """The estimate held against drills of one variant; a pause is no loss that is noticed, and is taken from them."""
    from vastbench.analysis.failover import check, measured, parts_of, plan_of
    from vastbench.scenarios.failover import MANUAL, RESUME, recovery_of

    variant = drills["variant"].iloc[0]
    names = recovery_of(variant)
    if variant == MANUAL:
        parts = replace(parts, samples={**parts.samples, "notice": parts_of(drills, names=names).samples["notice"]})
    tries = max(plan_of(one, names["machine"][0]).tries for one in (drills, rests_on))
    plan = replace(plan_of(drills, names["machine"][0]), tries=tries)
    return check(parts, measured(drills, names["notice"][0], RESUME), plan, seed=seed)


def _show(found: pd.DataFrame, plans: pd.DataFrame, against: dict[str, Check], place: str) -> None:
    from vastbench.analysis.failover import ORIGINAL_S

    rows = [
        [
            str(row["part"]),
            *(decimals(row[name], 1) for name in ("p05", "p50", "p95")),
            "" if row["low"] != row["low"] else f"{decimals(row['low'], 1)} … {decimals(row['high'], 1)}",
        ]
        for row in found.to_dict("records")
    ]
    print_table(["seconds", "5 %", "median", "95 %", "median lies in"], rows, numbers=4)
    print(f"\nRTO: from the last acknowledged record to the next one. RPO: acknowledged work that is missing. From {place}.")
    print(f"The published report estimated {ORIGINAL_S[0]:.0f} to {seconds(ORIGINAL_S[1])} for a failover.\n")
    rows = [
        [
            str(row["plan"]),
            decimals(row["rto_p50_s"], 1),
            decimals(row["rto_p95_s"], 1),
            decimals(row["rpo_p95_s"], 1),
            dollars(row["incident_usd"]),
            dollars(row["month_usd"]),
            percent(row["within"], 0),
        ]
        for row in plans.to_dict("records")
    ]
    last = f"under {seconds(ORIGINAL_S[1])}"
    print_table(["plan", "RTO median", "RTO 95 %", "RPO 95 %", "an incident", "a month", last], rows, numbers=6)
    print()
    for name, one in against.items():
        print(
            f"Against the drills ({name}): {one.inside} of {counted(one.n, 'drill')} lie in the estimate's 90 % interval, "
            f"{decimals(one.low, 1)} to {seconds(one.high)}; "
            + ("nothing speaks against it" if one.plausible else "the drills contradict it")
            + f" (p = {decimals(one.p, 2)})."
        )
