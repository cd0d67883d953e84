"""Do the account's charges agree with what runs' own meters say: runs on the emulator, whose meters know what was used.

    .venv/bin/python benchmarks/charges.py            # 500 runs, 24 workers, speed 5: a quarter of an hour
    .venv/bin/python benchmarks/charges.py --quick    # 8 runs, 8 workers, speed 50

With ``--write`` the runs are kept as a data set (``make charges``). A busy machine widens what is known of each moment, as many
times as the clock goes faster.

The exit status is 1 when fewer than 99 % of the runs have a residual within one second of price of what rounding hides.
"""

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

import vastbench
from vastbench.analysis.cost import SETTLED
from vastbench.bench.bench import Bench
from vastbench.bench.workers import run_study
from vastbench.bundled import shared
from vastbench.record.cost import Match, usd_for
from vastbench.record.run import Run

BEYOND = "residual, beyond rounding"
WITHIN_S = 1.0
LEAST = 0.99
COME_S, REST_S = 900.0, 30.0
"""Clock seconds in which all charges have come (the default profile draws two minutes in the median, and longer than this once
in 30,000 times), and those from one look to the next."""


def made(options: argparse.Namespace, folder: Path) -> tuple[list[Run], dict[int, float]]:
    """The runs with their charges, and the seconds that the GPU of each instance ran."""
    settings = {"profile": options.profile, "seed": options.seed, "speed": options.speed, "study": f"charges-{options.runs}"}
    with Bench(store=folder / "runs.sqlite", **settings) as bench:
        study = run_study(bench, bench.open_study(options.runs), workers=options.workers)
        for _ in range(round(COME_S / REST_S)):
            bench.clock.sleep(REST_S)
            asked = bench.ask_charges()
            if Match.LATE not in {bill.match for _, bill in bench.store.costs(study.name).values()}:
                break
        print(f"{asked.rows} rows of charges for {asked.contracts} instances; {asked.foreign} of other contracts.")
        return list(bench.store.study(study.name).runs), gpu_seconds(bench.emulator.events)


def gpu_seconds(events: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    """How long the GPU of each instance ran, by the truth log."""
    began: dict[int, float] = {}
    ran: dict[int, float] = defaultdict(float)
    for event in sorted(events, key=lambda event: event["s"]):
        instance = event["instance"]
        if event.get("status") == "running":
            began.setdefault(instance, event["s"])
        elif event["event"] in ("status", "destroy_effective", "vanished") and instance in began:
            ran[instance] += event["s"] - began.pop(instance)
    return ran


def seconds_off(run: Run, ran: Mapping[int, float]) -> dict[str, float]:
    """How far the figures of a run lie apart, in seconds of price; nothing for what has not come or is not known."""
    cost, bill, instances = run.cost, run.bill, {one.instance_id for one in run.attempts if one.instance_id is not None}
    if bill.match not in SETTLED or cost.total_usd is None or bill.total_usd is None or not run.usd_per_hour:
        return {}
    a_second, residual = usd_for(1.0, run.usd_per_hour), abs(bill.total_usd - cost.total_usd)
    middle = abs(bill.total_usd - (cost.at_least_usd + cost.at_most_usd) / 2)
    found = {
        BEYOND: max(0.0, residual - (bill.rounding_usd or 0.0)) / a_second,
        "residual of the middle of our bounds, beyond rounding": max(0.0, middle - (bill.rounding_usd or 0.0)) / a_second,
        "residual, as it is shown": residual / a_second,
        "rounding of the charges, ±": (bill.rounding_usd or 0.0) / a_second,
    }
    if len(instances) == 1 and cost.gpu_usd is not None:
        truth, gpu_second = sum(ran.get(one, 0.0) for one in instances), usd_for(1.0, run.resources["gpu_usd_per_hour"])
        found["GPU: our figure − truth"] = abs(cost.gpu_usd / gpu_second - truth)
        found["GPU: middle of our bounds − truth"] = abs((cost.gpu_lower_usd + cost.gpu_upper_usd) / 2 / gpu_second - truth)
    return found


def main() -> None:
    """Make the study, print the table, say whether a limit was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--workers", type=int, default=24)
    parser.add_argument("--speed", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", default="default")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true", help="keep the runs as a data set")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.workers, options.speed, options.profile = 8, 8, 50, "cached"
    with tempfile.TemporaryDirectory(prefix="vastbench-benchmark-") as folder:
        runs, ran = made(options, Path(folder))
    off = pd.DataFrame([seconds_off(run, ran) for run in runs])
    table = Table("seconds of price", "n", "median", "p95", "max", f"within {WITHIN_S:g} s")
    for name, column in off.items():
        known = column.dropna()
        figures = (f"{known.quantile(q):.2f}" for q in (0.5, 0.95, 1.0))
        table.add_row(str(name), str(len(known)), *figures, f"{(known <= WITHIN_S).mean():.1%}")
    Console(width=None if sys.stdout.isatty() else 128, highlight=False).print(table)
    matches = Counter(run.bill.match for run in runs if run.bill.match)
    print(", ".join(f"{match}: {count}" for match, count in matches.most_common()))
    if options.write:
        vastbench.export(vastbench.phases_table(runs), shared("data/studies") / f"charges-{options.runs}.parquet")
    sys.exit(0 if (off[BEYOND] <= WITHIN_S).sum() >= LEAST * matches.total() else 1)


if __name__ == "__main__":
    main()
