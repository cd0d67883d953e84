"""The phases of one run on the time axis, and of many runs beside each other."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from vastbench.analysis.frames import timeline
from vastbench.analysis.summary import attempted, phase_summary
from vastbench.charts import groups, style
from vastbench.charts.strip import CROWDED, draw_bounds, draw_points, draw_tick, draw_unfinished, offsets
from vastbench.record.formats import EXACT_S, MISSING, counted, seconds, short
from vastbench.record.phases import Outcome, PhaseName

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def phase_waterfall(phases: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """One run's top-level phases on the time axis, each with the bounds of its end; the longest one in full blue.

    ``phases`` is the tidy frame (:func:`~vastbench.analysis.frames.phases_table`) of one run. The whisker at the end of a bar
    spans the instants at which the phase may truly have ended. A phase that did not end is hatched up to where it was last
    seen. Raises ValueError when the frame holds more than one run.

    >>> import vastbench
    >>> ax = vastbench.phase_waterfall(vastbench.median_run(vastbench.load()))
    """
    from matplotlib.patheffects import withStroke

    runs = phases["run"].nunique()
    if runs > 1:
        raise ValueError(
            f"a waterfall shows one run, not {runs}: keep one, e.g. phases[phases['run'] == {phases['run'].iloc[0]!r}]"
        )
    if not runs:
        return style.nothing(ax, "Where the time went (n = 0)", "There is no run in the table.")
    whole = phases[phases["phase"] == PhaseName.TOTAL].iloc[0]
    title = f"Run {style.plain(whole['run'])}: where the time went (n = 1)"
    top = phases[(phases["parent"] == PhaseName.TOTAL) & phases["start_s"].notna()].reset_index(drop=True)
    if top.empty:
        return style.nothing(ax, title, f"The run {_ending(whole)} before any phase began.")
    ax = style.axes(ax, 1.4 + 0.26 * len(top), len(top))
    ended = top[top["seconds"].notna()]
    width = top["seconds"].fillna(top["lower_s"])
    colours = [style.BLUE if place == width.idxmax() else style.SKY for place in top.index]
    colours = [colours[place] if place in ended.index else style.ORANGE for place in top.index]
    faces = [colours[place] if place in ended.index else style.WHITE for place in top.index]
    hatches = ["" if place in ended.index else "////" for place in top.index]
    ax.barh(top.index, width, left=top["start_s"], height=0.62, color=faces, edgecolor=colours, linewidth=0.8, hatch=hatches)
    polled = ended[ended["end_upper_s"] - ended["end_lower_s"] > EXACT_S]
    before = polled["end_upper_s"] - polled["end_lower_s"]
    whiskers = ax.errorbar(
        polled["end_upper_s"], polled.index, xerr=[before, before * 0], fmt="none", ecolor="black", capsize=3
    )
    for part in whiskers.get_children():
        part.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    records: list[dict[Any, Any]] = top.to_dict("records")
    for place, row in enumerate(records):
        text = seconds(row["seconds"]) if place in ended.index else f"{row['outcome']} after {seconds(row['lower_s'])}"
        style.after(ax, row["end_upper_s"] if place in ended.index else row["end_lower_s"], place, text)
    tried_again = bool(top["phase"].duplicated().any())
    style.rows(ax, [f"{row['phase']} (try {row['attempt']})" if tried_again else row["phase"] for row in records])
    ax.margins(x=0.16)
    ax.set_xlim(left=0)
    x = f"{style.seconds(phases)} since the start; whiskers: when the phase may truly have ended"
    gpu = f"{style.plain(whole['gpu'])}, " if isinstance(whole["gpu"], str) else ""
    return style.finish(ax, f"{title}\n{gpu}{_ending(whole)}", x=x)


def _ending(whole: pd.Series) -> str:
    """How a run ended, from its row ``total``: ``failed (boot_failed) after 81.2 s``."""
    cause = f" ({style.plain(whole['cause'])})" if whole["cause"] else ""
    after = f" after {seconds(whole['seconds'])}" if whole["seconds"] == whole["seconds"] else ""
    return f"{whole['run_outcome']}{cause}{after}"


def phase_distributions(
    phases: pd.DataFrame,
    ax: Axes | None = None,
    *,
    by: str | None = None,
    label: str | None = None,
    beside: pd.DataFrame | None = None,
) -> Axes:
    """How long each phase took in every attempted run: a point per run, a thin line over its bounds, a tick at the median.

    ``phases`` is the tidy frame. A row holds the last try of the phase in each run; its median is of all of them. Tries that
    did not end are drawn at the least that they took: arrows where a deadline cut them off, crosses where they failed.
    ``beside`` is the tidy frame of other runs, drawn as black diamonds. The axis is logarithmic where durations are far apart;
    what is shorter than its left edge is drawn at the edge. Runs that say nothing of a machine stand in the title only.

    ``by`` names a column of the frame with one value for each run, such as ``gpu``: each value gets a part of every row.
    ``label`` names the runs in the legend. Called again with the same ``ax``, the chart holds the earlier groups and the new
    ones. Raises ValueError for a ``by`` that groups no runs, for more than six groups, and for groups with ``beside``.

    >>> import vastbench
    >>> ax = vastbench.phase_distributions(vastbench.load(), by="gpu")
    """

    def draw(them: list[groups.Group], ax: Axes | None) -> Axes:
        if beside is not None and them[0].label:
            raise ValueError("beside= draws other runs beside one group. Make them a group: call again with ax= and label=.")
        return _draw_distributions(them, ax, phases.iloc[:0] if beside is None else beside)

    return groups.compose("phase_distributions", groups.split(phases, by, label), ax, draw)


class _Sample(NamedTuple):
    """Of one group's last tries: those with seconds, those that began and did not end, how many of each phase, the medians."""

    ended: pd.DataFrame
    begun: pd.DataFrame
    tries: Counter[str]
    medians: dict[str, float]


