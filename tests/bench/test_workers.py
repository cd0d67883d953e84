"""A study makes its repeats, whatever stops it, and says truly how far it came."""

import itertools
import json
import os
import re
import shutil
import signal
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import psutil
import pytest

from tests.analysis.made import made
from tests.fleet import bench, reachable
from tests.processes import Started, clean_environment, command, emulator_process, until
from tests.profiles import certain
from vastbench.analysis.frames import phases_table
from vastbench.analysis.stopping import StoppingMonitor
from vastbench.analysis.summary import outcomes
from vastbench.bench.workers import Queue, Workers, run_study
from vastbench.emulator import Emulator
from vastbench.errors import AccountRefused, Interrupted, LeaseNotClosed, StudyFailed, StudyIncomplete, UsageError
from vastbench.io.tables import load
from vastbench.record.conditions import Conditions
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.stopping import StoppingRule
from vastbench.record.study import APART_S, EndedBy, Study, StudyProgress, require_passed
from vastbench.render.text import stopping_text
from vastbench.store import Store

SPEED = 25
"""A busy machine delays calls by hundredths of a second: at twice the speed that is enough to be refused one in many suites."""


def sit(folder, repeats, *, workers=3, conditions=None, listener=None, seed=1, name="s", **settings):
    """One launch of the study ``name`` in ``folder``."""
    with bench(
        folder, profile=settings.pop("profile", None) or certain(folder), seed=seed, speed=SPEED, study=name, **settings
    ) as b:
        return run_study(b, b.open_study(repeats, conditions), workers=workers, listener=listener)


def stored(folder) -> Store:
    return Store(folder / "runs.sqlite")


class First(NamedTuple):
    """A study of six runs by three workers. ``stored``: whether each run was in the store when it was said to end."""

    folder: Path
    study: Study
    progress: list[StudyProgress]
    stored: list[bool]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    heard, landed = [], []

    def listen(progress):
        heard.append(progress)
        if progress.ended:
            with stored(folder) as store:
                landed.append(store.has_run(progress.ended.id))

    return First(folder, sit(folder, 6, listener=listen), heard, landed)


def test_a_study_makes_its_repeats(first):
    study = first.study
    assert len(study.made) == len(study.runs) == study.passed == 6
    assert {run.study for run in study.runs} == {"s"}
    assert len({run.id for run in study.runs}) == 6
    assert study.shortfall() is None
    assert study.ended_by is EndedBy.REPEATS
    with stored(first.folder) as store:
        assert store.study("s") == study
        assert store.studies() == [study]
        assert store.unfinished("s") == []
        assert {lease.verdict for lease in store.leases()} == {"destroyed"}


def test_every_run_is_stored_before_it_is_said_to_have_ended(first):
    assert first.stored == [True] * 6


def test_runs_begin_apart_so_that_none_queues_for_its_turn(first):
    rests, all_begun = [], threading.Barrier(3)
    clock = SimpleNamespace(speed=1.0, stopping=threading.Event(), now=lambda: 0.0, rest=rests.append)
    bench = SimpleNamespace(clock=clock, run_next=lambda *_: (all_begun.wait(60), None)[1], stop=clock.stopping.set)
    study = replace(first.study, runs=(), repeats=6)
    Workers(bench, Queue("s", (study,), ["s"] * 6), 3, lambda _: None).work()
    assert sorted(rests) == [0, APART_S, 2 * APART_S]  # three workers, which would otherwise begin at once


def test_workers_share_the_limits_and_are_never_refused(first):
    assert [run.instrument["api"]["rate_limited"] for run in first.study.runs] == [0] * 6


def test_progress_counts_up_to_the_end_and_knows_what_every_worker_does(first):
    heard = first.progress
    assert [progress.made for progress in heard if progress.ended] == [1, 2, 3, 4, 5, 6]
    assert [progress.made for progress in heard] == sorted(progress.made for progress in heard)
    assert {progress.left_s is None for progress in heard if progress.made == 0} == {True}
    assert all(progress.left_s is not None for progress in heard if progress.made)
    assert heard[-1].left_s == 0
    assert heard[-1].spent_usd == pytest.approx(first.study.spent_usd)
    assert set(heard[-1].workers) == {None}
    seen = {(doing.run, doing.phase) for progress in heard for doing in progress.workers if doing}
    assert {run for run, _ in seen} == {1, 2, 3, 4, 5, 6}
    assert {phase for _, phase in seen} >= {PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH, PhaseName.CONFIRM}
    assert max(sum(doing is not None for doing in progress.workers) for progress in heard) == 3


