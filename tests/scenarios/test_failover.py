"""The failover drill: what is lost is noticed, restored and counted, and what only looks like that fails for its own cause."""

import asyncio
import re
import subprocess
from types import SimpleNamespace

import pytest

from tests.clocks import HandClock
from tests.fleet import bench, reachable
from tests.profiles import certain
from vastbench.emulator import Emulator
from vastbench.emulator.life import Loss
from vastbench.emulator.machine import Machine
from vastbench.record.conditions import Conditions
from vastbench.record.phases import Outcome
from vastbench.scenarios import failover, ledger
from vastbench.scenarios.heartbeat import HeartbeatRule
from vastbench.snapshots import snapshots_in

CONDITIONS = Conditions(boot_deadline_s=120, ssh_deadline_s=60, files=20, size_mb=0.1, interval_s=8)
SPEED = 20


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """The machine is lost within seconds, and given up only by what no busy test machine looks like."""
    monkeypatch.setattr(failover, "rule_for", lambda _: HeartbeatRule(period_s=4, timeout_s=8, silence_s=40))
    monkeypatch.setattr(failover, "LOST_WITHIN_S", (5.0, 20.0))


@pytest.fixture
def drill(tmp_path):
    """Makes one run of the drill: the run and what truly happened."""

    def made(seed=1):
        with bench(tmp_path, profile=certain(tmp_path), seed=seed, speed=SPEED) as opened:
            run = opened.run(CONDITIONS, scenario="failover")
            assert opened.emulator.alive == []
            assert opened.store.leases(open_only=True) == []
            return run, list(opened.emulator.events)

    return made


@pytest.mark.parametrize("takes_s", [2.0, 9.0, 14.0])
def test_no_record_is_older_than_the_interval_before_a_snapshot_holds_it(monkeypatch, takes_s):
    clock, closed, whole = HandClock(), [], []

    class Files:
        def close_file(self):
            closed.append(clock.now())
            return len(closed)

    def take(*_):
        clock.sleep(takes_s)
        whole.append(clock.now())
        if len(whole) == 6:
            saver._over.set()

    monkeypatch.setattr(failover, "take", take)
    saver = failover.Saver(SimpleNamespace(session=None), Files(), None, clock, interval_s=30.0)
    saver.save()
    saver.run()
    ages = [done - begun for begun, done in zip(closed, whole[1:], strict=False)]
    assert len(ages) == 5
    assert ages == pytest.approx([30.0] * 5)


SEEDS = {Loss.WITHDRAWN: 1, Loss.EXITED: 5, Loss.OFFLINE: 4}
"""A seed that draws each way of losing the first machine."""


@pytest.mark.parametrize("kind", Loss)
def test_a_loss_is_noticed_and_the_work_goes_on_from_the_last_snapshot(drill, kind):
    run, events = drill(SEEDS[kind])
    assert (run.outcome, run.cause, run.detail) == (Outcome.PASSED, "", "")
    lost = next(event for event in events if event["event"] == "lost")
    found = run.validation["recovery"]
    assert lost["kind"] == kind
    assert run.origin + found["lost_after_s"] <= lost["s"]
    assert lost["not_before_s"] <= run.origin + found["lost_before_s"]
    assert 0 < found["rto_lower_s"] < found["rto_upper_s"]
    assert 0 <= found["rpo_records"] < found["records"]
    assert found["rpo_s"] == run.seconds(failover.LOST_WORK)
    assert run.validation["restore"]["files"] > 20


@pytest.mark.parametrize("kind", [Loss.WITHDRAWN, Loss.EXITED])
def test_a_loss_is_true_only_when_nothing_answers_any_more(drill, monkeypatch, kind):
    take_down = Machine._take_down

    async def slowly(machine):
        await asyncio.sleep(0.3)
        await take_down(machine)

    monkeypatch.setattr(Machine, "_take_down", slowly)
    run, events = drill(SEEDS[kind])
    lost = next(event for event in events if event["event"] == "lost")
    assert lost["kind"] == kind
    assert run.origin + run.validation["recovery"]["lost_after_s"] <= lost["s"]


def test_the_time_and_the_way_of_a_loss_follow_from_the_seed(drill):
    first, again = ([event for event in drill(5)[1] if event["event"] == "lost"] for _ in range(2))
    assert [event["kind"] for event in first] == [event["kind"] for event in again] == [Loss.EXITED]


