"""Turnbull and Kaplan–Meier: published figures, an independent maximiser, and what must hold for any data."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import CensoredData, ecdf

from tests.analysis.published import COSMESIS, DIABETES, FLIES, LEUKAEMIA, read
from vastbench.analysis.survival.curves import NEGLIGIBLE, Curve, curve, kaplan_meier, negligible, turnbull
from vastbench.analysis.survival.npmle import TOLERANCE, maximise, support

INF = math.inf

ENDS = st.tuples(st.integers(0, 12), st.sampled_from([0, 0, 1, 2, 3, 5, INF]))
INTERVALS = st.lists(ENDS, min_size=1, max_size=25).map(
    lambda rows: np.array([(low, low + width) for low, width in rows], float).T
)
NEVER = st.lists(st.just((INF, INF)), max_size=3)


def table(found: Curve) -> list[tuple[float, float, float]]:
    """The innermost intervals with a mass of at least half of the last digit that is published."""
    rows = zip(found.left.tolist(), found.right.tolist(), found.mass.tolist(), strict=True)
    return [(left, right, round(mass, 4)) for left, right, mass in rows if mass >= 0.00005]


def test_the_estimates_for_the_breast_cosmesis_data_are_the_published_ones():
    """Fay and Shaw, Journal of Statistical Software 36 (2), 2010, §5: the output of the R package interval."""
    assert table(turnbull(*read(COSMESIS["radiation"]))) == [
        (4, 5, 0.0463),
        (6, 7, 0.0334),
        (7, 8, 0.0887),
        (11, 12, 0.0708),
        (24, 25, 0.0926),
        (33, 34, 0.0818),
        (38, 40, 0.1209),
        (46, 48, 0.4656),
    ]
    assert table(turnbull(*read(COSMESIS["both"]))) == [
        (4, 5, 0.0433),
        (5, 8, 0.0433),
        (11, 12, 0.0692),
        (16, 17, 0.1454),
        (18, 19, 0.1411),
        (19, 20, 0.1157),
        (24, 25, 0.0999),
        (30, 31, 0.0709),
        (35, 36, 0.1608),
        (44, 48, 0.0552),
        (48, 60, 0.0552),
    ]


def test_four_intervals_are_solved_by_hand():
    """The likelihood is (a + b)(b + c) c a for the masses of (0, 1], (1, 2] and (2, 3], greatest for a = c = 1/2."""
    found = turnbull([0, 1, 2, 0], [2, 3, 4, 1])
    assert table(found) == [(0, 1, 0.5), (2, 3, 0.5)]
    assert found.survival([0, 1, 2, 3])[0] == pytest.approx([1, 0.5, 0.5, 0], abs=1e-6)
    assert found.quantile(0.5) == (0, 3)


def test_the_same_four_with_both_ends_included_fall_on_1_and_2():
    """As lifelines has it, which gives P(T ≥ t): 1 up to 1, a half at 2 and nothing from 3 on."""
    found = turnbull(np.nextafter([0.0, 1.0, 2.0, 0.0], -1), np.array([2.0, 3.0, 4.0, 1.0]))
    reaching = found.survival(np.nextafter([1.0, 2.0, 3.0], 0))[1]
    assert reaching == pytest.approx([1, 0.5, 0], abs=1e-6)


def test_the_diabetes_data_have_the_median_that_lifelines_gives():
    """17 there, the first year that at most half of them reach: P(T ≥ 17) = S(16)."""
    found = turnbull(*read(DIABETES))
    reaching = [found.survival(year - 0.5)[1] for year in range(1, 45)]
    assert next(year for year, share in enumerate(reaching, 1) if share <= 0.5) == 17


@pytest.mark.parametrize("estimator", [turnbull, kaplan_meier])
def test_the_remissions_under_6_mp_are_those_of_the_textbooks(estimator):
    found = estimator(*read(LEUKAEMIA["6-MP"]))
    left = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    for share in found.survival(list(left)):
        assert share == pytest.approx(list(left.values()), abs=5e-4)
    assert found.quantile(0.5) == (23, 23)
    assert found.quantile(0.9) == (35, INF)
    assert math.isnan(found.middle(0.9))


@pytest.mark.parametrize("estimator", [turnbull, kaplan_meier])
@pytest.mark.parametrize(("group", "median"), [("control", 58), ("miR-137", 26)])
def test_the_flies_lived_as_long_as_lifelines_says(estimator, group, median):
    assert estimator(*read(FLIES[group])).middle(0.5) == median


def test_all_flies_together_lived_56_days_at_the_median():
    assert kaplan_meier(*read(" ".join(FLIES.values()))).middle(0.5) == 56


def possible(found: Curve, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Which observation (row) may lie in which innermost interval (column)."""
    point, known = found.left == found.right, (lower == upper)[:, None]
    after = (found.left > lower[:, None]) | ((found.left == lower[:, None]) & (~point | known))
    return (after & (found.right <= upper[:, None]) & (point | ~known)).astype(float)


