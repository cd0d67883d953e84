"""Several machines are rented at once, the first that runs commands is used, and the others are given back and paid."""

import signal
import threading
from dataclasses import replace

import pytest

from tests.fleet import bench, live, reachable
from tests.processes import command, emulator_process
from tests.profiles import certain
from tests.scenarios.pair import RACE, STANDBY
from tests.scenarios.test_several_machines import held_within
from vastbench.analysis.frames import phases_table, runs_from
from vastbench.emulator import Emulator
from vastbench.errors import BootFailed, LeaseNotClosed, PriceRose, UsageError
from vastbench.record.conditions import Conditions
from vastbench.record.document import run_from_dict, run_to_dict
from vastbench.record.phases import Outcome, PhaseName, of_machine
from vastbench.rental import provisioner
from vastbench.rental.label import read_label
from vastbench.rental.lease import Lease
from vastbench.rental.offers import choose, query
from vastbench.scenarios import SCENARIOS
from vastbench.scenarios.crew import Keeper
from vastbench.scenarios.drill import OUTRUN, TRIES
from vastbench.store import Store

SPEED = 30
CONDITIONS = Conditions(boot_deadline_s=120, ssh_deadline_s=60)
RUNNING = of_machine(STANDBY, PhaseName.WAIT_RUNNING)


@pytest.fixture
def opened(tmp_path):
    with bench(tmp_path, profile=certain(tmp_path), seed=4, speed=SPEED) as one:
        yield one


def fates(monkeypatch, *kinds):
    """What becomes of the boots of the raced machines, in the order in which they begin: ``waits``, ``fails`` or ``comes``."""
    real, begun, lock = provisioner.wait_running, [], threading.Lock()

    def waited(recorder, *given):
        with lock:
            kind = "comes" if recorder.machine != STANDBY else kinds[min(len(begun), len(kinds) - 1)]
            begun.extend([kind] if recorder.machine == STANDBY else [])
        found = real(recorder, *given)
        if kind == "waits":
            recorder.clock.rest(10_000)
        if kind == "fails":
            raise BootFailed("This one will not boot.", hint="")
        return found

    monkeypatch.setattr(provisioner, "wait_running", waited)
    return begun


def causes(run):
    return sorted(one.cause for one in run.attempts if one.instance_id)


def test_the_first_that_runs_commands_is_used_and_the_others_go(opened, monkeypatch):
    fates(monkeypatch, "waits", "waits", "comes")
    run = opened.run(CONDITIONS, scenario="race")
    assert (run.outcome, run.cause) == (Outcome.PASSED, "")
    assert causes(run) == ["", "", OUTRUN, OUTRUN]
    made = [one for one in run.attempts if one.instance_id]
    assert len({one.machine_id for one in made}) == 4
    leases = [row for row in opened.store.leases() if row.instance_id]
    assert {row.verdict for row in leases} == {"destroyed"}
    assert {read_label(row.label).attempt for row in leases} == {one.number for one in made}
    assert opened.emulator.alive == []
    raced = run.resources["machines"]
    assert [one["used"] for one in raced].count(True) == 1
    assert len({one["name"] for one in raced}) == 3
    assert all(one["cost"]["storage_usd"] > 0 for one in raced)
    assert sum(one["cost"]["storage_usd"] for one in raced) < run.cost.storage_usd
    assert run_from_dict(run_to_dict(run)) == run == opened.store.run("last")


def test_only_the_winners_phases_are_samples(opened, monkeypatch):
    fates(monkeypatch, "comes", "waits", "waits")
    run = opened.run(CONDITIONS, scenario="race")
    won = next(one for one in run.attempts if one.cause == "" and one.number > 1)
    assert run.phase(RUNNING).attempt == won.number
    assert run.phase(of_machine(STANDBY, PhaseName.CONFIRM)).attempt == won.number
    rows = phases_table([run])
    boots = rows[rows["phase"] == RUNNING]
    assert boots["final"].tolist() == [False, False, True]
    assert boots["attempt"].iloc[-1] == won.number
    assert runs_from(rows)[0].phase(RUNNING).seconds == run.phase(RUNNING).seconds


def test_the_body_does_not_wait_until_the_losers_are_gone(opened, monkeypatch):
    fates(monkeypatch, "comes", "waits")
    run = opened.run(CONDITIONS, scenario="race")
    losers = {one.number for one in run.attempts if one.cause == OUTRUN}
    gone = [one for one in run.phases if one.name == of_machine(STANDBY, PhaseName.CONFIRM) and one.attempt in losers]
    assert len(gone) == 2
    assert all(run.phase("hand over").start.upper < one.end.upper for one in gone)