DRAWN = ["run", "phase", "outcome", "start_s", "seconds", "lower_s", "upper_s"]
"""The columns that a lane is drawn from: each lane takes its rows of them anew."""


def _sample(phases: pd.DataFrame, runs: pd.DataFrame) -> _Sample:
    last = runs[DRAWN].assign(inside=offsets(runs["run"]))[runs["final"]]
    ended = last[(last["outcome"] == Outcome.PASSED) & last["seconds"].notna()]
    begun = last[(last["outcome"] != Outcome.PASSED)].assign(
        least=last["lower_s"].where(last["start_s"].notna(), last["seconds"])
    )
    summary = phase_summary(phases)
    medians = dict(zip(summary["phase"], summary["median_s"], strict=True))
    return _Sample(ended, begun.dropna(subset="least"), Counter(last["phase"]), medians)


def _draw_distributions(them: list[groups.Group], ax: Axes | None, beside: pd.DataFrame) -> Axes:
    import pandas as pd

    together = groups.together(them)
    n = sum(group.n for group in them)
    counted_runs = f"{counted(n, 'attempted run')}{groups.among(them)}{style.stopped(together)}"
    title = f"Seconds per phase, every run drawn (n = {counted_runs})"
    tried = [attempted(group.phases).reset_index(drop=True) for group in them]
    parents = timeline(pd.concat([runs[runs["final"]] for runs in tried]))
    names = [*parents]
    if not names or not n:
        return style.nothing(ax, title, "There is no attempted run in the table: no duration to show.")
    samples = [_sample(group.phases, runs) for group, runs in zip(them, tried, strict=True)]
    others = beside[beside["final"] & beside["phase"].isin(names)].dropna(subset="seconds")
    ended, begun = (pd.concat([getattr(sample, part) for sample in samples]) for part in ("ended", "begun"))
    ax = style.axes(ax, 1.2 + 0.27 * len(names) * (1 + 0.4 * (len(them) - 1)), len(names))
    left = style.spread_axis(ax, pd.concat([ended["seconds"], begun["least"], others["seconds"]]))
    for row, name in enumerate(names):
        for (group, shift, part), sample in zip(groups.lanes(them), samples, strict=True):
            _draw_lane(ax, group, sample, name, (row + shift, part, left))
        _draw_beside(ax, row, others[others["phase"] == name], left)
        style.beside(ax, row, _counted(name, samples, n))
    style.rows(ax, [("" if parent in (None, PhaseName.TOTAL) else style.INDENT) + name for name, parent in parents.items()])
    ax.grid(axis="x", color=style.PALE, lw=0.6)
    above = groups.legend(ax, them, (f"n = {group.n}" for group in them))
    return style.finish(ax, title, x=_key(style.seconds(together), n, begun, others), above=above)


