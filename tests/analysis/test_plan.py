"""What a study will take: computed another way, or known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.made import CENSORED, FAILED, made
from vastbench.analysis.frames import phases_table
from vastbench.analysis.plan import CALLS, MOST, plan
from vastbench.analysis.stopping import quantile_sequence, relative_width
from vastbench.errors import UsageError
from vastbench.record.cost import Cost
from vastbench.record.phases import PhaseName

SIGMA = 0.3


def source(runs=200, *, sigma=SIGMA, failing=0, machine=None, width=0.0, seed=1):
    """Runs that wait log-normally for ``running``, each on its machine unless ``machine`` says which one ``i`` is on."""
    rng = np.random.default_rng(seed)
    waits = 80 * np.exp(rng.normal(0, sigma, runs))
    cost = Cost(gpu_usd=0.002, gpu_lower_usd=0.002, gpu_upper_usd=0.002, storage_usd=0.0005, transfer_usd=0.0005)
    found = [
        made(i, {PhaseName.WAIT_RUNNING: wait, PhaseName.WAIT_SSH: 4.0, PhaseName.DESTROY: 1.0}, width=width, cost=cost)
        if i >= failing
        else made(i, {}, stopped=PhaseName.WAIT_RUNNING, outcome=FAILED, cause="boot_failed", cost=cost)
        for i, wait in enumerate(waits)
    ]
    where = machine or (lambda i: i)
    known = {"usd_per_hour": 0.2}
    return phases_table(
        replace(
            run,
            resources=known | {"machine_id": where(i)},
            instrument={"poll_period_s": 1.0},
        )
        for i, run in enumerate(found)
    )


@pytest.fixture(scope="module")
def independent():
    return source()


def drawn_until(width, campaigns=300, most=1500):
    """Fresh log-normal draws until the sequence's interval is narrow, looked at after every one: median and nine tenths."""
    rng = np.random.default_rng(9)
    needed = []
    for _ in range(campaigns):
        waits = 5 + 80 * np.exp(rng.normal(0, SIGMA, most))
        needed.append(next(n for n in range(9, most) if relative_width(*quantile_sequence(waits[:n], waits[:n])) <= width))
    return np.quantile(needed, [0.5, 0.9])


def test_a_plan_says_what_fresh_campaigns_from_the_same_distribution_need(independent):
    found = plan(independent, 0.3)
    half, most = drawn_until(0.3)
    assert found.stopping.runs == pytest.approx(half, rel=0.25)
    assert most * 0.8 < found.stopping.runs_high < most * 1.6  # the source itself is a draw, and counts


def test_a_number_chosen_beforehand_is_what_the_normal_approximation_says(independent):
    # The median's standard error is σ √(π/2n); its 95 % interval is 2 × 1.96 of them wide.
    found = plan(independent, 0.2, quantity="wait running")
    expected = (2 * 1.96 * SIGMA * math.sqrt(math.pi / 2) / 0.2) ** 2
    assert found.fixed.runs == pytest.approx(expected, rel=0.3)
    assert found.fixed.runs < found.stopping.runs  # what may be looked at at any time is wider
    assert found.fixed.runs <= found.fixed.runs_high


def test_narrower_and_more_scattered_needs_more():
    runs = [plan(source(sigma=sigma), width).stopping.runs for sigma, width in ((0.2, 0.3), (0.4, 0.3), (0.4, 0.2))]
    assert runs == sorted(runs)
    assert runs[0] < runs[1] < runs[2]


def test_failures_need_more():
    few, many = (plan(source(failing=failing), 0.3).fixed.runs for failing in (0, 60))
    assert many > 1.2 * few


def test_minutes_requests_and_dollars_follow_from_the_runs(independent):
    found = plan(independent, 0.3, workers=4)
    need, mean_s = found.fixed, independent[independent["phase"] == "total"]["seconds"].mean()
    assert found.run_s == pytest.approx(mean_s)
    assert need.minutes == pytest.approx((need.runs * mean_s / 4 + mean_s) / 60)
    assert need.usd == pytest.approx(need.runs * 0.003)
    # While four runs share one list, it is asked about once a second.
    busy = mean_s / 4
    assert need.runs * (CALLS + 0.9 * busy) < need.requests < need.runs * (CALLS + busy) + 1
    dear = plan(independent, 0.3, workers=4, usd_per_hour=2.0)
    assert dear.fixed.usd == pytest.approx(need.runs * (0.02 + 0.001))


