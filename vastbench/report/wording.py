"""Numbers and foreign strings as Markdown that reads the same in a notebook, a report and a terminal.

Amounts carry their unit behind them ("0.0046 USD", "72.8 s"): two dollar signs in a paragraph of a notebook would be taken
for mathematics. A missing value is –, never 0.
"""

from __future__ import annotations

import math
import re
from typing import TypeGuard

from vastbench.report.text import clean

MISSING = "–"
_SPECIAL = re.compile(r"([\\`*_\[\]<>|$~&#])")
SMALLEST_USD = 0.0001


def escaped(text: object) -> str:
    """A foreign string (a GPU's name, a region, a cause) that Markdown shows as it is, in a sentence or in a table."""
    return _SPECIAL.sub(r"\\\1", clean(text))


def plain(markdown: str) -> str:
    """The text of our own Markdown sentences for a terminal: without emphasis and escapes."""
    bare = re.sub(r"(?<!\\)(\*\*|`)", "", markdown)
    return re.sub(r"\\([\\`*_\[\]<>|$~&#])", r"\1", bare)


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number at all."""
    return value is not None and math.isfinite(value)


def seconds(value: float | None) -> str:
    """``72.8 s``, or – for a missing value."""
    return f"{value:.1f} s" if value is not None and math.isfinite(value) else MISSING


def usd(value: float | None) -> str:
    """``0.0046 USD``; ``less than 0.0001 USD`` for what would be rounded to nothing; – for a missing value."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"less than {SMALLEST_USD} USD" if 0 < value < SMALLEST_USD else f"{value:.4f} USD"


def percent(share: float | None) -> str:
    """A share of 1 as ``73.5 %``, or – for a missing value."""
    return f"{round(100 * share, 1) + 0.0:.1f} %" if share is not None and math.isfinite(share) else MISSING


def times(ratio: float | None) -> str:
    """``4.2 times``, or – for a missing value."""
    return f"{ratio:.1f} times" if ratio is not None and math.isfinite(ratio) else MISSING


def counted(number: int, noun: str) -> str:
    """``1 run``, ``12 runs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def within(low: float, high: float, unit: str, *, n: int, digits: int = 1) -> str:
    """``n = 12; 95 % interval 70.1–75.2 s``, or that this n allows none."""
    if not (known(low) and known(high)):
        return f"no 95 % interval at n = {n}"
    return f"n = {n}; 95 % interval {low:.{digits}f}–{high:.{digits}f} {unit}"


def reach(low: float, high: float, *, n: int) -> str:
    """``95 % interval 70.1–75.2 s``, ``95 % interval above 70.1 s`` where nothing bounds it, or that this n allows none."""
    if known(low) and not known(high):
        return f"95 % interval above {seconds(low)}"
    return within(low, high, "s", n=n).removeprefix(f"n = {n}; ")


def listed(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
