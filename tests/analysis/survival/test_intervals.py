"""The exact intervals, against the binomial distribution that defines them and by simulation."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from vastbench.analysis.survival.intervals import proportion_interval, proportion_intervals, quantile_levels


def at_most(k: int, n: int, p: float) -> float:
    """The binomial distribution function, written out."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


@settings(deadline=None)
@given(st.integers(1, 80).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_ends_of_a_proportions_interval_leave_2_5_percent_on_each_side(case):
    k, n = case
    low, high = proportion_interval(k, n)
    assert low <= k / n <= high
    assert low == 0 if k == 0 else 1 - at_most(k - 1, n, low) == pytest.approx(0.025, abs=1e-6)
    assert high == 1 if k == n else at_most(k, n, high) == pytest.approx(0.025, abs=1e-6)


def test_an_effective_n_need_not_be_whole():
    low, high = proportion_interval(2.5, 7.5)
    assert (low, high) == pytest.approx((beta.ppf(0.025, 2.5, 6.0), beta.ppf(0.975, 3.5, 5.0)))


def test_no_failure_in_13_runs_leaves_up_to_a_quarter():
    assert proportion_interval(0, 13) == (0.0, pytest.approx(0.2471, abs=1e-4))


def test_the_interval_widens_with_the_confidence():
    assert proportion_interval(0, 13, confidence=0.99)[1] > 0.3


def test_of_no_case_nothing_is_known():
    assert all(map(math.isnan, proportion_interval(0, 0)))


@pytest.mark.parametrize(("k", "n"), [(3, 2), (1, 0), (-1, 4)])
def test_a_count_that_cannot_be_is_refused(k, n):
    with pytest.raises(ValueError, match="must"):
        proportion_interval(k, n)


def test_many_proportions_at_once_are_those_of_scipy_one_by_one():
    low, high = proportion_intervals([0, 1, 7, 20], 20, 0.9)
    for k, one, other in zip([0, 1, 7, 20], low, high, strict=True):
        assert (one, other) == pytest.approx(tuple(binomtest(k, 20).proportion_ci(0.9, method="exact")))


@pytest.mark.parametrize(("n", "p"), [(6, 0.5), (11, 0.5), (40, 0.9), (100, 0.25), (17.3, 0.5)])
def test_the_levels_of_a_quantile_leave_2_5_percent_on_either_side(n, p):
    """The value of the fractional rank r = level × (n + 1) has the distribution Beta(r, n + 1 − r) (Hutson 1999)."""
    for level, below in zip(quantile_levels(n, p), (0.975, 0.025), strict=True):
        rank = level * (n + 1)
        assert beta(rank, n + 1 - rank).cdf(p) == pytest.approx(below, abs=1e-6)


@pytest.mark.parametrize(("p", "fewest"), [(0.5, 6), (0.9, 36)])
def test_too_few_values_have_no_levels(p, fewest):
    assert quantile_levels(fewest - 1, p) is None
    assert quantile_levels(0.0, p) is None
    low, high = quantile_levels(fewest, p)
    assert low * (fewest + 1) >= 1
    assert high * (fewest + 1) <= fewest


@pytest.mark.parametrize(("p", "confidence"), [(0.0, 0.95), (0.5, 1.0)])
def test_levels_of_what_cannot_be_are_refused(p, confidence):
    with pytest.raises(ValueError, match="both must lie between 0 and 1"):
        quantile_levels(10, p, confidence)
