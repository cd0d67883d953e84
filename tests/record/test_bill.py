"""A run's charges beside its meters: what rounding and bounds explain agrees, and what may still come is late."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastbench.record.cost import LATE_S, Bill, Charged, Cost, Match, reconciled, together, usd_for

COST = Cost(gpu_usd=0.3, gpu_lower_usd=0.29, gpu_upper_usd=0.31, storage_usd=0.01, transfer_usd=0.0)
ROUNDED = 0.0005
NOW, LATER = 60.0, LATE_S + 1.0

amounts = st.builds(Charged, st.floats(-1e3, 1e3), st.floats(0, 1))


@pytest.mark.parametrize(
    ("charged", "lacking", "age_s", "match"),
    [
        (0.31, False, NOW, Match.AGREES),
        (0.2996, False, LATER, Match.AGREES),  # below the meters' 0.3000, and rounded
        (0.3204, False, LATER, Match.AGREES),
        (0.2994, False, LATER, Match.DIFFERS),
        (0.3206, False, LATER, Match.DIFFERS),
        (0.3206, False, NOW, Match.DIFFERS),  # what is too much already does not wait
        (0.3206, True, None, Match.DIFFERS),
        (0.2994, False, NOW, Match.LATE),
        (0.2994, False, None, Match.LATE),  # the instance may still exist
        (0.31, True, NOW, Match.LATE),
        (0.31, True, LATER, Match.MISSING),
        (None, True, NOW, Match.LATE),
        (None, True, LATER, Match.MISSING),
    ],
)
def test_what_rounding_and_bounds_explain_agrees(charged, lacking, age_s, match):
    known = {} if charged is None else {"total": Charged(charged, ROUNDED)}
    found = reconciled(COST, known, lacking=lacking, age_s=age_s)
    assert (found.match, found.total_usd) == (match, charged)


@pytest.mark.parametrize("cost", [Cost(), Cost(naive_usd=0.5)])
def test_a_run_without_meters_is_charged_and_not_judged(cost):
    found = reconciled(cost, {"gpu": Charged(0.1, ROUNDED), "total": Charged(0.1, ROUNDED)}, lacking=False, age_s=LATER)
    assert found == Bill(gpu_usd=0.1, total_usd=0.1, rounding_usd=ROUNDED, match="not estimated")


def test_a_meter_that_is_not_named_is_missing_and_not_0():
    found = reconciled(COST, {"total": Charged(0.31, ROUNDED)}, lacking=False, age_s=LATER)
    assert (found.gpu_usd, found.storage_usd, found.transfer_usd) == (None, None, None)


@given(amounts, amounts)
def test_two_statements_of_one_amount_leave_what_both_allow(one, other):
    found = one.narrowed(other)
    assert found.rounding_usd <= one.rounding_usd + 1e-9
    assert one.low - 1e-9 <= found.low <= found.high <= one.high + 1e-9
    if one.low <= other.high and other.low <= one.high:
        assert found.rounding_usd <= other.rounding_usd + 1e-9
    else:
        assert found == one


@given(st.lists(amounts, max_size=5))
def test_the_roundings_of_a_sum_may_all_go_one_way(some):
    found = together(some)
    assert (found.low, found.high) == pytest.approx((sum(one.low for one in some), sum(one.high for one in some)), abs=1e-6)


def test_seconds_are_paid_by_the_hour():
    assert usd_for(3600.0, 0.36) == 0.36
    assert usd_for(0.0, 0.36) == 0.0
