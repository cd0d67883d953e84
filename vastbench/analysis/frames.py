"""Runs as pandas frames, units in the column names.

The one tidy frame is :func:`phases_table`: one row per run × phase, with what is known of the run repeated in every row, so
that one file holds everything. Its schema and its documentation are in :mod:`vastbench.analysis.columns`. Two kinds of rows
are added to the phases of each run: ``total``, the parent of the top-level phases, which every run has, and
``unattributed``, what the phases leave of the total. Seconds are clock seconds: emulated ones where ``scale`` is not 1.

:func:`runs_table` turns it into one row per run, :func:`runs_from` back into runs, without what the frame does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from vastbench.analysis.columns import CHARGED, COLUMNS, PHASE_COLUMNS, RUN_COLUMNS, check_run_column
from vastbench.errors import SchemaError, nothing_selected
from vastbench.record.conditions import COLD
from vastbench.record.cost import Bill, Cost
from vastbench.record.document import plain_fields
from vastbench.record.moments import Moment
from vastbench.record.numbers import LARGEST
from vastbench.record.phases import COMPUTED, LONGEST_NAME, PARENTS, Outcome, Phase, PhaseName
from vastbench.record.plain import dumps
from vastbench.record.run import ROUNDING_S, Attempt, Run

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PART = 1000
"""Runs that become columns at a time."""

_PLACES = {name: column.place.rpartition(".")[::2] for name, column in RUN_COLUMNS.items()}
"""The document of a run (its cost counts as one; empty for the run itself) and the name in it, of each column."""


def column(name: str) -> str:
    """The column of a phase in :func:`runs_table`: its words joined by underscores, and the unit.

    >>> column("standby: wait running")
    'standby_wait_running_s'
    """
    return "_".join(name.replace(":", " ").split()) + "_s"


def top_level(phases: pd.DataFrame) -> list[str]:
    """The phases of a tidy frame whose seconds, with ``unattributed``, add up to the total, in the order in which they pass.

    Those that every scenario shares always, the others after the phase that they follow in the runs.
    """
    order = [str(name) for name in PhaseName if name not in PARENTS and name not in COMPUTED]
    top = phases.loc[(phases["parent"] == PhaseName.TOTAL) & (phases["phase"] != PhaseName.UNATTRIBUTED), ["run", "phase"]]
    top = top.assign(after=top.groupby("run", sort=False)["phase"].shift())
    pairs = top[["after", "phase"]].drop_duplicates().astype(object).fillna("").to_numpy().tolist()
    while pending := [pair for pair in pairs if pair[1] not in order]:
        after, name = next((pair for pair in pending if pair[0] in order), pending[0])
        order.insert(order.index(after) + 1 if after in order else len(order) if after else 0, name)
    return order


def timeline(phases: pd.DataFrame) -> dict[str, str | None]:
    """The phases that a tidy frame holds, each with its parent: in order of time, children after their parent, total last."""
    firsts = phases.drop_duplicates("phase")
    parents: dict[str, str] = dict(zip(firsts["phase"], firsts["parent"], strict=True))
    known = {str(name): place for place, name in enumerate(PhaseName)}
    inside = sorted((one for one in parents if one not in COMPUTED), key=lambda one: known.get(one, len(known)))
    order: list[str] = []
    for top in (*top_level(phases), PhaseName.UNATTRIBUTED, PhaseName.TOTAL):
        order += [one for one in (top, *(child for child in inside if parents[child] == top)) if one in parents]
    return {one: None if one == PhaseName.TOTAL else parents[one] for one in order}


Readings = tuple[str, str, str | None, int, str, float, float | None, float, float | None, float]
"""What is read of a phase (``READINGS``); the rest of its row follows from it."""
READINGS = (
    "run",
    "phase",
    "parent",
    "attempt",
    "outcome",
    "start_lower_s",
    "start_s",
    "end_lower_s",
    "end_upper_s",
    "queued_s",
)


def phases_table(runs: Iterable[Run]) -> pd.DataFrame:
    """The tidy frame of ``runs``, phases in order of their end; :func:`vastbench.columns` says what its columns hold.

    Examples
    --------
    >>> vastbench.phases_table([vastbench.load_run("2026-01-02-rtx4090")])[["phase", "seconds", "lower_s"]].head(3)
                 phase  seconds  lower_s
    0    search offers     1.26     1.26
    1  create instance     1.59     1.59
    2         allocate    21.00    10.35
    """
    remaining = iter(runs)
    some = iter(lambda: list(islice(remaining, PART)), [])
    return table_of((part, [_readings(run, phase) for run in part for phase in run.phases]) for part in some)


def table_of(parts: Iterable[tuple[list[Run], list[Readings]]]) -> pd.DataFrame:
    """The tidy frame of runs in parts: some runs, whose own phases do not count, and the readings of their phases, in order.

    So that a store of many runs makes no object for each phase.
    """
    import pandas as pd

    # Rows as dictionaries take twenty times the memory of the columns that they become.
    made = [_part(*part) for part in parts] or [_part([], [])]
    places, before = [], 0
    for of_some, rows in made:
        places.append(rows.pop("at") + before)
        before += len(of_some)
    of_runs, of_phases = (pd.concat(some, ignore_index=True) for some in zip(*made, strict=True))
    del made
    repeated = of_runs.take(pd.concat(places)).reset_index(drop=True)
    return conformed(pd.concat([repeated, of_phases], axis="columns"))


def _part(runs: list[Run], readings: list[Readings]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The columns of some runs, and the unchecked rows of their phases, ``at`` the place of their run."""
    import numpy as np
    import pandas as pd

    of_runs = _typed(pd.DataFrame([_of_run(run) for run in runs], columns=list(RUN_COLUMNS)))
    at = {run.id: place for place, run in enumerate(runs)}
    found = _typed(pd.DataFrame(readings, columns=list(READINGS)))
    found["at"] = found.pop("run").map(at).astype("int64")
    found["parent"] = found["parent"].fillna(found["phase"].map(PARENTS)).fillna(str(PhaseName.TOTAL))
    found["final"] = ~found.duplicated(["at", "phase"], keep="last")
    found["seconds"] = found["end_upper_s"] - found["start_s"] - found["queued_s"]
    found["lower_s"] = (found["end_lower_s"] - found["start_s"]).clip(lower=0.0).fillna(0.0)
    found["upper_s"] = found["end_upper_s"] - found["start_lower_s"]
    totals = np.array([run.total_s for run in runs], dtype=float)
    whole = {"attempt": 0, "final": True, "queued_s": 0.0, "at": np.arange(len(runs))}
    outcomes = [str(run.outcome) for run in runs]
    rest = pd.DataFrame(whole | {"phase": "unattributed", "parent": "total", "outcome": "passed", "seconds": totals})
    rest["seconds"] = _unattributed(found, totals)
    figures = [dumps(kept) if (kept := run.figures) else None for run in runs]
    total = pd.DataFrame(whole | {"phase": "total", "outcome": outcomes, "seconds": totals, "figures": figures})
    rows = pd.concat([found, rest.dropna(subset="seconds"), total], ignore_index=True)
    rows = rows.sort_values("at", kind="stable", ignore_index=True)
    return of_runs, _typed(rows[list(PHASE_COLUMNS)]).assign(at=rows["at"])


