"""Shares of runs and their intervals: independent ones as everywhere, those of one machine for what they are."""

import math

import numpy as np
import pytest
from scipy.stats import beta

from vastbench.analysis.survival.intervals import proportion_interval
from vastbench.analysis.survival.rates import rate

ALWAYS_FAILS = np.repeat(np.arange(10) > 0, 10)
TEN_EACH = np.repeat(np.arange(10), 10)


def drawn(machines: int, each: int, share: float, alike: float, seed: int) -> np.ndarray:
    """Runs by machine, beta-binomial: with that share of hits and that intra-machine correlation."""
    rng = np.random.default_rng(seed)
    own = rng.beta(share * (1 - alike) / alike, (1 - share) * (1 - alike) / alike, machines)
    return rng.random(machines * each) < np.repeat(own, each)


@pytest.mark.parametrize("machine", [None, np.arange(13), np.full(13, np.nan)])
def test_runs_on_machines_of_their_own_have_the_exact_interval(machine):
    found = rate(np.arange(13) < 9, machine)
    assert (found.hits, found.n, found.value, found.effective_n) == (9, 13, pytest.approx(9 / 13), 13)
    assert (found.low, found.high) == pytest.approx(proportion_interval(9, 13))


def test_a_machine_that_always_fails_counts_as_one_of_ten():
    found = rate(ALWAYS_FAILS, TEN_EACH)
    assert found.value == 0.9
    assert found.effective_n < 10
    assert (1 - found.high, 1 - found.low) == pytest.approx((0.001, 0.536), abs=5e-4)  # documented


def test_the_interval_is_that_of_the_effective_n_it_names():
    found = rate(ALWAYS_FAILS, TEN_EACH)
    n = found.effective_n
    assert found.low == pytest.approx(beta.ppf(0.025, 0.9 * n, n - 0.9 * n + 1))
    assert found.high == pytest.approx(beta.ppf(0.975, 0.9 * n + 1, n - 0.9 * n))


@pytest.mark.parametrize("passed", [True, False])
def test_where_all_runs_agree_each_machine_counts_once(passed):
    found = rate(np.full(100, passed), TEN_EACH)
    assert found.effective_n == 10
    assert (found.low, found.high) == pytest.approx(proportion_interval(10 * passed, 10))


def test_one_failed_run_of_a_hundred_says_little_of_likeness():
    assert rate(np.arange(100) > 0, TEN_EACH).effective_n == pytest.approx(2 / (1 / 76.2 + 1 / 10), abs=0.1)


@pytest.mark.parametrize("machines", [10, 20])
def test_the_interval_holds_where_few_machines_fail_and_those_often(machines):
    machine = np.repeat(np.arange(machines), 10)
    found = [rate(drawn(machines, 10, 0.1, 0.6, seed), machine) for seed in range(400)]
    assert sum(one.low <= 0.1 <= one.high for one in found) >= 0.94 * 400


def test_one_machine_with_several_runs_has_no_interval():
    found = rate(np.arange(20) < 5, np.zeros(20))
    assert (found.value, found.effective_n) == (0.25, 0)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_of_no_run_nothing_is_known():
    found = rate(np.zeros(0, dtype=bool), None)
    assert (found.hits, found.n, found.effective_n) == (0, 0, 0)
    assert all(map(math.isnan, (found.value, found.low, found.high)))


def test_each_machine_counts_as_much_however_often_it_was_rented():
    passed, machine = np.array([True] * 9 + [False] * 3), np.array([1] * 9 + [2, 3, 4])
    assert rate(passed, machine).value == 0.75
    found = rate(passed, machine, each="machine")
    assert found.value == pytest.approx(0.25)
    assert found.low < 0.25 < found.high


@pytest.mark.parametrize("each", ["run", "machine"])
@pytest.mark.parametrize(("machines", "share", "alike"), [(8, 0.2, 0.3), (20, 0.1, 0.1), (50, 0.3, 0.6)])
def test_the_interval_holds_the_truth_where_machines_resemble_themselves(machines, share, alike, each):
    machine = np.repeat(np.arange(machines), 8)
    found = [rate(drawn(machines, 8, share, alike, seed), machine, each=each) for seed in range(300)]
    held = sum(one.low <= share <= one.high for one in found)
    counted_in_full = sum(low <= share <= high for low, high in (proportion_interval(one.hits, one.n) for one in found))
    assert held >= 0.92 * 300
    assert counted_in_full < held
