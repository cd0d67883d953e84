"""The ways of the failover drill: raced replacements, a standby, and the operator's pause; and what must fail each of them."""

import re
import signal
from dataclasses import replace

import pytest

from tests.fleet import bench
from tests.processes import Started, command, emulator_process, until
from tests.profiles import certain
from tests.scenarios.test_failover import CONDITIONS, SPEED, soon  # noqa: F401 (a fixture)
from tests.scenarios.test_several_machines import held_within
from tests.scenarios.test_tries import on_one_machine
from vastbench.analysis.acceptance import NOT_TESTED, acceptance
from vastbench.analysis.attempts import attempted
from vastbench.analysis.frames import phases_table
from vastbench.errors import LeaseNotClosed, UsageError
from vastbench.record.conditions import COLD
from vastbench.record.phases import Outcome, PhaseName, of_machine
from vastbench.rental import lease
from vastbench.scenarios import failover
from vastbench.scenarios.drill import OUTRUN
from vastbench.scenarios.failover import FAILOVER, HEDGED, MANUAL, NOTICE, PAUSE, REPLACEMENT, STANDBY
from vastbench.store import Store
from vastbench.vast.api import VastApi
from vastbench.vast.watch import Following


@pytest.fixture
def drill(tmp_path):
    """Makes one drill of a variant: the run and what truly happened."""

    def made(variant, **asked):
        with bench(tmp_path, profile=certain(tmp_path), seed=1, speed=SPEED) as opened:
            run = opened.run(replace(CONDITIONS, variant=variant, **asked), scenario="failover")
            assert opened.emulator.alive == []
            assert opened.store.leases(open_only=True) == []
            return run, [event["event"] for event in opened.emulator.events]

    return made


def boot(run, machine):
    return run.phase(of_machine(machine, PhaseName.WAIT_SSH)).end


def test_the_first_raced_replacement_has_the_work_the_others_go(drill):
    run, _ = drill(HEDGED, hedge=3)
    assert (run.outcome, run.detail) == (Outcome.PASSED, "")
    assert [one.cause for one in run.attempts if one.instance_id].count(OUTRUN) == 2
    assert run.validation["restore"]["matches"]
    assert (run.conditions["variant"], run.conditions["hedge"], run.conditions["stagger_s"]) == (HEDGED, 3, 0.0)


def test_a_standby_is_there_before_the_loss_and_its_price_is_told(drill):
    run, _ = drill(STANDBY)
    assert (run.outcome, run.detail) == (Outcome.PASSED, "")
    assert boot(run, REPLACEMENT).upper < run.phase(NOTICE).start.lower
    assert run.validation[STANDBY]["usd_per_hour"] == run.rented[1]["usd_per_hour"]
    assert "a month" in run.validation[STANDBY]["says"]


def test_a_paused_machine_is_not_noticed_and_its_work_goes_on_elsewhere(drill):
    run, events = drill(MANUAL)
    assert (run.outcome, run.detail) == (Outcome.PASSED, "")
    assert run.phase(NOTICE) is None
    assert run.phase(PAUSE).end.upper <= run.phase(of_machine(REPLACEMENT, PhaseName.REGISTER_KEY)).start.lower
    assert ("stop_effective" in events, "lost" in events) == (True, False)
    assert all(phase.seconds is None or phase.seconds >= 0 for phase in run.phases)
    says = run.validation["recovery"]["says"]
    assert "nothing was detected" in says
    rows = acceptance(phases_table([run]), FAILOVER.acceptance).set_index("what")["verdict"]
    assert rows["the loss is noticed"] == rows["the work goes on"] == NOT_TESTED
    assert rows["the work goes on after a pause"] != NOT_TESTED


@pytest.mark.parametrize("variant", [COLD, MANUAL])
def test_the_account_charges_a_machine_until_it_was_lost_or_paused(tmp_path, variant):
    with bench(tmp_path, profile=certain(tmp_path), seed=1, speed=SPEED) as opened:
        run = opened.run(replace(CONDITIONS, variant=variant), scenario="failover")
        until(lambda: opened.ask_charges() and opened.store.run(run.id).bill.match != "late", 20)
        assert opened.store.run(run.id).bill.match == "agrees"
    stopped_s = run.validation["recovery"]["lost_after_s"] - run.phase(PhaseName.WAIT_RUNNING).end.upper
    first = run.rented[0]["usd_per_hour"]
    assert run.cost.gpu_lower_usd >= stopped_s / 3600 * first * 0.9  # the disk's part of the price is a twentieth


def test_drills_of_two_variants_are_one_sample_only_on_purpose(drill):
    run, _ = drill(MANUAL)
    other = replace(run, id="other", conditions={**run.conditions, "variant": STANDBY})
    with pytest.raises(UsageError, match=r"differ in variant.*manual \(1 run\), variant standby"):
        attempted(phases_table([run, other]))
    raced = [replace(run, id=str(n), conditions={**run.conditions, "variant": HEDGED, "hedge": n}) for n in (2, 3)]
    with pytest.raises(UsageError, match="differ in hedge"):
        acceptance(phases_table(raced), FAILOVER.acceptance)


