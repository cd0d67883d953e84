"""Do notifications lengthen a run? The same emulated runs with nobody to tell, and with receivers and a store that fail.

    .venv/bin/python benchmarks/webhooks.py             # 40 runs per condition, the conditions taking turns, in four processes
    .venv/bin/python benchmarks/webhooks.py --runs 3

``none``: no receiver. ``dead``: nobody listens at its port. ``hanging``: it takes the request and never answers.
``dropped``: the tables are gone. Each run is the first of an emulator of the same seed: what it waits for is drawn alike, and
real time that the client loses shows, multiplied by the speed, in its total. The ratio of the medians is printed with a 95 %
interval from a bootstrap over runs. The exit status is 1 when an interval lies above 1 as a whole, when a run does not pass,
or when deliveries are not pending where they should be.
"""

import argparse
import multiprocessing
import os
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from figures import Row, show

from vastbench.bench.bench import Bench
from vastbench.record.phases import Outcome
from vastbench.record.run import Run
from vastbench.store import Store
from vastbench.store.outbox import Outbox, pending_in

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLwSw"
CONDITIONS = ("none", "dead", "hanging", "dropped")
EARLIER = 20
"""Deliveries that are pending already when a run begins, so that the thread is at work throughout the run."""


def prepare(place: Path, condition: str, port: int) -> None:
    """A store with what the condition asks for."""
    with Store(place) as store:
        outbox = Outbox(store)
        if condition == "none":
            return
        outbox.add(f"http://127.0.0.1:{port if condition == 'hanging' else 1}/hook", SECRET, allow_private=True)
        for number in range(EARLIER):
            outbox.put("test", f'{{"type": "test", "data": {{"number": {number}}}}}', datetime.now(UTC))


def drop(store: Store) -> None:
    """Take the tables away while the bench is open, as nothing that a user does would."""
    with Outbox(store)._transaction() as connection:
        for table in ("webhook_deliveries", "webhook_configs"):
            connection.execute(sa.text(f"DROP TABLE {table}"))


def one(folder: Path, condition: str, number: int, speed: float, port: int) -> tuple[Run, float, int]:
    """A run under a condition, the real seconds that leaving its bench took, and how many deliveries are pending then."""
    place = folder / f"{condition}-{number}.sqlite"
    prepare(place, condition, port)
    with Bench(profile="cached", seed=1, speed=speed, store=place) as bench:
        if condition == "dropped":
            drop(bench.store)
        run = bench.run()
        began = time.monotonic()
    left_s = time.monotonic() - began
    for thread in threading.enumerate():
        if thread.name == "vastbench-webhooks":
            thread.join(10)  # a try that was left behind ends by itself, and must not reach into the next run
    with Store(place) as store:
        return run, left_s, pending_in(store)


def turn(folder: Path, number: int, speed: float, port: int) -> list[tuple[str, tuple[Run, float, int]]]:
    """A run under each condition, beginning with another one each time."""
    order = CONDITIONS[number % 4 :] + CONDITIONS[: number % 4]
    return [(condition, one(folder, condition, number, speed, port)) for condition in order]


def interval(these: list[float], those: list[float], draws: int = 4000) -> tuple[float, float]:
    """The middle 95 % of the ratio of the medians when runs are drawn again."""
    chance = random.Random(1)

    def again(values: list[float]) -> float:
        return statistics.median(chance.choices(values, k=len(values)))

    ratios = sorted(again(these) / again(those) for _ in range(draws))
    return ratios[int(0.025 * draws)], ratios[int(0.975 * draws)]


def main() -> None:
    """Make the runs, print the table, say whether notifications lengthen a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--speed", type=float, default=20)
    parser.add_argument("--lanes", type=int, default=4, help="processes at once; they mostly wait")
    chosen = parser.parse_args()
    totals: dict[str, list[float]] = {condition: [] for condition in CONDITIONS}
    leaving: dict[str, list[float]] = {condition: [] for condition in CONDITIONS}
    pending: dict[str, list[float]] = {condition: [] for condition in CONDITIONS}
    failed = 0
    with (
        tempfile.TemporaryDirectory(prefix="vastbench-benchmark-") as folder,
        socket.create_server(("127.0.0.1", 0), backlog=1000) as hanging,  # the kernel takes, and nobody ever answers
    ):
        port = hanging.getsockname()[1]
        with ProcessPoolExecutor(chosen.lanes, multiprocessing.get_context("spawn")) as pool:
            turns = [pool.submit(turn, Path(folder), number, chosen.speed, port) for number in range(chosen.runs)]
            for condition, (run, left_s, waiting) in (each for made in turns for each in made.result()):
                failed += run.outcome is not Outcome.PASSED
                totals[condition].append(run.total_s or 0.0)
                leaving[condition].append(left_s)
                pending[condition].append(waiting)
    rows = [Row(f"total, {condition}", "emulated s", totals[condition]) for condition in CONDITIONS]
    rows += [Row(f"leaving the bench, {condition}", "s", leaving[condition]) for condition in CONDITIONS]
    rows += [Row(f"deliveries pending, {condition}", "rows", pending[condition]) for condition in ("dead", "hanging")]
    rows += [Row("runs that did not pass", "runs", [failed], 0)]
    missed = show(f"{chosen.runs} runs per condition, speed {chosen.speed:g}", rows, len(os.sched_getaffinity(0)))
    for condition in CONDITIONS[1:]:
        low, high = interval(totals[condition], totals["none"])
        ratio = statistics.median(totals[condition]) / statistics.median(totals["none"])
        print(f"total_s, {condition} ÷ none: {ratio:.4f} (95 % interval {low:.4f} to {high:.4f})")
        missed += [condition] if low > 1 else []
    if any(waiting < EARLIER + 1 for condition in ("dead", "hanging") for waiting in pending[condition]):
        missed += ["deliveries pending"]
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
