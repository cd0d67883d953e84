"""A plan in words: how many runs, minutes, requests and dollars, and what that rests on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vastbench.analysis.plan import MOST, Plan
from vastbench.record.formats import MISSING, counted, decimals, dollars, given, percent, seconds
from vastbench.record.stopping import USEFUL
from vastbench.render.blocks import Block, Table, show_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from vastbench.analysis.plan import Need
    from vastbench.record.stopping import StoppingRule


def plan_blocks(made: Plan) -> list[Block]:
    """What a study will take; or why no number of runs is enough."""
    rule = made.rule
    what = f"the {'median' if rule.quantile == 0.5 else f'{rule.quantile:g}-quantile'} of {rule.quantity}"
    wide = f"± {given(rule.width / 2)} (an interval {given(rule.width)} wide)"
    asked = f"To know {what} to {wide} at {given(rule.confidence)} confidence:"
    rests_on = (
        f"It rests on {counted(made.source_runs, 'run')} on {counted(made.machines, 'machine')}: {made.source}. "
        f"{counted(made.never, 'run')} never came to its end; {what} is {seconds(made.estimate_s)} in these runs. "
        f"A mean run takes {seconds(made.run_s)}"
        + ("" if math.isnan(made.run_usd) else f" and costs {dollars(made.run_usd)} by meter")
        + ", failures included."
    )
    if made.unreachable:
        return [asked, f"  No number of runs is enough: {made.unreachable}.", rests_on]
    rows = [
        [
            words,
            _runs_range(need),
            _range(need.minutes, need.minutes_high, _whole),
            _range(need.requests, need.requests_high, _whole),
            _range(need.usd, need.usd_high, dollars),
        ]
        for words, need in (
            ("a number chosen beforehand, each on another machine", made.fixed),
            ("stopping by itself, each on another machine", made.stopping),
            (f"a number chosen beforehand, on the same {made.machines} machines", made.fixed_on_these),
            (f"stopping by itself, on the same {made.machines} machines", made.stopping_on_these),
        )
        if need is not None
    ]
    notes = [
        "From – to: enough in half, and in nine of ten, of the campaigns drawn from the runs below.",
        f"{made.workers} runs at once. Stopping by itself: {_command(rule)}",
        _on_repeats(made),
    ]
    return [asked, Table(["", "runs", "minutes", "requests", "cost"], rows, numbers=4), "\n".join(notes), rests_on]


def _command(rule: StoppingRule) -> str:
    words = f"vastbench study --name NAME --stop-width {rule.width:g}"
    words += "" if rule.quantile == 0.5 else f" --stop-quantile {rule.quantile:g}"
    return words + ("" if rule.quantity == USEFUL else f" --stop-of '{rule.quantity}'")


def _on_repeats(made: Plan) -> str:
    """What is known of runs on the same machine."""
    if math.isnan(made.icc):
        return "No machine was rented twice in these runs: what repeats on one bring is not known."
    return f"Where machines are few the same ones are rented again: {percent(made.icc)} of the spread lies between machines."


def _whole(number: float) -> str:
    return decimals(number, 0)


def _range(low: float | None, high: float | None, text: Callable[[float], str]) -> str:
    if low is None:
        return MISSING
    return f"{text(low)} – {'?' if high is None else text(high)}"


def _runs_range(need: Need) -> str:
    return f"> {MOST}" if need.runs is None else _range(need.runs, need.runs_high, _whole)


show_blocks(Plan, plan_blocks)
