"""Drills in words: what they found out, what was asked of them and kept, and whether an estimate holds against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vastbench.analysis.acceptance import MET, NOT_TESTED, acceptance
from vastbench.analysis.durations import durations
from vastbench.analysis.facts import EMULATED
from vastbench.analysis.measures import FACTOR, measured
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.record.acceptance import Criterion, Measure, Question
from vastbench.record.formats import MISSING, amount, counted, decimals, known, no_interval, seconds
from vastbench.render.wording import escaped

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.analysis.failover import Check
    from vastbench.analysis.measures import Line


SHOWN = 0.05
"""Seconds within which one is known that a table in tenths shows."""


def acceptance_table(phases: pd.DataFrame, criteria: Sequence[Criterion]) -> str:
    """Each criterion as a row of a Markdown table, with its n, its interval and its verdict, and a sentence above."""
    rows = rows_of(acceptance(phases, criteria))
    lines = ["| criterion | limit | n | measured | 95 % interval | verdict |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [row["what"], limit_of(row), f"{row['n']}", amount_of(row, "value"), interval_of(row)]
        lines.append(f"| {' | '.join(map(escaped, cells))} | **{row['verdict']}** |")
    return f"{criteria_met(rows)}\n\n" + "\n".join(lines)


def measured_table(phases: pd.DataFrame, measures: Sequence[Measure]) -> str:
    """Each quantity that a run shows as a row of a Markdown table, with its n, its interval and where the runs lie."""
    lines = ["| what | n | median | 95 % interval | nine in ten by | least to most |", "|---|---|---|---|---|---|"]
    for row in rows_of(measured(phases, measures)):
        cells = [row["what"], n_of(row), amount_of(row, "value"), interval_of(row), amount_of(row, "tail"), range_of(row)]
        lines += [f"| {' | '.join(map(escaped, cells))} |"] if row["n"] else []
    return "\n".join(lines) if lines[2:] else "No run in these data shows any of these."


def quantity(phases: pd.DataFrame, measure: Measure) -> str:
    """The median of a quantity in bold, with its interval, and how many runs never came to its end."""
    (row,) = rows_of(measured(phases, [measure]))
    what = measure.what[:1].upper() + measure.what[1:]
    if not row["n"]:
        return f"{what}: no attempted run shows it, so there is no number."
    between = interval_of(row)
    sure = no_interval(row["n"], row["machines"]) if between == MISSING else f"95 % interval {between}"
    tail = f"; in nine of ten {amount_of(row, 'tail')} at most" if known(row["tail"]) else ""
    never = f" {counted(row['never'], 'run')} never came to its end." if row["never"] else ""
    half = f"in half of {counted(row['n'], 'run')} **{amount_of(row, 'value')}** at most"
    return f"{what}: {half} ({sure}){tail}. The runs that came to its end took {range_of(row)}.{never}"


Row = Mapping[str, Any]


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """The frame's rows by the names of its columns."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def criteria_met(rows: Sequence[Row]) -> str:
    """How many of the rows of :func:`~vastbench.analysis.acceptance.acceptance` are met, in bold."""
    met = sum(row["verdict"] == MET for row in rows)
    tested = sum(row["verdict"] != NOT_TESTED for row in rows)
    if not tested:
        return "None of the criteria could be tested."
    return f"**{met} of {counted(tested, 'criterion')}** that could be tested {'is' if met == 1 else 'are'} met."


def limit_of(row: Row) -> str:
    """What is asked, and what is hoped for."""
    hoped = f" (hoped for: {amount_of(row, 'stretch')})" if known(row["stretch"]) else ""
    return f"{'≥' if row['unit'] == 'share' else '≤'} {amount_of(row, 'limit')}{hoped}"


def n_of(row: Row) -> str:
    """How many runs show a quantity, and how many of them never came to its end."""
    return f"{row['n']}, {row['never']} never" if row["never"] else f"{row['n']}"


def amount_of(row: Row, name: str) -> str:
    """A value of the row in the row's unit; a median that more than half never came to is never."""
    if name == "value" and row["n"] and not known(row[name]):
        return "never"
    return amount(row[name], row["unit"])


