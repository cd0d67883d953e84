"""Commands that rent: one run, or a study of many."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from vastbench.cli.app import JsonOption, Yes, app, open_store, print_json, share
from vastbench.cli.options import Market, options
from vastbench.errors import BudgetRefused, Interrupted, UsageError, exit_code_of
from vastbench.record.conditions import Conditions
from vastbench.record.document import run_to_dict

if TYPE_CHECKING:
    from vastbench.bench.bench import Bench
    from vastbench.record.study import Study
    from vastbench.scenarios.drill import Scenario


@app.command()
@options
def run(
    scenario: Annotated[
        Optional[str],  # noqa: UP045 (typer reads it at run time)
        typer.Argument(metavar="[SCENARIO]", help="See: vastbench scenarios. By default, the first of them."),
    ] = None,
    *,
    conditions: Conditions,
    market: Market,
    yes: Yes = False,
    as_json: JsonOption = False,
) -> None:
    """Rent one GPU, reach it over SSH, check it, destroy it; time every phase with its bounds.

    Free, on the emulator: vastbench run --profile cached --seed 1

    Live, spending money: vastbench run --live --budget 0.25
    """
    from vastbench.render.progress import for_stderr
    from vastbench.scenarios import find_scenario

    drill = find_scenario(scenario)
    drill.settled(conditions)  # an option that it does not know is refused before anything is opened
    with market.bench() as bench:
        if market.live:
            _agree(bench, drill, conditions, ask=not yes)
        with for_stderr() as listener:
            done = bench.run(conditions, listener, scenario=scenario)
        if as_json:
            print_json(run_to_dict(done))
        else:
            print(done)
    if done.cause:
        raise typer.Exit(exit_code_of(done.cause))


@app.command()
@options
def study(
    context: typer.Context,
    file: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads it at run time)
        typer.Argument(metavar="[FILE]", help="A study of several conditions, as a TOML file; in place of --name."),
    ] = None,
    *,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--name", help="The study's name; an unfinished study of that name goes on."),
    ] = None,
    scenario: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--scenario", help="What is repeated; see: vastbench scenarios. By default, the first of them."),
    ] = None,
    repeats: Annotated[
        Optional[int],  # noqa: UP045 (typer reads it at run time)
        typer.Option(
            "--repeats", help="How many runs it is to have, earlier ones included. [default: 12; 300 with --stop-width]"
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="How many runs at once.")] = 4,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a study that is in the store, under its own conditions.")
    ] = False,
    stop_width: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--stop-width", parser=share, metavar="SHARE", help="End once the interval is as narrow: 15% for ± 7.5 %."
        ),
    ] = None,
    stop_quantile: Annotated[
        float, typer.Option("--stop-quantile", parser=share, metavar="SHARE", help="Of which quantile: 0.5 is the median.")
    ] = "0.5",  # type: ignore[assignment]
    stop_of: Annotated[str, typer.Option("--stop-of", help="Of what: time to ready, or a phase.")] = "time to ready",
    stop_after: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--stop-after", metavar="MINUTES", help="Begin no run after so many minutes of real time."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With FILE: say how many runs, minutes, requests and dollars, and rent nothing.")
    ] = False,
    conditions: Conditions,
    market: Market,
    yes: Yes = False,
    as_json: JsonOption = False,
) -> None:
    """Repeat the run under the same conditions until a study has all its repeats.

    Every run is stored as it ends. Interrupted in any way, the same command goes on where it stopped. With --stop-width it
    ends as soon as it knows a quantile well enough; the interval is made to be looked at after every run. Exit code 0: all
    runs were made, or enough for that, and some passed; 10: none passed; 11: runs are missing.

    Free, on the emulator: vastbench study --name first --repeats 12 --seed 1

    With a FILE it compares several conditions: each block makes one run of each, in random order.
    """
    from vastbench.bench.workers import run_study
    from vastbench.record.stopping import StoppingRule
    from vastbench.record.study import check_plan
    from vastbench.render.progress import study_for_stderr
    from vastbench.render.text import stopping_text, study_text
    from vastbench.scenarios import find_scenario

    if file is not None:
        _study_of_file(context, file, market, dry_run=dry_run, yes=yes)
        return
    if name is None or dry_run:
        lacking = "A dry run needs a study's file." if dry_run else "The study has no name."
        raise UsageError(lacking, hint="Give --name NAME for one condition, or a file of several: vastbench study FILE.")
    if resume:
        there = _to_resume(context, name, market)
        wanted, stopping, conditions = there.repeats, there.stopping, Conditions.of(there.conditions)
        scenario = there.scenario
        if not _given(context, "profile"):  # a profile of the user's own is a file that only they know
            market = replace(market, profile=there.conditions.get("profile") or market.profile)
    else:
        wanted = repeats if repeats is not None else 12 if stop_width is None else 300
        stopping = None if stop_width is None else StoppingRule(stop_width, stop_quantile, stop_of)
        find_scenario(scenario).check_quantity(stop_of)
        find_scenario(scenario).settled(conditions)
    check_plan(name, wanted, workers)
    bench = market.bench(name)
    try:
        with bench:
            found = bench.open_study(wanted, conditions, scenario=scenario, stopping=stopping)
            missing = found.wanted - len(found.made)
            if missing <= 0:
                print(f"The study {name} is complete: no run was made.", file=sys.stderr)
            else:
                if market.live:
                    _agree(bench, find_scenario(found.scenario), conditions, runs=missing, ask=not yes)
                with study_for_stderr() as listener:
                    found = run_study(bench, found, workers=workers, listener=listener, minutes=stop_after)
            if as_json:
                print_json(found.to_dict())
            else:
                where = f" --store {market.store}" if market.store else ""
                print(study_text(found))
                if found.stopping:
                    print(f"\n{stopping_text(found)}")
                print(f"\nReport: vastbench report --study {name}{where}")
                print(f"Table:  vastbench export {name}.parquet --study {name}{where}")
    except Interrupted as stopped:
        stopped.hint = "Every run that ended is stored; the same command goes on with the study."
        raise
    if error := found.shortfall():
        raise error


def _study_of_file(context: typer.Context, file: Path, market: Market, *, dry_run: bool, yes: bool) -> None:
    """A study of the conditions in ``file``. Raises UsageError for options that the file answers."""
    from vastbench.cli.designed import run_file, show_effort

    if given := [
        option for one, option in {**OF_THE_STUDY, "name": "--name", "resume": "--resume"}.items() if _given(context, one)
    ]:
        raise UsageError(
            f"The file says what the study is, but {given[0]} was given.", hint="Leave it out, or write it in the file."
        )
    asked = context.params
    if dry_run:
        show_effort(file, market, asked["workers"])
        return
    run_file(
        file,
        market,
        lambda bench, drill, conditions, runs: _agree(bench, drill, conditions, runs=runs, ask=not yes),
        workers=asked["workers"],
        minutes=asked["stop_after"],
        as_json=asked["as_json"],
    )


OF_THE_STUDY = {
    **{name: f"--{name.replace('_', '-')}" for name in ("scenario", "repeats", "stop_width", "stop_quantile", "stop_of")},
    **{one.name: one.metadata["option"] for one in fields(Conditions)},
}
"""The options of a study that --resume takes from the study itself."""


def _given(context: typer.Context, name: str) -> bool:
    return getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"


def _to_resume(context: typer.Context, name: str, market: Market) -> Study:
    """The study that is to go on. Raises NotFound for none, UsageError for options that would change it."""
    given = [option for one, option in OF_THE_STUDY.items() if _given(context, one)]
    if given:
        raise UsageError(
            f"--resume goes on under the study's own conditions, but {given[0]} was given.",
            hint="Leave it out, or leave out --resume and repeat the conditions.",
        )
    with open_store(market.store, made=False) as opened:
        there: Study = opened.study(name)
    if (there.conditions.get("profile") is None) is not market.live:
        was = "on the marketplace at VAST_URL" if not market.live else "on the built-in emulator"
        raise UsageError(
            f"The study {name!r} was begun {was}.", hint="Leave out --live." if market.live else "Add --live and --budget."
        )
    return there


def _agree(bench: Bench, scenario: Scenario, conditions: Conditions, *, ask: bool, runs: int = 1) -> None:
    """Offer to close what dead processes left, show what live runs cost, and ask once.

    Raises BudgetRefused when not even one fits or nobody can be asked, LeaseNotClosed when something left over stays.
    """
    from vastbench.cli.reap import offer_left_over
    from vastbench.errors import clean
    from vastbench.record.cost import usd_for
    from vastbench.record.formats import counted, dollars
    from vastbench.rental.offers import choose, find

    offer_left_over(bench, ask=ask)
    offer = find(lambda search: bench.api.search_offers(search).value, conditions, lambda offers: choose(offers, conditions))
    price = offer.usd_per_hour(conditions.disk_gb)
    worst, machines = scenario.worst_case_usd(conditions, price), scenario.at_once(conditions)
    each = f" for each of {machines} machines" if machines > 1 else ""
    budget = (bench.budget_usd or 0.0) - bench.spent_usd
    several = "a run" if runs == 1 else counted(runs, "run")
    print(
        f"{clean(offer.gpu_name)} in {clean(offer.geolocation)} at {dollars(price)}/h{each}: "
        f"about {dollars(machines * runs * usd_for(120.0, price))} for {several} of two minutes, "
        f"at most {dollars(runs * worst)} if every deadline is reached. Budget: {dollars(budget)}.",
        file=sys.stderr,
    )
    if worst > budget:
        raise BudgetRefused(
            f"The run may cost up to {dollars(worst)}, above the budget of {dollars(budget)}.",
            hint="Raise --budget, lower --max-price, or shorten --boot-deadline and --ssh-deadline.",
        )
    if not ask:
        return
    if not sys.stdin.isatty():
        raise BudgetRefused("Cannot ask: standard input is not a terminal.", hint="Add --yes for unattended use.")
    if not typer.confirm("Rent it?", err=True):
        raise BudgetRefused("Not rented: the answer was no.")
