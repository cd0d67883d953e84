"""Commands that rent: one run, or a study of many."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from vastbench.cli.app import (
    BootDeadline,
    BudgetUsd,
    Disk,
    Gpu,
    Image,
    JsonOption,
    KeyFile,
    Live,
    MaxInstances,
    MaxPrice,
    Profile,
    Seed,
    Speed,
    SshDeadline,
    StoreOption,
    Truth,
    Yes,
    app,
    open_store,
    print_json,
    share,
)
from vastbench.errors import BudgetRefused, Interrupted, UsageError, exit_code_of
from vastbench.record.document import run_to_dict
from vastbench.rental.offers import query

if TYPE_CHECKING:
    from vastbench.bench.bench import Bench
    from vastbench.record.conditions import Conditions
    from vastbench.record.study import Study


@app.command()
def run(
    gpu: Gpu = "RTX 4090",
    num_gpus: Annotated[int, typer.Option("--num-gpus", help="How many GPUs in the instance.")] = 1,
    max_price: MaxPrice = 0.5,
    min_reliability: Annotated[float, typer.Option("--min-reliability", help="The host's reliability, 0 to 1.")] = 0.9,
    image: Image = "nvidia/cuda:12.1.0-base-ubuntu22.04",
    disk: Disk = 20.0,
    boot_deadline: BootDeadline = 600.0,
    ssh_deadline: SshDeadline = 300.0,
    profile: Profile = "default",
    seed: Seed = None,
    speed: Speed = 20.0,
    live: Live = False,
    budget: BudgetUsd = None,
    max_instances: MaxInstances = None,
    yes: Yes = False,
    api_key_file: KeyFile = None,
    store: StoreOption = None,
    truth: Truth = None,
    as_json: JsonOption = False,
) -> None:
    """Rent one GPU, reach it over SSH, check it, destroy it; time every phase with its bounds.

    Free, on the emulator: vastbench run --profile cached --seed 1

    Live, spending money: vastbench run --live --budget 0.25
    """
    from vastbench.bench.bench import Bench
    from vastbench.record.conditions import Conditions
    from vastbench.render.progress import for_stderr

    conditions = Conditions(
        gpu_name=None if gpu == "any" else gpu.replace("_", " "),
        num_gpus=num_gpus,
        max_usd_per_hour=max_price,
        min_reliability=min_reliability,
        disk_gb=disk,
        image=image,
        boot_deadline_s=boot_deadline,
        ssh_deadline_s=ssh_deadline,
    )
    bench = Bench(
        live=live,
        budget_usd=budget,
        profile=profile,
        seed=seed,
        speed=speed,
        store=store,
        api_key_file=api_key_file,
        truth=truth,
        max_instances=max_instances,
    )
    with bench:
        if live:
            _agree(bench, conditions, ask=not yes)
        with for_stderr() as listener:
            done = bench.run(conditions, listener)
        if as_json:
            print_json(run_to_dict(done))
        else:
            print(done)
    if done.cause:
        raise typer.Exit(exit_code_of(done.cause))


@app.command()
def study(
    context: typer.Context,
    name: Annotated[str, typer.Option("--name", help="The study's name; an unfinished study of that name goes on.")],
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
    stop_of: Annotated[str, typer.Option("--stop-of", help="Of what: time until useful, or a phase.")] = "time until useful",
    stop_after: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--stop-after", metavar="MINUTES", help="Begin no run after so many minutes of real time."),
    ] = None,
    gpu: Gpu = "RTX 4090",
    max_price: MaxPrice = 0.5,
    image: Image = "nvidia/cuda:12.1.0-base-ubuntu22.04",
    disk: Disk = 20.0,
    boot_deadline: BootDeadline = 600.0,
    ssh_deadline: SshDeadline = 300.0,
    profile: Profile = "default",
    seed: Seed = None,
    speed: Speed = 20.0,
    live: Live = False,
    budget: BudgetUsd = None,
    max_instances: MaxInstances = None,
    yes: Yes = False,
    api_key_file: KeyFile = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Repeat the run under the same conditions until a study has all its repeats.

    Every run is stored as it ends. Interrupted in any way, the same command goes on where it stopped. With --stop-width it
    ends as soon as it knows a quantile well enough; the interval is made to be looked at after every run. Exit code 0: all
    runs were made, or enough for that, and some passed; 10: none passed; 11: runs are missing.

    Free, on the emulator: vastbench study --name first --repeats 12 --seed 1
    """
    from vastbench.bench.bench import Bench
    from vastbench.bench.workers import run_study
    from vastbench.record.conditions import Conditions
    from vastbench.record.stopping import StoppingRule
    from vastbench.record.study import check_plan
    from vastbench.render.progress import study_for_stderr
    from vastbench.render.text import stopping_text, study_text

    if resume:
        there = _to_resume(context, name, store, live)
        wanted, stopping, conditions = there.repeats, there.stopping, Conditions.of(there.conditions)
        if not _given(context, "profile"):  # a profile of the user's own is a file that only they know
            profile = there.conditions.get("profile") or profile
    else:
        wanted = repeats if repeats is not None else 12 if stop_width is None else 300
        stopping = None if stop_width is None else StoppingRule(stop_width, stop_quantile, stop_of)
        conditions = Conditions(
            gpu_name=None if gpu == "any" else gpu.replace("_", " "),
            max_usd_per_hour=max_price,
            disk_gb=disk,
            image=image,
            boot_deadline_s=boot_deadline,
            ssh_deadline_s=ssh_deadline,
        )
    check_plan(name, wanted, workers)
    bench = Bench(
        live=live,
        budget_usd=budget,
        profile=profile,
        seed=seed,
        speed=speed,
        store=store,
        api_key_file=api_key_file,
        study=name,
        max_instances=max_instances,
    )
    try:
        with bench:
            found = bench.open_study(wanted, conditions, stopping=stopping)
            missing = found.wanted - len(found.made)
            if missing <= 0:
                print(f"The study {name} is complete: no run was made.", file=sys.stderr)
            else:
                if live:
                    _agree(bench, conditions, runs=missing, ask=not yes)
                with study_for_stderr() as listener:
                    found = run_study(bench, found, workers=workers, listener=listener, minutes=stop_after)
            if as_json:
                print_json(found.to_dict())
            else:
                where = f" --store {store}" if store else ""
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


