"""What runs cost by meter, and what the same hour or run costs elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vastbench.analysis.cost import METERS, cost_summary
from vastbench.analysis.frames import runs_table
from vastbench.analysis.summary import attempted
from vastbench.charts import groups, style
from vastbench.charts.strip import CROWDED, draw_bounds, draw_points, draw_tick, offsets
from vastbench.record.formats import counted, short
from vastbench.record.phases import Outcome

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

CALLED = {
    "gpu": "GPU meter",
    "storage": "storage meter",
    "transfer": "transfer meter",
    "all meters": "all meters",
    "naive": "wall clock × price",
}
"""How the rows of :func:`~vastbench.analysis.cost.cost_summary` are called on the chart."""
BOUNDED = ("gpu", "all meters")
"""The meters that hold the GPU's, whose bounds are known."""


def cost_meters(phases: pd.DataFrame, ax: Axes | None = None, *, by: str | None = None, label: str | None = None) -> Axes:
    """What every attempted run cost by each meter, with the naive figure below, in USD.

    ``phases`` is the tidy frame. A point per run (a hollow triangle if it did not pass), a thin line over the bounds that the
    GPU meter has, a tick at the median, and a dotted tick at the cost per success: everything spent ÷ runs that passed. Runs
    without a meter's value are counted beside its row, whose cost per success is then a least one.

    ``by`` names a column of the frame with one value for each run, such as ``gpu``: each value gets a part of every row.
    ``label`` names the runs in the legend. Called again with the same ``ax``, the chart holds the earlier groups and the new
    ones. Raises ValueError for a ``by`` that groups no runs, and for more than six groups.

    >>> import vastbench
    >>> ax = vastbench.cost_meters(vastbench.load(), by="gpu")
    """
    return groups.compose("cost_meters", groups.split(phases, by, label), ax, _draw_meters)


def _draw_meters(them: list[groups.Group], ax: Axes | None) -> Axes:
    import pandas as pd

    tables = [runs_table(attempted(group.phases)) for group in them]
    runs = pd.concat(tables)
    stopped = style.stopped(groups.together(them))
    title = f"Cost per run by meter (n = {counted(len(runs), 'attempted run')}{groups.among(them)}{stopped})"
    known = runs[list(METERS.values())].melt()["value"].dropna()
    if known.empty:
        return style.nothing(ax, title, "There is no attempted run with a known cost in the table.")
    ax = style.axes(ax, 1.2 + 0.4 * len(METERS) * (1 + 0.5 * (len(them) - 1)), len(METERS))
    left = style.spread_axis(ax, known, money=True)
    for (group, shift, part), table in zip(groups.lanes(them), tables, strict=True):
        success = cost_summary(group.phases).set_index("meter")["per_success_usd"].to_dict()
        for row, meter in enumerate(METERS):
            said = _draw_meter(ax, table, meter, success.get(meter, float("nan")), (row + shift, part, left, group.colour))
            style.beside(ax, row + shift, ("\n" if len(them) == 1 else ", ").join(said))
    style.rows(ax, [CALLED[meter] for meter in METERS])
    ax.grid(axis="x", color=style.PALE, lw=0.6)
    failed = runs["run_outcome"] != Outcome.PASSED
    marks = ["line: bounds of the GPU meter"]
    if len(runs) > 1:
        marks += ["tick: median", "no success" if failed.all() else "dotted: per success"]
    if failed.any():
        marks.append("▽ not passed")
    edge = "; smaller amounts lie at the left edge" if (known < left).any() else ""
    above = groups.legend(ax, them, (f"n = {group.n}" for group in them))
    return style.finish(ax, title, x=f"USD per run; {', '.join(marks)}{edge}", above=above)


def _draw_meter(ax: Axes, runs: pd.DataFrame, meter: str, success: float, place: tuple[float, float, float, str]) -> list[str]:
    """The runs of a group in the row of a meter, and what is to be said beside it.

    ``place`` is the height, the part of the row, the edge of the axis and the colour.
    """
    height, part, left, colour = place
    value = runs[METERS[meter]].dropna()
    y = height + part * offsets(runs["run"])[value.index]
    if meter in BOUNDED:
        rest = value - runs["gpu_usd"][value.index]
        low, high = (rest + runs[name][value.index] for name in ("gpu_lower_usd", "gpu_upper_usd"))
        draw_bounds(ax, y, low, high, left)
    failed = (runs["run_outcome"] != Outcome.PASSED)[value.index]
    draw_points(ax, y, value, left, hollow=failed, colour=colour)
    crowded = len(value) > CROWDED
    if len(value) > 1:
        draw_tick(ax, height, max(float(value.median()), left), over=crowded, part=part)
    if len(runs) > 1 and success > 0:
        draw_tick(ax, height, max(success, left), over=crowded, style=":", part=part)
    return _said(value, len(runs) - len(value), success)


def _said(value: pd.Series[float], missing: int, success: float) -> list[str]:
    """The text beside a meter: the median or the one value, the cost per success, and n where some runs have no value."""
    parts = [f"n = {len(value)}, {missing} unknown"] if missing else []
    if len(value):
        parts.append(("median " if len(value) > 1 else "") + style.usd(float(value.median())))
    if success == success and len(value) > 1 and not (style.narrow() and missing):
        parts.append(f"per success {'at least ' if missing else ''}{style.usd(success)}")
    return parts


