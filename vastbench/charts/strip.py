"""A row in which every run is drawn: a point with its bounds, and in the same row what did not end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vastbench.charts.style import BLACK, BLUE, ORANGE, WHITE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

HALF = 0.36
"""Half the height of a row that is used for points."""
CROWDED = 30
"""With more points than this they are small and overlap."""
MANY = 100
"""With more runs than this their marks are kept as a picture inside vector files, which would grow by megabytes."""
BOUNDS: dict[str, Any] = {"color": "#808080", "alpha": 0.55}
"""By day as by night, as many are kept as a picture."""


def offsets(runs: pd.Series[str]) -> pd.Series[float]:
    """Where the run of each row lies inside a strip, from -HALF to HALF: the first on top, so that a drift shows as a slope."""
    import numpy as np
    import pandas as pd

    codes, names = pd.factorize(runs)
    places = np.linspace(-HALF, HALF, len(names)) if len(names) > 1 else np.zeros(1)
    return pd.Series(places[codes], index=runs.index, dtype="float64")


def draw_points(
    ax: Axes,
    y: pd.Series[float],
    value: pd.Series[float],
    left: float,
    *,
    hollow: pd.Series[bool] | None = None,
    colour: str = BLUE,
) -> None:
    """One point per run at height ``y``; values below ``left``, the edge of the axis, are drawn at the edge.

    Where ``hollow`` is True the point is a hollow triangle.
    """
    size = 3.0 if len(value) > CROWDED else 4.5
    odd = value.isna() if hollow is None else hollow
    for chosen, marker, face in ((~odd, "o", colour), (odd, "v", WHITE)):
        if chosen.any():
            (points,) = ax.plot(
                value[chosen].clip(lower=left), y[chosen], marker, ms=size, mfc=face, mec=colour, mew=0.6, zorder=3
            )
            points.set_rasterized(len(value) > MANY)


def draw_bounds(ax: Axes, y: pd.Series[float], low: pd.Series[float], high: pd.Series[float], left: float) -> None:
    """A thin line from ``low`` to ``high`` per run, as one path with gaps."""
    import numpy as np

    gap = np.full(len(y), np.nan)
    x = np.column_stack([low.clip(lower=left), high.clip(lower=left), gap]).ravel()
    ax.plot(x, np.column_stack([y, y, gap]).ravel(), **BOUNDS, lw=0.6, zorder=2, rasterized=len(y) > MANY)


def draw_tick(ax: Axes, row: float, value: float, *, over: bool, style: str = "-", part: float = 1.0) -> None:
    """A tick across a row: solid for a median, dotted for another figure that the caller explains.

    ``over`` the points of a crowded row, else under them, so that none is hidden. It is as high as ``part`` of the row.
    """
    span, height = [row - 0.46 * part, row + 0.46 * part], 4.0 if over else 2.5
    if over:
        ax.plot([value, value], span, "-", color=WHITE, lw=3, zorder=height, alpha=0.7)
    ax.plot([value, value], span, style, color=BLACK, lw=1.6, zorder=height)


def draw_unfinished(
    ax: Axes, y: pd.Series[float], lower: pd.Series[float], left: float, *, censored: bool, colour: str = ORANGE
) -> None:
    """What did not end, at the least that it took: an arrow if it may have ended later (censored), a cross if it failed."""
    if lower.empty:
        return
    ax.plot(
        lower.clip(lower=left),
        y,
        ">" if censored else "X",
        ms=5,
        ls="",
        mfc=colour,
        mec=BLACK if colour != BLACK else WHITE,
        mew=0.5,
        zorder=6,
        clip_on=False,
    )
