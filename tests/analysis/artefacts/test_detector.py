"""The artefact detector: what it finds, what it says of it, and that it stays quiet where nothing is."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.artefacts import boots, clean, on_a_lattice
from tests.analysis.made import FAILED, made
from vastbench.analysis.artefacts.detector import RULES, artefacts, not_applicable, timings_of
from vastbench.analysis.artefacts.lattice import lattice, log_chance
from vastbench.analysis.frames import phases_table
from vastbench.io.tables import load
from vastbench.io.timings import read
from vastbench.record.phases import PhaseName as P

SEED_RUN = "2026-01-02-rtx4090"


def timings(seconds, phase="wait running", **columns):
    """One run per value."""
    table = pd.DataFrame({"run": [f"run-{i}" for i in range(len(seconds))], "phase": phase, "seconds": seconds})
    return table.assign(**columns)


def tree(*runs, **columns):
    """Runs of several phases each, given as ``{phase: seconds}``."""
    rows = [(f"run-{i}", phase, seconds) for i, run in enumerate(runs) for phase, seconds in run.items()]
    return pd.DataFrame(rows, columns=["run", "phase", "seconds"]).assign(**columns)


def only(table, rule):
    """The one finding in ``table``, which is of ``rule``."""
    (found,) = artefacts(table)
    assert found.rule == rule
    assert set(found.rows) <= set(table.index)
    assert found.rows
    assert found.text.endswith(".")
    assert found.consequence.endswith(".")
    return found


def seconds_of(table, found):
    return sorted(table.loc[list(found.rows), "seconds"])


BOOTS = [61.37, 64.02, 70.91, 71.48, 75.66, 79.13, 84.29, 88.05, 93.71, 118.44]


class TestThePublishedRun:
    def test_its_status_log_is_a_grid_of_ten_seconds_and_a_request(self):
        (grid,) = (found for found in artefacts(read(SEED_RUN)) if found.rule == "lattice")
        # By hand: eight answers from 0.0 to 72.77 s are seven steps of 10.396 s; the pause is 10 s, the request 0.35 s.
        assert grid.evidence["step_s"] == pytest.approx(10.35, abs=0.06)
        assert abs(grid.evidence["step_s"] - 72.77 / 7) < 3 * grid.evidence["step_error_s"]
        assert (grid.evidence["n"], grid.evidence["places"]) == (8, 8)
        assert grid.evidence["p"] < 1e-6
        assert "status log" in grid.text

    def test_4_21_seconds_of_its_total_are_in_no_phase(self):
        (rest,) = (found for found in artefacts(read(SEED_RUN)) if found.rule == "phases do not add up")
        assert rest.evidence["difference_s"] == pytest.approx(98.98 - (1.26 + 1.59 + 72.77 + 12.36 + 4.18 + 2.13 + 0.48))
        assert "4.21 s" in rest.text

    def test_its_verified_file_is_a_claim_without_a_hash(self):
        assert {found.rule for found in artefacts(read(SEED_RUN))} == {
            "lattice",
            "phases do not add up",
            "pass that could not have failed",
        }

    def test_in_the_tidy_frame_what_is_left_is_the_rest_of_its_total(self):
        """The frame has neither its log nor its claim, and ``unattributed`` is our arithmetic, not its record's."""
        assert "unattributed" not in set(timings_of(load(SEED_RUN))["phase"])
        found = only(timings_of(load(SEED_RUN)), "phases do not add up")
        assert found.evidence["difference_s"] == pytest.approx(4.21)


