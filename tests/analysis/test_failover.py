"""The estimate of a failover: parts drawn as they were measured, tries that come to nothing included."""

import numpy as np
import pandas as pd
import pytest

import vastbench
from vastbench.analysis.failover import (
    PARTS,
    Parts,
    Plan,
    Sample,
    by_way,
    check,
    estimate,
    measured,
    parts_of,
    plan_of,
    table,
    what_ifs,
)
from vastbench.errors import UsageError

NAMES = {name: (name, name) for name in PARTS} | {"unpaid": ("machine", "boot")}
ONCE = Plan(tries=1)


@pytest.fixture
def random():
    """Of each test for itself: what one draws must not depend on which others ran before it."""
    return np.random.default_rng(1)


def sample(seconds, failed=(), machine=None, unpaid=None):
    seconds = np.asarray(seconds, dtype=float)
    lost = np.zeros(len(seconds), dtype=bool)
    lost[list(failed)] = True
    machine = np.arange(len(seconds)) if machine is None else np.asarray(machine)
    return Sample(seconds, machine, lost, np.zeros(len(seconds)) if unpaid is None else np.asarray(unpaid, dtype=float))


def parts(**changes):
    known = {"notice": sample([10.0]), "machine": sample([100.0]), "restore": sample([5.0]), "resume": sample([1.0])}
    return Parts(known | changes, usd_per_hour=0.36)


def quantile(seconds, level):
    return float(np.quantile(seconds, level, method="higher"))


def test_the_parts_add_up():
    made = estimate(parts(), draws=100, resamples=2)
    assert set(made.rto_s) == {116.0}
    assert made.intervals["rto_s", 0.5] == (116.0, 116.0)
    assert list(table(made)["part"]) == [*PARTS, "RTO", "RPO"]


def test_a_try_that_comes_to_nothing_costs_its_time_and_another():
    made = estimate(parts(machine=sample([600.0, 100.0], failed=[0])), draws=20_000, resamples=0)
    waited = made.parts["machine"]
    assert {100.0, 700.0, 1300.0} < set(waited)
    assert (waited == 100.0).mean() == pytest.approx(0.5, abs=0.02)
    assert (waited == 700.0).mean() == pytest.approx(0.25, abs=0.02)


def test_where_no_machine_ever_came_there_is_no_recovery():
    never = parts(machine=sample([600.0], failed=[0]))
    assert np.isinf(estimate(never, draws=50, resamples=0).rto_s).all()
    assert check(never, np.array([120.0]), ONCE).inside == 0


def test_hedging_shortens_the_tail_most_and_is_paid_for(random):
    machines = sample([*random.uniform(60, 120, 90), *[600.0] * 10], failed=range(90, 100))
    one, two = (estimate(parts(machine=machines), Plan(hedge=n), draws=20_000, resamples=0) for n in (1, 2))
    assert quantile(two.rto_s, 0.95) < 0.3 * quantile(one.rto_s, 0.95)
    assert 0.75 < quantile(two.rto_s, 0.5) / quantile(one.rto_s, 0.5) < 1
    late = estimate(parts(machine=machines), Plan(hedge=2, stagger_s=120.0), draws=20_000, resamples=0)
    assert one.usd.mean() > late.usd.mean()  # most of the long waits are cut short, and few second ones are paid
    assert quantile(two.rto_s, 0.95) < quantile(late.rto_s, 0.95) < quantile(one.rto_s, 0.95)


def test_no_gpu_is_paid_while_its_machine_boots():
    alone = estimate(parts(machine=sample([100.0], unpaid=[90.0])), draws=10, resamples=0)
    assert alone.usd == pytest.approx([(10 + 6) * 0.36 / 3600] * 10)
    # The second begins 95 s late and is given back after five, which it booted for.
    late = estimate(parts(machine=sample([100.0], unpaid=[90.0])), Plan(hedge=2, stagger_s=95.0), draws=10, resamples=0)
    assert late.usd == pytest.approx(alone.usd)
    both = estimate(parts(machine=sample([100.0], unpaid=[90.0])), Plan(hedge=2), draws=10, resamples=0)
    assert both.usd == pytest.approx([(2 * 10 - 4.5 + 6) * 0.36 / 3600] * 10)


def test_machines_that_are_raced_are_created_as_fast_as_an_account_may(random):
    soon = sample(random.uniform(10.0, 12.0, 200))  # the second could only win if both were created at once
    alone, raced = (estimate(parts(machine=soon), Plan(hedge=n), draws=500, resamples=0) for n in (1, 5))
    assert raced.rto_s.tolist() == alone.rto_s.tolist()


def test_a_machine_that_ran_in_vain_is_paid_and_one_that_never_ran_is_not():
    ran, never = (
        estimate(parts(machine=sample([600.0], failed=[0], unpaid=[unpaid])), Plan(tries=2), draws=5, resamples=0)
        for unpaid in (400.0, np.inf)
    )
    assert ran.usd == pytest.approx([(2 * 200 + 6) * 0.36 / 3600] * 5)
    assert never.usd == pytest.approx([6 * 0.36 / 3600] * 5)


def test_a_standby_is_there_at_once_and_paid_all_month():
    plans = what_ifs(parts(), {"alone": Plan(), "kept": Plan(standby=True)}, draws=100).set_index("plan")
    assert plans.loc["kept", "rto_p50_s"] == 16.0
    assert plans.loc["kept", "month_usd"] == pytest.approx(0.36 * 720, rel=0.01)
    assert plans.loc["alone", "month_usd"] == pytest.approx(plans.loc["alone", "incident_usd"])
    assert list(plans["within"]) == [1.0, 1.0]


