"""Whether as many runs as `vastbench plan` names reach the width that was asked for, over drawn campaigns."""

import argparse
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from coverage import Setting, drawn
from rich.console import Console
from rich.table import Table

from vastbench.analysis.plan import needed
from vastbench.analysis.stopping import interval, relative_width
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.record.stopping import StoppingRule

SOURCES, CAMPAIGNS, LEAST, GREATEST = 40, 60, 0.80, 0.95


@dataclass(frozen=True)
class Asked:
    """From how many runs is planned, the share of them that fails, and how narrow the interval is to be."""

    made: int
    failures: float
    width: float


@dataclass(frozen=True)
class Kept:
    """The median of the planned runs over all sources, with a fixed number and stopping by itself, and the share of fresh
    campaigns of the planned size that reached the width.
    """

    fixed: float
    reached: float
    stopping: float
    stopped: float


def kept(asked: Asked, sources: int, campaigns: int) -> Kept:
    """Plans from ``sources`` drawn studies, each tried on fresh ones, every run on a machine of its own."""
    rng = np.random.default_rng([asked.made, int(100 * asked.failures), int(100 * asked.width)])
    rule, found = StoppingRule(asked.width), []
    for seed in range(sources):
        fixed, stopping = needed(drawn(rng, Setting(asked.made, 1.0, asked.failures, False)), rule, 200, seed)
        if fixed[1] is None or stopping[1] is None:
            continue
        reached = [_narrow_once(drawn(rng, Setting(fixed[1], 1.0, asked.failures, False)), rule) for _ in range(campaigns)]
        stopped = [_narrow_by(drawn(rng, Setting(stopping[1], 1.0, asked.failures, False)), rule) for _ in range(campaigns)]
        found.append((fixed[1], np.mean(reached), stopping[1], np.mean(stopped)))
    runs, reached, looked, stopped = zip(*found, strict=True)
    return Kept(float(np.median(runs)), float(np.mean(reached)), float(np.median(looked)), float(np.mean(stopped)))


def _narrow_once(found: Durations, rule: StoppingRule) -> bool:
    estimate = quantile_estimate(found, rule.quantile)
    return bool(relative_width(estimate.low, estimate.high) <= rule.width)


def _narrow_by(found: Durations, rule: StoppingRule) -> bool:
    return any(
        relative_width(*interval(rule, Durations(found.lower[:n], found.upper[:n]))) <= rule.width
        for n in range(len(found) // 2, len(found) + 1, max(1, len(found) // 100))
    )


def main() -> int:
    """Print the table; 1 when the planned runs reach the width in fewer than 80 or more than 95 of 100 campaigns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=SOURCES, help="studies to plan from, per setting")
    parser.add_argument("--campaigns", type=int, default=CAMPAIGNS, help="fresh campaigns per plan")
    asked = parser.parse_args()
    settings = [Asked(made, failures, width) for made in (50, 300) for failures in (0.0, 0.1) for width in (0.15, 0.3)]
    with ProcessPoolExecutor(2) as pool:
        many = len(settings)
        found = list(pool.map(kept, settings, [asked.sources] * many, [asked.campaigns] * many))
    table = Table("planned from", "fail", "width", "fixed n", "reached", "stopping n", "stopped", "")
    inside = []
    for one, result in zip(settings, found, strict=True):
        inside.append(all(LEAST <= share <= GREATEST for share in (result.reached, result.stopped)))
        table.add_row(
            f"{one.made} runs",
            f"{one.failures:.0%}",
            f"{one.width:.0%}",
            f"{result.fixed:.0f}",
            f"{result.reached:.0%}",
            f"{result.stopping:.0f}",
            f"{result.stopped:.0%}",
            "inside" if inside[-1] else "OUTSIDE",
        )
    console = Console(width=None if sys.stdout.isatty() else 128, highlight=False)
    console.print(f"{asked.sources} sources, {asked.campaigns} campaigns each; Python {platform.python_version()}")
    console.print(f"load {' '.join(f'{x:.1f}' for x in os.getloadavg())}; {platform.platform()}")
    console.print(table)
    return 0 if all(inside) else 1


if __name__ == "__main__":
    sys.exit(main())
