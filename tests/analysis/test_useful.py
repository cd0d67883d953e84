"""How long until a GPU could be used, and the run that stands for a study."""

import math
from dataclasses import replace

import pytest

from tests.analysis.made import CENSORED, FAILED, made
from vastbench.analysis.frames import phases_table
from vastbench.analysis.typical import median_run
from vastbench.analysis.useful import USEFUL_COLUMNS, until_useful
from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.record.phases import Outcome, PhaseName

SEED = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")


def test_the_published_run_was_useful_after_its_ssh_wait():
    (row,) = until_useful(phases_table([SEED])).to_dict("records")
    assert row["n"] == 1
    assert row["median_s"] == pytest.approx(1.26 + 1.59 + 72.77 + 12.36, abs=0.02)
    assert row["earliest_median_s"] + row["bounds_s"] == pytest.approx(row["median_s"])
    assert math.isnan(row["median_low_s"])


def test_a_run_that_failed_later_was_of_no_use():
    wrong = replace(SEED, id="wrong", outcome=Outcome.FAILED, cause="check_failed")
    frame = until_useful(phases_table([wrong]))
    assert frame[["n", "attempted"]].to_numpy().tolist() == [[0, 1]]
    assert math.isnan(frame["median_s"].iloc[0])


def test_runs_that_failed_count_as_never_and_cut_off_ones_as_longer():
    good = [made(i, {PhaseName.WAIT_RUNNING: 50.0 + 10 * i, PhaseName.WAIT_SSH: 5.0}) for i in range(4)]

    def half(*ends: Outcome) -> float:
        vain = [made(10 + i, {}, stopped=PhaseName.WAIT_RUNNING, outcome=end, cause="x") for i, end in enumerate(ends)]
        return float(until_useful(phases_table([*good, *vain]))["median_s"].iloc[0])

    for ends, expected in [([], 70), ([FAILED], 75), ([CENSORED], 75), ([FAILED, CENSORED], 80), ([CENSORED] * 3, 85)]:
        assert half(*ends) == pytest.approx(expected)
    assert math.isnan(half(*[FAILED] * 5))


def test_no_run_is_one_row_of_the_same_columns():
    frame = until_useful(phases_table([]))
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == USEFUL_COLUMNS
    assert len(frame) == 1


def test_the_median_run_is_the_one_nearest_the_median_that_passed():
    spread = [replace(SEED, id=f"run-{total}", total_s=total) for total in (100.0, 250.0, 130.0)]
    failed = replace(SEED, id="failed", total_s=131.0, outcome=Outcome.FAILED, cause="x")
    assert median_run(phases_table([*spread, failed]))["run"].unique().tolist() == ["run-130.0"]
    assert median_run(phases_table([failed])).empty
    assert median_run(phases_table([])).empty
