"""What share of the runs has got there by which time: as the bounds allow, and as a poller would have it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vastbench.analysis.bottleneck import FEWEST_FOR_BOOTSTRAP
from vastbench.analysis.naive import PERIODS_S, known_durations, naive_readings
from vastbench.analysis.stopping import observations
from vastbench.analysis.survival.curves import curve
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.quantiles import curve_steps, plateau, quantile_estimate
from vastbench.charts import groups, style
from vastbench.record.formats import counted, decimals, percent, seconds, short
from vastbench.record.phases import PhaseName
from vastbench.record.stopping import USEFUL

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

LINES = ("--", "-", ":")
"""How the readings of the pollers are drawn, the shortest period first."""
ENDED = {PhaseName.WAIT_RUNNING: "Running", USEFUL: "Ready"}
SINCE = {PhaseName.WAIT_RUNNING: " since the contract", USEFUL: " since the start"}
"""What the curves that matter most say happened, and since when."""
ROOM, TOP = 74.0, 92.0
"""Between these heights, in percent, a text beside the axis is clear of the one at the half and of the title."""
PHASES_NAMED = 6
SHOWN = 0.98
"""The axis ends where this part of the durations does: the longest few would press the rest together."""


def boot_curves(
    phases: pd.DataFrame,
    ax: Axes | None = None,
    *,
    by: str | None = None,
    label: str | None = None,
    phase: str = PhaseName.WAIT_RUNNING,
    title: str = "",
    resamples: int = 500,
    seed: int = 1,
) -> Axes:
    """The share of the attempted runs that had ended ``phase`` by a time, with its 95 % band, and the share that never did.

    ``phases`` is the tidy frame; ``phase`` a phase, for which the runs that reached it count, or ``time to ready``
    (:data:`~vastbench.record.stopping.USEFUL`), for which all do. Runs that failed or were cut off count too: the curve
    levels off below 100 % where there are any. The line is what was waited (Kaplan and Meier), the area before it when the end
    may have come unseen, the pale one the line's pointwise band of ``resamples`` draws of whole machines from ``seed``, for at
    least 6 runs.
    ``title``: what the end of the phase is called, where its name alone does not say.

    ``by`` names a column of the frame with one value for each run, such as ``gpu``: each value gets a curve. ``label`` names
    the runs in the legend. Called again with the same ``ax``, the chart holds the earlier curves and the new ones.
    Raises ValueError for a ``by`` that groups no runs, and for more than six groups.

    >>> import vastbench
    >>> ax = vastbench.boot_curves(vastbench.load(), by="gpu")
    """

    def draw(them: list[groups.Group], ax: Axes | None) -> Axes:
        found = [observations(group.phases, phase, waited=True) for group in them]
        n = counted(sum(map(len, found)), "attempted run")
        together = groups.together(them)
        named = title or f"{ENDED.get(phase, f'Ended {phase}')} after how long"
        head = f"{named} (n = {n}{groups.among(them)}{style.stopped(together)})"
        if not any(one.ended.any() for one in found):
            there = [name for name in together["phase"].unique() if name != PhaseName.UNATTRIBUTED]
            other = f" Phases here: {', '.join(there[:PHASES_NAMED])}." if there and phase not in there else ""
            return style.nothing(ax, head, f"There is no attempted run with a {phase}, and so no curve.{other}")
        ax = style.axes(ax, 3.2)
        first = min(float(one.upper[one.ended].min()) for one in found if one.ended.any())
        last = max(float(one.upper[one.ended].max()) for one in found if one.ended.any())
        pad = max(0.05 * (last - first), 0.5)
        ax.set_xlim(max(0.0, first - pad), last + 2 * pad)
        ax.set_ylim(0, 100)
        ax.axhline(50, color=style.GREY, lw=0.6, zorder=1)
        for group, one in zip(them, found, strict=True):
            if one.ended.any():
                _draw_area(ax, group, observations(group.phases, phase))
                _draw_curve(ax, group, curve_steps(one, resamples=resamples, seed=seed), len(one))
        unit = f"{style.seconds(together)}{SINCE.get(phase, f' of {phase}')}"
        above = 0
        if them[0].label:
            above = groups.legend(ax, them, map(_said, found))
            unit += f"; pale: 95 % band, for n ≥ {FEWEST_FOR_BOOTSTRAP}"
        else:
            half = _draw_half(ax, found[0])
            _draw_plateau(ax, found[0], ROOM if half else 100 - TOP)
            ax.legend(loc="lower right", fontsize=style.TEXT_PT, edgecolor=style.WHITE, framealpha=0.9)
            unit += "" if len(found[0]) >= FEWEST_FOR_BOOTSTRAP else f"; no 95 % band for n = {len(found[0])}"
        return style.finish(ax, head, x=unit, y="% of attempted runs", above=above)

    return groups.compose(f"boot_curves of {phase}", groups.split(phases, by, label), ax, draw)


def _draw_curve(ax: Axes, group: groups.Group, table: pd.DataFrame, n: int) -> None:
    """The line and its band: blue upon grey for a single chart, in the colour of the group among others."""
    import numpy as np

    # The curve holds from each instant to the next: it begins at the edge of the axis and goes on to the other.
    edges = {
        name: 100 * np.concatenate([[0.0], table[name], table[name].tail(1)])
        for name in ("ended_high", "band_low", "band_high")
    }
    time = np.concatenate([[0.0], table["time_s"], [max(ax.get_xlim()[1], table["time_s"].max())]])
    pale: dict[str, Any] = {"color": group.colour, "alpha": 0.15} if group.label else {"color": style.PALE}
    if n >= FEWEST_FOR_BOOTSTRAP:
        ax.fill_between(time, edges["band_low"], edges["band_high"], step="post", lw=0, label="95 % band", **pale)
    ax.step(time, edges["ended_high"], where="post", color=group.colour, ls=group.line, lw=1.4, label="time waited")


def _draw_area(ax: Axes, group: groups.Group, seen: Durations) -> None:
    """Between the share that may have ended and the share that surely had, by the bounds of each run."""
    import numpy as np

    ends = np.concatenate([seen.lower[seen.ended], seen.upper[seen.ended]])
    time = np.unique(np.concatenate([[0.0], ends, [max(ax.get_xlim()[1], float(ends.max()))]]))
    most, least = (
        100 * (1 - curve(one.lower, one.upper).survival(np.nextafter(time, np.inf))[0]) for one in (seen.earliest, seen.latest)
    )
    look: dict[str, Any] = {"color": group.colour, "alpha": 0.5} if group.label else {"color": style.SKY}
    ax.fill_between(time, least, most, step="post", lw=0, label="may have come unseen", **look)


def _draw_half(ax: Axes, found: Durations) -> bool:
    """When half had ended, beside the axis; whether they ever did."""
    half = quantile_estimate(found, 0.5)
    if not math.isfinite(half.value):
        return False
    interval = f"\n({decimals(half.low, 1)} to {decimals(half.high, 1)})" if math.isfinite(half.high) else ""
    _near(ax, 50, f"half by\n{seconds(half.value)}{interval}")
    return True


def _said(found: Durations) -> str:
    """A group's words in the legend: n, when half had ended, and how many never did."""
    never, parts = int((~found.ended).sum()), [f"n = {len(found)}"]
    if len(found) and math.isfinite(half := quantile_estimate(found, 0.5).value):
        parts.append(f"half by {seconds(half)}")
    return ", ".join([*parts, f"never: {never} of {len(found)}"] if never else parts)


