"""What runs cost by meter, and what the same hour or run costs elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.cost import cost_summary
from vastbench.analysis.frames import runs_table
from vastbench.analysis.summary import attempted
from vastbench.charts import style
from vastbench.charts.strip import draw_bounds, draw_points, draw_tick, offsets
from vastbench.timing import Outcome

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

METERS = {
    "gpu": ("GPU meter", "gpu_usd"),
    "storage": ("storage meter", "storage_usd"),
    "transfer": ("transfer meter", "transfer_usd"),
    "all meters": ("all meters", "cost_usd"),
    "naive": ("wall clock × price", "naive_usd"),
}
"""The rows of :func:`~vastbench.analysis.cost.cost_summary`: how they are called on the chart, and their column per run."""


def cost_meters(phases: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """What every attempted run cost by each meter, with the naive figure below, in USD.

    ``phases`` is the tidy frame. A point per run (a hollow triangle if it did not pass), a thin line over the bounds of the GPU
    meter, a tick at the median, and a dashed tick at the cost per success: everything spent ÷ runs that passed. Runs without
    a meter's value are counted beside its row.
    """
    tried = attempted(phases)
    runs = runs_table(tried)
    title = f"Cost per run by meter (n = {style.counted(len(runs), 'attempted run')}{style.stopped(phases)})"
    known = runs[[column for _, column in METERS.values()]]
    if not known.notna().any(axis=None):
        return style.nothing(ax, title, "There is no attempted run with a known cost in the table.")
    summary = cost_summary(phases).set_index("meter")
    ax = style.axes(ax, 1.2 + 0.5 * len(METERS))
    left = style.spread_axis(ax, known.melt()["value"].dropna(), dollars=True)
    y, failed = offsets(runs["run"]), runs["run_outcome"] != Outcome.PASSED
    for row, (meter, (_, column)) in enumerate(METERS.items()):
        value = runs[column].dropna()
        if meter == "gpu":
            draw_bounds(ax, row + y[value.index], runs["gpu_lower_usd"][value.index], runs["gpu_upper_usd"][value.index], left)
        draw_points(ax, row + y[value.index], value, left, hollow=failed[value.index])
        success = float(summary["per_success_usd"].get(meter, float("nan")))
        if len(value) > 1:
            draw_tick(ax, row, max(float(value.median()), left))
        if len(runs) > 1 and success > 0:
            draw_tick(ax, row, max(success, left), ":")
        style.beside(ax, row, _said(value, len(runs) - len(value), success))
    style.rows(ax, [name for name, _ in METERS.values()])
    ax.grid(axis="x", color=style.PALE, lw=0.6)
    marks = "line: bounds; tick: median; dotted: per success" + ("; ▽ not passed" if failed.any() else "")
    return style.finish(ax, title, x=f"USD per run; {marks}")


def _said(value: pd.Series[float], missing: int, success: float) -> str:
    """The text beside a meter: n, the median or the one value, the cost per success, and how many runs have no value."""
    parts = [f"n = {len(value):,}"]
    if len(value):
        parts.append(("median " if len(value) > 1 else "") + style.usd(float(value.median())))
    parts.append(f"per success {style.usd(success)}" if success == success else "no success")
    if missing:
        parts.append(f"{missing:,} unknown")
    return ", ".join(parts)
