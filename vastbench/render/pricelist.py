"""The price table as plain text, for terminals."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from vastbench.analysis.providers import STALE_AFTER_DAYS
from vastbench.errors import clean
from vastbench.record.formats import MISSING, counted, decimals

if TYPE_CHECKING:
    import pandas as pd

HEAD = ["GPU", "GB each", "provider", "type", "region", "tier", "as of", "$/GPU·h", "$/h"]
"""What the cells of :func:`price_cells` are."""

LINES_NAMED = 8


def price_cells(prices: pd.DataFrame, today: date) -> list[list[str]]:
    """One list of cells per row of a price table, the cheapest GPU first; what is missing is a dash, stale prices say so."""
    stale = prices["as_of"].dt.date < today - timedelta(days=STALE_AFTER_DAYS)
    each = prices.assign(usd=prices["price_usd_per_hour"] / prices["gpu_count"]).sort_values("usd", kind="stable")
    texts = each.assign(
        gpu=each["gpu_count"].astype("str") + " × " + each["gpu_name"],
        memory=each["gpu_memory_gb"].map("{:g}".format, na_action="ignore"),
        day=each["as_of"].dt.strftime("%Y-%m-%d") + stale[each.index].map({True: " stale", False: ""}),
        per_gpu=[decimals(price, 4) for price in each["usd"]],
        whole=[decimals(price, 4) for price in each["price_usd_per_hour"]],
    )[["gpu", "memory", "provider", "instance_type", "region", "pricing", "day", "per_gpu", "whole"]]
    return [[clean(cell) for cell in row] for row in texts.astype("object").fillna(MISSING).to_numpy()]


def findings_text(findings: pd.DataFrame, rows: int) -> str:
    """What :func:`vastbench.io.prices.check` found in ``rows`` rows, by rule, like ones in one line, and what explains it."""
    texts = []
    for rule, of_rule in findings.groupby("rule", sort=False):
        texts.append(f"{rule}: {len(of_rule)} of {rows} rows")
        for detail, alike in of_rule.groupby("detail", sort=False):
            named = ", ".join(str(row) for row in alike["row"].head(LINES_NAMED))
            more = f" and {len(alike) - LINES_NAMED} more" if len(alike) > LINES_NAMED else ""
            why = "; ".join(dict.fromkeys(alike["explained"].dropna()))
            texts.append(f"  line {named}{more}: {clean(detail)}" + (f" ({why})" if why else ""))
    if not texts:
        return f"No doubts about {rows} rows."
    open_ones = int(findings["explained"].isna().sum())
    texts.append(f"{counted(len(findings), 'finding')}, {open_ones} of them not explained.")
    return "\n".join(texts)