def test_one_that_will_not_boot_is_followed_by_another(opened, monkeypatch):
    begun = fates(monkeypatch, "fails", "waits", "waits", "comes")
    run = opened.run(CONDITIONS, scenario="race")
    assert run.cause == ""
    assert causes(run) == ["", "", "boot_failed", OUTRUN, OUTRUN]
    assert begun == ["fails", "waits", "waits", "comes"]
    assert opened.emulator.alive == []


def test_when_none_comes_the_run_fails_for_that_and_all_are_given_back(opened, monkeypatch):
    fates(monkeypatch, "fails")
    run = opened.run(Conditions(boot_deadline_s=120, ssh_deadline_s=60, hedge=2), scenario="race")
    assert (run.outcome, run.cause) == (Outcome.FAILED, "boot_failed")
    assert causes(run) == ["boot_failed"] * (1 + 2 * TRIES)
    assert opened.emulator.alive == []
    assert opened.store.leases(open_only=True) == []


def test_the_next_begins_only_when_none_has_come_by_then(opened):
    run = opened.run(Conditions(boot_deadline_s=120, ssh_deadline_s=60, stagger_s=3000), scenario="race")
    assert (run.cause, causes(run)) == ("", ["", ""])


def test_a_loser_that_is_not_confirmed_gone_ends_the_run_as_a_leak(opened, monkeypatch):
    fates(monkeypatch, "comes", "waits")
    close = Lease.close

    def unconfirmed(lease, recorder=None):
        if recorder is not None and recorder.clock.stopping.is_set():
            raise LeaseNotClosed(f"Instance {lease.instance_id} is not confirmed destroyed.", hint="")
        return close(lease, recorder)

    monkeypatch.setattr(Lease, "close", unconfirmed)
    run = opened.run(CONDITIONS, scenario="race")
    assert (run.outcome, run.cause) == (Outcome.FAILED, "lease_not_closed")
    assert run.phase("hand over").outcome is Outcome.PASSED
    with pytest.raises(LeaseNotClosed):
        opened.run(CONDITIONS, scenario="race")
    monkeypatch.setattr(Lease, "close", close)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_what_breaks_into_a_race_leaves_none(opened, monkeypatch, stop):
    start, started = Keeper.start, []

    def breaks(keeper):
        start(keeper)
        started.append(keeper)
        if len(started) == 2:
            raise stop("broke in")

    monkeypatch.setattr(Keeper, "start", breaks)
    if stop is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            opened.run(CONDITIONS, scenario="race")
    else:
        assert opened.run(CONDITIONS, scenario="race").cause == "internal"
    assert opened.emulator.alive == []
    assert opened.store.leases(open_only=True) == []


@pytest.mark.parametrize(
    ("number", "code", "cause"), [(signal.SIGTERM, 130, "interrupted"), (signal.SIGKILL, -signal.SIGKILL, None)]
)
def test_a_signal_in_the_middle_of_a_race_leaves_none(tmp_path, number, code, cause):
    slow = tmp_path / "slow.toml"
    boot = 'running = { kind = "sequence", values = [15, 4000, 4000, 4000], basis = "assumption" }'
    slow.write_text(f'extends = "{certain(tmp_path)}"\nabout = "All but the first boot slowly"\n[boot]\n{boot}\n')
    store = tmp_path / "runs.sqlite"
    with emulator_process(tmp_path, "--profile", str(slow), "--speed", str(SPEED)) as environment:
        with live("race", store, environment) as process:
            assert held_within(60, store, 4)
            process.send_signal(number)
            assert process.wait() == code
        if cause is None:  # it could do nothing itself
            reaped = command("reap", "--live", "--yes", "--store", store, env=environment, cwd=tmp_path)
            assert reaped.returncode == 0, reaped.stderr
    with Store(store) as opened:
        assert [lease.state for lease in opened.leases()] == ["closed"] * 4
        assert [run.cause for run in opened.runs()] == [cause] * (cause is not None)


def price_of_one(opened) -> float:
    return choose(opened.api.search_offers(query(CONDITIONS)).value, CONDITIONS).usd_per_hour(CONDITIONS.disk_gb)


