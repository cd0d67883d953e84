"""Anybody's timings as a tidy frame, so that charts, comparisons and reports take them: what the table says, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.artefacts.rule import ANSWER, has, resolution
from vastbench.analysis.attempts import MEASURED
from vastbench.analysis.columns import COLUMNS
from vastbench.analysis.frames import conformed
from vastbench.errors import SchemaError
from vastbench.record.phases import LONGEST_NAME, PhaseName

if TYPE_CHECKING:
    import pandas as pd

WORST = {"failed": 3, "censored": 2, "passed": 1}


def tidied(timings: pd.DataFrame) -> pd.DataFrame:
    """The tidy frame (:data:`~vastbench.analysis.columns.COLUMNS`) of a long table of timings.

    A row that has a value and says nothing of its end passed; one that says nothing and has no value is left out. A failed row
    has no duration, and it and a censored one took at least their value; where a row is a whole run, it ended so in the phase
    without a value, else in its last one. Phases follow each other in the order of the table, each as uncertain as its own
    bounds, the poll period or the last printed digit say. A run is useful at the end of its last phase.
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


def _tries(timings: pd.DataFrame) -> pd.DataFrame:
    """The durations of last tries, with an outcome each, bounds, and one row per run and phase."""
    import numpy as np

    rows = timings[timings["kind"].ne(ANSWER)] if has(timings, "kind") else timings
    rows = rows[rows["final"].ne(False)] if has(rows, "final") else rows
    columns = {name: None for name in ("outcome", "group", "parent", "machine") if name not in rows}
    rows = rows.assign(**columns, **{name: np.nan for name in ("lower_s", "upper_s", "poll_period_s") if name not in rows})
    rows = rows[(rows["seconds"].notna() | rows["outcome"].notna()) & rows["phase"].ne(PhaseName.UNATTRIBUTED)]
    rows = rows[~(rows["seconds"] < 0)].copy()
    rows["phase"] = rows["phase"].str.slice(0, LONGEST_NAME)
    rows["outcome"] = rows["outcome"].where(rows["outcome"].notna(), "passed").astype("str")
    rows["run_outcome"] = rows.groupby("run")["outcome"].transform(_worst)
    rows["outcome"] = _blamed(rows)
    again = rows.groupby(["run", "phase"], sort=False).cumcount()
    rows["run"] = rows["run"].where(again == 0, rows["run"] + " #" + (again + 1).astype("str"))
    return rows.rename(columns={"group": "variant"}).reset_index(drop=True)


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


def _placed(rows: pd.DataFrame) -> pd.DataFrame:
    """The phases one after the other, with the readings of their edges; a part of a phase begins with it."""
    import numpy as np

    top = rows["parent"].isna() | rows["parent"].eq(PhaseName.TOTAL) | ~rows["parent"].isin(rows["phase"])
    passed = rows["outcome"].eq("passed")
    took = rows["seconds"].fillna(0.0)
    before = took.where(top, 0.0).groupby(rows["run"], sort=False).cumsum() - took.where(top, 0.0)
    starts = dict(zip(zip(rows["run"], rows["phase"], strict=True), before, strict=True))
    keys = zip(rows["run"], rows["parent"], before, top, strict=True)
    start = np.array([at if is_top else starts.get((run, parent), at) for run, parent, at, is_top in keys])
    grain = resolution(rows["seconds"]) / 2 if len(rows) else 0.0
    least = (took - rows["poll_period_s"].fillna(grain)).clip(lower=0.0)
    lower, upper = (
        rows["lower_s"].fillna(least),
        rows["upper_s"].fillna(took.where(rows["poll_period_s"].notna(), took + grain)),
    )
    lower = lower.where(lower <= upper, upper).where(passed, took)
    return rows.assign(
        parent=rows["parent"].where(~top, str(PhaseName.TOTAL)),
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
    reached = top["end_upper_s"].fillna(top["end_lower_s"]).groupby(top["run"], sort=False).max()
    stated = whole.set_index("run")["seconds"]
    machine = of_run["machine"].first()
    order = top["phase"].drop_duplicates(keep="first")
    runs = pd.DataFrame({"run_outcome": ended, "variant": of_run["variant"].first(), "seconds": stated.reindex(ended.index)})
    runs["seconds"] = runs["seconds"].fillna(reached).fillna(0.0)
    # Machines have numbers in a tidy frame; those of others may have names.
    codes = pd.Series(pd.factorize(machine)[0] + 1, index=machine.index, dtype="Int64")
    started = pd.Timestamp(0, tz="UTC") + pd.to_timedelta(range(len(runs)), unit="s")
    return runs.assign(
        machine=codes.where(machine.notna(), pd.NA),
        study="",
        scenario=MEASURED,
        ready=str(order.iloc[-1]) if len(order) else str(PhaseName.TOTAL),
        source="import",
        cause=runs["run_outcome"].map({"passed": "", "failed": "failed", "censored": "deadline"}),
        detail="",
        started_at=started,
        attempts=1,
    ).reset_index(names="run")
