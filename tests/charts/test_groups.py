"""Groups of runs on one Axes: a colour and an n each, in one call or in several, and charts that fit beside each other."""

import inspect
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.text import Text

from tests.analysis.made import made
from tests.charts.test_charts import TYPICAL, study
from vastbench import charts
from vastbench.analysis.frames import phases_table
from vastbench.charts import groups, style
from vastbench.record.stopping import USEFUL

FAST, SLOW = study(20, censored=2), study(9, failed=3, stopped=1, seed=2)
SLOW["run"] = "slow-" + SLOW["run"]
BOTH = pd.concat([FAST.assign(region="Oregon, US"), SLOW.assign(region="Spain, ES")], ignore_index=True)
GROUPED = {
    "boot_curves": charts.boot_curves,
    "phase_distributions": charts.phase_distributions,
    "failures_by_cause": charts.failures_by_cause,
    "cost_meters": charts.cost_meters,
}
every_grouped_chart = pytest.mark.parametrize("chart", GROUPED.values(), ids=GROUPED)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def colours(ax) -> set[str]:
    """The colours of groups that any mark or area of the chart has."""
    seen = {line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "o"}
    seen |= {line.get_color() for line in ax.lines if line.get_drawstyle() == "steps-post"}
    seen |= {to_hex(bar.get_facecolor()) for bar in ax.patches}
    return {to_hex(colour) for colour in seen}


def marks(ax) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata(), dtype=float) for line in ax.lines]


@every_grouped_chart
def test_each_value_of_a_column_is_a_group_with_its_colour_and_n(chart):
    ax = chart(BOTH, by="region")
    assert [re.sub(r"[,)] *(half|never).*", ")", name) for name in legend(ax)] == [
        "Oregon, US (n = 22)",
        "Spain, ES (n = 12)",
    ]
    assert colours(ax) == {style.BLUE, style.ORANGE}
    assert "34 attempted runs in 2 groups; 1 not counted" in ax.get_title("left")


@every_grouped_chart
def test_a_second_call_on_the_same_axes_is_the_same_as_one_with_both(chart):
    ax = chart(FAST, label="Oregon, US")
    assert chart(SLOW, ax=ax, label="Spain, ES") is ax
    together = chart(BOTH, by="region")
    assert legend(ax) == legend(together)
    assert ax.get_title("left") == together.get_title("left")
    assert ax.get_xlim() == together.get_xlim()
    for one, other in zip(marks(ax), marks(together), strict=True):
        np.testing.assert_allclose(one, other, equal_nan=True)


@every_grouped_chart
def test_runs_without_a_label_join_as_runs_1_and_runs_2(chart):
    ax = chart(FAST)
    chart(SLOW, ax=ax)
    assert [name.partition(" (")[0] for name in legend(ax)] == ["runs 1", "runs 2"]
    assert colours(ax) == {style.BLUE, style.ORANGE}


@every_grouped_chart
def test_an_empty_frame_joins_as_a_group_of_none(chart):
    ax = chart(study(0))
    chart(SLOW, ax=ax, label="slow")
    chart(study(0), ax=ax, label="none")
    assert [name.partition(" (")[0] for name in legend(ax)] == ["runs 1", "slow", "none"]
    assert "n = 0" in legend(ax)[2]
    assert ax.spines["bottom"].get_visible()


def test_what_others_drew_between_two_calls_stays():
    ax = charts.boot_curves(FAST)
    limit = ax.axvline(120.0)
    charts.boot_curves(SLOW, ax=ax)
    assert limit in ax.lines


def test_cleared_axes_begin_anew():
    ax = charts.failures_by_cause(FAST)
    ax.clear()
    charts.failures_by_cause(SLOW, ax=ax)
    assert ax.get_legend() is None
    assert "n = 12 attempted" in ax.get_title("left")


def test_a_label_alone_names_the_only_group():
    assert legend(charts.phase_distributions(FAST, label="image A")) == ["image A (n = 22)"]
    assert legend(charts.phase_distributions(BOTH, by="region", label="A"))[1] == "A, Spain, ES (n = 12)"


def test_a_group_keeps_the_numbers_that_it_has_alone():
    alone, ax = charts.failures_by_cause(SLOW), charts.failures_by_cause(BOTH, by="region")
    words = {text.get_text() for text in ax.texts}
    assert {text.get_text() for text in alone.texts} <= words
    assert "2 of 22" in "".join(words)


