"""vastbench on the command line.

Only what every command needs is imported here; the rest is imported by the command that needs it, so that ``--help`` is quick.
Exit codes are those of ``errors.py``: 0 passed, 1 internal, 2 usage, 3 store, 4 API, 5 no offer, 6 instance, 7 deadline,
8 an instance may still exist, 9 a notebook's cell failed, 10 no run of a study passed, 11 a study lacks runs, 130 interrupted.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from vastbench.errors import BudgetRefused, Interrupted, SettingsError, VastbenchError, exit_code_of

if TYPE_CHECKING:
    from vastbench.bench import Bench
    from vastbench.provision import Conditions

app = typer.Typer(
    help="How long until a rented GPU is useful, what it costs, where the time goes, and how sure we are.\n\n"
    "Without --live everything runs on a built-in emulator of Vast.ai and costs nothing. "
    "Start with: vastbench run, then: vastbench show last.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_debug = False

StoreOption = Annotated[
    Optional[str],  # noqa: UP045 (typer reads this annotation at run time)
    typer.Option("--store", help="The store: a file or a database URL. [default: VASTBENCH_STORE or the data directory]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, for programs.")]
Live = Annotated[bool, typer.Option("--live", help="On the marketplace at VAST_URL, spending money. Needs --budget.")]
KeyFile = Annotated[Optional[Path], typer.Option("--api-key-file", help="A file that holds the API key.")]  # noqa: UP045
Profile = Annotated[str, typer.Option("--profile", help="The emulator's behaviour: a name in data/profiles or a TOML file.")]
Seed = Annotated[Optional[int], typer.Option("--seed", help="Repeat the same emulated draws.")]  # noqa: UP045
Speed = Annotated[float, typer.Option("--speed", help="Emulated seconds per real second; 1 is real time.")]
Gpu = Annotated[str, typer.Option("--gpu", help='The GPU\'s name on the marketplace; "any" for any.')]
MaxPrice = Annotated[float, typer.Option("--max-price", help="At most this many USD per hour, disk included.")]
Disk = Annotated[float, typer.Option("--disk", help="Disk in GB, at least 8.")]
Image = Annotated[str, typer.Option("--image", help="The container image.")]
OfStudy = Annotated[Optional[str], typer.Option("--study", help="Only the runs of this study.")]  # noqa: UP045
BootDeadline = Annotated[float, typer.Option("--boot-deadline", help="Seconds to wait for status running.")]
SshDeadline = Annotated[float, typer.Option("--ssh-deadline", help="Seconds to wait for SSH after running.")]
BudgetUsd = Annotated[Optional[float], typer.Option("--budget", help="USD that this may cost at most; live it is required.")]  # noqa: UP045
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before spending (with --live).")]
Truth = Annotated[Optional[Path], typer.Option("--truth", help="Write the emulator's log of the truth to this file.")]  # noqa: UP045


@app.callback()
def _main(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False) -> None:
    global _debug
    _debug = debug
    level = logging.INFO if debug else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="vastbench: %(message)s")
    for chatty in ("asyncssh", "paramiko", "stamina"):
        logging.getLogger(chatty).setLevel(logging.WARNING if debug else logging.ERROR)
    # A booting machine that drops connections is measured, not an error to talk about.
    logging.getLogger("vastbench.ssh.paramiko").setLevel(logging.WARNING if debug else logging.CRITICAL)


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
    from vastbench.bench import Bench
    from vastbench.progress import for_stderr
    from vastbench.provision import Conditions

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
    )
    with bench:
        if live:
            _agree(bench, conditions, ask=not yes)
        with for_stderr() as listener:
            done = bench.run(conditions, listener)
    if as_json:
        _print_json(done.to_dict())
    else:
        print(done)
    if done.cause:
        raise typer.Exit(exit_code_of(done.cause))


@app.command()
def study(
    name: Annotated[str, typer.Option("--name", help="The study's name; an unfinished study of that name goes on.")],
    repeats: Annotated[int, typer.Option("--repeats", help="How many runs it is to have, earlier ones included.")] = 12,
    workers: Annotated[int, typer.Option("--workers", help="How many runs at once.")] = 4,
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
    yes: Yes = False,
    api_key_file: KeyFile = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Repeat the run under the same conditions until a study has all its repeats.

    Every run is stored as it ends. Interrupted in any way, the same command goes on where it stopped. Exit code 0: all runs
    were made and some passed; 10: none passed; 11: runs are missing.

    Free, on the emulator: vastbench study --name first --repeats 12 --seed 1
    """
    from vastbench.bench import Bench
    from vastbench.progress import study_for_stderr
    from vastbench.provision import Conditions
    from vastbench.report.text import study_text
    from vastbench.study import check_plan, run_study

    check_plan(name, repeats, workers)
    conditions = Conditions(
        gpu_name=None if gpu == "any" else gpu.replace("_", " "),
        max_usd_per_hour=max_price,
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
        study=name,
    )
    try:
        with bench:
            found = bench.open_study(repeats, conditions)
            missing = repeats - len(found.made)
            if missing <= 0:
                print(f"The study {name} is complete: no run was made.", file=sys.stderr)
            else:
                if live:
                    _agree(bench, conditions, runs=missing, ask=not yes)
                with study_for_stderr() as listener:
                    found = run_study(bench, found, workers=workers, listener=listener)
    except Interrupted as stopped:
        stopped.hint = "Every run that ended is stored; the same command goes on with the study."
        raise
    if as_json:
        _print_json(found.to_dict())
    else:
        where = f" --store {store}" if store else ""
        print(study_text(found))
        print(f"\nReport: vastbench report --study {name}{where}")
        print(f"Table:  vastbench export {name}.parquet --study {name}{where}")
    if error := found.shortfall():
        raise error


