"""The command that checks any timings for artefacts of their measurement."""

from __future__ import annotations

from typing import Annotated

import typer

from vastbench.cli.app import JsonOption, StoreOption, app, print_json
from vastbench.errors import ArtefactsFound


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
    from vastbench.answers.check import check as checked

    found = checked(*places, store=store)
    if as_json:
        print_json([one.to_dict() for one in found.tables])
    else:
        print(found)
    if count := len(found.findings):
        things = "artefact was" if count == 1 else "artefacts were"
        raise ArtefactsFound(f"{count} {things} found.", hint="Read each consequence before you use these figures.")
