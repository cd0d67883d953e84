"""One run's polls of the marketplace, and the bounds that they gave its moments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from vastbench.charts import style
from vastbench.record.formats import EXACT_S, counted, decimals, seconds, short
from vastbench.record.moments import Moment
from vastbench.record.phases import PhaseName

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vastbench.record.run import Run

MOMENTS = (
    ("status is set", PhaseName.ALLOCATE),
    ("running", PhaseName.WAIT_RUNNING),
    ("a command ran", PhaseName.WAIT_SSH),
    ("gone", PhaseName.CONFIRM),
)
"""What is waited for, and the phase that ends with it."""
READINGS = ("no_sent", "no_received", "yes_sent", "yes_received")
ANSWERS = ((style.PALE, ""), (style.SKY, "////"), (style.NAVY, ""), (style.GREY, "...."))
"""Colour and hatch of the answers, in the order in which they first came; more share the last."""
SHORT = 0.11
"""Under an answer that lasted for less than this part of the axis there is no room for its name."""
MANY_POLLS = 40


class Spell(NamedTuple):
    """Polls one after another with the same answer ``status`` (None: no status yet), and when each was answered, in seconds."""

    status: str | None
    at: tuple[float, ...]


def poll_timeline(run: Run, ax: Axes | None = None) -> Axes:
    """The polls of a run's status, what they answered, and below each moment within the bounds that they gave.

    A tick is a poll; of a spell of equal answers a record keeps the first, the last and their number, and those between are
    drawn evenly spaced. A bar spans the bounds of a moment, the point at its end is what was read; a diamond is a moment by the
    instance's own clock, where that was read and can be trusted. All in clock seconds since the run's start.

    >>> import vastbench
    >>> ax = vastbench.poll_timeline(vastbench.load_run("2026-01-02-rtx4090"))
    """
    title = f"Run {style.plain(run.id)}: what was asked, and what that proves"
    spells, moments = list(_spells(run)), _moments(run)
    if not spells and not moments:
        return style.nothing(ax, f"{title} (n = 1 run)", "The run has no poll of its status and no moment.")
    asked = sum(len(spell.at) for spell in spells)
    period = run.instrument.get("poll_period_s")
    every = f", {short(period)} s apart" if spells and period else ""
    ax = style.axes(ax, 1.5 + 0.3 * len(moments), 1 + len(moments))
    end = max([moment.upper for _, moment in moments] + [spell.at[-1] for spell in spells])
    _draw_spells(ax, spells, end)
    for row, (_, moment) in enumerate(moments, 1):
        _draw_moment(ax, row, moment)
    style.rows(ax, ["polls of the status", *(name for name, _ in moments)])
    ax.set_xlim(0, end * 1.06)
    ax.grid(axis="x", color=style.PALE, lw=0.6)
    unit = "emulated seconds" if run.source == "emulator" else "seconds"
    marks = ["ticks: polls"] if spells else []
    marks.append("bar: bounds of a moment, ● as it was read")
    if any(moment.source == "guest" for _, moment in moments):
        marks.append("◆ by the instance's own clock")
    return style.finish(
        ax,
        f"{title}\nn = {counted(asked, 'poll')} of the status of 1 run{every}",
        x=f"{unit} since the start; {', '.join(marks)}",
    )


def _spells(run: Run) -> Iterator[Spell]:
    """The polls of the status that the run's record holds: the client's own, or an imported log of answers."""
    import numpy as np

    for spell in run.instrument.get("sightings") or []:
        yield Spell(spell["status"], tuple(np.linspace(spell["first"][1], spell["last"][1], spell["polls"])))
    log, wait = run.instrument.get("poll_log"), run.phase(PhaseName.WAIT_RUNNING)
    if log and wait:
        for status, answers in groupby(log["answers"], key=itemgetter(1)):
            yield Spell(status, tuple(wait.start.upper + elapsed for elapsed, _ in answers))


def _moments(run: Run) -> list[tuple[str, Moment]]:
    """The moments that were seen, in order of time; the instance's own ones where its clock can be trusted."""
    ends = {name: phase.end for name, of in MOMENTS if (phase := run.phase(of)) and phase.end.seen}
    told = run.guest.get("moments") or {} if run.guest.get("trusted") else {}
    own = {style.plain(name.replace("_", " ")): _moment(readings) for name, readings in told.items()}
    return sorted((ends | own).items(), key=lambda named: named[1].upper)


def _moment(readings: Mapping[str, float]) -> Moment:
    no_sent, no_received, yes_sent, yes_received = (readings[name] for name in READINGS)
    return Moment(no_sent, no_received, yes_sent, yes_received, "guest")


def _draw_spells(ax: Axes, spells: list[Spell], end: float) -> None:
    """A band per spell of equal answers with a tick per poll, and what was answered under it where there is room."""
    known: dict[str | None, tuple[str, str]] = {}
    for spell in spells:
        known.setdefault(spell.status, ANSWERS[min(len(known), len(ANSWERS) - 1)])
        face, hatch = known[spell.status]
        begun, ended = spell.at[0], spell.at[-1]
        ax.barh(0, ended - begun, left=begun, height=0.3, color=face, hatch=hatch, edgecolor=style.WHITE, linewidth=0)
        ax.plot(spell.at, [0] * len(spell.at), "|", ms=12, mew=1.0 if len(spell.at) < MANY_POLLS else 0.5, color=style.BLACK)
        name = f"{style.plain(spell.status or 'no status', 12)} ({len(spell.at)})"
        if spell is spells[-1] and ended - begun < SHORT * end:
            ax.annotate(name, (ended, 0), xytext=(4, 0), textcoords="offset points", va="center", fontsize=style.TEXT_PT)
        elif ended - begun > SHORT * end:
            ax.text((begun + ended) / 2, 0.4, name, ha="center", va="top", fontsize=style.TEXT_PT)


def _draw_moment(ax: Axes, row: int, moment: Moment) -> None:
    """A bar over the bounds, the reading at its end, and both in words beside it."""
    guest = moment.source == "guest"
    ax.barh(row, moment.upper - moment.lower, left=moment.lower, height=0.4, color=style.BLUE, edgecolor=style.BLACK, lw=0.5)
    ax.plot([moment.upper], [row], "D" if guest else "o", ms=5, mfc=style.BLACK, mec=style.WHITE, mew=0.8, zorder=5)
    width = moment.upper - moment.lower
    known = f", {short(width)} s wide" if width > EXACT_S else ", exact"
    style.beside(ax, row, f"{decimals(moment.lower, 1)} to {seconds(moment.upper)}{known}")
