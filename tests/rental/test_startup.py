"""The dead-man's switch: an instance that nobody looks after destroys itself, and one that somebody does lives on."""

import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from tests.fleet import bench, reachable
from tests.profiles import certain
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.errors import ConnectionLost, StoreError
from vastbench.record.conditions import Conditions
from vastbench.rental import deadline as keeper
from vastbench.rental import startup as onstart
from vastbench.rental.guest_clock import wrong_with_switch
from vastbench.rental.login import endpoints_of
from vastbench.rental.offers import choose, query
from vastbench.rental.startup import extension
from vastbench.ssh.keys import HostKeyPin, RunKey
from vastbench.ssh.probe import wait_ready
from vastbench.vast.api import VastApi
from vastbench.vast.models import CreateRequest

SPEED = 60


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Switches that look five times a second and wait no longer than they are told."""
    monkeypatch.setattr(onstart, "SWITCH_LOOK_S", 0.2)
    monkeypatch.setattr(onstart, "SHORTEST_S", 0.0)


@contextmanager
def rented(folder, seconds, *, faults=None):
    """An instance whose switch waits ``seconds``, up and logged in to; nobody else looks after it."""
    clock, key = Clock(SPEED), RunKey.generate("vastbench-switch")
    with (
        Emulator(certain(folder), seed=4, speed=SPEED, faults=faults) as vast,
        VastApi(vast.url, vast.api_key, clock=clock) as api,
    ):
        api.create_ssh_key(key.public_line)
        offer = choose(api.search_offers(query(Conditions())).value, Conditions())
        deadline = datetime.now(UTC) + timedelta(seconds=seconds + 60)
        script = onstart.onstart(api.url, deadline, seconds, 1, public_line=key.public_line, watch_real_s=5)
        made = api.create_instance(offer.id, CreateRequest("ubuntu:22.04", 20.0, "x", onstart=script)).value
        with ExitStack() as sessions:

            def login():
                one, now = until(lambda: running(api, made.new_contract)), clock.now()
                ready = wait_ready(endpoints_of(one), key, HostKeyPin(), clock=clock, since=now, deadline=now + 600)
                sessions.callback(ready.session.close)
                return ready.session

            yield SimpleNamespace(api=api, id=made.new_contract, login=login, session=login())


def running(api, instance_id):
    found = api.get_instance(instance_id).value
    return found if found and found.actual_status == "running" else None


def until(found, seconds=20.0):
    """What ``found`` gives, once it gives something."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError(f"nothing within {seconds} s")


def gone(here):
    return here.api.get_instance(here.id).value is None


def test_an_abandoned_instance_destroys_itself_with_its_own_key(tmp_path):
    with rented(tmp_path, 2) as here:
        until(lambda: gone(here))
        assert here.api.list_instances().value == []


def test_a_bare_image_gets_a_tool_from_a_mirror_that_is_down_at_first(tmp_path):
    with rented(tmp_path, 4, faults={"bare-image": 1}) as here:
        assert here.session.run(onstart.TOOL, check=False).exit_code != 0
        until(lambda: gone(here))


def test_a_bare_images_tool_is_fetched_before_the_deadline(tmp_path):
    with rented(tmp_path, 600, faults={"bare-image": 1}) as here:
        assert "neither curl" in wrong_with_switch([here.session.run("echo armed key").stdout])
        here.session.run(extension(250))
        until(lambda: here.session.run(onstart.TOOL, check=False).exit_code == 0)
        assert not gone(here)


def test_a_run_on_a_bare_image_says_that_its_switch_is_not_armed(tmp_path, monkeypatch):
    with Emulator(certain(tmp_path), seed=1, speed=SPEED, faults={"bare-image": 1}) as vast:
        reachable(vast, SPEED, monkeypatch)
        with bench(tmp_path, live=True, budget_usd=1) as opened:
            run = opened.run()
    assert run.outcome == "passed"
    assert "not armed: the machine has neither curl" in str(run)


def test_a_restart_of_the_container_does_not_begin_the_wait_anew(tmp_path):
    with rented(tmp_path, 600) as here:
        before = here.session.run("cat ~/.vastbench/until").stdout
        here.api.stop_instance(here.id)
        until(lambda: here.api.get_instance(here.id).value.actual_status == "stopped")
        here.api.start_instance(here.id)
        session = here.login()
        assert session.run("cat ~/.vastbench/until").stdout == before
        assert session.run("kill -0 $(cut -d' ' -f1 ~/.vastbench/switch)").exit_code == 0


def test_a_deadline_that_is_moved_on_is_kept_to(tmp_path):
    with rented(tmp_path, 2) as here:
        here.session.run(extension(5))
        time.sleep(2.5)
        assert not gone(here)
        until(lambda: gone(here))


def test_a_switch_that_does_not_run_cannot_be_moved_on(tmp_path):
    with rented(tmp_path, 600) as here:
        here.session.run("kill $(cut -d' ' -f1 ~/.vastbench/switch)")
        assert here.session.run(extension(600), check=False).exit_code != 0


def test_a_run_sees_that_its_instances_switch_is_armed(tmp_path):
    with bench(tmp_path, profile=certain(tmp_path), seed=1, speed=SPEED) as opened:
        run = opened.run()
    assert (run.outcome, run.guest["switch"]) == ("passed", "")
    assert "switch" not in str(run)


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        (["armed key /usr/bin/curl"], ""),
        (["armed key /usr/bin/python3"], ""),
        ([], "does not run"),
        (["-sh: no such file"], "does not run"),
        (["armed /usr/bin/curl"], "no key"),
        (["armed key"], "neither curl"),
    ],
)
def test_what_is_wrong_with_a_switch_is_named(lines, wrong):
    found = wrong_with_switch(lines)
    assert found == wrong if not wrong else wrong in found


def test_a_run_whose_switch_is_not_armed_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(onstart, "_SWITCH", "true\n")
    with bench(tmp_path, profile=certain(tmp_path), seed=1, speed=SPEED) as opened:
        run = opened.run()
    assert run.outcome == "passed"
    assert "dead-man's switch is not armed: it does not run" in str(run)


class Kept:
    """A lease, its journal and its session in one, noting what is asked of them."""

    def __init__(self, failing=None):
        self.label, self.instance_id, self.alive = "vb", 1, True
        self.account, self.journal, self.failing = self, self, failing
        self.said = []

    def update_lease(self, label, **changes):
        self.said.append("store")
        if self.failing is StoreError:
            raise StoreError("disk full (faked)")

    def run(self, command, *, timeout_s):
        self.said.append("switch")
        if self.failing is ConnectionLost:
            self.alive = False
            raise ConnectionLost("faked")


def moved(kept, last=timedelta(hours=1)):
    now = datetime.now(UTC)
    with keeper.extending_deadline(kept, kept, Clock(60), now + timedelta(seconds=600), now + last):
        time.sleep(1.4)
    return kept.said


def test_the_deadline_of_a_living_run_moves_on_in_the_store_first():
    said = moved(Kept())
    assert said == ["store", "switch"]


def test_a_deadline_that_was_not_stored_is_not_sent_to_the_instance():
    assert set(moved(Kept(StoreError))) == {"store"}


def test_a_lost_connection_ends_the_moving():
    assert moved(Kept(ConnectionLost)) == ["store", "switch"]


def test_no_deadline_is_moved_beyond_the_last_one():
    assert moved(Kept(), last=timedelta(seconds=600)) == []