def likelihood(mass: np.ndarray, inside: np.ndarray) -> float:
    return float(np.log(inside @ mass).sum())


@settings(deadline=None, max_examples=150)
@given(INTERVALS, NEVER)
def test_any_intervals_give_masses_that_add_up_and_meet_kuhn_tucker(bounds, never):
    lower, upper = np.column_stack([bounds, np.array(never, float).reshape(-1, 2).T])
    found = turnbull(lower, upper)
    assert found.mass.min() >= 0
    assert found.mass.sum() == pytest.approx(1)
    inside = possible(found, np.minimum(lower, found.left.max()), upper)
    # Each observation can be somewhere, every interval is of use to one, and moving mass to any interval gains nothing.
    assert (inside @ found.mass > 0).all()
    assert inside.any(axis=0).all()
    gain = (inside / (inside @ found.mass)[:, None]).mean(axis=0)
    assert gain.max() <= 1 + 1e-8
    assert gain[found.mass > 1e-3] == pytest.approx(1, abs=1e-3)


@settings(deadline=None, max_examples=25)
@given(INTERVALS)
def test_no_other_maximiser_finds_more_likely_masses(bounds):
    lower, upper = bounds
    found = turnbull(lower, upper)
    inside = possible(found, lower, upper)
    start = np.full(len(found.mass), 1 / len(found.mass))
    other = minimize(
        lambda mass: -float(np.log(np.maximum(inside @ mass, 1e-12)).sum()),
        start,
        bounds=[(0, 1)] * len(start),
        constraints={"type": "eq", "fun": lambda mass: mass.sum() - 1},
        method="SLSQP",
    )
    assert likelihood(found.mass, inside) >= -other.fun - 1e-4


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=40))
def test_for_exact_and_cut_off_times_turnbull_kaplan_meier_and_scipy_agree(rows):
    time, ended = (np.array(column) for column in zip(*rows, strict=True))
    lower, upper = time.astype(float), np.where(ended, time, INF)
    at = np.arange(0, 22, 0.5)
    expected = ecdf(CensoredData(uncensored=lower[ended], right=lower[~ended])).sf.evaluate(at) if ended.any() else np.ones(44)
    for estimator in (turnbull, kaplan_meier):
        found = estimator(lower, upper)
        seen = at <= lower.max()
        assert found.survival(at)[1][seen] == pytest.approx(expected[seen], abs=1e-5)


@settings(deadline=None, max_examples=100)
@given(INTERVALS, st.sampled_from([turnbull, kaplan_meier]))
def test_a_curve_falls_and_its_quantiles_rise(bounds, estimator):
    found = estimator(*bounds)
    for share in found.survival(np.arange(0, 20, 0.5)):
        assert (np.diff(share) <= 1e-12).all()
        assert 0 <= share.min() <= share.max() <= 1
    least, greatest = found.survival(np.arange(0, 20, 0.5))
    assert (least <= greatest).all()
    quantiles = np.array([found.quantile(p) for p in (0.1, 0.25, 0.5, 0.75, 0.9)])
    assert (quantiles[:, 0] <= quantiles[:, 1]).all()
    assert (quantiles[1:] >= quantiles[:-1]).all()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(1, 50), st.sampled_from([0.25, 0.5, 0.9]))
def test_on_a_common_grid_the_bin_that_the_truth_is_in_is_what_is_known(times, step, p):
    """Everyone polled at the same instants: the estimate is the frequencies of the bins, and the truth within their ends."""
    truth = np.array(times, dtype=float)
    upper = np.ceil(truth / step) * step
    found = turnbull(upper - step, upper)
    bins, counts = np.unique(upper, return_counts=True)
    assert found.right.tolist() == bins.tolist()
    assert found.mass == pytest.approx(counts / len(truth), abs=1e-5)
    low, high = found.quantile(p)
    assert low <= np.quantile(truth, p, method="averaged_inverted_cdf") <= high
    least, greatest = found.survival(truth)
    true = np.array([(truth > t).mean() for t in truth])
    assert (least - 1e-6 <= true).all()
    assert (true <= greatest + 1e-6).all()