# Mutants: each must fail its drill, for that reason.


def _lose_the_standby_too(monkeypatch):
    recover = failover._recover

    def lost(drill, machine, place, saved):
        drill.provisioner.account.api.destroy_instance(machine.lease.instance_id)
        return recover(drill, machine, place, saved)

    monkeypatch.setattr(failover, "_recover", lost)


def _do_not_pause(monkeypatch):
    monkeypatch.setattr(VastApi, "stop_instance", lambda api, number: api.label_instance(number, _label(api, number)))
    monkeypatch.setattr(failover, "PAUSED_WITHIN_S", 30.0)


def _take_it_for_paused(monkeypatch):
    wait_until = Following.wait_until

    def at_once(following, predicate, *, deadline, waited_for):
        lies = waited_for == "status stopped"
        return wait_until(following, (lambda _: True) if lies else predicate, deadline=deadline, waited_for=waited_for)

    monkeypatch.setattr(VastApi, "stop_instance", lambda api, number: api.label_instance(number, _label(api, number)))
    monkeypatch.setattr(Following, "wait_until", at_once)


def _label(api, number):
    return api.get_instance(number).value.label


def _restore_on_the_lost_machine(monkeypatch):
    on_one_machine(monkeypatch, REPLACEMENT, "")


def _restore_other_records(monkeypatch):
    recover = failover._recover

    def older(drill, machine, place, saved):
        return recover(drill, machine, place, replace(saved, last=saved.last - 1))

    monkeypatch.setattr(failover, "_recover", older)


MUTANTS = {
    _lose_the_standby_too: (STANDBY, "vanished", "left the account's list while it was in use"),
    _do_not_pause: (MANUAL, "deadline", "status stopped was not seen"),
    _take_it_for_paused: (MANUAL, "check_failed", "is paused, and runs commands"),
    _restore_on_the_lost_machine: (MANUAL, "check_failed", "Two instances of the run were on the machine"),
    _restore_other_records: (HEDGED, "check_failed", "records, not"),
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__.strip("_"))
def test_a_variant_that_a_fault_was_planted_in_fails_for_it(drill, monkeypatch, mutant):
    variant, cause, words = MUTANTS[mutant]
    mutant(monkeypatch)
    run, _ = drill(variant)
    print(run.cause, run.detail)
    assert run.outcome is not Outcome.PASSED
    assert run.cause == cause
    assert re.search(words, run.detail)


def test_a_loser_that_is_not_destroyed_is_a_leak(tmp_path, monkeypatch):
    destroy, spared = VastApi.destroy_instance, []

    def acknowledges(api, number):
        if spared in ([], [number]):  # the first that is destroyed is a loser: the others work until the end
            spared[:] = [number]
            return api.label_instance(number, _label(api, number))
        return destroy(api, number)

    monkeypatch.setattr(VastApi, "destroy_instance", acknowledges)
    monkeypatch.setattr(lease, "CONFIRM_DEADLINE_S", 30.0)
    with pytest.raises(LeaseNotClosed, match="is not confirmed destroyed"):
        _race_and_go_on(tmp_path, spared)


def _race_and_go_on(tmp_path, spared):
    with bench(tmp_path, profile=certain(tmp_path), seed=1, speed=SPEED) as opened:
        run = opened.run(replace(CONDITIONS, variant=HEDGED), scenario="failover")
        assert (run.outcome, run.cause) == (Outcome.FAILED, "lease_not_closed")
        assert run.phase(failover.RESUME).outcome is Outcome.PASSED
        assert opened.emulator.alive == spared
        (left,) = opened.store.leases(open_only=True)
        assert left.instance_id == spared[0]
        opened.run(CONDITIONS, scenario="failover")


KILLED_LIVE = "run failover --variant hedged --files 20 --size 0.1 --interval 8 --live --budget 9 --yes --store"


@pytest.mark.parametrize("moment", ["lost", "replaced"])
def test_killed_around_a_loss_nothing_leaks_and_it_runs_again(tmp_path, moment):
    store, truth = tmp_path / "runs.sqlite", tmp_path / "truth.jsonl"
    options = ["--profile", str(certain(tmp_path)), "--speed", "20", "--truth", str(truth)]
    with emulator_process(tmp_path, *options) as environment:
        words = [*KILLED_LIVE.split(), str(store)]
        with Started(*words, env=environment, cwd=tmp_path) as process:
            if moment == "lost":  # the other process has destroyed it, and nobody has noticed yet
                until(lambda: "destroy_effective" in truth.read_text())
            else:
                assert held_within(60, store, 3)
            process.send_signal(signal.SIGKILL)
        reaped = command("reap", "--live", "--yes", "--store", store, env=environment, cwd=tmp_path)
        assert reaped.returncode == 0, reaped.stderr
        with Store(store) as opened:
            assert {one.state for one in opened.leases()} == {"closed"}
        again = command(*words, env=environment, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
    with Store(store) as opened:
        assert {one.state for one in opened.leases()} == {"closed"}
        assert opened.run("last").outcome is Outcome.PASSED
