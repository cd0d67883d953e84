"""Is B worse than A? Effects and verdicts on runs whose truth is known."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import norm

from tests.analysis.made import CENSORED, FAILED, made
from vastbench.analysis.comparison import EFFECT_COLUMNS, compare, effects, ratio_interval, success, success_of
from vastbench.analysis.durations import durations
from vastbench.analysis.fairness import cautions
from vastbench.analysis.frames import phases_table
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.quantiles import Estimate
from vastbench.analysis.verdicts import Criteria, Verdict
from vastbench.errors import UsageError
from vastbench.record.phases import PhaseName
from vastbench.record.stopping import USEFUL

RUNNING, SSH = PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH


def frame(times, *, first=0, machines=None, failed=0, width=0.0, minute=0, apart=2, **changes):
    """Runs that were useful after these seconds, one every ``apart`` minutes, and ``failed`` ones that never were."""
    runs = [made(first + i, {RUNNING: 0.75 * t, SSH: 0.25 * t}, width=width) for i, t in enumerate(times)]
    cause = {"outcome": FAILED, "cause": "boot_failed"}
    runs += [made(first + len(runs) + i, {}, stopped=RUNNING, **cause) for i in range(failed)]
    for i, run in enumerate(runs):
        started = f"2026-01-02T{(minute + apart * i) // 60:02d}:{(minute + apart * i) % 60:02d}:00+00:00"
        machine = {} if machines is None else {"machine_id": machines[i]}
        runs[i] = dataclasses.replace(run, started_at=started, resources=machine, **changes)
    return phases_table(runs)


def drawn(rng, ratio, n, spread=0.3, **more):
    return frame(80 * ratio * np.exp(rng.normal(0, spread, n)), **more)


def test_half_as_long_again_is_found():
    rng = np.random.default_rng(4)
    found = compare(drawn(rng, 1, 30), drawn(rng, 1.5, 30, first=100, minute=1))
    row = found.effects.iloc[0]
    assert (found.speed, row["quantity"], row["test"]) == (Verdict.SLOWER, USEFUL, "Mann–Whitney, exact")
    assert 1 < row["ratio_low"] < 1.5 < row["ratio_high"]
    # log-normal: the chance is that of a difference of two normals, Φ(log 1.5 ÷ (0.3 √2)) = 0.83.
    assert row["a_first_low"] < norm.cdf(math.log(1.5) / (0.3 * math.sqrt(2))) < row["a_first_high"]
    assert found.cautions == ()


def test_turned_round_it_is_the_inverse():
    rng = np.random.default_rng(4)
    a, b = drawn(rng, 1, 30), drawn(rng, 1.5, 30, first=100)
    one, other = (compare(*pair).effects.iloc[0] for pair in ((a, b), (b, a)))
    assert other["verdict"] == Verdict.FASTER
    assert (other["ratio"], other["ratio_low"], other["ratio_high"]) == pytest.approx(
        (1 / one["ratio"], 1 / one["ratio_high"], 1 / one["ratio_low"])
    )
    assert other["a_first"] == pytest.approx(1 - one["a_first"])
    assert other["p_value"] == pytest.approx(one["p_value"])


def passes(passed, n, machines=0):
    """So many of n runs that passed, the last ones did not; on machines in turn."""
    return np.arange(n) < passed, np.arange(n) % machines if machines else None


def told(rng, ratio, n, spread=0.3, machines=None):
    """The verdict on two groups drawn log-normally; two thirds of the spread lie between ``machines``, if there are any."""
    groups = []
    for median in (80, 80 * ratio):
        on = None if machines is None else rng.integers(0, machines, n).astype(float) + len(groups) * machines
        logs = rng.normal(0, spread, n)
        if on is not None:
            of_machine = rng.normal(0, spread, 2 * machines)[on.astype(int)]
            logs = math.sqrt(2 / 3) * of_machine + math.sqrt(1 / 3) * logs
        times = median * np.exp(logs)
        groups.append(Durations(times, times, on))
    return effects({"boot": tuple(groups)})["verdict"].iloc[0]


def test_it_is_found_in_most_draws_and_equal_groups_are_told_apart_in_few():
    """At most 5 % of 400 pairs of equal groups; 1.5 in at least 90 % of 60 pairs of 30."""
    rng = np.random.default_rng(11)
    assert sum(told(rng, 1, 12) in ("slower", "faster") for _ in range(400)) <= 20
    assert sum(told(rng, 1.5, 30) == "slower" for _ in range(60)) >= 54


def test_equal_groups_are_rarely_called_different_on_repeated_machines():
    rng = np.random.default_rng(12)
    assert sum(told(rng, 1, 30, machines=6) in ("slower", "faster") for _ in range(200)) <= 10


def test_groups_that_differ_by_the_margin_are_rarely_called_equivalent():
    """The risk of a wrong *equivalent* is at most 5 % for a ratio at the margin, 1.1."""
    rng = np.random.default_rng(13)
    assert sum(told(rng, 1.1, 60, spread=0.15) == "equivalent" for _ in range(200)) <= 10


def test_groups_are_equivalent_within_a_wide_margin_and_not_a_narrow_one():
    rng = np.random.default_rng(5)
    a, b = drawn(rng, 1, 100, spread=0.1), drawn(rng, 1, 100, spread=0.1, first=200)
    assert compare(a, b).verdict == Verdict.EQUIVALENT
    narrow = compare(a, b, criteria=Criteria(margin=0.01))
    assert (narrow.success.verdict, narrow.verdict) == (Verdict.EQUIVALENT, Verdict.NOT_ENOUGH)
    assert "reaches over the margin, 0.99 to 1.01" in narrow.effects["why"].iloc[0]
    assert "times as many runs" in narrow.effects["why"].iloc[0]


def test_a_difference_that_does_not_matter_is_equivalent():
    rng = np.random.default_rng(6)
    row = compare(drawn(rng, 1, 200, spread=0.05), drawn(rng, 1.03, 200, spread=0.05, first=300)).effects.iloc[0]
    assert row["ratio_low"] > 1
    assert row["p_value"] < 0.05
    assert row["verdict"] == Verdict.EQUIVALENT


def test_three_of_each_are_never_enough():
    row = compare(frame([1, 2, 3]), frame([400, 500, 600], first=10)).effects.iloc[0]
    assert (row["verdict"], row["p_value"]) == (Verdict.NOT_ENOUGH, pytest.approx(0.1))
    assert row["ratio"] == 250
    assert math.isnan(row["ratio_low"])
    assert row["why"] == "3 runs of A and 3 runs of B allow no interval of the ratio; its p-value cannot be below 0.1"


def test_one_machine_is_never_enough_however_many_its_runs():
    rng = np.random.default_rng(7)
    row = compare(drawn(rng, 1, 20, machines=[1] * 20), drawn(rng, 3, 20, first=50, machines=list(range(20)))).effects.iloc[0]
    assert row["verdict"] == Verdict.NOT_ENOUGH
    assert row["why"] == "20 runs of A on 1 machine and 20 runs of B allow no interval of the ratio"


def test_the_same_machines_in_both_groups_tell_more_than_as_many_others():
    """B takes 1.3 times as long on every machine, and the machines differ much more from each other than that."""
    machine = np.repeat(np.arange(24.0), 2)
    a = np.repeat(np.geomspace(40, 160, 24), 2) * np.tile([0.99, 1.01], 24)
    same, others = (
        effects({"boot": (Durations(a, a, machine), Durations(1.3 * a, 1.3 * a, machine + start))}).iloc[0] for start in (0, 24)
    )
    assert (same["verdict"], others["verdict"]) == ("slower", "not enough runs")
    assert same["ratio"] == others["ratio"] == pytest.approx(1.3)
    assert others["ratio_low"] < 1 < same["ratio_low"]
    assert same["p_value"] < 0.001 < 0.02 < others["p_value"]
    assert same["a_first_high"] - same["a_first_low"] < 0.5 * (others["a_first_high"] - others["a_first_low"])


def test_the_primary_quantity_keeps_its_level_and_the_others_share_one():
    a = frame([10, 11, 12, 13, 14, 15.0, 16])
    b = frame([14.5, 15.5, 17, 18, 19, 20.0, 21], first=50)
    same = durations(a, RUNNING), durations(b, RUNNING)
    alone = effects({"phase 0": same}).iloc[0]
    many = effects({f"phase {i}": same for i in range(20)})
    assert set(many["verdict"][1:]) == {Verdict.NOT_ENOUGH}
    assert many.iloc[0].equals(alone)
    assert (alone["verdict"], alone["p_adjusted"]) == (Verdict.SLOWER, alone["p_value"])
    # All are the same times here, so that Holm multiplies each by their number.
    assert many["p_adjusted"][1:].to_list() == pytest.approx([19 * alone["p_value"]] * 19)
    assert set(many["ratio_low"]) == {alone["ratio_low"]}
    assert "the test does not confirm it" in many["why"].iloc[1]


def test_equivalence_of_many_phases_takes_a_wider_interval():
    """Each at 1 − 2α ÷ 20: of twenty phases that differ by the margin at most 5 % of draws call any of them equivalent."""
    times = 80 * np.exp(0.2 * norm.ppf((np.arange(75) + 0.5) / 75))
    same = Durations(times, times), Durations(times, times)
    primary, *others = effects({f"phase {i}": same for i in range(21)}).to_dict("records")
    alone = effects({"phase": same}, Criteria(confidence=1 - 0.05 / 20)).iloc[0]
    assert primary["verdict"] == Verdict.EQUIVALENT
    assert {(row["equivalence_low"], row["equivalence_high"]) for row in others} == {
        (alone["equivalence_low"], alone["equivalence_high"])
    }
    assert {row["verdict"] for row in others} == {Verdict.NOT_ENOUGH}
    assert primary["equivalence_high"] < 1.1 < alone["equivalence_high"]


def test_when_most_of_b_never_ends_it_is_slower_without_a_ratio():
    a = frame(np.linspace(50, 60, 30))
    row = compare(a, frame(np.linspace(50, 60, 8), first=100, failed=22)).effects.iloc[0]
    assert (row["n_b"], row["ended_b"]) == (30, 8)
    assert math.isnan(row["ratio"])
    assert math.isinf(row["ratio_high"])
    assert row["verdict"] == Verdict.SLOWER
    assert row["a_first_low"] > 0.5


def test_bounds_of_ten_seconds_do_not_make_a_difference():
    times = np.linspace(60, 100, 40)
    wide = compare(frame(times, width=10), frame(times, first=50, width=10), (RUNNING,)).effects.iloc[0]
    assert wide["test"] == "log-rank on intervals"
    assert (wide["ratio"], wide["a_first"], wide["p_value"]) == pytest.approx((1, 0.5, 1), abs=1e-6)


def test_a_faster_group_that_fails_more_is_seen():
    a, b = frame([50.0] * 40), frame([20.0] * 25, first=100, failed=15)
    found = compare(a, b)
    assert (found.success.verdict, found.verdict) == (Verdict.WORSE, Verdict.WORSE)
    assert found.effects["ratio"].iloc[0] < 0.5
    assert compare(b, a).success.verdict == Verdict.BETTER


def test_a_proved_fall_in_success_is_never_equivalent_however_small():
    """Of 20,000 each the second passes 0.5 points less often: within the margin, and proved."""
    found = success_of(passes(20_000, 20_000), passes(19_900, 20_000))
    assert -0.05 < found.equivalence_low < found.high < 0
    assert found.verdict == Verdict.WORSE
    assert success_of(passes(540, 540), passes(497, 540)).verdict == Verdict.WORSE
    assert success_of(passes(540, 540), passes(538, 540)).verdict == Verdict.EQUIVALENT


def test_success_on_one_machine_has_a_difference_and_no_interval():
    found = success_of(passes(20, 20), passes(10, 20, machines=1))
    assert (found.difference, found.effective_b, found.verdict) == (-0.5, 0, Verdict.NOT_ENOUGH)
    assert found.why == "20 runs of A and 20 runs of B on 1 machine allow no interval of the difference"
    assert math.isnan(found.low)
    assert success_of(passes(20, 20), passes(0, 20, machines=1)).verdict == Verdict.B_NEVER


@pytest.mark.parametrize(("n", "verdict"), [(19, Verdict.NOT_ENOUGH), (20, Verdict.B_NEVER)])
def test_from_twenty_runs_on_none_that_passed_is_an_outage(n, verdict):
    found = success_of(passes(1, 20), passes(0, n))
    assert found.verdict == verdict


def test_the_difference_of_success_is_the_published_one():
    """Newcombe, Statistics in Medicine 17, 1998, 873, table II: 56 of 70 and 48 of 80 differ by 0.0524 to 0.3339."""
    found = success(frame([1.0] * 48, failed=32), frame([1.0] * 56, first=200, failed=14))
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    none = success(frame([1.0] * 10, failed=0), frame([1.0] * 20, first=50, failed=0))
    assert (none.difference, none.low, none.high) == pytest.approx((0, -0.1611, 0.2775), abs=5e-5)


def test_runs_that_we_stopped_say_nothing():
    a, b = frame(np.linspace(50, 60, 10)), frame(np.linspace(50, 60, 10), first=50)
    stopped = phases_table(
        [made(90 + i, {}, stopped=RUNNING, outcome=CENSORED, cause="interrupted") for i in range(5)],
    )
    with_them = b.__class__(np.concatenate([b, stopped]), columns=b.columns).astype(b.dtypes)
    assert compare(a, with_them).effects.equals(compare(a, b).effects)


def test_two_intervals_make_one():
    """By hand: down from log 2 by B's lower and A's upper half, up by the others, as the sides of a right angle."""
    a, b = Estimate(50, 50 / 1.2, 55, 20, 0, "", 20.0), Estimate(100, 100 / 1.2, 110, 20, 0, "", 20.0)
    ratio, low, high = ratio_interval(a, b)
    down, up = math.hypot(math.log(1.2), math.log(1.1)), math.hypot(math.log(1.1), math.log(1.2))
    assert (ratio, low, high) == pytest.approx((2, 2 * math.exp(-down), 2 * math.exp(up)))
    # Two that vary together wholly differ by what their intervals differ by.
    ratio, low, high = ratio_interval(a, b, correlation=1.0)
    assert (low, high) == pytest.approx((2 / (1.2 / 1.1), 2 * (1.2 / 1.1)))


def test_an_open_end_stays_open():
    a = Estimate(50, 40, 60, 20, 0, "", 20.0)
    ratio, low, high = ratio_interval(a, Estimate(100, 80, math.inf, 20, 8, "", 20.0))
    assert (ratio, high) == (2, math.inf)
    assert 80 / 60 < low < 2
    ratio, low, high = ratio_interval(a, Estimate(math.nan, 120, math.inf, 20, 14, "", 20.0))
    assert math.isnan(ratio)
    assert (low, high) == (2, math.inf)
    assert all(math.isnan(value) for value in ratio_interval(a, Estimate(math.nan, math.nan, math.nan, 0, 0, "", 0.0)))
    assert ratio_interval(Estimate(0.0, 0.0, 0.0, 9, 0, "", 9.0), a)[1:] == (0.0, math.inf)


@pytest.mark.parametrize("times", [[], [5.0]])
def test_none_and_one_are_clear_results(times):
    found = compare(frame(times), frame(times, first=9), (USEFUL, RUNNING, PhaseName.ALLOCATE))
    assert list(found.effects.columns) == list(EFFECT_COLUMNS)
    assert set(found.effects["verdict"]) == {"not enough runs"}
    assert found.effects[["ratio_low", "ratio_high", "a_first_low"]].isna().all(axis=None)
    assert found.success.n_a == len(times)


def test_what_cannot_be_compared_is_refused():
    a, b = frame([1.0, 2]), frame([1.0], first=9)
    with pytest.raises(UsageError, match="2 runs are in both A and B: run-0"):
        compare(a, a)
    with pytest.raises(UsageError, match="no quantity 'the boot'"):
        compare(a, b, ("the boot",))
    with pytest.raises(UsageError, match="no quantity ''"):
        compare(a, b, ())


def test_other_conditions_are_named():
    a = frame([1.0, 2], conditions={"image": "one:1", "disk_gb": 20.0})
    b = frame([1.0, 2], first=5, minute=1, conditions={"image": "two:2", "disk_gb": 20.0}, source="live")
    assert cautions(a, b) == [
        "The source is not the same: A emulator; B live.",
        "The image is not the same: A one:1; B two:2.",
    ]
    assert cautions(a, b, by="image") == ["The source is not the same: A emulator; B live."]


def test_machines_are_named_when_they_may_be_the_difference():
    a, b = frame([1.0] * 4, machines=[1, 1, 2, 3]), frame([1.0] * 4, first=9, minute=1, machines=[4, 4, 4, 5])
    assert cautions(a, b) == [
        "No machine gave runs to both groups (3 in A, 2 in B): a difference may be that of the machines.",
        "One machine gave 3 of the 4 runs of B: they describe that machine.",
    ]
    assert cautions(a, frame([1.0] * 4, first=9, minute=1, machines=[1, 2, 6, 7])) == []


def test_one_group_after_the_other_is_no_fair_comparison():
    a, late = frame([1.0] * 5), frame([1.0] * 5, first=9, minute=10)
    assert cautions(a, late)[0].startswith("All runs of A began before those of B")
    assert cautions(late, a)[0].startswith("All runs of B began before those of A")
    assert cautions(a, frame([1.0] * 5, first=9, minute=8))[0].startswith("Most runs of A")
    assert cautions(a, frame([1.0] * 5, first=9, minute=1)) == []
