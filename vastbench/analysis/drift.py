"""Whether something changed while a study was made: the later half of its runs against the earlier one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vastbench.analysis.attempts import passed, totals
from vastbench.analysis.comparison import Comparison, compare
from vastbench.analysis.durations import exact
from vastbench.errors import UsageError
from vastbench.record.formats import counted
from vastbench.record.stopping import USEFUL

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.analysis.survival.durations import Durations


def halves(phases: pd.DataFrame) -> list[Durations]:
    """The totals, in seconds, of the earlier and of the later half of the runs that passed; none for fewer than two."""
    good = _in_order(passed(totals(phases)).dropna(subset="seconds"))
    half = len(good) // 2
    return [exact(rows["seconds"], rows["machine"]) for rows in (good.iloc[:half], good.iloc[half:])] if half else []


def drift(phases: pd.DataFrame, quantity: str = USEFUL) -> Comparison:
    """Say whether the later half of a study's attempted runs passed as often and took as long as the earlier one, and how sure
    that is; it shows itself.

    A is the earlier half in order of start, B the later one; ``quantity`` is a phase or ``time to ready``. The
    chart of it is ``vastbench.boot_curves(vastbench.drift(phases).runs, by="group")``. Raises UsageError for fewer than two
    attempted runs, for a quantity that does not exist, and for runs of several kinds that were not pooled.

    Examples
    --------
    >>> found = vastbench.drift(vastbench.load("default-300"))
    >>> found.verdict
    <Verdict.NOT_ENOUGH: 'not enough runs'>
    """
    order = _in_order(totals(phases))["run"]
    if (half := len(order) // 2) < 1:
        raise UsageError(f"{counted(len(order), 'attempted run')} cannot show a change.", hint="Make at least two.")
    a, b = (phases[phases["run"].isin(runs)] for runs in (order[:half], order[half:]))
    return replace(compare(a, b, (quantity,), by="started_at"), names=("the earlier half", "the later half"))


def _in_order(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.sort_values(["started_at", "run"], kind="stable")