def _agree(bench: Bench, conditions: Conditions, *, ask: bool, runs: int = 1) -> None:
    """Show what live runs cost and ask once; BudgetRefused when not even one fits or nobody can be asked."""
    from vastbench.provision import choose
    from vastbench.report.text import clean

    offer = choose(bench.api.search_offers(conditions.query()).value, conditions)
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


@app.command()
def runs(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 20,
    study: OfStudy = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the stored runs, newest first."""
    from vastbench.report.text import clean, seconds_text, usd_text
    from vastbench.timing import PhaseName

    with _store(store) as opened:
        found = opened.runs(limit=limit, study=study)
    if as_json:
        _print_json([one.to_dict() for one in found])
        return
    if not found:
        of = f" of a study {study!r}" if study else ""
        print(f"No runs{of} in {opened.place}. Make one: vastbench run")
        return
    rows = [
        [
            one.id,
            f"{one.outcome}" + (f" ({one.cause})" if one.cause else ""),
            one.source,
            clean(one.resources.get("gpu_name") or "–"),
            seconds_text(one.seconds(PhaseName.WAIT_RUNNING)),
            seconds_text(one.seconds(PhaseName.WAIT_SSH)),
            seconds_text(one.total_s),
            usd_text(one.cost.total_usd),
        ]
        for one in found
    ]
    _table(["run", "outcome", "source", "GPU", "wait running s", "wait SSH s", "total s", "cost"], rows, numbers=4)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or: last")] = "last",
    form: Annotated[str, typer.Option("--format", help="tree, json, or seed (the shape of data/runs/*.json).")] = "tree",
    beside: Annotated[Optional[str], typer.Option("--beside", metavar="RUN", help="Another run's seconds beside it.")] = None,  # noqa: UP045
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one run: its phase tree with seconds, bounds and shares, the bottleneck marked."""
    if form not in {"tree", "json", "seed"}:
        raise SettingsError(f"There is no format {form!r}.", hint="Choose tree, json or seed.")
    from vastbench.report.text import run_text

    with _store(store) as opened:
        found = opened.run(name)
        other = opened.run(beside) if beside else None
    if form == "seed":
        from vastbench.report.seed import seed_from_run

        _print_json(seed_from_run(found))
    elif as_json or form == "json":
        _print_json(found.to_dict())
    else:
        print(run_text(found, other))


@app.command()
def offers(
    query: Annotated[
        str, typer.Argument(help="A search in Vast's own language, such as: 'gpu_name=RTX_4090 num_gpus=1 dph_total<0.5'")
    ] = "",
    order: Annotated[str, typer.Option("--order", help="The field to sort by; a trailing - for descending.")] = "dph_total",
    limit: Annotated[int, typer.Option("--limit", min=1, max=3000, help="How many.")] = 20,
    disk: Disk = 20.0,
    profile: Profile = "default",
    seed: Seed = None,
    live: Live = False,
    api_key_file: KeyFile = None,
    as_json: JsonOption = False,
) -> None:
    """Search offers; this spends nothing, also with --live."""
    from vastbench.report.text import clean
    from vastbench.vast.query import OfferQuery

    search = OfferQuery.parse(query, order=order, limit=limit, allocated_storage_gb=disk)
    with _market(live, api_key_file, profile, seed) as api:
        found = api.search_offers(search).value
        unusable = api.usage.dropped_offers
    if as_json:
        _print_json([offer.model_dump(mode="json") | {"usd_per_hour": offer.usd_per_hour(disk)} for offer in found])
        return
    rows = [
        [
            str(offer.id),
            f"{offer.num_gpus} × {clean(offer.gpu_name)}",
            f"{offer.usd_per_hour(disk):.4f}",
            "–" if offer.reliability is None else f"{offer.reliability:.1%}",
            "–" if offer.disk_space_gb is None else f"{offer.disk_space_gb:.0f}",
            str(offer.machine_id),
            clean(offer.geolocation or "–"),
        ]
        for offer in found
    ]
    _table(["offer", "GPU", f"$/h with {disk:g} GB", "reliability", "disk GB", "machine", "place"], rows)
    left_out = f", {unusable} more left out: their prices are missing, negative or no numbers" if unusable else ""
    print(f"{len(rows)} offers{left_out}" + ("" if live else " (emulated)"), file=sys.stderr)


@app.command("import")
def import_run(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Runs in the seed's JSON shape, or vastbench's own.")],
    store: StoreOption = None,
) -> None:
    """Import published runs into the store."""
    from vastbench.report.files import read_runs

    read = [(path, one) for path in files for one in read_runs(path)]
    with _store(store) as opened:
        for path, one in read:
            if opened.has_run(one.id):
                print(f"{path.name}: run {one.id} is in the store already.")
                continue
            opened.save_run(one)
            print(f"{path.name}: imported as run {one.id}. Look at it: vastbench show {one.id}")


@app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="runs.parquet for the tidy table, runs.json for whole records.")],
    study: OfStudy = None,
    store: StoreOption = None,
) -> None:
    """Write stored runs to a file: Parquet (one row per run and phase) or JSON (everything, for import)."""
    if out.suffix not in {".parquet", ".json"}:
        raise SettingsError(f"{out.name!r} is neither .parquet nor .json.", hint="For example: vastbench export runs.parquet")
    from vastbench.analysis.frames import phases_table
    from vastbench.errors import NotFound
    from vastbench.sources import export as write_table
    from vastbench.sources import export_runs

    with _store(store, made=False) as opened:
        found = opened.runs(study=study)[::-1]
        place = opened.place
    if study is not None and not found:
        raise NotFound(f"There is no run of a study {study!r} in {place}.", hint="`vastbench runs` lists what is there.")
    if out.suffix == ".json":
        export_runs(found, out)
    else:
        write_table(phases_table(found), out)
    print(f"Exported {len(found)} runs to {out}")


