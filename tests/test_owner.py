"""Whether another process lives: this machine's kernel tells of its own; elsewhere only signs of life do."""

import ast
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from vastbench import owner as owners
from vastbench.errors import StoreError
from vastbench.owner import ENDED_BEAT, SILENCE_S, Heartbeat, State, has_ended, owner, state_here, state_of

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
PRINT_OWNER = "import json; from vastbench.owner import owner; print(json.dumps(owner()))"


@pytest.fixture(scope="module")
def dead():
    """The owner that a process of this machine was that has ended."""
    return json.loads(subprocess.run([sys.executable, "-c", PRINT_OWNER], capture_output=True, text=True, check=True).stdout)


def beat(whose, *, ago_s):
    return {whose["id"]: (NOW - timedelta(seconds=ago_s)).isoformat()}


# What the kernel tells


def test_this_process_lives():
    assert state_here(owner()) is State.LIVING


def test_every_owner_has_an_id_of_its_own():
    assert len({owner()["id"] for _ in range(10)}) == 10


def test_an_owner_is_read_back_from_json_as_it_was():
    assert state_here(json.loads(json.dumps(owner()))) is State.LIVING


def test_a_process_has_ended_when_it_is_gone_or_another_one_has_its_number(dead):
    assert has_ended(dead)
    assert has_ended(owner() | {"process_start": "1"})


def test_another_boot_id_may_be_another_machine_so_signs_of_life_decide():
    other, now = owner() | {"boot_id": "another"}, datetime.now(UTC)
    assert not has_ended(other)
    assert state_of(other, {other["id"]: now.isoformat()}, now) is State.LIVING
    long_ago = now - timedelta(seconds=SILENCE_S + 1)
    assert state_of(other, {other["id"]: long_ago.isoformat()}, now) is State.ENDED


def test_who_said_that_it_ends_has_ended_although_its_process_lives():
    mine = owner()
    assert state_of(mine, {mine["id"]: ENDED_BEAT}, datetime.now(UTC)) is State.ENDED


def test_the_end_is_said_last_and_a_store_that_refuses_it_is_survived(monkeypatch):
    said = []

    def end():
        said.append("end")
        raise StoreError("disk full (faked)")

    with Heartbeat(lambda: said.append("beat"), end):
        pass
    assert said == ["beat", "end"]


def test_a_process_that_was_not_waited_for_has_ended():
    code = "from vastbench.owner import owner; print(owner())"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        whose = ast.literal_eval(child.stdout.read().decode())
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is still listed
        assert has_ended(whose)


@pytest.mark.parametrize(
    "change",
    [
        {"host": "elsewhere"},
        {"pid_namespace": "pid:[1]"},  # a container of this machine: its process numbers mean others here
        {"pid": None},
        {"pid": "1"},
        {"pid": 0},
        {"pid": -1},
    ],
)
@pytest.mark.parametrize("of", ["the living", "the dead"])
def test_of_what_the_kernel_cannot_see_nobody_can_tell(of, change, dead):
    whose = owner() if of == "the living" else dead
    assert state_here(whose | change) is State.UNKNOWN
    assert not has_ended(whose | change)


def test_of_an_owner_that_says_nothing_nobody_can_tell():
    assert state_here({}) is State.UNKNOWN


@pytest.mark.parametrize("of", ["the living", "the dead"])
@pytest.mark.parametrize("name", ["host", "boot_id", "pid_namespace"])
def test_an_owner_that_did_not_note_where_it_runs_may_run_anywhere(name, of, dead):
    whose = owner() if of == "the living" else dead
    assert state_here({one: value for one, value in whose.items() if one != name}) is State.UNKNOWN


def test_without_proc_nobody_can_tell_so_signs_of_life_decide(monkeypatch, tmp_path, dead):
    monkeypatch.setattr(owners, "_PROC", tmp_path)
    mine = owner()
    assert (mine["boot_id"], mine["pid_namespace"], mine["process_start"]) == (None, None, None)
    for whose in (mine, mine | {"pid": dead["pid"]}):
        assert state_here(whose) is State.UNKNOWN
        assert state_of(whose, beat(whose, ago_s=SILENCE_S - 1), NOW) is State.LIVING
        assert state_of(whose, beat(whose, ago_s=SILENCE_S), NOW) is State.ENDED


