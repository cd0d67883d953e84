"""What ``compare`` says over a grid of groups that differ in success and in speed, and how often drawn groups are misjudged."""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy.stats import fisher_exact, norm

from vastbench.analysis.comparison import Comparison, effects, success_of
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.intervals import proportion_interval
from vastbench.analysis.verdicts import OUTAGE, USUAL, Verdict
from vastbench.cli.compare import EXIT_CODES

RATES, RATIOS, SIZES, MACHINES = (0.0, 0.05, 0.5, 0.8, 0.92, 1.0), (0.5, 1.0, 1.05, 1.5), (10, 20, 150, 540), (0, 1, 3, 10)
MEDIAN_S, SIGMA = 80.0, 0.3
CAMPAIGNS, ALLOWED = 500, 0.05

Group = tuple[np.ndarray, Durations]
"""Of each run whether it passed, and how long it took."""


def seen(a: Group, b: Group) -> Comparison:
    """The comparison of two groups, as of runs that were loaded."""
    good_a, good_b = ((good, durations.machine) for good, durations in (a, b))
    none = pd.DataFrame()
    return Comparison(effects({"time to ready": (a[1], b[1])}), success_of(good_a, good_b), (), USUAL, none, none)


def group(good: np.ndarray, seconds: np.ndarray, machine: np.ndarray | None) -> Group:
    """Runs of which those that are not ``good`` never ended."""
    times = np.where(good, seconds, np.inf)
    return good, Durations(times, times, machine)


def even(rate: float, ratio: float, n: int, machines: int, first: int) -> Group:
    """As many runs as pass at ``rate``, at even steps of a log-normal, in turn on ``machines`` (0: each its own)."""
    order = np.random.default_rng(n).permutation(n)  # so that neither success nor speed goes with a machine
    seconds = ratio * MEDIAN_S * np.exp(SIGMA * norm.ppf((order + 0.5) / n))
    machine = np.arange(n) % machines + first if machines else None
    return group(np.random.default_rng(n + 1).permutation(n) < round(rate * n), seconds, machine)


@dataclass(frozen=True)
class Cell:
    """One pair of groups and what was said of it."""

    rates: tuple[float, float]
    n: int
    machines: int
    ratio: float
    verdicts: tuple[Verdict, Verdict, Verdict]
    fell: bool

    @property
    def code(self) -> int:
        """The exit code of the whole."""
        return EXIT_CODES[self.verdicts[0]]

    @property
    def forbidden(self) -> str:
        """What must not be said of it; empty if all is well."""
        if self.fell and (Verdict.EQUIVALENT in self.verdicts[:2] or self.code != EXIT_CODES[Verdict.WORSE]):
            return "B passes less often, and it is no regression"
        dead = any(not round(rate * self.n) for rate in self.rates) and self.n >= OUTAGE
        if dead and (Verdict.NOT_ENOUGH in self.verdicts or not self.code):
            return "a side failed entirely, and it is too few runs or a pass"
        return ""


def cell(rates: tuple[float, float], n: int, machines: int, ratio: float) -> Cell:
    """``fell``: by the interval or, where each run has its own machine, by Fisher's exact test, which is not ours."""
    a, b = even(rates[0], 1.0, n, machines, 0), even(rates[1], ratio, n, machines, 1000)
    found = seen(a, b)
    fell = found.success.high < 0
    if not machines:
        passed_a, passed_b = int(a[0].sum()), int(b[0].sum())
        table = [[passed_b, n - passed_b], [passed_a, n - passed_a]]
        fell = fell or fisher_exact(table, alternative="less").pvalue <= USUAL.level / 2
    return Cell(rates, n, machines, ratio, (found.verdict, found.success.verdict, found.speed), bool(fell))


def grid(
    rates: tuple[float, ...], sizes: tuple[int, ...], machines: tuple[int, ...]
) -> Iterator[tuple[tuple[float, float], int, int, float]]:
    """Every cell."""
    for n, many, of_a, of_b, ratio in product(sizes, machines, rates, rates, RATIOS):
        yield (of_a, of_b), n, many, ratio


@dataclass(frozen=True)
class Drawn:
    """Campaigns of ``n`` runs on ``machines`` machines, a part ``icc`` of which they share, of which a part fails."""

    n: int
    machines: int
    icc: float
    failures: float


