"""The whole report over a study of 300 runs: its steps, and the whole against its limit, on two cores.

``--quick`` takes the published run alone; ``--no-limits`` only shows the figures.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from figures import Row, show

from vastbench.io.tables import SAMPLE
from vastbench.report.build import build_report, of_places

LIMIT_S = 60.0
RUNS = 300
CORES = 2


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="one run instead of 300")
    options.add_argument("--no-limits", action="store_true", help="only show the figures")
    given = options.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    source = of_places(["2026-01-02-rtx4090" if given.quick else SAMPLE])
    runs = source.phases["run"].nunique()
    assert given.quick or runs == RUNS, f"the sample has {runs} runs"

    steps: list[Row] = []

    def heard(line: str) -> None:
        seconds, what = line.strip().split(" s  ", 1)
        steps.append(Row(what, "s", [float(seconds)]))

    with tempfile.TemporaryDirectory() as folder:
        begun = os.times().elapsed
        build_report(source, Path(folder) / "report", echo=heard)
        whole = os.times().elapsed - begun
        size = sum(path.stat().st_size for path in (Path(folder) / "report").rglob("*") if path.is_file())
    rows = [
        *steps,
        Row("the whole report", "s", [whole], None if given.no_limits else LIMIT_S),
        Row("all files", "MB", [size / 1e6]),
    ]
    missed = show(f"A report over {runs} runs", rows, CORES)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
