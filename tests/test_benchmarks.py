"""The benchmarks run, and what they exercise works; how fast it was is no test's business."""

import subprocess
import sys
from pathlib import Path

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