def provider_costs(comparison: pd.DataFrame, ax: Axes | None = None, *, value: str = "usd_per_gpu_hour") -> Axes:
    """Prices elsewhere beside what our runs paid: a row each with its GPU, region, tier and date, the cheapest on top.

    ``comparison`` is a frame of :func:`~vastbench.analysis.providers.compare`, or those of its rows that are to be drawn;
    ``value`` is one of ``NAMES``. Our runs are blue. Prices per hour are bars, with a line from the cheapest to the dearest of
    our runs; costs of runs are points with their 95 % interval, and ≥ before what is a least because a term of the provider is
    not known. Rows without that figure are counted in the title. Raises ValueError for another ``value``.

    >>> import vastbench
    >>> compared = vastbench.providers.compare(vastbench.price_list(), vastbench.load())
    >>> ax = vastbench.provider_costs(vastbench.providers.same_gpu(compared))
    """
    if value not in NAMES:
        raise ValueError(f"provider_costs draws {', '.join(NAMES)}, not {value!r}")
    drawn = comparison.dropna(subset=value).sort_values(value, kind="stable", ignore_index=True)
    missing = len(comparison) - len(drawn)
    without = f"\n{counted(missing, 'price')} without this figure not drawn" if missing else ""
    title = f"{NAMES[value]} (n = {counted(len(drawn), 'price')}){without}"
    if drawn.empty:
        return style.nothing(ax, title, "There is no price in the table to compare.")
    ax = style.axes(ax, 1.1 + 0.34 * len(drawn))
    records: list[dict[Any, Any]] = drawn.to_dict("records")
    others = style.GREY if value in BILLED else style.PALE
    colours = [style.BLUE if row["ours"] else others for row in records]
    if value in BILLED:  # a billed hour and a billed second are too far apart for bars
        left = style.spread_axis(ax, drawn[value], money=True)
        ax.scatter(drawn[value], drawn.index, s=36, color=colours, zorder=3)
    else:
        left = 0.0
        ax.barh(drawn.index, drawn[value], height=0.66, color=colours)
        ax.xaxis.set_major_formatter(lambda price, _: rf"\${short(price)}")
    end = 0.0
    for place, row in enumerate(records):
        low, high = _range(row, value)
        right = row[value]
        if high > low:
            ax.plot([low, high], [place, place], "-|", color=style.BLACK, lw=1.2, ms=7)
            right = high
        style.after(ax, right, place, ("≥ " if value in BILLED and row["lacking"] else "") + style.usd(row[value]))
        end = max(end, right)
    style.rows(ax, [_offer(row) if style.narrow() else f"{_offer(row)}\n{_context(row)}" for row in records])
    for label, row in zip(ax.get_yticklabels(), records, strict=True):
        label.set_fontweight("bold" if row["ours"] else "normal")
    room = 0.3 if style.narrow() else 0.15  # for the last figure
    ax.set_xlim(left, end * (end / left) ** (2 * room) if ax.get_xscale() == "log" else end * (1 + room))
    said = "95 % interval" if value in BILLED else "the cheapest to the dearest"
    ranged = any(high > low for low, high in (_range(row, value) for row in records))
    least = "; ≥: a least, not all is known" if value in BILLED and drawn["lacking"].ne("").any() else ""
    return style.finish(ax, title, x="USD; blue: our runs" + (f", line: {said}" if ranged else "") + least)


NAMES = {
    "usd_per_gpu_hour": "Price per GPU and hour",
    "usd_per_gb_hour": "Price per GB of GPU memory and hour",
    "usd_per_run": "Cost of a run like ours",
    "usd_per_success": "Cost of a success, failures like ours included",
    "usd_per_hour": "Price per hour",
}
"""The columns that :func:`provider_costs` can draw, and what they hold."""

BILLED = {"usd_per_run", "usd_per_success"}
"""Those of them that follow from what each provider bills; each has its interval."""


def _range(row: dict[Any, Any], value: str) -> tuple[float, float]:
    """The ends of the line of a bar: the interval of what is billed, or the lowest and the highest price of our runs."""
    if value in BILLED:
        return row[f"{value}_low"], row[f"{value}_high"]
    share = row[value] / row["usd_per_hour"]
    return row["usd_per_hour_low"] * share, row["usd_per_hour_high"] * share


def _offer(row: dict[Any, Any]) -> str:
    """``AWS g5.xlarge, 1 × A10G 24 GB``; what the source does not say is left out."""
    name = style.plain(f"{row['provider']} {row['instance_type']}", 34)
    count = f"{row['gpu_count']:g} × " if row["gpu_count"] == row["gpu_count"] else ""
    memory = f" {row['gpu_memory_gb']:g} GB" if row["gpu_memory_gb"] == row["gpu_memory_gb"] else ""
    return f"{name}, {count}{style.plain(row['gpu'], 16)}{memory}"


def _context(row: dict[Any, Any]) -> str:
    """Region, tier and date of a price, and that it is stale."""
    known = [style.plain(row[name], 26) for name in ("region", "tier", "as_of") if isinstance(row[name], str)]
    return ", ".join(known + ["stale"] * row["stale"])
