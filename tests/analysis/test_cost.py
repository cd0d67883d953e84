"""The three meters, their bounds, and what is not known."""

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.made import CENSORED, made
from vastbench.analysis.cost import COST_COLUMNS, METERS, cost_summary, reconciliation
from vastbench.analysis.frames import phases_table
from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.record.cost import Bill, Cost, Rates, Usage, cost_of
from vastbench.record.moments import Moment
from vastbench.record.phases import PhaseName

RUNNING, DESTROYED = Moment.between(62.5, 72.77, "poll"), Moment.between(98.5, 98.98, "action")


def cost(**changes):
    plain = {"usd_per_hour": 0.36, "total_s": 100.0, "running": RUNNING, "created": Moment.exact(0), "destroyed": DESTROYED}
    known = plain | changes
    rates = {one.name for one in fields(Rates)}
    used = Usage(**{name: value for name, value in known.items() if name not in rates})
    return cost_of(used, Rates(**{name: value for name, value in known.items() if name in rates}))


def test_the_gpu_is_paid_only_while_running():
    assert cost().gpu_usd == pytest.approx((98.98 - 72.77) * 0.0001)


def test_a_paused_machine_is_paid_for_its_disk_alone():
    found = cost(paused=Moment.between(80.0, 82.0, "action"), storage_usd_per_gb_month=0.72, disk_gb=10)
    assert found.gpu_usd == pytest.approx((82.0 - 72.77) * 0.0001)
    assert (found.gpu_lower_usd, found.gpu_upper_usd) == pytest.approx(((80.0 - 72.77) * 0.0001, (82.0 - 62.5) * 0.0001))
    assert found.storage_usd == cost(storage_usd_per_gb_month=0.72, disk_gb=10).storage_usd


def test_the_naive_figure_is_wall_clock_times_price():
    assert cost().naive_usd == pytest.approx(0.01)


def test_storage_is_paid_from_creation_until_destroyed_by_720_hour_months():
    assert cost(storage_usd_per_gb_month=0.72, disk_gb=10).storage_usd == pytest.approx(98.98 / 3600 * 0.01)


def test_bytes_are_paid_both_ways():
    found = cost(bytes_down=2_000_000_000, bytes_up=1_000_000_000, usd_per_gb_down=0.01, usd_per_gb_up=0.02)
    assert found.transfer_usd == pytest.approx(0.04)


@pytest.mark.parametrize("changes", [{"running": None}, {"destroyed": None}, {"usd_per_hour": None}])
def test_a_meter_whose_readings_are_missing_is_missing(changes):
    assert cost(**changes).gpu_usd is None
    assert cost(**changes).total_usd is None


def test_an_instance_never_seen_running_may_have_run_since_the_last_poll():
    found = cost(running=Moment.between(90.0, None, "poll"))
    assert (found.gpu_usd, found.gpu_lower_usd) == (0.0, 0.0)
    assert found.gpu_upper_usd == pytest.approx((98.98 - 90.0) * 0.0001)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_gpu_meter_s_bounds_hold_wherever_the_truth_lies(one, other):
    truth = DESTROYED.lower + one * 0.48 - (RUNNING.lower + other * 10.27)
    found = cost()
    assert found.gpu_lower_usd - 1e-12 <= truth * 0.0001 <= found.gpu_upper_usd + 1e-12


def spent(number, gpu, storage=0.25, transfer=0.125, naive=4.0, cause=""):
    """A run with the costs given in USD; one with a cause did not pass."""
    cost = Cost(gpu_usd=gpu, storage_usd=storage, transfer_usd=transfer, naive_usd=naive)
    if cause:
        return made(number, {}, stopped=PhaseName.WAIT_SSH, outcome=CENSORED, cause=cause, cost=cost)
    return made(number, {PhaseName.SEARCH: 1.0}, cost=cost)


def meters(*runs):
    return cost_summary(phases_table(runs)).set_index("meter")


def test_a_success_costs_what_the_failures_cost_too():
    found = meters(spent(1, 1.0), spent(2, 2.0), spent(3, 6.0, cause="deadline")).loc["gpu"]
    assert found.to_dict() == {"n": 3, "total_usd": 9.0, "per_run_usd": 3.0, "median_usd": 2.0, "per_success_usd": 4.5}


def test_all_meters_is_the_sum_of_three_and_the_naive_figure_stays_apart():
    found = meters(spent(1, 1.0), spent(2, 2.0, cause="deadline"))
    assert found.index.tolist() == ["gpu", "storage", "transfer", "all meters", "naive"]
    assert found.loc["all meters", ["n", "total_usd", "per_run_usd"]].tolist() == [2, 3.75, 1.875]
    assert found.loc["naive", "total_usd"] == 8.0
    assert found["total_usd"].drop("naive").tolist() == [3.0, 0.5, 0.25, 3.75]


