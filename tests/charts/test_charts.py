"""Charts show every run with unit and n, say what is missing, and stay readable with many runs, one and none."""

import io
import random
import re
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy.stats import beta

from tests.analysis.made import CENSORED, FAILED, made
from vastbench import charts
from vastbench.analysis.attempts import pool
from vastbench.analysis.frames import phases_table, runs_from, runs_table
from vastbench.analysis.naive import naive_readings
from vastbench.analysis.providers import compare
from vastbench.bundled import shared
from vastbench.charts import style
from vastbench.io.files import read_run
from vastbench.io.prices import prices
from vastbench.record.cost import Cost
from vastbench.record.phases import PhaseName as P
from vastbench.record.run import Run
from vastbench.record.stopping import USEFUL

PUBLISHED = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
SEED = phases_table([PUBLISHED])
TYPICAL = {
    P.SEARCH: 1.2,
    P.CREATE: 1.0,
    P.WAIT_RUNNING: 80.0,
    P.WAIT_SSH: 8.0,
    "create file": 0.5,
    "verify file": 0.4,
    P.DESTROY: 0.6,
    P.CONFIRM: 5.0,
}
GOT = {"gpu_name": "RTX 4090", "num_gpus": 1, "gpu_ram_mb": 24564, "region": "Oregon, US", "usd_per_hour": 0.3}
BEGUN = datetime.fromisoformat("2026-01-02T08:00:00+00:00")


def study(passed: int, *, failed: int = 0, censored: int = 0, stopped: int = 0, seed: int = 1) -> pd.DataFrame:
    """A tidy frame of that many runs of each kind, mixed, with a few retries."""
    draw = random.Random(seed)
    kinds = [("", None)] * passed + [("boot_failed", FAILED)] * failed + [("deadline", CENSORED)] * censored
    kinds += [("interrupted", CENSORED)] * stopped
    draw.shuffle(kinds)
    runs = []
    for number, (cause, outcome) in enumerate(kinds):
        seconds = {name: value * draw.lognormvariate(0, 0.4) for name, value in TYPICAL.items()}
        gpu = seconds[P.WAIT_SSH] / 30_000
        cost = Cost(gpu, gpu * 0.9, gpu * 1.2, 0.0002, 0.00000006, 0.009)
        if outcome is None:
            earlier = {P.SEARCH: 1.0, P.CREATE: 0.8} if number % 20 == 7 else None
            run = made(number, seconds, earlier=earlier, rest=draw.uniform(0.3, 4.0), width=2.0, cost=cost)
        else:
            reached = {name: seconds[name] for name in (P.SEARCH, P.CREATE)}
            spent = replace(cost, gpu_usd=None, gpu_lower_usd=None, gpu_upper_usd=None)
            run = made(number, reached, stopped=P.WAIT_RUNNING, outcome=outcome, cause=cause, cost=spent)
        begun = (BEGUN + timedelta(minutes=number)).isoformat()
        price = GOT | {"usd_per_hour": draw.uniform(0.2, 0.4)}
        runs.append(replace(run, started_at=begun, resources=price))
    return phases_table(runs)


FRAMES = {
    "300 runs": study(268, failed=8, censored=22, stopped=2),
    "12 runs": study(11, censored=1),
    "the published run": SEED,
    "one failed run": study(0, failed=1),
    "none passed": study(0, failed=2, censored=3),
    "all stopped by us": study(0, stopped=2),
    "no run": study(0),
}


def a_run(phases: pd.DataFrame) -> Run:
    """The first run of the frame, with what its record says of its polls: those of the published run for that one."""
    run = (runs_from(first_run(phases)) or [replace(PUBLISHED, phases=(), instrument={})])[0]
    return PUBLISHED if run.id == PUBLISHED.id else run


def first_run(phases: pd.DataFrame) -> pd.DataFrame:
    return phases[phases["run"] == phases["run"].iloc[0]] if len(phases) else phases


def same_size(phases: pd.DataFrame) -> pd.DataFrame:
    return compare(prices(), phases).head(25)


