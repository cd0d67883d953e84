"""What anybody's timings show of how they were measured, by their names."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from vastbench.analysis.artefacts.detector import Checked, examined, timings_of
from vastbench.analysis.attempts import attempted
from vastbench.answers.selection import existing
from vastbench.errors import NotFound
from vastbench.io.long import long_table
from vastbench.io.timings import of_runs, read
from vastbench.io.words import How, Reading, reading

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.record.run import Run


def check(*places: pd.DataFrame | str | Path, store: str | Path | None = None, **how: Unpack[How]) -> Checked:
    """Look for artefacts in timings: poll grids, deadlines as values, sums that are off, passes that could not fail.

    Parameters
    ----------
    *places
        What to look at: files of timings (CSV, JSON, Parquet), stored studies or runs, data sets that come with vastbench; or
        frames, tidy ones or tables with ``run``, ``phase`` and ``seconds``, or a column per phase with its unit in its name.
        Each is a table of its own; stored runs are taken together.
    store
        Where studies and runs are; by default VASTBENCH_STORE or the data directory.
    **how
        How foreign tables are read. ``passed``: words of a column such as ``status`` that mean passed, beside the usual ones;
        every other unknown word then means failed, and without ``passed`` it is an error that lists the words. ``unit``: of
        times whose column names none (s, ms, us, ns, min, h). ``column``: the columns of times, each a phase. ``group_by``:
        columns whose values keep rows apart, such as ``provider``. Each may be one word or several.

    Returns
    -------
    Checked
        It shows itself. ``findings``: a frame with a row per artefact, its ``table``, ``rule``, ``text``, ``consequence`` and
        how many ``rows`` show it.

    Raises
    ------
    NotFound
        No such file, study, run or data set.
    SettingsError
        A file that cannot be read, holds no timings or words that are asked about; the message names line and column.

    Examples
    --------
    >>> vastbench.check("2026-01-02-rtx4090").findings["rule"].tolist()
    ['lattice', 'phases do not add up', 'pass that could not have failed']

    Timings of one's own:

    >>> boots = pd.DataFrame({"boot_s": [10.1, 20.2, 30.1, 30.2, 50.1, 60.2, 80.1, 90.2]})
    >>> vastbench.check(boots).findings["rule"].tolist()
    ['lattice']
    """
    asked = reading(**how)
    tables, runs = [], []
    for place in places:
        if not isinstance(place, (str, Path)):
            tables.append(examined("the frame", _of_frame(place, asked)))
        elif study := _study(str(place), store):
            tables.append(examined(f"study {place}", of_runs(study)))
        else:
            try:
                tables.append(examined(str(place), read(place, asked)))
            except NotFound as missing:
                if Path(place).suffix:
                    raise
                runs.append(_run(str(place), store, missing))
    if runs:
        tables.append(examined(", ".join(f"run {run.id}" for run in runs), of_runs(runs)))
    return Checked(tuple(tables))


def _of_frame(frame: pd.DataFrame, how: Reading) -> pd.DataFrame:
    if {"run", "phase", "run_outcome"} <= set(frame.columns):
        return timings_of(attempted(frame))
    return long_table(Path("the frame"), frame.astype(object), "row", 0, how)


def _run(name: str, store: str | Path | None, missing: NotFound) -> Run:
    try:
        with existing(store) as opened:
            return opened.run(name)
    except NotFound:
        raise missing from None


def _study(name: str, store: str | Path | None) -> list[Run]:
    """The runs of the study of that name in the store, oldest first; none for a file, and where no store is."""
    if Path(name).is_file():
        return []
    try:
        opened = existing(store)
    except NotFound:
        if store:
            raise
        return []
    with opened, suppress(NotFound):
        return opened.runs(study=name)[::-1]
    return []
