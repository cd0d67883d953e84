"""How numbers are written for people, decided once: seconds, dollars, shares, ratios, counts and intervals.

In sentences amounts carry their unit behind them ("0.0046 USD", "72.8 s"); a dollar sign stands in terminals and charts only,
as notebooks take two of them for a formula. A missing value is –, never 0.
"""

from __future__ import annotations

import math
from typing import TypeGuard

MISSING = "–"
SMALLEST_USD = 0.0001
EXACT_S = 0.005
"""Bounds narrower than this many seconds are not shown: they are our own doing, known exactly."""


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number at all."""
    return value is not None and math.isfinite(value)


def decimals(value: float | None, digits: int = 2) -> str:
    """``72.77`` for a table whose heading has the unit, or – for a missing value."""
    return f"{value:.{digits}f}" if known(value) else MISSING


def seconds(value: float | None) -> str:
    """``72.8 s``, or – for a missing value."""
    return f"{value:.1f} s" if known(value) else MISSING


def bounds(low: float | None, high: float | None) -> str:
    """Seconds between bounds: ``62.50 … 72.77``, ``> 600.00`` when the end was never seen, nothing for exact values."""
    if low is None or (high is not None and high - low < EXACT_S):
        return ""
    return f"> {decimals(low)}" if high is None else f"{decimals(low)} … {decimals(high)}"


def usd(value: float | None) -> str:
    """``0.0046 USD``; ``less than 0.0001 USD`` for what would be rounded to nothing; – for a missing value."""
    if known(value) and 0 < value < SMALLEST_USD:
        return f"less than {SMALLEST_USD} USD"
    return f"{value:.4f} USD" if known(value) else MISSING


def dollars(value: float | None) -> str:
    """``$0.0046`` for a terminal, ``< $0.0001`` for what would be rounded to nothing, or – for a missing value."""
    if known(value) and 0 < value < SMALLEST_USD:
        return f"< ${SMALLEST_USD}"
    return f"${value:.4f}" if known(value) else MISSING


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1 as ``73.5 %``, or – for a missing value."""
    return f"{100 * share:z.{digits}f} %" if known(share) else MISSING


def percents(low: float, high: float) -> str:
    """The ends of an interval of a share of 1: ``60.1–72.8 %``."""
    return f"{percent(low)[:-2]}–{percent(high)}"


def of_share(low: float | None, high: float | None, *, n: int) -> str:
    """``95 % interval 60.1–72.8 %``, or that so many runs on one machine are too few for one: more machines always have one."""
    return f"95 % interval {percents(low, high)}" if known(low) and known(high) else no_interval(n, 1)


def given(share: float) -> str:
    """A share that somebody asked for, to the digit: ``95 %``, ``7.5 %``."""
    return f"{100 * share:g} %"


def times(ratio: float | None) -> str:
    """``4.2 times``, or – for a missing value."""
    return f"{ratio:.1f} times" if known(ratio) else MISSING


def short(value: float) -> str:
    """Three significant digits without a power of ten: ``0.0046``, ``12.4``, ``350``."""
    import numpy as np

    return np.format_float_positional(value, precision=3, fractional=False, trim="-") if value < 1000 else f"{value:.0f}"


def amount(value: float | None, unit: str) -> str:
    """A quantity in its unit: ``72.8 s``, ``$0.0046``, a share of 1 as ``74 %``, ``12.0 MB/s``; – for a missing value.

    >>> amount(0.5, "share"), amount(12.34, "tokens/s"), amount(3, "")
    ('50 %', '12.3 tokens/s', '3.0')
    """
    if unit in ("USD", "share"):
        return dollars(value) if unit == "USD" else percent(value, 0)
    return f"{decimals(value, 1)} {unit}".rstrip() if known(value) else MISSING


PLURALS = {"criterion": "criteria", "is": "are", "was": "were", "has": "have", "does": "do"}
"""Words of which more than one do not end in s, or no longer do."""


def counted(number: int, noun: str, does: str = "") -> str:
    """``1 run``, ``12 runs``; with what they do, in the singular: ``1 lease is open``, ``2 leases are open``.

    The only place where words are put into the plural.

    >>> counted(1, "lease", "is open"), counted(0, "study"), counted(2, "lease", "is open"), counted(3, "run", "counts")
    ('1 lease is open', '0 studies', '2 leases are open', '3 runs count')
    """
    verb, _, rest = does.partition(" ")
    if number != 1:
        noun = PLURALS.get(noun) or (f"{noun[:-1]}ies" if noun.endswith("dy") else f"{noun}s")
        verb = PLURALS.get(verb) or verb.removesuffix("s")
    return " ".join(filter(None, (f"{number}", noun, verb, rest)))


def no_interval(n: int, machines: int | None = None) -> str:
    """Why a median has no interval: ``no 95 % interval: 102 runs on 4 machines are too few``."""
    on = "" if machines is None or machines >= n else f" on {counted(machines, 'machine')}"
    return f"no 95 % interval: {counted(n, 'run')}{on} {'is' if n == 1 else 'are'} too few"


def within(low: float, high: float, unit: str, *, n: int, digits: int = 1, machines: int | None = None) -> str:
    """``n = 12; 95 % interval 70.1–75.2 s``, or that so many runs, on so many ``machines`` where known, are too few for one."""
    if not (known(low) and known(high)):
        return no_interval(n, machines)
    return f"n = {n}; 95 % interval {low:.{digits}f}–{high:.{digits}f} {unit}"


def reach(low: float, high: float, *, n: int, machines: int | None = None) -> str:
    """``95 % interval 70.1–75.2 s``, ``95 % interval above 70.1 s`` where nothing bounds it, or that there is none, and why."""
    if known(low) and not known(high):
        return f"95 % interval above {seconds(low)}"
    return within(low, high, "s", n=n, machines=machines).removeprefix(f"n = {n}; ")


def listed(parts: list[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``; with another word before the ``last`` one."""
    return f" {last} ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
