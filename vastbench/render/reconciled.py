"""Charges beside the meters, in words."""

from __future__ import annotations

from vastbench.analysis.cost import SETTLED, Reconciliation
from vastbench.record.cost import METERS, Match
from vastbench.record.formats import MISSING, counted, dollars, known
from vastbench.render.blocks import Block, Table, show_blocks

SAID = {
    Match.AGREES: "agrees",
    Match.DIFFERS: "differs by more than rounding",
    Match.LATE: "late: not all of it has come",
    Match.MISSING: "missing: no row for an instance",
    Match.NOT_ESTIMATED: "not estimated: no meters of ours",
}
"""Each :class:`~vastbench.record.cost.Match` in a table."""

NOBODY_ASKED = "No charges are stored. Ask the account for them, which costs nothing: vastbench reconcile --live"


def reconciled_blocks(made: Reconciliation) -> list[Block]:
    """A table of runs, one of their sums, and what they mean."""
    if made.runs.empty:
        return [NOBODY_ASKED]
    head = ["run", "charge", "estimated", "charged", *METERS, "residual"]
    rows = [
        [str(row["run"]), SAID[Match(row["charge"])], dollars(row["cost_usd"]), dollars(row["charged_usd"])]
        + [
            _signed(row[name]) if row["charge"] in SETTLED else MISSING
            for name in (*(f"{meter}_residual_usd" for meter in METERS), "residual_usd")
        ]
        for row in made.runs.to_dict("records")
    ]
    sums = [
        [row["meter"], str(row["n"]), dollars(row["estimated_usd"]), dollars(row["charged_usd"]), _signed(row["residual_usd"])]
        for row in made.meters.to_dict("records")
    ]
    return [
        Table(head, rows, numbers=6),
        Table(["meter", "runs", "estimated", "charged", "residual"], sums, numbers=4),
        f"{_summed_up(made)}\nResidual: charged − estimated, of each meter and of all. From {made.source}.",
    ]


def _summed_up(made: Reconciliation) -> str:
    """How many runs' charges agree, differ, are late and are missing, in a sentence."""
    counts = made.runs["charge"].value_counts()
    whole = made.whole
    parts = [f"{word}: {counts[word]}" for word in Match if word in counts]
    text = f"Of {counted(len(made.runs), 'run')} that the account was asked about: {', '.join(parts)}."
    if known(whole["residual_usd"]):
        text += (
            f" Where all has come, the account was charged {dollars(whole['charged_usd'])} (rounded: ± "
            f"{dollars(whole['rounding_usd'])} at most), our meters say {dollars(whole['estimated_usd'])}."
        )
    if counts.get(Match.LATE, 0) or counts.get(Match.MISSING, 0):
        text += " Late and missing rows are normal: ask again another day."
    return text


def _signed(value: float | None) -> str:
    """``+$0.0004`` or ``−$0.0004``; – for a missing value."""
    if not known(value):
        return MISSING
    digits = f"{abs(value):.4f}"
    return f"{'−' if value < 0 and float(digits) else '+'}${digits}"


show_blocks(Reconciliation, reconciled_blocks)