CHARTS = {
    "boot_curves": charts.boot_curves,
    "boot_curves until ready": lambda phases, ax=None: charts.boot_curves(phases, ax, phase=USEFUL),
    "naive_beside_honest": charts.naive_beside_honest,
    "poll_timeline": lambda phases, ax=None: charts.poll_timeline(a_run(phases), ax),
    "phase_waterfall": lambda phases, ax=None: charts.phase_waterfall(first_run(phases), ax),
    "phase_distributions": charts.phase_distributions,
    "phase_distributions beside": lambda phases, ax=None: charts.phase_distributions(phases, ax, beside=SEED),
    "runs_over_time": charts.runs_over_time,
    "failures_by_cause": charts.failures_by_cause,
    "phase_shares": charts.phase_shares,
    "cost_meters": charts.cost_meters,
    "provider_costs": lambda phases, ax=None: charts.provider_costs(same_size(phases), ax),
    "provider_costs per run": lambda phases, ax=None: charts.provider_costs(same_size(phases), ax, value="usd_per_run"),
}
every_chart = pytest.mark.parametrize("chart", CHARTS)
every_frame = pytest.mark.parametrize("frame", FRAMES)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def texts(ax) -> list[Text]:
    """What can be read once the figure is drawn; ticks beyond an axis's ends cannot."""
    ax.figure.canvas.draw()
    beyond = []
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        beyond += [
            label for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True) if not low <= place <= high
        ]
    return [text for text in ax.figure.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in beyond]


def said(ax) -> str:
    return "\n".join(text.get_text() for text in texts(ax)).replace(r"\$", "$")


def luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def points(ax, marker: str) -> int:
    return sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() == marker)


def marked(ax) -> list[Line2D]:
    """The lines that consist of marks."""
    return [line for line in ax.lines if line.get_marker() != "None"]


class Drawn(NamedTuple):
    """What can be read on a drawn chart, and where."""

    title: str
    labels: str
    ticks: list[str]
    words: list[str]
    boxes: list[Bbox]
    figure: Bbox


@cache
def drawn(chart: str, frame: str) -> Drawn:
    """The chart of the frame, drawn once for all tests."""
    ax = CHARTS[chart](FRAMES[frame])
    shown = texts(ax)
    renderer = ax.figure.canvas.get_renderer()
    return Drawn(
        ax.get_title("left"),
        ax.get_xlabel() + ax.get_ylabel(),
        [label.get_text() for axis in (ax.xaxis, ax.yaxis) for label in axis.get_ticklabels()],
        [text.get_text() for text in shown],
        [text.get_window_extent(renderer) for text in shown],
        ax.figure.bbox,
    )


# What holds for every chart


@every_chart
@every_frame
def test_no_text_leaves_the_figure_or_covers_another(chart, frame):
    seen = drawn(chart, frame)
    within = seen.figure.padded(2)
    for i, (words, box) in enumerate(zip(seen.words, seen.boxes, strict=True)):
        assert within.x0 <= box.x0 and box.x1 <= within.x1 and within.y0 <= box.y0 and box.y1 <= within.y1, words  # noqa: PT018
        assert [seen.words[j] for j in range(i) if box.padded(-1).overlaps(seen.boxes[j].padded(-1))] == [], words


@every_chart
@every_frame
def test_the_title_has_n_and_an_axis_has_a_unit_or_says_what_is_missing(chart, frame):
    seen = drawn(chart, frame)
    assert "n = " in seen.title
    assert any(unit in seen.labels for unit in ("second", "%", "USD")) or any(words.endswith(".") for words in seen.words)


@every_chart
@every_frame
def test_ticks_are_plain_numbers(chart, frame):
    assert [tick for tick in drawn(chart, frame).ticks if "^" in tick or "mathdefault" in tick or re.search(r"\de", tick)] == []


@every_chart
def test_a_chart_draws_into_given_axes_and_changes_nothing_else(chart):
    phases, settings = FRAMES["12 runs"], dict(mpl.rcParams)
    before = phases.copy(deep=True)
    figure, ax = plt.subplots()
    assert CHARTS[chart](phases, ax) is ax
    assert plt.get_fignums() == [figure.number]
    assert dict(mpl.rcParams) == settings
    pd.testing.assert_frame_equal(phases, before)


