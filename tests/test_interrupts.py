"""Whatever stops a run, in whichever phase, its instance is destroyed before the process ends."""

import io
import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.analysis.made import TOP_LEVEL
from tests.fleet import bench
from tests.hostile.between import between
from tests.processes import Started, clean_environment, emulator_process, until
from tests.profiles import certain
from vastbench.bundled import shared
from vastbench.clock import Clock
from vastbench.errors import Interrupted
from vastbench.interrupts import raising, shield
from vastbench.record.phases import Outcome, PhaseName
from vastbench.store import Store
from vastbench.vast.api import VastApi

PHASES = list(TOP_LEVEL)
SIGNALS = [signal.SIGINT, signal.SIGTERM]
SPEED = "20"
LANES = 4


def listed(environment) -> list[int]:
    """The ids that the marketplace still lists."""
    clock = Clock(float(environment["VASTBENCH_SPEED"]))
    with VastApi(environment["VAST_URL"], environment["VAST_API_KEY"], clock=clock) as api:
        return [instance.id for instance in api.list_instances().value]


@pytest.fixture(scope="module")
def signalled(tmp_path_factory):
    """Runs of the command line, signalled as a phase begins: {(phase, signal): (exit code, runs, leases, stderr)}."""
    home = tmp_path_factory.mktemp("signals")
    Store(home / "empty.sqlite").close()

    def one(environment, phase, number):
        sent = threading.Event()

        def held(call):
            """No answer to the last call of a run before the signal: the run could be over by then."""
            if call.method == "DELETE" and call.path.startswith("/api/v0/ssh/"):
                sent.wait(60)
            return call.send()

        store = home / f"{phase}-{number}.sqlite".replace(" ", "-")
        shutil.copy(home / "empty.sqlite", store)
        words = ["run", "--live", "--budget", "9", "--yes", "--store", store]
        said = []
        with (
            between(environment["VAST_URL"], held) as url,
            Started(*words, env=environment | {"VAST_URL": url}, cwd=home) as process,
        ):
            kill = threading.Timer(90, process.send_signal, [signal.SIGKILL])
            kill.start()
            for line in process.stderr:
                said.append(line)
                if line.strip() == f"{phase} …":
                    process.send_signal(number)
                    sent.set()
            code = process.wait()
            kill.cancel()
        with Store(store) as opened:
            return code, opened.runs(), opened.leases(), "".join(said)

    cases = [(phase, number) for phase in PHASES for number in SIGNALS]

    def lane(first):
        """Every fourth case, one after the other, on a marketplace of its own: its limits count per account."""
        with emulator_process(home, "--profile", str(certain(home)), "--seed", "5", "--speed", SPEED) as environment:
            results = {case: one(environment, *case) for case in cases[first::LANES]}
            return results, listed(environment)

    with ThreadPoolExecutor(LANES) as pool:
        done = list(pool.map(lane, range(LANES)))
    return {case: result for results, _ in done for case, result in results.items()}, [left for _, left in done]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_a_signal_in_any_phase_ends_with_130_a_stored_run_closed_leases(signalled, phase, number):
    done, _ = signalled
    code, runs, leases, said = done[phase, number]
    assert code == 130, said
    assert "Traceback" not in said, said
    (run,) = runs
    assert (run.outcome, run.cause) == (Outcome.CENSORED, "interrupted")
    assert phase in {p.name for p in run.phases}
    assert [lease for lease in leases if lease.state != "closed"] == []
    if PHASES.index(phase) > PHASES.index(PhaseName.CREATE):
        assert leases
        assert leases[-1].verdict == "destroyed"


def test_after_all_those_signals_the_marketplace_lists_no_instance(signalled):
    _, left = signalled
    assert left == [[]] * LANES


@pytest.fixture(scope="module")
def exceptions(tmp_path_factory):
    """Runs in which an error comes up as a phase begins or ends: {(phase, when): run}, and what was left."""
    folder = tmp_path_factory.mktemp("exceptions")
    with bench(folder, profile=certain(folder), seed=6, speed=20) as opened:

        def one(phase, when):
            def break_it(name, ended):
                if name == phase and (ended is not None) == (when == "end"):
                    raise RuntimeError(f"broken at the {when} of {name}")

            return opened.run(listener=break_it)

        with ThreadPoolExecutor(8) as pool:
            cases = {(phase, when): pool.submit(one, phase, when) for phase in PHASES for when in ("begin", "end")}
            runs = {case: future.result() for case, future in cases.items()}
        left = opened.api.list_instances().value, opened.api.list_ssh_keys().value
        return runs, left, opened.store.leases()


@pytest.mark.parametrize("when", ["begin", "end"])
@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_an_exception_in_any_phase_fails_the_run_and_closes_its_lease(exceptions, phase, when):
    runs, _, leases = exceptions
    run = runs[phase, when]
    assert (run.outcome, run.cause) == (Outcome.FAILED, "internal")
    assert f"broken at the {when} of {phase}" in run.detail
    assert {lease.state for lease in leases if lease.run_id == run.id} <= {"closed"}


def test_after_all_those_exceptions_no_instance_and_no_key_is_left(exceptions):
    _, (instances, keys), _ = exceptions
    assert instances == []
    assert len(keys) <= 2  # a removal that was broken off as it began or ended