def test_the_budget_holds_the_worst_case_of_all_before_any_is_rented(tmp_path, monkeypatch):
    with Emulator(certain(tmp_path), seed=4, speed=SPEED) as vast:
        reachable(vast, SPEED, monkeypatch)
        with bench(tmp_path, live=True, budget_usd=9) as opened:
            each = price_of_one(opened) * RACE.lifetime_s(CONDITIONS) / 3600
            opened._provisioner.budget.limit_usd = 3.5 * each
            refused = opened.run(CONDITIONS, scenario="race")
            assert (refused.outcome, refused.cause) == (Outcome.CENSORED, "budget")
            assert causes(refused) == ["budget"]
            opened._provisioner.budget.limit_usd = opened.spent_usd + 5 * each
            done = opened.run(CONDITIONS, scenario="race")
            assert done.cause == ""
            assert vast.alive == []


def test_a_race_for_which_there_is_no_room_is_not_begun(tmp_path):
    with bench(tmp_path, profile=certain(tmp_path), seed=4, speed=SPEED, max_instances=3) as opened:
        run = opened.run(CONDITIONS, scenario="race")
        assert (run.cause, causes(run)) == ("budget", ["budget"])
        assert "--max-instances 4" in run.detail


def test_options_belong_to_a_variant():
    assert RACE.settled(Conditions()).to_dict().items() >= {"variant": "raced", "hedge": 3, "stagger_s": 0.0}.items()
    assert RACE.at_once(Conditions(hedge=5)) == 6
    with pytest.raises(UsageError, match=r"has no variant 'rased'\. Did you mean raced"):
        RACE.settled(Conditions(variant="rased"))


def test_a_price_that_rises_on_the_machine_that_won_ends_the_run(opened, monkeypatch):
    def waits(drill):
        with drill.rent(), drill.rent(STANDBY, hedge=2):
            drill.recorder.clock.rest(10_000)

    def check(self, rental, terms, sighting):
        if rental.recorder.machine == STANDBY and rental.used is not None:
            raise PriceRose("It costs more.", hint="")

    monkeypatch.setattr(provisioner, "PRICE_EVERY_S", 5.0)
    monkeypatch.setattr(provisioner.Provisioner, "_check_price", check)
    monkeypatch.setitem(SCENARIOS, "waits", replace(RACE, name="waits", run=waits))
    run = opened.run(CONDITIONS, scenario="waits")
    assert (run.outcome, run.cause) == (Outcome.FAILED, "price")
    assert opened.emulator.alive == []


def test_any_drill_may_race_for_its_first_machine(tmp_path):
    asked = replace(CONDITIONS, hedge=3, stagger_s=2.0)
    with bench(tmp_path, profile=certain(tmp_path), seed=4, speed=SPEED, budget_usd=2.0) as opened:
        run = opened.run(asked)
        assert opened.emulator.alive == []
        leases = [row for row in opened.store.leases() if row.instance_id]
    assert (run.scenario, run.outcome) == ("integration", Outcome.PASSED)
    assert sorted(one.cause for one in run.attempts) == ["", OUTRUN, OUTRUN]
    assert [row.verdict for row in leases] == ["destroyed"] * 3
    assert len({row.machine_id for row in leases}) == 3
    won = next(one for one in run.attempts if not one.cause)
    assert (run.resources["machine_id"], run.resources["instance_id"]) == (won.machine_id, won.instance_id)
    assert [one["used"] for one in run.resources["machines"]] == [False, False]
    assert {one["name"] for one in run.resources["machines"]} < {"", "2", "3"}
    assert (run.conditions["hedge"], run.conditions["stagger_s"]) == (3, 2.0)
    assert run.phase(PhaseName.WAIT_SSH).attempt == won.number
    assert phases_table([run])["machine"].unique().tolist() == [won.machine_id]


def test_the_budget_holds_the_worst_case_of_all_that_race(tmp_path):
    one = SCENARIOS["integration"]
    asked = replace(CONDITIONS, hedge=3, max_usd_per_hour=0.4)
    worst = one.worst_case_usd(replace(asked, hedge=None), 0.4)
    assert one.worst_case_usd(asked, 0.4) > 3 * worst
    with bench(tmp_path, profile=certain(tmp_path), seed=4, speed=SPEED, budget_usd=2 * worst) as opened:
        run = opened.run(asked)
        assert run.cause == "budget"
        assert opened.store.leases() == []
