"""Numbers and foreign strings as Markdown that reads the same in a notebook, a report and a terminal.

Amounts carry their unit behind them ("0.0046 USD", "72.8 s"). A missing value is –, never 0.
"""

from __future__ import annotations

import math
import re
from typing import TypeGuard

from vastbench.errors import clean

MISSING = "–"
NO_FORMULA = {ord(sign): f"<span>&#{ord(sign)};</span>" for sign in "$\\"}
"""For ``str.translate``, in HTML and in Markdown: JupyterLab and nbconvert take what stands between two dollars, ``\\(`` and
``\\)`` or ``\\[`` and ``\\]`` for a formula, also where the signs came from ``&#36;`` or an escape. Signs in elements of
their own do not pair.
"""
_MARKDOWN = {ord(sign): f"\\{sign}" for sign in "`*_[]<>|~&#"} | NO_FORMULA
SMALLEST_USD = 0.0001


def escaped(text: object) -> str:
    """A foreign string (a GPU's name, a region, a cause) that Markdown shows as it is, in a sentence or in a table."""
    return clean(text).translate(_MARKDOWN)


def without_spans(markdown: str) -> str:
    """Our own Markdown for a page where nothing looks for formulas: escapes in place of elements."""
    return re.sub(r"<span>&#(\d+);</span>", lambda sign: f"\\{chr(int(sign[1]))}", markdown)


def plain(markdown: str) -> str:
    """The text of our own Markdown sentences for a terminal: without emphasis and escapes."""
    bare = re.sub(r"(?<!\\)(\*\*|`)", "", without_spans(markdown))
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
