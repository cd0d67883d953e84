"""Tests of two groups and P(A < B): published figures, closed forms, and pairs counted one by one."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import CensoredData, logrank, mannwhitneyu

from tests.analysis.published import COSMESIS, FLIES, LEUKAEMIA, read
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.ranks import chance, difference, holm, sun_scores

INF = math.inf
NONE = Durations(np.empty(0), np.empty(0))


def group(text: str) -> Durations:
    return Durations(*read(text))


def exactly(values, machine=None) -> Durations:
    values = np.asarray(values, float)
    return Durations(values, values, None if machine is None else np.asarray(machine, float))


def test_the_log_rank_test_gives_the_published_figures():
    """Freireich et al. 1963, in every textbook 16.79; Walton's flies, 122.25 in the documentation of lifelines."""
    found = difference(group(LEUKAEMIA["6-MP"]), group(LEUKAEMIA["placebo"]))
    assert (found.name, round(found.statistic, 3), f"{found.p_value:.2e}") == ("log-rank", 16.793, "4.17e-05")
    assert difference(group(FLIES["miR-137"]), group(FLIES["control"])).statistic == pytest.approx(122.249, abs=5e-4)


def test_the_log_rank_test_on_intervals_gives_the_published_figures():
    """Fay and Shaw 2010, §5.1: Z = −2.6684, p = 0.007622, and a score of −9.141846 for radiation alone."""
    alone, both = group(COSMESIS["radiation"]), group(COSMESIS["both"])
    found = difference(alone, both)
    assert (found.name, round(found.statistic, 4), round(found.p_value, 6)) == ("log-rank on intervals", 2.6684, 0.007622)
    scores = sun_scores(np.append(alone.lower, both.lower), np.append(alone.upper, both.upper))
    assert scores[: len(alone)].sum() == pytest.approx(-9.141846, abs=5e-7)
    assert scores.sum() == pytest.approx(0, abs=1e-6)
    swapped = difference(both, alone)
    assert (swapped.statistic, swapped.p_value) == pytest.approx((-found.statistic, found.p_value))


def test_of_exact_times_the_scores_are_those_of_the_log_rank_test():
    """1 − Λ where it ended and −Λ where it was cut off, Λ by hand: 1/4, 1/4 + 1/2, 1/4 + 1/2 + 1."""
    assert sun_scores(np.array([1.0, 2, 3, 4]), np.array([1.0, INF, 3, 4])) == pytest.approx([0.75, -0.25, 0.25, -0.75])


@pytest.mark.parametrize(("a", "b", "p"), [([1, 2, 3], [4, 5, 6], 0.1), ([1, 2, 3, 4], [5, 6, 7, 8], 2 / 70)])
def test_few_runs_have_a_p_value_of_their_own_that_no_effect_undercuts(a, b, p):
    found = difference(exactly(a), exactly(b))
    assert (found.name, found.p_value, found.least) == ("Mann–Whitney, exact", pytest.approx(p), pytest.approx(p))
    assert difference(exactly(a), exactly([1000 * value for value in b])).p_value == found.p_value


TIMES = st.lists(st.integers(1, 9), min_size=2, max_size=6)


@settings(max_examples=60, deadline=None)
@given(TIMES, TIMES)
def test_with_ties_the_p_value_counts_every_split(a, b):
    """Against the same statistic, U with ties counted half, of every choice of runs."""
    pooled = np.array(a + b, float)
    found = difference(exactly(a), exactly(b))
    if len(set(pooled)) == len(pooled):
        assert found.p_value == pytest.approx(mannwhitneyu(a, b, method="exact").pvalue)
        return

    def u(rows):
        one, other = pooled[list(rows)], np.delete(pooled, list(rows))
        return abs((one[:, None] > other).sum() + (one[:, None] == other).sum() / 2 - len(one) * len(other) / 2)

    seen, all_of_them = u(range(len(a))), [u(rows) for rows in combinations(range(len(pooled)), len(a))]
    assert found.p_value == pytest.approx(np.mean([value >= seen - 1e-9 for value in all_of_them]))
    assert found.least == pytest.approx(np.mean([value >= max(all_of_them) - 1e-9 for value in all_of_them]))


def test_many_runs_that_were_cut_off_are_left_to_scipy():
    rng = np.random.default_rng(1)
    a, b = (np.minimum(rng.exponential(scale, 40), 3.0) for scale in (1.0, 1.6))
    groups = [Durations(x, np.where(x < 3, x, INF)) for x in (a, b)]
    expected = logrank(*(CensoredData(x[x < 3], right=x[x >= 3]) for x in (a, b)))
    assert difference(*groups).p_value == pytest.approx(expected.pvalue)


