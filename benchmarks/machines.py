"""Whether a slow machine is told from an unlucky one: how many boots it takes on drawn machines, and how often it is wrong."""

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from vastbench.analysis.machines import shrunk
from vastbench.analysis.survival.intervals import proportion_interval

STUDIES, MACHINES, SPREAD = 200, 20, 0.27
"""Drawn studies per setting, machines in each, and the standard deviation of the logarithm of a boot time, as in the default
profile."""

BOOTS, SHARES, ALLOWED = (2, 4, 6, 8, 12), (0.0, 0.3, 0.6), 0.05
"""Boots on each machine, and the part of the log-variance that is the machine's."""


@dataclass(frozen=True)
class Told:
    """Of all machines: the share called slow or fast, how many so wrongly; of those that are slower or faster than a usual one
    by at least a standard deviation of machines, the share decided; and how often the ratio's interval, if any, held the truth.
    """

    called: float
    wrong: int
    of: int
    decided: float
    held: float


def told(boots: int, share: float, studies: int) -> Told:
    """What the verdicts on ``studies`` times ``MACHINES`` machines were worth."""
    rng = np.random.default_rng([boots, int(100 * share)])
    between, within = SPREAD * np.sqrt(share), SPREAD * np.sqrt(1 - share)
    machine = np.repeat(np.arange(MACHINES), boots)
    rows = []
    for _ in range(studies):
        effect = between * rng.standard_normal(MACHINES)
        found = shrunk(4.36 + effect[machine] + within * rng.standard_normal(len(machine)), machine)
        _, low, high = (np.log([part.get(one, np.nan) for one in range(MACHINES)]) for part in found)
        rows.append((effect, low > 0, high < 0, (low <= effect) & (effect <= high), ~np.isnan(low)))
    effect, slow, fast, held, given = (np.concatenate(part) for part in zip(*rows, strict=True))
    wrong = (slow & (effect <= 0)) | (fast & (effect >= 0))
    clear = np.abs(effect) >= between if share else np.zeros(len(effect), dtype=bool)
    decided = float((slow | fast)[clear].mean()) if clear.any() else float("nan")
    return Told(float((slow | fast).mean()), int(wrong.sum()), len(effect), decided, float(held[given].mean()))


def main() -> int:
    """Print the table; 1 when more verdicts are wrong than 5 % by more than the draws' own error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES, help="drawn studies per setting")
    studies = parser.parse_args().studies
    table = Table(
        "machine's share", "boots each", "called slow or fast", "wrong", "decided of ±1 sd and more", "interval holds"
    )
    missed = False
    for share in SHARES:
        for boots in BOOTS:
            found = told(boots, share, studies)
            missed = missed or proportion_interval(found.wrong, found.of)[0] > ALLOWED
            decided = "–" if np.isnan(found.decided) else f"{found.decided:.0%}"
            wrong = f"{found.wrong / found.of:.1%}"
            table.add_row(f"{share:.0%}", f"{boots}", f"{found.called:.1%}", wrong, decided, f"{found.held:.1%}")
    Console(width=None if sys.stdout.isatty() else 128, highlight=False).print(table)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
