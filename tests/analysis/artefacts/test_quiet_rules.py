"""What looks like an artefact and is none, and what is one and was not seen: each case once was told wrongly."""

import math

import numpy as np
import pandas as pd
import pytest

import vastbench
from tests.analysis.artefacts.test_detector import BOOTS, only, timings, tree
from vastbench.analysis.artefacts.detector import artefacts
from vastbench.analysis.artefacts.lattice import rounding


def rules(table):
    return [found.rule for found in artefacts(table)]


class TestNoDeadline:
    def test_a_slow_group_at_a_constant_rate_is_no_deadline(self):
        rng = np.random.default_rng(4)
        for at in (8.37, 81.3, 271.4):
            slow = at * (1 + 0.003 * np.abs(rng.standard_normal(8)))
            assert rules(timings(np.round([*at / 3 * np.exp(0.2 * rng.standard_normal(12)), *slow], 2))) == []

    def test_a_range_with_an_upper_end_is_no_deadline(self):
        rng = np.random.default_rng(5)
        assert sum(bool(rules(timings(np.round(rng.uniform(7.9, 8.1, 100), 3)))) for _ in range(10)) == 0

    def test_no_declared_deadline_is_0_or_negative(self):
        assert rules(timings(BOOTS, timeout_s=0.0)) == []
        assert rules(timings(BOOTS, timeout_s=-1.0)) == []

    def test_one_row_with_a_deadline_does_not_hide_a_pile_at_another(self):
        table = timings([*BOOTS, 300.0, 300.02, 300.01, 300.03], timeout_s=[900.0] + [math.nan] * 13)
        assert only(table, "value equal to a timeout").evidence["at_deadline"] == 4

    def test_an_undeclared_deadline_is_asked_about_and_not_asserted(self):
        found = only(timings([*BOOTS, 300.0, 300.02, 300.01, 300.03]), "value equal to a timeout")
        assert found.consequence.startswith("If the waiting was given up there")

    def test_deadlines_of_several_lengths_are_all_named(self):
        table = timings([*BOOTS, 300.0, 600.1], timeout_s=[300.0] * 11 + [600.0])
        assert "declared deadline of 300 s to 600 s" in only(table, "value equal to a timeout").text.replace(
            "300 to", "300 s to"
        )


class TestRounding:
    def test_whole_seconds_are_rounded_and_not_polled(self):
        found = only(timings(np.round([*BOOTS, *BOOTS])), "lattice")
        assert found.evidence["reading"] == "rounding"
        assert "too long by" not in found.consequence
        assert "0.5 s from the true time" in found.consequence

    def test_the_same_values_are_a_poll_where_one_of_that_period_is_declared(self):
        values = [60.0, 70.0, 80.0, 80.0, 90.0, 100.0, 120.0]
        found = only(timings(values, poll_period_s=10.0), "lattice")
        assert found.evidence["reading"] == "poll"
        assert "too long by 5 s" in found.consequence

    def test_ticks_of_10_ms_around_60_ms_are_found(self):
        rng = np.random.default_rng(6)
        printed = np.round(rng.normal(0.06, 0.015, 30), 2)
        assert only(timings(printed), "lattice").evidence["step_s"] == pytest.approx(0.01)
        jittered = printed + 0.0002 * rng.standard_normal(30)
        assert only(timings(jittered), "lattice").evidence["step_s"] == pytest.approx(0.01, rel=0.01)

    @pytest.mark.parametrize(("step", "count"), [(10.0, 12), (0.5, 12), (60.0, 12), (1.0, 5)])
    def test_the_coarsest_step_is_told(self, step, count):
        values = step * np.array([2, 3, 5, 7, 8, 9, 11, 13, 14, 17, 18, 19][:count])
        assert rounding(values).step_s == step

    def test_few_values_that_happen_to_be_round_are_not_rounded(self):
        assert rounding(np.array([60.1, 60.3, 60.4, 61.0])) is None
        assert rounding(np.array([20.0, 40.0, 60.0])) is None

    def test_equal_whole_seconds_are_no_constant_and_no_spread(self):
        assert rules(timings([2.0] * 12)) == []
        assert rules(timings([12.0] * 12, poll_period_s=3.0)) == []

    def test_a_total_in_whole_seconds_is_as_exact_as_it_is_printed(self):
        assert rules(tree(*[{"boot": 1.25 + i / 10, "ssh": 0.85, "total": float(round(2.1 + i / 10))} for i in range(4)])) == []


