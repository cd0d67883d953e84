"""A forecast of failovers in words: its parts, other plans, and the drills that it is held against."""

from __future__ import annotations

from vastbench.analysis.failover import ORIGINAL_S, Check, Forecast
from vastbench.record.formats import counted, decimals, dollars, percent, seconds
from vastbench.render.blocks import Block, Table, show_blocks


def forecast_blocks(made: Forecast) -> list[Block]:
    """Two tables, and for each way of drilling a sentence."""
    parts = [
        [
            str(row["part"]),
            *(decimals(row[name], 1) for name in ("p05", "p50", "p95")),
            "" if row["low"] != row["low"] else f"{decimals(row['low'], 1)} … {decimals(row['high'], 1)}",
        ]
        for row in made.parts.to_dict("records")
    ]
    notes = [
        f"RTO: from the last acknowledged record to the next one. RPO: acknowledged work that is missing. From {made.source}.",
        f"The published report estimated {ORIGINAL_S[0]:.0f} to {seconds(ORIGINAL_S[1])} for a failover.",
    ]
    plans = [
        [
            str(row["plan"]),
            decimals(row["rto_p50_s"], 1),
            decimals(row["rto_p95_s"], 1),
            decimals(row["rpo_p95_s"], 1),
            dollars(row["incident_usd"]),
            dollars(row["month_usd"]),
            percent(row["within"], 0),
        ]
        for row in made.plans.to_dict("records")
    ]
    last = f"under {seconds(ORIGINAL_S[1])}"
    return [
        Table(["seconds", "5 %", "median", "95 %", "median lies in"], parts, numbers=4),
        "\n".join(notes),
        Table(["plan", "RTO median", "RTO 95 %", "RPO 95 %", "an incident", "a month", last], plans, numbers=6),
        "\n".join(_against(name, one) for name, one in made.checks.items()),
    ]


def _against(name: str, one: Check) -> str:
    return (
        f"Against the drills ({name}): {one.inside} of {counted(one.n, 'drill')} lie in the estimate's 90 % interval, "
        f"{decimals(one.low, 1)} to {seconds(one.high)}; "
        + ("nothing speaks against it" if one.plausible else "the drills contradict it")
        + f" (p = {decimals(one.p, 2)})."
    )


show_blocks(Forecast, forecast_blocks)
