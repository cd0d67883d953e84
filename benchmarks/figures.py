"""The table that a benchmark prints: its figures, their limits, the share of each limit that was used, the verdicts."""

import os
import platform
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass
class Row:
    """One line of the table: ``figures`` in ``unit``, of which ``judged`` (median, max) must not exceed ``limit``."""

    what: str
    unit: str
    figures: list[float]
    limit: float | None = None
    judged: str = "max"

    @property
    def missed(self) -> bool:
        """Whether the limit is exceeded; a row without figures has missed it."""
        return self.limit is not None and not (self.figures and self._value() <= self.limit)

    def cells(self) -> list[str]:
        """The texts of the table's columns."""
        ordered = sorted(self.figures)
        verdict = "" if self.limit is None else "FAIL" if self.missed else "pass"
        if not ordered:
            return [self.what, "0", "", "", "", self._limit(), "", verdict]
        p95 = ordered[round(0.95 * (len(ordered) - 1))]
        figures = (statistics.median(ordered), p95, ordered[-1])
        ratio = f"{self._value() / self.limit:.2f}" if self.limit else ""
        return [self.what, str(len(ordered)), *(f"{x:.4g}" for x in figures), self._limit(), ratio, verdict]

    def _value(self) -> float:
        return statistics.median(self.figures) if self.judged == "median" else max(self.figures)

    def _limit(self) -> str:
        return self.unit if self.limit is None else f"{self.judged} ≤ {self.limit:g} {self.unit}"


def show(title: str, rows: Iterable[Row], cores: int) -> list[str]:
    """Print the table under its title and what it was measured on; the names of the rows that missed their limit."""
    rows = list(rows)
    table = Table("what", *("n", "median", "p95", "max"), "limit or unit", "of limit", "")
    for row in rows:
        table.add_row(*row.cells())
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    console = Console(width=None if sys.stdout.isatty() else 128, highlight=False)
    console.print(f"{title}; {cores} cores (load {load}), Python {platform.python_version()}, {platform.platform()}")
    console.print(table)
    return [row.what for row in rows if row.missed]
