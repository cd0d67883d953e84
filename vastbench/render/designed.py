"""A study of several conditions in words: what it will take, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vastbench.analysis.blocks import paired
from vastbench.analysis.frames import phases_table
from vastbench.analysis.stopping import observations
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.record.formats import MISSING, counted, decimals, dollars, percent
from vastbench.render.blocks import Block, Table

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.analysis.plan import Effort
    from vastbench.record.design import Design
    from vastbench.record.study import Study


def effort_blocks(design: Design, missing: Mapping[str, int], takes: Effort, *, like: str, worst_usd: float) -> list[Block]:
    """How many runs are ``missing`` of each study, and what they take.

    That is as it was for runs ``like`` those of a place; ``worst_usd`` is what they may cost at most.
    """
    runs = sum(missing.values())
    minutes = decimals(takes.minutes, 0) if takes.minutes is not None else MISSING
    requests = f"{takes.requests:,}" if takes.requests is not None else MISSING
    size = f"{counted(len(design.conditions), 'condition')} × {counted(design.repeats, 'block')}"
    rows = [
        [
            study,
            one.conditions.gpu_name or "any GPU",
            one.conditions.region or "anywhere",
            one.conditions.image,
            str(missing[study]),
        ]
        for study, one in zip(design.studies, design.conditions, strict=True)
    ]
    return [
        f"Study “{design.name}”: {size}, {counted(runs, 'run')} of {design.repeats * len(rows)} missing.",
        Table(["study", "GPU", "region", "image", "missing"], rows, numbers=1),
        f"About {minutes} minutes, {requests} requests and {dollars(takes.usd)}, if runs are as those of {like}.",
        f"At most {dollars(worst_usd)}, if every deadline is reached. Nothing was rented.",
    ]


def design_blocks(name: str, studies: Sequence[Study]) -> list[Block]:
    """The counts and the median of every condition, and each beside the first, in blocks."""
    rows, parts = [], []
    for study in studies:
        parts.append(phases_table(study.made))
        seen = quantile_estimate(observations(parts[-1], waited=True), 0.5)
        rows.append(
            [
                study.name,
                f"{len(study.made)} of {study.repeats}",
                str(study.passed),
                decimals(seen.value, 1),
                _between(seen.low, seen.high, 1),
                dollars(study.spent_usd),
            ]
        )
    head = ["study", "runs made", "passed", "median s", "95 % interval", "spent"]
    return [
        f"Study “{name}”: {counted(len(studies), 'condition')}. Time to ready, failed runs counted as longer:",
        Table(head, rows, numbers=5),
        *_pairs(parts, studies[0].name),
    ]


def _pairs(parts: Sequence[pd.DataFrame], first: str) -> list[Block]:
    import pandas as pd

    filled = [part for part in parts if len(part)]
    if len(filled) < 2 or not len(parts[0]) or len({part["scenario"].iloc[0] for part in filled}) > 1:
        return []
    found = paired(pd.concat(filled, ignore_index=True), against=first)
    rows = [
        [
            row["condition"],
            decimals(row["ratio"]),
            _between(row["low"], row["high"], 2),
            str(row["blocks"]),
            _between(row["unpaired_low"], row["unpaired_high"], 2),
            MISSING if math.isnan(row["narrower"]) else percent(row["narrower"]),
        ]
        for row in found.to_dict("records")
    ]
    head = [f"times as long as {first}", "ratio", "95 % interval", "blocks", "without blocks", "width beside it"]
    return ["Compared in blocks, run by run of about the same time:", Table(head, rows, numbers=5)]


def _between(low: float, high: float, digits: int) -> str:
    return (
        MISSING if math.isnan(low) else f"{decimals(low, digits)} to {decimals(high, digits) if math.isfinite(high) else '∞'}"
    )
