"""Frame in, matplotlib Axes out. Colours tell apart also for colour-blind readers and in grey print; units and n on each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BLUE, ORANGE = "#0072b2", "#d55e00"
EXACT_S = 0.005
"""Bounds narrower than this many seconds are not drawn: they are our own doing, known exactly."""


def phase_waterfall(phases: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """One run's top-level phases on the time axis, each with the bounds of its end; the longest one in orange.

    ``phases`` is :func:`~vastbench.analysis.frames.phases_table` of one run. The whisker at the end of a bar spans the
    instants at which the phase may truly have ended. Raises ValueError when the frame holds more than one run, or none.
    """
    from matplotlib import pyplot as plt

    if phases["run"].nunique() != 1:
        raise ValueError(f"a waterfall shows one run, not {phases['run'].nunique()}")
    if ax is None:
        ax = plt.subplots(figsize=(8, 4), layout="constrained")[1]
    top = (
        phases[(phases["parent"] == "total") & phases["end_upper_s"].notna()].dropna(subset=["seconds"]).reset_index(drop=True)
    )
    longest = top["seconds"].idxmax()
    ax.barh(
        top.index, top["seconds"], left=top["start_s"], height=0.62, color=[ORANGE if i == longest else BLUE for i in top.index]
    )
    polled = top[top["end_upper_s"] - top["end_lower_s"] > EXACT_S]
    width = polled["end_upper_s"] - polled["end_lower_s"]
    whiskers = [width, width * 0]
    ax.errorbar(polled["end_upper_s"], polled.index, xerr=whiskers, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    for row in top.itertuples():
        ax.annotate(f" {row.seconds:.1f} s", (row.end_upper_s, row.Index), va="center", fontsize=8)
    ax.set_yticks(top.index, top["phase"])
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlim(left=0)
    ax.set_xlabel("seconds since the start; whiskers: when the phase may truly have ended")
    ax.set_title(f"Run {phases['run'].iloc[0]}: where the time went (n = 1)", loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
