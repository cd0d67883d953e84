"""Nothing is rented whose worst case does not fit beside what is spent, under way, and left open by others."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fleet import bench, reachable
from tests.profiles import certain
from tests.store.records import lease
from vastbench.emulator import Emulator
from vastbench.errors import BudgetRefused, UsageError
from vastbench.owner import owner
from vastbench.record.conditions import Conditions
from vastbench.record.phases import Outcome
from vastbench.rental.budget import Budget, worst_usd
from vastbench.rental.offers import choose, query
from vastbench.scenarios.integration import INTEGRATION

SPEED = 60
NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
CONDITIONS = Conditions(boot_deadline_s=120, ssh_deadline_s=60)


# The budget itself


def test_the_budget_counts_the_worst_case_and_never_an_unknown_cost_as_0():
    budget = Budget(1.0)
    budget.reserve("a", 0.6)
    with pytest.raises(BudgetRefused, match=r"0\.6000"):
        budget.reserve("b", 0.5)
    budget.reserve("a", 0.5)  # a new attempt of the same run replaces the old one
    budget.reserve("b", 0.5)
    budget.settle("a", 0.01)
    budget.settle("b", None)
    assert budget.spent_usd == pytest.approx(0.51)


def test_a_refused_run_sets_nothing_aside_and_keeps_what_it_had():
    budget = Budget(1.0)
    budget.reserve("a", 0.5)
    with pytest.raises(BudgetRefused):
        budget.reserve("a", 1.5)
    budget.settle("a", None)
    assert budget.spent_usd == 0.5


def test_what_others_have_open_is_asked_for_each_time_and_named():
    open_usd = [0.7]
    budget = Budget(1.0, 0.1, lambda: open_usd[0])
    with pytest.raises(
        BudgetRefused, match=r"\$0\.8000 of the budget of \$1\.0000.*\$0\.7000 of it by others or for their open leases"
    ):
        budget.reserve("a", 0.25)
    open_usd[0] = 0.0
    budget.reserve("a", 0.25)


def test_runs_that_ask_at_once_never_get_more_than_there_is():
    budget = Budget(1.0)

    def ask(number):
        try:
            budget.reserve(str(number), 0.25)
        except BudgetRefused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(40))) == 4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2), st.none() | st.floats(0, 1))))
def test_runs_within_their_worst_case_never_cost_more_than_the_budget(steps):
    budget = Budget(2.0)
    for run, usd, share in steps:
        try:
            budget.reserve(run, usd)
        except BudgetRefused:
            continue
        if share is not None:
            budget.settle(run, usd * share)
    for run in "abc":
        budget.settle(run, None)
    assert 0 <= budget.spent_usd <= 2.0 + 1e-9


# The worst case of leases


def dated(price, opened_s, deadline_s, closed_s=None):
    """A lease with dates in seconds from NOW, closed if it has a third."""

    def date(seconds):
        return (NOW + timedelta(seconds=seconds)).isoformat()

    known = {"usd_per_hour": price, "opened_at": date(opened_s), "deadline_at": date(deadline_s)}
    return lease(**known) if closed_s is None else lease(**known, state="closed", closed_at=date(closed_s))


@pytest.mark.parametrize(
    ("one", "usd"),
    [
        (dated(0.2, -1800, 1800), 0.2),  # open: until its deadline
        (dated(0.2, -7200, -3600), 0.4),  # open beyond its deadline: until now, it still bills
        (dated(0.2, -7200, 3600, -3600), 0.2),  # closed: until then
        (dated(0.2, -7200, -5400, -3600), 0.2),  # closed late: until then
        (dated(0.2, -60, 1800, -120), 0.0),  # clocks of two machines
    ],
)
def test_a_lease_costs_at_most_its_price_while_its_instance_may_exist(one, usd):
    assert worst_usd([one], speed=1, now=NOW) == pytest.approx(usd)


seconds = st.integers(-100_000, 100_000)
prices = st.floats(0, 100)
leases = st.builds(dated, prices, seconds, seconds, st.none() | seconds)


@given(st.lists(leases), st.floats(0.1, 1000), st.floats(1, 10))
def test_the_worst_case_grows_with_price_speed_and_number_of_leases(several, speed, factor):
    worst = worst_usd(several, speed=speed, now=NOW)
    assert worst >= 0
    dearer = [replace(one, usd_per_hour=one.usd_per_hour * factor) for one in several]
    assert worst_usd(dearer, speed=speed, now=NOW) == pytest.approx(worst * factor)
    assert worst_usd(several, speed=speed * factor, now=NOW) == pytest.approx(worst * factor)
    assert worst_usd(several[1:], speed=speed, now=NOW) <= worst


@given(leases, st.integers(0, 100_000))
def test_the_worst_case_of_an_open_lease_never_shrinks_as_time_goes_on(one, later_s):
    before = worst_usd([one], speed=1, now=NOW)
    after = worst_usd([one], speed=1, now=NOW + timedelta(seconds=later_s))
    assert after >= before
    assert after == before or one.state != "closed"


# A bench keeps to it


@pytest.fixture(scope="module")
def vast(tmp_path_factory):
    with Emulator(certain(tmp_path_factory.mktemp("market")), seed=4, speed=SPEED) as running:
        yield running


@pytest.fixture
def live(vast, tmp_path, monkeypatch):
    reachable(vast, SPEED, monkeypatch)
    return lambda **settings: bench(tmp_path, live=True, **settings)


def worst_of_a_run(opened):
    offer = choose(opened.api.search_offers(query(CONDITIONS)).value, CONDITIONS)
    return INTEGRATION.worst_case_usd(CONDITIONS, offer.usd_per_hour(CONDITIONS.disk_gb))


def created(vast):
    return sum(one["event"] == "create_effective" for one in vast.events)


def open_elsewhere(opened, *, usd, url=None):
    """An open lease of somebody else, that may still cost so much."""
    now = datetime.now(UTC)
    one = lease(
        url=url or opened.api.url,
        usd_per_hour=usd / SPEED,
        opened_at=now.isoformat(),
        deadline_at=(now + timedelta(hours=1)).isoformat(),
        owner=owner(),
        state="held",
        instance_id=1,
    )
    opened.store.open_lease(one)
    return one.label


def test_a_run_that_does_not_fit_beside_others_open_leases_creates_nothing(vast, live):
    with live(budget_usd=1) as opened:
        label = open_elsewhere(opened, usd=1 - worst_of_a_run(opened) / 2)
        run = opened.run(CONDITIONS)
        assert (run.outcome, run.cause) == (Outcome.CENSORED, "budget")
        assert "by others or for their open leases" in run.detail
        assert [row.label for row in opened.store.leases()] == [label]
        assert created(vast) == 0
        assert opened.spent_usd == pytest.approx(1 - worst_of_a_run(opened) / 2, rel=0.01)  # all of it the others'

        opened.store.close_lease(label, verdict="never created")
        assert opened.run(CONDITIONS).outcome is Outcome.PASSED
        assert 0 < opened.spent_usd < worst_of_a_run(opened)
        assert created(vast) == 1


def test_open_leases_of_other_marketplaces_take_nothing_from_the_budget(live):
    with live(budget_usd=1) as opened:
        open_elsewhere(opened, usd=5, url="https://elsewhere.example")
        assert opened._provisioner.budget._others() == 0


@pytest.mark.parametrize("budget", [None, 0, -1, float("nan"), float("inf")])
def test_a_live_bench_needs_a_budget_that_is_one(live, budget):
    with pytest.raises(BudgetRefused, match="budget"), live(budget_usd=budget):
        pass


def test_a_bench_that_may_have_no_instance_is_refused(live):
    with pytest.raises(UsageError, match="0 instances"), live(budget_usd=1, max_instances=0):
        pass


# The price, read again off the contract


@contextmanager
def dearer(folder, monkeypatch, **settings):
    """A live bench on a marketplace whose instances cost 1.5 to 3 times what their offers showed, and that marketplace."""
    with Emulator(certain(folder), seed=4, speed=SPEED, faults={"price-rose": 1}) as vast:
        reachable(vast, SPEED, monkeypatch)
        with bench(folder, live=True, **settings) as opened:
            yield vast, opened


def test_a_contract_that_costs_more_than_was_allowed_is_given_back_at_once(tmp_path, monkeypatch):
    with dearer(tmp_path, monkeypatch, budget_usd=9) as (vast, opened):
        price = worst_of_a_run(opened) / INTEGRATION.worst_case_usd(CONDITIONS, 1)
        run = opened.run(replace(CONDITIONS, max_usd_per_hour=price * 1.2))
        assert (run.outcome, run.cause) == (Outcome.FAILED, "price")
        assert f"at most ${price * 1.2:g}/h were allowed" in run.detail
        assert vast.alive == []
        assert [(row.state, row.verdict) for row in opened.store.leases()] == [("closed", "destroyed")]
        assert not [one for one in vast.events if one["event"] == "status" and one.get("status") == "running"]


def test_a_price_that_rose_within_what_is_allowed_must_fit_the_budget(tmp_path, monkeypatch):
    with dearer(tmp_path, monkeypatch, budget_usd=9) as (vast, opened):
        opened._provisioner.budget.limit_usd = worst_of_a_run(opened) * 1.2
        run = opened.run(replace(CONDITIONS, max_usd_per_hour=100))
        assert (run.outcome, run.cause) == (Outcome.CENSORED, "budget")
        assert vast.alive == []
        assert [(row.state, row.verdict) for row in opened.store.leases()] == [("closed", "destroyed")]
        assert opened.spent_usd > 0

        opened._provisioner.budget.limit_usd = 9
        passed = opened.run(replace(CONDITIONS, max_usd_per_hour=100))
        assert passed.outcome is Outcome.PASSED
