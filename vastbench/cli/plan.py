"""How many runs a question takes, before anything is spent."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from vastbench.cli.app import (
    GroupBy,
    JsonOption,
    OfStudy,
    Passed,
    Pool,
    StoreOption,
    TimesColumn,
    Unit,
    Where,
    app,
    print_json,
    share,
)


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
    passed: Passed = None,
    unit: Unit = "",
    column: TimesColumn = None,
    group_by: GroupBy = None,
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
    from vastbench.answers.plan import plan as planned

    made = planned(
        target_width,
        source,
        quantile=quantile,
        of=quantity,
        workers=workers,
        usd_per_hour=price,
        seed=seed,
        study=study,
        where=where,
        pool=pool,
        store=store,
        passed=passed or (),
        unit=unit,
        column=column or (),
        group_by=group_by or (),
    )
    if as_json:
        print_json(made.to_dict())
    else:
        print(made)