class TestLattice:
    @pytest.mark.parametrize("step", [1.0, 10.0, 10.35])
    def test_ten_values_read_by_a_poll_show_its_step_in_over_95_of_100(self, step):
        told = [lattice(on_a_lattice(np.random.default_rng([7, i]), 10, step)) for i in range(40)]
        sure = [found for found in told if found and found.p < 0.003]
        assert len(sure) / len(told) > 0.95
        assert np.mean([abs(found.step_s / step - 1) < 0.02 for found in sure]) > 0.95
        assert np.median([found.jitter_s for found in sure]) < 0.01 * step

    def test_the_offset_is_told_beside_the_step(self):
        found = lattice(np.array([3.2, 13.2, 23.2, 23.2, 53.2, 63.2, 93.2]))
        assert (found.step_s, found.offset_s, found.cells) == pytest.approx((10, 3.2, 6))

    def test_whole_seconds_are_a_finding_and_two_decimals_are_none(self):
        values = boots(np.random.default_rng(3), 30)
        whole = only(timings(np.round(values)), "lattice")
        assert whole.evidence["step_s"] == pytest.approx(1)
        assert artefacts(timings(np.round(values, 2))) == []

    def test_bounds_as_wide_as_the_step_declare_it(self):
        values = on_a_lattice(np.random.default_rng(5), 20, 10.0)
        only(timings(values), "lattice")
        assert artefacts(timings(values, lower_s=values - 10, upper_s=values)) == []
        only(timings(values, lower_s=values - 0.5, upper_s=values), "lattice")

    def test_a_tight_cluster_far_from_the_rest_is_no_lattice(self):
        rng = np.random.default_rng(11)
        for _ in range(20):
            near, far = rng.normal(30, 0.05, 20), rng.normal(90, 0.05, 20)
            found = lattice(np.round(np.concatenate([near, far, [55.31]]), 2))
            assert found is None or found.p > 0.003

    def test_the_chance_of_a_length_is_that_of_drawn_directions(self):
        rng = np.random.default_rng(2)
        for n, length in ((4, 0.9), (5, 0.8), (10, 0.6), (30, 0.35)):
            drawn = np.abs(np.exp(2j * np.pi * rng.random((200_000, n))).mean(axis=1))
            assert math.exp(log_chance(n, length)) == pytest.approx((drawn >= length).mean(), rel=0.12)

    @pytest.mark.parametrize("values", [[], [5.0], [5.0] * 20, [1.0, 2.0, 3.0, 4.0], [math.nan] * 8, [0.0, math.inf, 1.0]])
    def test_where_none_can_be_told_there_is_none(self, values):
        assert lattice(np.array(values)) is None


class TestSpread:
    def test_a_spread_far_below_the_declared_period_is_the_polls_own(self):
        values = [72.4, 72.77, 72.51, 72.63, 72.9, 72.44]
        found = only(timings(values, poll_period_s=10.0), "spread below the poll period")
        assert found.evidence == {"n": 6, "spread_s": pytest.approx(0.5), "poll_period_s": 10.0}
        assert artefacts(timings(values, poll_period_s=1.0)) == []
        assert artefacts(timings(values)) == []

    def test_two_close_values_are_a_coincidence(self):
        assert artefacts(timings([72.4, 72.77], poll_period_s=10.0)) == []

    def test_a_spread_of_four_tenths_of_the_period_is_not_far_below_it(self):
        values = [70.0, 70.13, 70.71, 71.02, 71.38, 71.94, 72.21, 72.77, 73.08, 73.29, 73.66, 74.0]
        assert artefacts(timings(values, poll_period_s=10.0)) == []
        only(timings(values, poll_period_s=20.0), "spread below the poll period")

    def test_bounds_as_wide_as_the_period_declare_it(self):
        values = np.array([72.4, 72.77, 72.51, 72.63, 72.9, 72.44])
        assert artefacts(timings(values, poll_period_s=10.0, lower_s=values - 10, upper_s=values)) == []


class TestTimeouts:
    def test_values_at_a_declared_deadline_are_named(self):
        table = timings([*BOOTS, 300.0, 300.02, 301.4], timeout_s=300.0)
        found = only(table, "value equal to a timeout")
        assert seconds_of(table, found) == [300.0, 300.02, 301.4]
        assert found.evidence["deadline_s"] == 300

    def test_one_value_at_the_deadline_is_enough(self):
        only(timings([*BOOTS, 300.0], timeout_s=300.0), "value equal to a timeout")
        assert artefacts(timings([*BOOTS, 290.0], timeout_s=300.0)) == []

    def test_a_pile_at_the_largest_value_is_a_deadline_that_nobody_declared(self):
        table = timings([*BOOTS, 300.0, 300.02, 300.01, 300.03])
        found = only(table, "value equal to a timeout")
        assert seconds_of(table, found) == [300.0, 300.01, 300.02, 300.03]
        assert found.evidence["p"] < 0.001

    def test_a_run_that_says_it_was_stopped_reports_no_value_there(self):
        ended = ["passed"] * len(BOOTS) + ["censored"] * 3
        assert artefacts(timings([*BOOTS, 300.0, 300.0, 300.0], timeout_s=300.0, outcome=ended)) == []