def _unattributed(found: pd.DataFrame, totals: np.ndarray) -> np.ndarray:
    """:func:`~vastbench.record.phases.unattributed` of every run, from the rows of their phases; NaN for None."""
    import numpy as np

    n, top = len(totals), found[found["parent"] == PhaseName.TOTAL]
    unknown = np.bincount(top["at"], top["final"] & top["seconds"].isna(), minlength=n) > 0
    timed = top.dropna(subset="seconds").sort_values(["at", "start_s", "end_upper_s"])
    reached = timed.groupby("at")["end_upper_s"].cummax().groupby(timed["at"]).shift()
    twice = (np.minimum(timed["end_upper_s"], reached) - timed["start_s"]).clip(lower=0.0).fillna(0.0)
    took = np.bincount(top["at"], top["seconds"].fillna(0.0), minlength=n)
    rest: np.ndarray = totals - took + np.bincount(timed["at"], twice, minlength=n)
    return np.where(unknown, np.nan, rest)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with the dtypes of the schema. Raises SchemaError for a column that cannot have its own."""
    others = {name: COLUMNS[str(name)].dtype for name, found in frame.dtypes.items() if str(found) != COLUMNS[str(name)].dtype}
    try:
        return frame.astype(others)
    except (TypeError, ValueError, OverflowError) as error:
        raise SchemaError(f"A column does not hold its type: {error}.", hint="Export the table with vastbench.") from None


def conformed(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with exactly the columns and dtypes of the schema.

    Raises SchemaError when a column is missing, holds what is not of its type, names an unknown outcome or no phase, or a
    parent without a row, or holds a time that cannot be; when a run lacks its ``total`` row or has two; or when not exactly one
    row per run and phase is final.
    """
    import pandas as pd

    shown_as_text()
    if "ready" not in frame.columns:  # schema 2: the one scenario of then
        frame = frame.assign(ready=str(PhaseName.WAIT_SSH))
    if "figures" not in frame.columns:  # schema 3: not kept
        frame = frame.assign(figures=None)
    if "variant" not in frame.columns and "scenario" in frame.columns:  # until schema 3 there was one way of each drill
        only_way = frame["scenario"].map({"failover": COLD})
        frame = frame.assign(variant=only_way, hedge=pd.array([pd.NA] * len(frame), dtype="Int64"), stagger_s=float("nan"))
    if "charge" not in frame.columns:  # schema 4: nobody had asked
        frame = frame.assign(**dict.fromkeys(CHARGED, float("nan")), charge=None)
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise SchemaError(
            f"The table lacks {len(missing)} columns, {missing[0]!r} first.",
            hint="Export it with vastbench; timings of other tools are for: vastbench check FILE",
        )
    if not frame.empty and not pd.api.types.is_bool_dtype(frame["final"].dtype):
        # Any text would become True below, and a missing value too.
        raise SchemaError("The column 'final' does not hold true or false alone.", hint="Export the table with vastbench.")
    found = _typed(frame[list(COLUMNS)])
    outcomes = {str(word) for word in Outcome}
    for name in ("phase", "outcome", "run_outcome"):
        words = set(found[name].dropna().unique())
        strange = sorted(word for word in words if not (0 < len(word) <= LONGEST_NAME if name == "phase" else word in outcomes))
        if strange or found[name].isna().any():
            raise SchemaError(f"The column {name!r} holds {(strange or ['nothing'])[0]!r}.", hint="Use a newer vastbench.")
    if orphaned := sorted(set(found["parent"].dropna().unique()) - {*found["phase"], str(PhaseName.TOTAL)}):
        raise SchemaError(f"The table lacks the phase {orphaned[0]!r}, of which others are a part.", hint="Export it again.")
    totals = found.loc[found["phase"] == PhaseName.TOTAL, "run"]
    if totals.duplicated().any() or len(totals) != found["run"].nunique(dropna=False):
        raise SchemaError("A run has no row `total`, or several.", hint="Export the table with vastbench.")
    finals = found.groupby(["run", "phase"], dropna=False)["final"].sum()
    if (finals != 1).any():
        run, phase = finals.index[finals != 1][0]
        raise SchemaError(
            f"The phase {phase!r} of run {run!r} has {finals[finals != 1].iloc[0]} final rows, not one.",
            hint="Export the table with vastbench.",
        )
    _check_times(found)
    return found.reset_index(drop=True)