def test_two_signals_to_papermill_destroy_the_instance_and_are_noted(tmp_path):
    with emulator_process(tmp_path, "--profile", str(certain(tmp_path)), "--seed", "5", "--speed", "4") as environment:
        notebook = shared("notebooks") / "01-integration-test.ipynb"
        out = tmp_path / "executed.ipynb"
        command = [sys.executable, "-m", "papermill", "--engine", "vastbench", str(notebook), str(out), "--no-progress-bar"]
        command += ["-p", "live", "True", "-p", "budget_usd", "9", "-p", "store", str(tmp_path / "runs.sqlite")]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert held_within(60, tmp_path / "runs.sqlite"), process.communicate()[0]
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)  # an impatient second one must not cut the clean-up short
            said = process.communicate(timeout=100)[0]
        assert process.returncode != 0
        assert listed(environment) == [], said
    with Store(tmp_path / "runs.sqlite") as store:
        assert store.leases()[-1].verdict == "destroyed"
        assert store.leases(open_only=True) == []
        assert [run.cause for run in store.runs()] == ["interrupted"]
    saved = json.loads(out.read_text())
    assert saved["metadata"]["papermill"]["exception"] is True
    states = [cell["metadata"]["papermill"]["status"] for cell in saved["cells"]]
    assert states.count("failed") == 1
    assert set(states[states.index("failed") + 1 :]) == {"pending"}


def held_within(seconds: int, store) -> bool:
    """Whether the store comes to hold a lease whose instance exists."""
    for _ in range(seconds * 5):
        if store.exists():
            with Store(store) as opened:
                if any(lease.state == "held" for lease in opened.leases()):
                    return True
        time.sleep(0.2)
    return False


def test_a_shield_holds_a_signal_back_until_its_body_is_done():
    done = []

    def work():
        with raising(Interrupted("stop"), signal.SIGTERM), shield():
            signal.raise_signal(signal.SIGTERM)
            done.append("finished")

    with pytest.raises(Interrupted):
        work()
    assert done == ["finished"]


def test_a_shield_gives_the_handlers_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with shield():
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_clean_environment_holds_no_key(tmp_path):
    assert not [name for name in clean_environment(tmp_path) if name.startswith("VAST")]


def as_from_a_terminal():
    """Whoever runs this suite under nohup ignores SIGHUP, and so would every process from here on."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_closed_terminal_destroys_the_instance_too(tmp_path):
    slow = tmp_path / "slow.toml"  # so that the run is under way for certain when it is signalled
    boot = 'running = { kind = "fixed", value = 400, basis = "assumption" }'
    slow.write_text(f'extends = "{certain(tmp_path)}"\nabout = "A slow boot"\n[boot]\n{boot}\n')
    with emulator_process(tmp_path, "--profile", str(slow), "--speed", SPEED) as environment:
        run = ["run", "--live", "--budget", "9", "--yes", "--store", tmp_path / "runs.sqlite"]
        with Started(*run, env=environment, cwd=tmp_path, first=as_from_a_terminal) as process:
            assert held_within(60, tmp_path / "runs.sqlite")
            process.send_signal(signal.SIGHUP)
            assert process.wait() == 130
        assert listed(environment) == []


def test_a_second_signal_is_only_logged_while_the_first_is_cleaned_up():
    def work():
        with raising(Interrupted("stop"), signal.SIGTERM):
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match="stop"):
        work()


class Interrupting(io.RawIOBase):
    """Where a stream writes to; while it writes its first line a signal comes."""

    def __init__(self):
        self.said = b""

    def writable(self):
        return True

    def write(self, text):
        if not self.said:
            signal.raise_signal(signal.SIGTERM)
        self.said += text
        return len(text)


def test_a_signal_in_the_middle_of_a_printed_line_is_logged_after_it(monkeypatch):
    broken, place = [], Interrupting()
    stream = io.TextIOWrapper(io.BufferedWriter(place), line_buffering=True)
    handler = logging.StreamHandler(stream)
    monkeypatch.setattr(handler, "handleError", broken.append)
    monkeypatch.setattr(logging.getLogger("vastbench.interrupts"), "handlers", [handler])

    def work():
        with raising(Interrupted("stop"), signal.SIGTERM), shield():
            print("create instance …", file=stream)
            until(lambda: b"SIGTERM received while" in place.said or broken)

    with pytest.raises(Interrupted):
        work()
    assert broken == []
    assert place.said.startswith("create instance …\nSIGTERM received while".encode())


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with shield():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


TAKEN_ELSEWHERE = """
import os, signal, threading, time
from concurrent.futures import Future
from vastbench.interrupts import as_they_end, raise_on_signals, wait_for

def take():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    time.sleep(0.3)  # by then the main thread waits
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
    os._exit(77)

raise_on_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
threading.Thread(target=take, daemon=True).start()
"""


@pytest.mark.parametrize("waiting", ["wait_for(threading.Event())", "list(as_they_end([Future()]))"])
def test_a_signal_that_another_thread_takes_ends_the_main_threads_wait(waiting):
    done = subprocess.run([sys.executable, "-c", TAKEN_ELSEWHERE + waiting], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Interrupted: Stopped by SIGTERM" in done.stderr
