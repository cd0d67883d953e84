"""Parametric fits: published parameters, truths that come back, and what cannot be fitted."""

import math

import numpy as np
import pytest
from scipy import stats

from tests.analysis.published import DIABETES, read
from vastbench.analysis.survival.fits import Fit, fit

INF = math.inf


def test_the_diabetes_data_have_the_published_log_normal():
    found = fit(*read(DIABETES))
    assert found.params == {"mu": pytest.approx(2.75272, abs=1e-5), "sigma": pytest.approx(0.38747, abs=1e-5)}
    assert found.median_s == pytest.approx(math.exp(2.75272), rel=1e-4)
    assert found.n == 731


def test_the_diabetes_data_have_the_published_weibull():
    found = fit(*read(DIABETES), family="weibull")
    assert found.params == {"scale": pytest.approx(18.8565, abs=2e-4), "shape": pytest.approx(2.8235, abs=1e-4)}


def test_exact_values_have_the_closed_form():
    values = np.random.default_rng(1).lognormal(4, 0.3, 50)
    found = fit(values, values)
    assert found.params["mu"] == pytest.approx(np.log(values).mean(), abs=1e-4)
    assert found.params["sigma"] == pytest.approx(np.log(values).std(), abs=1e-4)
    assert found.loglik == pytest.approx(
        stats.lognorm(np.log(values).std(), scale=np.exp(np.log(values).mean())).logpdf(values).sum()
    )


@pytest.mark.parametrize("family", ["lognormal", "weibull"])
def test_ten_second_polls_and_a_deadline_do_not_move_the_truth(family):
    rng = np.random.default_rng(3)
    known = stats.lognorm(0.27, scale=78) if family == "lognormal" else stats.weibull_min(3, scale=90)
    truth = known.rvs(2000, random_state=rng)
    first = rng.uniform(0, 10, 2000)
    upper = first + np.ceil((truth - first) / 10) * 10
    last = first + np.floor((110 - first) / 10) * 10
    found = fit(np.clip(upper - 10, 0, last), np.where(upper > last, INF, upper), family)
    assert found.family == family
    assert found.median_s == pytest.approx(known.median(), rel=0.02)
    assert found.quantile(0.9) == pytest.approx(known.ppf(0.9), rel=0.03)
    assert found.ended([known.median()])[0] == pytest.approx(0.5, abs=0.03)


def test_the_likelihood_tells_the_family_that_the_values_came_from():
    values = stats.weibull_min(3, scale=90).rvs(500, random_state=4)
    assert fit(values - 1, values + 1, "weibull").loglik > fit(values - 1, values + 1).loglik + 5


def test_what_never_ends_is_not_part_of_a_family():
    values = np.random.default_rng(1).lognormal(4, 0.3, 50)
    with_failures = np.append(values, [INF] * 20)
    assert fit(with_failures, with_failures) == fit(values, values)


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ([], []),
        ([5, 6], [5, 6]),
        ([5, 5, 5], [5, 5, 5]),
        ([1, 2, 3], [INF] * 3),
        ([0, 0, 0], [0, 0, 0]),
        ([INF] * 4, [INF] * 4),
    ],
)
def test_too_little_is_not_fitted(lower, upper):
    assert fit(np.array(lower, float), np.array(upper, float)) is None


def test_bounds_that_all_could_hold_one_value_have_no_likeliest_spread():
    assert fit([62.5] * 3, [72.8] * 3) is None
    assert fit([60.0, 62.0, 65.0], [72.0, 66.0, 80.0], family="weibull") is None
    assert fit([60.0, 62.0, 75.0], [72.0, 66.0, 80.0]) is not None


def test_an_unknown_family_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="'gamma'; choose one of lognormal, weibull"):
        fit(np.ones(3), np.ones(3), "gamma")


def test_a_fit_says_its_own_quantiles():
    known = Fit("weibull", {"scale": 90.0, "shape": 3.0}, -1.0, 5)
    assert known.median_s == pytest.approx(90 * math.log(2) ** (1 / 3))
