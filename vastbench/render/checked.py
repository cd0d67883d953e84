"""Artefacts in words: what was found in each table, what follows, and which rules looked."""

from __future__ import annotations

from vastbench.analysis.artefacts.detector import Artefact, Checked, Examined
from vastbench.record.formats import counted, listed
from vastbench.render.blocks import Block, show_blocks

SHOWN = 6


def checked_blocks(checked: Checked) -> list[Block]:
    """Each table's artefacts, then the rules that were applied."""
    return [block for one in checked.tables for block in _table(one)]


def _table(one: Examined) -> list[Block]:
    blocks: list[Block] = [f"{one.name}: {counted(len(one.timings), 'row')} of {counted(one.timings['run'].nunique(), 'run')}"]
    blocks += [f"  {at.rule}\n    {at.text}\n    {at.consequence}\n    Rows: {_where(one, at)}" for at in one.found] or [
        "  Nothing found."
    ]
    notes = [f"  Rules applied: {listed(one.applied) or 'none'}."]
    if one.silent:
        silent = "; ".join(f"{rule} ({missing})" for rule, missing in one.silent.items())
        notes.append(f"  Not applicable: {silent}.")
    if ignored := one.timings.attrs.get("ignored"):
        notes.append(f"  Columns not read: {', '.join(ignored)}.")
    notes += [f"  {note[:1].upper()}{note[1:]}." for note in one.timings.attrs.get("notes", [])]
    return [*blocks, "\n".join(notes)]


def _where(one: Examined, at: Artefact) -> str:
    rows = one.timings.loc[list(at.rows[:SHOWN])]
    of = "" if one.timings["run"].nunique() == 1 else "{run} "
    some = [
        of.format(run=run) + f"{phase} {'missing' if seconds != seconds else f'{seconds:g} s'}"
        for run, phase, seconds in rows[["run", "phase", "seconds"]].itertuples(index=False)
    ]
    more = len(at.rows) - len(some)
    return "; ".join(some) + (f"; and {more} more" if more > 0 else "")


show_blocks(Checked, checked_blocks)
