"""What the other sentences rest on: which runs there are, where they come from, and how many passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import MEASURED, begun
from vastbench.analysis.summary import attempted, outcomes, passed
from vastbench.record.formats import counted, listed, of_share, percent
from vastbench.record.phases import Outcome, PhaseName
from vastbench.render.wording import escaped

if TYPE_CHECKING:
    import pandas as pd

NO_RUN = "There is no run in the data, so there is no number."
NO_SUCCESS = "No run passed, so there is no number for how long it takes."
CAUSES_NAMED = 4


def source(phases: pd.DataFrame) -> str:
    """Whether the runs were emulated, live or imported, and at which speed; empty for an empty frame."""
    runs = phases[phases["phase"] == PhaseName.TOTAL]
    counts = runs["source"].value_counts()
    words = {"emulator": "emulated", "live": "live", "import": "imported"}
    if len(counts) > 1:
        parts = [f"{n} {words.get(str(name), escaped(name))}" for name, n in counts.items()]
        return f"**MIXED SOURCES**: {listed(parts)} runs are taken together here."
    only = str(counts.index[0]) if len(counts) else ""
    if only == "emulator":
        profiles = listed([escaped(name) for name in sorted(runs["profile"].dropna().unique())]) or "unknown"
        fast = sorted(runs["scale"].dropna().unique())
        speed = "–".join(f"{value:g}" for value in dict.fromkeys((fast[0], fast[-1]))) if fast else "an unknown multiple of"
        return f"**EMULATED**, not live: delays are drawn from the profile {profiles}, at {speed} × real time."
    if only == "live":
        return "Measured live on the marketplace."
    if runs["scenario"].eq(MEASURED).any():
        return "Measured elsewhere, not by vastbench."
    return "Imported from a published record." if only == "import" else ""


def data(phases: pd.DataFrame) -> str:
    """What was loaded: how many runs, from when to when, how many failed or were stopped."""
    if phases.empty:
        return NO_RUN
    runs = phases[phases["phase"] == PhaseName.TOTAL]
    ended = runs["run_outcome"].value_counts()
    dates = begun(runs)
    between = f", begun {_date(dates.min())} to {_date(dates.max())} UTC" if len(dates) else ""
    fates = [f"{ended.get(str(outcome), 0)} {outcome}" for outcome in Outcome]
    return f"{counted(len(phases), 'row')} of {counted(len(runs), 'run')}{between}: {listed(fates)}. {source(phases)}".strip()


def failures_by_cause(phases: pd.DataFrame) -> str:
    """How many of the attempted runs did not pass, and why."""
    stopped = phases["run"].nunique() - attempted(phases)["run"].nunique()
    them = "it" if stopped == 1 else "them"
    left_out = (
        f" {counted(stopped, 'run', 'is')} not counted: we stopped {them}, or the account was refused." if stopped else ""
    )
    table = outcomes(phases)
    if table.empty:
        return f"No run was attempted.{left_out}"
    n, good = int(table["attempted"].iloc[0]), table[table["outcome"] == Outcome.PASSED].iloc[0]
    bad = n - int(good["runs"])
    interval = of_share(1 - good["rate_high"], 1 - good["rate_low"], n=n)
    if not bad:
        passed_all = "The one attempted run passed" if n == 1 else f"All {n} attempted runs passed"
        return f"{passed_all}: 0 of {n} failed ({interval}).{left_out}"
    rest = table[table["outcome"] != Outcome.PASSED]
    named = [f"{_cause(r.cause or r.outcome)}{f' ({r.runs})' if n > 1 else ''}" for r in rest.head(CAUSES_NAMED).itertuples()]
    more = int(rest["runs"].iloc[CAUSES_NAMED:].sum())
    causes = listed([*named, f"other causes ({more})"] if more else named)
    if n == 1:
        return f"**The only attempted run did not pass** ({interval}): {causes}.{left_out}"
    return f"**{bad} of {n}** attempted runs did not pass ({percent(bad / n)}; {interval}): {causes}.{left_out}"


def no_number(phases: pd.DataFrame) -> str:
    """Why there is no duration to speak of; empty when there is one."""
    if phases.empty:
        return NO_RUN
    return f"{failures_by_cause(phases)} {NO_SUCCESS} {source(phases)}" if passed(phases).empty else ""


def greatest(table: pd.DataFrame, name: str) -> pd.Series[Any]:
    """The row with the greatest value in the column ``name``; the first row where none has one."""
    return table.nlargest(1, name).iloc[0] if table[name].notna().any() else table.iloc[0]


def _date(when: Any) -> str:
    return f"{when:%Y-%m-%d %H:%M}"


def _cause(name: object) -> str:
    return escaped(str(name).replace("_", " "))
