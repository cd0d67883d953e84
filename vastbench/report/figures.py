"""The charts of a report, drawn into a folder as PNG and SVG, wide and narrow, each with the sentence that belongs under it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vastbench import charts
from vastbench.charts import style
from vastbench.record.phases import PhaseName
from vastbench.record.stopping import USEFUL
from vastbench.render import sentences

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 170
WIDE_IN, NARROW_IN = style.WIDTH_IN, 3.7
"""For a screen, and for one of 390 px, on which a point of the chart is a third more than one of its own."""
DARK = {
    style.WHITE: "#14181d",
    style.BLACK: "#e7ebf0",
    "#303030": "#c9d1da",
    style.GREY: "#9aa6b2",
    style.PALE: "#39434e",
    style.BLUE: "#56b4e9",
    style.SKY: "#2f6f99",
    style.NAVY: "#b9e0f7",
    style.ORANGE: "#f0a04b",
}
"""The charts' colours by day, and by night."""


class Picture(NamedTuple):
    """One chart: its file's ``name``, the report's section, a heading, what draws it, and what says it."""

    name: str
    section: str
    heading: str
    draw: Callable[[pd.DataFrame], Axes]
    sentence: Callable[[pd.DataFrame], str]


READY = "ready-curves"
PICTURES = (
    Picture(
        READY,
        "certainty",
        "Ready after how long",
        partial(charts.boot_curves, phase=USEFUL),
        partial(sentences.boot_curves, phase=USEFUL),
    ),
    Picture(
        "phase-distributions", "results", "Every run, phase by phase", charts.phase_distributions, sentences.phase_distributions
    ),
    Picture("runs-over-time", "results", "The runs in order", charts.runs_over_time, sentences.runs_over_time),
    Picture("failures-by-cause", "results", "How the runs ended", charts.failures_by_cause, sentences.failures_by_cause),
    Picture("boot-curves", "certainty", "Running after how long", charts.boot_curves, sentences.boot_curves),
    Picture(
        "naive-beside-honest",
        "certainty",
        "What a poller would have reported",
        charts.naive_beside_honest,
        sentences.naive_beside_honest,
    ),
    Picture("phase-waterfall", "tree", "The median run in time", charts.phase_waterfall, sentences.phase_waterfall),
    Picture("phase-shares", "bottleneck", "Share of mean and of variance", charts.phase_shares, sentences.phase_shares),
    Picture("cost-meters", "costs", "What a run costs, by meter", charts.cost_meters, sentences.cost_meters),
    Picture("provider-costs", "providers", "An hour elsewhere", charts.provider_costs, sentences.provider_costs),
)
"""The report's charts, in its order: the first stands on the first screen, unless the drill has one."""

ONE_RUN, COMPARED = "phase-waterfall", "provider-costs"
"""Those that do not show the whole tidy frame, but one run, and the providers."""


def draw_figures(pictures: Iterable[tuple[Picture, pd.DataFrame]], folder: Path) -> list[dict[str, str]]:
    """Draw each picture of its frame into ``folder``; for each a record of what it is and where it lies.

    Beside what the record names lies a ``NAME-narrow.svg`` for phones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for picture, frame in pictures:
        for width, name in ((WIDE_IN, picture.name), (NARROW_IN, f"{picture.name}-narrow")):
            with style.sheet(width):
                figure = picture.draw(frame).get_figure(root=True)
            assert figure is not None  # noqa: S101 (it was made on the line above)
            (folder / f"{name}.svg").write_text(_svg(figure, picture.name), encoding="utf-8")
            if width == WIDE_IN:
                figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
        drawn.append(
            {
                "name": picture.name,
                "section": picture.section,
                "heading": picture.heading,
                "sentence": picture.sentence(frame),
                "png": f"{folder.name}/{picture.name}.png",
                "svg": f"{folder.name}/{picture.name}.svg",
            }
        )
    return drawn


def drawings(folder: Path, figure: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Where the drawings of a figure lie that a page holds, by what they are for."""
    yield "wide", folder / figure["svg"]
    yield "narrow", folder / figure["svg"].replace(".svg", "-narrow.svg")


def _svg(figure: Figure, salt: str) -> str:
    """The figure as SVG that is dark where its reader's pages are, without what no reader sees.

    Its text is text: a tenth of the size of outlines, and it can be searched. Without salt and date the same data give the
    same file.
    """
    from matplotlib import rc_context

    drawn = io.StringIO()
    with rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", dpi=DPI, metadata={"Date": None, "Creator": None}, transparent=True)
    text = drawn.getvalue()
    text = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", lambda tag: _shorter(tag[0]), text)
    dark = "".join(
        f'[style*="{part}: {light}"],[{part}="{light}"]{{{part}:{dark}!important}}'
        for light, dark in DARK.items()
        for part in ("fill", "stroke")
    )
    dark = f"<style>@media (prefers-color-scheme: dark){{text{{fill:{DARK[style.BLACK]}}}{dark}}}</style>"
    return re.sub(r"\n\s*", "\n", text.replace("<defs>", f"{dark}<defs>", 1))


def _shorter(tag: str) -> str:
    """A tag with its coordinates to a tenth of a point, and one family of fonts."""
    tag = re.sub(r"(\.\d)\d+", r"\1", tag).replace(" \n", " ")
    return re.sub(r"'DejaVu Sans',[^;\"]*", "'DejaVu Sans', Verdana, sans-serif", tag)


def worth_drawing(attempted: int, passed: int, phases: pd.DataFrame) -> set[str]:
    """The charts that have anything to show of the tidy frame ``phases``: none without an attempted run, few without one that
    passed; of the boot, and of costs, only where the runs have one.
    """
    without = set() if phases["phase"].eq(PhaseName.WAIT_RUNNING).any() else {"boot-curves", "naive-beside-honest"}
    without |= set() if phases[["cost_usd", "naive_usd"]].notna().any(axis=None) else {"cost-meters"}
    return _shown(attempted, passed) - without


def _shown(attempted: int, passed: int) -> set[str]:
    if not attempted:
        return set()
    failed = {"failures-by-cause"} if passed < attempted else set()
    always = {"runs-over-time", "cost-meters", "provider-costs"} | failed
    return {picture.name for picture in PICTURES} - {"failures-by-cause"} | failed if passed else always
