"""Durations from the tidy frame, their quantiles with intervals that hold, their curves and their plateau."""

import math
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, bootstrap

from tests.analysis.made import CENSORED, FAILED, made
from tests.analysis.published import LEUKAEMIA, read
from vastbench.analysis.durations import curve_table, durations
from vastbench.analysis.frames import phases_table
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.quantiles import MOST_STEPS, curve_steps, plateau, quantile_estimate, quantile_estimates
from vastbench.record.phases import PhaseName

INF = math.inf
SEARCH, RUNNING, TOTAL = PhaseName.SEARCH, PhaseName.WAIT_RUNNING, PhaseName.TOTAL
RUNS = [
    made(1, {SEARCH: 1.0, RUNNING: 50.0}, rest=0.5, width=2.0),
    made(2, {SEARCH: 1.0}, stopped=RUNNING, outcome=CENSORED, cause="deadline"),
    made(3, {SEARCH: 1.0}, stopped=RUNNING, outcome=FAILED, cause="boot_failed"),
    made(4, {SEARCH: 1.0}, stopped=RUNNING, outcome=CENSORED, cause="interrupted"),
    made(5, {SEARCH: 1.0, RUNNING: 70.0}, earlier={RUNNING: 300.0}),
]
ROWS = st.tuples(st.floats(0, 100), st.sampled_from([0.0, 1.0, 20.0, INF]))
"""A duration's lower bound, and how wide what is known of it is."""