def campaign(rng: np.random.Generator, setting: Drawn, failures: float, ratio: float, first: int) -> Group:
    """A group whose machines differ in success (beta-binomial) and in speed (log-normal)."""
    machine = np.arange(setting.n) % setting.machines
    rates = np.full(setting.machines, 1 - failures)
    if setting.icc and failures:
        strength = 1 / setting.icc - 1
        rates = rng.beta((1 - failures) * strength, failures * strength, setting.machines)
    own, common = rng.standard_normal(setting.n), rng.standard_normal(setting.machines)[machine]
    noise = np.sqrt(setting.icc) * common + np.sqrt(1 - setting.icc) * own
    return group(rng.random(setting.n) < rates[machine], ratio * MEDIAN_S * np.exp(SIGMA * noise), machine + first)


def misjudged(setting: Drawn, campaigns: int) -> dict[str, float]:
    """The shares of wrong verdicts: a difference of equal groups, and *equivalent* of B at the margin; and of right ones."""
    rng = np.random.default_rng([setting.n, setting.machines, int(100 * setting.icc), int(100 * setting.failures)])
    far = USUAL.success_margin
    equal, at_margin, apart = (
        [
            seen(campaign(rng, setting, setting.failures, 1.0, 0), campaign(rng, setting, setting.failures + more, ratio, 1000))
            for _ in range(campaigns)
        ]
        for more, ratio in ((0.0, 1.0), (far, 1 + USUAL.margin), (0.3, 1.5))
    )
    count = {
        "success: worse": sum(one.success.verdict is Verdict.WORSE for one in equal),
        "better": sum(one.success.verdict is Verdict.BETTER for one in equal),
        "equivalent": sum(one.success.verdict is Verdict.EQUIVALENT for one in at_margin),
        "speed: slower": sum(one.speed is Verdict.SLOWER for one in equal),
        "faster": sum(one.speed is Verdict.FASTER for one in equal),
        "equivalent ": sum(one.speed is Verdict.EQUIVALENT for one in at_margin),
        "found: success": sum(one.success.verdict is Verdict.WORSE for one in apart),
        "speed": sum(one.speed is Verdict.SLOWER for one in apart),
    }
    return {name: number / campaigns for name, number in count.items()}


def main() -> int:
    """Print both tables; 1 when a cell is forbidden or an error is surely above 5 %."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=CAMPAIGNS, help="drawn pairs per setting; 0 for the grid alone")
    parser.add_argument("--quick", action="store_true", help="a part of the grid, nothing drawn")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 128, highlight=False)
    axes = ((0.0, 0.05, 0.5, 1.0), (20,), (3,)) if asked.quick else (RATES, SIZES, MACHINES)
    campaigns = 0 if asked.quick else asked.campaigns
    with ProcessPoolExecutor(2) as pool:
        cells = list(pool.map(cell, *zip(*grid(*axes), strict=True), chunksize=16))
        settings = (
            [Drawn(*one) for one in product((30, 150), (3, 10, 30), (0.0, 0.3, 0.6), (0.03, 0.1, 0.3))] if campaigns else []
        )
        errors = list(pool.map(misjudged, settings, [campaigns] * len(settings)))
    table = Table("n", "machines", "A passes", "B passes", *(f"B ÷ A {ratio:g}" for ratio in RATIOS))
    for start in range(0, len(cells), len(RATIOS)):
        row = cells[start : start + len(RATIOS)]
        said = [f"{one.verdicts[0]} {one.code}{' FORBIDDEN' if one.forbidden else ''}" for one in row]
        table.add_row(str(row[0].n), str(row[0].machines or "own"), *(f"{rate:.0%}" for rate in row[0].rates), *said)
    console.print(table)
    wrong = [one for one in cells if one.forbidden]
    console.print(f"{len(cells)} cells, {len(wrong)} forbidden." + "".join(f"\n{one}: {one.forbidden}" for one in wrong[:10]))
    if not errors:
        return 1 if wrong else 0
    table = Table("n", "machines", "ICC", "fail", *errors[0])
    for setting, shares in zip(settings, errors, strict=True):
        words = (setting.n, setting.machines, setting.icc, f"{setting.failures:.0%}")
        table.add_row(*map(str, words), *(f"{share:.1%}" for share in shares.values()))
    console.print(table)
    least = proportion_interval(round(ALLOWED * campaigns), campaigns)[1]
    worst = max(share for shares in errors for name, share in list(shares.items())[:6])
    console.print(
        f"The greatest error of a verdict: {worst:.1%}; allowed {ALLOWED:.0%}, with {campaigns} seen up to {least:.1%}."
    )
    return 1 if wrong or worst > least else 0


if __name__ == "__main__":
    sys.exit(main())
