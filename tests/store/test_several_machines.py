"""Several processes on one store, as on several machines: nothing is counted twice, nothing is stored twice."""

import json
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.store.records import SEED, lease
from vastbench.errors import StoreError
from vastbench.report.files import read_run
from vastbench.store import Store

PROCESSES = 4

# Each opens its store, says so, and begins when all have: the parent closes nothing before.
PROGRAM = """
import json, sys
from dataclasses import replace
from pathlib import Path
from vastbench.errors import StoreError
from vastbench.report.files import read_run
from vastbench.store import Store
place, number, seed = sys.argv[1], int(sys.argv[2]), read_run(Path(sys.argv[3]))
def saved(run):
    try:
        store.save_run(run)
        return True
    except StoreError:
        return False
with Store(place) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps([{what} for turn in range(10)]))
"""


def at_once(place, what):
    """What ``PROCESSES`` processes got when each did ``what`` ten times, all at the same time."""
    command = [sys.executable, "-c", PROGRAM.replace("{what}", what), str(place)]
    processes = [
        subprocess.Popen([*command, str(number), SEED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(PROCESSES)
    ]
    with ThreadPoolExecutor(PROCESSES) as pool:
        assert list(pool.map(lambda process: process.stdout.readline(), processes)) == ["ready\n"] * PROCESSES
        answers = list(pool.map(lambda process: process.communicate("go\n", timeout=60)[0], processes))
    assert [process.returncode for process in processes] == [0] * PROCESSES
    return [got for answer in answers for got in json.loads(answer)]


def test_several_processes_migrate_a_new_store_once(new_place):
    marks = at_once(new_place, "store.mark")
    assert len(marks) == PROCESSES * 10
    assert len(set(marks)) == 1


def test_no_two_sittings_have_the_same_number(place):
    numbers = at_once(place, "store.begin_sitting('s')")
    assert sorted(numbers) == list(range(PROCESSES * 10))


def test_no_run_too_many_is_announced_or_made(store, place):
    store.open_study("s", scenario="integration", repeats=17, conditions={})
    # Half of the runs are stored at once, while others are being announced.
    announced = at_once(
        place,
        "(lambda name: store.announce_run('s', name, {'host': 'here'}) and "
        "(turn % 2 or saved(replace(seed, id=name, study='s', cause=''))) is not None)(f'run-{number}-{turn}')",
    )
    assert Counter(announced) == {True: 17, False: PROCESSES * 10 - 17}
    assert store.announced("s") == 17


def test_a_run_that_several_store_is_stored_once(store, place):
    stored = at_once(place, "saved(replace(seed, id=f'run-{turn}'))")
    assert stored.count(True) == 10
    assert sorted(run.id for run in store.runs()) == [f"run-{turn}" for turn in range(10)]
    assert {run.phases for run in store.runs()} == {read_run(SEED).phases}


def test_one_of_several_reapers_closes_a_lease(store, place):
    for turn in range(10):
        store.open_lease(lease(f"vb-{turn}"))
    closed = at_once(place, "store.close_lease(f'vb-{turn}', verdict='destroyed' if number else 'already gone')")
    assert closed.count(True) == 10
    assert store.leases(open_only=True) == []


def test_different_leases_change_side_by_side(store, place):
    for number in range(PROCESSES):
        store.open_lease(lease(f"vb-{number}"))
    at_once(place, "store.update_lease(f'vb-{number}', instance_id=number * 100 + turn, state='held')")
    assert {(row.label, row.instance_id, row.state) for row in store.leases()} == {
        (f"vb-{number}", number * 100 + 9, "held") for number in range(PROCESSES)
    }


def test_owners_beat_side_by_side(store, place):
    at_once(place, "store.beat(['common', f'own-{number}'][turn % 2])")
    assert store.beats().keys() == {"common", *(f"own-{number}" for number in range(PROCESSES))}


def test_what_is_read_is_whole_while_others_write(store, place):
    """The runs, and then their phases, are read by one query each: a run that is stored in between must not lack its own."""
    run = read_run(SEED)
    stop = threading.Event()

    def write():
        with Store(place) as other:
            for number in range(60):
                other.save_run(replace(run, id=f"run-{number:02}", started_at=f"2026-01-01T00:00:{number:02}+00:00"))
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not stop.is_set():
            assert {one.phases for one in store.runs(limit=3)} <= {run.phases}
    finally:
        writer.join()
    assert len(store.runs()) == 60


def test_a_lease_is_never_opened_twice(store):
    store.open_lease(lease())
    with pytest.raises(StoreError):
        store.open_lease(lease(offer_id=1))
