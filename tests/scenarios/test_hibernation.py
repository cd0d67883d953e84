"""The hibernation drill: idleness is noticed, saved and woken, and what only looks like it fails for its own cause."""

import re

import pytest

from tests.fleet import bench
from tests.profiles import certain
from vastbench.record.conditions import Conditions
from vastbench.record.phases import Outcome
from vastbench.scenarios import hibernation
from vastbench.scenarios.idle import Gpu, IdleRule, State, Verdict

CONDITIONS = Conditions(boot_deadline_s=120, ssh_deadline_s=60, files=20, size_mb=0.1)
SPEED = 20


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """The machine is judged by a short window, after little work."""
    monkeypatch.setattr(hibernation, "IdleRule", lambda: IdleRule(window_s=60, quiet_s=30, gap_s=25, samples=4))
    monkeypatch.setattr(hibernation, "WORK_S", 30.0)
    monkeypatch.setattr(hibernation, "NEVER_IDLE_S", 200.0)
    monkeypatch.setattr(hibernation, "ASLEEP_S", 5.0)


@pytest.fixture
def drill(tmp_path):
    """Makes one run of the drill; nothing may be left."""

    def made():
        with bench(tmp_path, profile=certain(tmp_path), seed=1, speed=SPEED) as opened:
            run = opened.run(CONDITIONS, scenario="hibernation")
            assert opened.emulator.alive == []
            return run

    return made


def test_an_idle_machine_is_saved_given_up_and_woken_whole(drill):
    run = drill()
    assert (run.outcome, run.detail) == (Outcome.PASSED, "")
    asleep = run.phase(hibernation.ASLEEP)
    assert run.phase("confirm destroyed").end.upper <= asleep.start.lower
    assert asleep.end.upper <= run.phase("woken: create instance").start.lower
    figures = run.validation["hibernation"]
    assert run.seconds(hibernation.NOTICE_IDLE) < figures["until_unpaid_s"] < figures["pays_from_s"]
    assert len(run.validation["idle"]["tried"]) == 9


# Mutants: each takes away what the drill rests on, and the drill must fail, for that reason.


def _judging(change):
    """A mutant of the rule: ``change`` makes its samples, or its verdict, something else."""

    def mutant(monkeypatch):
        judge = hibernation.judge
        monkeypatch.setattr(hibernation, "judge", lambda samples, rule, now: change(judge, list(samples), rule, now))

    return mutant


def _zero(sample):
    return hibernation.replace(
        sample, gpus=tuple(gpu if gpu.use_pct is not None else Gpu(0.0, 1.0, 2.0) for gpu in sample.gpus)
    )


def _first_only(sample):
    return hibernation.replace(sample, gpus=sample.gpus[:1])


def _unheld(verdict):
    return Verdict(State.IDLE, "") if verdict.state is State.HELD else verdict


def _last_alone(judge, samples, rule, now):
    repeated = [hibernation.replace(samples[-1], at=now - back) for back in range(0, 61, 10)] if samples else []
    return judge(repeated, rule, now)


def _kill_no_work(monkeypatch):
    _instead_of_running(monkeypatch, "kill ", "true ")


def _begin_no_work(monkeypatch):
    _instead_of_running(monkeypatch, "while :", "exit; while :")


def _instead_of_running(monkeypatch, words, others):
    run = hibernation.Session.run
    monkeypatch.setattr(
        hibernation.Session, "run", lambda self, command, **more: run(self, command.replace(words, others), **more)
    )


def _skip_the_restore(monkeypatch):
    monkeypatch.setattr(hibernation, "restore", lambda *_: None)


def _change_a_file_on_the_way(monkeypatch):
    def changed(session, snapshot, place, folder):
        restore(session, snapshot, place, folder)
        session.run(f"echo more >> {folder}/weights/1.bin")

    restore = hibernation.restore
    monkeypatch.setattr(hibernation, "restore", changed)


def _save_another_folder(monkeypatch):
    def another(session, _, place, *, manifest):
        session.run("mkdir -p /workspace/other && touch /workspace/other/file")
        return take(session, "/workspace/other", place)

    take = hibernation.take
    monkeypatch.setattr(hibernation, "take", another)


MUTANTS = {
    "a failed reading is 0": (
        _judging(lambda judge, samples, rule, now: judge([_zero(one) for one in samples], rule, now)),
        ("check_failed", "judges a GPU that cannot be read as idle"),
    ),
    "only the first GPU": (
        _judging(lambda judge, samples, rule, now: judge([_first_only(one) for one in samples], rule, now)),
        ("check_failed", "judges a second GPU that works as idle"),
    ),
    "one sample is a window": (_judging(_last_alone), ("check_failed", "judges one sample as idle")),
    "uptime is idle time": (
        _judging(lambda judge, samples, rule, now: Verdict(State.IDLE, "it has been up for long")),
        ("check_failed", "work was not seen"),
    ),
    "held memory is nothing": (
        _judging(lambda judge, samples, rule, now: _unheld(judge(samples, rule, now))),
        ("check_failed", "judges a loaded model as idle"),
    ),
    "no work": (_begin_no_work, ("check_failed", "work was not seen")),
    "work that goes on": (_kill_no_work, ("check_failed", "not judged idle in")),
    "no restore": (_skip_the_restore, ("snapshot", "cannot be listed")),
    "a changed file": (_change_a_file_on_the_way, ("check_failed", "weights/1.bin")),
    "another folder": (_save_another_folder, ("check_failed", "missing|differ|extra")),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_drill_that_a_fault_was_planted_in_fails_for_it(drill, monkeypatch, mutant):
    plant, (cause, words) = MUTANTS[mutant]
    plant(monkeypatch)
    run = drill()
    print(run.cause, run.detail)
    assert run.outcome is not Outcome.PASSED
    assert run.cause == cause
    assert re.search(words, run.detail)
