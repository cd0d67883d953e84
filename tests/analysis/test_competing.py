"""Cumulative incidence: a count by time, with its exact interval."""

import pytest

from tests.analysis.made import CENSORED, FAILED, made
from vastbench.analysis.survival.competing import INCIDENCE_COLUMNS, incidence
from vastbench.analysis.frames import phases_table
from vastbench.analysis.survival.intervals import proportion_interval
from vastbench.analysis.summary import outcomes
from vastbench.record.phases import PhaseName

RUNNING = PhaseName.WAIT_RUNNING
RUNS = [
    made(1, {RUNNING: 50.0}),
    made(2, {RUNNING: 40.0}),
    made(3, {RUNNING: 50.0}),
    made(4, {}, stopped=RUNNING, outcome=CENSORED, cause="deadline"),
    made(5, {RUNNING: 10.0}, outcome=FAILED, cause="check_failed"),
    made(6, {}, stopped=RUNNING, outcome=CENSORED, cause="killed"),
]


def test_by_each_time_the_runs_that_had_ended_so_are_counted():
    found = incidence(phases_table(RUNS))
    assert found[["outcome", "cause", "time_s", "runs"]].values.tolist() == [
        ["passed", "", 40.0, 1],
        ["passed", "", 50.0, 3],
        ["censored", "deadline", 600.0, 1],
        ["failed", "check_failed", 10.0, 1],
    ]
    assert found["attempted"].tolist() == [5] * 4
    assert found["incidence"].tolist() == [0.2, 0.6, 0.2, 0.2]


def test_each_share_has_its_exact_interval():
    row = incidence(phases_table(RUNS)).iloc[1]
    assert (row["low"], row["high"]) == pytest.approx(proportion_interval(3, 5))
    assert (row["low"], row["high"]) == pytest.approx((0.1466, 0.9473), abs=1e-4)


def test_in_the_end_it_is_what_the_outcomes_say():
    runs = [*RUNS, *[made(n, {RUNNING: float(n)}, outcome=FAILED, cause="boot_failed") for n in range(10, 14)]]
    phases = phases_table(runs)
    last = incidence(phases).groupby(["outcome", "cause"], sort=False).tail(1)
    whole = outcomes(phases)
    assert last[["outcome", "cause", "runs"]].values.tolist() == whole[["outcome", "cause", "runs"]].values.tolist()
    assert last["incidence"].sum() == pytest.approx(1)
    assert last["low"].tolist() == pytest.approx(whole["rate_low"].tolist())


@pytest.mark.parametrize("runs", [[], RUNS[-1:]])
def test_no_attempted_run_is_an_empty_table_of_the_same_columns_and_types(runs):
    found = incidence(phases_table(runs))
    assert found.empty
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == INCIDENCE_COLUMNS
