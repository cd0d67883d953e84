"""The three meters, their bounds, and what is not known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastbench.analysis.cost import run_cost
from vastbench.timing import Moment

RUNNING, DESTROYED = Moment.between(62.5, 72.77, "poll"), Moment.between(98.5, 98.98, "action")


def cost(**changes):
    plain = {"usd_per_hour": 0.36, "total_s": 100.0, "running": RUNNING, "created": Moment.exact(0), "destroyed": DESTROYED}
    return run_cost(**(plain | changes))


def test_the_gpu_is_paid_only_while_running():
    assert cost().gpu_usd == pytest.approx((98.98 - 72.77) * 0.0001)


def test_the_naive_figure_is_wall_clock_times_price():
    assert cost().naive_usd == pytest.approx(0.01)


def test_storage_is_paid_from_creation_until_destroyed_by_a_month_of_720_hours():
    assert cost(storage_usd_per_gb_month=0.72, disk_gb=10).storage_usd == pytest.approx(98.98 / 3600 * 0.01)


def test_bytes_are_paid_both_ways():
    found = cost(bytes_down=2_000_000_000, bytes_up=1_000_000_000, usd_per_gb_down=0.01, usd_per_gb_up=0.02)
    assert found.transfer_usd == pytest.approx(0.04)


@pytest.mark.parametrize("changes", [{"running": None}, {"destroyed": None}, {"usd_per_hour": None}])
def test_a_meter_whose_readings_are_missing_is_missing(changes):
    assert cost(**changes).gpu_usd is None
    assert cost(**changes).total_usd is None


def test_a_run_that_never_ran_has_no_gpu_cost_to_show():
    assert cost(running=Moment.between(600, None, "poll")).gpu_usd is None


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_gpu_meter_s_bounds_hold_wherever_the_truth_lies(one, other):
    truth = DESTROYED.lower + one * 0.48 - (RUNNING.lower + other * 10.27)
    found = cost()
    assert found.gpu_lower_usd - 1e-12 <= truth * 0.0001 <= found.gpu_upper_usd + 1e-12