def shown_as_text() -> None:
    """Have notebooks show the words in every pandas frame of this session as they are: two dollars would make a formula.

    pandas has no such setting for one frame.
    """
    import pandas as pd

    pd.set_option("display.html.use_mathjax", False)


def _check_times(found: pd.DataFrame) -> None:
    """Raise SchemaError for a number that is infinite or too large, and for a negative duration or bound; missing ones may be.

    ``unattributed`` is a difference, and may be negative where phases overlap.
    """
    import numpy as np

    names = [name for name, column in COLUMNS.items() if column.dtype == "float64"]
    values = found[names].to_numpy(dtype=float)
    times = np.isin(names, list(PHASE_COLUMNS)) & (found["phase"] != PhaseName.UNATTRIBUTED).to_numpy(dtype=bool)[:, np.newaxis]
    wrong = (np.abs(values) > LARGEST) | (times & (values < -ROUNDING_S))
    if wrong.any():
        column = int(wrong.any(axis=0).argmax())
        what = "duration" if names[column] in PHASE_COLUMNS else "figure of a run"
        raise SchemaError(
            f"The column {names[column]!r} holds {values[wrong[:, column].argmax(), column]}, which is not a valid {what}.",
            hint="Export the table with vastbench.",
        )


SELECTED = {"study": ("of a study", "Studies"), "gpu": ("on", "GPUs")}
"""How a run is said to have a value of a column that runs are often selected by, and what its values are called."""


