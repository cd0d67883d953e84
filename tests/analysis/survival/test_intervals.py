"""The exact intervals, against the binomial distribution that defines them and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binomtest, quantile_test, uniform

from vastbench.analysis.survival.intervals import proportion_interval, proportion_intervals, quantile_interval, quantile_levels


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


@pytest.mark.parametrize("p", [0.5, 0.9])
@pytest.mark.parametrize("n", [6, 7, 10, 20, 36, 37, 100, 300])
def test_the_ends_of_a_quantiles_interval_leave_2_5_percent_on_each_side(n, p):
    """The l-th and u-th smallest values (from 1): P(quantile < l-th) = P(B < l) and P(quantile > u-th) = P(B ≥ u)."""
    low, high = quantile_interval(range(1, n + 1), p)
    if p == 0.9 and n < 36:
        assert math.isnan(low)
        assert math.isnan(high)
    else:
        below, above = at_most(int(low) - 1, n, p), 1 - at_most(int(high) - 1, n, p)
        assert max(below, above) <= 0.025
        assert at_most(int(low), n, p) > 0.025
        assert 1 - at_most(int(high) - 2, n, p) > 0.025


@pytest.mark.parametrize(("p", "fewest"), [(0.5, 6), (0.9, 36)])
def test_too_few_values_have_no_interval(p, fewest):
    assert all(map(math.isnan, quantile_interval(range(fewest - 1), p)))
    assert all(map(math.isfinite, quantile_interval(range(fewest), p)))


@pytest.mark.parametrize(("n", "ranks"), [(6, (1, 6)), (10, (2, 9)), (20, (6, 15)), (100, (40, 61))])
def test_the_median_s_ranks_are_those_of_the_published_tables(n, ranks):
    assert quantile_interval(range(1, n + 1), 0.5) == ranks


def test_the_interval_covers_the_true_median_as_often_as_the_binomial_says():
    samples = np.random.default_rng(20).lognormal(size=(1000, 15))
    covered = np.mean([low <= 1 <= high for low, high in (quantile_interval(sample, 0.5) for sample in samples)])
    exact = at_most(11, 15, 0.5) - at_most(3, 15, 0.5)
    assert exact == pytest.approx(0.9648, abs=1e-4)
    assert covered == pytest.approx(exact, abs=3 * math.sqrt(exact * (1 - exact) / 1000))


def test_neither_order_nor_missing_values_matter():
    assert quantile_interval([math.nan, 3, 1, 5, 2, math.nan, 6, 4], 0.5) == (1, 6)


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_no_values_have_no_interval(values):
    assert all(map(math.isnan, quantile_interval(values, 0.5)))


def test_less_confidence_needs_fewer_values():
    assert quantile_interval(range(1, 6), 0.5, confidence=0.9) == (1, 5)


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


def test_the_quantile_test_of_scipy_s_documentation_is_inside():
    """Of its 100 uniform numbers 45 are at most 0.5, with p = 0.368: not enough to reject a median of 0.5."""
    values = uniform.rvs(size=100, random_state=np.random.default_rng(6981396440634228121))
    found = quantile_test(values, q=0.5, p=0.5)
    assert (found.statistic, found.pvalue) == (45, pytest.approx(0.36820161732669576))
    low, high = quantile_interval(values, 0.5)
    assert low < 0.5 < high
