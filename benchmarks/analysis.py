"""The library part of a report: frames, summaries and every chart of some hundred runs, and how that grows with the runs."""

import argparse
import io
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from figures import Row, show

from vastbench.record.run import Run

CORES = 2
LIMIT_RUNS, LIMIT_S = 300, 10


@dataclass
class Stopwatch:
    """Seconds by step, in the order in which the steps were first taken; ``cpu_s`` is the processor's part of all of them.

    The processor's seconds tell a slow library from a machine that was busy with something else.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu_s: float = 0.0

    def __call__(self, step: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do the work and keep what it took."""
        began, cpu = time.perf_counter(), time.process_time()
        done = work(*arguments)
        self.seconds.setdefault(step, []).append(time.perf_counter() - began)
        self.cpu_s += time.process_time() - cpu
        return done


def sample(count: int) -> list[Run]:
    """The runs of the sample data set, over and over under new names, until there are ``count`` of them."""
    from vastbench.analysis.frames import runs_from
    from vastbench.io.tables import load

    runs = runs_from(load())
    return [replace(runs[i % len(runs)], id=f"{i:06}") for i in range(count)]


def imports() -> None:
    """The libraries, which every report loads once."""
    for name in ("pandas", "scipy.stats", "matplotlib.pyplot"):
        import_module(name)


def report(runs: list[Run], timed: Stopwatch) -> None:
    """One pass over everything, each chart rendered to PNG and SVG as a report keeps it."""
    from matplotlib import pyplot as plt

    from vastbench import charts
    from vastbench.analysis import bottleneck, certainty, cost, facts, findings, frames, providers, summary, useful
    from vastbench.analysis.artefacts.detector import detector as artefacts
    from vastbench.io.prices import prices

    phases = timed("tidy frame from runs", frames.phases_table, runs)
    timed("one row per run", frames.runs_table, phases)
    of_prices = timed("price table", prices)
    comparison = timed("compare providers", providers.compare, of_prices, phases)
    for table in (summary.outcomes, summary.phase_summary, bottleneck.shares, bottleneck.what_if):
        timed(table.__name__, table, phases)
    timed("cost_summary", cost.cost_summary, phases)
    timed("until_useful", useful.until_useful, phases)
    timed("certainty", certainty.certainty, phases)
    timed("artefacts", lambda: artefacts.artefacts(artefacts.timings_of(phases)))
    timed("findings", findings.findings, facts.Facts(phases))
    frame_of: dict[str, Any] = {"phase_waterfall": phases[phases["run"] == runs[0].id], "provider_costs": comparison}
    frame_of["poll_timeline"] = runs[0]
    for name in charts.__all__:
        timed(f"chart {name}", draw, getattr(charts, name), frame_of.get(name, phases))
        plt.close("all")


def draw(chart: Callable[..., Any], frame: Any) -> None:
    """Draw the chart and render it to both formats."""
    figure = chart(frame).figure
    for kind in ("png", "svg"):
        figure.savefig(io.BytesIO(), format=kind)


def measure(count: int, passes: int, imports_s: float) -> list[Row]:
    """The rows of the table for ``count`` runs; the limit is on the slowest pass, the libraries' imports included."""
    runs, timed = sample(count), Stopwatch()
    for _ in range(passes):
        report(runs, timed)
    sums = [imports_s + sum(one) for one in zip(*timed.seconds.values(), strict=True)]
    return [
        Row("import of the libraries", "s", [imports_s]),
        *(Row(step, "s", seconds) for step, seconds in timed.seconds.items()),
        Row("sum", "s", sums, LIMIT_S if count == LIMIT_RUNS else None),
        Row("of which the processor, imports left out", "s", [timed.cpu_s / passes]),
    ]


def main() -> None:
    """Measure, print the tables, and exit with 1 when the limit is missed."""
    parser = argparse.ArgumentParser(description="Measure frames, summaries and charts of many runs.")
    parser.add_argument("--runs", type=int, nargs="+", default=[LIMIT_RUNS, 3000], help="how many runs (default 300 3000)")
    parser.add_argument("--passes", type=int, default=3, help="how often everything is done (default 3)")
    options = parser.parse_args()
    if min([*options.runs, options.passes]) < 1:
        parser.error("--runs and --passes need at least 1")
    os.environ["MPLBACKEND"] = "agg"
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    timed = Stopwatch()
    timed("imports", imports)
    missed = []
    for count in options.runs:
        rows = measure(count, options.passes, *timed.seconds["imports"])
        missed += show(f"Frames, summaries and charts of {count} runs", rows, len(cores))
    print(f"Missed: {'; '.join(missed)}." if missed else "All limits kept.")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
