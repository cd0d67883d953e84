"""The analysis of a million rows: from a Parquet file to the summary, the bottleneck and a boot curve.

    .venv/bin/python benchmarks/scale.py            # 10⁴, 10⁵ and 10⁶ rows, five times each, a few minutes
    .venv/bin/python benchmarks/scale.py --quick    # 10⁴ rows, once

The exit status is 1 when a limit is missed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import Row, show

CORES = 2
ROWS = (10_000, 100_000, 1_000_000)
LIMIT_ROWS, LIMIT_S, LIMIT_MB = 1_000_000, 5.0, 1500.0
LINEAR = 1.25
"""The time per row may grow by this factor from the middle size to the largest: more is worse than linear."""

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


def main() -> None:
    """Measure each size, print the tables and how the time grows, and exit with 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=5, help="how often each size is done (default 5)")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    sizes, passes = (ROWS[:1], 1) if chosen.quick else (ROWS, chosen.passes)
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    missed, each = [], {}
    with tempfile.TemporaryDirectory(prefix="vastbench-benchmark-") as folder:
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