def test_groups_of_unlike_runs_are_each_one_sample():
    live = SLOW.assign(source="live", scale=1.0)
    ax = charts.boot_curves(pd.concat([FAST, live]), by="source")
    assert [name.partition(" (")[0] for name in legend(ax)] == ["emulator", "live"]
    assert "partly emulated" in ax.get_xlabel()


def test_runs_without_a_value_are_a_group_of_their_own():
    some = BOTH.assign(region=BOTH["region"].where(BOTH["region"] != "Spain, ES"))
    assert legend(charts.failures_by_cause(some, by="region"))[1] == "region unknown (n = 12)"


def test_a_column_that_groups_no_runs_is_refused():
    with pytest.raises(ValueError, match=r"no column 'regio'.*mean region"):
        charts.boot_curves(BOTH, by="regio")
    with pytest.raises(ValueError, match="by='phase' groups no runs"):
        charts.boot_curves(BOTH, by="phase")


def test_more_groups_than_can_be_told_apart_are_refused_with_their_runs():
    runs = phases_table([made(number, TYPICAL) for number in range(8)])
    with pytest.raises(ValueError, match=r"by='run' makes 8 groups, and 6 can be told apart.*\(1 run\)"):
        charts.boot_curves(runs, by="run")


def test_axes_that_show_another_chart_are_refused_and_stay_as_they_are():
    ax = charts.boot_curves(FAST)
    drawn = len(ax.lines)
    for other in (charts.phase_distributions, lambda phases, ax: charts.boot_curves(phases, ax, phase=USEFUL)):
        with pytest.raises(ValueError, match="These Axes show boot_curves of wait running"):
            other(SLOW, ax=ax)
    assert len(ax.lines) == drawn


def test_other_runs_lie_beside_one_group_only():
    with pytest.raises(ValueError, match="beside= draws other runs beside one group"):
        charts.phase_distributions(BOTH, by="region", beside=SLOW)


def test_the_looks_of_groups_differ():
    assert len({colour for colour, _ in groups.LOOKS}) == len(groups.LOOKS)


def test_charts_that_show_no_groups_take_no_by():
    for name in charts.__all__:
        takes = set(inspect.signature(getattr(charts, name)).parameters)
        assert "ax" in takes, name
        assert ({"by", "label"} <= takes) == (name in GROUPED), name


# Small subplots


PANELS = (
    (lambda ax: charts.boot_curves(BOTH, ax, by="region"), lambda ax: charts.phase_distributions(FAST, ax)),
    (lambda ax: charts.failures_by_cause(FAST, ax), lambda ax: charts.runs_over_time(FAST, ax)),
    (lambda ax: charts.boot_curves(FAST, ax), lambda ax: charts.phase_distributions(BOTH, ax, by="region")),
    (lambda ax: charts.cost_meters(FAST, ax), lambda ax: charts.phase_shares(FAST, ax)),
)


@pytest.mark.parametrize("size", [(12, 9), (9, 7)], ids=str)
@pytest.mark.parametrize("panels", [PANELS[:2], PANELS[2:]], ids=["first", "second"])
def test_four_charts_fit_into_one_figure_without_a_collision(size, panels):
    figure, axes = plt.subplots(2, 2, figsize=size)
    for ax, draw in zip(axes.flat, [draw for row in panels for draw in row], strict=True):
        draw(ax)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    shown = {text: text.get_window_extent(renderer) for text in figure.findobj(Text) if drawn(text, figure)}
    for text, box in shown.items():
        words = text.get_text()
        assert figure.bbox.padded(2).x0 <= box.x0, words
        assert box.x1 <= figure.bbox.padded(2).x1, words
        # Lines of rows may touch: a letter is lower than its line.
        assert [o.get_text() for o, b in shown.items() if o is not text and b.padded(-2).overlaps(box.padded(-2))] == [], words


def drawn(text: Text, figure) -> bool:
    """Whether the text can be read: ticks beyond an axis's ends cannot."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            places = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
            if any(label is text and not low <= place <= high for place, label in places):
                return False
    return bool(text.get_visible() and text.get_text().strip())


def test_a_layout_that_the_user_chose_stays():
    figure, ax = plt.subplots(layout="tight")
    engine = figure.get_layout_engine()
    charts.failures_by_cause(FAST, ax)
    assert figure.get_layout_engine() is engine
