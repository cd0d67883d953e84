"""What a failover would take, estimated from what was measured."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from vastbench.cli.app import JsonOption, OfStudy, StoreOption, app, print_json
from vastbench.errors import UsageError


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
    hedge: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--hedge", min=1, max=10, help="Machines that are rented at once; the first wins. [default: as drilled]"),
    ] = None,
    stagger: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--stagger", min=0, help="Seconds until the next of them is rented, if none came. [default: as drilled]"),
    ] = None,
    standby: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--standby/--no-standby", help="A machine is kept ready. [default: as drilled]"),
    ] = None,
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
    from vastbench.answers.estimate import estimate as estimated

    if of != "failover":
        raise UsageError(
            f"There is no estimate of {of!r}.", hint="Of drills only failovers can be estimated: vastbench estimate."
        )
    made = estimated(
        source,
        boots=boots,
        hedge=hedge,
        stagger_s=stagger,
        standby=standby,
        interval_s=interval,
        losses_per_month=losses,
        seed=seed,
        study=study,
        store=store,
    )
    if as_json:
        print_json(made.to_dict())
    else:
        print(made)