def test_colours_differ_in_lightness():
    used = sorted(map(luminance, (style.BLACK, style.BLUE, style.PURPLE, style.ORANGE, style.PALE, style.WHITE)))
    assert min(np.diff(used)) > 0.1


def test_foreign_names_are_drawn_as_they_are_and_break_no_svg():
    hostile = "A&B <x> $5$ \\frac \x1b[31m 東"
    run = made(0, TYPICAL)
    phases = phases_table(
        [replace(run, id=hostile, cause=hostile, outcome=FAILED, resources=GOT | {"gpu_name": hostile, "region": hostile})]
    )
    for chart in CHARTS.values():
        ax = chart(phases)
        image = io.BytesIO()
        with mpl.rc_context({"svg.fonttype": "none"}):
            ax.figure.savefig(image, format="svg")
        words = "".join(ElementTree.fromstring(image.getvalue()).itertext())
        assert "\x1b" not in words
        if "A&B" in said(ax):
            assert "A&B <x> $5$ \\f" in words
            assert style.MISSING in said(ax)


def test_emulated_seconds_are_called_so():
    assert "emulated seconds" in charts.phase_distributions(FRAMES["12 runs"]).get_xlabel()
    assert "emulated" not in charts.phase_distributions(SEED).get_xlabel()
    both = pool(pd.concat([FRAMES["12 runs"], SEED]))
    assert "partly emulated" in charts.phase_distributions(both).get_xlabel()


# One run


def test_the_waterfall_shows_each_phase_from_its_start_for_its_seconds():
    ax = charts.phase_waterfall(SEED)
    top = SEED[(SEED["parent"] == "total") & SEED["start_s"].notna()]
    assert [bar.get_x() for bar in ax.patches] == pytest.approx(top["start_s"].tolist())
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(top["seconds"].tolist())
    assert [label.get_text() for label in ax.get_yticklabels()] == top["phase"].tolist()


def test_the_waterfalls_whiskers_are_the_bounds_of_the_ends():
    (lines,) = charts.phase_waterfall(SEED).collections
    drawn = {round(y): sorted(x for x, _ in segment) for segment in lines.get_segments() for _, y in segment[:1]}
    top = SEED[(SEED["parent"] == "total") & SEED["start_s"].notna()].reset_index(drop=True)
    for place in top.index[top["phase"].isin(["wait running", "wait SSH"])]:
        assert drawn[place] == pytest.approx([top.loc[place, "end_lower_s"], top.loc[place, "end_upper_s"]])


def test_the_waterfall_hatches_an_unfinished_phase_up_to_its_last_poll():
    ax = charts.phase_waterfall(FRAMES["one failed run"])
    (bar,) = [patch for patch in ax.patches if patch.get_hatch()]
    assert bar.get_width() == pytest.approx(600.0)
    assert "failed after 600.0 s" in said(ax)
    assert "boot_failed" in ax.get_title("left")


def test_the_waterfall_tells_tries_apart():
    ax = charts.phase_waterfall(phases_table([made(0, TYPICAL, earlier={P.SEARCH: 1.0})]))
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == ["search offers (try 1)", "search offers (try 2)"]


def test_the_waterfall_refuses_several_runs():
    with pytest.raises(ValueError, match="one run, not 12"):
        charts.phase_waterfall(FRAMES["12 runs"])


# Many runs


def test_every_run_is_a_point_at_its_seconds():
    phases = FRAMES["300 runs"]
    ax = charts.phase_distributions(phases)
    names = [label.get_text().strip() for label in ax.get_yticklabels()]
    row = names.index("wait running")
    (drawn,) = [line for line in ax.lines if line.get_marker() == "o" and abs(line.get_ydata().mean() - row) < 0.3]
    expected = phases[(phases["phase"] == "wait running") & phases["seconds"].notna()]["seconds"]
    assert sorted(drawn.get_xdata()) == pytest.approx(sorted(expected))
    assert len(expected) == 268


