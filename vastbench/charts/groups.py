"""Groups of runs on one Axes: a colour and a legend entry for each, whether they come in one call or in several.

A chart that takes ``by`` and ``label`` says in one function how any number of groups is drawn. Given Axes on which it stands
already, it is drawn anew with the earlier groups and the new ones, so that scales, rows and legend suit all of them; what
others drew there stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from vastbench.analysis.attempts import attempted
from vastbench.analysis.frames import in_words
from vastbench.charts import style
from vastbench.errors import did_you_mean, tally

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

LOOKS = (
    (style.BLUE, "-"),
    (style.ORANGE, "-"),
    (style.PURPLE, "-"),
    (style.BLACK, "-"),
    ("#56b4e9", "--"),
    ("#009e73", ":"),
)
"""Colour and line of each group; the last two are as light as others, and have a line of their own."""


class Group(NamedTuple):
    """Runs that are drawn alike; ``label`` is empty for the only runs of a chart that nobody named."""

    label: str
    phases: pd.DataFrame
    colour: str = style.BLUE
    line: str = "-"

    @property
    def n(self) -> int:
        """How many of its runs were attempted."""
        return int(attempted(self.phases)["run"].nunique())


class _Drawn(NamedTuple):
    chart: str
    groups: list[Group]
    artists: list[ref[Artist]]


_DRAWN: WeakKeyDictionary[Axes, _Drawn] = WeakKeyDictionary()
"""What stands on which Axes; only weak references lead to them, so that a closed figure is forgotten."""


def split(phases: pd.DataFrame, by: str | None, label: str | None) -> list[Group]:
    """The runs of ``phases`` as one group called ``label``, or one for each value of the column ``by``.

    Raises ValueError for a column that is not there, or that has several values in one run.
    """
    if by is None:
        return [Group(style.plain(label or ""), phases)]
    if by not in phases:
        raise ValueError(f"There is no column {by!r} in the frame. {did_you_mean(by, phases.columns)}".strip())
    runs = phases.drop_duplicates(["run", by])
    if runs["run"].duplicated().any():
        raise ValueError(
            f"by={by!r} groups no runs: one run has several values of it. Take a column such as 'gpu' or 'region'."
        )
    counts = runs[by].value_counts().sort_index()
    values = {style.plain(in_words(value)): phases[by] == value for value, count in counts.items() if count}
    if phases[by].isna().any():
        values[f"{by} unknown"] = phases[by].isna()
    _refuse_too_many(f"by={by!r} makes", len(values), {in_words(value): count for value, count in counts.items()})
    prefix = f"{style.plain(label)}, " if label else ""
    return [Group(prefix + name, phases[chosen]) for name, chosen in values.items()] or [Group("", phases)]


def compose(chart: str, groups: list[Group], ax: Axes | None, draw: Callable[[list[Group], Axes | None], Axes]) -> Axes:
    """Draw ``groups`` on ``ax``, beside those that an earlier call drew there, by ``draw``.

    Raises ValueError where ``ax`` shows another chart of this kind, or more groups would be drawn than have a look.
    """
    earlier = _on(ax)
    if earlier and earlier.chart != chart:
        raise ValueError(
            f"These Axes show {earlier.chart}; {chart} has other axes. Give it Axes of its own, or ax.clear() first."
        )
    every = [*(earlier.groups if earlier else []), *groups]
    names = [group.label or (f"runs {number}" if len(every) > 1 else "") for number, group in enumerate(every, 1)]
    _refuse_too_many("There would be", len(every), {name: group.n for name, group in zip(names, every, strict=True)})
    if ax is not None and earlier:
        _remove(ax, earlier)
    before = {id(artist) for artist in _artists(ax)}
    looks = [Group(name, group.phases, *look) for name, group, look in zip(names, every, LOOKS, strict=False)]
    ax = draw(looks, ax)
    # Unnamed groups are kept without a name: their number is that of all that are there.
    _DRAWN[ax] = _Drawn(chart, every, [ref(artist) for artist in _artists(ax) if id(artist) not in before])
    return ax


def lanes(groups: list[Group]) -> list[tuple[Group, float, float]]:
    """Each group with its place within a row of height 1: what is added to the row, and the part of the height that it has.

    On a narrow sheet a line of text stands between two rows.
    """
    part = (0.78 if style.narrow() else 1.0) / len(groups)
    return [(group, (place - (len(groups) - 1) / 2) * part * 0.9, part) for place, group in enumerate(groups)]


def together(groups: list[Group]) -> pd.DataFrame:
    """The frames of all groups, for what a chart says of all of them."""
    import pandas as pd

    return groups[0].phases if len(groups) == 1 else pd.concat([group.phases for group in groups], ignore_index=True)


def legend(ax: Axes, groups: list[Group], counts: Iterable[str]) -> int:
    """Say above the Axes, where no run is drawn, which colour is which group, and in ``counts`` how many runs each has.

    The runs of a single chart, which nobody named, need none. Returns how many lines the legend has.
    """
    from matplotlib.lines import Line2D

    if not groups[0].label:
        return 0
    keys = [Line2D([], [], color=group.colour, marker="o", ls=group.line, ms=4) for group in groups]
    labels = [f"{group.label} ({count})" for group, count in zip(groups, counts, strict=True)]
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
    ax.legend(keys, labels, fontsize=style.scale(ax) * style.TEXT_PT, frameon=False, labelspacing=0.3, **place)
    return len(labels)


def among(groups: list[Group]) -> str:
    """The end of a title's n: `` in 2 groups``, or nothing."""
    return f" in {len(groups)} groups" if len(groups) > 1 else ""


def _refuse_too_many(what: str, number: int, runs: dict[str, int]) -> None:
    if number > len(LOOKS):
        raise ValueError(
            f"{what} {number} groups, and {len(LOOKS)} can be told apart. Keep some of them: {tally(runs)}; "
            "for instance phases[phases['gpu'].isin(['RTX 4090', 'RTX 3090'])]."
        )


def _on(ax: Axes | None) -> _Drawn | None:
    """What an earlier call drew on ``ax`` and nobody has cleared since."""
    earlier = _DRAWN.get(ax) if ax is not None else None
    there = {id(artist) for artist in _artists(ax)}
    return earlier if earlier and any(id(one()) in there for one in earlier.artists) else None


def _remove(ax: Axes, earlier: _Drawn) -> None:
    there = {id(artist) for artist in _artists(ax)}
    for one in earlier.artists:
        artist = one()
        if artist is not None and id(artist) in there:
            artist.remove()
    ax.spines[:].set_visible(True)
    # Their locators and formatters are made anew, too.
    ax.set_xscale("linear")
    ax.set_yscale("linear")


def _artists(ax: Axes | None) -> list[Artist]:
    return [] if ax is None else [*ax.lines, *ax.collections, *ax.patches, *ax.texts]
