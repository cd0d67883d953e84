"""The charts of a report, drawn into a folder as PNG and SVG, each with the sentence that belongs under it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vastbench import charts
from vastbench.record.stopping import USEFUL
from vastbench.render import sentences

if TYPE_CHECKING:
    import pandas as pd

DPI = 170


class Picture(NamedTuple):
    """One chart: its file's ``name``, the report's section, a heading, what draws it, what says it, its size in inches."""

    name: str
    section: str
    heading: str
    draw: Callable[..., Any]
    sentence: Callable[[pd.DataFrame], str]
    width: float
    height: float


PICTURES = (
    Picture(
        "phase-distributions",
        "results",
        "Every run, phase by phase",
        charts.phase_distributions,
        sentences.phase_distributions,
        8,
        5,
    ),
    Picture("runs-over-time", "results", "The runs in order", charts.runs_over_time, sentences.runs_over_time, 8, 4),
    Picture("failures-by-cause", "results", "How the runs ended", charts.failures_by_cause, sentences.failures_by_cause, 8, 3),
    Picture("boot-curves", "certainty", "Running after how long", charts.boot_curves, sentences.boot_curves, 8, 3.8),
    Picture(
        "useful-curves",
        "certainty",
        "Useful after how long",
        partial(charts.boot_curves, phase=USEFUL),
        partial(sentences.boot_curves, phase=USEFUL),
        8,
        3.8,
    ),
    Picture(
        "naive-beside-honest",
        "certainty",
        "What a poller would have reported",
        charts.naive_beside_honest,
        sentences.naive_beside_honest,
        8,
        3.6,
    ),
    Picture("phase-waterfall", "tree", "The median run in time", charts.phase_waterfall, sentences.phase_waterfall, 8, 4),
    Picture("phase-shares", "bottleneck", "Share of mean and of variance", charts.phase_shares, sentences.phase_shares, 8, 4.2),
    Picture("cost-meters", "costs", "What a run costs, by meter", charts.cost_meters, sentences.cost_meters, 8, 3.6),
    Picture("provider-costs", "providers", "An hour elsewhere", charts.provider_costs, sentences.provider_costs, 8, 6),
)
"""The report's charts, in its order."""

ONE_RUN, COMPARED = "phase-waterfall", "provider-costs"
"""Those that do not show the whole tidy frame, but one run, and the providers."""


def draw_figures(pictures: Iterable[tuple[Picture, pd.DataFrame]], folder: Path) -> list[dict[str, str]]:
    """Draw each picture of its frame into ``folder``; for each a record of what it is and where it lies."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for picture, frame in pictures:
        figure = Figure(figsize=(picture.width, picture.height), layout="constrained")
        picture.draw(frame, figure.add_subplot())
        # Without salt and date the same data give the same file.
        with rc_context({"svg.hashsalt": picture.name}):
            figure.savefig(folder / f"{picture.name}.svg", metadata={"Date": None})
        figure.savefig(folder / f"{picture.name}.png", dpi=DPI, metadata={"Software": None})
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


def worth_drawing(attempted: int, passed: int) -> set[str]:
    """The charts that have anything to show: none without an attempted run, few without one that passed."""
    certain = {picture.name for picture in PICTURES if picture.section == "certainty"}
    always = {"runs-over-time", "failures-by-cause", "cost-meters", "provider-costs"}
    with_success = {"phase-distributions", "phase-waterfall", "phase-shares", *certain}
    return always | with_success if passed else always if attempted else set()