class TestSums:
    def test_the_run_that_misses_its_total_is_named_and_the_others_are_not(self):
        good = {"boot": 70.25, "ssh": 9.5, "total": 79.75}
        short = {"boot": 64.02, "ssh": 8.13, "total": 76.36}
        table = tree(good, short, {"boot": 88.05, "ssh": 12.44, "total": 100.49})
        found = only(table, "phases do not add up")
        assert set(table.loc[list(found.rows), "run"]) == {"run-1"}
        assert found.evidence["difference_s"] == pytest.approx(4.21)
        assert "no phase explains" in found.consequence

    def test_a_sum_above_the_total_counts_time_twice(self):
        found = only(tree({"boot": 70.25, "ssh": 9.5, "total": 75.0}), "phases do not add up")
        assert found.evidence["difference_s"] == pytest.approx(4.75)
        assert "twice" in found.consequence

    def test_rounding_and_parts_of_phases_are_no_difference(self):
        assert artefacts(tree({"boot": 70, "ssh": 10, "check": 2, "total": 83})) == []
        parts = tree({"boot": 70.0, "pull": 50.0, "ssh": 9.5, "total": 79.5}, parent=[None, "boot", None, None])
        assert artefacts(parts) == []

    def test_a_run_without_all_values_or_that_failed_says_nothing(self):
        assert artefacts(tree({"boot": 70.0, "ssh": math.nan, "total": 90.0})) == []
        assert artefacts(tree({"boot": 70.0, "ssh": 1.5, "total": 90.0}, outcome=["passed", "failed", "failed"])) == []


class TestRates:
    def test_more_bytes_than_the_link_carries_came_from_elsewhere(self):
        table = timings([2.0, 10.0, 3.0], "copy", bytes=1e9, link_bytes_per_s=125e6)
        found = only(table, "rate above the link")
        assert seconds_of(table, found) == [2.0, 3.0]
        assert found.evidence["bytes_per_s"] == 5e8

    def test_without_a_declared_link_100_gigabit_is_the_limit(self):
        assert artefacts(timings([1.0], "copy", bytes=12.4e9)) == []
        only(timings([1.0], "copy", bytes=13e9), "rate above the link")


class TestZeros:
    def test_zeros_among_durations_are_missing_values(self):
        table = timings([*BOOTS, 0.0, 0.0])
        found = only(table, "zero for missing")
        assert seconds_of(table, found) == [0, 0]
        assert f"{np.mean(BOOTS):.4g} s" in found.consequence

    def test_a_zero_among_printed_hundredths_is_a_short_time(self):
        assert only(timings([0.02, 0.0, 0.01, 0.03, 0.0]), "lattice").evidence["reading"] == "rounding"
        assert artefacts(timings([0.0, 0.02, 0.0, 61.37, 64.02, 70.91, 75.66])) == []

    def test_negative_durations_are_none(self):
        assert only(timings([*BOOTS, -1.0]), "zero for missing").evidence["least_s"] == -1

    def test_what_never_varies_was_not_measured(self):
        assert only(timings([72.77] * 5), "zero for missing").evidence == {"n": 5, "constant_s": 72.77}
        assert artefacts(timings([0.5] * 4)) == []


class TestPasses:
    def test_verified_content_needs_a_hash_to_compare_with(self):
        found = only(timings(BOOTS, verified=True, content_hash=None), "pass that could not have failed")
        assert found.evidence == {"runs": 10}
        assert artefacts(timings(BOOTS, verified=True, content_hash="9f86d081")) == []
        assert artefacts(timings(BOOTS, verified=False, content_hash=None)) == []

    @pytest.mark.parametrize("column", ["files", "bytes"])
    def test_comparing_nothing_always_passes(self, column):
        table = timings(BOOTS, verified=True, **{column: [0, *[3e3] * 9]})
        found = only(table, "pass that could not have failed")
        assert (found.rows, found.evidence) == ((0,), {"runs": 1, column: 0})

    def test_nothing_is_verified_in_no_time(self):
        table = tree({"copy": 0.0, "total": 0.0}, verified=True, content_hash="9f86d081")
        assert only(table, "pass that could not have failed").evidence["total_s"] == 0

    def test_all_passed_with_tries_that_nobody_counted(self):
        several = {"outcome": "passed", "retries_allowed": [4] * 6 + [0] * 4}
        assert only(timings(BOOTS, **several), "pass that could not have failed").evidence == {"runs": 6, "retries_allowed": 4}
        assert artefacts(timings(BOOTS, **several, attempts=1)) == []
        assert artefacts(timings(BOOTS, **several | {"outcome": ["failed"] + ["passed"] * 9})) == []


