"""The analysis of a million rows: from a Parquet file to the summary, the bottleneck and a boot curve; commands on many runs.

    .venv/bin/python benchmarks/scale.py                  # 10⁴, 10⁵ and 10⁶ rows, five times each, a few minutes
    .venv/bin/python benchmarks/scale.py --quick          # 10⁴ rows, once
    .venv/bin/python benchmarks/scale.py --runs 50000     # export, compare, report and studies on a store of so many runs

The exit status is 1 when a limit is missed.
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import psutil
from figures import Row, show

CORES = 2
ROWS = (10_000, 100_000, 1_000_000)
LIMIT_ROWS, LIMIT_S, LIMIT_MB = 1_000_000, 5.0, 1500.0
LINEAR = 1.25
"""The time per row may grow by this factor from the middle size to the largest: more is worse than linear."""

REAL_RUNS = 24
"""Emulated runs that a store of many is multiplied from."""
SMALL = 50
"""How many times smaller the store is that the time per run is held against."""
COMMAND_LIMIT_S, COMMAND_LIMIT_MB = 60.0, 1000.0

PARTS = (("runs", "id"), ("attempts", "run_id"), ("phases", "run_id"), ("instruments", "run_id"))
"""The tables of the store that hold a run, and which column there is its id."""
STUDIES = ("before", "after")
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
EXIT_CODES = {0, 12, 13, 14}
"""A comparison of many runs may find a difference."""
COMMANDS = {
    "export": ["export", "runs.parquet"],
    "compare": ["compare", "before", "after"],
    "report": ["report", "--out", "report"],
    "studies": ["studies"],
}

PASS = r"""
import json, re, sys, time
from pathlib import Path

import pandas, scipy.stats  # noqa: F401 (whoever analyses has them; their import is not what is measured)

from vastbench.analysis.bottleneck import shares, what_if
from vastbench.analysis.durations import curve_table
from vastbench.analysis.summary import outcomes, phase_summary
from vastbench.io.tables import load
from vastbench.record.phases import PhaseName

def peak_mb():
    # Not getrusage, which counts what the parent had before this program began.
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6

before, seconds = peak_mb(), {}
def step(name, work, *given):
    began = time.perf_counter()
    done = work(*given)
    seconds[name] = time.perf_counter() - began
    return done

frame = step("load and check the table", load, sys.argv[1])
step("outcomes", outcomes, frame)
step("summary", phase_summary, frame)
step("bottleneck: shares", shares, frame)
step("bottleneck: what if", what_if, frame)
step("boot curve with its band", curve_table, frame, PhaseName.WAIT_RUNNING)
print(json.dumps({"rows": len(frame), "seconds": seconds, "peak_mb": peak_mb(), "idle_mb": before}))
"""


def grow(rows: int, path: Path) -> None:
    """Write at least ``rows`` rows: the sample's runs under new names, every time stretched a little, so that none is equal."""
    import numpy as np
    import pandas as pd

    from vastbench.io.tables import export, load

    sample = load()
    copies = -(-rows // len(sample))
    frame = pd.concat([sample] * copies, ignore_index=True)
    copy = np.repeat(np.arange(copies), len(sample))
    frame["run"] = frame["run"] + "-" + pd.Series(copy).astype(str)
    # One factor for each run keeps its rows adding up to its total.
    factors = np.random.default_rng(1).lognormal(0.0, 0.1, frame["run"].nunique())
    factor = factors[frame["run"].factorize()[0]]
    for name in frame.columns:
        if name in {"seconds", "queued_s"} or name.endswith(("lower_s", "upper_s")) or name == "start_s":
            frame[name] = frame[name] * factor
    export(frame, path)


def measure(rows: int, passes: int, folder: Path) -> list[Row]:
    """Each step's seconds in processes of their own, and their peak memory."""
    path = folder / f"{rows}.parquet"
    grow(rows, path)
    made = []
    for _ in range(passes):
        done = subprocess.run([sys.executable, "-c", PASS, str(path)], capture_output=True, text=True, check=True)
        made.append(json.loads(done.stdout))
    path.unlink()
    largest = rows == LIMIT_ROWS
    sums = [sum(one["seconds"].values()) for one in made]
    return [
        *(Row(step, "s", [one["seconds"][step] for one in made]) for step in made[0]["seconds"]),
        Row("all together", "s", sums, LIMIT_S if largest else None, "median"),
        Row("per million rows", "s", [total / one["rows"] * 1e6 for total, one in zip(sums, made, strict=True)]),
        Row("peak memory of the process", "MB", [one["peak_mb"] for one in made], LIMIT_MB if largest else None),
        Row("of which the libraries alone", "MB", [one["idle_mb"] for one in made]),
    ]


def multiply(real: Path, runs: int, path: Path) -> None:
    """A store of so many runs at ``path``: those of ``real`` with other ids, machines and dates, and all times stretched."""
    random = Random(1)
    path.write_bytes(real.read_bytes())
    with closing(sqlite3.connect(path)) as store:
        store.row_factory = sqlite3.Row
        originals = [
            {
                table: [dict(row) for row in store.execute(f"SELECT * FROM {table} WHERE {key} = ?", (run,))]
                for table, key in PARTS
            }
            for (run,) in store.execute("SELECT id FROM runs ORDER BY id").fetchall()
        ]
        for table in ("study_runs", "studies", *(table for table, _ in reversed(PARTS))):
            store.execute(f"DELETE FROM {table}")
        for n in range(runs):
            factor, original = random.lognormvariate(0.0, 0.1), originals[n % len(originals)]
            began = (BEGINNING + n * timedelta(minutes=10)).isoformat()
            machine = 10_000 + random.randrange(max(runs // 3, 1))
            for table, key in PARTS:
                for row in original[table]:
                    made = {name: value * factor if isinstance(value, float) else value for name, value in row.items()}
                    made[key] = f"{n:012x}"
                    if table == "runs":
                        resources = json.dumps(json.loads(row["resources"]) | {"machine_id": machine})
                        made |= {"started_at": began, "study": STUDIES[n % 2], "machine_id": machine, "resources": resources}
                    if table == "instruments":
                        made["clock_speed"] = row["clock_speed"]
                    store.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(made))})", list(made.values()))
        store.commit()