def test_polls_at_random_phases_are_undone():
    """Ten-second polls read a median of 78 s as 83 s; the estimate does not."""
    rng = np.random.default_rng(4)
    truth = 78 * np.exp(rng.normal(0, 0.27, 3000))
    first = rng.uniform(0, 10, 3000)
    upper = first + np.ceil((truth - first) / 10) * 10
    assert np.median(upper) == pytest.approx(83, abs=1)
    assert turnbull(upper - 10, upper).middle(0.5) == pytest.approx(78, abs=1.5)


def test_mass_that_never_ends_is_a_plateau():
    for estimator in (turnbull, kaplan_meier):
        found = estimator([5, 6, INF, INF], [5, 6, INF, INF])
        assert found.survival(1e9) == pytest.approx((0.5, 0.5))
        assert found.quantile(0.4) == (6, 6)
        assert found.quantile(0.6) == (INF, INF)


def test_what_was_cut_off_may_end_later_even_if_others_never_do():
    for estimator in (turnbull, kaplan_meier):
        found = estimator([5, 6, 600, INF], [5, 6, INF, INF])
        assert found.survival(1e9) == pytest.approx((0, 0.5))
        assert found.quantile(0.6) == (600, INF)


@pytest.mark.parametrize("estimator", [turnbull, kaplan_meier, curve])
def test_few_observations_are_no_trouble(estimator):
    nothing = estimator([], [])
    assert all(map(math.isnan, nothing.quantile(0.5)))
    assert nothing.survival(5.0) == (1, 1)
    one = estimator([3.0], [8.0])
    assert one.quantile(0.5) == (3, 8)
    assert one.survival(8.0) == (0, 0)
    assert one.survival(5.0) == (0, 1)
    cut = estimator([3.0, 9.0], [INF, INF])
    assert cut.quantile(0.5) == (9, INF)
    assert estimator([INF], [INF]).survival(1e9) == (1, 1)
    assert estimator([INF, 4.0], [INF, INF]).survival(1e9) == (0, 1)


def test_a_left_end_is_not_included_and_an_exact_time_is():
    assert table(turnbull([5, 0], [9, 5])) == [(0, 5, 0.5), (5, 9, 0.5)]
    assert table(turnbull([5, 5], [9, 5])) == [(5, 5, 0.5), (5, 9, 0.5)]
    assert table(turnbull([4, 5], [9, 5])) == [(5, 5, 1.0)]


def test_kaplan_meier_is_used_where_bounds_are_narrow_beside_the_spread():
    rng = np.random.default_rng(8)
    middle = rng.normal(100, 10, 400)
    spread = float(np.subtract(*np.quantile(middle, [0.75, 0.25])))
    for part, method in ((0.99, "Kaplan–Meier"), (1.01, "Turnbull")):
        half = part * NEGLIGIBLE * spread / 2
        found = curve(middle - half, middle + half)
        assert found.method == method
        assert negligible(middle - half, middle + half) is (method != "Turnbull")
        assert found.middle(0.5) == pytest.approx(np.median(middle), abs=1)


def test_one_narrow_bound_among_equal_values_is_not_negligible():
    assert not negligible(np.array([1.0, 1.0]), np.array([1.1, 1.1]))
    assert negligible(np.array([1.0, 1.0]), np.array([1.0, 1.0]))


@pytest.mark.parametrize(
    ("lower", "upper", "said"),
    [
        ([1, 5], [2, 4], "Duration 1 lies between 5.0 and 4.0"),
        ([math.nan], [1], "Duration 0"),
        ([1, 2], [3], "2 lower and 1 upper"),
    ],
)
@pytest.mark.parametrize("estimator", [turnbull, kaplan_meier])
def test_bounds_that_cannot_be_are_refused(estimator, lower, upper, said):
    with pytest.raises(ValueError, match=said):
        estimator(lower, upper)


def test_thousands_of_wide_intervals_converge():
    rng = np.random.default_rng(2)
    truth = 78 * np.exp(rng.normal(0, 0.27, 5_000))
    first = rng.uniform(0, 10, 5_000)
    upper = first + np.ceil((truth - first) / 10) * 10
    cells = support(upper - 10, upper)
    found = maximise(cells, np.ones(5_000))
    assert found.converged
    assert found.excess <= TOLERANCE
    assert found.mass.sum() == pytest.approx(1)


def test_tens_of_thousands_of_exact_values_are_their_own_estimate():
    """Each value has the mass 1/n, and those that were cut off last share the rest: sums in between must not blur it."""
    times = 80 * np.exp(np.random.default_rng(1).normal(0, 0.35, 60_000))
    ended = times <= 200
    found = turnbull(np.minimum(times, 200), np.where(ended, times, np.inf))
    assert found.mass[:-1] == pytest.approx(1 / len(times), rel=1e-9)
    assert found.mass[-1] == pytest.approx(np.mean(~ended))