class TestHosts:
    def test_more_than_half_of_the_runs_from_one_machine(self):
        table = timings(BOOTS, machine=[7] * 6 + [1, 2, 3, 4])
        found = only(table, "one host counted many times")
        assert list(found.rows) == [0, 1, 2, 3, 4, 5]
        # Kish: n² ÷ Σ size²
        assert found.evidence["effective_n_least"] == pytest.approx(100 / 40)
        assert artefacts(timings(BOOTS, machine=[7] * 5 + [1, 2, 3, 4, 5])) == []

    def test_more_than_half_of_the_successes(self):
        ended = ["passed"] * 5 + ["passed", *["failed"] * 4]
        found = only(timings(BOOTS, machine=[7] * 5 + [1, 2, 3, 4, 5], outcome=ended), "one host counted many times")
        assert (found.evidence["n"], found.evidence["largest"]) == (6, 5)

    def test_two_of_three_runs_may_well_share_a_machine(self):
        assert artefacts(timings(BOOTS[:3], machine=[7, 7, 1])) == []
        only(timings(BOOTS[:3], machine=7), "one host counted many times")


class TestWhereNothingIs:
    def test_clean_tables_are_quiet(self):
        """As the benchmark draws them by the thousand, with seeds of their own; one finding in all may be chance.

        That two decimals are coarse for a copy of hundredths is none.
        """
        rng = np.random.default_rng(1234)
        tables = [clean(rng) for _ in range(25)]
        assert all(not not_applicable(table) for table in tables if table["run"].nunique() > 8)
        found = [one for table in tables for one in artefacts(table)]
        assert sum(one.evidence.get("reading") != "rounding" for one in found) <= 1

    def test_the_sample_is_quiet(self):
        assert artefacts(timings_of(load())) == []

    def test_earlier_tries_and_failed_runs_of_ours_are_no_samples(self):
        runs = [made(i, {P.WAIT_RUNNING: s, P.WAIT_SSH: s / 7}, earlier={P.WAIT_RUNNING: 600.0}) for i, s in enumerate(BOOTS)]
        runs += [made(90 + i, {P.SEARCH: s / 50}, stopped=P.WAIT_RUNNING, outcome=FAILED) for i, s in enumerate(BOOTS)]
        assert artefacts(timings_of(phases_table(runs))) == []

    def test_an_empty_table_has_no_artefacts_and_no_rule_that_needs_a_column(self):
        nothing = tree()
        assert artefacts(nothing) == []
        assert artefacts(timings_of(phases_table([]))) == []
        assert set(not_applicable(nothing)) == {rule.name for rule in RULES}

    def test_a_rule_without_its_columns_says_which(self):
        missing = not_applicable(timings(BOOTS))
        assert "bytes" in missing["rate above the link"]
        assert "total" in missing["phases do not add up"]
        assert "lattice" not in missing


VALUES = st.one_of(st.floats(-1e12, 1e12), st.just(math.nan), st.sampled_from([0.0, 1.0, 10.0, 300.0]))


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(VALUES, min_size=1, max_size=25),
    data=st.data(),
)
def test_whatever_the_values_every_finding_names_rows_that_are_there(values, data):
    def column(cells):
        return data.draw(st.lists(cells, min_size=len(values), max_size=len(values)))

    table = pd.DataFrame(
        {
            "run": column(st.sampled_from(["a", "b", "c", "d"])),
            "phase": column(st.sampled_from(["boot", "ssh", "total"])),
            "seconds": values,
            "machine": column(st.sampled_from([1, 2, None])),
            "bytes": column(st.one_of(st.floats(0, 1e15), st.just(math.nan))),
            "poll_period_s": column(st.sampled_from([1.0, 10.0, math.nan])),
            "timeout_s": column(st.sampled_from([300.0, math.nan])),
            "outcome": column(st.sampled_from(["passed", "failed", None])),
            "verified": column(st.sampled_from([True, False, None])),
        }
    )
    for found in artefacts(table):
        assert found.rows
        assert set(found.rows) <= set(table.index)
        assert all(isinstance(number, str) or math.isfinite(number) for number in found.evidence.values())
