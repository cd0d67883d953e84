"""``vastbench reap``, and what every command that rents does first: nothing is destroyed unasked."""

import json
import os
import pty
import signal
import subprocess
import time
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tests.fleet import reachable
from tests.hostile.between import between
from tests.processes import VASTBENCH, Started, clean_environment, emulator_process
from tests.profiles import certain
from tests.rental.test_reap import Place
from vastbench.cli import app
from vastbench.cli import reap as command
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.errors import ApiUnreadable, BudgetRefused, Interrupted, LeaseNotClosed, StoreError, UsageError
from vastbench.owner import owner
from vastbench.rental.lease import Lease
from vastbench.store import Store
from vastbench.vast.api import VastApi

SPEED = 60


def dead(**more):
    """An owner on this machine that has ended: its number is another process's now."""
    return owner(**more) | {"process_start": "0"}


@contextmanager
def market(folder, **settings):
    with (
        Emulator(certain(folder), seed=4, speed=SPEED, **settings) as vast,
        VastApi(vast.url, vast.api_key, clock=Clock(SPEED)) as api,
    ):
        yield vast, api


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with market(tmp_path_factory.mktemp("market")) as opened:
        yield opened


@contextmanager
def place(folder, vast, api, monkeypatch):
    reachable(vast, SPEED, monkeypatch)
    monkeypatch.setenv("VASTBENCH_STORE", str(folder / "runs.sqlite"))
    with Store(folder / "runs.sqlite") as store:
        yield Place(vast, api, store, Clock(SPEED))


@pytest.fixture
def here(shared, tmp_path, monkeypatch):
    """A marketplace that the environment names, and a store."""
    with place(tmp_path, *shared, monkeypatch) as opened:
        yield opened
    _, api = shared
    for one in api.list_instances().value:
        api.destroy_instance(one.id)


def call(*words):
    """Run a command in this process; raises the error that it ends with."""
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def leave(here, run="run-1", **settings):
    """What a dead process left: a lease, and its instance, which still bills."""
    label = here.label(run)
    here.lease(label, dead(), instance_id=here.rent(label), **settings)
    return label


def state(here):
    return here.store.leases(), here.listed()


# Without --live


def test_without_live_it_says_what_needs_it_and_touches_nothing(here):
    leave(here)
    before = state(here)
    said = call("reap").stdout
    assert f"Open: 1 lease on {here.api.url}." in said
    assert "vastbench reap --live" in said
    assert state(here) == before


def test_without_live_and_with_nothing_open_it_says_so(here):
    assert call("reap").stdout == "No lease is open.\n"


def test_without_live_json_is_json_all_the_same(here):
    assert json.loads(call("reap", "--json").stdout) == []
    label = leave(here)
    (found,) = json.loads(call("reap", "--json").stdout)
    assert (found["label"], found["verdict"]) == (label, "left")
    assert "--live" in found["why"]


def test_leases_of_emulators_that_have_ended_are_closed_without_live(here):
    here.lease(here.label(), dead(emulator=True), instance_id=1)
    done = call("reap")
    assert "Closed: 1 lease of emulators that have ended." in done.stderr
    assert done.stdout == "No lease is open.\n"


def test_a_dry_run_does_not_even_close_those(here):
    here.lease(here.label(), dead(emulator=True), instance_id=1)
    before = here.store.leases()
    assert "Closed" not in call("reap", "--dry-run").stderr
    assert here.store.leases() == before


# With --live


def test_a_dry_run_shows_what_would_be_closed_and_changes_nothing(here):
    label = leave(here)
    before = state(here)
    said = call("reap", "--live", "--dry-run").stdout
    assert label in said
    assert "to close" in said
    assert state(here) == before


def test_yes_closes_it_and_json_says_what_became_of_it(here):
    label = leave(here)
    done = call("reap", "--live", "--yes", "--json")
    (found,) = json.loads(done.stdout)
    assert (found["label"], found["verdict"]) == (label, "destroyed")
    assert found["usd_per_hour"] == 0.2
    assert f"{label}: destroyed" in done.stderr
    assert here.listed() == []


def test_it_says_what_it_left_alone_and_why(here):
    theirs = here.rent("training")
    mine = here.label()
    here.lease(mine, owner(), instance_id=here.rent(mine))
    before = state(here)
    said = call("reap", "--live", "--yes").stdout
    assert mine in said
    assert "its owner lives" in said
    assert str(theirs) not in said
    assert state(here) == before


def test_with_nothing_left_over_it_says_so_and_asks_nobody(here):
    assert call("reap", "--live").stdout == "Nothing is left over.\n"


