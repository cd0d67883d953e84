"""How every chart looks: one palette, one frame, one way to write numbers, names and what is missing.

Colours are of the palette by Okabe and Ito (2008, "Color Universal Design"), which people with any colour vision can tell
apart; here only those are used together whose lightness differs as well, so that a grey print keeps them apart. Nothing
touches matplotlib's global settings.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING

from vastbench.analysis.summary import NOT_COUNTED
from vastbench.record.formats import SMALLEST_USD, dollars, short

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.ft2font import FT2Font

BLUE, PURPLE, ORANGE, PALE, WHITE, BLACK = "#0072b2", "#cc79a7", "#e69f00", "#d9d9d9", "#ffffff", "#000000"
"""From dark to light, but for black: told apart in grey too."""

GREY = "#707070"
"""Bounds, notes and what stays in the background."""
SKY = "#80b9d9"
"""Blue, light enough for lines upon it: what belongs to the blue beside it, and matters less."""

NAVY = "#0b3c5d"
"""Blue, dark enough to be told from it."""

WIDTH_IN = 8.0
TEXT_PT = 8
TITLE_PT = 10
LONG = 75
"""A longer label under axes of ``WIDTH_IN`` would leave the figure."""
FULL_IN = 6.4
"""Below this width, text becomes smaller, down to ``SMALLEST`` of its size."""
SMALLEST = 0.72
LETTER = 0.57
"""The width of a letter, as part of the text's size, on average."""
NARROW_IN = 4.8
"""Axes with less room have fewer ticks."""
INDENT = "\xa0" * 3
LINE_IN = 0.22
"""The height of a line of text."""
_SHEET_IN: ContextVar[float | None] = ContextVar("sheet", default=None)
MISSING = "\N{REPLACEMENT CHARACTER}"
WIDE = 20.0
"""Values whose largest is more than this many times the smallest ask for a logarithmic axis."""


@contextmanager
def sheet(width_in: float) -> Iterator[None]:
    """Charts that are drawn without Axes meanwhile get a figure of that width that matplotlib does not keep.

    On one that is narrower than ``NARROW_IN`` the names of rows, and what stands beside them, stand above them.
    """
    token = _SHEET_IN.set(width_in)
    try:
        yield
    finally:
        _SHEET_IN.reset(token)


def narrow() -> bool:
    """Whether a narrow sheet is drawn on: on a phone there is no room at either side of the rows."""
    width = _SHEET_IN.get()
    return width is not None and width < NARROW_IN


def axes(ax: Axes | None, height_in: float, rows: int = 0) -> Axes:
    """``ax`` itself, or the axes of a new figure of that height, which keeps its labels inside its edges.

    So does the figure of ``ax`` from now on, unless its user chose a layout: the texts beside our rows need room. On a narrow
    sheet each of the ``rows`` has a line more.
    """
    if ax is not None:
        figure = ax.get_figure(root=True)
        if figure is not None and figure.get_layout_engine() is None:
            figure.set_layout_engine("constrained")
        return ax
    if (width := _SHEET_IN.get()) is not None:
        from matplotlib.figure import Figure

        height = height_in + rows * LINE_IN if narrow() else height_in
        return Figure(figsize=(width, height), layout="constrained").add_subplot()
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=(WIDTH_IN, height_in), layout="constrained")[1]


def room(ax: Axes) -> float:
    """About how many inches wide ``ax`` may be with all its labels: what it has of the figure before any layout."""
    spec, figure = ax.get_subplotspec(), ax.figure
    place = ax.get_position() if spec is None else spec.get_position(figure)  # type: ignore[arg-type]  # a SubFigure will do
    return float(1.3 * place.width * figure.bbox.width / figure.dpi)


def scale(ax: Axes) -> float:
    """The part of its usual size that text has in ``ax``; on a narrow sheet all of it, as a phone shows it no larger."""
    return 1.0 if narrow() else min(1.0, max(SMALLEST, room(ax) / FULL_IN))


def finish(ax: Axes, title: str, *, x: str = "", y: str = "", above: int = 0) -> Axes:
    """Title at the left, axis labels, small text and no frame where no scale is; a long label breaks after its unit, and more
    often where it must. In narrow axes text is smaller and the title breaks, too. It leaves room for ``above`` lines of legend.
    """
    part = scale(ax)
    _title(ax, title, part, above)
    line = 42 if narrow() else int(LONG * room(ax) / WIDTH_IN / part)
    ax.set_xlabel(x if len(x) < line else _broken(x, line), fontsize=part * (TEXT_PT + 1))
    ax.set_ylabel(y, fontsize=part * (TEXT_PT + 1))
    ax.tick_params(labelsize=part * TEXT_PT)
    legend = ax.get_legend()
    for text in [*ax.texts, *(legend.get_texts() if legend else [])]:
        if text.get_fontsize() == TEXT_PT:
            text.set_fontsize(part * TEXT_PT)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    return ax


def _title(ax: Axes, title: str, part: float, above: int = 0) -> None:
    """The title in lines that reach no neighbour: it begins where the axis does, beside the names of the rows."""
    words = [line for label in ax.get_yticklabels() for line in label.get_text().split("\n")]
    names = [*map(len, words)] if ax.yaxis.get_tick_params().get("length") == 0 else []
    points = room(ax) * 72 - LETTER * part * TEXT_PT * max(names, default=6)
    width = 40 if narrow() else int(points / (LETTER * part * TITLE_PT))
    lines = [_wrapped(line, width) for line in title.split("\n")]
    ax.set_title("\n".join(lines), loc="left", fontsize=part * TITLE_PT, pad=6 + 1.4 * part * TEXT_PT * above)