def watched(command: list[str], folder: Path) -> tuple[float, float, float]:
    """A command's wall seconds, its processors' seconds, and the largest sum of the RSS of all of its processes, in MB."""
    began, before, peak = time.perf_counter(), os.times(), 0
    program = str(Path(sys.executable).with_name("vastbench"))
    with (
        (folder / "output").open("wb") as output,
        psutil.Popen([program, *command], cwd=folder, stdout=output, stderr=output) as one,
    ):
        while one.poll() is None:
            family = [one]
            with suppress(psutil.NoSuchProcess):
                family += one.children(recursive=True)
            rss = 0
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    rss += process.memory_info().rss
            peak = max(peak, rss)
            time.sleep(0.05)
    if one.returncode not in EXIT_CODES:
        raise SystemExit(f"vastbench {' '.join(command)} ended with {one.returncode}:\n{(folder / 'output').read_text()}")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, used, peak / 1e6


def measure_commands(runs: int, folder: Path) -> list[str]:
    """The commands on a store of ``runs`` and on a smaller one: seconds, memory, and what one run takes in each."""
    real, sizes = folder / "real.sqlite", (max(runs // SMALL, REAL_RUNS), runs)
    study = ["study", "--name", "real", "--repeats", str(REAL_RUNS), "--workers", "8", "--speed", "100", "--store", str(real)]
    watched(study, folder)
    figures: dict[int, dict[str, tuple[float, float, float]]] = {}
    for size in sizes:
        store = folder / f"{size}.sqlite"
        multiply(real, size, store)
        figures[size] = {name: watched([*words, "--store", str(store)], folder) for name, words in COMMANDS.items()}
    small, large = (figures[size] for size in sizes)
    rows = []
    for name, (wall, cpu, peak) in large.items():
        rows += [
            Row(f"{name}", "s", [wall], COMMAND_LIMIT_S),
            Row(f"{name}: of the processors", "s", [cpu]),
            Row(f"{name}: all its processes' RSS", "MB", [peak], COMMAND_LIMIT_MB),
            Row(f"{name}: per run ÷ per run of {sizes[0]:,}", "×", [cpu / runs / (small[name][1] / sizes[0])]),
        ]
    return show(f"Commands on a store of {runs:,} runs", rows, CORES)


def main() -> None:
    """Measure each size, print the tables and how the time grows, and exit with 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=5, help="how often each size is done (default 5)")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, help="commands on a store of so many runs, instead")
    chosen = parser.parse_args()
    sizes, passes = (ROWS[:1], 1) if chosen.quick else (ROWS, chosen.passes)
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    missed, each = [], {}
    with tempfile.TemporaryDirectory(prefix="vastbench-benchmark-") as folder:
        if chosen.runs:
            sizes, missed = (), measure_commands(chosen.runs, Path(folder))
        for rows in sizes:
            table = measure(rows, passes, Path(folder))
            each[rows] = next(statistics.median(row.figures) for row in table if row.what == "per million rows")
            missed += show(f"{rows:,} rows", table, len(cores))
    if len(each) > 1:
        *_, middle, largest = each
        growth = each[largest] / each[middle]
        missed += show("Growth", [Row(f"time per row, {largest:,} rows ÷ {middle:,} rows", "×", [growth], LINEAR)], len(cores))
    print(f"Missed: {'; '.join(missed)}." if missed else "All limits kept.")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
