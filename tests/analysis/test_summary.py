"""What a study's runs say, and what they must not be made to say."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest

from tests.analysis.made import CENSORED, FAILED, made
from vastbench.analysis.attempts import pool
from vastbench.analysis.frames import phases_table
from vastbench.analysis.summary import (
    NOT_COUNTED,
    OUTCOME_COLUMNS,
    SUMMARY_COLUMNS,
    attempted,
    outcomes,
    passed,
    phase_summary,
)
from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.record.phases import PARENTS, PhaseName
from vastbench.scenarios.integration import INTEGRATION

SEARCH, CREATE, RUNNING, SSH = PhaseName.SEARCH, PhaseName.CREATE, PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH
RUN = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")


def good(number: int, seconds: float, **more):
    return made(number, {SEARCH: 1.0, RUNNING: seconds}, rest=0.5, **more)


def timed_out(number: int, cause: str = "deadline"):
    return made(number, {SEARCH: 1.0}, stopped=RUNNING, outcome=CENSORED, cause=cause)


def refused(number: int, cause: str = "refused"):
    return made(number, {SEARCH: 1.0}, stopped=CREATE, outcome=FAILED, cause=cause)


def failed(number: int):
    return made(number, {SEARCH: 1.0}, stopped=RUNNING, outcome=FAILED, cause="boot_failed")


def of(phases: pd.DataFrame, name: PhaseName) -> pd.Series:
    return phase_summary(phases).set_index("phase").loc[str(name)]


def test_outcomes_count_every_attempted_run_once_and_passed_comes_first():
    runs = [refused(1), timed_out(2), timed_out(3), good(4, 50.0)]
    found = outcomes(phases_table(runs))
    assert found[["outcome", "cause", "runs"]].values.tolist() == [
        ["passed", "", 1],
        ["censored", "deadline", 2],
        ["failed", "refused", 1],
    ]
    assert found["attempted"].tolist() == [4, 4, 4]
    assert found["rate"].tolist() == [0.25, 0.5, 0.25]


def test_a_rate_carries_its_exact_interval():
    found = outcomes(phases_table([good(number, 50.0) for number in range(13)])).iloc[0]
    assert (found["rate"], found["rate_high"]) == (1, 1)
    assert found["rate_low"] == pytest.approx(1 - 0.2471, abs=1e-4)


def test_without_a_pass_the_rate_is_0_and_its_upper_bound_is_shown():
    first, second = outcomes(phases_table([timed_out(n) for n in range(13)])).to_dict("records")
    assert (first["outcome"], first["runs"], first["rate"], first["rate_low"]) == ("passed", 0, 0, 0)
    assert first["rate_high"] == pytest.approx(0.2471, abs=1e-4)
    assert (second["cause"], second["rate"]) == ("deadline", 1)


@pytest.mark.parametrize("cause", sorted(NOT_COUNTED))
def test_a_run_that_we_stopped_was_not_attempted(cause):
    phases = phases_table([good(1, 50.0), timed_out(2, cause)])
    assert set(attempted(phases)["run"]) == {"run-1"}
    assert outcomes(phases)["attempted"].tolist() == [1]
    assert of(phases, RUNNING)["unfinished"] == 0
    assert of(phases, SEARCH)["n"] == 1


def test_every_other_cause_counts_as_attempted_one_without_a_name_too():
    phases = phases_table([refused(1, "boot_failed"), refused(2, "")])
    phases.loc[phases["run"] == "run-2", "cause"] = None
    assert outcomes(phases)["runs"].tolist() == [0, 1, 1]


def test_passed_keeps_all_rows_of_the_runs_that_passed():
    phases = phases_table([good(1, 50.0), timed_out(2), good(3, 60.0)])
    assert passed(phases)["run"].value_counts().to_dict() == {"run-1": 4, "run-3": 4}


def test_a_phase_is_summed_up_over_the_runs_that_reached_it():
    values = np.random.default_rng(3).lognormal(4, 0.5, 40).tolist()
    row = of(phases_table([good(number, value) for number, value in enumerate(values)]), RUNNING)
    ordered = sorted(values)
    assert (row["n"], row["unfinished"]) == (40, 0)
    assert row["median_s"] == pytest.approx(statistics.median(values))
    assert row["mean_s"] == pytest.approx(statistics.mean(values))
    assert (row["min_s"], row["max_s"]) == (pytest.approx(ordered[0]), pytest.approx(ordered[-1]))
    assert row["p90_s"] == pytest.approx((ordered[35] + ordered[36]) / 2)
    # The exact interval lies between the 14th and the 27th value, and the next narrower one holds less often than 95 %.
    assert ordered[13] < row["median_low_s"] < ordered[14]
    assert ordered[25] < row["median_high_s"] < ordered[26]
    assert row["p90_low_s"] < row["p90_s"] < row["p90_high_s"]


@pytest.mark.parametrize(("n", "median", "p90"), [(1, False, False), (5, False, False), (6, True, False), (36, True, True)])
def test_no_interval_is_given_that_does_not_exist_and_no_p90_without_one(n, median, p90):
    row = of(phases_table([good(number, 50.0 + number) for number in range(n)]), RUNNING)
    assert math.isfinite(row["median_s"])
    for column, exists in {"median_low_s": median, "median_high_s": median, "p90_s": p90, "p90_high_s": p90}.items():
        assert math.isfinite(row[column]) is exists, column


def test_a_censored_or_failed_attempt_is_among_the_longest_in_the_medians():
    phases = phases_table([good(1, 50.0), good(2, 60.0), good(3, 70.0), timed_out(4), failed(5)])
    row = of(phases, RUNNING)
    assert (row["n"], row["unfinished"]) == (3, 2)
    assert row["median_s"] == 70.0
    assert (row["mean_s"], row["max_s"]) == (60.0, 70.0)


def test_a_try_that_was_cut_off_early_says_nothing_of_what_came_later():
    """Kaplan and Meier: the 5/8 left at the cut are shared by the four still at risk, so that 3/8 + 5/32 ended by 705 s."""
    runs = [good(1, 50.0), good(2, 60.0), good(3, 65.0), timed_out(4), *[good(n, 700.0 + n) for n in range(5, 9)]]
    row = of(phases_table(runs), RUNNING)
    assert row["median_s"] == 705.0


def test_where_half_did_not_end_there_is_no_median():
    row = of(phases_table([good(1, 50.0), good(2, 60.0), timed_out(3), failed(4)]), RUNNING)
    assert math.isnan(row["median_s"])
    assert row["mean_s"] == 55.0
    assert math.isfinite(of(phases_table([good(1, 50.0), good(2, 60.0), timed_out(3)]), RUNNING)["median_s"])


def test_an_interval_has_no_upper_end_when_unfinished_attempts_are_in_it():
    runs = [*[good(n, 50.0 + n) for n in range(8)], timed_out(8), failed(9), failed(10)]
    row = of(phases_table(runs), RUNNING)
    assert row["median_s"] == 55.0
    assert 50 < row["median_low_s"] < 55
    assert row["median_high_s"] == math.inf


def test_one_machine_has_no_interval_and_a_few_machines_have_a_wide_one():
    def on(*machines: int) -> pd.Series:
        runs = [good(number, 50.0 + 10 * machine + number % 3) for number, machine in enumerate(machines)]
        phases = phases_table(runs)
        phases["machine"] = phases["run"].map({run.id: machine for run, machine in zip(runs, machines, strict=True)})
        return of(phases, RUNNING)

    alone, few, many = on(*[1] * 30), on(*[1, 2, 3, 4, 5, 6, 7, 8] * 4), on(*range(32))
    assert (alone["machines"], few["machines"], many["machines"]) == (1, 8, 32)
    assert math.isnan(alone["median_low_s"])
    assert few["effective_n"] < 10
    assert many["effective_n"] == 32
    assert math.isfinite(few["median_s"])
    assert math.isnan(few["median_low_s"]) or few["median_high_s"] - few["median_low_s"] > 20


def test_the_median_without_what_polling_added_lies_where_the_bounds_allow():
    rng = np.random.default_rng(5)
    truths = rng.lognormal(4.3, 0.2, 60)
    seen = [
        good(n, float(truth + late), width=10.0)
        for n, (truth, late) in enumerate(zip(truths, rng.uniform(0, 10, 60), strict=True))
    ]
    row = of(phases_table(seen), RUNNING)
    assert row["true_median_low_s"] < np.median(truths) < row["true_median_high_s"]
    assert row["median_s"] > np.median(truths) + 2
    assert row["bounds_s"] == pytest.approx(10)
    assert row["method"].startswith("Turnbull")


def test_earlier_tries_do_not_pollute_the_sample():
    again = good(1, 50.0, earlier={SEARCH: 30.0, CREATE: 40.0})
    phases = phases_table([again, good(2, 60.0)])
    assert (of(phases, SEARCH)["n"], of(phases, SEARCH)["max_s"]) == (2, 1.0)
    assert (of(phases, PhaseName.TOTAL)["n"], of(phases, PhaseName.TOTAL)["max_s"]) == (2, pytest.approx(121.5))


def test_a_phase_that_only_a_failed_run_finished_is_a_sample_all_the_same():
    row = of(phases_table([refused(1), good(2, 50.0)]), SEARCH)
    assert (row["n"], row["unfinished"]) == (2, 0)


def test_the_total_of_a_run_that_did_not_pass_never_came():
    row = of(phases_table([good(1, 50.0), timed_out(2), refused(3)]), PhaseName.TOTAL)
    assert (row["n"], row["unfinished"], row["max_s"]) == (1, 2, 51.5)
    assert math.isnan(row["median_s"])


def test_the_rows_are_in_order_of_time_children_after_their_parents():
    found = phase_summary(pool(phases_table([RUN, timed_out(2)])))
    assert found["phase"].tolist() == [
        name for name in (*INTEGRATION.timeline, "unattributed", "total") if name in set(found["phase"])
    ]
    assert found["phase"].iloc[-2:].tolist() == ["unattributed", "total"]
    parents = found.set_index("phase")["parent"]
    assert {name: parents[name] for name in PARENTS if name in parents} == {
        name: PARENTS[name] for name in PARENTS if name in parents
    }
    assert parents["wait running"] == parents["unattributed"] == "total"
    assert pd.isna(parents["total"])


def test_the_seed_run_is_given_with_the_width_that_its_polling_left():
    row = of(phases_table([RUN]), RUNNING)
    assert row["median_s"] == pytest.approx(72.77)
    assert row["bounds_s"] == pytest.approx(RUN.phase(RUNNING).upper - RUN.phase(RUNNING).lower)
    assert row["bounds_s"] > 10


def test_bounds_are_the_median_width_of_the_sample():
    phases = phases_table([good(1, 50.0, width=2.0), good(2, 50.0, width=4.0), good(3, 50.0, width=9.0), timed_out(4)])
    assert of(phases, RUNNING)["bounds_s"] == pytest.approx(4.0)
    assert math.isnan(of(phases, PhaseName.TOTAL)["bounds_s"])


def test_without_success_there_is_no_total_and_no_crash():
    row = of(phases_table([timed_out(1), refused(2)]), PhaseName.TOTAL)
    assert (row["n"], row["unfinished"]) == (0, 2)
    assert row[["median_s", "median_low_s", "p90_s", "mean_s", "min_s", "max_s", "bounds_s"]].isna().all()


@pytest.mark.parametrize("runs", [[], [timed_out(1, "killed")]])
def test_no_attempted_run_is_an_empty_table_of_the_same_columns_and_types(runs):
    for found, columns in (
        (outcomes(phases_table(runs)), OUTCOME_COLUMNS),
        (phase_summary(phases_table(runs)), SUMMARY_COLUMNS),
    ):
        assert found.empty
        assert {name: str(dtype) for name, dtype in found.dtypes.items()} == columns


def test_the_frame_is_left_as_it_was():
    phases = pool(phases_table([RUN, timed_out(2), refused(3)]))
    before = phases.copy(deep=True)
    outcomes(phases)
    phase_summary(phases)
    pd.testing.assert_frame_equal(phases, before)