def only(phases: pd.DataFrame, name: str, value: str | float | None, place: str = "the data") -> pd.DataFrame:
    """The runs of ``phases`` that have this ``value`` of the column ``name``, which is written like it; for None, all.

    The studies of a design (``gpus.old``, ``gpus.new``) have its name (``gpus``) as well, where no study has that alone.
    Raises NotFound for a column of no run, and when no run is left; it says which values there are in ``place``.

    Examples
    --------
    >>> here = vastbench.only(vastbench.load("default-300"), "region", "Spain, ES")
    >>> here["run"].nunique()
    47
    """
    check_run_column(name)
    there = phases[name].dropna().unique()
    alike = [one for one in there if in_words(one) == in_words(value)]
    if name == "study" and not alike:
        alike = [one for one in there if one.startswith(f"{value}.")]
    chosen = phases if value is None else phases[phases[name].isin(alike)]
    if chosen.empty:
        words, kinds = SELECTED.get(name, (f"whose {name} is", f"Values of {name}"))
        values = phases.loc[phases["phase"] == PhaseName.TOTAL, name].fillna("unknown").replace("", "no study")
        raise nothing_selected(place, f"{words} {value!r}", kinds, values.value_counts().to_dict())
    return chosen


def in_words(value: object) -> str:
    """A value of a column as users write it: ``20`` for 20.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def runs_table(phases: pd.DataFrame) -> pd.DataFrame:
    """One row per run, in the order of the tidy frame ``phases``.

    The columns are ``RUN_COLUMNS`` and, in seconds: one per top-level phase (``wait_running_s`` …; what was waited in its
    last try, missing when that did not end), ``retries_s`` (top-level phases of earlier tries), ``unattributed_s`` and
    ``total_s``. For a run with an ``unattributed_s`` these add up to ``total_s``, and
    to more where phases passed at the same time.

    Examples
    --------
    >>> vastbench.runs_table(vastbench.load())[["run_outcome", "wait_running_s", "wait_SSH_s", "total_s"]].head(2).round(1)
      run_outcome  wait_running_s  wait_SSH_s  total_s
    0      passed           120.6        34.1    162.4
    1      passed           106.1        18.8    134.5
    """
    runs = phases.loc[phases["phase"] == PhaseName.TOTAL, list(RUN_COLUMNS)].set_index("run")
    return runs.join(seconds_table(phases)).reset_index()


def seconds_table(phases: pd.DataFrame) -> pd.DataFrame:
    """The seconds of :func:`runs_table` alone, by ``run``; ``phases`` needs the columns run, phase, parent, final, seconds."""
    totals = phases.loc[phases["phase"] == PhaseName.TOTAL, ["run", "seconds"]].set_index("run")["seconds"]
    top = phases.loc[phases["parent"] == PhaseName.TOTAL, ["run", "phase", "final", "seconds"]]
    final = top[top["final"]].pivot(index="run", columns="phase", values="seconds")
    names = [*top_level(phases), str(PhaseName.UNATTRIBUTED)]
    seconds = final.reindex(index=totals.index, columns=names).astype("float64")
    seconds.columns = [column(name) for name in names]
    retries = top[~top["final"]].groupby("run")["seconds"].sum().reindex(totals.index, fill_value=0.0)
    seconds.insert(len(names) - 1, "retries_s", retries)
    seconds["total_s"] = totals
    return seconds


def runs_from(phases: pd.DataFrame) -> list[Run]:
    """The runs of a tidy frame ``phases``, as far as it tells: without checks, endpoints and the instrument's counters.

    Examples
    --------
    >>> vastbench.runs_from(vastbench.load("2026-01-02-rtx4090"))
    [<Run seed-807359bf6926: passed after 99.0 s>]
    """
    return [_run(rows) for _, rows in phases.groupby("run", sort=False)]


def _of_run(run: Run) -> dict[str, object]:
    own, memory_mb = plain_fields(run), run.resources.get("gpu_ram_mb")
    documents = own | {"": own, "cost": plain_fields(run.cost), "bill": plain_fields(run.bill)}
    return {name: documents[document].get(key) for name, (document, key) in _PLACES.items()} | {
        "started_at": run.started_at_utc,
        "gpu_memory_gb": None if memory_mb is None else memory_mb / 1024,
        "attempts": max(len(run.attempts) - sum(got.get("offer_id") is not None for got in run.rented[1:]), 0),
        "usd_per_hour": run.usd_per_hour,
        "cost_usd": run.cost.total_usd,
    }


def _readings(run: Run, phase: Phase) -> Readings:
    start, end = phase.start, phase.end
    readings = (start.lower, start.yes_received, end.lower, end.yes_received, phase.queued_s)
    return (run.id, str(phase.name), phase.parent and str(phase.parent), phase.attempt, str(phase.outcome), *readings)


def _run(table: pd.DataFrame) -> Run:
    import pandas as pd

    rows = [{str(name): None if pd.isna(value) else value for name, value in row.items()} for row in table.to_dict("records")]
    known: Mapping[str, Any] = next(row for row in rows if row["phase"] == PhaseName.TOTAL)
    documents: dict[str, Any] = {"": {}, "conditions": {}, "resources": {}, "cost": {}, "bill": {}, "instrument": {}}
    for name, (document, key) in _PLACES.items():
        if key:
            documents[document][key] = known[name]
    own, memory_gb, outcome = documents.pop(""), known["gpu_memory_gb"], Outcome(known["run_outcome"])
    documents["resources"]["gpu_ram_mb"] = None if memory_gb is None else memory_gb * 1024
    computed = {
        "outcome": outcome,
        "started_at": known["started_at"].isoformat(),
        "phases": tuple(_phase(row) for row in rows if row["end_lower_s"] is not None),
        "attempts": tuple(
            Attempt(number, outcome if number == known["attempts"] else Outcome.FAILED)
            for number in range(1, known["attempts"] + 1)
        ),
        "total_s": known["seconds"],
        "cost": Cost(**documents.pop("cost")),
        "bill": Bill(**documents.pop("bill")),
    }
    return Run(**own | documents | computed)


def _phase(row: Mapping[str, Any]) -> Phase:
    start = Moment.between(row["start_lower_s"], row["start_s"], "table")
    end = Moment.between(row["end_lower_s"], row["end_upper_s"], "table")
    known = (Outcome(row["outcome"]), row["attempt"])
    parent = None if row["parent"] == PhaseName.TOTAL else row["parent"]
    return Phase(row["phase"], start, end, *known, queued_s=row["queued_s"] or 0.0, parent=parent)