def test_live_another_process_loses_the_machine_without_the_key_around_it(tmp_path, monkeypatch):
    start, environments = subprocess.Popen, []

    def spawned(command, **more):
        environments.extend([more["env"]] if "vastbench.rental.losing" in command else [])
        return start(command, **more)

    monkeypatch.setattr(subprocess, "Popen", spawned)
    with Emulator(certain(tmp_path), seed=1, speed=SPEED) as vast:
        reachable(vast, SPEED, monkeypatch)
        with bench(tmp_path, live=True, budget_usd=5.0) as opened:
            run = opened.run(CONDITIONS, scenario="failover")
        assert (run.outcome, run.detail) == (Outcome.PASSED, "")
        assert run.validation["recovery"]["rpo_records"] >= 0
        assert vast.alive == []
        (environment,) = environments
        assert vast.api_key not in environment.values()


# Mutants: each takes away what the drill rests on, and the drill must fail, for that reason.


def _skip_the_restore(monkeypatch):
    monkeypatch.setattr(failover, "restore", lambda *_: None)


def _restore_the_first_snapshot(monkeypatch):
    def first_one(session, _, place, folder):
        return restore(session, snapshots_in(place)[0], place, folder)

    restore = failover.restore
    monkeypatch.setattr(failover, "restore", first_one)
    monkeypatch.setattr(failover, "LOST_WITHIN_S", (15.0, 25.0))


def _flip_a_byte_of_the_archive(monkeypatch):
    def spoilt(session, snapshot, place, folder):
        path = place._folder / snapshot.archive
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        return restore(session, snapshot, place, folder)

    restore = failover.restore
    monkeypatch.setattr(failover, "restore", spoilt)


def _acknowledge_what_is_not_written(monkeypatch):
    monkeypatch.setattr(ledger, "_SCRIPT", ledger._SCRIPT.replace("printf '%s\\n' \"$line\" >>", "printf '' >>"))


def _damage_a_record(monkeypatch):
    monkeypatch.setattr(ledger, "_SCRIPT", ledger._SCRIPT.replace('"$line" >>', '"${line%?}x" >>'))


def _lose_a_record(monkeypatch):
    monkeypatch.setattr(ledger, "_SCRIPT", ledger._SCRIPT.replace("*) printf", "2\\ *) echo 2 ;;\n    *) printf"))


def _destroy_it_ourselves(monkeypatch):
    def noticed(drill, machine, writer):
        drill.provisioner.account.api.destroy_instance(machine.lease.instance_id)
        return notice(drill, machine, writer)

    notice = failover._notice
    monkeypatch.setattr(failover, "_notice", noticed)


def _never_lose_it(monkeypatch):
    monkeypatch.setattr("vastbench.emulator.server.Emulator.lose", lambda *_: None)
    monkeypatch.setattr(failover, "NEVER_LOST_S", 60.0)


def _save_another_folder(monkeypatch):
    monkeypatch.setattr(failover, "FOLDER", "/workspace/other")
    monkeypatch.setattr(ledger, "_SCRIPT", "mkdir -p /workspace/other\n" + ledger._SCRIPT)


def _change_a_file_on_the_way(monkeypatch):
    def changed(session, snapshot, place, folder):
        restore(session, snapshot, place, folder)
        session.run(f"chmod 777 {folder}/ledger")

    restore = failover.restore
    monkeypatch.setattr(failover, "restore", changed)


def _stop_writing_afterwards(monkeypatch):
    recover = failover._recover

    def mute(*given):
        monkeypatch.setattr(ledger, "_SCRIPT", "sleep 300")
        return recover(*given)

    monkeypatch.setattr(failover, "_recover", mute)
    monkeypatch.setattr(failover, "STEADY_S", 20.0)


MUTANTS = {
    _skip_the_restore: ("snapshot", "cannot be listed"),
    _restore_the_first_snapshot: ("check_failed", r"differs in .*ledger/\d+ is missing"),
    _flip_a_byte_of_the_archive: ("snapshot_refused", "SHA-256"),
    _acknowledge_what_is_not_written: ("check_failed", "records, not|holds no file"),
    _damage_a_record: ("check_failed", "damaged"),
    _lose_a_record: ("check_failed", "missing"),
    _destroy_it_ourselves: ("check_failed", "false alarm"),
    _never_lose_it: ("check_failed", "not lost"),
    _save_another_folder: ("check_failed", "has 0 records, not"),
    _change_a_file_on_the_way: ("check_failed", "differs in 1 place: ledger: mode is 777, not 755"),
    _stop_writing_afterwards: ("check_failed", "records acknowledged"),
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__.strip("_"))
def test_a_drill_that_a_fault_was_planted_in_fails_for_it(drill, monkeypatch, mutant):
    cause, words = MUTANTS[mutant]
    mutant(monkeypatch)
    run, _ = drill()
    print(run.cause, run.detail)
    assert run.outcome is not Outcome.PASSED
    assert run.cause == cause
    assert re.search(words, run.detail)
