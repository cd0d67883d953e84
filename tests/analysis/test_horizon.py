"""What comes within a time, and what the waiting until then takes."""

import math

import numpy as np
import pytest

import vastbench
from tests.analysis.made import CENSORED, FAILED, made
from vastbench.analysis.frames import phases_table
from vastbench.analysis.horizon import WITHIN_COLUMNS, ready_within
from vastbench.errors import UsageError
from vastbench.record.phases import PhaseName

RUNNING = PhaseName.WAIT_RUNNING


def passed(number: int, seconds: float):
    return made(number, {RUNNING: seconds})


def test_those_that_fail_are_waited_for_in_vain_to_the_end():
    failed = made(5, {}, stopped=RUNNING, outcome=FAILED, cause="boot_failed")
    (row,) = ready_within(
        phases_table([passed(1, 40.0), passed(2, 60.0), passed(3, 200.0), failed]), 100, quantity=RUNNING
    ).to_dict("records")
    assert (row["n"], row["rate"], row["mean_s"]) == (4, 0.5, (40 + 60 + 100 + 100) / 4)


def test_the_interval_of_the_mean_is_students_t_where_machines_differ():
    values = [40.0, 60.0, 80.0, 100.0, 120.0, 200.0]
    (row,) = ready_within(phases_table([passed(i, s) for i, s in enumerate(values)]), 150, quantity=RUNNING).to_dict("records")
    cut = np.minimum(values, 150)
    half = 2.5706 * cut.std(ddof=1) / math.sqrt(6)
    assert (row["mean_low_s"], row["mean_high_s"]) == pytest.approx((cut.mean() - half, cut.mean() + half), rel=1e-4)


def test_a_time_beyond_a_deadline_cannot_be_answered():
    late = made(2, {}, stopped=RUNNING, outcome=CENSORED, cause="deadline")
    phases = phases_table([passed(1, 40.0), late])
    assert ready_within(phases, 600, quantity=RUNNING)["rate"].tolist() == [0.5]
    with pytest.raises(UsageError, match="waited for 600 s only") as refused:
        ready_within(phases, 100, 601, quantity=RUNNING)
    assert refused.value.hint == "Give at most 600 s."


@pytest.mark.parametrize("times", [(), (0,), (-1, 5), (math.inf,), (math.nan,)])
def test_times_that_cannot_be_are_refused(times):
    with pytest.raises(UsageError, match=r"^Within"):
        ready_within(phases_table([passed(1, 40.0)]), *times)


def test_the_longer_one_waits_the_more_come():
    found = ready_within(vastbench.load(), 60, 120, 240)
    assert found.columns.tolist() == list(WITHIN_COLUMNS)
    assert found["rate"].is_monotonic_increasing
    assert found["mean_s"].is_monotonic_increasing
    assert (found["low_rate"] < found["rate"]).all()
    assert (found["mean_high_s"] > found["mean_s"]).all()


def test_of_no_run_nothing_is_known():
    (row,) = ready_within(phases_table([]), 60).to_dict("records")
    assert row["n"] == 0
    assert math.isnan(row["rate"])
    assert math.isnan(row["mean_s"])
