"""The interval that may be looked at after every run, and the rule that stops on it."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaln
from scipy.stats import betabinom, binom

from tests.analysis.made import CENSORED, FAILED, made
from vastbench.analysis.frames import phases_table
from vastbench.analysis.stopping import (
    MIXING,
    effective_n_at,
    interval,
    joined,
    observations,
    quantile_sequence,
    ranks,
    relative_width,
)
from vastbench.analysis.survival.durations import Durations
from vastbench.errors import UsageError
from vastbench.record.phases import PhaseName
from vastbench.record.stopping import StoppingRule

INF = math.inf


def ever_wrong(p, looks, confidence=0.95):
    """The exact probability that the ranks miss the count at any of the first ``looks`` sizes of a sample: no simulation."""
    alive, wrong = np.ones(1), 0.0
    for n in range(1, looks + 1):
        moved = np.zeros(n + 1)
        moved[:-1] += alive * (1 - p)
        moved[1:] += alive * p
        few, many = ranks(n, p, confidence)
        wrong += moved[:few].sum() + moved[many + 1 :].sum()
        moved[:few] = moved[many + 1 :] = 0.0
        alive = moved
    return wrong


@pytest.mark.parametrize("p", [0.5, 0.1, 0.9])
def test_however_often_one_looks_it_errs_in_at_most_one_of_twenty(p):
    assert 0.02 < ever_wrong(p, 600) <= 0.05


def test_at_other_confidences_too():
    assert 0.05 < ever_wrong(0.5, 300, 0.9) <= 0.1
    assert ever_wrong(0.5, 300, 0.99) <= 0.01


def test_the_fixed_n_interval_errs_far_more_often_with_repeated_checks():
    """Which is why a study does not stop on it."""
    alive, wrong = np.ones(1), 0.0
    for n in range(1, 301):
        moved = np.zeros(n + 1)
        moved[:-1] += alive / 2
        moved[1:] += alive / 2
        few, many = binom.ppf([0.025, 0.975], n, 0.5).astype(int)
        wrong += moved[:few].sum() + moved[many + 1 :].sum()
        moved[:few] = moved[many + 1 :] = 0.0
        alive = moved
    assert wrong > 0.25


@pytest.mark.parametrize(("n", "p"), [(9, 0.5), (40, 0.5), (60, 0.9)])
def test_ranks_are_allowed_where_mixture_over_binomial_is_below_the_limit(n, p):
    k = np.arange(n + 1)
    allowed = k[betabinom.pmf(k, n, MIXING * p, MIXING * (1 - p)) / binom.pmf(k, n, p) < 20]
    assert ranks(n, p) == (allowed[0], allowed[-1])


def test_the_mixture_of_one_observation_by_hand():
    # Beta(2, 2) gives each side 1/2, as the median does: the ratio is 1, and neither count is excluded.
    assert ranks(1, 0.5) == (0, 1)
    # All of n on one side: Beta(2, 2) gives 6/((n + 2)(n + 3)), the median 2^-n; the ratio first exceeds 20 at n = 9.
    assert [Fraction(6 * 2**n, (n + 2) * (n + 3)) > 20 for n in (8, 9)] == [False, True]
    assert ranks(8, 0.5) == (0, 8)
    assert ranks(9, 0.5) == (1, 8)


def test_few_observations_have_no_interval_and_never_becomes_no_number():
    assert quantile_sequence(np.zeros(0), np.zeros(0)) == (-INF, INF)
    assert quantile_sequence([5.0] * 8, [5.0] * 8) == (-INF, INF)
    assert quantile_sequence([5.0] * 9, [5.0] * 9) == (5.0, 5.0)
    never = [INF] * 20
    assert quantile_sequence(never, never) == (INF, INF)


def test_failures_and_cut_off_waits_open_the_upper_end():
    good = np.linspace(60, 100, 30)
    low, high = quantile_sequence(good, good)
    wider = quantile_sequence([*good, *[50.0] * 10], [*good, *[INF] * 10])
    assert low >= wider[0]
    assert wider[1] > high
    assert quantile_sequence([*good, *[INF] * 30], [*good, *[INF] * 30])[1] == INF


@pytest.mark.parametrize(
    ("lower", "upper", "p"),
    [([1.0], [1.0], 0.0), ([1.0], [1.0], 1.0), ([2.0], [1.0], 0.5), ([math.nan], [1.0], 0.5), ([1.0, 2.0], [2.0], 0.5)],
)
def test_what_cannot_be_is_refused(lower, upper, p):
    with pytest.raises(ValueError, match=r"between 0 and 1|bounds|lies between"):
        quantile_sequence(lower, upper, p)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 100)), min_size=1, max_size=80), st.sampled_from([0.1, 0.5, 0.9]))
def test_bounds_never_make_the_interval_narrower_than_the_truth_would(drawn, p):
    lower = np.array([low for low, _ in drawn])
    upper = lower + [width for _, width in drawn]
    truth = lower + 0.3 * (upper - lower)
    wide, exact = quantile_sequence(lower, upper, p), quantile_sequence(truth, truth, p)
    assert wide[0] <= exact[0] <= exact[1] <= wide[1]


def test_width_is_a_share_of_the_middle():
    assert relative_width(92.5, 107.5) == pytest.approx(0.15)
    assert relative_width(-INF, 10.0) == relative_width(10.0, INF) == relative_width(INF, INF) == INF
    assert relative_width(0.0, 0.0) == INF


# What runs say


W_RUN, W_SSH = PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH


def frame(*runs):
    return phases_table(runs)


def test_a_run_speaks_of_the_time_until_useful_as_it_ended():
    seen = observations(
        frame(
            made(1, {W_RUN: 60.0, W_SSH: 8.0, PhaseName.DESTROY: 1.0}, width=2.0),
            made(2, {W_RUN: 50.0}, stopped=W_SSH, outcome=CENSORED, cause="deadline"),
            made(3, {PhaseName.SEARCH: 1.0}, stopped=W_RUN, outcome=FAILED, cause="boot_failed"),
            made(4, {W_RUN: 60.0, W_SSH: 8.0}, outcome=FAILED, cause="check_failed"),
            made(5, {W_RUN: 9.0}, stopped=W_SSH, outcome=CENSORED, cause="interrupted"),
        )
    )
    assert seen.lower.tolist() == [66.0, 650.0, INF, INF]
    assert seen.upper.tolist() == [68.0, INF, INF, INF]
    assert effective_n_at(seen.upper, seen.machine, 0.5) == 4.0  # no machine is known, so none is the same


def test_a_phase_is_spoken_of_by_the_runs_that_reached_it():
    seen = observations(
        frame(
            made(1, {W_RUN: 60.0, W_SSH: 8.0}, width=2.0),
            made(2, {W_RUN: 50.0}, stopped=W_SSH, outcome=CENSORED, cause="deadline"),
            made(3, {PhaseName.SEARCH: 1.0}, stopped=W_RUN, outcome=FAILED, cause="boot_failed"),
        ),
        "wait SSH",
    )
    assert (seen.lower.tolist(), seen.upper.tolist()) == ([6.0, 600.0], [8.0, INF])
    total = observations(frame(made(1, {W_RUN: 60.0}, rest=4.0)), "total")
    assert total.lower.tolist() == total.upper.tolist() == [64.0]


def test_no_runs_say_nothing():
    for quantity in ("time to ready", "wait running", "total"):
        assert len(observations(frame(), quantity).lower) == 0


def test_runs_are_taken_in_the_order_in_which_they_began():
    late, early = made(1, {W_RUN: 60.0}), replace(made(2, {W_RUN: 50.0}), started_at="2026-01-01T00:00:00+00:00")
    assert observations(frame(late, early), "wait running").lower.tolist() == [50.0, 60.0]


def test_observations_join_and_keep_their_machines():
    one = Durations(np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.array([math.nan, 7]))
    assert joined(one, one).lower.tolist() == [1.0, 2.0, 1.0, 2.0]
    np.testing.assert_equal(joined(one, one).machine, [math.nan, 7, math.nan, 7])
    nowhere = Durations(one.lower, one.upper)
    np.testing.assert_equal(joined(nowhere, one).machine, [math.nan, math.nan, math.nan, 7])


# The effective n of repeats


def test_effective_n_is_n_for_runs_on_machines_of_their_own():
    upper = np.linspace(60, 100, 30)
    assert (
        effective_n_at(upper, None, 0.5)
        == effective_n_at(upper, np.arange(30), 0.5)
        == effective_n_at(upper, np.full(30, np.nan), 0.5)
        == 30.0
    )
    assert effective_n_at(np.zeros(0), None, 0.5) == 0.0


def test_effective_n_is_0_for_runs_on_one_machine():
    upper = np.linspace(60, 100, 30)
    assert effective_n_at(upper, np.zeros(30), 0.5) == 0.0
    assert quantile_sequence(upper, upper, machine=np.zeros(30)) == (-INF, INF)


def test_effective_n_is_at_most_one_per_machine_that_decides_everything():
    upper = np.repeat(np.linspace(60, 100, 20), 10)
    assert 15 < effective_n_at(upper, np.repeat(np.arange(20), 10), 0.5) <= 20


def test_machines_that_make_none_cost_little():
    upper = np.random.default_rng(2).permutation(np.linspace(60, 100, 200))
    assert 100 < effective_n_at(upper, np.arange(200) % 20, 0.5) <= 200


def test_one_machine_with_most_of_the_runs_lowers_the_effective_n():
    upper = np.random.default_rng(3).permutation(np.linspace(60, 100, 200))
    alike, uneven = np.arange(200) % 20, np.maximum(np.arange(200) % 40 - 20, 0)
    assert effective_n_at(upper, uneven, 0.5) < 0.75 * effective_n_at(upper, alike, 0.5)


def test_the_interval_of_repeats_uses_the_effective_n():
    # Ten runs on each of twenty machines, all alike on one: the shares are of the effective n, the values of the runs.
    upper, machine = np.repeat(np.linspace(60, 100, 20), 10), np.repeat(np.arange(20), 10)
    size = effective_n_at(upper, machine, 0.5)
    k = np.linspace(0, size, 201)
    allowed = np.flatnonzero(np.exp(betaln(2 + k, 2 + size - k) - betaln(2, 2)) * 2**size < 20)
    assert quantile_sequence(upper, upper, machine=machine) == (upper[allowed[0] - 1], upper[allowed[-1]])


# The rule


def campaign(rng, runs, machines, share):
    """Runs in order on machines drawn at random: log-normal, ``share`` of the log-variance common to a machine; median 80."""
    machine = rng.integers(0, machines, runs) if machines < runs else np.arange(runs)
    host = rng.normal(0, 0.3 * math.sqrt(share), max(machines, runs))
    seconds = 80 * np.exp(host[machine] + rng.normal(0, 0.3 * math.sqrt(1 - share), runs))
    return Durations(seconds, seconds, machine)


def wrong_at_any_look(campaigns, every=1):
    """The share of campaigns in which the interval, looked at after every run, ever misses the median."""
    rule, wrong = StoppingRule(0.15), 0
    for seen in campaigns:
        for n in range(9, len(seen) + 1, every):
            low, high = interval(rule, Durations(seen.lower[:n], seen.upper[:n], seen.machine[:n]))
            if not low <= 80.0 <= high:
                wrong += 1
                break
    return wrong / len(campaigns)


def test_the_rule_holds_under_peeking_where_every_run_has_its_machine():
    rng = np.random.default_rng(4)
    wrong = wrong_at_any_look([campaign(rng, 100, 100, 0.6) for _ in range(150)])
    assert wrong <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 150)


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_repeats_on_a_machine_do_not_break_it(share):
    rng = np.random.default_rng(5)
    campaigns = [campaign(rng, 150, 15, share) for _ in range(150)]
    assert wrong_at_any_look(campaigns, every=3) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 150)
    if share == 0.9:
        forgetful = [Durations(seen.lower, seen.upper, np.full(150, np.nan)) for seen in campaigns]
        assert wrong_at_any_look(forgetful, every=3) > 0.2


def test_what_a_rule_looks_at_is_the_width_and_one_machine_gives_none():
    seconds = np.linspace(95, 105, 60)
    low, high = interval(StoppingRule(0.1), Durations(seconds, seconds, np.arange(60)))
    assert relative_width(low, high) == pytest.approx((high - low) / ((high + low) / 2))
    assert relative_width(*interval(StoppingRule(0.1), Durations(seconds, seconds, np.zeros(60)))) == math.inf


def test_a_rule_survives_being_written_down():
    rule = StoppingRule(0.2, quantile=0.9, quantity="wait running")
    assert StoppingRule.from_dict(rule.to_dict()) == rule
    stored = StoppingRule(0.1).to_dict() | {"quantity": "time until useful"}  # its name in stores of before
    assert StoppingRule.from_dict(stored) == StoppingRule(0.1)


@pytest.mark.parametrize(
    "rule",
    [
        {"width": 0.0},
        {"width": 15},
        {"width": 0.1, "quantile": 1.0},
    ],
)
def test_an_impossible_rule_is_refused(rule):
    with pytest.raises(UsageError):
        StoppingRule(**rule)
