"""Findings and their figures in words: each figure is formatted by the unit that its name carries."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING

from vastbench.analysis.attempts import attempted
from vastbench.analysis.comparison import Comparison
from vastbench.analysis.facts import Facts
from vastbench.analysis.findings import DOUBTS, Finding, Kind, findings
from vastbench.record.formats import MISSING, counted, decimals, known, percent, seconds, times, usd
from vastbench.render.sentences.basis import NO_RUN, failures_by_cause
from vastbench.render.wording import escaped

if TYPE_CHECKING:
    import pandas as pd


def doubts(phases: pd.DataFrame | Comparison) -> str:
    """What could be wrong with the figures of the tidy frame ``phases``, with numbers, as a Markdown list.

    Of a comparison (:func:`vastbench.compare`), what makes it unfair. Raises UsageError for runs of several kinds that were not
    pooled.

    Examples
    --------
    >>> print(vastbench.doubts(vastbench.load("default-300")).splitlines()[0])
    - EMULATED: 300 of 300 runs, at 10 × real time. They show the method and the emulator's model.
    """
    if isinstance(phases, Comparison):
        unfair = "\n".join(f"- {escaped(one)}" for one in phases.cautions)
        return unfair or "Nothing that the data know of makes the comparison unfair."
    if attempted(phases).empty:
        return NO_RUN if phases.empty else failures_by_cause(phases)
    found = [one for one in findings(Facts(phases), DOUBTS) if one.kind is Kind.DOUBT]
    return "\n".join(f"- {escaped(spoken(one))}" for one in found) or "The data themselves raise no doubt."


def spoken(finding: Finding) -> str:
    """The finding's sentence with its figures in it; foreign words in it are as they came."""
    parts = Formatter().parse(finding.text)
    return "".join(text + (_said(name, finding.figures[name], noun) if name else "") for text, name, noun, _ in parts)


def _said(name: str, value: float | int | str, noun: str | None) -> str:
    return counted(int(value), noun) if noun else worded(name, value)


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