def test_a_complete_study_makes_nothing(first):
    assert sit(first.folder, 6) == first.study


def test_a_study_that_wants_more_makes_only_those_and_draws_anew(first, tmp_path):
    shutil.copytree(first.folder, tmp_path, dirs_exist_ok=True)
    longer = sit(tmp_path, 8)
    assert len(longer.made) == 8
    assert longer.runs[:6] == first.study.runs
    seeds = Counter(run.conditions["seed"] for run in longer.runs)
    assert seeds[1] == 6
    assert sorted(seeds.values()) == [2, 6]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"conditions": Conditions(disk_gb=40)}, ["disk_gb", "20.0", "40"]),
        ({"conditions": Conditions(gpu_name=None)}, ["gpu_name", "RTX 4090", "None"]),
        ({"conditions": Conditions(boot_deadline_s=60)}, ["boot_deadline_s", "600", "60"]),
        ({"profile": "default"}, ["profile", "certain", "default"]),
    ],
)
def test_other_conditions_are_another_study(first, changed, words):
    with pytest.raises(UsageError) as caught:
        sit(first.folder, 6, **changed)
    assert all(word in caught.value.message for word in words), caught.value.message


def test_an_edited_profile_is_another_study_under_the_same_name(first, tmp_path):
    shutil.copytree(first.folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "certain.toml"
    file.write_text(file.read_text().replace("value = 15,", "value = 16,"))
    with pytest.raises(UsageError, match="profile_hash"):
        sit(tmp_path, 6, profile=file)


def test_the_number_of_workers_and_the_seed_may_change(first):
    assert len(sit(first.folder, 6, workers=1, seed=99).made) == 6


@pytest.mark.parametrize("name", ["", "a b", "../x", "ä", "x" * 81])
def test_a_study_needs_a_plain_name(tmp_path, name):
    with stored(tmp_path) as store, pytest.raises(UsageError, match="name"):
        store.open_study(name, scenario="integration", repeats=1, conditions={})


@pytest.mark.parametrize(
    ("repeats", "workers", "word"), [(0, 1, "repeats"), (100_001, 1, "repeats"), (1, 0, "workers"), (1, 65, "workers")]
)
def test_impossible_numbers_are_refused(tmp_path, repeats, workers, word):
    with pytest.raises(UsageError, match=word):
        sit(tmp_path, repeats, workers=workers)


def test_a_bench_without_a_study_opens_none(tmp_path):
    with bench(tmp_path, profile=certain(tmp_path)) as opened, pytest.raises(UsageError, match="without a study"):
        opened.open_study(1)


def test_a_bench_makes_runs_of_its_own_study_only(first):
    with bench(first.folder, profile=certain(first.folder), study="other") as opened, pytest.raises(UsageError, match="other"):
        opened.run_next(first.study)


# What ends a study early


def test_the_budget_ends_a_study_and_counts_what_earlier_launches_spent(tmp_path):
    conditions = Conditions(boot_deadline_s=60, ssh_deadline_s=30)
    spent = sit(tmp_path, 2, conditions=conditions)
    with bench(tmp_path, profile=certain(tmp_path), speed=SPEED, study="s", budget_usd=0.001) as opened:
        assert opened.spent_usd == pytest.approx(
            sum(run.cost.gpu_upper_usd + run.cost.storage_usd + run.cost.transfer_usd for run in spent.runs)
        )
        study = run_study(opened, opened.open_study(9, conditions), workers=2)
    assert len(study.made) == 2
    assert {run.cause for run in study.runs[2:]} == {"budget"}
    assert study.ended_by is EndedBy.BUDGET
    error = study.shortfall()
    assert isinstance(error, StudyIncomplete)
    assert "2 of 9" in error.message
    assert "budget" in error.message
    with stored(tmp_path) as store:
        assert {lease.run_id for lease in store.leases()} <= {run.id for run in spent.runs}


def test_a_market_without_offers_is_asked_three_times(tmp_path):
    study = sit(tmp_path, 10, workers=1, conditions=Conditions(gpu_name="RTX 9999"))
    assert [run.cause for run in study.runs] == ["no_offer"] * 3
    assert isinstance(study.shortfall(), StudyIncomplete)


def test_a_rejected_key_is_not_tried_again(tmp_path, monkeypatch):
    with emulator_process(tmp_path, "--profile", str(certain(tmp_path)), "--speed", "20") as environment:
        for name in ("VAST_URL", "VASTBENCH_SPEED"):
            monkeypatch.setenv(name, environment[name])
        monkeypatch.setenv("VAST_API_KEY", "wrong")
        with bench(tmp_path, live=True, budget_usd=9, study="s") as opened:
            study = run_study(opened, opened.open_study(9), workers=1)
    assert [run.cause for run in study.runs] == ["key_rejected"]
    assert (study.made, study.ended_by) == ((), EndedBy.ACCOUNT)
    assert study.shortfall().exit_code == 17


@pytest.mark.parametrize(("fault", "said"), [("credit-ends", "lacks credit"), ("search-quota", "00:00 UTC")])
def test_an_account_that_is_refused_ends_its_study_and_blames_no_machine(tmp_path, monkeypatch, fault, said):
    with Emulator(certain(tmp_path), seed=16, speed=SPEED, faults={fault: 0.5}) as vast:
        reachable(vast, SPEED, monkeypatch)
        with bench(tmp_path, live=True, budget_usd=9, study="s") as opened:
            study = run_study(opened, opened.open_study(9), workers=2)
    assert [run.detail for run in study.made if run.cause] == []
    assert 0 < len(study.made) < 9
    assert {run.cause for run in study.runs if run not in study.made} == {"account_refused"}
    refused = study.shortfall()
    assert isinstance(refused, AccountRefused)
    assert f"stopped after {len(study.made)} of 9 runs" in refused.message
    assert said in f"{refused.message} {refused.hint}"
    assert outcomes(phases_table(study.runs))["attempted"].tolist() == [len(study.made)]


def test_a_study_that_was_complete_when_its_account_was_refused_is_whole():
    runs = tuple(replace(made(i, {}), id=str(i)) for i in range(3))
    refused = replace(runs[2], outcome=Outcome.FAILED, cause="account_refused", detail="No credit.")
    study = Study("s", "integration", 2, {}, "2026-01-01T00:00:00Z", (*runs[:2], refused), ended_by=EndedBy.ACCOUNT)
    assert study.shortfall() is None
    assert isinstance(replace(study, repeats=3).shortfall(), AccountRefused)


def test_a_study_in_which_nothing_passes_has_failed(tmp_path):
    profile = tmp_path / "broken.toml"
    profile.write_text(certain(tmp_path).read_text().replace("oci_error = { p = 0", "oci_error = { p = 1"))
    study = sit(tmp_path, 2, profile=profile)
    assert study.causes == {"boot_failed": 2}
    error = study.shortfall()
    assert isinstance(error, StudyFailed)
    assert "2 × boot_failed" in error.message


def test_runs_of_which_none_passed_are_refused_with_how_they_ended_and_why():
    slow, broken = (replace(made(i, {}), id=str(i), outcome=Outcome.FAILED, cause="boot_failed") for i in range(2))
    cut = replace(slow, outcome=Outcome.CENSORED, cause="deadline", detail="It was loading after 600 s.")
    with pytest.raises(StudyFailed, match=r"None of the 3 runs passed: 2 failed \(boot_failed\), 1 censored") as refused:
        require_passed([slow, broken, cut])
    assert refused.value.message.endswith("The last one: It was loading after 600 s.")
    assert "require_passed" in refused.value.hint
    with pytest.raises(StudyFailed, match=r"The only run did not pass: 1 censored \(deadline\)"):
        require_passed([cut])
    with pytest.raises(StudyFailed, match="No run was made"):
        require_passed([])
    require_passed([slow, replace(slow, outcome=Outcome.PASSED, cause=""), cut])


def test_an_instance_that_is_not_confirmed_gone_ends_the_study(tmp_path, monkeypatch):
    monkeypatch.setattr("vastbench.rental.lease.CONFIRM_DEADLINE_S", -1.0)
    profile = tmp_path / "late.toml"
    profile.write_text(
        certain(tmp_path).read_text().replace("[lag]", '[lag]\ngone = { kind = "fixed", value = 60, basis = "assumption" }')
    )
    with pytest.raises(LeaseNotClosed, match="not confirmed destroyed"):
        sit(tmp_path, 9, workers=1, profile=profile)
    with stored(tmp_path) as store:
        assert [run.cause for run in store.study("s").runs] == ["lease_not_closed"]


@pytest.mark.parametrize("phase", [PhaseName.SEARCH, PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH])
def test_a_stopped_bench_ends_its_runs_long_before_their_deadlines(tmp_path, phase):
    profile = tmp_path / "endless.toml"
    text = certain(tmp_path).read_text()
    never = {PhaseName.WAIT_RUNNING: ("running", 15), PhaseName.WAIT_SSH: ("accepts", 2)}.get(phase)
    if never:
        text = text.replace(
            f'{never[0]} = {{ kind = "fixed", value = {never[1]}', f'{never[0]} = {{ kind = "fixed", value = 9999'
        )
    profile.write_text(text)
    with bench(tmp_path, profile=profile, seed=1, speed=5, study="s") as opened:
        study = opened.open_study(3, Conditions(boot_deadline_s=3000, ssh_deadline_s=3000))

        def stop(progress):
            if any(doing and doing.phase == phase for doing in progress.workers):
                opened.stop()

        made = run_study(opened, study, workers=2, listener=stop)
    assert {run.cause for run in made.runs} == {"interrupted"}
    assert all(run.total_s < 1000 for run in made.runs)
    assert made.made == ()
    with stored(tmp_path) as store:
        assert store.leases(open_only=True) == []


def test_a_listener_that_fails_costs_no_run(tmp_path):
    def fail(_):
        raise BrokenPipeError

    assert sit(tmp_path, 2, listener=fail).passed == 2


# A study that ends by itself

WORKERS = 3


def measured(folder, rule, repeats=40, *, there=0, **settings):
    """One launch of the study ``precise`` that may stop on ``rule``; ``there`` are earlier runs, each on its machine.

    Its runs are stored as runs are, and take what they are told to: on a busy machine a real one takes any time.
    """
    with bench(folder, profile=certain(folder), speed=SPEED, study="precise") as opened:
        study = opened.open_study(repeats, stopping=rule)
        numbers, lock = itertools.count(len(study.runs)), threading.Lock()

        def store_next(study, _listener=None):
            with lock:
                number = next(numbers)
                run = made(number, {PhaseName.WAIT_RUNNING: 20.0 + number % 8, PhaseName.WAIT_SSH: 4.0})
                run = replace(run, study=study.name, resources={"machine_id": number})
                if not opened.store.announce_run(study.name, run.id, {}):
                    return None
                opened.store.save_run(run)
                return run

        opened.run_next = store_next
        for _ in range(there):
            store_next(study)
        return run_study(opened, study, workers=WORKERS, **settings)


def enough(rule, runs):
    """After how many of these runs, in the order of their beginning, the rule is met."""
    monitor = StoppingMonitor(rule, ())
    for number, run in enumerate(runs, start=1):
        monitor.add(number, run)
        if monitor.precise:
            return number
    raise AssertionError("the rule is not met")


def test_a_study_ends_when_it_is_precise_and_resumes_for_a_stricter_rule(tmp_path):
    loose = StoppingRule(0.9)
    study = measured(tmp_path, loose, there=8)
    assert study.ended_by is EndedBy.PRECISION
    # Below nine runs there is no interval; what is under way when the ninth is in still ends.
    assert 9 <= len(study.made) <= enough(loose, study.made) + WORKERS - 1
    assert study.wanted == len(study.made)
    assert study.shortfall() is None
    shown = study.to_dict()
    assert (shown["ended_by"], shown["stopping"]["width"], shown["repeats"]) == ("precision", 0.9, 40)
    assert "Ended by its precision: the median of time to ready lies between" in stopping_text(study)
    assert measured(tmp_path, loose) == study

    strict = measured(tmp_path, StoppingRule(0.001), repeats=14)
    assert len(strict.made) == 14
    assert strict.ended_by is EndedBy.REPEATS
    assert stopping_text(strict).endswith("How many it takes: vastbench plan --from precise --target-width 0.001")
    assert {run.id for run in study.runs} < {run.id for run in strict.runs}


def test_a_study_that_was_killed_when_it_knew_enough_makes_no_run(tmp_path):
    study = measured(tmp_path, StoppingRule(0.9), there=20)
    assert (study.ended_by, len(study.made)) == (EndedBy.PRECISION, 20)
    assert study.shortfall() is None


def test_a_study_of_too_few_runs_has_no_interval_and_says_so(tmp_path):
    study = measured(tmp_path, StoppingRule(0.9), repeats=4)
    assert (study.ended_by, len(study.made)) == (EndedBy.REPEATS, 4)
    assert "no interval yet, from 4 runs" in stopping_text(study)


def test_runs_that_take_long_are_not_overtaken_in_the_rules_eyes(first):
    """Quick runs have ended while the first is under way: the rule has seen none of them."""
    settled = StoppingMonitor(StoppingRule(0.9), ())
    quick = [replace(first.study.runs[0], resources={"machine_id": number}) for number in range(20)]
    for number in range(2, 20):
        settled.add(number, quick[number])
    assert not settled.precise
    settled.add(1, quick[1])
    assert settled.precise


def test_a_study_ends_when_its_time_is_up_and_lacks_runs(tmp_path):
    study = measured(tmp_path, None, minutes=0.02)
    assert study.ended_by is EndedBy.TIME
    assert 0 < len(study.made) < 40
    error = study.shortfall()
    assert isinstance(error, StudyIncomplete)
    assert "its time was up" in error.message
    with pytest.raises(UsageError, match="minutes"):
        measured(tmp_path, None, minutes=0)


# Killed and started again


REPEATS = 12
"""So many that a busy machine has not made all of them before the signal of a test is sent."""


def begin(folder):
    """``vastbench study`` in the background, once two of its runs have ended."""
    words = ["study", "--name", "s", "--repeats", REPEATS, "--workers", "4", "--seed", "1"]
    words += ["--speed", SPEED, "--profile", certain(folder), "--store", folder / "runs.sqlite"]
    process = Started(*words, env=clean_environment(folder), cwd=folder)
    lines = [process.stderr.readline() for _ in range(2)]
    assert all("passed" in line for line in lines), lines + process.stderr.readlines()
    return process, words


@pytest.mark.parametrize(
    ("number", "code", "cause"),
    [(signal.SIGTERM, 130, "interrupted"), (signal.SIGKILL, -signal.SIGKILL, "killed")],
    ids=["SIGTERM", "SIGKILL"],
)
def test_a_stopped_study_goes_on_without_losing_or_repeating_a_run(tmp_path, number, code, cause):
    process, words = begin(tmp_path)
    with process:
        with stored(tmp_path) as store:
            until(lambda: any(row.instance_id for row in store.leases(open_only=True)))
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait() == code, said
    assert "Traceback" not in said
    with stored(tmp_path) as store:
        before = store.study("s")
    assert 2 <= len(before.made) < REPEATS
    assert ("goes on" in said) == (code == 130)

    done = command(*words, env=clean_environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with stored(tmp_path) as store:
        after = store.study("s")
        assert len(after.made) == REPEATS
        assert {run.id for run in before.runs} <= {run.id for run in after.runs}
        assert store.announced("s") == len(after.runs)
        assert store.unfinished("s") == []
        assert store.leases(open_only=True) == []
    ours = [run for run in after.runs if run.cause]
    assert 0 < len(ours) <= 4
    assert {(run.outcome, run.cause) for run in ours} == {(Outcome.CENSORED, cause)}
    if cause == "killed":
        assert all(run.phases == () and run.total_s is None for run in ours)
        assert any(lease.verdict == "already gone" for lease in leases_of(tmp_path))
    assert len({run.conditions.get("seed") for run in after.made}) == 2
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert load(tmp_path / "runs.sqlite")["run"].nunique() == len(after.runs)


def test_an_interruption_is_raised_after_runs_are_stored_and_leases_closed(tmp_path):
    asked = []

    def stop(progress):
        if not asked and any(doing and doing.phase == PhaseName.WAIT_RUNNING for doing in progress.workers):
            asked.append(True)
            os.kill(os.getpid(), signal.SIGTERM)

    with bench(tmp_path, profile=certain(tmp_path), seed=1, speed=SPEED, study="s") as opened:
        study = opened.open_study(4)
        with pytest.raises(Interrupted):
            run_study(opened, study, workers=2, listener=stop)
        assert opened.store.unfinished("s") == []
        assert opened.store.leases(open_only=True) == []
        assert {run.cause for run in opened.store.study("s").runs} == {"interrupted"}


def test_an_interruption_does_not_hide_an_instance_that_may_still_exist(tmp_path, monkeypatch):
    monkeypatch.setattr("vastbench.rental.lease.CONFIRM_DEADLINE_S", -1.0)
    profile = tmp_path / "late.toml"
    profile.write_text(
        certain(tmp_path).read_text().replace("[lag]", '[lag]\ngone = { kind = "fixed", value = 60, basis = "assumption" }')
    )

    def stop(progress):
        if any(doing and doing.phase == PhaseName.WAIT_SSH for doing in progress.workers):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(LeaseNotClosed):
        sit(tmp_path, 3, workers=1, profile=profile, listener=stop)


def test_a_study_cannot_be_made_smaller_than_it_is(first):
    with pytest.raises(UsageError, match="6 runs already"):
        sit(first.folder, 3)


def leases_of(folder):
    with stored(folder) as store:
        return store.leases()


# As text, as HTML, on the command line


def test_a_study_shows_its_counts_and_medians(first):
    study = first.study
    text = str(study)
    assert "6 of 6 runs made · 6 passed" in text
    row = re.search(r"wait running +([\d.]+) +(\d+)", text)
    assert row
    seconds = sorted(run.seconds(PhaseName.WAIT_RUNNING) for run in study.runs)
    assert float(row[1]) == pytest.approx((seconds[2] + seconds[3]) / 2, abs=0.005)
    assert row[2] == "6"
    assert row[1] in study._repr_html_()


def test_an_empty_study_shows_no_number_that_it_does_not_have():
    study = Study("empty", "integration", 3, {"source": "emulator"}, "2026-01-01T00:00:00+00:00")
    assert "0 of 3 runs made · 0 passed · – by meter" in str(study)
    assert "0 of 3 runs made" in study._repr_html_()


def test_foreign_words_cannot_leave_their_place(first):
    run = replace(first.study.runs[0], outcome=Outcome.FAILED, cause="<b>\x1b[2J")
    study = replace(first.study, runs=(run,))
    assert "<b>\x1b" not in study._repr_html_()
    assert "&lt;b&gt;" in study._repr_html_()
    assert "\x1b" not in str(study)


def test_the_command_line_makes_a_study_and_says_what_comes_next(tmp_path):
    def call(*words):
        return command(*words, "--store", tmp_path / "runs.sqlite", env=clean_environment(tmp_path), cwd=tmp_path)

    wanted = ("study", "--name", "cli", "--repeats", "2", "--speed", "50", "--profile", str(certain(tmp_path)))
    made = call(*wanted)
    assert made.returncode == 0, made.stderr
    assert "2 of 2 runs made" in made.stdout
    assert "vastbench report --study cli" in made.stdout
    assert [line for line in made.stderr.splitlines() if "1 of 2 runs made" in line and "left" in line]
    again = call(*wanted, "--json")
    assert "complete: no run was made" in again.stderr
    shown = json.loads(again.stdout)
    assert (shown["made"], shown["passed"], shown["repeats"]) == (2, 2, 2)
    assert len(json.loads(call("runs", "--study", "cli", "--json").stdout)) == 2
    assert call("runs", "--study", "none", "--json").returncode == 2
    refused = call(*wanted[:4], "2", *wanted[5:], "--disk", "30")
    assert refused.returncode == 2
    assert "disk_gb" in refused.stderr
    short = call("study", "--name", "short", "--repeats", "4", "--workers", "1", "--speed", "50", "--gpu", "RTX 9999")
    assert short.returncode == 11
    assert "3 of 4 runs" in short.stderr
    failed = call("study", "--name", "failed", "--repeats", "3", "--workers", "1", "--speed", "50", "--gpu", "RTX 9999")
    assert failed.returncode == 10


def test_the_command_line_ends_a_study_that_knows_enough(tmp_path):
    measured(tmp_path, StoppingRule(0.9), there=12)
    wanted = ["study", "--name", "precise", "--stop-width", "90%", "--store", str(tmp_path / "runs.sqlite")]
    wanted += ["--profile", str(certain(tmp_path)), "--speed", str(SPEED)]
    done = command(*wanted, env=clean_environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Ended by its precision: the median of time to ready lies between [\d.]+ and [\d.]+ s", done.stdout)
    assert "complete: no run was made" in done.stderr
    wanted += ["--stop-width", "0.1%", "--stop-of", "wait running", "--stop-after", "0.0001"]
    short = command(*wanted, env=clean_environment(tmp_path), cwd=tmp_path)
    assert short.returncode == 11
    assert re.search(r"1[2-6] of 300 runs; its time was up", short.stderr)
    assert "Ended by its time: the median of wait running" in short.stdout


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--name", "a b"], "name"),
        (["--repeats", "0"], "repeats"),
        (["--workers", "65"], "workers"),
        (["--stop-width", "0"], "share"),
        (["--stop-width", "10%", "--stop-of", "the boot"], "the boot"),
    ],
)
def test_an_impossible_study_is_refused(tmp_path, options, word):
    done = command("study", "--name", "x", *options, env=clean_environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert word in done.stderr
    assert not (tmp_path / "data").exists()