def _wrapped(text: str, width: int) -> str:
    """``text`` in lines of at most ``width`` characters, no ``n = 12`` apart."""
    kept = text.replace(" = ", "\xa0=\xa0")
    return textwrap.fill(kept, max(width, 20), break_long_words=False, break_on_hyphens=False).replace("\xa0", " ")


def _broken(label: str, line: int) -> str:
    """``label`` in lines of about ``line`` characters: its unit, and then as many of its other parts as a line can hold."""
    unit, *rest = label.split("; ")
    lines = [unit]
    for i, one in enumerate(rest):
        if i and len(lines[-1]) + len(one) < line:
            lines[-1] += f"; {one}"
        else:
            lines.append(one)
    return "\n".join(lines if line >= LONG else [_wrapped(one, line) for one in lines])


def rows(ax: Axes, names: Iterable[str]) -> None:
    """Name the rows of a horizontal chart, the first one on top; row ``i`` lies at ``y = i``.

    A name that begins with ``INDENT`` is a part of the one above: then all begin at one place, so that this can be seen.
    """
    labels = list(names)
    ax.tick_params(axis="y", length=0)
    if narrow():
        ax.set_yticks(range(len(labels)), [""] * len(labels))
        ax.set_ylim(len(labels) - 0.4, -0.95)
        for row, label in enumerate(labels):
            _above(ax, 0.0, row, label, "left")
        return
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    if any(label.startswith(INDENT) for label in labels):
        ax.tick_params(axis="y", pad=LETTER * TEXT_PT * scale(ax) * max(map(len, labels)))
        for text in ax.get_yticklabels():
            text.set_horizontalalignment("left")


def beside(ax: Axes, row: float, text: str) -> None:
    """Write ``text`` to the right of a row, outside the axes; on a narrow sheet above the row, in one line."""
    if narrow():
        _above(ax, 1.0, row, text.replace("\n", ", "), "right")
    else:
        ax.text(1.01, row, text, transform=ax.get_yaxis_transform(), va="center", fontsize=TEXT_PT, color="#303030")


def _above(ax: Axes, x: float, row: float, text: str, side: str) -> None:
    """Write ``text`` between a row and the one above it, from the left or to the right end of the axes."""
    place = ax.get_yaxis_transform()
    ax.text(x, row - 0.5, text, transform=place, ha=side, va="center", fontsize=TEXT_PT, color="#303030", zorder=9)


def after(ax: Axes, x: float, row: float, text: str) -> None:
    """Write ``text`` right behind what ends at ``x`` in a row."""
    ax.annotate(text, (x, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=TEXT_PT)


def nothing(ax: Axes | None, title: str, sentence: str) -> Axes:
    """Axes that say what is missing instead of showing it."""
    ax = axes(ax, 1.6)
    part = scale(ax)
    said = _wrapped(sentence, int(0.9 * LONG * room(ax) / WIDTH_IN / part))
    ax.text(0.5, 0.5, said, transform=ax.transAxes, ha="center", va="center", fontsize=part * TITLE_PT)
    ax.set_xticks([])
    ax.set_yticks([])
    _title(ax, title, part)
    ax.spines[:].set_visible(False)
    return ax


def plain(text: object, limit: int = 40) -> str:
    """A foreign string as a label: no formula, nothing that the font cannot draw, at most ``limit`` characters."""
    known = _font()
    drawn = "".join(c if c.isprintable() and known.get_char_index(ord(c)) else MISSING for c in str(text))
    if len(drawn) > limit:
        drawn = drawn[: limit - 1] + "…"
    return drawn.replace("$", r"\$")


def usd(value: float) -> str:
    """``$0.0046`` for a label, where a dollar sign alone would begin a formula; ``< $0.0001`` for less."""
    return dollars(value).replace("$", r"\$")


def seconds(phases: pd.DataFrame) -> str:
    """The unit of the frame's times in words: emulated seconds are not real ones."""
    emulated = phases["source"] == "emulator"
    if emulated.all() and len(phases):
        return "emulated seconds"
    return "seconds, partly emulated" if emulated.any() else "seconds"


def stopped(phases: pd.DataFrame) -> str:
    """A title's words about the runs that say nothing of a machine: ``; 2 not counted``, or nothing."""
    count = phases.loc[phases["cause"].isin(NOT_COUNTED), "run"].nunique()
    return f"; {count} not counted" if count else ""


def spread_axis(ax: Axes, values: pd.Series, *, money: bool = False) -> float:
    """Scale the x axis for ``values``: logarithmic where they are far apart, with plain numbers; from 0 otherwise.

    Returns the left edge: smaller values, which a logarithmic axis cannot show, are to be drawn there.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    sign = r"\$" if money else ""
    positive = values[values > 0]
    left = 0.0
    if positive.empty or positive.max() / positive.quantile(0.01) < WIDE:
        ax.set_xlim(0.0, float(positive.max()) * 1.05 if len(positive) else 1.0)
    else:
        left, right = float(positive.quantile(0.01)) / 2, float(positive.max()) * 1.3
        left = min(max(left, SMALLEST_USD if money else 0.0), right / WIDE)
        ax.set_xscale("log")
        ax.set_xlim(left, right)
        narrow = room(ax) < NARROW_IN or (money and right / left > 10_000)
        subs = (1.0,) if right / left > (30 if narrow else 300) else (1.0, 2.0, 5.0)
        ax.xaxis.set_major_locator(LogLocator(subs=subs, numticks=4 if narrow else 7))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: sign + short(value)))
    return left


@cache
def _font() -> FT2Font:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return get_font(findfont(FontProperties()))