def test_each_points_bounds_are_drawn():
    ax = charts.phase_distributions(SEED)
    lines = [line.get_xdata() for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3]
    running = SEED.set_index("phase").loc["wait running", ["lower_s", "upper_s"]].tolist()
    assert any(x[:2].tolist() == pytest.approx(running) for x in lines)


def test_what_did_not_end_is_an_arrow_or_a_cross_at_the_least_that_it_took():
    ax = charts.phase_distributions(FRAMES["300 runs"])
    arrows = [line for line in ax.lines if line.get_marker() == ">"]
    crosses = [line for line in ax.lines if line.get_marker() == "X"]
    assert [len(line.get_xdata()) for line in arrows] == [22, 22]  # wait running and total
    assert [len(line.get_xdata()) for line in crosses] == [8, 8]
    assert arrows[0].get_xdata() == pytest.approx([600.0] * 22)
    assert "30 not ended" in said(ax)
    assert "cut off" in ax.get_xlabel()


def test_runs_that_we_stopped_are_counted_not_drawn():
    for chart in (charts.phase_distributions, charts.failures_by_cause, charts.cost_meters):
        title = chart(FRAMES["300 runs"]).get_title("left")
        assert "298 attempted runs; 2 not counted" in title


def test_an_axis_is_logarithmic_only_where_the_spread_asks_for_it():
    assert charts.phase_distributions(FRAMES["300 runs"]).get_xscale() == "log"
    alike = phases_table([made(i, {P.SEARCH: 1.0 + i / 10, P.CREATE: 2.0}) for i in range(4)])
    ax = charts.phase_distributions(alike[alike["phase"] != "unattributed"])
    assert ax.get_xscale() == "linear"
    assert ax.get_xlim()[0] == 0.0


def test_what_a_logarithmic_axis_cannot_show_lies_at_its_edge():
    zero = phases_table([made(i, TYPICAL | {P.SEARCH: 0.0}) for i in range(3)])
    ax = charts.phase_distributions(zero)
    row = [label.get_text().strip() for label in ax.get_yticklabels()].index("search offers")
    (drawn,) = [line for line in ax.lines if line.get_marker() == "o" and abs(line.get_ydata().mean() - row) < 0.3]
    assert drawn.get_xdata() == pytest.approx([ax.get_xlim()[0]] * 3)


def test_other_runs_can_lie_beside():
    ax = charts.phase_distributions(FRAMES["12 runs"], beside=SEED)
    assert (
        points(ax, "D")
        == len({"search offers", "create instance", "wait running", "wait SSH", "create file", "verify file"}) + 3
    )
    assert SEED["run"].iloc[0] in ax.get_xlabel()


@pytest.mark.parametrize("name", ["12 runs", "none passed"])
def test_each_column_is_as_high_as_its_run_took(name):
    ax = charts.runs_over_time(FRAMES[name])
    runs = runs_table(FRAMES[name]).sort_values("started_at")
    tops = np.max([[path.vertices[:, 1].max() for path in part.get_paths()] for part in ax.collections], axis=0)
    assert tops == pytest.approx(runs["total_s"].to_numpy())


def test_the_bounds_of_a_phase_lie_over_its_part_of_the_column():
    ax = charts.runs_over_time(SEED)
    (line,) = [line for line in ax.lines if line.get_color() == style.BLACK and line.get_xdata()[0] == 1][:1]
    running = SEED.set_index("phase").loc["wait running"]
    assert line.get_ydata()[:2] == pytest.approx([running["lower_s"], running["upper_s"]])
    assert "bounds of a phase" in ax.get_xlabel()
    assert "bounds" not in charts.runs_over_time(phases_table([made(0, TYPICAL)])).get_xlabel()


def test_each_run_that_did_not_pass_has_a_mark_and_its_cause_a_number():
    ax = charts.runs_over_time(FRAMES["300 runs"])
    marks = {line.get_label(): len(line.get_xdata()) for line in marked(ax)}
    assert marks == {"censored: deadline (22)": 22, "failed: boot_failed (8)": 8, "censored: interrupted (2)": 2}


