"""A process that is forked inside a bench takes nothing from its parent when it ends: no instance, no key, no store."""

import subprocess
import sys

import pytest

from tests.processes import clean_environment
from tests.profiles import certain

PROGRAM = """
import multiprocessing, os, sys, threading
from vastbench.bench.bench import Bench
from vastbench.errors import UsageError
from vastbench.owner import ENDED_BEAT

way, profile, store = sys.argv[1:]

def forked(leave):
    child = os.fork()
    if child == 0:
        leave()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def fail():
    raise RuntimeError("in the child, on purpose")

def run_there():
    try:
        bench.run()
    except UsageError:
        sys.exit(7)

WAYS = {
    "exits": lambda: forked(lambda: sys.exit(0)) == 0,
    "fails": lambda: forked(fail) == 1,
    "runs": lambda: forked(run_there) == 7,
}

def by_multiprocessing():
    process = multiprocessing.get_context("fork").Process(target=lambda: bench.store.runs())
    process.start()
    process.join()
    return process.exitcode == 0

def listen(name, phase):
    if name != "verify file" or phase is not None:
        return
    if way == "in the run":
        ended.append(WAYS["exits"]())
    else:
        reached.set()
        done.wait()

ended, reached, done, runs = [], threading.Event(), threading.Event(), []
with Bench(profile=profile, seed=4, speed=20, store=store) as bench:
    if way == "in the run":
        runs.append(bench.run(listener=listen))
    else:
        thread = threading.Thread(target=lambda: runs.append(bench.run(listener=listen)))
        thread.start()
        reached.wait()
        ended.append(WAYS.get(way, by_multiprocessing)())
        assert len(bench.emulator.alive) == 1
        assert ENDED_BEAT not in bench.store.beats().values()
        done.set()
        thread.join()
    assert ended == [True], ended
    (run,) = runs
    print(run.outcome, run.detail)
    assert bench.store.runs() == [run]
    (lease,) = bench.store.leases()
    assert (lease.state, lease.verdict) == ("closed", "destroyed"), lease
print("whole")
"""


@pytest.mark.parametrize("way", ["exits", "fails", "runs", "multiprocessing", "in the run"])
def test_a_forked_process_that_ends_leaves_its_parents_run_alone(tmp_path, way):
    program = [sys.executable, "-c", PROGRAM, way, certain(tmp_path), tmp_path / "runs.sqlite"]
    done = subprocess.run(
        program, capture_output=True, text=True, env=clean_environment(tmp_path), cwd=tmp_path, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (done.stderr == "") is (way != "fails")
    assert done.stdout.splitlines() == ["passed ", "whole"]
