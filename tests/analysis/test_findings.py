"""A finding stands only where its data are, and its sentence holds no number that is not among its figures."""

import math
import re
import string
from dataclasses import replace

import pytest

from vastbench.analysis.facts import Facts
from vastbench.analysis.findings import RULES, Kind, findings
from vastbench.analysis.frames import phases_table
from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.io.prices import prices
from vastbench.record.cost import Bill, Cost
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, Phase, PhaseName
from vastbench.record.run import Attempt
from vastbench.render.findings import cell, spoken, worded

SEED = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
PRICES = prices()


def ours(number, **changes):
    """A run like the published one, emulated, whose instance was seen to be gone."""
    end = SEED.total_s + number
    gone = Phase(PhaseName.CONFIRM, Moment.exact(end - 1), Moment.exact(end))
    got = SEED.resources | {"machine_id": number, "instance_id": 100 + number}
    known = {"id": f"run-{number}", "source": "emulator", "phases": (*SEED.phases, gone), "total_s": end, "resources": got}
    return replace(SEED, **known | {"instrument": {"clock_speed": 20.0, "poll_period_s": 1.0}} | changes)


def late(number):
    """A run that a deadline cut off before its instance was running."""
    stopped = Phase(PhaseName.WAIT_RUNNING, Moment.exact(2.0), Moment.between(600.0, None, "poll"), Outcome.CENSORED)
    return ours(number, outcome=Outcome.CENSORED, cause="deadline", phases=(stopped, ours(number).phases[-1]))


def found(runs):
    return {finding.rule: finding for finding in findings(Facts(phases_table(runs)))}


def test_no_run_has_no_finding():
    assert found([]) == {}
    assert found([ours(1, outcome=Outcome.CENSORED, cause="interrupted")]) == {}


def test_each_rule_says_what_it_looks_for():
    assert all(rule.__doc__ for rule in RULES)


def test_every_number_of_a_sentence_is_one_of_its_figures():
    runs = [ours(n, attempts=(Attempt(1, Outcome.FAILED), Attempt(2, Outcome.PASSED))) for n in range(40)] + [
        late(50),
        late(51),
    ]
    for finding in found(runs).values():
        names = {name for _, name, _, _ in string.Formatter().parse(finding.text) if name}
        assert names <= set(finding.figures), finding.rule
        # "95 %" and "90 %" name the method, not the data.
        bare = re.sub(r"\{\w+\}|95 %|90 %", "", finding.text)
        assert re.findall(r"\d+", bare) == [], finding.rule
        assert all(math.isfinite(value) for value in finding.figures.values() if not isinstance(value, str)), finding.rule
        assert "{" not in spoken(finding)
        assert "nan" not in spoken(finding)


def test_passed_runs_are_counted_with_their_interval():
    finding = found([*map(ours, range(9)), late(9)])["passes"]
    assert finding.kind is Kind.WORKS
    assert (finding.figures["passed"], finding.figures["attempted"]) == (9, 10)
    assert finding.figures["low_rate"] == pytest.approx(0.5550, abs=1e-4)  # Clopper and Pearson, 9 of 10
    assert "passes" not in found([late(1)])


def test_the_longest_phase_has_its_share_of_the_mean():
    finding = found([SEED])["longest"]
    assert finding.figures["phase"] == "wait running"
    assert finding.figures["mean_share"] == pytest.approx(72.77 / 98.98, abs=1e-3)
    assert "longest" not in found([late(1)])


def test_variance_needs_runs_that_differ():
    assert "varying" not in found([ours(1), ours(2)])
    assert "varying" in found(map(ours, range(5)))


def test_savings_are_of_the_recomputed_median():
    finding = found(map(ours, range(1, 8)))["savings"]
    assert finding.figures["now_s"] == pytest.approx(SEED.total_s + 4)
    assert finding.figures["saved_s"] == pytest.approx(72.77)
    assert "low_s" in finding.figures
    assert "low_s" not in found([SEED])["savings"].figures


def test_each_cause_of_failure_is_an_issue_of_its_own():
    finding = found([ours(1), late(2), late(3)])["failures"]
    assert (finding.kind, finding.figures["cause"], finding.figures["lost"]) == (Kind.ISSUE, "deadline", 2)
    assert "failures" not in found([ours(1)])


def test_an_instance_that_was_not_seen_to_be_gone_is_an_issue():
    assert found([ours(1)])["destroyed"].kind is Kind.WORKS
    finding = found([replace(SEED, id="other"), SEED])["destroyed"]
    assert (finding.kind, finding.figures["open"]) == (Kind.ISSUE, 2)


def test_stopped_runs_and_unanswered_creates_count_as_not_destroyed():
    killed = ours(2, outcome=Outcome.CENSORED, cause="killed", phases=(), total_s=None)
    unclear = ours(3, outcome=Outcome.FAILED, cause="lease_not_closed", phases=(), total_s=None, resources={})
    for run in (killed, unclear):
        finding = found([ours(1), run])["destroyed"]
        assert (finding.kind, finding.figures["open"], finding.figures["rented"]) == (Kind.ISSUE, 1, 2)


