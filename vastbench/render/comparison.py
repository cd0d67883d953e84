"""A comparison in words: the verdict, success and speed each with effect, interval and verdict, what makes it unfair."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vastbench.analysis.comparison import Comparison
from vastbench.analysis.verdicts import GAINS, LOSSES, Verdict
from vastbench.record.formats import MISSING, decimals, given, percent, seconds
from vastbench.render.blocks import Block, Table, show_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

SUCCESS = {
    Verdict.WORSE: "B passes less often",
    Verdict.BETTER: "B passes more often",
    Verdict.EQUIVALENT: "A and B pass equally often within {}",
}
SPEED = {
    Verdict.SLOWER: "B is slower",
    Verdict.FASTER: "B is faster",
    Verdict.EQUIVALENT: "A and B are equally fast within {}",
}
OPEN = "not enough runs to tell"
"""What is said of each endpoint; of one that never passed, the verdict itself."""


def comparison_blocks(found: Comparison) -> list[Block]:
    """What is said of a comparison; with several quantities, a table of all."""
    first, sure = found.effects.iloc[0], given(found.criteria.confidence)
    groups = "\n".join(_group(letter, name, first) for letter, name in zip("ab", found.names, strict=True))
    said = [f"{_headline(found)}.", _success_sentence(found, sure)]
    said.append(f"Speed: {_speed(found)}. {_ratio_words(first, sure)}. {_upper(first['why'])}.")
    if not math.isnan(first["a_first"]):
        said.append(
            f"The chance that a run of A takes less time than one of B: {percent(first['a_first'])}"
            f"{_range(first['a_first_low'], first['a_first_high'], percent)}."
        )
    said += ["Medians are how long the user waited; the ratio is of the durations themselves, without what polling adds."]
    said += [_test_sentence(first)]
    blocks: list[Block] = [groups, "\n  ".join(said)]
    if found.cautions:
        blocks.append("\n  - ".join(["Mind:", *found.cautions]))
    return [*blocks, *_all(found, sure)] if len(found.effects) > 1 else blocks


def _group(letter: str, name: str, first: pd.Series) -> str:
    unit = f"median {seconds(first[f'median_{letter}_s'])}"
    ended = f"{first[f'ended_{letter}']} of {first[f'n_{letter}']} runs got there"
    return f"{letter.upper()}: {name}{': ' if name else ''}{first['quantity']} {unit}, {ended}"


def _headline(found: Comparison) -> str:
    """The verdict on the whole, and what it comes from."""
    words = {found.success.verdict: _success(found), found.speed: _speed(found)}
    losses, gains = (" and ".join(words[one].removeprefix("B ") for one in words if one in kind) for kind in (LOSSES, GAINS))
    match found.verdict:
        case Verdict.WORSE if Verdict.B_NEVER in words:
            return "B is worse: it never passed"
        case Verdict.WORSE:
            return f"B is worse: it {losses}" + (f", although it {gains}" if gains else "")
        case Verdict.BETTER:
            return f"B is better: it {gains}"
        case Verdict.EQUIVALENT:
            return f"A and B are equivalent within {_points(found)} of success and {given(found.criteria.margin)} of speed"
        case Verdict.NOT_ENOUGH:
            seen = "passed less often" if Verdict.FASTER in words else "took longer"
            return "Not enough runs to tell" + (f": B {gains}, but it {seen}, which is not proved" if gains else "")
    return str(found.verdict)


def _success(found: Comparison) -> str:
    seen = found.success.verdict
    return OPEN if seen is Verdict.NOT_ENOUGH else SUCCESS.get(seen, str(seen)).format(_points(found))


def _speed(found: Comparison) -> str:
    seen = found.speed
    return OPEN if seen is Verdict.NOT_ENOUGH else SPEED.get(seen, str(seen)).format(given(found.criteria.margin))


def _points(found: Comparison) -> str:
    return f"{100 * found.criteria.success_margin:g} points"


def _upper(sentence: str) -> str:
    return f"{sentence[0].upper()}{sentence[1:]}"


def _ratio_words(row: pd.Series, sure: str) -> str:
    between = _range(row["ratio_low"], row["ratio_high"], _times, sure)
    if not math.isnan(row["ratio"]):
        return f"B takes {_times(row['ratio'])} times as long as A{between}"
    return f"There is no ratio of the medians, as too few runs got there{between}"


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


def _test_sentence(row: pd.Series) -> str:
    return f"Test: {row['test']}." if math.isnan(row["p_value"]) else f"Test: {row['test']}, p {_p(row['p_value'])}."


def _p(value: float) -> str:
    return MISSING if math.isnan(value) else "< 0.0001" if value < 0.0001 else f"= {value:.2g}"


def _success_sentence(found: Comparison, sure: str) -> str:
    seen = found.success
    points = "" if math.isnan(seen.difference) else f": {100 * seen.difference:+z.1f} points"
    between = "" if not points else _range(seen.low, seen.high, lambda end: f"{100 * end:+z.1f}", sure)
    counts = f"{seen.passed_a} of {seen.n_a} passed in A, {seen.passed_b} of {seen.n_b} in B"
    return f"Success: {_success(found)}. {counts}{points}{between}. {_upper(seen.why)}."


def _all(found: Comparison, sure: str) -> list[Block]:
    """The table of all quantities, and by what the secondary ones are judged."""
    many = len(found.effects) - 1
    said = f"{_upper(found.effects['quantity'].iloc[0])} is primary. The other rows are secondary"
    if many > 1:
        said += (
            f", and judged together: p-values are adjusted by Holm for {many} tests, "
            f"equivalence takes an interval at {given(found.criteria.equivalence(many))}"
        )
    return [f"{said}.", _table(found, sure)]


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