def _draw_lane(ax: Axes, group: groups.Group, sample: _Sample, name: str, place: tuple[float, float, float]) -> None:
    """One group's runs in the row of phase ``name``; ``place`` is the height, the part of the row, and the edge of the axis."""
    height, part, left = place
    ended, begun = (frame[frame["phase"] == name] for frame in (sample.ended, sample.begun))
    y = height + part * ended["inside"]
    draw_bounds(ax, y, ended["lower_s"], ended["upper_s"], left)
    draw_points(ax, y, ended["seconds"], left, colour=group.colour)
    for outcome in (Outcome.CENSORED, Outcome.FAILED):
        cut = begun[begun["outcome"] == outcome]
        colour = group.colour if group.label else style.ORANGE
        censored = outcome is Outcome.CENSORED
        draw_unfinished(ax, height + part * cut["inside"], cut["least"], left, censored=censored, colour=colour)
    if len(ended) > 1 and math.isfinite(sample.medians[name]):
        draw_tick(ax, height, sample.medians[name], over=len(ended) > CROWDED, part=part)


def _draw_beside(ax: Axes, row: int, others: pd.DataFrame, left: float) -> None:
    bounds = others.dropna(subset=["lower_s", "upper_s"])
    ax.hlines([row] * len(bounds), bounds["lower_s"].clip(lower=left), bounds["upper_s"], colors=style.BLACK, lw=1.2, zorder=7)
    ax.plot(
        others["seconds"].clip(lower=left), [row] * len(others), "D", ms=5, mfc=style.BLACK, mec=style.WHITE, mew=0.8, zorder=8
    )


def _counted(name: str, samples: list[_Sample], runs: int) -> str:
    """The text beside a row: the median, how many have no value, and n where it is not all ``runs``; of groups the medians."""
    if len(samples) > 1:
        medians = [sample.medians.get(name, math.nan) for sample in samples]
        return f"medians {', '.join(short(median) if math.isfinite(median) else MISSING for median in medians)} s"
    (sample,) = samples
    ended = sample.ended.loc[sample.ended["phase"] == name, "seconds"]
    tries, median = sample.tries[name], sample.medians[name]
    parts = [] if tries == runs else [f"n = {tries}"]
    if tries > 1 and math.isfinite(median):
        parts.append(f"median {short(median)} s")
    elif len(ended) == 1:
        parts.append(f"{short(float(ended.iloc[0]))} s")
    if tries > len(ended):
        parts.append(f"{tries - len(ended)} not ended")
    return ", ".join(parts)


def _key(unit: str, n: int, begun: pd.DataFrame, others: pd.DataFrame) -> str:
    """The x axis's label: the unit, and what the marks mean that are there."""
    marks = ["line: bounds of a run", "tick: median"] if n > 1 else ["line: bounds"]
    if (begun["outcome"] == Outcome.CENSORED).any():
        marks.append("▶ cut off, took longer")
    if (begun["outcome"] == Outcome.FAILED).any():
        marks.append("✖ failed")
    if len(others):
        marks.append(f"◆ {style.plain(others['run'].iloc[0]) if others['run'].nunique() == 1 else 'runs beside'}")
    return f"{unit}; {', '.join(marks)}"