def test_one_machine_behind_most_successes_is_named():
    same = [replace(ours(n), resources=ours(7).resources) for n in range(3)]
    assert found([*same, ours(9)])["one_host"].figures == {"machine": "7", "runs": 3, "passed": 4}
    assert "one_host" not in found(map(ours, range(4)))
    assert "one_host" not in found([ours(1)])


def test_the_naive_figure_is_set_against_the_meters():
    assert found([SEED])["naive_cost"].figures["naive_ratio"] == pytest.approx(98.98 / 23.36, rel=0.01)
    assert "naive_cost" not in found([replace(SEED, cost=Cost())])


def billed(number, match, usd):
    """A run that cost 0.011 USD by its meters and was charged ``usd`` for its GPU and nothing else."""
    bill = Bill(gpu_usd=usd, storage_usd=0.0, transfer_usd=0.0, total_usd=usd, rounding_usd=0.0005, match=match)
    return ours(number, cost=Cost(gpu_usd=0.01, storage_usd=0.001, transfer_usd=0.0), bill=bill)


def test_charges_that_rounding_does_not_explain_are_an_issue():
    finding = found([billed(1, "agrees", 0.011), billed(2, "differs", 0.5), billed(3, "late", 0.0)])["charges"]
    known = {"differ": 1, "asked": 3, "charged_usd": 0.5, "metered_usd": 0.011, "meter": "gpu"}
    assert (finding.kind, finding.figures) == (Kind.ISSUE, pytest.approx(known))
    assert "1 of 3 runs cost other than the meters say" in spoken(finding)
    assert "charges" not in found([billed(1, "agrees", 0.011), billed(3, "late", 0.0), ours(4)])


def test_few_runs_have_no_interval_and_that_is_said():
    assert found([ours(1)])["few"].figures["passed"] == 1
    assert found([ours(1)])["more_runs"].figures["needed"] == 6
    assert "few" not in found(map(ours, range(6)))


def test_a_median_of_nothing_has_no_relative_width():
    instant = [ours(n, phases=(), total_s=0.0) for n in range(5)]
    assert "more_runs" not in found([*instant, *(ours(n, phases=(), total_s=float(n)) for n in (5, 6, 7))])


def test_emulated_runs_are_called_so():
    assert "EMULATED" in spoken(found([ours(1)])["emulated"])
    assert "EMULATED" in spoken(found([ours(1, instrument={})])["emulated"])  # at a speed that nobody knows
    assert "emulated" not in found([SEED])


def test_runs_of_different_conditions_are_said_to_be_pooled():
    other = replace(ours(2), resources=ours(2).resources | {"gpu_name": "RTX 3090"})
    assert found([ours(1), other])["pooled"].figures["column"] == "gpu"
    assert "pooled" not in found([ours(1), ours(2)])


def test_how_long_to_wait_needs_runs_that_never_came_and_a_tail():
    assert "give_up" not in found([*map(ours, range(10)), late(20)])
    assert found([*map(ours, range(40)), late(50)])["give_up"].figures["unfinished"] == 1
    assert "give_up" not in found(map(ours, range(40)))
    broken = replace(late(50), outcome=Outcome.FAILED, phases=(replace(late(50).phases[0], outcome=Outcome.FAILED),))
    assert "give_up" not in found([*map(ours, range(40)), broken])


def test_nobody_is_told_to_poll_faster_than_the_marketplace_allows():
    wide = Phase(PhaseName.WAIT_RUNNING, Moment.exact(2.0), Moment.between(3.0, 8.0, "poll"))
    runs = [ours(n, phases=(wide, ours(n).phases[-1])) for n in range(8)]
    assert "poll_faster" not in found(runs)
    slow = [replace(run, instrument={"clock_speed": 20.0, "poll_period_s": 5.0}) for run in runs]
    assert "poll_faster" in found(slow)


def test_retries_and_runs_ended_by_us_are_issues():
    again = ours(1, attempts=(Attempt(1, Outcome.FAILED), Attempt(2, Outcome.PASSED)))
    assert found([again, ours(2)])["retries"].figures == {"again": 1, "attempted": 2}
    assert found([ours(1), ours(2, outcome=Outcome.CENSORED, cause="killed")])["stopped"].figures == {"stopped": 1}


@pytest.mark.parametrize(
    ("name", "value", "words", "in_table"),
    [
        ("mean_s", 72.773, "72.8 s", "72.77"),
        ("run_usd", 0.00464, "0.0046 USD", "0.0046"),
        ("usd_per_hour", 0.1689, "0.1689 USD", "0.1689"),
        ("mean_share", 0.7351, "73.5 %", "73.5 %"),
        ("rate_low", 0.5, "50.0 %", "50.0 %"),
        ("ratio_per_gb", 13.049, "13.0", "13.05"),
        ("runs", 100000, "100000", "100000"),
        ("scale", 20.0, "20", "20"),
        ("cause", "deadline", "deadline", "deadline"),
        ("mean_s", None, "–", "–"),
        ("run_usd", None, "–", "–"),
    ],
)
def test_a_figure_is_formatted_by_the_unit_in_its_name(name, value, words, in_table):
    assert worded(name, value) == words
    assert cell(name, value) == in_table