def test_what_is_lost_grows_with_the_interval_of_snapshots():
    short, long = (estimate(parts(), Plan(interval_s=s), draws=20_000, resamples=0).rpo_s for s in (30.0, 300.0))
    assert quantile(short, 0.95) == pytest.approx(28.5, abs=0.3)
    assert quantile(long, 0.95) == pytest.approx(285, abs=3)


def test_few_machines_say_less_than_as_many_runs_on_many(random):
    seconds = random.normal(100, 20, 60)
    few, many = (
        estimate(parts(machine=sample(seconds, machine=machine)), draws=4_000).intervals["rto_s", 0.5]
        for machine in (np.argsort(np.argsort(seconds)) // 20, np.arange(60))
    )
    assert few[1] - few[0] > 2 * (many[1] - many[0])


def test_drills_of_another_kind_contradict_the_estimate(random):
    # One in five machines never came; of these no drill passed.
    made = parts(machine=sample([*random.uniform(60, 120, 200), *[600.0] * 50], failed=range(200, 250)))
    same = check(made, 16 + random.uniform(60, 120, 100), ONCE)
    assert same.plausible
    assert 80 <= same.inside <= 98
    other = check(made, 16 + random.uniform(100, 200, 100), ONCE)
    assert not other.plausible


def frame(rows):
    known = {"run_outcome": "passed", "outcome": "passed", "final": True, "machine": 1, "cause": "", "usd_per_hour": 0.4}
    known |= {
        "scenario": "failover",
        "source": "emulator",
        "scale": 1.0,
        "variant": "cold",
        "hedge": pd.NA,
        "stagger_s": np.nan,
    }
    return pd.DataFrame([known | row for row in rows])


def row(run, phase, start, end, **more):
    edges = {"start_lower_s": start - 1, "start_s": start, "end_lower_s": end - 2, "end_upper_s": end, "queued_s": 0.0}
    took = {"seconds": end - start, "lower_s": end - start - 2, "upper_s": end - start + 1}
    return {"run": run, "phase": phase, "parent": "total"} | edges | took | more


def test_a_drill_whose_replacement_never_came_is_a_try_in_vain():
    whole = [row("a", name, 10 * n, 10 * n + 5, parent="total") for n, name in enumerate(PARTS)]
    broken = {"run_outcome": "failed", "cause": "boot_failed"}
    cut = [row("b", "notice", 0, 5, **broken), row("b", "machine", 10, 602, **broken, outcome="censored")]
    cut[1]["end_upper_s"] = np.nan
    found = parts_of(frame([*whole, *cut]), names=NAMES).samples["machine"]
    assert found.seconds.tolist() == [5, 590]
    assert found.failed.tolist() == [False, True]
    assert measured(frame([*whole, *cut]), "notice", "resume").tolist() == [35]


def test_tries_in_vain_within_a_drill_are_tries_of_their_own():
    whole = [row("a", name, 1000 + 10 * n, 1005 + 10 * n) for n, name in enumerate(PARTS)]
    vain = row("a", "machine", 400, 700, final=False, outcome="censored") | {"end_upper_s": np.nan}
    boots = [row("a", "boot", 1010, 1012), row("a", "boot", 405, 500, final=False)]
    drills = frame([*whole, vain, *boots])
    found = parts_of(drills, names=NAMES).samples["machine"]
    assert found.seconds.tolist() == [610, 5]
    assert found.failed.tolist() == [True, False]
    assert found.unpaid.tolist() == [100, 2]
    assert plan_of(drills, "machine") == Plan(tries=2)
    assert measured(drills, "notice", "resume").tolist() == [35]


def a_drill(run, **more):
    return [row(run, name, 10 * n, 10 * n + 5, **more) for n, name in enumerate(PARTS)]


def test_each_way_of_a_drill_stands_for_itself():
    raced = {"variant": "hedged", "hedge": 3, "stagger_s": 10.0}
    others = [*a_drill("b"), *a_drill("c", variant="standby"), *a_drill("d", **raced | {"hedge": 2})]
    drills = frame([*a_drill("a", **raced), *others])
    ways = by_way(drills)
    assert list(ways) == ["cold", "hedged, 3 machines 10 s apart", "standby", "hedged, 2 machines 10 s apart"]
    plans = [plan_of(rows, "machine") for rows in ways.values()]
    found = [(one.hedge, one.stagger_s, one.standby) for one in plans]
    assert found == [(1, 0, False), (3, 10, False), (1, 0, True), (2, 10, False)]
    with pytest.raises(UsageError, match="differ in variant and hedge"):
        parts_of(drills, names=NAMES)


def test_the_price_is_that_of_one_of_the_two_machines():
    assert parts_of(frame(a_drill("a")), names=NAMES).usd_per_hour == 0.2
    assert parts_of(frame(a_drill("a")), vastbench.load("default-300"), names=NAMES).usd_per_hour == pytest.approx(
        0.23, abs=0.01
    )


def test_machines_that_were_raced_do_not_show_how_long_one_takes():
    raced = frame(a_drill("a", variant="hedged", hedge=3, stagger_s=10.0))
    with pytest.raises(UsageError, match="raced their machines"):
        parts_of(raced, names=NAMES)


def test_a_part_that_no_run_shows_is_named():
    with pytest.raises(UsageError, match="this part of a failover takes: restore"):
        parts_of(frame([row("a", name, 0, 5) for name in PARTS if name != "restore"]), names=NAMES)


@pytest.mark.parametrize("wrong", [{"hedge": 0}, {"hedge": 11}, {"stagger_s": -1}, {"interval_s": 0}, {"losses_per_month": -1}])
def test_a_plan_that_cannot_be_is_refused(wrong):
    with pytest.raises(UsageError, match="cannot be met"):
        Plan(**wrong)