def polled(truth: np.ndarray, step: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What polls every ``step`` seconds from a random instant on know of each duration."""
    first = rng.uniform(0, step, len(truth))
    upper = first + np.ceil((truth - first) / step) * step
    return np.maximum(upper - step, 0), upper


def test_each_try_is_the_interval_that_is_known_of_it():
    found = durations(phases_table(RUNS), RUNNING)
    assert found.lower.tolist() == [48, 600, INF, 70]
    assert found.upper.tolist() == [50, INF, INF, 70]
    assert found.machine is None
    assert found.ended.tolist() == [True, False, False, True]


def test_a_total_is_exact_and_that_of_a_run_that_failed_never_comes():
    found = durations(phases_table(RUNS), TOTAL)
    assert found.lower.tolist() == [51.5, 601.0, INF, 371.0]
    assert found.upper.tolist() == [51.5, INF, INF, 371.0]


def test_a_phase_that_nobody_reached_has_no_durations():
    found = durations(phases_table(RUNS), PhaseName.WAIT_SSH)
    assert len(found) == 0
    assert quantile_estimate(found, 0.5).n == 0
    assert math.isnan(quantile_estimate(found, 0.5).value)


def test_machines_are_carried_along_those_unknown_as_missing():
    phases = phases_table(RUNS)
    phases["machine"] = phases["run"].map({"run-1": 7, "run-5": 9}).astype("Int64")
    assert durations(phases, RUNNING).machine.tolist()[::3] == [7, 9]
    assert np.isnan(durations(phases, RUNNING).machine[1:3]).all()


@pytest.mark.parametrize(("n", "p", "ranks"), [(6, 0.5, (1, 6)), (10, 0.5, (2, 9)), (100, 0.5, (40, 61)), (36, 0.9, (29, 36))])
def test_the_interval_lies_just_within_the_exact_order_statistics(n, p, ranks):
    """The exact interval holds at least as often as asked, the next narrower one less often: in between it is just right."""
    values = np.arange(1.0, n + 1)
    found = quantile_estimate(Durations(values, values), p)
    low, high = ranks
    assert low <= found.low < low + 1
    assert high - 1 < found.high <= high
    assert found.value == pytest.approx(np.quantile(values, p, method="averaged_inverted_cdf"))
    assert found.method == "Kaplan–Meier; order statistics"


@pytest.mark.parametrize(("n", "p"), [(5, 0.5), (35, 0.9), (1, 0.5)])
def test_too_few_have_a_value_and_no_interval(n, p):
    values = np.arange(1.0, n + 1)
    found = quantile_estimate(Durations(values, values), p)
    assert math.isfinite(found.value)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(("step", "fails"), [(1, 0.0), (10, 0.0), (10, 0.2)])
def test_of_polled_runs_19_of_20_intervals_hold_the_truth(step, fails):
    rng, truth, held = np.random.default_rng(11), 78.0, 0
    # Of all tries, the failures among them, the median is a higher quantile of those that end.
    median = truth * math.exp(0.27 * NormalDist().inv_cdf(0.5 / (1 - fails)))
    for _ in range(300):
        lower, upper = polled(truth * np.exp(rng.normal(0, 0.27, 30)), step, rng)
        failed = rng.random(30) < fails
        lower[failed] = upper[failed] = INF
        found = quantile_estimate(Durations(lower, upper), 0.5)
        held += found.low <= median <= found.high
    assert 0.92 <= held / 300 <= 0.99


def test_intervals_of_runs_on_few_machines_hold_only_when_clustered():
    rng, held, naive = np.random.default_rng(12), 0, 0
    for _ in range(300):
        machine = rng.integers(0, 10, 60)
        values = np.exp(rng.normal(0, 0.2, 10)[machine] + rng.normal(0, 0.17, 60))
        found, alone = (quantile_estimate(Durations(values, values, known), 0.5) for known in (machine, None))
        held += found.low <= 1 <= found.high
        naive += alone.low <= 1 <= alone.high
    assert 0.92 <= held / 300 <= 0.99
    assert naive / 300 < 0.8


def test_three_machines_have_an_interval_that_holds_in_every_draw():
    """Student's t on the machines' medians: by their own variance one in eight had an interval, and half of these missed."""
    rng, held = np.random.default_rng(15), 0
    machine = np.arange(60) % 3
    for _ in range(150):
        values = np.exp(rng.normal(0, 0.3, 3)[machine] + rng.normal(0, 0.25, 60))
        found = quantile_estimate(Durations(values, values, machine), 0.5)
        held += found.low <= 1 <= found.high
    assert 0.90 <= held / 150 <= 0.99
    assert (found.effective_n, found.method) == (3, "Kaplan–Meier; t on the medians of machines")


def test_the_interval_of_few_machines_is_that_of_their_medians():
    """By hand: the machines' medians are 1, e and e²; s of the logarithms is 1, t(2) at 97.5 % is 4.30265."""
    machine = np.repeat([1, 2, 3], 7)
    values = np.exp(np.repeat([0.0, 1, 2], 7)) * np.tile([0.9, 0.95, 0.98, 1, 1.02, 1.05, 1.1], 3)
    found = quantile_estimate(Durations(values, values, machine), 0.5)
    reach = 4.30265 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((math.exp(1 - reach), math.exp(1 + reach)), rel=1e-5)
    wide = quantile_estimate(Durations(values - 0.3, values + 0.3, machine), 0.5)
    assert wide.low < found.low < found.high < wide.high


@pytest.mark.parametrize(
    ("machines", "each", "p"), [(1, 30, 0.5), (2, 30, 0.5), (3, 5, 0.5), (5, 5, 0.5), (5, 60, 0.9)], ids=str
)
def test_too_few_machines_or_runs_on_each_allow_no_interval(machines, each, p):
    values = np.linspace(60, 100, machines * each)
    found = quantile_estimate(Durations(values, values, np.arange(len(values)) % machines), p)
    assert math.isfinite(found.value)
    assert math.isnan(found.low)
    assert found.effective_n == 0


def test_a_machine_on_which_half_failed_leaves_few_without_an_interval():
    values = np.r_[np.linspace(60, 100, 20), np.full(10, INF)]
    found = quantile_estimate(Durations(values, values, np.arange(30) // 10), 0.5)
    assert math.isnan(found.low)


def test_a_grid_that_everyone_shares_leaves_its_whole_bin_open():
    """All polled at the same instants, all true values 78: the polls cannot tell where in (70, 80]."""
    found = quantile_estimate(Durations(np.full(50, 70.0), np.full(50, 80.0)), 0.5)
    assert (found.low, found.high) == (70, 80)
    assert found.method.startswith("Turnbull")


def test_when_more_than_half_never_end_the_median_is_beyond_what_was_seen():
    values = np.array([10.0, 20.0, 30.0, *[600.0] * 7])
    found = quantile_estimate(Durations(values, np.where(values < 600, values, INF)), 0.5)
    assert math.isnan(found.value)
    assert 10 < found.low <= 600
    assert found.high == INF
    assert (found.n, found.censored) == (10, 7)
    failed = np.where(values < 600, values, INF)
    assert quantile_estimate(Durations(failed, failed), 0.5).low <= 30


def test_the_interval_is_open_above_when_the_failures_reach_into_it():
    values = np.array([10.0, 20, 30, 40, 50, 60, INF, INF, INF, INF])
    found = quantile_estimate(Durations(values, values), 0.5)
    assert found.value == 55
    assert 20 <= found.low < 30
    assert found.high == INF


def test_several_quantiles_at_once_are_those_one_by_one():
    found = Durations(*read(LEUKAEMIA["6-MP"]))
    assert quantile_estimates(found, (0.25, 0.5)) == [quantile_estimate(found, 0.25), quantile_estimate(found, 0.5)]


@settings(deadline=None, max_examples=60)
@given(st.lists(ROWS, min_size=1, max_size=30), st.integers(1, 6))
def test_the_value_lies_in_its_interval_and_the_bands_around_the_curve(rows, machines):
    lower = np.array([low for low, _ in rows])
    found = Durations(lower, lower + [width for _, width in rows], np.arange(len(rows)) % machines if machines < 6 else None)
    for p in (0.25, 0.5, 0.9):
        one = quantile_estimate(found, p)
        assert math.isnan(one.low) or one.low <= one.high
        if math.isfinite(one.value) and math.isfinite(one.low) and one.method.endswith("; order statistics"):
            assert one.low - 1e-6 <= one.value <= one.high + 1e-6
    steps = curve_steps(found, resamples=20)
    shares = steps[["ended_low", "ended_high", "band_low", "band_high"]]
    assert shares.isin([INF]).sum().sum() == shares.isna().sum().sum() == 0
    assert ((shares >= -1e-9) & (shares <= 1 + 1e-9)).all(axis=None)
    assert (steps["ended_low"] <= steps["ended_high"] + 1e-9).all()
    assert (steps["band_low"] <= steps["band_high"] + 1e-9).all()


def test_a_curve_steps_where_runs_end_and_levels_off_where_they_never_do():
    table = curve_table(phases_table(RUNS), RUNNING)
    assert table["time_s"].tolist() == [48, 50, 70, 600]
    assert table["ended_low"].tolist() == pytest.approx([0, 0.25, 0.5, 0.5], abs=1e-6)
    assert table["ended_high"].tolist() == pytest.approx([0.25, 0.25, 0.5, 1], abs=1e-6)


def test_the_band_of_independent_runs_is_that_of_their_count():
    values = np.arange(1.0, 41)
    table = curve_steps(Durations(values, values)).set_index("time_s")
    for time in (1, 10, 20, 39):
        low, high = binom.ppf([0.025, 0.975], 40, time / 40) / 40
        assert table.loc[time, ["band_low", "band_high"]].tolist() == [low, high]


def test_the_band_of_repeats_is_that_of_a_bootstrap_of_machines():
    rng = np.random.default_rng(6)
    sizes = rng.integers(2, 9, 15)
    machine = np.repeat(np.arange(15), sizes)
    values = np.exp(rng.normal(4, 0.3, 15)[machine] + rng.normal(0, 0.1, len(machine)))
    table = curve_steps(Durations(values, values, machine), resamples=4000).set_index("time_s")
    time = np.sort(values)[len(values) // 2]
    ended = np.bincount(machine, values <= time)
    expected = bootstrap(
        (ended, sizes),
        lambda ended, sizes, axis: ended.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert table.loc[time, "band_low"] == pytest.approx(expected.low, abs=0.02)
    assert table.loc[time, "band_high"] == pytest.approx(expected.high, abs=0.02)


def test_the_band_of_runs_cut_off_in_between_is_near_that_of_greenwood():
    """For 6-MP the published 95 % interval of S(6), by the log-log transformation, is 0.620 to 0.952."""
    table = curve_steps(Durations(*read(LEUKAEMIA["6-MP"])), resamples=4000).set_index("time_s")
    assert 1 - table.loc[6, "band_high"] == pytest.approx(0.68, abs=0.07)
    assert 1 - table.loc[6, "band_low"] == pytest.approx(0.97, abs=0.05)
    assert table.loc[6, "band_low"] < table.loc[6, "ended_low"] < table.loc[6, "band_high"]


def test_the_same_seed_draws_the_same_band():
    found = Durations(*read(LEUKAEMIA["6-MP"]))
    pd.testing.assert_frame_equal(curve_steps(found, resamples=50), curve_steps(found, resamples=50))
    assert not curve_steps(found, resamples=50).equals(curve_steps(found, resamples=50, seed=2))


def test_a_curve_of_many_runs_is_thinned_to_what_can_be_seen():
    values = np.random.default_rng(1).lognormal(4, 0.3, 5000)
    table = curve_steps(Durations(values, values))
    assert len(table) == MOST_STEPS
    assert (table["time_s"].iloc[0], table["time_s"].iloc[-1]) == (values.min(), values.max())
    middle = table.iloc[500]
    assert middle["ended_low"] == pytest.approx((values <= middle["time_s"]).mean())


def test_without_one_that_ended_there_is_no_curve():
    assert curve_steps(Durations(np.array([600.0, INF]), np.array([INF, INF]))).empty
    assert curve_steps(Durations(np.zeros(0), np.zeros(0))).columns.tolist() == [
        "time_s",
        "ended_low",
        "ended_high",
        "band_low",
        "band_high",
    ]


def test_those_that_never_ended_are_a_share_with_its_exact_interval():
    never = plateau(durations(phases_table(RUNS), RUNNING))
    assert (never.hits, never.n, never.value) == (2, 4, 0.5)
    assert (never.low, never.high) == (pytest.approx(0.0676, abs=1e-4), pytest.approx(0.9324, abs=1e-4))
    assert plateau(Durations(np.zeros(13), np.ones(13))).high == pytest.approx(0.2471, abs=1e-4)


def test_a_machine_on_which_nothing_ever_ends_is_one_machine():
    never = plateau(Durations(np.zeros(20), np.where(np.arange(20) < 5, np.inf, 1.0), np.arange(20) // 5))
    assert (never.value, never.effective_n) == (0.25, pytest.approx(3 * (2.093 / 3.182) ** 2, rel=1e-3))


def test_durations_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="Duration 0 lies between"):
        Durations(np.array([2.0]), np.array([1.0]))
    with pytest.raises(ValueError, match="3 machines are named for 1 durations"):
        Durations(np.array([1.0]), np.array([1.0]), np.arange(3))