def test_every_live_command_says_when_the_account_was_last_swept(here, tmp_path):
    never, before = "was never swept with this store", "was last swept on "
    assert never in call("reap", "--live", "--dry-run").stderr  # which is not a sweep
    assert never in call("reap", "--live", "--yes").stderr
    assert before in call("reap", "--live", "--yes").stderr
    assert before in CliRunner().invoke(app, ["run", "--live", "--budget", "1"]).stderr
    assert never in call("reap", "--live", "--yes", "--store", tmp_path / "other.sqlite").stderr


def test_an_account_on_which_something_stays_open_was_not_swept(here, monkeypatch):
    leave(here)

    def stay(_):
        raise LeaseNotClosed("it stays")

    with monkeypatch.context() as patched:
        patched.setattr(Lease, "close", stay)
        with pytest.raises(LeaseNotClosed):
            call("reap", "--live", "--yes")
    assert "never swept" in call("reap", "--live", "--dry-run").stderr


def test_where_nobody_can_be_asked_nothing_is_destroyed(here):
    label = leave(here)
    before = state(here)
    with pytest.raises(UsageError, match="standard input is not a terminal") as refused:
        call("reap", "--live")
    assert refused.value.exit_code == 2
    assert "--yes" in refused.value.hint
    assert state(here) == before
    assert here.store.leases()[0].label == label


def answered(here, home, answer):
    """``vastbench reap --live`` at a terminal where ``answer`` is typed."""
    at, there = pty.openpty()
    os.write(at, f"{answer}\n".encode())
    environment = clean_environment(home) | {name: os.environ[name] for name in ENVIRONMENT}
    try:
        return subprocess.run(
            [VASTBENCH, "reap", "--live"], stdin=there, env=environment, capture_output=True, text=True, timeout=60
        )
    finally:
        os.close(at)
        os.close(there)


ENVIRONMENT = ("VAST_URL", "VAST_API_KEY", "VASTBENCH_SPEED", "VASTBENCH_STORE")


def test_at_a_terminal_it_asks_and_the_answer_counts(here, tmp_path):
    label = leave(here)
    before = state(here)
    no = answered(here, tmp_path, "n")
    assert no.returncode == 0, no.stderr
    assert f"{label}: instance {before[1][0]}, $0.2000/h" in no.stderr
    assert "Destroy?" in no.stderr
    assert "to close" in no.stdout
    assert state(here) == before
    yes = answered(here, tmp_path, "y")
    assert yes.returncode == 0, yes.stderr
    assert here.listed() == []


def test_what_cannot_be_closed_is_named_and_is_exit_code_8(tmp_path, monkeypatch):
    monkeypatch.setattr("vastbench.rental.lease.CONFIRM_DEADLINE_S", 20.0)
    with market(tmp_path, faults={"destroy-ignored": 1}) as (vast, api), place(tmp_path, vast, api, monkeypatch) as here:
        label = leave(here)
        (instance_id,) = here.listed()
        with pytest.raises(LeaseNotClosed) as error:
            call("reap", "--live", "--yes")
        assert error.value.exit_code == 8
        assert f"{label} (instance {instance_id}, leaked)" in error.value.message
        assert "vastai destroy instance" in error.value.hint
        assert here.store.leases()[0].state == "held"

        # Nor is anything rented beside it.
        with pytest.raises(LeaseNotClosed):
            call("run", "--live", "--budget", "1", "--yes")
        assert here.listed() == [instance_id]


# --watch


@pytest.mark.parametrize(
    "words", [["--watch"], ["--watch", "--live"], ["--watch", "--yes"], ["--watch", "--live", "--dry-run"]]
)
def test_a_watch_must_be_agreed_to(here, words):
    leave(here)
    before = state(here)
    with pytest.raises(UsageError, match="destroys without asking") as refused:
        call("reap", *words)
    assert "--live --yes" in refused.value.hint
    assert state(here) == before


@pytest.mark.parametrize("error", [ApiUnreadable("faked"), StoreError("faked")])
def test_a_watch_outlives_a_marketplace_and_a_store_that_cannot_be_read(here, monkeypatch, error):
    label = leave(here)
    polls, reap = [], command._reap

    def look(*given, **named):
        polls.append(None)
        if len(polls) == 1:
            raise error
        return reap(*given, **named)

    def rest(_):
        if len(polls) == 2:
            raise Interrupted("enough (faked)")

    monkeypatch.setattr(command, "_reap", look)
    monkeypatch.setattr(command, "time", SimpleNamespace(sleep=rest))
    with pytest.raises(Interrupted):
        call("reap", "--live", "--yes", "--watch")
    assert len(polls) == 2
    assert [(row.label, row.verdict) for row in here.store.leases()] == [(label, "destroyed")]


# Commands that rent