def _draw_plateau(ax: Axes, found: Durations, lowest: float) -> None:
    """A line where the curve levels off, and near it, from ``lowest`` on, how many never ended, with the interval."""
    never = plateau(found)
    if never.hits:
        height = 100 * (1 - never.value)
        ax.axhline(height, color=style.ORANGE, ls="--", lw=1.2)
        interval = f"\n({decimals(100 * never.low, 1)} to {percent(never.high)})" if math.isfinite(never.low) else ""
        _near(ax, min(max(height, lowest), TOP), f"never:\n{never.hits} of {never.n}{interval}")


def _near(ax: Axes, height: float, text: str) -> None:
    """Write ``text`` beside the axes, or on a narrow sheet below the line at that height, where no curve is."""
    if style.narrow():
        clear = {"facecolor": style.WHITE, "edgecolor": "none", "alpha": 0.8, "pad": 1}
        place: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "top", "bbox": clear}
        ax.text(0.99, height - 3, text.replace("\n", " "), fontsize=style.TEXT_PT, **place)
    else:
        style.beside(ax, height, text)


def naive_beside_honest(
    phases: pd.DataFrame,
    ax: Axes | None = None,
    *,
    phase: PhaseName = PhaseName.WAIT_RUNNING,
    periods_s: tuple[float, ...] = PERIODS_S,
    seed: int = 1,
) -> Axes:
    """The share of the runs whose ``phase`` had ended by a time: where it must lie, and what pollers would have reported.

    ``phases`` is the tidy frame. The blue area lies between the share of runs whose upper bound, and of those whose lower
    bound, is past: the truth is inside. The lines are simulated from the same bounds
    (:func:`~vastbench.analysis.naive.naive_readings`, by ``seed``): readings at the first poll after the end, ``periods_s``
    apart. Only tries that ended are drawn, as such a poller reports no others.

    >>> import vastbench
    >>> ax = vastbench.naive_beside_honest(vastbench.load())
    """
    import numpy as np

    lower, upper = known_durations(phases, phase)
    n = len(lower)
    title = f"{phase}: what the bounds allow, and what a poller would report\nn = {counted(n, 'run')}, pollers simulated"
    if not n:
        return style.nothing(ax, title, f"There is no {phase} that ended, and so nothing to read.")
    ax = style.axes(ax, 3.4)
    share = 100 * np.arange(n + 1) / n
    low, high = np.sort(lower), np.sort(upper)
    readings = {period: np.sort(naive_readings(lower, upper, period, seed=seed)) for period in periods_s}
    left, right = float(low[0]), float(max(np.quantile(values, SHOWN) for values in (high, *readings.values())))
    pad = max(0.05 * (right - left), 0.5)
    ax.set_xlim(max(0.0, left - pad), right + pad)
    edges = np.unique(np.concatenate([[0.0], low, high, [ax.get_xlim()[1]]]))
    most, least = (100 * np.searchsorted(ends, edges, side="right") / n for ends in (low, high))
    ax.fill_between(edges, least, most, step="post", color=style.SKY, lw=0.8, ec=style.BLUE, label=_area(low, high))
    for (period, values), line in zip(sorted(readings.items()), LINES, strict=False):
        at = np.concatenate([[0.0], values])
        label = f"read every {short(period)} s: median {short(float(np.median(values)))} s"
        ax.step(at, share, where="post", color=style.BLACK if line == "--" else style.PURPLE, ls=line, lw=1.4, label=label)
    ax.axhline(50, color=style.GREY, lw=0.6, zorder=1)
    ax.set_ylim(0, 100)
    place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0)} if style.narrow() else {"loc": "lower right"}
    ax.legend(fontsize=style.TEXT_PT, edgecolor=style.WHITE, framealpha=0.9, labelspacing=0.2, **place)
    beyond = int((high > ax.get_xlim()[1]).sum())
    cut = f"; {counted(beyond, 'longer one')} not shown, up to {decimals(high[-1], 0)} s" if beyond else ""
    above = 2 + len(periods_s) if style.narrow() else 0
    return style.finish(ax, title, x=f"{style.seconds(phases)} of {phase}{cut}", y="% of runs that had ended", above=above)


def _area(low: np.ndarray, high: np.ndarray) -> str:
    import numpy as np

    least, most = (short(float(np.median(ends))) for ends in (low, high))
    return f"what the bounds allow: median {least} to {most} s"