def test_runs_begin_apart_however_many_workers_there_are(independent):
    found = plan(independent, 0.3, workers=64)
    assert found.fixed.minutes == pytest.approx((found.fixed.runs * 6 + found.run_s) / 60)


def test_what_the_polls_hide_no_number_of_runs_shows():
    found = plan(source(width=30.0), 0.2, quantity="wait running")
    assert "bounds of the polls" in found.unreachable
    assert found.floor > 0.2
    assert (found.fixed.runs, found.stopping.runs, found.stopping.usd, found.fixed_on_these) == (None, None, None, None)


def test_a_quantile_that_is_never_reached_has_no_plan():
    assert "never finished" in plan(source(failing=120), 0.2).unreachable


def test_more_runs_than_anybody_makes_are_no_number(independent):
    found = plan(independent, 0.005)
    assert found.stopping.runs is found.fixed.runs is None
    assert not found.unreachable
    assert found.to_dict()["stopping"]["runs"] is None
    assert MOST == 5_000


def drawn_until_on(frame, width, campaigns=40, most=400):
    """The runs of ``frame``, on their machines, in another order each time and again and again: when the rule is met."""
    from vastbench.analysis.stopping import observations

    seen, rng, needed = observations(frame), np.random.default_rng(9), []
    for _ in range(campaigns):
        order = rng.integers(0, len(seen), most)
        low, high, machine = seen.lower[order], seen.upper[order], seen.machine[order]
        narrow = (
            n for n in range(9, most, 3) if relative_width(*quantile_sequence(low[:n], high[:n], machine=machine[:n])) <= width
        )
        needed.append(next(narrow, most))
    return np.quantile(needed, [0.5, 0.9])


def ordered_by_machine(frame, machines):
    """The same runs, the quickest on one machine and the slowest on another: the machines make all the difference."""
    order = frame[frame["phase"] == "wait running"].sort_values("seconds")["run"].tolist()
    place = {run: place * machines // len(order) for place, run in enumerate(order)}
    return frame.assign(machine=frame["run"].map(place).astype("Int64"))


def test_repeats_on_machines_count_by_the_design_effect():
    assert plan(source(), 0.3).fixed_on_these is None  # no machine was rented twice
    alike = plan(source(machine=lambda i: i % 20), 0.3)
    assert alike.icc == pytest.approx(0, abs=0.1)
    assert alike.fixed_on_these.runs == pytest.approx(alike.fixed.runs, rel=0.4)
    assert alike.stopping_on_these.runs > alike.fixed_on_these.runs
    apart = plan(ordered_by_machine(source(), 20), 0.15)
    assert apart.icc > 0.9
    assert apart.fixed.runs > apart.machines
    assert apart.fixed_on_these.runs is apart.stopping_on_these.runs is None


@pytest.mark.parametrize("machines", [20, 60])
def test_a_plan_says_when_a_study_on_the_same_machines_ends(machines):
    sample = source(machine=lambda i: i % machines, sigma=0.4)
    half, most = drawn_until_on(sample, 0.35)
    found = plan(sample, 0.35).stopping_on_these
    assert found.runs == pytest.approx(half, rel=0.3)
    assert most * 0.7 < found.runs_high < most * 1.5


def test_the_same_seed_draws_the_same_plan(independent):
    assert plan(independent, 0.3, seed=3) == plan(independent, 0.3, seed=3)


def test_too_few_runs_or_impossible_wishes_are_refused(independent):
    with pytest.raises(UsageError, match="hold 5 durations"):
        plan(source(9, failing=4), 0.2)
    with pytest.raises(UsageError, match="hold 0 durations"):
        plan(phases_table([]), 0.2)
    with pytest.raises(UsageError, match="width"):
        plan(independent, 1.5)
    with pytest.raises(UsageError, match="0 workers"):
        plan(independent, 0.2, workers=0)
    with pytest.raises(UsageError, match=r"\$-1"):
        plan(independent, 0.2, usd_per_hour=-1)


def test_runs_without_cost_instrument_or_machine_give_a_plan_without_those():
    runs = [made(i, {PhaseName.WAIT_RUNNING: 60.0 + i, PhaseName.WAIT_SSH: 4.0}) for i in range(12)]
    runs.append(made(99, {PhaseName.WAIT_RUNNING: 60.0}, stopped=PhaseName.WAIT_SSH, outcome=CENSORED, cause="deadline"))
    found = plan(phases_table(runs), 0.3)
    assert found.fixed.runs
    assert (found.fixed.usd, found.fixed.requests, found.fixed_on_these) == (None, None, None)
    assert found.to_dict()["run_usd"] is None
    assert found.never == 1
