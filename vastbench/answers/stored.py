"""What the store holds, and one run of it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vastbench.answers.selection import existing, nothing_stored_yet
from vastbench.bundled import shared
from vastbench.errors import NotFound
from vastbench.io.files import read_run

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.record.run import Run
    from vastbench.record.study import Study
    from vastbench.store import Store

ASKED = {"source": "source", "profile": "profile", "gpu": "gpu_name", "image": "image"}
"""What the table of studies says of what each asked for, by column."""


def studies(store: str | Path | None = None) -> pd.DataFrame:
    """The studies of the store, newest first, one row each.

    Parameters
    ----------
    store
        A file or a database URL; by default VASTBENCH_STORE or the data directory. A default one that is not made yet has none.

    Returns
    -------
    pandas.DataFrame
        ``study``; how many ``runs`` were made, that count, of how many ``wanted``, and ``passed``; ``scenario``; ``started_at``
        (UTC); what was asked for: ``source``, ``profile`` (the emulator's), ``gpu``, ``image``; ``cost_usd`` of all runs, by
        meter, in USD. Missing: not asked for, or no run has a cost.

    Raises
    ------
    NotFound
        A store that was named is not there.

    Examples
    --------
    >>> from pathlib import Path
    >>> runs = vastbench.runs_from(vastbench.load("snapshot-20"))
    >>> with vastbench.Store(Path("runs.sqlite")) as store:
    ...     for run in runs[:3]:
    ...         store.save_run(run)
    >>> vastbench.studies("runs.sqlite")[["study", "runs", "passed", "scenario"]]
             study  runs  passed  scenario
    0  snapshot-20     3       3  snapshot
    """
    import pandas as pd

    rows = [
        {
            "study": one.name,
            "runs": len(one.made),
            "wanted": one.wanted,
            "passed": one.passed,
            "scenario": one.scenario,
            "started_at": pd.Timestamp(one.started_at),
            **{column: one.conditions.get(name) for column, name in ASKED.items()},
            "cost_usd": one.spent_usd,
        }
        for one in stored_studies(store)
    ]
    columns = ["study", "runs", "wanted", "passed", "scenario", "started_at", *ASKED, "cost_usd"]
    return pd.DataFrame(rows, columns=columns)


def stored_studies(store: str | Path | None = None) -> list[Study]:
    """The studies of the store with their runs, newest first; none where the default store is not made yet."""
    if nothing_stored_yet(store):
        return []
    with existing(store) as opened:
        return opened.studies()


def load_run(name: str | Path = "last", *, store: str | Path | None = None) -> Run:
    """One run, whole: with its polls, checks and endpoints, which a table does not hold.

    Parameters
    ----------
    name
        A JSON file of one run, a run that comes with vastbench, the id of a stored run or the beginning of one; ``last`` is the
        newest one in the store.
    store
        A file or a database URL; by default VASTBENCH_STORE or the data directory.

    Raises
    ------
    NotFound
        No such run, or several; the message says which there are.
    SettingsError
        A file that holds no run.

    Examples
    --------
    >>> run = vastbench.load_run("2026-01-02-rtx4090")
    >>> print(vastbench.verdict(run))  # doctest: +ELLIPSIS
    The RTX 4090 was ready 88.0 s after the start (known to lie between 75.6 and 88.0 s). ...
    """
    bundled = shared("data/runs") / f"{name}.json"
    if Path(name).is_file() or bundled.is_file():
        return read_run(Path(name) if Path(name).is_file() else bundled)
    with existing(store) as opened:
        return opened.run(str(name))


def stored(opened: Store, name: str) -> Run | Study:
    """The study of that name or the run (see :meth:`~vastbench.store.Store.run`); a whole id and ``last`` are always a run's.

    Raises NotFound.
    """
    if name == "last" or opened.has_run(name):
        return opened.run(name)
    with suppress(NotFound):
        return opened.study(name)
    try:
        return opened.run(name)
    except NotFound as missing:
        message = missing.message.replace("There is no run ", "There is no run or study ")
        raise NotFound(message, hint=f"{missing.hint} Its studies: vastbench studies") from None
