"""What a poller makes of an event: a reading on its grid, never before the event, half a period late on average."""

import numpy as np
import pytest

from tests.analysis.made import CENSORED, FAILED, made
from vastbench.analysis.frames import phases_table
from vastbench.analysis.naive import known_durations, naive_readings
from vastbench.record.phases import PhaseName as P

RUNS = np.random.default_rng(7).lognormal(4.4, 0.3, 20_000)


@pytest.mark.parametrize("period", [2.0, 10.0])
def test_a_reading_is_never_early_and_at_most_a_period_late(period):
    late = naive_readings(RUNS, RUNS, period) - RUNS
    assert late.min() >= 0
    assert late.max() < period


@pytest.mark.parametrize("period", [2.0, 10.0])
def test_readings_are_half_a_period_late_on_average(period):
    late = naive_readings(RUNS, RUNS, period) - RUNS
    assert late.mean() == pytest.approx(period / 2, abs=5 * period / np.sqrt(12 * len(RUNS)))


def test_the_published_bias_comes_out():
    # A true median of 78 s read as 83.2 s on a grid of 10.35 s: half a step more.
    runs = np.random.default_rng(1).lognormal(np.log(78), 0.27, 50_000)
    assert np.median(naive_readings(runs, runs, 10.35)) == pytest.approx(83.2, abs=0.4)


def test_a_run_keeps_its_duration_whatever_the_period():
    lower, upper = RUNS - 1.0, RUNS + 1.0
    fine, coarse = (naive_readings(lower, upper, period, seed=3) for period in (1e-6, 10.0))
    assert ((fine >= lower) & (fine <= upper + 1e-6)).all()
    assert ((coarse - fine > -1e-5) & (coarse - fine < 10.0)).all()
    assert (naive_readings(lower, upper, 1e-6, seed=4) != fine).any()


def test_a_period_of_nothing_is_refused():
    with pytest.raises(ValueError, match="0"):
        naive_readings(RUNS, RUNS, 0.0)


def test_only_last_tries_that_ended_well_are_read():
    runs = [
        made(0, {P.WAIT_RUNNING: 50.0}, width=2.0),
        made(1, {P.SEARCH: 1.0}, stopped=P.WAIT_RUNNING, outcome=CENSORED, cause="deadline"),
        made(2, {P.SEARCH: 1.0}, stopped=P.WAIT_RUNNING, outcome=FAILED, cause="boot_failed"),
        made(3, {P.WAIT_RUNNING: 60.0}, outcome=CENSORED, cause="interrupted"),
        made(4, {P.WAIT_RUNNING: 40.0}, earlier={P.WAIT_RUNNING: 90.0}),
    ]
    lower, upper = known_durations(phases_table(runs), P.WAIT_RUNNING)
    assert lower.tolist() == [48.0, 40.0]
    assert upper.tolist() == [50.0, 40.0]