@app.command()
def report(
    out: Annotated[Path, typer.Option("--out", help="The folder of the report; an earlier one there is replaced.")] = Path(
        "out/report"
    ),
    study: OfStudy = None,
    data: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--data", metavar="FILE", help="Parquet or JSON files, stores, or data sets that come with vastbench."),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Make a report of stored runs: a page, a text and data, with charts and executed notebooks. It rents nothing.

    Exit code 0: some runs passed and none is missing; 10: none passed; 11: runs are missing; 9: a notebook failed.
    """
    from vastbench.report.build import build_report, of_places, of_runs, of_study, read_model, shortfall
    from vastbench.report.wording import plain

    if data and store:
        raise SettingsError("--data and --store were both given.", hint="Name files, or one store.")
    if data:
        source = of_places(data, study)
    else:
        with _store(store, made=False) as opened:
            source = of_study(opened.study(study)) if study else of_runs(opened.runs()[::-1])
    try:
        index = build_report(source, out, echo=lambda line: print(line, file=sys.stderr))
    except Interrupted as stopped:
        stopped.hint = "Nothing was replaced; the same command begins anew."
        raise
    model = read_model(index)
    print(plain(model["verdict"]))
    print(f"Report: {index}")
    if error := shortfall(model, store):
        raise error


@app.command()
def emulator(
    profile: Profile = "default",
    seed: Seed = None,
    speed: Speed = 1.0,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="A fixed port on 127.0.0.1; 0 takes a free one.")] = 0,
    truth: Truth = None,
) -> None:
    """Run the Vast.ai emulator until SIGTERM or Ctrl-C; prints what a shell must export to use it.

    Any client can use it: vastbench run --live --budget 1 --yes, or the official vastai client.
    """
    from vastbench.emulator import serve

    serve(profile, seed, speed, port, truth, lambda line: print(line, flush=True))


@app.command()
def notebook(
    path: Annotated[str, typer.Argument(metavar="NOTEBOOK", help="A notebook's path, or the name of one of ours.")],
    parameters: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Set a parameter; unknown names are refused."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder for the executed notebook.")] = Path("out"),
) -> None:
    """Run a notebook with checked parameters through papermill; a failing one is kept and named."""
    from vastbench.runner import run_notebook

    values: dict[str, str] = {}
    for item in parameters or []:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise SettingsError(f"The parameter {item!r} is not NAME=VALUE.", hint="For example: -p repeats=3")
        values[name] = value
    result = run_notebook(path, values, out, echo=sys.stdout)
    print(f"Executed notebook: {result.path}")


@app.command()
def prices(
    gpu: Annotated[Optional[str], typer.Option("--gpu", help='Only GPUs with this in their name, such as "A100".')] = None,  # noqa: UP045
    check: Annotated[bool, typer.Option("--check", help="Say which rows to doubt, and why.")] = False,
    file: Annotated[Optional[Path], typer.Option("--file", help="Another table of the same columns.")] = None,  # noqa: UP045
    as_json: JsonOption = False,
) -> None:
    """List the dated prices of GPU providers that come with vastbench, cheapest GPU first; this asks nobody."""
    from datetime import UTC, datetime

    from vastbench.errors import NotFound
    from vastbench.prices import check as doubts
    from vastbench.prices import prices as listed
    from vastbench.report.pricelist import HEAD, findings_text, price_cells

    table = listed(file)
    shown = table if gpu is None else table[table["gpu_name"].str.contains(gpu, case=False, regex=False)]
    if shown.empty:
        raise NotFound(f"There is no GPU {gpu!r} in the table.", hint="`vastbench prices` lists what is there.")
    if check:
        # A row's peers are all rows, whatever is shown.
        found = doubts(table, today=datetime.now(UTC).date())
        found = found[found["row"].isin(shown.index)]
        if as_json:
            _print_json(found.to_dict("records"))
        else:
            print(findings_text(found, len(shown)))
    elif as_json:
        dated = shown.assign(as_of=shown["as_of"].dt.strftime("%Y-%m-%d")).reset_index()
        _print_json(json.loads(dated.to_json(orient="records")))
    else:
        _table(HEAD, price_cells(shown), numbers=2)


@app.command()
def doctor(
    store: StoreOption = None,
    api_key_file: KeyFile = None,
    as_json: JsonOption = False,
) -> None:
    """Check key, URL, store, SSH, kernel, isolation and disk, and say what to fix."""
    from vastbench.doctor import examine

    findings = examine(store, api_key_file)
    if as_json:
        _print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            print(
                f"{finding.state:<5} {finding.subject:<11} {finding.found}" + (f"\n{'':18}{finding.fix}" if finding.fix else "")
            )
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)


def _store(place: str | None, *, made: bool = True) -> Any:
    from vastbench.settings import Settings, default_store
    from vastbench.store import Store

    opener = Store if made else Store.existing
    return opener(place or Settings.from_environment().vastbench_store or default_store())


def _market(live: bool, api_key_file: Path | None, profile: str, seed: int | None) -> Any:
    """An API client on the live marketplace or on an emulator of its own, as a context manager."""
    from contextlib import contextmanager

    @contextmanager
    def opened() -> Any:
        from vastbench.clock import Clock
        from vastbench.settings import Settings
        from vastbench.vast.api import VastApi

        settings = Settings.from_environment(api_key_file=api_key_file)
        if live:
            with VastApi(settings.vast_url, settings.require_key(), clock=Clock(settings.vastbench_speed)) as api:
                yield api
        else:
            from vastbench.emulator import Emulator

            with Emulator(profile, seed=seed) as vast, VastApi(vast.url, vast.api_key, clock=Clock()) as api:
                yield api

    return opened()


def _table(head: list[str], rows: list[list[str]], *, numbers: int = 0) -> None:
    """Plain aligned columns; the last ``numbers`` of them to the right."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    for line in [head, *rows]:
        cells = [
            cell.rjust(width) if i >= len(head) - numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def main() -> None:
    """Run the command line; every error becomes one clear message and a documented exit code."""
    from vastbench.interrupts import raise_on_signals

    raise_on_signals()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for the life of the process)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a narrow locale must not cost a measured run
    try:
        app()
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has seen enough; say nothing when we are closed
    except (VastbenchError, Interrupted) as error:
        if _debug:
            traceback.print_exc()
        print(f"vastbench: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if _debug:
            traceback.print_exc()
        print(f"vastbench: {error}.\n  Was the disk full, or a file or the output closed to us?", file=sys.stderr)
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 (the last line of defence before the user)
        if _debug:
            traceback.print_exc()
        text = f"vastbench: internal error: {type(error).__name__}: {error}\n  Run again with: vastbench --debug …"
        print(text, file=sys.stderr)
        sys.exit(1)