def test_repeats_on_a_machine_are_no_new_evidence():
    """Five copies of each run on its machine would make any difference significant, were they independent."""
    a, b = [1.0, 3, 5, 7, 9, 11], [4.0, 6, 8, 10, 12, 14]
    copied = [exactly(np.repeat(values, 5), np.repeat(np.arange(6) + start, 5)) for values, start in ((a, 0), (b, 10))]
    taken_as_new = [exactly(np.repeat(values, 5)) for values in (a, b)]
    once = [exactly(values) for values in (a, b)]
    assert difference(*taken_as_new).p_value < 0.005 < 0.1 < difference(*once).p_value
    assert difference(*copied).p_value == pytest.approx(difference(*once).p_value, rel=0.35)
    wide, narrow = (chance(*groups) for groups in (copied, taken_as_new))
    assert wide.value == narrow.value == chance(*once).value
    assert wide.high - wide.low > 1.8 * (narrow.high - narrow.low)


def test_one_machine_allows_neither_test_nor_interval():
    one = exactly([1.0, 2, 3], [7, 7, 7])
    assert math.isnan(difference(one, exactly([4.0, 5, 6], [1, 2, 3])).p_value)
    assert math.isnan(chance(one, exactly([4.0, 5, 6], [1, 2, 3])).low)


@settings(max_examples=80, deadline=None)
@given(TIMES, TIMES)
def test_the_chance_is_the_share_of_pairs_with_ties_counted_half(a, b):
    pairs = np.mean([(x < y) + (x == y) / 2 for x in a for y in b])
    found = chance(exactly(a), exactly(b))
    assert found.value == pytest.approx(pairs)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    assert chance(exactly(b), exactly(a)).value == pytest.approx(1 - pairs)


def test_what_never_ended_comes_after_all_that_did_and_beside_each_other():
    never = [INF]
    assert chance(exactly([1, 2, *never]), exactly([3, *never])).value == pytest.approx((1 + 1 + 1 + 1 + 0 + 0.5) / 6)
    cut_off = Durations(np.array([1.0, 10]), np.array([1.0, INF]))
    # 10 and cut off may end after 12 or before: half; after 5 for certain.
    assert chance(cut_off, exactly([5, 12])).value == pytest.approx((1 + 1 + 0 + 0.5) / 4)


def test_what_was_cut_off_counts_by_what_is_known_of_the_others():
    """Efron 1967: the run cut off at 2 ends at 3 or 4, as likely as those that lasted so long."""
    a = Durations(np.array([1.0, 2, 3, 4]), np.array([1.0, INF, 3, 4]))
    assert chance(a, exactly([3.5])).value == pytest.approx(1 / 4 + 3 / 8)


def test_bounds_that_overlap_count_half():
    a, b = Durations(np.array([0.0]), np.array([10.0])), Durations(np.array([5.0]), np.array([15.0]))
    assert chance(a, b).value == 0.5
    assert chance(a, Durations(np.array([10.0]), np.array([20.0]))).value == 1


def test_a_difference_without_exception_is_as_sure_as_its_pairs():
    """Eleven disjoint pairs, all in one order: the exact interval of 11 of 11 goes down to 0.025^(1/11)."""
    found = chance(exactly(range(11)), exactly(range(20, 33)))
    assert (found.value, found.low, found.high) == (1, pytest.approx(0.025 ** (1 / 11)), 1)


@pytest.mark.parametrize("empty", [NONE, exactly([INF, INF])])
def test_nothing_is_said_of_nothing(empty):
    for a, b in ((empty, NONE), (NONE, empty), (empty, empty)):
        assert math.isnan(difference(a, b).p_value)
        assert math.isnan(chance(a, b).value)


def test_holms_adjustment_by_hand():
    """Of four: 0.005 × 4, 0.01 × 3, 0.03 × 2 and 0.04 × 1, the last no less than the one before."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, math.nan, 0.9])) == pytest.approx([1, math.nan, 1], nan_ok=True)
    assert len(holm(np.empty(0))) == 0


ENDS = st.tuples(st.integers(0, 12), st.sampled_from([0, 1, 3, 5, INF]), st.sampled_from([1.0, 2.0, 3.0, math.nan]))
GROUPS = st.lists(ENDS, max_size=12).map(
    lambda rows: Durations(
        np.array([low for low, _, _ in rows], float),
        np.array([low + width for low, width, _ in rows], float),
        np.array([machine for _, _, machine in rows], float),
    )
)


@settings(max_examples=150, deadline=None)
@given(GROUPS, GROUPS)
def test_whatever_is_known_both_stay_within_their_range(a, b):
    test, found = difference(a, b), chance(a, b)
    assert math.isnan(test.p_value) or 0 <= test.p_value <= 1
    if not math.isnan(found.value):
        assert 0 <= found.value <= 1
        assert found.value == pytest.approx(1 - chance(b, a).value, abs=1e-6)
    if not math.isnan(found.low):
        assert 0 <= found.low <= found.value + 1e-9
        assert found.value - 1e-9 <= found.high <= 1
