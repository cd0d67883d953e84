"""A study goes on where it stopped: under its own conditions, with every run that was measured, and without repeating one."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from tests.fleet import bench, reachable
from tests.profiles import certain
from tests.store.records import SEED
from vastbench.bench.launches import record_killed_runs
from vastbench.bench.workers import run_study
from vastbench.cli import app
from vastbench.emulator import Emulator
from vastbench.errors import NotFound, StoreError, UsageError
from vastbench.io.files import read_run
from vastbench.owner import SILENCE_S, owner
from vastbench.record.conditions import Conditions
from vastbench.record.phases import Outcome
from vastbench.record.run import KILLED
from vastbench.report.build import build_report, of_study, read_model, shortfall
from vastbench.store import Store

SPEED = 60
RUN = read_run(SEED)
CONDITIONS = Conditions(disk_gb=12, max_usd_per_hour=0.45)
ELSEWHERE = {"host": "elsewhere"}


def dead():
    """An owner on this machine that has ended: its number is another process's now."""
    return owner() | {"process_start": "0"}


def call(folder, *words):
    """Run a command with the store in ``folder``; raises the error that it ends with."""
    done = CliRunner().invoke(app, [*map(str, words), "--store", str(folder / "runs.sqlite")])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def resume(folder, *words):
    return call(folder, "study", "--resume", "--name", "s", "--speed", SPEED, "--workers", 1, *words)


@pytest.fixture
def half(tmp_path):
    """A study of two runs with conditions of its own, of which one is made and another died with its process."""
    with bench(tmp_path, profile=certain(tmp_path), seed=1, speed=SPEED, study="s") as opened:
        study = opened.open_study(2, CONDITIONS)
        opened.run_next(study)
        opened.store.announce_run("s", "died", dead())
    return tmp_path


def stored(folder):
    with Store(folder / "runs.sqlite") as store:
        return store.study("s")


def test_it_resumes_with_the_stored_conditions_and_repeats_and_every_run(half, monkeypatch):
    (before,) = stored(half).runs
    done = resume(half, "--profile", certain(half), "--json")
    assert json.loads(done.stdout)["made"] == 2
    after = stored(half)
    assert Conditions.of(after.conditions) == CONDITIONS
    assert before in after.made
    assert len(after.made) == after.passed == 2
    assert {run.id: run.cause for run in after.runs if run.cause} == {"died": KILLED}
    assert {run.conditions["disk_gb"] for run in after.made} == {12}
    assert "complete: no run was made" in resume(half, "--profile", certain(half)).stderr
    assert stored(half) == after

    # And its report is whole; here without its figures, which are what takes long.
    monkeypatch.setattr("vastbench.report.figures.draw_figures", lambda *_: [])
    index = build_report(of_study(after), half / "report", notebooks=[])
    model = read_model(index)
    assert shortfall(model) is None
    assert (model["counts"]["asked"], model["counts"]["attempted"]) == (2, 2)


@pytest.mark.parametrize(
    "option",
    [
        ["--disk", "20"],
        ["--gpu", "RTX 4090"],
        ["--max-price", "0.45"],
        ["--image", "ubuntu:22.04"],
        ["--repeats", "3"],
        ["--boot-deadline", "60"],
        ["--ssh-deadline", "60"],
        ["--stop-width", "20%"],
        ["--stop-of", "wait running"],
        ["--stop-quantile", "90%"],
    ],
)
def test_conditions_cannot_be_given_anew(tmp_path, option):
    with pytest.raises(UsageError) as refused:
        resume(tmp_path, *option)
    assert f"under the study's own conditions, but {option[0]} was given" in refused.value.message
    assert refused.value.exit_code == 2
    assert "leave out --resume" in refused.value.hint


def test_another_profile_is_another_condition(half):
    before = stored(half)
    with pytest.raises(UsageError, match="begun with profile 'certain', not 'cached'"):
        resume(half, "--profile", "cached")
    assert [run.id for run in stored(half).made] == [run.id for run in before.made]


def test_a_profile_of_the_users_own_that_is_not_named_again_is_asked_for(half):
    with pytest.raises(NotFound, match="no profile 'certain'") as refused:
        resume(half)
    assert "path of a TOML file" in refused.value.hint
    assert refused.value.exit_code == 2


def test_an_unknown_study_is_refused_and_no_store_is_made(tmp_path):
    with pytest.raises(NotFound) as refused:
        resume(tmp_path)
    assert refused.value.exit_code == 2
    assert not (tmp_path / "runs.sqlite").exists()
    Store(tmp_path / "runs.sqlite").close()
    with pytest.raises(NotFound, match="no study 's'"):
        resume(tmp_path)


def test_a_study_of_the_emulator_does_not_go_on_live(half):
    with pytest.raises(UsageError, match="was begun on the built-in emulator") as refused:
        resume(half, "--live", "--budget", "1", "--yes")
    assert "Leave out --live" in refused.value.hint


def test_a_live_study_goes_on_live_alone(tmp_path, monkeypatch):
    with Emulator(certain(tmp_path), seed=4, speed=SPEED) as vast:
        reachable(vast, SPEED, monkeypatch)
        with bench(tmp_path, live=True, budget_usd=9, study="s") as opened:
            opened.open_study(1, CONDITIONS)
        with pytest.raises(UsageError, match="was begun on the marketplace at VAST_URL") as refused:
            resume(tmp_path)
        assert "--live" in refused.value.hint
        resume(tmp_path, "--live", "--budget", "9", "--yes")
    assert [run.outcome for run in stored(tmp_path).runs] == [Outcome.PASSED]


