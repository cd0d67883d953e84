"""The benchmarks run, and what they exercise works; how fast it was is no test's business."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vastbench.analysis.artefacts.detector import RULES

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_the_emulators_benchmark_runs_without_failures_and_leaves_nothing():
    """``--no-limits`` shows the figures and exits with 0; its counts of failures and leftovers still have to be zero."""
    command = [sys.executable, str(BENCHMARKS / "emulator.py"), "--quick", "--instances", "4", "--no-limits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = {cells[1].strip(): cells[5].strip() for line in done.stdout.splitlines() if len(cells := line.split("│")) > 5}
    assert rows["instances listed"] == rows["SSH sessions open"] == "4"
    assert rows["failures of instances and calls"] == "0", done.stdout
    assert rows["left behind (processes, ports, files)"] == "0", done.stdout


def test_the_studys_benchmark_makes_its_runs_without_a_refusal():
    command = [sys.executable, str(BENCHMARKS / "study.py"), "--runs", "4", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {cells[1].strip(): cells[5].strip() for line in done.stdout.splitlines() if len(cells := line.split("│")) > 5}
    assert rows["runs made"] == "4"
    assert rows["429s answered by the emulator"] == "0"


@pytest.fixture(scope="module")
def side_by_side() -> dict[str, str]:
    """What the two that wait at speed 1 print; they wait at the same time."""
    options = {"fidelity": ["--quick", "--runs", "2", "--no-limits"], "peers": ["--quick"]}
    commands = {name: [sys.executable, str(BENCHMARKS / f"{name}.py"), *words] for name, words in options.items()}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    begun = {name: subprocess.Popen(command, **pipes) for name, command in commands.items()}
    printed = {}
    try:
        for name, process in begun.items():
            printed[name], _ = process.communicate(timeout=150)
            assert process.returncode == 0, printed[name]
    finally:
        for process in begun.values():
            process.kill()
            process.wait()
    return printed


def table_rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]


def test_the_fidelity_benchmark_compares_every_poller_with_the_truth(side_by_side):
    rows = table_rows(side_by_side["fidelity"])
    moments = [cells for cells in rows if len(cells) == 10]
    ours = [cells for cells in moments if cells[0] == "vastbench"]
    assert {"running", "SSH ready", "destroyed", "gone", "guest: container_started"} <= {cells[1] for cells in ours}
    assert {cells[4] for cells in ours} == {"100.0%"}
    others = {"GET by id, 10 s", "GET by id, 2 s", "vastai show, 10 s"}
    for way in others:
        assert {cells[1] for cells in moments if cells[0] == way} == {"running", "SSH ready", "destroyed"}
    requests = [cells for cells in rows if len(cells) == 8 and cells[0] in {"vastbench", *others}]
    # A machine that stood still may add how many runs' own clocks are not trusted.
    assert {cells[7].partition(",")[0] for cells in requests} == {"1 passed", "2 passed"}
    assert all(float(cells[4]) > float(cells[5]) >= 1 for cells in requests)


def test_the_benchmark_of_peers_shows_both_trees_and_their_errors(side_by_side):
    text = side_by_side["peers"]
    assert text.count("◀ bottleneck") == 2
    # The eight columns of the table of aims.
    figures = {cells[0]: float(cells[2]) for cells in table_rows(text) if len(cells) == 8 and cells[0] != "what"}
    assert figures["vastbench: running, read late by"] < figures["seed's method: running, read late by"]
    assert figures["vastbench, times the emulator's own"] > 0.99
    # The published run: 94.77 s in phases, of which 0.48 s were the destroy.
    assert figures["seed's method: time to a verified file"] >= 94.77 - 0.48


def test_the_benchmark_of_scale_goes_through_every_step():
    command = [sys.executable, str(BENCHMARKS / "scale.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = {cells[0] for cells in table_rows(done.stdout)}
    assert {"load and check the table", "summary", "bottleneck: shares", "boot curve with its band"} <= steps


def test_the_benchmark_of_an_account_shows_a_run_alone_and_beside_others():
    command = [sys.executable, str(BENCHMARKS / "account.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    rows = {cells[0] for cells in table_rows(done.stdout)}
    assert {"confirm destroyed, alone", "confirm destroyed, beside 300 others", "requests: beside ÷ alone"} <= rows


def test_the_benchmark_of_artefacts_counts_what_each_rule_finds():
    command = [sys.executable, str(BENCHMARKS / "artefacts.py"), "--tables", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    rules = {cells[0]: cells[1:] for cells in table_rows(done.stdout) if len(cells) == 6}
    assert {rule.name for rule in RULES} == set(rules)
    assert {cells[-1].partition(" %")[0] for cells in rules.values()} == {"100.0"}
    assert all(" %" in cell for cells in rules.values() for cell in cells)


def test_the_benchmark_of_detection_marks_the_default_rule_on_its_curve():
    command = [sys.executable, str(BENCHMARKS / "detection.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    points = {cells[0]: cells[1:] for cells in table_rows(done.stdout) if len(cells) == 13}
    assert sum(name.startswith("▶ ") for name in points) == 1
    assert all(math.isfinite(float(cell)) for cells in points.values() for cell in cells[:4] if cells[0])


def test_the_benchmark_of_the_idle_rule_finds_no_busy_machine_idle():
    command = [sys.executable, str(BENCHMARKS / "idle_traces.py"), "--traces", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    counts = re.findall(r"memory was held: (\d+) of (\d+) traces", done.stdout)
    assert [wrong for wrong, _ in counts] == ["0", "0"]
    assert [int(traces) for _, traces in counts] == [230, 23]


def test_the_snapshots_benchmark_restores_what_it_kept():
    words = ["--mb", "2", "--files", "60", "--links", "loopback", "--methods", "zstd,none", "--no-limits"]
    command = [sys.executable, str(BENCHMARKS / "snapshots.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row[0] for row in table_rows(done.stdout)] == ["zstd", "none"]
    assert "none to the default: " in done.stdout


def test_the_benchmark_of_hedging_confirms_every_loser_destroyed():
    command = [sys.executable, str(BENCHMARKS / "hedging.py"), "--quick", "--profile", "cached"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    alone, raced = (cells for cells in table_rows(done.stdout) if cells[1] == "2")
    assert (alone[0], raced[0]) == ("1", "2, 0 s")
    confirmed, losers = raced[6].split(" of ")
    assert confirmed == losers
    assert int(losers) > 0


def test_the_benchmark_of_verdicts_finds_no_forbidden_cell():
    command = [sys.executable, str(BENCHMARKS / "verdicts.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "64 cells, 0 forbidden." in done.stdout


def test_the_benchmark_of_charges_finds_them_to_agree():
    command = [sys.executable, str(BENCHMARKS / "charges.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    rows = {cells[0]: cells[1:] for cells in table_rows(done.stdout) if len(cells) == 6}
    assert int(rows["residual, beyond rounding"][0]) >= 6  # in the profile some never run
    assert "agrees: " in done.stdout
