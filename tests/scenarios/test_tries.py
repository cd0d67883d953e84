"""A machine that never runs commands: another is tried in its place, and what was waited and paid for it is kept."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.fleet import bench, reachable
from tests.profiles import certain
from tests.scenarios.pair import PAIR, STANDBY
from vastbench.analysis.frames import phases_table, runs_table
from vastbench.analysis.spans import with_span
from vastbench.emulator import Emulator
from vastbench.errors import BootFailed, CheckFailed
from vastbench.record.conditions import Conditions
from vastbench.record.document import run_from_dict, run_to_dict
from vastbench.record.phases import Outcome, PhaseName, of_machine
from vastbench.rental import provisioner
from vastbench.rental.label import read_label
from vastbench.scenarios import SCENARIOS
from vastbench.scenarios.drill import TRIES

SPEED = 30
CONDITIONS = Conditions(boot_deadline_s=120, ssh_deadline_s=60)
REGISTER, READY = (of_machine(STANDBY, name) for name in (PhaseName.REGISTER_KEY, PhaseName.WAIT_SSH))


def one_after_the_other(drill):
    with drill.rent(), drill.rent(STANDBY) as second:
        second.session.run("true")
        drill.recorder.add(replace(drill.recorder.phases[-1], name="hand over", parent=None))


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.setitem(SCENARIOS, "spare", replace(PAIR, name="spare", run=one_after_the_other))
    with bench(tmp_path, profile=certain(tmp_path), seed=4, speed=SPEED) as one:
        yield one


def broken(monkeypatch, *tries, machine=STANDBY, wait="wait_running"):
    """Let these tries at the machine come to nothing after they were waited for."""
    real, count = getattr(provisioner, wait), []

    def waited(recorder, *given):
        found = real(recorder, *given)
        count.extend([1] if recorder.machine == machine else [])
        if recorder.machine == machine and len(count) in tries:
            raise BootFailed("This one will not boot.", hint="")
        return found

    monkeypatch.setattr(provisioner, wait, waited)


def on_one_machine(monkeypatch, name, other):
    """Let the rental of that name be on the machine of the other one."""
    rent, machines = provisioner.Provisioner.rent, {}

    @contextmanager
    def rented(self, rental):
        try:
            with rent(self, rental) as machine:
                machines[rental.name] = rental.offer.machine_id
                if rental.name == name:
                    rental.offer = rental.offer.model_copy(update={"machine_id": machines[other]})
                yield machine
        finally:
            machines[rental.name] = rental.offer.machine_id

    monkeypatch.setattr(provisioner.Provisioner, "rent", rented)


@pytest.mark.parametrize("wait", ["wait_running", "wait_ssh"])
def test_another_machine_is_tried_and_the_try_in_vain_stays_in_the_record(opened, monkeypatch, wait):
    broken(monkeypatch, 1, wait=wait)
    run = opened.run(CONDITIONS, scenario="spare")
    assert (run.outcome, run.cause) == (Outcome.PASSED, "")
    made = [one for one in run.attempts if one.instance_id]
    assert [(one.outcome, one.cause) for one in made] == [("passed", ""), ("failed", "boot_failed"), ("passed", "")]
    assert len({one.machine_id for one in made}) == 3
    rented = [row for row in opened.store.leases() if row.verdict == "destroyed"]
    assert {read_label(row.label).attempt for row in rented} == {one.number for one in made}
    assert opened.emulator.alive == []
    in_vain, used = run.resources["machines"]
    assert [(one["name"], one["used"]) for one in (in_vain, used)] == [(STANDBY, False), (f"{STANDBY} 2", True)]
    assert in_vain["cost"]["storage_usd"] > 0
    assert run.cost.storage_usd > in_vain["cost"]["storage_usd"] + used["cost"]["storage_usd"]
    assert run.usd_per_hour == pytest.approx(run.resources["usd_per_hour"] + used["resources"]["usd_per_hour"])
    assert run_from_dict(run_to_dict(run)) == run == opened.store.run("last")


def test_its_phases_are_no_sample_and_its_time_is_part_of_the_wait(opened, monkeypatch):
    broken(monkeypatch, 1, 2)
    frame = with_span(phases_table([opened.run(CONDITIONS, scenario="spare")]), "had", REGISTER, READY)
    rows = frame[frame["phase"] == REGISTER]
    assert rows["final"].tolist() == [False, False, True]
    had = frame[frame["phase"] == "had"].iloc[0]
    assert had["start_s"] == rows["start_s"].min()
    assert had["end_upper_s"] == frame.loc[(frame["phase"] == READY) & frame["final"], "end_upper_s"].item()
    whole = runs_table(frame).iloc[0]
    assert whole["attempts"] == 3
    assert whole["retries_s"] > 0


def test_after_so_many_tries_the_run_fails_like_the_last(opened, monkeypatch):
    broken(monkeypatch, *range(1, TRIES + 1))
    run = opened.run(CONDITIONS, scenario="spare")
    assert (run.outcome, run.cause) == (Outcome.FAILED, "boot_failed")
    assert [one.cause for one in run.attempts if one.instance_id] == ["boot_failed"] * (TRIES + 1)
    assert opened.emulator.alive == []


def test_the_first_machine_of_a_run_is_tried_once(opened, monkeypatch):
    broken(monkeypatch, 1, machine="")
    run = opened.run(CONDITIONS, scenario="spare")
    assert (run.cause, len([one for one in run.attempts if one.instance_id])) == ("boot_failed", 1)


def test_what_fails_on_a_machine_that_runs_commands_is_not_tried_again(opened, monkeypatch):
    def fails(drill):
        with drill.rent(), drill.rent(STANDBY):
            raise CheckFailed("No good.", hint="")

    monkeypatch.setitem(SCENARIOS, "spare", replace(PAIR, name="spare", run=fails))
    run = opened.run(CONDITIONS, scenario="spare")
    assert (run.cause, len([one for one in run.attempts if one.instance_id])) == ("check_failed", 2)


def test_a_second_try_on_the_machine_that_failed_is_refused(opened, monkeypatch):
    broken(monkeypatch, 1)
    on_one_machine(monkeypatch, f"{STANDBY} 2", STANDBY)
    run = opened.run(CONDITIONS, scenario="spare")
    assert (run.outcome, run.cause) == (Outcome.FAILED, "check_failed")
    assert "Two instances of the run were on the machine" in run.detail
    assert opened.emulator.alive == []


def test_a_try_in_vain_holds_no_more_of_the_budget_than_it_cost(tmp_path, monkeypatch):
    monkeypatch.setitem(SCENARIOS, "spare", replace(PAIR, name="spare", run=one_after_the_other))
    broken(monkeypatch, 1, 2)
    reserved = []
    with Emulator(certain(tmp_path), seed=4, speed=SPEED) as vast:
        reachable(vast, SPEED, monkeypatch)
        with bench(tmp_path, live=True, budget_usd=9) as opened:
            budget = opened._provisioner.budget
            settle = budget.settle
            monkeypatch.setattr(budget, "settle", lambda *given: (reserved.append(dict(budget._reserved)), settle(*given)))
            run = opened.run(CONDITIONS, scenario="spare")
            assert run.cause == ""
            assert 0 < opened.spent_usd == pytest.approx(run.cost.at_most_usd)
    held = {machine: usd for (_, machine), usd in reserved[0].items()}
    assert held[STANDBY] < held[f"{STANDBY} 3"] / 10
    assert held[f"{STANDBY} 2"] < held[f"{STANDBY} 3"] / 10