# What was measured is not lost, whoever took it for dead


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "runs.sqlite") as opened:
        opened.open_study("s", scenario="integration", repeats=5, conditions={"source": "emulator"})
        yield opened


def announced(store, run_id, whose):
    assert store.announce_run("s", run_id, whose)
    return replace(RUN, id=run_id, study="s")


def kept(store, run):
    """The store refuses the run, which then waits in a file, and takes runs again."""
    with store._engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE phases RENAME TO phases_away"))
    with pytest.raises(StoreError, match="is kept in"):
        store.save_run_or_keep(run)
    with store._engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE phases_away RENAME TO phases"))


def test_a_pending_run_is_taken_in_before_killed_runs_are_recorded(store, tmp_path):
    run = announced(store, "kept", dead())
    announced(store, "lost", dead())
    kept(store, run)
    with bench(tmp_path, profile=certain(tmp_path), speed=SPEED, study="s") as opened:
        study = opened.store.study("s")
    assert {one.id: one.cause for one in study.runs} == {"kept": "", "lost": KILLED}
    assert store.run("kept") == run


def test_a_run_taken_for_killed_is_replaced_by_what_it_measured(store):
    run = announced(store, "unheard", dead())
    (buried,) = record_killed_runs(store, store.study("s"))
    assert (buried.id, buried.phases) == ("unheard", ())
    store.save_run(run)
    assert store.study("s").runs == (run,)
    assert store.study("s").made == (run,)


def test_a_pending_run_replaces_the_one_that_was_recorded_as_killed(store):
    run = announced(store, "unheard", dead())
    kept(store, run)
    record_killed_runs(store, store.study("s"))
    assert store.take_in_pending_runs() == ["unheard"]
    assert store.study("s").runs == (run,)


def test_what_was_measured_is_never_replaced_by_a_death(store):
    run = announced(store, "ended", dead())
    store.save_run(run)
    with pytest.raises(StoreError):
        store.save_run(replace(run, cause=KILLED, outcome=Outcome.CENSORED, phases=()))
    assert store.study("s").runs == (run,)


# Runs of other machines


def beat(store, whose, *, ago_s):
    then = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat()
    store.beat(whose["id"])
    with store._engine.begin() as connection:
        connection.execute(sa.text("UPDATE owners SET beat_at = :then WHERE id = :id"), {"then": then, "id": whose["id"]})


def test_a_run_elsewhere_is_recorded_as_killed_when_its_owner_is_silent(store):
    silent, heard, mute = (owner() | ELSEWHERE for _ in range(3))
    beat(store, silent, ago_s=SILENCE_S + 60)
    beat(store, heard, ago_s=SILENCE_S - 60)
    for name, whose in (("silent", silent), ("heard", heard), ("mute", mute)):
        announced(store, name, whose)
    (buried,) = record_killed_runs(store, store.study("s"))
    assert (buried.id, buried.cause) == ("silent", KILLED)
    assert "elsewhere" in buried.detail
    assert {one.run_id for one in store.unfinished("s")} == {"heard", "mute"}
    assert record_killed_runs(store, store.study("s")) == []


def test_an_owner_that_is_heard_again_stores_what_it_measured(store):
    whose = owner() | ELSEWHERE
    run = announced(store, "asleep", whose)
    beat(store, whose, ago_s=SILENCE_S + 60)
    record_killed_runs(store, store.study("s"))
    store.save_run(run)
    assert store.study("s").runs == (run,)


def test_only_runs_of_the_living_take_the_place_of_a_repeat(tmp_path):
    with Store(tmp_path / "runs.sqlite") as store:
        store.open_study("s", scenario="integration", repeats=2, conditions={"source": "emulator"})
        silent, heard = owner() | ELSEWHERE, owner() | ELSEWHERE
        beat(store, silent, ago_s=SILENCE_S + 60)
        beat(store, heard, ago_s=0)
        assert store.announce_run("s", "silent", silent)
        assert store.announce_run("s", "heard", heard)
        assert store.announce_run("s", "instead of the silent", owner())
        assert not store.announce_run("s", "one too many", owner())


def test_two_machines_on_one_study_make_each_repeat_once(half):
    """While a run is under way elsewhere it is not made here; once its owner is silent it is."""
    elsewhere = owner() | ELSEWHERE
    with Store(half / "runs.sqlite") as store:
        beat(store, elsewhere, ago_s=0)
        assert store.announce_run("s", "theirs", elsewhere)
        with bench(half, profile=certain(half), speed=SPEED, study="s") as opened:
            assert len(run_study(opened, opened.open_study(2, CONDITIONS), workers=1).made) == 1
        beat(store, elsewhere, ago_s=SILENCE_S + 60)
        with bench(half, profile=certain(half), speed=SPEED, study="s") as opened:
            after = run_study(opened, opened.open_study(2, CONDITIONS), workers=1)
    assert len(after.made) == after.passed == 2
    assert {run.id for run in after.runs if run.cause == KILLED} == {"died", "theirs"}
