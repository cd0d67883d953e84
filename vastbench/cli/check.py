"""The command that checks any timings for artefacts of their measurement."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vastbench.cli.app import JsonOption, StoreOption, app, open_store, print_json
from vastbench.errors import ArtefactsFound, NotFound

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.analysis.artefacts.detector import Artefact
    from vastbench.record.run import Run

SHOWN = 6


@app.command()
def check(
    places: Annotated[
        list[str],
        typer.Argument(metavar="FILE|NAME…", help="CSV, JSON or Parquet files of timings, stored studies or runs, data sets."),
    ],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for artefacts in timings: poll grids, deadlines as values, sums that are off, passes that could not fail.

    Files: long CSV (run,phase,seconds), wide CSV (boot_s, ssh_ms, …), JSON records, vastbench's own. Stored runs are taken
    together. Exit code 0: nothing found; 15: artefacts found.
    """
    from vastbench.analysis.artefacts.detector import RULES, artefacts, not_applicable

    results = []
    for name, timings in _tables(places, store):
        results.append((name, timings, artefacts(timings), not_applicable(timings)))
    if as_json:
        print_json([_plain(*result) for result in results])
    else:
        for name, timings, found, silent in results:
            _print(name, timings, found, [rule.name for rule in RULES if rule.name not in silent], silent)
    if count := sum(len(found) for _, _, found, _ in results):
        things = "artefact was" if count == 1 else "artefacts were"
        raise ArtefactsFound(f"{count} {things} found.", hint="Read each consequence before you use these figures.")


def _tables(places: list[str], store: str | None) -> list[tuple[str, pd.DataFrame]]:
    """Each file by itself, and all stored runs together."""
    from vastbench.io.timings import of_runs, read

    tables, runs = [], []
    for place in places:
        if study := _study(place, store):
            tables.append((f"study {place}", of_runs(study)))
            continue
        try:
            tables.append((place, read(place)))
        except NotFound as missing:
            if Path(place).suffix:
                raise
            try:
                with open_store(store, made=False) as opened:
                    runs.append(opened.run(place))
            except NotFound:
                raise missing from None
    if runs:
        tables.append((", ".join(f"run {run.id}" for run in runs), of_runs(runs)))
    return tables


def _study(name: str, store: str | None) -> list[Run]:
    """The runs of the study of that name in the store; none for a file, and where no store is."""
    if Path(name).is_file():
        return []
    try:
        opened = open_store(store, made=False)
    except NotFound:
        if store:
            raise
        return []
    with opened, suppress(NotFound):
        found: list[Run] = opened.runs(study=name)
        return found[::-1]
    return []


def _print(name: str, timings: pd.DataFrame, found: list[Artefact], applied: list[str], silent: dict[str, str]) -> None:
    from vastbench.errors import clean
    from vastbench.record.formats import counted, listed

    print(f"{clean(name)}: {counted(len(timings), 'row')} of {counted(timings['run'].nunique(), 'run')}")
    for artefact in found:
        print(f"\n  {artefact.rule}\n    {clean(artefact.text)}\n    {clean(artefact.consequence)}")
        print(f"    Rows: {_where(timings, artefact)}")
    if not found:
        print("  Nothing found.")
    print(f"\n  Rules applied: {listed(applied)}.")
    if silent:
        print("  Not applicable: " + "; ".join(f"{rule} ({missing})" for rule, missing in silent.items()) + ".")
    if ignored := timings.attrs.get("ignored"):
        print(f"  Columns not read: {clean(', '.join(ignored))}.")


def _where(timings: pd.DataFrame, artefact: Artefact) -> str:
    from vastbench.errors import clean

    rows = timings.loc[list(artefact.rows[:SHOWN])]
    of = "" if timings["run"].nunique() == 1 else "{run} "
    some = [
        of.format(run=run) + f"{phase} {'missing' if seconds != seconds else f'{seconds:g} s'}"
        for run, phase, seconds in rows[["run", "phase", "seconds"]].itertuples(index=False)
    ]
    more = len(artefact.rows) - len(some)
    return clean("; ".join(some)) + (f"; and {more} more" if more > 0 else "")


def _plain(name: str, timings: pd.DataFrame, found: list[Artefact], silent: dict[str, str]) -> dict[str, object]:
    """One table's findings for programs; rows with run, phase and seconds (null where missing)."""
    return {
        "source": name,
        "rows": len(timings),
        "runs": int(timings["run"].nunique()),
        "findings": [
            {
                "rule": artefact.rule,
                "text": artefact.text,
                "consequence": artefact.consequence,
                "evidence": artefact.evidence,
                "rows": [
                    {"run": run, "phase": phase, "seconds": seconds}
                    for run, phase, seconds in timings.loc[list(artefact.rows), ["run", "phase", "seconds"]].itertuples(
                        index=False
                    )
                ],
            }
            for artefact in found
        ],
        "not_applicable": silent,
        "columns_not_read": timings.attrs.get("ignored", []),
    }