def test_a_mark_lies_on_top_of_its_column_or_at_the_end_of_the_axis():
    for name in ("12 runs", "none passed"):
        ax = charts.runs_over_time(FRAMES[name])
        totals = runs_table(FRAMES[name]).sort_values("started_at")["total_s"].to_numpy()
        end = ax.get_ylim()[1]
        for line in marked(ax):
            tops = totals[line.get_xdata() - 1]
            assert all(
                y == pytest.approx(top) or top > end > y > 0.95 * end for y, top in zip(line.get_ydata(), tops, strict=True)
            )


def test_columns_that_are_cut_off_are_counted():
    assert "3 columns cut off, the longest took 60" in charts.runs_over_time(study(40, censored=3)).get_xlabel()
    assert "cut off" not in charts.runs_over_time(FRAMES["none passed"]).get_xlabel()


def test_of_more_than_sixty_runs_a_column_is_the_mean_of_several():
    kinds = (made(0, {P.WAIT_RUNNING: 10.0}), made(1, {P.WAIT_RUNNING: 30.0}))
    runs = [replace(kinds[number % 2], id=f"{number}") for number in range(121)]
    ax = charts.runs_over_time(phases_table(runs))
    columns = next(part for part in ax.collections if part.get_label() == P.WAIT_RUNNING).get_paths()
    assert len(columns) == 41
    assert columns[0].vertices[:, 1].max() == pytest.approx(50 / 3)
    assert "a column: mean of 3 runs" in ax.get_xlabel().replace("\n", " ")
    assert "mean of" not in charts.runs_over_time(phases_table(runs[:60])).get_xlabel()


