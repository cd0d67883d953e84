"""Where the time goes, and which phase makes runs differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.bottleneck import shares
from vastbench.analysis.summary import passed
from vastbench.charts import style
from vastbench.record.formats import counted, percent
from vastbench.record.phases import PhaseName

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

WORTH_A_ROW = 2.0
"""Phases none of whose shares reaches this many percent are one row together."""
WORTH_A_LINE = 0.3
"""Bounds that are nearer to each other than this many percent are not drawn: the line would be a dot."""


def phase_shares(phases: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Each phase's share of the mean total beside its share of the variance, over the runs that passed.

    ``phases`` is the tidy frame. The line at the end of a share of the mean spans what the bounds of the phase's durations
    allow. A diamond is the share of the variance without the slowest runs (beyond p95), because a few
    runs can decide it. Where n allows no share of the variance, none is drawn and the axis says so. Phases with less than 2 %
    of either are one row, so that the bars still add up to 100 %.

    >>> import vastbench
    >>> ax = vastbench.phase_shares(vastbench.load())
    """
    table = shares(phases)
    n = int(table["n"].max()) if len(table) else 0
    title = f"Share of the mean and of the variance of the total time (n = {counted(n, 'passed run')})"
    if not n:
        return style.nothing(ax, title, "No run passed: there is no total to share out.")
    shown = table.set_index("phase")[["mean_share", "variance_share", "variance_share_trimmed"]].join(_bounds(phases))
    parts = _merged(100 * shown)
    ax = style.axes(ax, 1.2 + 0.44 * len(parts), len(parts))
    trimmed = parts["variance_share_trimmed"]
    if parts["variance_share"].isna().all():
        _bars(ax, parts["mean_share"], 0.0, style.BLUE, "", "of the mean" if n > 1 else "of the total", parts["share_high"])
        _whiskers(ax, parts, 0.0)
        title = f"Share of the total time (n = {counted(n, 'passed run')})"
        key = f"no share of the variance for n = {n}"
    else:
        _bars(ax, parts["mean_share"], -0.2, style.BLUE, "", "of the mean", parts["share_high"])
        _whiskers(ax, parts, -0.2)
        _bars(ax, parts["variance_share"], 0.2, style.GREY, "////", "of the variance", trimmed)
        key = "negative: short when the total is long" if (parts["variance_share"] < 0).any() else ""
    if trimmed.notna().any():
        ax.plot(trimmed, [row + 0.2 for row in range(len(parts))], "D", ms=5, mfc=style.WHITE, mec=style.BLACK)
        key = "; ".join(filter(None, ["◇ of the variance without the runs beyond p95", key]))
    if (parts["share_high"] - parts["share_low"] > WORTH_A_LINE).any():
        key = "; ".join(filter(None, ["line: what the bounds allow", key]))
    ax.axvline(0, color=style.BLACK, lw=0.8)
    low, high = float(parts.min().min()), float(parts.max().max())
    ax.set_xlim(min(0.0, low * 1.2), high * 1.25)
    style.rows(ax, parts.index)
    return style.finish(ax, title, x="; ".join(filter(None, ["% of the total", key])))


def _bounds(phases: pd.DataFrame) -> pd.DataFrame:
    """By phase, the least and the most that its share of the mean can be, from the bounds of each run's duration.

    The totals are our own doing, and so known exactly.
    """
    import pandas as pd

    rows = passed(phases)
    whole = rows.loc[rows["phase"] == PhaseName.UNATTRIBUTED, "run"]
    rows = rows[rows["run"].isin(whole) & rows["final"]]
    total = rows.loc[rows["phase"] == PhaseName.TOTAL, "seconds"].sum()
    known = rows[(rows["parent"] == PhaseName.TOTAL) & rows["seconds"].notna()].set_index("phase")
    edges = {name: known[side].fillna(known["seconds"]) for name, side in (("share_low", "lower_s"), ("share_high", "upper_s"))}
    return pd.DataFrame(edges).groupby(level="phase").sum() / total if total > 0 else pd.DataFrame(columns=list(edges))


def _whiskers(ax: Axes, parts: pd.DataFrame, shift: float) -> None:
    """A line over the bounds of each share that has any worth a line, as far as the bar's row is its own."""
    for row, (low, high) in enumerate(zip(parts["share_low"], parts["share_high"], strict=True)):
        if high - low > WORTH_A_LINE:
            ax.plot([low, high], [row + shift] * 2, "-|", color=style.WHITE, lw=2.6, ms=9, mew=2.6)
            ax.plot([low, high], [row + shift] * 2, "-|", color=style.BLACK, lw=1.2, ms=7)


def _merged(parts: pd.DataFrame) -> pd.DataFrame:
    """``parts`` with one row at the end for all phases whose shares are small."""
    small = (parts.abs() < WORTH_A_ROW).where(parts.notna(), True).all(axis=1)
    if small.sum() < 2:
        return parts
    merged = parts[~small].copy()
    merged.loc[f"{small.sum()} short phases"] = parts[small].sum(min_count=1)
    return merged


def _bars(
    ax: Axes, values: pd.Series[float], shift: float, colour: str, hatch: str, of: str, mark: pd.Series[float] | None = None
) -> None:
    """One bar per phase with its number beside it, clear of the mark that will be drawn on the same row."""
    rows = [row + shift for row in range(len(values))]
    ax.barh(rows, values, height=0.36, color=colour, hatch=hatch, edgecolor=style.WHITE, linewidth=0)
    ends = values.clip(lower=0.0) if mark is None else values.clip(lower=mark.fillna(0.0)).clip(lower=0.0)
    for row, value, end in zip(rows, values, ends, strict=True):
        style.after(ax, end, row, f"{percent(value / 100)} {of}".replace("-", "−"))