CONDITIONS = (
    *("repeats", "stop_width", "stop_quantile", "stop_of"),
    *("gpu", "max_price", "image", "disk", "boot_deadline", "ssh_deadline"),
)
"""The options of a study that --resume takes from the study itself."""


def _given(context: typer.Context, name: str) -> bool:
    return getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"


def _to_resume(context: typer.Context, name: str, store: str | None, live: bool) -> Study:
    """The study that is to go on. Raises NotFound for none, UsageError for options that would change it."""
    given = [one for one in CONDITIONS if _given(context, one)]
    if given:
        raise UsageError(
            f"--resume goes on under the study's own conditions, but --{given[0].replace('_', '-')} was given.",
            hint="Leave it out, or leave out --resume and repeat the conditions.",
        )
    with open_store(store, made=False) as opened:
        there: Study = opened.study(name)
    if (there.conditions.get("profile") is None) is not live:
        was = "on the marketplace at VAST_URL" if not live else "on the built-in emulator"
        raise UsageError(
            f"The study {name!r} was begun {was}.", hint="Add --live and --budget." if not live else "Leave out --live."
        )
    return there


def _agree(bench: Bench, conditions: Conditions, *, ask: bool, runs: int = 1) -> None:
    """Offer to close what dead processes left, show what live runs cost, and ask once.

    Raises BudgetRefused when not even one fits or nobody can be asked, LeaseNotClosed when something left over stays.
    """
    from vastbench.cli.reap import offer_left_over
    from vastbench.errors import clean
    from vastbench.rental.offers import choose

    offer_left_over(bench, ask=ask)
    offer = choose(bench.api.search_offers(query(conditions)).value, conditions)
    price = offer.usd_per_hour(conditions.disk_gb)
    worst = conditions.worst_case_usd(price)
    budget = (bench.budget_usd or 0.0) - bench.spent_usd
    several = "a run" if runs == 1 else f"{runs} runs"
    print(
        f"{clean(offer.gpu_name)} in {clean(offer.geolocation)} at ${price:.4f}/h: about ${runs * price * 120 / 3600:.4f} for "
        f"{several} of two minutes, at most ${runs * worst:.4f} if every deadline is reached. Budget: ${budget:.4f}.",
        file=sys.stderr,
    )
    if worst > budget:
        raise BudgetRefused(
            f"The run may cost up to ${worst:.4f}, above the budget of ${budget:.4f}.",
            hint="Raise --budget, lower --max-price, or shorten --boot-deadline and --ssh-deadline.",
        )
    if not ask:
        return
    if not sys.stdin.isatty():
        raise BudgetRefused("Nobody can be asked: standard input is no terminal.", hint="Add --yes for unattended use.")
    if not typer.confirm("Rent it?", err=True):
        raise BudgetRefused("Not rented: the answer was no.")