def test_a_mean_of_several_runs_is_of_passed_ones_the_others_are_marks():
    ax = charts.runs_over_time(FRAMES["300 runs"])
    totals = runs_table(FRAMES["300 runs"]).sort_values("started_at", ignore_index=True)
    good = totals["total_s"].where(totals["run_outcome"] == "passed")
    tops = np.max([[path.vertices[:, 1].max() for path in part.get_paths()] for part in ax.collections], axis=0)
    assert tops == pytest.approx(good.groupby(np.arange(300) // 5).mean().to_numpy())
    assert points(ax, "X") + points(ax, "^") + points(ax, "s") == 32
    assert "mean of those that passed of 5 runs" in ax.get_xlabel().replace("\n", " ")


def test_many_causes_share_the_last_mark():
    runs = [made(i, {P.SEARCH: 1.0}, outcome=FAILED, cause=f"cause_{i}") for i in range(9)]
    ax = charts.runs_over_time(phases_table(runs))
    assert sum(len(line.get_xdata()) for line in marked(ax)) == 9
    assert marked(ax)[-1].get_label() == "other causes (4)"


def test_rates_have_their_exact_interval():
    ax = charts.failures_by_cause(FRAMES["none passed"])
    intervals = [[x / 100 for x in line.get_xdata()] for line in ax.lines]
    assert intervals[0] == pytest.approx([beta.ppf(0.025, 5, 1), 1.0])
    assert intervals[1] == pytest.approx([beta.ppf(0.025, 3, 3), beta.ppf(0.975, 4, 2)])
    assert "3 of 5 = 60.0 %" in said(ax)


def test_no_failure_is_shown_with_what_it_does_not_rule_out():
    ax = charts.failures_by_cause(study(12))
    assert "0 of 12 = 0.0 %  (0.0 to 26.5 %)" in said(ax)


@pytest.mark.parametrize("name", ["300 runs", "12 runs", "the published run"])
def test_shares_add_up_to_everything(name):
    ax = charts.phase_shares(FRAMES[name])
    for bars in ax.containers:
        assert sum(bar.get_width() for bar in bars) == pytest.approx(100.0)


def test_a_share_is_known_within_the_bounds_of_its_phase():
    ax = charts.phase_shares(SEED)
    running = SEED.set_index("phase").loc["wait running"]
    total = SEED.set_index("phase").loc["total", "seconds"]
    spans = [list(line.get_xdata()) for line in ax.lines if line.get_color() == style.BLACK and line.get_marker() == "|"]
    assert spans[0] == pytest.approx([100 * running["lower_s"] / total, 100 * running["upper_s"] / total])
    exact = charts.phase_shares(phases_table([made(0, TYPICAL)]))
    assert not marked(exact)
    assert "bounds" not in exact.get_xlabel()


def test_one_run_has_no_share_of_the_variance():
    ax = charts.phase_shares(SEED)
    assert len(ax.containers) == 1
    assert "73.5 % of the total" in said(ax)
    assert "no share of the variance for n = 1" in ax.get_xlabel()


# How sure we are


def areas(ax, colour: str) -> list[np.ndarray]:
    """The corners of each area of that colour."""
    return [part.get_paths()[0].vertices for part in ax.collections if to_rgb(part.get_facecolor()[0]) == to_rgb(colour)]


def between(corners: np.ndarray, x: float) -> tuple[float, float]:
    """The least and the greatest height of an area made of steps, at ``x``."""
    crossed = [(x0, y0) for (x0, y0), (x1, y1) in pairwise(corners) if y0 == y1 and min(x0, x1) <= x <= max(x0, x1)]
    heights = [y for _, y in crossed]
    return min(heights), max(heights)


def test_a_curves_area_lies_between_the_surely_and_the_possibly_ended():
    ax = charts.boot_curves(SEED)
    running = SEED.set_index("phase").loc["wait running"]
    (area,) = areas(ax, style.SKY)
    inside = (running["lower_s"] + running["upper_s"]) / 2
    assert between(area, inside) == (0.0, 100.0)
    assert between(area, running["lower_s"] - 0.1) == (0.0, 0.0)
    assert between(area, running["upper_s"] + 0.1) == (100.0, 100.0)


def test_a_curve_of_exact_times_is_the_share_of_the_runs():
    waits = [50.0, 60.0, 60.0, 70.0, 80.0, 90.0, 100.0, 110.0]
    runs = [made(i, {P.WAIT_RUNNING: seconds}) for i, seconds in enumerate(waits)]
    (area,) = areas(charts.boot_curves(phases_table(runs)), style.SKY)
    for at, share in [(55.0, 1 / 8), (65.0, 3 / 8), (105.0, 7 / 8), (111.0, 1.0)]:
        assert between(area, at) == pytest.approx((100 * share, 100 * share))


def test_what_never_ended_is_a_plateau_with_its_exact_interval():
    ax = charts.boot_curves(FRAMES["300 runs"])
    (height,) = {line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"}
    assert height == pytest.approx(100 * 268 / 298)
    low, high = (100 * end for end in (beta.ppf(0.025, 30, 269), beta.ppf(0.975, 31, 268)))
    assert f"never:\n30 of 298\n({low:.1f} to {high:.1f} %)" in said(ax)
    assert "never" not in said(charts.boot_curves(study(12)))


def test_the_time_of_half_the_runs_is_given_only_if_half_ended():
    assert "half by" in said(charts.boot_curves(study(6, censored=5)))
    assert "half by" not in said(charts.boot_curves(study(5, censored=6)))


def test_few_runs_have_no_band():
    ax = charts.boot_curves(study(5))
    assert not areas(ax, style.PALE)
    assert "no 95 % band for n = 5" in ax.get_xlabel()
    assert areas(charts.boot_curves(study(6)), style.PALE)


def test_what_a_poller_would_have_reported_is_drawn_as_it_is_simulated():
    phases = FRAMES["300 runs"]
    ax = charts.naive_beside_honest(phases, periods_s=(10.0,), seed=4)
    rows = phases[(phases["phase"] == "wait running") & (phases["outcome"] == "passed") & phases["final"]]
    readings = naive_readings(rows["lower_s"].to_numpy(), rows["upper_s"].to_numpy(), 10.0, seed=4)
    (line,) = [line for line in ax.lines if "read every 10 s" in str(line.get_label())]
    assert line.get_xdata()[1:] == pytest.approx(np.sort(readings))
    assert f"median {np.median(readings):.1f} s" in line.get_label()
    assert "simulated" in ax.get_title("left")


def test_the_true_curve_lies_between_those_of_the_upper_and_lower_bounds():
    phases = FRAMES["12 runs"]
    (area,) = areas(charts.naive_beside_honest(phases), style.SKY)
    rows = phases[(phases["phase"] == "wait running") & (phases["outcome"] == "passed") & phases["final"]]
    for at in np.linspace(rows["lower_s"].min() + 0.01, rows["upper_s"].median() + 0.01, 17):
        expected = [100 * (rows[name] <= at).mean() for name in ("upper_s", "lower_s")]
        assert between(area, at) == pytest.approx(expected)


def test_the_published_polls_are_ticks_with_their_answers():
    ax = charts.poll_timeline(PUBLISHED)
    begun = PUBLISHED.phase(P.WAIT_RUNNING).start.upper
    ticks = sorted(x for line in ax.lines if line.get_marker() == "|" for x in line.get_xdata())
    assert ticks == pytest.approx([begun + s for s in (0.0, 10.7, 21.0, 31.3, 41.7, 52.1, 62.5, 72.77)])
    assert all(words in said(ax) for words in ("no status (2)", "loading (5)", "running (1)", "n = 8 polls"))


def test_a_moments_bar_spans_its_bounds():
    ax = charts.poll_timeline(PUBLISHED)
    names = [label.get_text() for label in ax.get_yticklabels()]
    (bar,) = [bar for bar in ax.patches if bar.get_y() < names.index("running") < bar.get_y() + bar.get_height()]
    end = PUBLISHED.phase(P.WAIT_RUNNING).end
    assert (bar.get_x(), bar.get_x() + bar.get_width()) == pytest.approx((end.lower, end.upper))


SIGHTINGS = [
    {"status": None, "polls": 3, "first": [1.0, 1.3], "last": [3.0, 3.3]},
    {"status": "loading", "polls": 50, "first": [4.0, 4.3], "last": [53.0, 53.3]},
    {"status": "running", "polls": 1, "first": [54.0, 54.3], "last": [54.0, 54.3]},
]
TOLD = {"no_sent": 50.0, "no_received": 50.0, "yes_sent": 50.04, "yes_received": 50.04, "source": "guest"}


def test_our_own_polls_and_a_trusted_guest_clock_are_drawn():
    run = replace(made(0, {P.WAIT_RUNNING: 54.3, P.WAIT_SSH: 5.0}), instrument={"sightings": SIGHTINGS, "poll_period_s": 1.0})
    ax = charts.poll_timeline(replace(run, guest={"trusted": True, "moments": {"container_started": TOLD}}))
    assert points(ax, "|") == 54
    assert points(ax, "D") == 1
    assert "container started" in said(ax)
    assert "by the instance's own clock" in ax.get_xlabel()
    ax = charts.poll_timeline(replace(run, guest={"trusted": False, "why": "it jumps", "moments": {"container_started": TOLD}}))
    assert points(ax, "D") == 0
    assert "container started" not in said(ax)


# Money


def test_every_run_has_a_point_per_meter_and_unknown_ones_are_counted():
    ax = charts.cost_meters(FRAMES["300 runs"])
    assert points(ax, "o") == 5 * 268
    assert points(ax, "v") == 3 * 30  # not passed: storage, transfer, naive
    assert "n = 268, 30 unknown" in said(ax)


def test_all_meters_together_are_as_inexact_as_the_gpus():
    ax = charts.cost_meters(SEED)
    (gpu, together) = (line.get_xdata()[:2] for line in ax.lines if len(line.get_xdata()) == 3)
    run = runs_table(SEED).iloc[0]
    assert gpu == pytest.approx([run["gpu_lower_usd"], run["gpu_upper_usd"]])
    assert together == pytest.approx(gpu + run["cost_usd"] - run["gpu_usd"])


def test_the_cost_per_success_counts_what_failures_cost():
    ax = charts.cost_meters(FRAMES["12 runs"])
    naive = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"][-1]
    assert naive == pytest.approx(12 * 0.009 / 11)
    assert "no success" in charts.cost_meters(FRAMES["none passed"]).get_xlabel()


def test_prices_are_sorted_bars_with_ours_in_bold_and_blue():
    table = compare(prices(), FRAMES["12 runs"]).head(10)
    ax = charts.provider_costs(table)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(sorted(table["usd_per_gpu_hour"]))
    (place,) = [i for i, label in enumerate(ax.get_yticklabels()) if label.get_fontweight() == "bold"]
    assert to_rgb(ax.patches[place].get_facecolor()) == to_rgb(style.BLUE)
    assert ax.patches[place].get_width() == pytest.approx(table["usd_per_gpu_hour"].iloc[0])
    paid = runs_table(FRAMES["12 runs"])["usd_per_hour"]
    assert ax.lines[0].get_xdata() == pytest.approx([paid.min(), paid.max()])


def test_each_price_has_its_gpu_region_tier_and_date():
    words = said(charts.provider_costs(same_size(SEED)))
    assert "AWS g5.xlarge, 1 × A10G 24 GB" in words
    assert "us-east-1, on-demand, 2026-05-27" in words
    assert "British Columbia, CA, marketplace, 2026-01-02" in words


def test_prices_without_the_figure_are_counted():
    table = compare(prices(), SEED).head(10)
    table.loc[3:4, "usd_per_gb_hour"] = float("nan")
    assert "n = 8 prices)\n2 prices without this figure not drawn" in charts.provider_costs(
        table, value="usd_per_gb_hour"
    ).get_title("left")


def test_an_unknown_figure_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"usd_per_run.*not 'euros'"):
        charts.provider_costs(same_size(SEED), value="euros")


# On a phone


@every_chart
def test_on_a_narrow_sheet_every_text_stays_inside_at_its_full_size(chart):
    with style.sheet(3.7):
        ax = CHARTS[chart](FRAMES["300 runs"])
        FigureCanvasAgg(ax.figure)
        shown = texts(ax)
    renderer = ax.figure.canvas.get_renderer()
    assert ax.figure.get_size_inches()[0] == 3.7
    assert plt.get_fignums() == []
    within = ax.figure.bbox.padded(4)
    for text in shown:
        box = text.get_window_extent(renderer)
        assert within.x0 <= box.x0 and box.x1 <= within.x1, text.get_text()  # noqa: PT018
        assert text.get_fontsize() >= style.TEXT_PT


def test_parts_of_a_phase_are_indented_below_it():
    phases = FRAMES["12 runs"].copy()
    phases.loc[phases["phase"] == "create file", "parent"] = "wait SSH"
    labels = charts.phase_distributions(phases).get_yticklabels()
    inside = [label.get_text() for label in labels if label.get_text().startswith(style.INDENT)]
    assert [name.strip() for name in inside] == ["create file"]
    assert {label.get_horizontalalignment() for label in labels} == {"left"}


def test_orange_is_what_did_not_pass_and_nothing_else():
    orange = to_rgb(style.ORANGE)
    for chart in CHARTS.values():
        ax = chart(study(12))
        drawn = [*ax.patches, *ax.collections]
        faces = [tuple(face[:3]) for part in drawn for face in np.atleast_2d(part.get_facecolor()) if len(face)]
        faces += [to_rgb(line.get_color()) for line in ax.lines]
        assert orange not in faces or "did not pass" in ax.get_title("left")
    assert orange in [to_rgb(bar.get_facecolor()) for bar in charts.failures_by_cause(FRAMES["12 runs"]).patches]


def test_on_a_narrow_sheet_nothing_is_drawn_over_the_names_of_the_rows():
    with style.sheet(3.7):
        ax = charts.phase_distributions(FRAMES["300 runs"])
    names = {text.get_position()[1] for text in ax.texts}
    assert {name % 1 for name in names} == {0.5}  # between two rows
    marks = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    assert len(marks) > 1000
    assert np.nanmax(np.abs(marks - marks.round())) < 0.4
