"""Several processes on one store, as on several machines: nothing is counted twice, nothing is stored twice."""

import multiprocessing
import os
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.store.records import SEED, lease
from vastbench.errors import StoreError, TooManyInstances
from vastbench.io.files import read_run
from vastbench.owner import owner
from vastbench.store import Store

PROCESSES = 4
TURNS = 10
PATIENCE_S = 60


@pytest.fixture(scope="module")
def at_once():
    """Does ``work(store, number, turn)`` in several processes at the same time, in turns, each with a store of its own."""
    spawned = multiprocessing.get_context("spawn")
    start = spawned.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, spawned, _know_start, (start,)) as pool:

        def do(place, work):
            parts = [pool.submit(_turns, place, work, number) for number in range(PROCESSES)]
            return [got for part in parts for got in part.result(PATIENCE_S)]

        yield do


def _know_start(start):
    global _start
    _start = start


def _turns(place, work, number):
    _start.wait(PATIENCE_S)  # here, so that they also race for opening the store
    with Store(place) as store:
        return [work(store, number, turn) for turn in range(TURNS)]


def mark(store, number, turn):
    return store.mark


def test_several_processes_migrate_a_new_store_once(new_place, at_once):
    marks = at_once(new_place, mark)
    assert len(marks) == PROCESSES * TURNS
    assert len(set(marks)) == 1


def begin_launch(store, number, turn):
    return store.begin_launch("s")


def test_no_two_launches_have_the_same_number(place, at_once):
    assert sorted(at_once(place, begin_launch)) == list(range(PROCESSES * TURNS))


def announce_and_save_half(store, number, turn):
    name = f"run-{number}-{turn}"
    announced = store.announce_run("s", name, owner())
    if announced and turn % 2:
        store.save_run(replace(read_run(SEED), id=name, study="s", cause="boot_failed"))
    return announced


def test_no_run_too_many_is_announced_and_none_too_few(store, place, at_once):
    store.open_study("s", scenario="integration", repeats=17, conditions={})
    assert Counter(at_once(place, announce_and_save_half)) == {True: 17, False: PROCESSES * TURNS - 17}
    assert store.announced("s") == 17


def save_the_same(store, number, turn):
    try:
        store.save_run(replace(read_run(SEED), id=f"run-{turn}"))
    except StoreError:
        return False
    return True


def test_a_run_that_several_store_is_stored_once(store, place, at_once):
    assert at_once(place, save_the_same).count(True) == TURNS
    assert sorted(run.id for run in store.runs()) == [f"run-{turn}" for turn in range(TURNS)]
    assert {run.phases for run in store.runs()} == {read_run(SEED).phases}


def open_and_close(store, number, turn):
    try:
        store.open_lease(lease(f"vb-{number}-{turn}"), at_most=2)
    except TooManyInstances:
        return None
    there = len(store.leases(open_only=True))
    store.close_lease(f"vb-{number}-{turn}", verdict="destroyed")
    return there


def test_never_more_leases_are_open_than_may_be(store, place, at_once):
    found = at_once(place, open_and_close)
    assert {there for there in found if there is not None} <= {1, 2}
    assert len(store.leases()) == sum(there is not None for there in found) > 0


def open_for_good(store, number, turn):
    try:
        store.open_lease(lease(f"vb-{number}-{turn}"), at_most=7)
    except TooManyInstances:
        return False
    return True


def test_as_many_leases_are_opened_as_may_be(store, place, at_once):
    assert Counter(at_once(place, open_for_good)) == {True: 7, False: PROCESSES * TURNS - 7}
    assert len(store.leases(open_only=True)) == 7


def close_the_same(store, number, turn):
    return store.close_lease(f"vb-{turn}", verdict="destroyed" if number else "already gone") and number


def test_one_of_several_reapers_closes_a_lease(store, place, at_once):
    for turn in range(TURNS):
        store.open_lease(lease(f"vb-{turn}"))
    closed = [number for number in at_once(place, close_the_same) if number is not False]
    verdicts = Counter(row.verdict for row in store.leases())
    assert len(closed) == TURNS
    assert verdicts == Counter("destroyed" if number else "already gone" for number in closed)
    assert store.leases(open_only=True) == []


def update_its_own(store, number, turn):
    store.update_lease(f"vb-{number}", instance_id=number * 100 + turn, state="held")


def test_different_leases_change_side_by_side(store, place, at_once):
    for number in range(PROCESSES):
        store.open_lease(lease(f"vb-{number}"))
    at_once(place, update_its_own)
    assert {(row.label, row.instance_id, row.state) for row in store.leases()} == {
        (f"vb-{number}", number * 100 + TURNS - 1, "held") for number in range(PROCESSES)
    }


def beat(store, number, turn):
    store.beat(["common", f"own-{number}"][turn % 2])


def test_owners_beat_side_by_side(store, place, at_once):
    at_once(place, beat)
    assert store.beats().keys() == {"common", *(f"own-{number}" for number in range(PROCESSES))}


def test_what_is_read_is_whole_while_others_write(store, place):
    """The runs, and then their phases, are read by one query each: a run that is stored in between must not lack its own."""
    run = read_run(SEED)
    stop = threading.Event()

    def write():
        with Store(place) as other:
            for number in range(30):
                other.save_run(replace(run, id=f"run-{number:02}", started_at=f"2026-01-01T00:00:{number:02}+00:00"))
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not stop.is_set():
            assert {one.phases for one in store.runs(limit=3)} <= {run.phases}
    finally:
        writer.join()
    assert len(store.runs()) == 30


def test_a_lease_is_never_opened_twice(store):
    store.open_lease(lease())
    with pytest.raises(StoreError):
        store.open_lease(lease(offer_id=1))


def driver_connection(store):
    with store._engine.connect() as connection:
        return connection.connection.driver_connection


def test_a_forked_process_uses_and_closes_connections_of_its_own(place):
    with Store(place) as store:
        mine = driver_connection(store)
        child = os.fork()
        if child == 0:
            status = 1
            with suppress(BaseException):
                status = int(driver_connection(store) is mine or store.runs() != [])
                store.close()
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert driver_connection(store) is mine
        store.beat("parent")
