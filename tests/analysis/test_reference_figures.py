"""What the literature gives for the methods that we leave to scipy: a library that changed its mind would be noticed here."""

import numpy as np
import pytest
from scipy.stats import CensoredData, bootstrap, ecdf
from scipy.stats.mstats import hdquantiles

from tests.analysis.published import LEUKAEMIA, SKEWED, read

RESAMPLES = 200_000


@pytest.mark.parametrize(
    ("method", "published"), [("basic", (23.77, 79.12)), ("percentile", (28.86, 84.21)), ("BCa", (32.31, 91.43))]
)
def test_the_bootstrap_intervals_of_a_skewed_mean_are_those_of_r(method, published):
    found = bootstrap((np.array(SKEWED),), np.mean, n_resamples=RESAMPLES, method=method, rng=np.random.default_rng(1))
    assert tuple(found.confidence_interval) == pytest.approx(published, rel=0.006)


def test_the_6_mp_remissions_have_the_log_log_interval_of_the_textbooks():
    lower, upper = read(LEUKAEMIA["6-MP"])
    ended = np.isfinite(upper)
    survival = ecdf(CensoredData(uncensored=upper[ended], right=lower[~ended])).sf
    interval = survival.confidence_interval(method="log-log")
    assert [float(end.evaluate(6)) for end in (interval.low, interval.high)] == pytest.approx([0.620, 0.952], abs=5e-4)


def test_harrell_and_davis_give_their_quantiles_of_eleven_numbers():
    found = hdquantiles(np.arange(1, 12), prob=[0.1, 0.5, 0.9])
    assert list(found) == pytest.approx([1.65044, 6, 10.34956], abs=5e-6)