def interval_of(row: Row, low: str = "low", high: str = "high") -> str:
    """``60.1 s to 72.8 s``, ``above 60.1 s`` where nothing bounds it, or – where there is none."""
    if not known(row[low]):
        return MISSING
    return f"{amount_of(row, low)} to {amount_of(row, high)}" if known(row[high]) else f"above {amount_of(row, low)}"


def interval_note(row: Row) -> str:
    """The interval of a median, and of how many runs; why there is none."""
    between = interval_of(row)
    if between == MISSING:
        return no_interval(row["n"], row["machines"])
    return f"95 % interval {between}, n = {n_of(row)}"


def range_of(row: Row) -> str:
    """Between what the runs lie that came so far, and how exactly one of them is known."""
    wide = known(row["within"]) and row["within"] >= SHOWN * FACTOR.get(row["unit"], 1.0)
    return interval_of(row, "least", "most") + (f", each known within {amount_of(row, 'within')}" if wide else "")


def sizes(line: Line) -> str:
    """What a snapshot takes whatever its size, and for each GB, in bold; why there is no line."""
    runs = counted(line.n, "run")
    if not known(line.per_gb_s):
        several = {0: "No run says how large it was", 1: f"The {runs} are of one size"}
        return f"{several.get(line.sizes, f'The {runs} are of {line.sizes} sizes')}: no line through sizes."
    fixed, per_gb = seconds(line.fixed_s), f"{decimals(line.per_gb_s, 1)} s per GB"
    between = (
        f" (95 % intervals {decimals(line.fixed_low_s, 1)} to {seconds(line.fixed_high_s)}, and "
        f"{decimals(line.per_gb_low_s, 1)} to {decimals(line.per_gb_high_s, 1)} s per GB)"
        if known(line.per_gb_low_s)
        else ""
    )
    return f"**{fixed} whatever the size, and {per_gb}**{between}, by the line through {runs} of {line.sizes} sizes."


def caveats(phases: pd.DataFrame, question: Question) -> str:
    """What must be known of the figures of these runs because they were emulated, or on a clock faster than time."""
    runs = phases[phases["source"] == EMULATED]
    fast = runs["scale"].dropna()
    said = [question.emulated] if len(runs) else []
    if question.faster and (fast != 1).any():
        speed = "–".join(f"{value:g}" for value in dict.fromkeys((fast.min(), fast.max())))
        said.append(f"The clock ran {speed} times as fast as time, and {question.faster}; --speed 1 shows them as they are.")
    return " ".join(filter(None, said))


def until_answer(phases: pd.DataFrame, span: str, done: str) -> str:
    """In bold, within how long half of the drills that began the phase ``span`` were ``done``, and how many never were."""
    found = durations(phases, span, waited=True)
    if not len(found):
        return f"**No attempted run shows how long it takes until {done}.**"
    never, half = int((~found.ended).sum()), quantile_estimate(found, 0.5)
    begun = f"{counted(len(found), 'drill')}"
    if not known(half.value):
        return f"**In less than half of {begun} {done}**: {counted(never, 'drill')} never came so far."
    between = f" (95 % interval {seconds(half.low)} to {_bound(half.high)})" if known(half.low) else ""
    rest = f" {never} of {begun} never came so far." if never else f" {'All of them' if len(found) > 1 else 'It'} came so far."
    return f"**In half of {begun} {done} within {seconds(half.value)}**{between}.{rest}"


def _bound(value: float) -> str:
    return "never" if value == float("inf") else seconds(value)


def against_drills(check: Check) -> str:
    """Whether the drills are plausible draws of the estimate."""
    says = "Nothing speaks against it" if check.plausible else "**The drills contradict the estimate**"
    return (
        f"{check.inside} of {counted(check.n, 'drill')} lie in the estimate's 90 % interval, from {decimals(check.low, 1)} to "
        f"{seconds(check.high)}. {says} (p = {decimals(check.p, 2)}, two-sided binomial test)."
    )
