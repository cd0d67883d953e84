"""Figures in words: each is formatted by the unit that its name carries."""

from __future__ import annotations

from vastbench.analysis.findings import Finding
from vastbench.record.formats import MISSING, decimals, known, percent, seconds, times, usd


def spoken(finding: Finding) -> str:
    """The finding's sentence with its figures in it; foreign words in it are as they came."""
    return finding.text.format(**{name: worded(name, value) for name, value in finding.figures.items()})


def worded(name: str, value: float | int | str | None) -> str:
    """``value`` with its unit, which the words of ``name`` say."""
    if isinstance(value, str):
        return value
    if not known(value):
        return MISSING
    number, words = float(value), set(name.split("_"))
    if name.endswith("_s"):
        return seconds(number)
    if "usd" in words:
        return usd(number)
    if words & {"share", "rate"}:
        return percent(number)
    if "ratio" in words:
        return times(number).removesuffix(" times")
    if isinstance(value, int):
        return f"{value}"
    return f"{number:g}"


def cell(name: str, value: float | int | str | None) -> str:
    """``value`` for a table whose heading has the unit: two decimals for seconds and ratios, no currency with amounts."""
    if isinstance(value, str):
        return value or MISSING
    if name.endswith("_s") or name == "seconds" or "ratio" in name.split("_"):
        return decimals(value)
    return worded(name, value).removesuffix(" USD")
