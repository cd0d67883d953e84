"""All runs in the order in which they began, and how often they did not pass."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import begun, machines, totals
from vastbench.analysis.frames import column, runs_table, top_level
from vastbench.analysis.survival.rates import rate
from vastbench.charts import groups, style
from vastbench.charts.strip import MANY
from vastbench.record.formats import EXACT_S, counted, decimals, known, percent
from vastbench.record.phases import Outcome, PhaseName

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

LOOKS = ((style.BLUE, ""), (style.SKY, ""), (style.NAVY, ""))
"""Colour and hatch of the longest phases, the longest the first; more could not be told apart in grey."""
WORTH_NAMING = 0.02
"""A phase with less than this share of all time is drawn with the other short ones."""
OTHERS, RETRIES, UNATTRIBUTED, NOT_ENDED = "other phases", "retries", str(PhaseName.UNATTRIBUTED), "not ended"
FACES = {
    OTHERS: (style.PALE, ""),
    RETRIES: (style.BLACK, ""),
    UNATTRIBUTED: (style.WHITE, "\\\\\\"),
    NOT_ENDED: (style.WHITE, "////"),
}
"""Colour and hatch of the parts that are not one phase."""
MOST = 60
"""With more runs than this a column is the mean of several: nobody can look at each of 300."""
SHORT = 24
"""Two entries of a legend that are shorter have room beside each other on a phone."""
FAR = 1.5
MARKS = ("X", "^", "s", "D", "v", "P")
"""One mark per reason for not passing, the most frequent first; the rarest share the last one."""


def runs_over_time(phases: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Every run as a column of its top-level phases, in order of start; a mark with its cause on each that did not pass.

    ``phases`` is the tidy frame. The longest phases have a colour of their own, the others share one. A black line over the end
    of such a phase spans the bounds of its duration. What a run that did not pass spent outside finished phases is white and
    hatched, up to its end. Of more than 60 runs (30 on a narrow sheet) a column is the mean of those that passed of several
    runs, and the others are marks at the top.

    >>> import vastbench
    >>> ax = vastbench.runs_over_time(vastbench.load())
    """
    import numpy as np
    from matplotlib.collections import PolyCollection

    runs = runs_table(phases).sort_values("started_at", kind="stable", ignore_index=True)
    failed = int((runs["run_outcome"] != Outcome.PASSED).sum())
    title = f"Time per run, in order of start (n = {counted(len(runs), 'run')}, {failed} not passed)"
    parts = _parts(runs, top_level(phases))
    if parts.empty:
        return style.nothing(ax, title, "There is no run with a known duration in the table.")
    ax = style.axes(ax, 3.4)
    n = len(runs)
    tops, each = parts.sum(axis=1).to_numpy(), -(-n // (MOST // 2 if style.narrow() else MOST))
    together = np.arange(n) // each
    good = (runs["run_outcome"] == Outcome.PASSED).to_numpy()
    shown = good if each > 1 and good.any() else np.full(n, True)
    parts = parts[shown].groupby(together[shown]).mean().reindex(range(together[-1] + 1)).fillna(0.0)
    parts = parts.loc[:, parts.sum() > 0]
    x = np.bincount(together, np.arange(1, n + 1)) / np.bincount(together)
    half = 0.42 * each
    base, bounded = np.zeros(len(parts)), False
    for name, (face, hatch) in _looks(parts).items():
        top = base + parts[name].to_numpy()
        columns = np.stack([[x - half, x - half, x + half, x + half], [base, top, top, base]]).transpose(2, 1, 0)
        edge = style.ORANGE if name == NOT_ENDED else style.GREY if face == style.WHITE else style.WHITE if hatch else face
        part = PolyCollection(list(columns), facecolor=face, edgecolor=edge, linewidth=0.3, hatch=hatch, label=name)
        ax.add_collection(part)
        if each == 1 and name in top_level(phases):
            bounded |= _bounds(ax, phases, runs["run"], name, x, base)
        base = top
    cut = _cut(runs, tops) if each == 1 else float(base.max()) * 1.15
    _mark(ax, runs, np.minimum(tops, cut * 0.985) if each == 1 else np.full(n, cut * 0.97))
    beyond = int((base > cut).sum())
    note = ""
    if each > 1:
        note = f"; a column: mean of {'those that passed of ' if not good.all() and good.any() else ''}{each} runs"
    note += "; black: bounds of a phase" if bounded else ""
    note += f"; {counted(beyond, 'column')} cut off, the longest took {decimals(base.max(), 0)} s" if beyond else ""
    pad = max(0.7, (6 - n) / 2)
    ax.set_xlim(1 - pad, n + pad)
    ax.set_ylim(0, cut)
    if n < 15:
        ax.set_xticks(x)
    handles, labels = ax.get_legend_handles_labels()
    count = len(parts.columns)
    reading_order = [*reversed(range(count)), *range(count, len(labels))]
    words = [handles[i] for i in reading_order], [labels[i] for i in reading_order]
    across = 2 if max(map(len, labels)) < SHORT else 1
    looks: dict[str, Any] = {"fontsize": style.TEXT_PT, "frameon": False}
    if style.narrow():
        ax.legend(
            *words, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=across, columnspacing=1.0, labelspacing=0.2, **looks
        )
    else:
        ax.legend(*words, loc="upper left", bbox_to_anchor=(1.0, 1.03), **looks)
    lines = 1 + -(-len(labels) // across) if style.narrow() else 0
    return style.finish(ax, title, x=f"run, in order of start; {_dates(runs)}{note}", y=style.seconds(phases), above=lines)


def _bounds(
    ax: Axes,
    phases: pd.DataFrame,
    runs: pd.Series[str],
    phase: str,
    x: NDArray[np.float64],
    base: NDArray[np.float64],
) -> bool:
    """A line over what is known of the end of ``phase`` in each column, which begins at ``base``. Whether there is any."""
    import numpy as np

    rows = phases[(phases["phase"] == phase) & phases["final"] & phases["seconds"].notna()].set_index("run")
    known = rows[["lower_s", "upper_s"]].reindex(runs)
    low, high = known["lower_s"].to_numpy(), known["upper_s"].to_numpy()
    inexact = high - low > EXACT_S
    if not inexact.any():
        return False
    gap = np.full(int(inexact.sum()), np.nan)
    at = np.column_stack([x[inexact], x[inexact], gap]).ravel()
    span = np.column_stack([base[inexact] + low[inexact], base[inexact] + high[inexact], gap]).ravel()
    for colour, width in ((style.WHITE, 3.0), (style.BLACK, 1.3)):
        ax.plot(at, span, color=colour, lw=width, solid_capstyle="butt", zorder=3)
    return True


def _cut(runs: pd.DataFrame, top: NDArray[np.float64]) -> float:
    """Where the axis ends: just above the longest run that passed if others, cut off by a deadline, took far longer."""
    longest = float(top.max())
    of_passed = top[(runs["run_outcome"] == Outcome.PASSED).to_numpy()]
    if len(of_passed) and longest > FAR * of_passed.max():
        return float(of_passed.max()) * 1.15
    return longest * 1.08


def _parts(runs: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Seconds per run and part of its column, bottom first; what a run does not have takes no height."""
    import pandas as pd

    top = runs[[column(name) for name in names]].set_axis(names, axis=1).fillna(0.0)
    share = top.sum() / max(float(top.to_numpy().sum()), 1e-9)
    named = set(share[share > WORTH_NAMING].nlargest(len(LOOKS)).index)
    parts = top[[name for name in top if name in named]].copy()
    parts[OTHERS] = top[[name for name in top if name not in named]].sum(axis=1)
    parts[RETRIES] = runs["retries_s"]
    parts[UNATTRIBUTED] = runs[column(PhaseName.UNATTRIBUTED)].fillna(0.0)
    ended = runs[column(PhaseName.UNATTRIBUTED)].notna()
    parts[NOT_ENDED] = (runs["total_s"] - parts.sum(axis=1)).mask(ended).clip(lower=0.0).fillna(0.0)
    return pd.DataFrame(parts.loc[:, parts.sum() > 0])


def _looks(parts: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour and hatch of each part, bottom first; the longest phase is blue."""
    longest = parts.drop(columns=list(FACES), errors="ignore").sum().sort_values(ascending=False).index
    looks = dict(zip(longest, LOOKS, strict=False)) | FACES
    return {str(name): looks[str(name)] for name in parts}


def _mark(ax: Axes, runs: pd.DataFrame, top: NDArray[np.float64]) -> None:
    """A mark on top of each column whose run did not pass, and its reason with their number in the legend."""
    failed = runs["run_outcome"] != Outcome.PASSED
    reasons = runs["run_outcome"].where(failed) + ": " + runs["cause"].replace("", "unknown").fillna("unknown")
    counts = reasons[failed].value_counts()
    kept = counts.index[: len(MARKS) - 1] if len(counts) > len(MARKS) else counts.index
    for mark, reason in zip(MARKS, [*kept, None], strict=False):
        chosen = (failed & ~reasons.isin(kept) if reason is None else reasons == reason).to_numpy(dtype=bool, na_value=False)
        if chosen.any():
            label = f"{'other causes' if reason is None else style.plain(reason, 28)} ({chosen.sum()})"
            ax.plot(
                runs.index[chosen] + 1,
                top[chosen],
                mark,
                ms=5,
                mfc=style.ORANGE,
                mec=style.BLACK,
                mew=0.6,
                label=label,
                rasterized=len(runs) > MANY,
            )


def _dates(runs: pd.DataFrame) -> str:
    dates = begun(runs)
    if dates.empty:
        return "dates unknown"
    first, last = (f"{date:%Y-%m-%d %H:%M}" for date in (dates.min(), dates.max()))
    if first == last:
        return f"{first} UTC"
    return f"{first} to {last[-5:] if first[:10] == last[:10] else last} UTC"


def failures_by_cause(phases: pd.DataFrame, ax: Axes | None = None, *, by: str | None = None, label: str | None = None) -> Axes:
    """The part of the attempted runs that did not pass, in all and by cause, with 95 % intervals.

    ``phases`` is the tidy frame. Runs that say nothing of a machine stand in the title and not among the attempted.

    ``by`` names a column of the frame with one value for each run, such as ``gpu``: each value gets a bar in every row.
    ``label`` names the runs in the legend. Called again with the same ``ax``, the chart holds the earlier groups and the new
    ones. Raises ValueError for a ``by`` that groups no runs, and for more than six groups.

    >>> import vastbench
    >>> ax = vastbench.failures_by_cause(vastbench.load(), by="gpu")
    """
    return groups.compose("failures_by_cause", groups.split(phases, by, label), ax, _draw_failures)


ANY = "any cause"


def _draw_failures(them: list[groups.Group], ax: Axes | None) -> Axes:
    n = sum(group.n for group in them)
    stopped = style.stopped(groups.together(them))
    title = f"Runs that did not pass, by cause (n = {counted(n, 'attempted run')}{groups.among(them)}{stopped})"
    if not n:
        return style.nothing(ax, title, "There is no attempted run in the table: no rate to show.")
    causes = [_causes(group.phases) for group in them]
    names = [ANY, *(name for name, _ in Counter(name for one in causes for name in one if name).most_common())]
    ax = style.axes(ax, 1.3 + 0.36 * len(names) * (1 + 0.6 * (len(them) - 1)), len(names))
    highest = 0.0
    for (group, shift, part), found in zip(groups.lanes(them), causes, strict=True):
        for row, name in enumerate(names):
            y = row + shift
            if found.empty:
                style.beside(ax, y, "n = 0")
                continue
            lost = rate((found != "" if name == ANY else found == name).to_numpy(), found.index.to_numpy())
            colour = group.colour if group.label else style.ORANGE
            ax.barh(y, 100 * lost.value, height=0.5 * part if len(them) == 1 else 0.7 * part, color=colour)
            ax.plot(
                [100 * lost.low, 100 * lost.high],
                [y, y],
                "-|",
                color=style.GREY if colour == style.BLACK else style.BLACK,
                lw=1.2,
                ms=7 * part,
            )
            interval = f"{decimals(100 * lost.low, 1)} to {percent(lost.high)}" if known(lost.low) else "no interval"
            style.beside(ax, y, f"{lost.hits} of {lost.n} = {percent(lost.value)}  ({interval})")
            highest = max(highest, 100 * (lost.high if known(lost.high) else lost.value) if row == 0 else 0.0)
    style.rows(ax, [style.plain(name) for name in names])
    ax.set_xlim(0, min(100.0, max(highest * 1.05, 1.0)))
    above = groups.legend(ax, them, (f"n = {group.n}" for group in them))
    return style.finish(ax, title, x="% of the attempted runs; line: 95 % interval", above=above)


def _causes(phases: pd.DataFrame) -> pd.Series[str]:
    """Why each attempted run did not pass, in words, and nothing where it did; the index is its machine."""
    runs = totals(phases)
    words = runs["cause"].fillna("unknown") + " (" + runs["run_outcome"] + ")"
    return words.where(runs["run_outcome"] != Outcome.PASSED, "").set_axis(machines(runs))