class TestPartsOfAColumn:
    def test_a_lattice_of_one_group_is_said_of_its_values_alone(self):
        rng = np.random.default_rng(8)
        polled = 10 * np.ceil(rng.uniform(60, 200, 30) / 10) + 0.31
        free = rng.uniform(60, 200, 8)
        table = timings(np.round([*polled, *free], 2))
        found = only(table, "lattice")
        assert 30 <= found.evidence["on_it"] < 36
        assert set(range(30)) <= set(found.rows)
        assert "some values" in found.text
        assert "--group-by" in found.text

    def test_a_grouped_lattice_names_its_group(self):
        rng = np.random.default_rng(8)
        frame = pd.DataFrame({"boot_s": np.round([*10 * np.ceil(rng.uniform(6, 20, 12)) + 0.31, *rng.uniform(60, 200, 30)], 2)})
        frame["provider"] = ["aws"] * 12 + ["gcp"] * 30
        checked = vastbench.check(frame, group_by="provider")
        (found,) = checked.tables[0].found
        assert "Boot of provider aws: the values" in found.text
        assert len(found.rows) == 12

    def test_two_groups_may_have_runs_of_the_same_name(self):
        frame = pd.DataFrame({"run": [1, 2, 1, 2], "gpu": ["a", "a", "b", "b"], "boot_s": 1.5, "ssh_s": 2.5, "total_s": 4.0})
        assert vastbench.check(frame, group_by=["gpu"]).tables[0].timings["run"].nunique() == 4
        assert vastbench.check(frame, group_by=["gpu"]).findings.empty

    def test_a_table_of_totals_alone_is_examined(self):
        values = [60.1, 70.1, 80.1, 80.1, 90.1, 100.1, 110.1, 120.1, 130.1, 150.1]
        only(timings(values, "total"), "lattice")


class TestClaims:
    def test_bounds_in_the_wrong_order_and_values_outside_are_told(self):
        values = np.array(BOOTS)
        found = only(timings(values, lower_s=values + 1, upper_s=values - 9), "bounds that cannot be")
        assert found.evidence == {"n": 10, "wrong": 10}
        assert "above the upper one" in found.text
        outside = only(timings(values, lower_s=values / 1000, upper_s=values / 1000), "bounds that cannot be")
        assert "outside of their own bounds" in outside.text
        assert rules(timings(values, lower_s=values - 10, upper_s=values)) == []

    def test_a_run_with_two_totals_is_told_and_not_summed(self):
        table = tree({"boot": 70.25, "ssh": 9.5, "total": 79.75})
        table = pd.concat([table, table[table["phase"] == "total"].assign(seconds=130.0)], ignore_index=True)
        found = only(table, "phases do not add up")
        assert found.evidence == {"runs": 1, "least_s": 79.75, "most_s": 130.0}
        assert "more than one total" in found.text

    def test_a_link_of_speed_0_is_not_known(self):
        assert rules(timings([2.0, 10.0, 3.0], "copy", bytes=1e9, link_bytes_per_s=0.0)) == []

    def test_bytes_of_a_run_beside_all_its_phases_moved_in_one(self):
        table = tree(*[{"connect": 0.5 + i / 9, "copy": 10.0 + i} for i in range(3)], bytes=1e9, link_bytes_per_s=125e6)
        assert rules(table) == []
        fast = only(table.assign(seconds=table["seconds"] / 5), "rate above the link")
        assert set(table.loc[list(fast.rows), "phase"]) == {"copy"}

    def test_a_failed_run_that_compared_nothing_is_no_pass(self):
        ended = ["failed"] * 2 + ["passed"] * 8
        empty = {"verified": True, "content_hash": "9f86d081", "files": [0, 0] + [3] * 8}
        assert rules(timings(BOOTS, outcome=ended, **empty)) == []

    def test_one_run_that_passed_shows_no_rate(self):
        assert rules(timings(BOOTS[:1], outcome="passed", retries_allowed=4)) == []

    def test_a_few_known_machines_say_nothing_of_the_others(self):
        assert rules(timings(BOOTS, machine=[7] * 3 + [None] * 7)) == []

    def test_the_machine_of_an_earlier_try_gave_no_run(self):
        last = timings(BOOTS[:6], machine=[1, 2, 3, 4, 5, 6], final=True)
        earlier = timings(BOOTS[:6], machine=7, final=False)
        assert rules(pd.concat([earlier, last], ignore_index=True)) == []

    def test_a_poll_says_nothing_of_a_phase_shorter_than_its_period(self):
        short = [0.51, 0.53, 0.52, 0.55, 0.54, 0.57, 0.5, 0.56]
        assert rules(timings(short, "create instance", poll_period_s=10.0)) == []

    def test_a_short_time_among_short_ones_is_no_missing_value(self):
        rng = np.random.default_rng(9)
        values = np.round(0.5 * rng.gamma(0.8, size=300), 2)
        assert (values == 0).any()
        assert "zero for missing" not in rules(timings(values))

    def test_a_zero_in_a_run_that_adds_up_is_a_short_time(self):
        copies = [39.4, 0.0, 41.1, 0.0, 47.3, 0.0, 52.8, 44.7]
        times = list(zip([round(boot, 1) for boot in BOOTS], copies, strict=False))
        assert rules(tree(*[{"boot": boot, "copy": copy, "total": round(boot + copy, 1)} for boot, copy in times])) == []
        bare = only(tree(*[{"boot": boot, "copy": copy} for boot, copy in times]), "zero for missing")
        assert "if it is not a time below 0.05 s" in bare.consequence

    def test_a_very_long_time_beside_them_hides_no_zeros(self):
        values = [51.48, 53.37, 76.86, 79.78, 84.99, 91.23, 97.27, 650.87, 0.0, 0.0]
        assert only(timings(values), "zero for missing").evidence["zeros"] == 2

    def test_a_number_that_stands_for_nothing_is_found(self):
        table = timings([*BOOTS, 9999.0])
        assert only(table, "zero for missing").rows == (10,)
