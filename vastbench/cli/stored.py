"""Commands that read and write stored runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

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
    in_store,
    open_store,
    print_json,
    print_table,
)
from vastbench.errors import Interrupted, SettingsError, UsageError, clean, nothing_selected
from vastbench.record.document import run_to_dict
from vastbench.record.formats import MISSING, counted, decimals, dollars

if TYPE_CHECKING:
    from vastbench.record.run import Run


@app.command()
def runs(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 20,
    study: OfStudy = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the stored runs, newest first."""
    from vastbench.answers.selection import nothing_stored_yet
    from vastbench.record.phases import PhaseName

    found: list[Run] = []
    if not nothing_stored_yet(store):
        with open_store(store, made=False) as opened:
            found = opened.runs(limit=limit, study=study)
    if as_json:
        print_json([run_to_dict(one) for one in found])
        return
    if not found:
        print(f"No runs{in_store(store)}. Make one: vastbench run")
        return
    rows = [
        [
            one.id,
            one.study or MISSING,
            f"{one.outcome}" + (f" ({one.cause})" if one.cause else ""),
            one.source,
            clean(one.resources.get("gpu_name") or MISSING),
            decimals(one.seconds(PhaseName.WAIT_RUNNING)),
            decimals(one.seconds(PhaseName.WAIT_SSH)),
            decimals(one.total_s),
            dollars(one.cost.total_usd),
        ]
        for one in found
    ]
    head = ["run", "study", "outcome", "source", "GPU", "wait running s", "wait SSH s", "total s", "cost"]
    print_table(head, rows, numbers=4)


@app.command()
def studies(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the studies of the store, newest first: how many runs were made and passed, when, under which conditions."""
    from vastbench.answers.stored import ASKED, stored_studies
    from vastbench.answers.stored import studies as table_of_studies

    if as_json:
        print_json([one.to_dict() for one in stored_studies(store)])
        return
    found = table_of_studies(store).to_dict("records")
    if not found:
        print(f"No studies{in_store(store)}. Make one: vastbench study --name first")
        return
    rows = [
        [
            one["study"],
            f"{one['runs']} of {one['wanted']}",
            str(one["passed"]),
            f"{one['started_at']:%Y-%m-%dT%H:%M}Z",
            ", ".join(one[name] for name in ASKED if one[name]) or MISSING,
        ]
        for one in found
    ]
    print_table(["study", "runs", "passed", "begun", "conditions"], rows)


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="RUN|STUDY", help="A run's id, the beginning of one, last, or a study.")
    ] = "last",
    form: Annotated[str, typer.Option("--format", help="tree, json, or seed (the shape of data/runs/*.json).")] = "tree",
    beside: Annotated[Optional[str], typer.Option("--beside", metavar="RUN", help="Another run's seconds beside it.")] = None,  # noqa: UP045
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one run: its phase tree with seconds, bounds and shares, the bottleneck marked. Or a study: counts and medians."""
    if form not in {"tree", "json", "seed"}:
        raise SettingsError(f"There is no format {form!r}.", hint="Choose tree, json or seed.")
    from vastbench.answers.stored import stored
    from vastbench.record.study import Study
    from vastbench.render.text import run_text

    with open_store(store, made=False) as opened:
        found = stored(opened, name)
        other = opened.run(beside) if beside else None
    if isinstance(found, Study):
        if beside or form == "seed":
            raise UsageError(f"{name!r} is a study.", hint="--beside and --format seed are for one run; see: vastbench runs")
        if as_json or form == "json":
            print_json(found.to_dict())
        else:
            print(found)
    elif form == "seed":
        from vastbench.io.seed import seed_from_run

        print_json(seed_from_run(found))
    elif as_json or form == "json":
        print_json(run_to_dict(found))
    else:
        print(run_text(found, other))


@app.command("import")
def import_run(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Runs in the seed's JSON shape, or vastbench's own.")],
    store: StoreOption = None,
) -> None:
    """Import published runs into the store."""
    from vastbench.io.files import read_runs

    read = [(path, one) for path in files for one in read_runs(path)]
    with open_store(store) as opened:
        for path, one in read:
            if opened.has_run(one.id):
                print(f"{clean(path.name)}: run {clean(one.id)} is in the store already.")
                continue
            opened.save_run(one)
            name = clean(one.id)
            print(f"{clean(path.name)}: imported as run {name}. Look at it: vastbench show {name}")


@app.command()
def export(
    out: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="runs.parquet, runs.csv or runs.xlsx: the tidy table; runs.json: whole records."),
    ],
    study: OfStudy = None,
    store: StoreOption = None,
) -> None:
    """Write stored runs to a file: Parquet, CSV or Excel (one row per run and phase) or JSON (everything, for import)."""
    from vastbench.analysis.frames import table_of
    from vastbench.io.tables import check_format
    from vastbench.io.tables import export as write

    check_format(out)
    with open_store(store, made=False) as opened:
        place = opened.place
        found: Any = (
            opened.runs(study=study)[::-1] if out.suffix.lower() == ".json" else table_of(opened.each_part(study=study))
        )
        count = len(found) if isinstance(found, list) else int(found["run"].nunique())
        if study is not None and not count:
            opened.runs(study=study)  # raises, and says what there is
    if not count:
        raise nothing_selected(place)
    write(found, out)
    print(f"Exported {counted(count, 'run')} to {clean(out)}")


@app.command()
def columns(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Only columns with this in their names.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Say what each column of the tidy table holds: its unit, its meaning, and what it means that a value is missing."""
    from vastbench.analysis.columns import columns as dictionary

    found = dictionary(name)
    if as_json:
        print_json(found.to_dict("records"))
        return
    for of, those in found.groupby("of", sort=False):
        print(f"Of a {of}:")
        for row in those.to_dict("records"):
            unit = f", {row['unit']}" if row["unit"] else ""
            print(f"  {row['column']} ({row['dtype']}{unit}): {row['meaning']}. Missing: {row['missing']}.")


@app.command()
def report(
    out: Annotated[Path, typer.Option("--out", help="The folder of the report; an earlier one there is replaced.")] = Path(
        "out/report"
    ),
    study: OfStudy = None,
    data: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--data", metavar="FILE", help="Files (Parquet, CSV, Excel, JSON), stores, studies, or data sets of ours."
        ),
    ] = None,
    where: Where = None,
    pool: Pool = False,
    passed: Passed = None,
    unit: Unit = "",
    column: TimesColumn = None,
    group_by: GroupBy = None,
    store: StoreOption = None,
) -> None:
    """Make a report of stored runs: a page, a text and data, with charts and executed notebooks. It rents nothing.

    Exit code 0: some runs passed and none is missing; 10: none passed; 11: runs are missing; 9: a notebook failed.
    """
    from vastbench.report.asked import report as made_of

    try:
        made = made_of(
            data or None,
            out,
            echo=lambda line: print(line, file=sys.stderr),
            study=study,
            where=where,
            pool=pool,
            store=store,
            passed=passed or (),
            unit=unit,
            column=column or (),
            group_by=group_by or (),
        )
    except Interrupted as stopped:
        stopped.hint = "Nothing was replaced; the same command begins anew."
        raise
    print(made)
    if error := made.shortfall(store):
        raise error
