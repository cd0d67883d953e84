"""The frames' schema, and that what is missing stays missing."""

import math
from dataclasses import replace

import pytest
from matplotlib import pyplot as plt

from vastbench.analysis.frames import phases_table, runs_table
from vastbench.charts import phase_waterfall
from vastbench.report.files import read_run
from vastbench.resources import shared
from vastbench.timing import PhaseName

RUN = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_a_run_is_one_row_with_units_in_the_names():
    (row,) = runs_table([RUN]).to_dict("records")
    assert row["wait_running_s"] == pytest.approx(72.77)
    assert row["unattributed_s"] == pytest.approx(4.21)
    assert row["naive_cost_usd"] == pytest.approx(0.004644, abs=1e-6)


def test_a_phase_that_was_not_reached_has_no_number():
    frame = runs_table([replace(RUN, phases=RUN.phases[:2], total_s=None)])
    assert math.isnan(frame["verify_file_s"].iloc[0])
    assert math.isnan(frame["total_s"].iloc[0])


def test_no_runs_are_an_empty_frame_of_the_same_columns():
    assert list(runs_table([]).columns) == list(runs_table([RUN]).columns)
    assert list(phases_table([]).columns) == list(phases_table([RUN]).columns)
    assert runs_table([]).dtypes.equals(runs_table([RUN]).dtypes[runs_table([]).columns]) or len(runs_table([])) == 0


def test_phases_carry_their_bounds():
    frame = phases_table([RUN]).set_index("phase")
    running = frame.loc[str(PhaseName.WAIT_RUNNING)]
    assert running["end_upper_s"] - running["end_lower_s"] == pytest.approx(10.27 + 0.35)
    assert frame.loc[str(PhaseName.PULL), "parent"] == str(PhaseName.WAIT_RUNNING)


def test_the_waterfall_shows_each_finished_phase_once_with_unit_and_n():
    ax = phase_waterfall(phases_table([RUN]))
    assert len(ax.patches) == 7
    assert "seconds" in ax.get_xlabel()
    assert "n = 1" in ax.get_title("left")


def test_the_waterfall_refuses_several_runs():
    with pytest.raises(ValueError, match="one run"):
        phase_waterfall(phases_table([RUN, replace(RUN, id="other")]))
