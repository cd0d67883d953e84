"""How long it took from one phase to another: a recovery is more than any of its phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.record.phases import Outcome

if TYPE_CHECKING:
    import pandas as pd


def with_span(phases: pd.DataFrame, name: str, first: str, last: str) -> pd.DataFrame:
    """The tidy frame with one more phase, ``name``: from the start of ``first`` to the end of ``last``, in runs that began it.

    Where ``first`` was tried more than once, the span begins with the first try: what went by in vain was waited for. It is a
    part of ``last``, so that nothing that adds up to the total changes. In a run that did not come so far it ends as the run
    ended, after the latest moment that is known not to have been its end.
    """
    import pandas as pd

    others = phases[phases["phase"] != name]  # the same span twice is one
    return pd.concat([others, span(phases, name, first, last)], ignore_index=True)


def span(phases: pd.DataFrame, name: str, first: str, last: str) -> pd.DataFrame:
    """The rows that :func:`with_span` adds to ``phases``, one for each run that began ``first``."""
    rows = phases[phases["final"]]
    start = rows[rows["phase"] == first].set_index("run")
    begun = phases[phases["phase"] == first].groupby("run")[["start_lower_s", "start_s"]].min()
    start[["start_lower_s", "start_s"]] = begun.reindex(start.index)
    end = rows[(rows["phase"] == last) & rows["end_upper_s"].notna()].set_index("run").reindex(start.index)
    latest = phases[phases["phase"] != "total"].groupby("run")["end_lower_s"].max().reindex(start.index)
    came = end["end_upper_s"].notna()
    made = start.assign(
        phase=name,
        parent=last,
        outcome=start["run_outcome"].mask(came, str(Outcome.PASSED)),
        end_lower_s=end["end_lower_s"].fillna(latest),
        end_upper_s=end["end_upper_s"],
        queued_s=0.0,
    )
    made["seconds"] = made["end_upper_s"] - made["start_s"]
    made["lower_s"] = (made["end_lower_s"] - made["start_s"]).clip(lower=0.0)
    made["upper_s"] = made["end_upper_s"] - made["start_lower_s"]
    return made.reset_index()[list(phases.columns)]
