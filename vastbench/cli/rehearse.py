"""The command that rehearses a live run: what could go wrong, and what vastbench will do."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from vastbench.cli.app import JsonOption, app, print_json
from vastbench.cli.options import options
from vastbench.errors import BudgetRefused, clean
from vastbench.record.conditions import Conditions
from vastbench.record.formats import MISSING, counted, dollars

if TYPE_CHECKING:
    from vastbench.cli.rehearsal import Plan, Rehearsal

WIDEST, LONGEST_SAID = 120, 400
"""Columns of the table at most, and characters of what a run said; --json has all."""


@app.command()
@options
def rehearse(
    scenario: Annotated[
        Optional[str],  # noqa: UP045 (typer reads it at run time)
        typer.Argument(metavar="[SCENARIO]", help="See: vastbench scenarios. By default, the first of them."),
    ] = None,
    *,
    conditions: Conditions,
    budget: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--budget", help="USD that the planned run may cost at most. [default: its worst case]"),
    ] = None,
    shapes: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--shapes", help="What doctor --live --save wrote: your account's answers, and what your key may do."),
    ] = None,
    fault: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--fault", metavar="NAME[=P]", help="Only under these; 'vastbench emulator --fault list' has all."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Rehearse a live run on the emulator under all that could go wrong, free of charge: before the first live money.

    The same options as for the live run. It needs no key, touches no marketplace, and keeps nothing. Exit code 0: every run
    ended as it should; that of the planned run where it fails although nothing goes wrong; 1: report what the table shows.

    vastbench doctor --live --save account.json, then: vastbench rehearse --shapes account.json --budget 0.25
    """
    from vastbench.cli.rehearsal import Plan, fitted
    from vastbench.cli.rehearsal import rehearse as made
    from vastbench.emulator.faults import REHEARSED, parsed
    from vastbench.emulator.shapes import read_shapes
    from vastbench.scenarios import find_scenario

    if budget is not None and not 0 < budget < float("inf"):
        raise BudgetRefused(f"The budget is {budget!r}, no amount to spend.", hint="Give it in USD: --budget 0.50.")
    if shapes is not None:
        read_shapes(shapes)
    drill = find_scenario(scenario)
    chosen = parsed(fault) if fault else REHEARSED
    plan = Plan(drill, drill.settled(conditions), budget, shapes and shapes.absolute())
    possible, instead = fitted(plan)
    words = _about(plan, instead)
    if not as_json:
        print("\n".join(words))
    done: list[Rehearsal] = []

    def tell(one: Rehearsal) -> None:
        done.append(one)
        how = "did not end" if one.exit_code is None else f"exit code {one.exit_code}"
        print(f"[{len(done)}/{len(chosen) + 1}] {one.fault or 'without a fault'}: {how}", file=sys.stderr, flush=True)

    runs = made(possible, {"": 1.0}, tell)
    first = runs[0]
    if first.exit_code == 0:
        runs += made(possible, chosen, tell)
    if as_json:
        print_json(
            {
                "command": plan.command(),
                "worst_usd": plan.worst_usd,
                "budget_usd": budget,
                "instead": instead,
                "runs": [asdict(one) | {"wrong": one.wrong} for one in runs],
            }
        )
    else:
        print(_table(runs))
        print(_summary(runs))
    if any(one.wrong for one in runs):
        raise typer.Exit(1)
    if first.exit_code:
        raise typer.Exit(first.exit_code)


