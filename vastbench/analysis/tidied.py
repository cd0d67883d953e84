"""Anybody's timings as a tidy frame, so that charts, comparisons and reports take them: what the table says, and no more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from zlib import crc32

from vastbench.analysis.artefacts.rule import ANSWER, has, resolution
from vastbench.analysis.attempts import MEASURED
from vastbench.analysis.columns import COLUMNS
from vastbench.analysis.frames import conformed
from vastbench.errors import SchemaError
from vastbench.record.formats import counted
from vastbench.record.phases import LONGEST_NAME, PhaseName

if TYPE_CHECKING:
    import pandas as pd

DATED_S = 1e8
"""Seconds beyond this are since 1970, and so a date."""
WORST = {"failed": 3, "censored": 2, "passed": 1}


def tidied(timings: pd.DataFrame) -> pd.DataFrame:
    """The tidy frame (:data:`~vastbench.analysis.columns.COLUMNS`) of a long table of timings.

    A row that has a value and says nothing of its end passed; one that says nothing and has no value is left out. A failed row
    has no duration, and it and a censored one took at least their value; where a row is a whole run, it ended so in the phase
    without a value, else in its last one. Phases lie where their moments say, else follow each other in the order of the table,
    each as uncertain as its own bounds, the poll period or the last printed digit say. A run is useful at the end of its last
    phase.
    A phase that a run has several times becomes several runs. Groups become variants. What the phases of a run that passed
    leave of its total is ``unattributed``; below 0 where they overlap.

    Raises SchemaError where no row is left.
    """
    import pandas as pd

    rows = _tries(timings)
    if rows.empty:
        raise SchemaError("The table has no row with a value or an outcome.", hint="See it with: vastbench check FILE")
    whole = rows[rows["phase"] == PhaseName.TOTAL]
    parts = _placed(rows[rows["phase"] != PhaseName.TOTAL])
    of_runs = _runs(rows, parts, whole)
    totals = of_runs.assign(phase=str(PhaseName.TOTAL), parent=None, attempt=0, final=True, queued_s=0.0)
    totals = totals.assign(outcome=totals["run_outcome"])
    joined = parts.drop(columns=["variant", "run_outcome"]).merge(
        of_runs.drop(columns=["seconds"]), on="run", how="left", sort=False
    )
    frame = pd.concat([joined, _unexplained(parts, totals), totals], ignore_index=True)
    frame["order"] = frame["run"].map({run: place for place, run in enumerate(of_runs["run"])})
    frame = frame.sort_values("order", kind="stable", ignore_index=True)
    return conformed(frame.reindex(columns=list(COLUMNS)))


def left_out(timings: pd.DataFrame) -> list[str]:
    """Sentences, without their stops, on the rows of a long table of timings that :func:`tidied` cannot take."""
    outcomes = timings["outcome"].notna() if has(timings, "outcome") else False
    wrong = {
        "has a time below 0": timings["seconds"] < 0,
        "has neither a time nor an outcome": timings["seconds"].isna() & ~outcomes,
    }
    return [
        f"{counted(len(rows), 'row', what)}: not counted (the first is {rows['phase'].iloc[0]} of run {rows['run'].iloc[0]})"
        for what, which in wrong.items()
        if len(rows := timings[which])
    ]


def _tries(timings: pd.DataFrame) -> pd.DataFrame:
    """The durations of last tries, with an outcome each, bounds, and one row per run and phase."""
    import numpy as np

    rows = timings[timings["kind"].ne(ANSWER)] if has(timings, "kind") else timings
    rows = rows[rows["final"].ne(False)] if has(rows, "final") else rows
    columns = {name: None for name in ("outcome", "group", "parent", "machine") if name not in rows}
    numbers = ("lower_s", "upper_s", "poll_period_s", "timeout_s")
    rows = rows.assign(**columns, **{name: np.nan for name in numbers if name not in rows})
    again = rows.groupby(["run", "phase"], sort=False).cumcount()
    rows["run"] = rows["run"].where(again == 0, rows["run"] + " #" + (again + 1).astype("str"))
    rows = rows[(rows["seconds"].notna() | rows["outcome"].notna()) & rows["phase"].ne(PhaseName.UNATTRIBUTED)]
    rows = rows[~(rows["seconds"] < 0)].copy()
    short = _shortened(rows["phase"].unique())
    rows["phase"], rows["parent"] = rows["phase"].map(short), rows["parent"].map(lambda name: short.get(name, name))
    rows["outcome"] = rows["outcome"].where(rows["outcome"].notna(), "passed").astype("str")
    rows["run_outcome"] = rows.groupby("run")["outcome"].transform(_worst)
    rows["outcome"] = _blamed(rows)
    return rows.rename(columns={"group": "variant"}).reset_index(drop=True)


def _shortened(names: Iterable[str]) -> dict[str, str]:
    """Each name in at most LONGEST_NAME characters, no two of them the same: its beginning, else its end, else a number."""
    short: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        half = LONGEST_NAME // 2
        ways = (name[:LONGEST_NAME], f"{name[: half - 1]}…{name[-half:]}", f"{name[: LONGEST_NAME - 8]} {len(short)}")
        short[name] = next(way for way in ways if way not in taken)
        taken.add(short[name])
    return short


def _worst(outcomes: pd.Series[str]) -> str:
    return max(outcomes, key=WORST.__getitem__)


def _blamed(rows: pd.DataFrame) -> pd.Series[str]:
    """The outcome of each row. Where a run says beside all of its phases how it ended, it ended in one of them.

    That is the one without a value, else the last one; those with a value before it passed.
    """
    parts = rows["phase"].ne(PhaseName.TOTAL)
    of_run = rows[parts].groupby("run", sort=False)
    repeated = (of_run["outcome"].transform("nunique") == 1) & (of_run["outcome"].transform("size") > 1)
    lacking = rows["seconds"].isna()
    last = ~rows[parts].duplicated("run", keep="last") & ~lacking.groupby(rows["run"]).transform("any")[parts]
    passed = repeated & ~lacking[parts] & ~last
    return rows["outcome"].mask(passed.reindex(rows.index, fill_value=False), "passed")


def _above(rows: pd.DataFrame) -> pd.Series[str]:
    """The top-level phase of its own run that each row is a part of, directly or through others; missing for such a phase."""
    import pandas as pd

    keys = list(zip(rows["run"], rows["phase"], strict=True))
    parents = dict(zip(keys, rows["parent"], strict=True))

    def highest(run: str, phase: str) -> str | None:
        found, seen = None, {phase}
        while isinstance(parent := parents.get((run, found or phase)), str) and (run, parent) in parents and parent not in seen:
            seen.add(parent)
            found = parent
        return found

    return pd.Series([highest(*key) for key in keys], index=rows.index, dtype=object)


def _placed(rows: pd.DataFrame) -> pd.DataFrame:
    """The phases one after the other, with the readings of their edges; a part of a phase begins with it."""
    import numpy as np

    above = _above(rows)
    top = above.isna()
    passed = rows["outcome"].eq("passed")
    waited = rows["lower_s"].fillna(rows["timeout_s"].where(rows["outcome"].eq("censored")))
    took = rows["seconds"].fillna(waited.mask(passed)).fillna(0.0)
    before = took.where(top, 0.0).groupby(rows["run"], sort=False).cumsum() - took.where(top, 0.0)
    starts = dict(zip(zip(rows["run"], rows["phase"], strict=True), before, strict=True))
    keys = zip(rows["run"], above, before, top, strict=True)
    start = np.array([at if is_top else starts[run, parent] for run, parent, at, is_top in keys])
    if has(rows, "began_s"):
        began = rows["began_s"] - rows.groupby("run")["began_s"].transform("min")
        start = np.where(began.notna().groupby(rows["run"]).transform("all"), began, start)
    grain = resolution(rows["seconds"]) / 2 if len(rows) else 0.0
    least = (took - rows["poll_period_s"].fillna(grain)).clip(lower=0.0)
    lower, upper = (
        rows["lower_s"].fillna(least),
        rows["upper_s"].fillna(took.where(rows["poll_period_s"].notna(), took + grain)),
    )
    lower = lower.where(lower <= upper, upper).where(passed, took)
    return rows.assign(
        parent=above.where(~top, str(PhaseName.TOTAL)),
        attempt=1,
        final=True,
        seconds=rows["seconds"].where(passed),
        lower_s=lower,
        upper_s=upper.where(passed),
        start_lower_s=start,
        start_s=start,
        end_lower_s=start + lower.clip(upper=took),
        end_upper_s=(start + took).where(passed),  # the value as it was read: so the phases add up to the total
        queued_s=0.0,
    ).drop(columns=["machine"])


def _unexplained(parts: pd.DataFrame, totals: pd.DataFrame) -> pd.DataFrame:
    """The row ``unattributed`` of each run that passed and has phases, from its row ``total``."""
    top = parts[parts["parent"] == PhaseName.TOTAL]
    rows = totals[totals["outcome"].eq("passed") & totals["run"].isin(top["run"])]
    rest = (rows["seconds"] - rows["run"].map(top.groupby("run")["seconds"].sum()).astype("float64")).round(9)
    return rows.assign(phase=str(PhaseName.UNATTRIBUTED), parent=str(PhaseName.TOTAL), seconds=rest)


def _runs(rows: pd.DataFrame, parts: pd.DataFrame, whole: pd.DataFrame) -> pd.DataFrame:
    """What is known of each run, and its total: the stated one, else where its last phase ends."""
    import pandas as pd

    of_run = rows.groupby("run", sort=False)
    ended = of_run["run_outcome"].first()
    top = parts[parts["parent"] == PhaseName.TOTAL]
    ends = top["end_upper_s"].fillna(top["end_lower_s"])
    reached = ends.groupby(top["run"], sort=False).max()
    stated = whole.set_index("run")["seconds"]
    machine = of_run["machine"].first()
    last = top.loc[ends.sort_values(kind="stable").index].groupby("run")["phase"].last().reindex(ended.index)
    runs = pd.DataFrame({"run_outcome": ended, "variant": of_run["variant"].first(), "seconds": stated.reindex(ended.index)})
    runs["seconds"] = runs["seconds"].fillna(reached).fillna(0.0)
    # Machines have numbers in a tidy frame, and those of others may have names; one name is one number in every file.
    codes = machine.map(lambda name: crc32(str(name).encode()), na_action="ignore").astype("Int64")
    order = pd.Series(range(len(runs)), index=runs.index, dtype="float64")
    dates = parts.groupby("run")["began_s"].min().reindex(runs.index) if has(parts, "began_s") else order
    started = pd.to_datetime(dates.where(dates > DATED_S, order), unit="s", utc=True)
    return runs.assign(
        machine=codes,
        study="",
        scenario=MEASURED,
        ready=last.fillna(str(PhaseName.TOTAL)).astype("str"),
        source="import",
        cause=runs["run_outcome"].map({"passed": "", "failed": "failed", "censored": "stopped"}),
        detail="",
        started_at=started,
        attempts=1,
    ).reset_index(names="run")
