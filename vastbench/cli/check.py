"""The command that checks any timings for artefacts of their measurement."""

from __future__ import annotations

from typing import Annotated

import typer

from vastbench.cli.app import GroupBy, JsonOption, Passed, StoreOption, TimesColumn, Unit, app, print_json
from vastbench.errors import ArtefactsFound


@app.command()
def check(
    places: Annotated[
        list[str],
        typer.Argument(metavar="FILE|NAME…", help="CSV, JSON or Parquet files of timings, stored studies or runs, data sets."),
    ],
    passed: Passed = None,
    unit: Unit = "",
    column: TimesColumn = None,
    group_by: GroupBy = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for artefacts in timings: poll grids, deadlines as values, sums that are off, passes that could not fail.

    Files: long CSV (run,phase,seconds), wide CSV (boot_s, ssh_ms, …), start and end, JSON, lines of JSON, Parquet, and what
    hyperfine, pyperf, pytest-benchmark, GitHub, PerfKitBenchmarker, kube-burner, clusterloader2 and Locust write. Stored runs
    are taken together. Exit code 0: nothing found; 15: artefacts found.
    """
    from vastbench.answers.check import check as checked

    found = checked(*places, store=store, passed=passed or (), unit=unit, column=column or (), group_by=group_by or ())
    if as_json:
        print_json([one.to_dict() for one in found.tables])
    else:
        print(found)
    if count := len(found.findings):
        things = "artefact was" if count == 1 else "artefacts were"
        raise ArtefactsFound(f"{count} {things} found.", hint="Read each consequence before you use these figures.")
