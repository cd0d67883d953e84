"""A large study on the emulator: does it keep to the rate limits, how long does it take, and how much memory.

    .venv/bin/python benchmarks/study.py            # 200 runs, 16 workers, speed 50
    .venv/bin/python benchmarks/study.py --quick    # 12 runs, 4 workers

Client, emulator and instances share the machine. The exit status is 1 when a limit is missed.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
from figures import Row, show

from vastbench.bench.bench import Bench
from vastbench.bench.workers import run_study
from vastbench.record.study import Study, StudyProgress
from vastbench.render.progress import counts

SAMPLE_S = 1.0


class Memory(threading.Thread):
    """Watches the proportional set size of this process and all its children, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[float] = []
        self.over = threading.Event()

    def run(self) -> None:
        own = psutil.Process()
        while not self.over.wait(SAMPLE_S):
            total = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss
                except psutil.NoSuchProcess:
                    continue
            self.seen.append(total / 1e6)


def make(runs: int, workers: int, speed: float, store: Path) -> tuple[Study, float, dict[str, object], Counter[str]]:
    """The study, its wall time in seconds, what the client counted, and the leases' verdicts."""
    shown = 0.0

    def tell(progress: StudyProgress) -> None:
        nonlocal shown
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(counts(progress), file=sys.stderr)

    with Bench(profile="default", seed=1, speed=speed, store=store, study="benchmark") as bench:
        began = time.monotonic()
        study = run_study(bench, bench.open_study(runs), workers=workers, listener=tell)
        took = time.monotonic() - began
        verdicts = Counter(str(lease.verdict) for lease in bench.store.leases())
        return study, took, bench.api.usage.summary(), verdicts


def main() -> None:
    """Make the study, print the table, say whether a limit was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--speed", type=float, default=50)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.runs, chosen.workers = 12, 4
    memory = Memory()
    with tempfile.TemporaryDirectory(prefix="vastbench-benchmark-") as folder:
        memory.start()
        study, took, usage, verdicts = make(chosen.runs, chosen.workers, chosen.speed, Path(folder) / "runs.sqlite")
        memory.over.set()
        memory.join()
    accounted = sum(verdicts[word] for word in ("destroyed", "already gone", "never created"))
    rows = [
        Row("runs made", "runs", [len(study.made)]),
        Row("runs missing", "runs", [chosen.runs - len(study.made)], 0),
        Row("429s answered by the emulator", "answers", [float(str(usage["rate_limited"]))], 0),
        Row("leases not accounted for", "leases", [sum(verdicts.values()) - accounted], 0),
        Row("memory of all processes (PSS)", "MB", memory.seen, 1000),
        Row("requests", "calls", [float(str(usage["requests"]))]),
        Row("wall time", "s", [took]),
        Row("wall time per run", "s", [took / max(1, len(study.made))]),
    ]
    title = f"{chosen.runs} runs, {chosen.workers} workers, speed {chosen.speed:g}"
    missed = show(title, rows, len(os.sched_getaffinity(0)))
    outcomes = Counter(f"{run.outcome} {run.cause}".strip() for run in study.runs)
    print(", ".join(f"{number} {words}" for words, number in outcomes.most_common()))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