@pytest.fixture
def hiding(monkeypatch, tmp_path):
    """Let this process see ``/proc`` as it is with ``hidepid``: nothing of processes that are another user's."""
    for name in ("self", "sys", str(os.getpid())):
        (tmp_path / name).symlink_to(f"/proc/{name}")
    monkeypatch.setattr(owners, "_PROC", tmp_path)


@pytest.mark.usefixtures("hiding")
def test_a_living_owner_that_proc_hides_is_not_taken_for_dead():
    with subprocess.Popen([sys.executable, "-c", f"{PRINT_OWNER}; input()"], stdin=-1, stdout=-1, text=True) as other:
        whose = json.loads(other.stdout.readline())
        assert state_here(whose) is State.UNKNOWN
        assert state_of(whose, beat(whose, ago_s=1), NOW) is State.LIVING
        assert state_of(whose, beat(whose, ago_s=SILENCE_S), NOW) is State.ENDED  # its number may be another's by now
    assert state_of(whose, beat(whose, ago_s=1), NOW) is State.ENDED


@pytest.mark.usefixtures("hiding")
def test_a_living_owner_that_may_not_be_signalled_is_not_taken_for_dead(monkeypatch):
    def kill(_pid, _number):
        raise PermissionError

    whose = owner() | {"pid": os.getppid()}
    monkeypatch.setattr(os, "kill", kill)
    assert state_of(whose, beat(whose, ago_s=1), NOW) is State.LIVING


def test_an_owner_that_could_not_see_its_own_start_stays_unknown():
    assert state_here(owner() | {"process_start": None}) is State.UNKNOWN


# What signs of life tell


def test_where_the_kernel_can_tell_signs_of_life_do_not_count(dead):
    assert state_of(dead, beat(dead, ago_s=0), NOW) is State.ENDED
    mine = owner()
    assert state_of(mine, beat(mine, ago_s=10 * SILENCE_S), NOW) is State.LIVING


@pytest.mark.parametrize("unseen", [{"host": "elsewhere"}, {"pid_namespace": "pid:[1]"}])
@pytest.mark.parametrize(
    ("ago_s", "state"),
    [
        (0, State.LIVING),
        (SILENCE_S - 1, State.LIVING),
        (SILENCE_S, State.ENDED),
        (30 * 86_400, State.ENDED),
        (-3600, State.LIVING),  # a sign from the future: that machine's clock is ahead of ours
    ],
)
def test_an_owner_elsewhere_lives_until_it_was_silent_for_too_long(unseen, ago_s, state):
    whose = owner() | unseen
    assert state_of(whose, beat(whose, ago_s=ago_s), NOW) is state


def test_an_owner_elsewhere_that_never_gave_a_sign_stays_unknown(dead):
    whose = dead | {"host": "elsewhere"}
    assert state_of(whose, {}, NOW) is State.UNKNOWN
    assert state_of(whose, beat(owner(), ago_s=0), NOW) is State.UNKNOWN


# Giving signs of life


def test_the_first_sign_of_life_comes_before_the_block_and_more_follow(monkeypatch):
    monkeypatch.setattr(owners, "BEAT_S", 0.005)
    given, third = [], threading.Event()

    def give():
        given.append(threading.get_ident())
        if len(given) >= 3:
            third.set()

    with Heartbeat(give, lambda: None) as heart:
        assert given[0] == threading.get_ident()
        assert third.wait(20)
    heart._thread.join(20)
    assert not heart._thread.is_alive()


def test_a_first_sign_that_cannot_be_given_keeps_out_of_the_block():
    def fail():
        raise StoreError("disk full (faked)")

    with pytest.raises(StoreError, match="disk full"), Heartbeat(fail, lambda: None):
        raise AssertionError("the block was entered")
    assert "vastbench-heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_later_signs_may_fail_and_the_next_is_tried_all_the_same(monkeypatch):
    monkeypatch.setattr(owners, "BEAT_S", 0.005)
    tried, again = [], threading.Event()

    def give():
        tried.append(None)
        if len(tried) in (2, 3):
            raise StoreError("database is locked (faked)")
        if len(tried) > 3:
            again.set()

    with Heartbeat(give, lambda: None):
        assert again.wait(20)


def test_the_signs_end_with_the_block_also_when_it_fails(monkeypatch):
    monkeypatch.setattr(owners, "BEAT_S", 0.005)
    heart = Heartbeat(lambda: None, lambda: None)
    with pytest.raises(KeyError), heart:
        raise KeyError
    heart._thread.join(20)
    assert not heart._thread.is_alive()
