"""How many runs a question takes, before anything is spent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from vastbench.cli.app import JsonOption, OfStudy, Pool, StoreOption, Where, app, print_json, print_table, share
from vastbench.record.formats import MISSING, counted, decimals, dollars, given, percent, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from vastbench.analysis.plan import Need, Plan
    from vastbench.record.stopping import StoppingRule


@app.command()
def plan(
    target_width: Annotated[
        float, typer.Option("--target-width", parser=share, metavar="SHARE", help="How narrow: 15% for ± 7.5 %.")
    ],
    quantile: Annotated[
        float, typer.Option("--quantile", parser=share, metavar="SHARE", help="Of which quantile: 0.5 is the median.")
    ] = "0.5",  # type: ignore[assignment]
    quantity: Annotated[str, typer.Option("--of", help="Of what: time to ready, or a phase.")] = "time to ready",
    source: Annotated[
        Optional[str],  # noqa: UP045 (typer reads it at run time)
        typer.Option("--from", metavar="FILE", help="Runs to plan from: a file, a store, a study, a data set."),
    ] = None,
    study: OfStudy = None,
    where: Where = None,
    pool: Pool = False,
    store: StoreOption = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="How many runs at once.")] = 4,
    price: Annotated[Optional[float], typer.Option("--price", help="USD per hour instead of the runs' own prices.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draw the same campaigns.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Say how many runs, minutes, requests and dollars it takes to know a time well enough. It rents nothing.

    It draws campaigns from runs that were made: those of --from, or of --study in the store; without either from the sample
    of emulated runs that comes with vastbench.

    For example: vastbench plan --target-width 15%
    """
    from vastbench.analysis.plan import plan as planned
    from vastbench.bench.workers import APART_S
    from vastbench.cli.selection import narrowed, runs_from

    phases, place = runs_from(source, study, store)
    phases = narrowed(phases, where, pooled=pool)
    made = planned(
        phases,
        target_width,
        quantile=quantile,
        quantity=quantity,
        workers=workers,
        apart_s=APART_S,
        usd_per_hour=price,
        seed=seed,
    )
    if as_json:
        print_json(made.to_dict() | {"source": place})
    else:
        _show(made, place)


def _show(made: Plan, place: str) -> None:
    rule = made.rule
    what = f"the {'median' if rule.quantile == 0.5 else f'{rule.quantile:g}-quantile'} of {rule.quantity}"
    wide = f"± {given(rule.width / 2)} (an interval {given(rule.width)} wide)"
    print(f"To know {what} to {wide} at {given(rule.confidence)} confidence:")
    if made.unreachable:
        print(f"\n  No number of runs is enough: {made.unreachable}.")
    else:
        rows = [
            [
                words,
                _runs_range(need),
                _range(need.minutes, need.minutes_high, _whole),
                _range(need.requests, need.requests_high, _whole),
                _range(need.usd, need.usd_high, dollars),
            ]
            for words, need in (("a number chosen beforehand", made.fixed), ("stopping by itself", made.stopping))
        ]
        print()
        print_table(["", "runs", "minutes", "requests", "cost"], rows, numbers=4)
        print("\nFrom – to: enough in half, and in nine of ten, of the campaigns drawn from the runs below.")
        print(f"Every run is taken to be on a machine of its own; {made.workers} at once. Stopping by itself: {_command(rule)}")
        print(_on_repeats(made))
    print(
        f"\nIt rests on {counted(made.source_runs, 'run')} on {counted(made.machines, 'machine')}: {place}. "
        f"{counted(made.never, 'run')} never came to its end; {what} is {seconds(made.estimate_s)} in these runs. "
        f"A mean run takes {seconds(made.run_s)}"
        + ("" if math.isnan(made.run_usd) else f" and costs {dollars(made.run_usd)} by meter")
        + ", failures included."
    )


def _command(rule: StoppingRule) -> str:
    from vastbench.record.stopping import USEFUL

    words = f"vastbench study --name NAME --stop-width {rule.width:g}"
    words += "" if rule.quantile == 0.5 else f" --stop-quantile {rule.quantile:g}"
    return words + ("" if rule.quantity == USEFUL else f" --stop-of '{rule.quantity}'")


def _on_repeats(made: Plan) -> str:
    """What it takes when the same machines are rented again and again."""
    from vastbench.analysis.plan import MOST

    if math.isnan(made.icc):
        return "No machine was rented twice in these runs: what repeats on one bring is not known."
    numbers = [f"> {MOST}" if n is None else str(n) for n in (made.fixed_on_these, made.stopping_on_these)]
    return (
        f"On no more than their {made.machines} machines: {numbers[0]} runs chosen beforehand, {numbers[1]} stopping; "
        f"{percent(made.icc)} of the spread lies between machines."
    )


def _whole(number: float) -> str:
    return decimals(number, 0)


def _range(low: float | None, high: float | None, text: Callable[[float], str]) -> str:
    if low is None:
        return MISSING
    return f"{text(low)} – {'?' if high is None else text(high)}"


def _runs_range(need: Need) -> str:
    from vastbench.analysis.plan import MOST

    return f"> {MOST}" if need.runs is None else _range(need.runs, need.runs_high, _whole)