def _about(plan: Plan, instead: dict[str, object]) -> list[str]:
    """What is rehearsed, what it would cost live, and where the rehearsal is not the plan."""
    from vastbench.cli.rehearsal import SPEED

    worst = f"Live it would cost at most {dollars(plan.worst_usd)}: the whole --max-price until every deadline is reached."
    if plan.budget_usd is None:
        worst += " That is the budget here, as none was given."
    elif plan.budget_usd < plan.worst_usd:
        share = plan.conditions.max_usd_per_hour * plan.budget_usd / plan.worst_usd
        worst += f" The budget of {dollars(plan.budget_usd)} is less: offers above {dollars(share)}/h would be refused."
    else:
        worst += f" The budget of {dollars(plan.budget_usd)} covers that."
    whose = "the account whose answers were saved" if plan.shapes else "an account without limits (--shapes: like yours)"
    lines = [
        f"Planned: {shlex.join(['vastbench', *plan.command()])}",
        worst,
        f"Rehearsed on the built-in emulator, {SPEED:g} times faster than real time and for nothing, with {whose}.",
        "Its market, prices and times are not the live ones: `vastbench doctor --live` asks what is on offer, for nothing.",
    ]
    if instead:
        names = {one.name: one.metadata["option"] for one in fields(Conditions)}
        put = ", ".join(
            f"{names[name]} {'any' if value is None else value} instead of {getattr(plan.conditions, name)}"
            for name, value in instead.items()
        )
        lines.append(f"The emulator's market has no such offer. Rehearsed with {clean(put)}, and with a budget for that.")
    return [line for text in lines for line in _wrapped(text)]


def _table(runs: list[Rehearsal]) -> str:
    """A line of figures for each run, and below it what goes wrong and what vastbench does."""
    lines = ["", "What could go wrong live, and what vastbench will do:", ""]
    lines.append(f"{'fault':<22} {'exit':>4} {'took':>7} {'at most':>9}  left")
    for one in runs:
        code = MISSING if one.exit_code is None else str(one.exit_code)
        took = MISSING if one.took_s is None else f"{one.took_s:.0f} s"
        left = clean(", ".join(one.left)) or "nothing"
        lines.append(f"{one.fault or '(none)':<22} {code:>4} {took:>7} {dollars(one.worst_usd):>9}  {left}")
        lines += _wrapped(f"{one.about[:1].upper()}{one.about[1:]}.", "    ")
        lines += _wrapped(_did(one), "  → ")
    return "\n".join(lines)


def _did(one: Rehearsal) -> str:
    """In a sentence, how the run ended."""
    if one.fault and not one.struck:
        return "It did not come in any of the tries: this run shows nothing. Again, with: --fault NAME=1."
    again = f" with {counted(one.creates, 'create')}" if one.creates > 1 else ""
    if one.exit_code == 0:
        return f"The run passed{again}." + "".join(f" It said: {note}" for note in one.notes[:2])
    said = clean(one.said) if len(one.said) <= LONGEST_SAID else f"{clean(one.said[:LONGEST_SAID])} …"
    return f"The run ended{again}: {said}"


def _summary(runs: list[Rehearsal]) -> str:
    """What all of them together show."""
    first, under = runs[0], runs[1:]
    wrong = [one.fault or "(none)" for one in runs if one.wrong]
    lines = [""]
    if wrong:
        lines.append(f"Not as it should be: {', '.join(wrong)}. That is a mistake of vastbench's: please report it.")
    if first.exit_code:
        lines.append("The planned run fails although nothing goes wrong, so no fault was rehearsed. Mend that first.")
    else:
        passed = sum(one.exit_code == 0 for one in under)
        left = sum(bool(one.left) for one in under)
        ended = len(under) - passed - left
        said = [f"Under {passed} of {counted(len(under), 'fault')} the run passed"]
        said += [f"under {ended} it ended with its cause and left nothing"] * (ended > 0)
        said += [f"under {left} it left something"] * (left > 0)
        lines.append(f"{'; '.join(said)}.")
        if left:
            lines.append("What is left is named with exit code 8: `vastbench reap --live` closes it when its run has ended.")
    return "\n".join(line for text in lines for line in _wrapped(text) or [""])


def _wrapped(text: str, indent: str = "") -> list[str]:
    """``text`` in lines that fit the terminal, the first behind ``indent`` and the others as far in."""
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    return textwrap.wrap(text, max(width, 40), initial_indent=indent, subsequent_indent=" " * len(indent))
