"""Thirty quantities beside two libraries that share no code with vastbench: lifelines and statsmodels."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from tests.analysis.made import made
from tests.analysis.published import DIABETES, LEUKAEMIA, read
from vastbench.analysis.comparison import success_of
from vastbench.analysis.frames import phases_table
from vastbench.analysis.horizon import ready_within
from vastbench.analysis.survival.curves import curve, turnbull
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.fits import fit
from vastbench.analysis.survival.intervals import proportion_interval
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.analysis.survival.ranks import chance, difference, holm
from vastbench.analysis.survival.rates import rate
from vastbench.record.phases import PhaseName

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import statsmodels.api as sm
    from lifelines import KaplanMeierFitter, LogNormalFitter, WeibullFitter
    from lifelines.statistics import logrank_test
    from lifelines.utils import restricted_mean_survival_time
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.nonparametric import rank_compare_2indep
    from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

pytestmark = pytest.mark.filterwarnings("ignore")
"""What they warn of is their own."""

DRUG, PLACEBO = (Durations(*read(LEUKAEMIA[name])) for name in ("6-MP", "placebo"))
MACHINE = np.repeat(np.arange(8), 5)
VALUES = 60 * np.exp(
    0.3 * np.random.default_rng(1).standard_normal(8)[MACHINE] + 0.2 * np.random.default_rng(2).standard_normal(40)
)
PASSED = np.random.default_rng(3).random(40) < np.linspace(0, 1, 8)[MACHINE]
P_VALUES = np.array([0.01, 0.04, 0.03])


def kaplan_meier(group: Durations) -> KaplanMeierFitter:
    return KaplanMeierFitter().fit(np.where(group.ended, group.upper, group.lower), group.ended)


def by_machine(values: np.ndarray):
    """The mean by least squares, its error robust against what a machine's runs have in common."""
    return sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": MACHINE}, use_t=True)


@pytest.fixture(scope="module")
def interval_fits():
    bounds = read(DIABETES)
    return LogNormalFitter().fit_interval_censoring(*bounds), WeibullFitter().fit_interval_censoring(*bounds)


@pytest.mark.parametrize("week", [6, 10, 15, 20, 22])
def test_the_share_still_in_remission_is_kaplan_and_meiers(week):
    assert curve(DRUG.lower, DRUG.upper).survival(week) == pytest.approx([float(kaplan_meier(DRUG).predict(week))] * 2)


@pytest.mark.parametrize("group", [DRUG, PLACEBO], ids=["6-MP", "placebo"])
def test_so_is_the_median(group):
    assert quantile_estimate(group, 0.5).value == pytest.approx(kaplan_meier(group).median_survival_time_)


def test_the_log_rank_test_has_their_statistic_and_p_value():
    ends = [np.where(group.ended, group.upper, group.lower) for group in (DRUG, PLACEBO)]
    theirs, ours = logrank_test(*ends, DRUG.ended, PLACEBO.ended), difference(DRUG, PLACEBO)
    assert (ours.statistic, ours.p_value) == pytest.approx((theirs.test_statistic, theirs.p_value))


@pytest.mark.parametrize("year", [8, 12, 16, 20])
def test_turnbulls_estimate_is_theirs(year):
    lower, upper = read(DIABETES)
    # Theirs are closed on the left: an event at the time at which another person was still seen without one is no tie for us.
    later = np.where(lower < upper, lower + 1e-4, lower)
    theirs = KaplanMeierFitter().fit_interval_censoring(later, upper, tol=1e-7).survival_function_
    row = theirs[theirs.index <= year + 0.5].iloc[-1]
    assert turnbull(lower, upper).survival(year + 1e-6) == pytest.approx(sorted(row), abs=1e-4)


def test_the_log_normal_of_values_within_bounds_is_theirs(interval_fits):
    ours, theirs = fit(*read(DIABETES)), interval_fits[0]
    assert (ours.params["mu"], ours.params["sigma"]) == pytest.approx((theirs.mu_, theirs.sigma_), abs=1e-4)
    assert ours.loglik == pytest.approx(theirs.log_likelihood_, abs=1e-3)


def test_the_weibull_of_values_within_bounds_is_theirs(interval_fits):
    ours, theirs = fit(*read(DIABETES), family="weibull"), interval_fits[1]
    assert (ours.params["scale"], ours.params["shape"]) == pytest.approx((theirs.lambda_, theirs.rho_), rel=1e-4)
    assert ours.median_s == pytest.approx(theirs.median_survival_time_, rel=1e-4)


def test_the_exact_interval_of_a_proportion_has_their_ends():
    assert proportion_interval(9, 13) == pytest.approx(proportion_confint(9, 13, method="beta"))


def test_the_difference_of_two_rates_has_newcombes_interval():
    a, b = (np.arange(n) < k for k, n in ((56, 70), (48, 80)))
    ours = success_of((a, None), (b, None))
    assert (ours.low, ours.high) == pytest.approx(confint_proportions_2indep(48, 80, 56, 70, method="newcomb", compare="diff"))


@pytest.mark.parametrize("which", range(3))
def test_holms_p_values_are_theirs(which):
    assert holm(P_VALUES)[which] == pytest.approx(multipletests(P_VALUES, method="holm")[1][which])


def test_the_chance_to_be_first_is_theirs():
    a, b = VALUES[:20], VALUES[15:]
    theirs = rank_compare_2indep(b, a).prob1
    assert chance(Durations(a, a), Durations(b, b)).value == pytest.approx(theirs)


@pytest.mark.parametrize("within_s", [50.0, 70.0])
def test_the_mean_wait_within_a_time_is_the_restricted_mean(within_s):
    runs = [
        replace(made(i, {PhaseName.WAIT_RUNNING: s}), resources={"machine_id": int(m)})
        for i, (s, m) in enumerate(zip(VALUES, MACHINE, strict=True))
    ]
    ours = ready_within(phases_table(runs), within_s, quantity="wait running").iloc[0]
    assert ours["mean_s"] == pytest.approx(restricted_mean_survival_time(KaplanMeierFitter().fit(VALUES), t=within_s))
    theirs = by_machine(np.minimum(VALUES, within_s))
    half = t.ppf(0.975, 7) * theirs.bse[0]
    low, high = max(0.0, ours["mean_s"] - half), min(within_s, ours["mean_s"] + half)
    assert (ours["mean_low_s"], ours["mean_high_s"]) == pytest.approx((low, high))


def test_the_effective_n_of_a_rate_is_that_of_its_robust_error():
    ours, error = rate(PASSED, MACHINE), by_machine(PASSED.astype(float)).bse[0]
    known = (t.ppf(0.975, 39) / t.ppf(0.975, 7)) ** 2
    met = len(set(MACHINE[PASSED if PASSED.mean() <= 0.5 else ~PASSED]))
    whole = ours.value * (1 - ours.value) / error**2 * known
    assert ours.effective_n == pytest.approx((1 + met**2) / (met**2 / whole + 1 / len(set(MACHINE))))
