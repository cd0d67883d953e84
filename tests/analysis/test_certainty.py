"""How sure the figures are: quantiles of all attempted runs, what never ended, the effective n."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta

from tests.analysis.made import CENSORED, FAILED, made
from vastbench.analysis.certainty import CERTAINTY_COLUMNS, certainty
from vastbench.analysis.frames import phases_table
from vastbench.record.phases import PhaseName as P
from vastbench.record.run import Run
from vastbench.record.stopping import USEFUL


def booted(number: int, seconds: float, machine: int | None = None, width: float = 2.0) -> Run:
    run = made(number, {P.WAIT_RUNNING: seconds, P.WAIT_SSH: 5.0}, width=width)
    return replace(run, resources={"machine_id": machine})


def vain(number: int, outcome=FAILED) -> Run:
    return made(number, {P.SEARCH: 1.0}, stopped=P.WAIT_RUNNING, outcome=outcome, cause="x")


def row(runs: list[Run], quantity: str = P.WAIT_RUNNING) -> dict:
    (found,) = certainty(phases_table(runs), [quantity]).to_dict("records")
    return found


WAITS = [60.0, 64.0, 70.0, 71.0, 78.0, 83.0, 90.0, 101.0]


def test_without_a_run_there_is_no_row_but_every_column():
    frame = certainty(phases_table([]))
    assert frame.empty
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == CERTAINTY_COLUMNS


def test_a_median_lies_between_those_of_the_bounds():
    found = row([booted(i, wait) for i, wait in enumerate(WAITS)])
    assert np.median(WAITS) - 2.0 <= found["median_s"] <= np.median(WAITS)
    assert WAITS[0] - 2.0 <= found["median_low_s"] < found["median_s"] < found["median_high_s"] <= WAITS[-1]
    assert found["bounds_s"] == pytest.approx(2.0)


def test_runs_in_vain_are_part_of_n_and_of_the_median():
    good = [booted(i, wait, width=0.0) for i, wait in enumerate(WAITS)]
    found = row([*good, vain(20), vain(21), vain(22, CENSORED), vain(23)])
    assert (found["n"], found["ended"]) == (12, 8)
    assert found["never_rate"] == pytest.approx(4 / 12)
    assert found["never_low_rate"] == pytest.approx(beta.ppf(0.025, 4, 9))
    assert found["never_high_rate"] == pytest.approx(beta.ppf(0.975, 5, 8))
    assert found["median_s"] == pytest.approx((83.0 + 90.0) / 2)  # the sixth and the seventh of twelve
    assert math.isinf(found["median_high_s"])
    assert math.isnan(row([*good, *(vain(20 + i) for i in range(9))])["median_s"])


def test_few_runs_have_a_value_and_no_interval():
    found = row([booted(0, 80.0)])
    assert 78.0 <= found["median_s"] <= 80.0
    assert math.isnan(found["median_low_s"])
    assert math.isnan(found["p90_s"])


def test_repeats_on_machines_that_differ_count_as_less_than_one_run_each():
    """7 of the 8 machines are free, and t(7) is wider than t(79); 4.96 independent runs allow no interval."""
    alike = [booted(10 * m + i, 50.0 + 10.0 * m, machine=m) for m in range(8) for i in range(10)]
    found = row(alike)
    assert (found["machines"], found["unnamed"]) == (8, 0)
    assert found["icc"] == pytest.approx(1.0)
    assert found["effective_n"] == pytest.approx(7 * (1.99045 / 2.36462) ** 2, rel=1e-4)
    assert found["design_effect"] == pytest.approx(80 / found["effective_n"])
    assert math.isnan(found["median_low_s"])
    assert found["largest_share"] == pytest.approx(1 / 8)


def test_machines_that_are_not_named_are_counted_apart():
    found = row([booted(i, wait) for i, wait in enumerate(WAITS)])
    assert found["unnamed"] == found["ended"] == 8
    assert found["effective_n"] == pytest.approx(8.0)


def test_a_phase_counts_the_runs_that_reached_it_and_useful_counts_all():
    runs = [*(booted(i, wait) for i, wait in enumerate(WAITS)), vain(20), vain(21)]
    assert row(runs, P.WAIT_SSH)["n"] == 8
    assert row(runs, USEFUL)["n"] == 10
    assert certainty(phases_table(runs), [P.PULL]).empty
