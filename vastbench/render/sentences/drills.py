"""Drills in words: what was asked of them and kept, and whether an estimate holds against them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vastbench.analysis.acceptance import MET, NOT_TESTED, acceptance
from vastbench.analysis.durations import durations
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.record.acceptance import Criterion
from vastbench.record.formats import MISSING, counted, decimals, dollars, known, percent, seconds
from vastbench.render.wording import escaped

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.analysis.failover import Check


def acceptance_table(phases: pd.DataFrame, criteria: Sequence[Criterion]) -> str:
    """Each criterion as a row of a Markdown table, with its n, its interval and its verdict, and a sentence above."""
    rows = acceptance(phases, criteria).to_dict("records")
    lines = ["| asked | limit | n | measured | 95 % interval | verdict |", "|---|---|---|---|---|---|"]
    for row in rows:
        sign, show = ("≥" if row["unit"] == "share" else "≤"), _UNITS[row["unit"]]
        hoped = f" (hoped for: {show(row['stretch'])})" if known(row["stretch"]) else ""
        between = f"{_bound(row['low'], show)} to {_bound(row['high'], show)}" if known(row["low"]) else MISSING
        cells = [row["what"], f"{sign} {show(row['limit'])}{hoped}", str(row["n"]), _bound(row["value"], show), between]
        lines.append(f"| {' | '.join(cells)} | **{row['verdict']}** |")
    met = sum(row["verdict"] == MET for row in rows)
    tested = sum(row["verdict"] != NOT_TESTED for row in rows)
    return f"**{met} of the {tested} criteria** that could be tested are met.\n\n" + "\n".join(lines)


def _share(value: float) -> str:
    return percent(value, 0)


def _usd(value: float) -> str:
    return escaped(dollars(value))


_UNITS: dict[str, Callable[[float], str]] = {"s": seconds, "USD": _usd, "share": _share}


def _bound(value: float, show: Callable[[float], str]) -> str:
    return "never" if value == float("inf") else show(value) if known(value) else MISSING


def until_answer(phases: pd.DataFrame, span: str, done: str) -> str:
    """In bold, within how long half of the drills that began the phase ``span`` were ``done``, and how many never were."""
    found = durations(phases, span)
    if not len(found):
        return f"**No attempted run shows how long it takes until {done}.**"
    never, half = int((~found.ended).sum()), quantile_estimate(found, 0.5)
    begun = f"{counted(len(found), 'drill')}"
    if not known(half.value):
        return f"**In less than half of {begun} {done}**: in {never} it never came so far."
    between = f" (95 % interval {_bound(half.low, seconds)} to {_bound(half.high, seconds)})" if known(half.low) else ""
    rest = f" In {never} of {len(found)} it never came so far." if never else " In every one it came so far."
    return f"**In half of {begun} {done} within {seconds(half.value)}**{between}.{rest}"


def against_drills(check: Check) -> str:
    """Whether the drills are plausible draws of the estimate."""
    says = "Nothing speaks against it" if check.plausible else "**The drills contradict the estimate**"
    return (
        f"{check.inside} of {counted(check.n, 'drill')} lie in the estimate's 90 % interval, from {decimals(check.low, 1)} to "
        f"{seconds(check.high)}. {says} (p = {decimals(check.p, 2)}, two-sided binomial test)."
    )