def test_a_run_refuses_to_rent_beside_leftovers_if_it_cannot_ask_anybody(here):
    label = leave(here)
    before = state(here)
    with pytest.raises(UsageError, match="standard input is not a terminal"):
        call("run", "--live", "--budget", "1")
    assert state(here) == before
    assert here.store.runs() == []
    with pytest.raises(UsageError, match="standard input is not a terminal"):
        call("study", "--name", "s", "--live", "--budget", "1", "--repeats", "1")
    assert state(here) == before
    assert here.store.leases()[0].label == label


def test_with_yes_a_run_closes_what_is_left_over_before_it_rents(here, shared):
    vast, _ = shared
    label = leave(here)
    (instance_id,) = here.listed()
    done = call("run", "--live", "--budget", "1", "--yes", "--json")
    assert f"{label}: destroyed" in done.stderr
    assert json.loads(done.stdout)["outcome"] == "passed"
    (gone,) = (one["s"] for one in vast.events if (one["event"], one["instance"]) == ("gone", instance_id))
    (made,) = (one["s"] for one in vast.events if one["event"] == "create_effective" and one["instance"] > instance_id)
    assert gone < made
    assert here.listed() == []


def test_what_belongs_to_the_living_keeps_nobody_from_renting(here):
    mine = here.label()
    here.lease(mine, owner(), instance_id=here.rent(mine), deadline=timedelta(minutes=1))
    with pytest.raises(BudgetRefused, match="standard input is not a terminal"):  # it asks whether to rent, not to destroy
        call("run", "--live", "--budget", "9")
    assert len(here.listed()) == 1


# A whole story, with real processes


def until(found, what, seconds=40.0):
    ends = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < ends, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)
    return value


@pytest.mark.parametrize(("answered", "code"), [(True, 130), (False, LeaseNotClosed.exit_code)])
def test_a_watch_that_is_stopped_as_it_destroys_ends_when_that_is_known(tmp_path, answered, code):
    """The signal comes with the destroy under way; ``answered``: whether the marketplace answers that and all that follow."""
    watching = []

    def meddle(call):
        if watching and call.is_destroy:
            watching.pop().send_signal(signal.SIGTERM)
            stopped.append(True)
        return call.send() if answered or not stopped else (503, b"{}")

    stopped = []
    path = tmp_path / "runs.sqlite"
    with (
        emulator_process(tmp_path, "--profile", str(certain(tmp_path)), "--seed", "4", "--speed", str(SPEED)) as environment,
        between(environment["VAST_URL"], meddle) as url,
    ):
        known = {"env": environment | {"VASTBENCH_STORE": str(path), "VAST_URL": url}, "cwd": tmp_path}
        with Started("run", "--live", "--yes", "--budget", "9", **known) as killed:
            until(path.exists, "the store")
            with Store(path) as store:
                until(lambda: [row for row in store.leases() if row.state == "held"], "an instance")
                killed.send_signal(signal.SIGKILL)
                killed.wait()
        with Started("reap", "--live", "--yes", "--watch", "--every", "1", **known) as watch:
            watching.append(watch)
            said = watch.stderr.read()
            assert watch.wait() == code, said
        with Store(path) as store:
            (row,) = store.leases()
        assert (row.state == "closed") is answered
        assert answered or str(row.instance_id) in said
        assert "Traceback" not in said


def test_a_watch_closes_a_killed_studys_leases_and_a_rerun_completes_it(tmp_path):
    path = tmp_path / "runs.sqlite"
    with emulator_process(tmp_path, "--profile", str(certain(tmp_path)), "--seed", "4", "--speed", str(SPEED)) as environment:
        known = {"env": environment | {"VASTBENCH_STORE": str(path)}, "cwd": tmp_path}
        study = ["study", "--live", "--yes", "--budget", "9", "--name", "s", "--repeats", "2", "--workers", "1"]
        with Started("reap", "--live", "--yes", "--watch", "--every", "1", **known) as watch:
            with Started(*study, **known) as killed:
                until(path.exists, "the store")
                with Store(path) as store:
                    until(lambda: store.runs() and [row for row in store.leases() if row.state == "held"], "a second run")
                    killed.send_signal(signal.SIGKILL)
                    killed.wait()
                    until(lambda: not store.leases(open_only=True), "the closing")
                    assert {row.verdict for row in store.leases()} == {"destroyed"}
                    before = {run.id for run in store.study("s").made}
            with VastApi(environment["VAST_URL"], environment["VAST_API_KEY"], clock=Clock(SPEED)) as api:
                assert api.list_instances().value == []
            watch.send_signal(signal.SIGTERM)
            said = watch.stderr.read()
            assert watch.wait() == 130, said
        assert said.count(": destroyed (") == 1

        with Started(*study, **known) as again:
            assert again.wait() == 0, again.stderr.read()
        with Store(path) as store:
            after = store.study("s")
        assert before < {run.id for run in after.made}
        assert len(after.made) == after.passed == 2
        assert [run.cause for run in after.runs if run.cause] == ["killed"]