def test_a_meter_that_is_not_known_is_not_taken_for_0():
    found = meters(spent(1, 3.0), spent(2, None, cause="deadline"))
    assert found.loc["gpu", ["n", "per_run_usd", "median_usd"]].tolist() == [1, 3.0, 3.0]
    assert found.loc["all meters", ["n", "per_run_usd"]].tolist() == [1, 3.375]


def test_storage_counts_also_for_a_run_whose_gpu_meter_is_unknown():
    found = meters(spent(1, 3.0), spent(2, None, cause="deadline"))
    assert found.loc["all meters", ["total_usd", "per_success_usd"]].tolist() == [3.75, 3.75]


def test_without_success_there_is_no_cost_per_success():
    found = meters(spent(1, 1.0, cause="deadline"))
    assert found["per_success_usd"].isna().all()
    assert found.loc["gpu", "total_usd"] == 1.0


def test_a_run_that_we_stopped_is_not_counted():
    assert meters(spent(1, 1.0), spent(2, 5.0, cause="interrupted")).loc["gpu", ["n", "total_usd"]].tolist() == [1, 1.0]


def test_the_seed_run_cost_a_quarter_of_what_it_reported():
    found = meters(read_run(shared("data/runs") / "2026-01-02-rtx4090.json"))["per_success_usd"]
    assert found["gpu"] == pytest.approx(0.001096, abs=1e-6)
    assert found["naive"] == pytest.approx(0.004644, abs=1e-6)
    assert math.isnan(found["storage"])


def test_no_runs_have_no_costs():
    found = cost_summary(phases_table([]))
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == COST_COLUMNS
    assert found["meter"].tolist() == list(METERS)
    assert found["n"].tolist() == [0] * 5
    assert found.drop(columns=["meter", "n"]).isna().all(axis=None)


def charged(number, match, usd, *, gpu=1.0):
    """A run of :func:`spent` whose account was charged ``usd`` in all, of which the meters other than the GPU's are 0.375."""
    bill = Bill(gpu_usd=usd - 0.375, storage_usd=0.25, transfer_usd=0.125, total_usd=usd, rounding_usd=0.0005, match=match)
    return replace(spent(number, gpu), bill=bill)


def test_residuals_are_what_was_charged_less_what_the_meters_say():
    made = reconciliation(phases_table([charged(1, "agrees", 1.5), charged(2, "differs", 3.375, gpu=2.0)]))
    assert made.runs["residual_usd"].tolist() == pytest.approx([0.125, 1.0])
    assert made.runs["gpu_residual_usd"].tolist() == pytest.approx([0.125, 1.0])
    found = made.meters.set_index("meter")
    sums = ["n", "estimated_usd", "charged_usd", "residual_usd"]
    assert found.loc["gpu", sums].tolist() == pytest.approx([2, 3, 4.125, 1.125])
    assert found.loc["storage", "residual_usd"] == found.loc["transfer", "residual_usd"] == 0.0
    assert found.loc["all meters", ["residual_usd", "rounding_usd"]].tolist() == pytest.approx([1.125, 0.001])
    assert made.differing == 1


def test_charges_that_have_not_all_come_are_in_no_sum():
    late = replace(spent(3, 1.0), bill=Bill(match="late"))
    half = charged(4, "late", 0.4)
    made = reconciliation(phases_table([charged(1, "agrees", 1.375), late, half, spent(5, 1.0)]))
    assert made.runs["charge"].tolist() == ["agrees", "late", "late"]
    assert made.meters["n"].tolist() == [1, 1, 1, 1]


def test_without_charges_there_is_no_sum_rather_than_0():
    made = reconciliation(phases_table([spent(1, 1.0)]))
    assert (len(made.runs), made.meters["n"].tolist(), made.differing) == (0, [0] * 4, 0)
    assert made.meters.drop(columns=["meter", "n"]).isna().all(axis=None)


def test_a_meter_that_the_account_does_not_name_has_no_residual():
    bare = replace(spent(1, 1.0), bill=Bill(total_usd=1.375, rounding_usd=0.0005, match="agrees"))
    made = reconciliation(phases_table([bare]))
    assert math.isnan(made.runs["gpu_residual_usd"].iloc[0])
    assert made.meters["n"].tolist() == [0, 0, 0, 1]
