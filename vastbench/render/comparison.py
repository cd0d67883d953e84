"""A comparison in words: the verdict, its effect with its interval, success beside speed, what makes it unfair."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vastbench.analysis.comparison import Comparison, Verdict
from vastbench.record.formats import MISSING, decimals, given, percent, seconds
from vastbench.render.blocks import Block, Table, show_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd


def comparison_blocks(found: Comparison) -> list[Block]:
    """What is said of a comparison; with several quantities, a table of all."""
    first, sure = found.effects.iloc[0], given(found.confidence)
    groups = "\n".join(_group(letter, name, first) for letter, name in zip("ab", found.names, strict=True))
    said = [f"{_headline(found)}: {_ratio_words(first, sure)}.", f"{first['why'][0].upper()}{first['why'][1:]}."]
    if not math.isnan(first["a_first"]):
        said.append(
            f"The chance that a run of A takes less time than one of B: {percent(first['a_first'])}"
            f"{_range(first['a_first_low'], first['a_first_high'], percent)}."
        )
    said += ["Medians are how long the user waited; the ratio is of the durations themselves, without what polling adds."]
    said += [_test_sentence(first, len(found.effects)), _success_sentence(found)]
    blocks: list[Block] = [groups, "\n  ".join(said)]
    if found.cautions:
        blocks.append("\n  - ".join(["Mind:", *found.cautions]))
    return [*blocks, _table(found, sure)] if len(found.effects) > 1 else blocks


def _group(letter: str, name: str, first: pd.Series) -> str:
    unit = f"median {seconds(first[f'median_{letter}_s'])}"
    ended = f"{first[f'ended_{letter}']} of {first[f'n_{letter}']} runs got there"
    return f"{letter.upper()}: {name}{': ' if name else ''}{first['quantity']} {unit}, {ended}"


def _headline(found: Comparison) -> str:
    said = {
        Verdict.SLOWER: "B is slower",
        Verdict.FASTER: "B is faster",
        Verdict.EQUIVALENT: f"A and B are equivalent within {given(found.margin)}",
        Verdict.NOT_ENOUGH: "Not enough runs to tell",
    }[found.verdict]
    if not found.success.worse:
        return said
    return f"{said}, {'and' if found.verdict is Verdict.SLOWER else 'but'} B passes less often"


def _ratio_words(row: pd.Series, sure: str) -> str:
    between = _range(row["ratio_low"], row["ratio_high"], _times, sure)
    if not math.isnan(row["ratio"]):
        return f"B takes {_times(row['ratio'])} times as long as A{between}"
    return f"there is no ratio of the medians, as too few runs got there{between}"


def _range(low: float, high: float, text: Callable[[float], str], sure: str = "") -> str:
    """`` (95 % interval 1.2 to 1.5)``; with an open end `` (95 % interval above 1.2)``; that there is none."""
    words = f"{sure} interval " if sure else ""
    if math.isnan(low):
        return " (no interval)"
    if math.isinf(high):
        return f" ({words}above {text(low)})"
    return f" ({words}{text(low)} to {text(high)})"


def _times(ratio: float) -> str:
    return MISSING if math.isnan(ratio) else f"{ratio:.3g}"


def _test_sentence(row: pd.Series, rows: int) -> str:
    if math.isnan(row["p_value"]):
        return f"Test: {row['test']}."
    adjusted = "" if rows == 1 else f", adjusted by Holm for {rows} tests {_p(row['p_adjusted'])}"
    return f"Test: {row['test']}, p {_p(row['p_value'])}{adjusted}."


def _p(value: float) -> str:
    return MISSING if math.isnan(value) else "< 0.0001" if value < 0.0001 else f"= {value:.2g}"


def _success_sentence(found: Comparison) -> str:
    seen = found.success
    counts = f"Passed: {seen.passed_a} of {seen.n_a} in A, {seen.passed_b} of {seen.n_b} in B"
    if math.isnan(seen.difference):
        return f"{counts}."
    points = f"{100 * seen.difference:+.1f} points" + (
        " (no interval)" if math.isnan(seen.low) else f" ({100 * seen.low:+.1f} to {100 * seen.high:+.1f})"
    )
    sure = " B passes less often." if seen.worse else " B passes more often." if seen.better else ""
    return f"{counts}: {points}.{sure}"


def _table(found: Comparison, sure: str) -> Table:
    rows = []
    for row in found.effects.to_dict("records"):
        between = _range(row["ratio_low"], row["ratio_high"], _times).strip(" ()").replace("no interval", MISSING)
        medians = [decimals(row[f"median_{letter}_s"]) for letter in "ab"]
        counts = [f"{row[f'ended_{letter}']}/{row[f'n_{letter}']}" for letter in "ab"]
        rows.append(
            [
                row["quantity"],
                row["verdict"],
                *counts,
                *medians,
                _times(row["ratio"]),
                between,
                percent(row["a_first"]),
                _p(row["p_adjusted"]).removeprefix("= "),
            ]
        )
    head = ["what", "B is", "ended A", "ended B", "median A s", "median B s", "B ÷ A", f"{sure} interval", "P(A<B)", "p (Holm)"]
    return Table(head, rows, numbers=8)


show_blocks(Comparison, comparison_blocks)
