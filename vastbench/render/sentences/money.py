"""What a run costs by meter, and what it would cost at list prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vastbench.analysis.cost import cost_summary, naive_ratio, reconciliation
from vastbench.analysis.durations import exact
from vastbench.analysis.frames import runs_table
from vastbench.analysis.providers import STALE_AFTER_DAYS
from vastbench.analysis.summary import attempted
from vastbench.analysis.survival.clusters import how_many
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.record.cost import Match
from vastbench.record.formats import counted, known, percent, times, usd, within
from vastbench.record.numbers import quotient
from vastbench.render.sentences.basis import NO_RUN, failures_by_cause, source
from vastbench.render.wording import escaped

if TYPE_CHECKING:
    import pandas as pd

PER = {
    "usd_per_hour": "per hour",
    "usd_per_gpu_hour": "per GPU and hour",
    "usd_per_gb_hour": "per GB of GPU memory and hour",
    "usd_per_run": "for a run",
    "usd_per_success": "for a success, failures included",
}
"""The prices of a comparison, in words."""

BILLED = ("usd_per_run", "usd_per_success")
"""Those of them that are means over our runs, on the terms of each provider."""


def cost_answer(phases: pd.DataFrame, comparison: pd.DataFrame) -> str:
    """What a run costs, in bold, and what it would cost elsewhere; ``comparison`` is ``analysis.providers.compare``'s frame."""
    if attempted(phases).empty:
        return NO_RUN if phases.empty else failures_by_cause(phases)
    elsewhere = provider_costs(comparison, value="usd_per_success")
    return f"**{spent(phases)}** {elsewhere} {break_even(comparison)} {source(phases)}"


def spent(phases: pd.DataFrame) -> str:
    """What a run and a success cost on average, and what the naive figure would say."""
    table = {row["meter"]: row for row in cost_summary(phases).to_dict("records")}
    by_meter, naive, n = table["all meters"], table["naive"], attempted(phases)["run"].nunique()
    wall = usd(naive["per_run_usd"]) + (f" (n = {naive['n']})" if naive["n"] != by_meter["n"] else "")
    if not by_meter["n"] and not naive["n"]:
        return "What a run cost is not known."
    if not by_meter["n"]:
        return f"What a run cost is not known by meter; wall clock × price would say {wall}."
    least = "" if by_meter["n"] == n else "at least "
    of = f"; known for {by_meter['n']} of {n} runs" if by_meter["n"] < n else f" of {counted(n, 'run')}"
    success = f", a success {least}{usd(by_meter['per_success_usd'])}" if known(by_meter["per_success_usd"]) else ""
    return f"A run cost {usd(by_meter['per_run_usd'])} by meter (mean{of}){success}; wall clock × price would say {wall}."


def cost_meters(phases: pd.DataFrame) -> str:
    """What a run costs by meter, and how far the naive figure is from it in the same runs."""
    if attempted(phases).empty:
        return failures_by_cause(phases)
    runs = runs_table(attempted(phases)).dropna(subset=["cost_usd", "naive_usd"])
    if runs.empty:
        return spent(phases)
    costs = exact(runs["cost_usd"], runs["machine"])
    half = quantile_estimate(costs, 0.5)
    interval = within(half.low, half.high, "USD", n=half.n, digits=4, machines=how_many(costs.machine, half.n))
    return (
        f"{spent(phases)} The median is **{usd(half.value)}** ({interval}); over the runs of which both "
        f"are known, wall clock × price says **{times(naive_ratio(runs))}** as much."
    )


def charges(phases: pd.DataFrame) -> str:
    """What the account charged beside what the meters say: how many runs agree, and in sum."""
    made = reconciliation(phases)
    if made.runs.empty:
        return "Nobody asked for the account's charges for these runs."
    counts, whole = made.runs["charge"].value_counts(), made.whole
    others = ", ".join(f"{word}: {counts[word]}" for word in Match if word != Match.AGREES and word in counts)
    text = (
        f"The charges of **{counts.get(Match.AGREES, 0)} of {counted(len(made.runs), 'run')}** lie within the bounds of "
        f"the meters, as far as their rounding lets them be known{f' ({others})' if others else ''}."
    )
    if known(whole["residual_usd"]):
        text += (
            f" In sum the account charged {usd(whole['charged_usd'])}, to within {usd(whole['rounding_usd'])}, where the "
            f"meters say {usd(whole['estimated_usd'])} ({counted(int(whole['n']), 'run')})."
        )
    return text


def provider_costs(comparison: pd.DataFrame, *, value: str = "usd_per_gpu_hour") -> str:
    """Our price among listed ones; ``comparison`` is a frame of ``analysis.providers``, ``value`` a key of ``PER``."""
    ours, listed_rows = comparison[comparison["ours"]], comparison[~comparison["ours"]].dropna(subset=[value])
    if ours.empty or not known(ours[value].iloc[0]):
        return f"What we paid {PER[value]} is not known, so nothing can be compared."
    row, paid = ours.iloc[0], ours[value].iloc[0]
    text = f"Ours is **{usd(paid)} {PER[value]}** ({escaped(row['gpu'])}, {_basis(row, value)})"
    if listed_rows.empty:
        return f"{text}; no listed price can be set beside it."
    low, high = (listed_rows.sort_values(value).iloc[i] for i in (0, -1))
    below = int((listed_rows[value] < paid).sum())
    return (
        f"{text}; of {counted(len(listed_rows), 'listed price')}, dated {listed_rows['as_of'].min()} to "
        f"{listed_rows['as_of'].max()}, {below} {'is' if below == 1 else 'are'} lower. They go from "
        f"{usd(low[value])} ({_offer(low)}) to {usd(high[value])} ({_offer(high)}); "
        f"their median is {times(quotient(listed_rows[value].median(), paid))} ours.{_least(listed_rows, value)}"
    )


def seed_ratios(ratios: pd.DataFrame) -> str:
    """The published price ratios and what is left of them; ``ratios`` is ``analysis.providers.seed_ratios``'s frame."""
    parts = []
    for _, row in ratios.iterrows():
        text = f"{escaped(row['dear'])} ÷ {escaped(row['cheap'])} is **{times(row['ratio'])}**"
        text += f", per GB of GPU memory {times(row['ratio_per_gb'])}"
        if known(row["ratio_at_level"]):
            text += f", and {times(row['ratio_at_level'])} at a usual price of {usd(row['level_usd_per_hour'])} per hour"
        parts.append(text)
    return "; ".join(parts) + "." if parts else "The published ratios cannot be made from this price table."


def price_table(prices: pd.DataFrame, comparison: pd.DataFrame) -> str:
    """How much of a price table (``vastbench.io.prices``) a ``comparison`` made from it could use, and how old it is."""
    if prices.empty:
        return "The price table is empty."
    listed_rows, oldest, newest = comparison[~comparison["ours"]], prices["as_of"].min(), prices["as_of"].max()
    used, by_rule, stale = len(listed_rows), int((listed_rows["placed"] != "source").sum()), int(listed_rows["stale"].sum())
    return (
        f"Of {counted(len(prices), 'listed price')}, dated {oldest:%Y-%m-%d} to {newest:%Y-%m-%d}, **{used}** can be compared: "
        f"the source of {used - by_rule} names a region, and {by_rule} {'is' if by_rule == 1 else 'are'} placed by a stated "
        f"rule. {stale} of them {'is' if stale == 1 else 'are'} stale, over {STALE_AFTER_DAYS} days older than our last run."
    )


def break_even(comparison: pd.DataFrame, instance_type: str = "g5.xlarge") -> str:
    """From which share of failed runs on an offer elsewhere is cheaper per success; ``comparison`` as above.

    The offer is the cheapest posted price of ``instance_type``. Empty where there is none, or nothing of ours to compare.
    """
    posted = comparison[(comparison["instance_type"] == instance_type) & (comparison["tier"] != "spot") & ~comparison["ours"]]
    posted = posted.dropna(subset="break_even_rate").sort_values("usd_per_hour", kind="stable")
    if posted.empty:
        return ""
    row = posted.iloc[0]
    rate, name = row["break_even_rate"], f"{escaped(row['provider'])} {escaped(row['instance_type'])}"
    ours = escaped(comparison.loc[comparison["ours"], "provider"].iloc[0])
    if rate <= 0:
        return f"{name} is cheaper per success than {ours}, even if no run fails."
    if rate >= 1:
        return f"{ours} is cheaper per success than {name}, however many runs fail: a failed one costs nothing."
    return f"**{ours} is cheaper per success than {name} unless more than {percent(rate)} of runs fail**, if none fails there."


def billing(comparison: pd.DataFrame) -> str:
    """What each provider of a ``comparison`` bills, from where that is known, and what is not known, as a Markdown list.

    One line for each way of billing of a provider, in the order of the comparison.
    """
    columns = ["provider", "minimum_s", "granularity_s", "boot_billed", "disk_usd_per_gb_month", "billing_note"]
    rows = comparison[comparison["usd_per_hour"].notna()].drop_duplicates([*columns, "ours"])
    records: list[dict[Any, Any]] = rows.to_dict("records")
    lines = [f"- **{escaped(row['provider'])}** {escaped(billed(row))}" for row in records]
    return "\n".join(lines) or "There is no price to compare."


def billed(row: Mapping[str, Any]) -> str:
    """What the provider of a row of a comparison bills, why that is so, and what of it is not known."""
    parts = []
    if known(row["granularity_s"]):
        parts.append("per second" if row["granularity_s"] == 1 else f"per {row['granularity_s']:g} s begun")
    if known(row["minimum_s"]):
        parts.append("without a minimum" if not row["minimum_s"] else f"{row['minimum_s']:g} s at least")
    if _is_known(row["boot_billed"]):
        parts.append("from its creation on" if row["boot_billed"] else "from running on")
    if known(row["disk_usd_per_gb_month"]):
        disk = row["disk_usd_per_gb_month"]
        parts.append(f"disk {disk:g} USD per GB and month" if disk else "disk included")
    unknown = [f"not known: {row['lacking']}"] if row["lacking"] else []
    notes = [row[name] for name in ("billing_note",) if _is_known(row[name])]
    read = [f"from {row['billing_source']}"] if _is_known(row["billing_source"]) else []
    return "; ".join([", ".join(parts), *unknown, *notes, *read] if parts else [*unknown, *notes, *read])


def _is_known(value: object) -> bool:
    """Whether a cell holds anything: what is missing has another sign in a frame of words, of truths and in JSON."""
    return str(value) not in ("None", "nan", "<NA>", "")


def _basis(row: pd.Series[Any], value: str) -> str:
    """What our figure is of, with its interval where it has one."""
    if value not in BILLED:
        return f"median of {row['instance_type']}"
    low, high = row[f"{value}_low"], row[f"{value}_high"]
    interval = f"; 95 % interval {low:.4f}–{high:.4f} USD" if known(low) else "; too few machines for an interval"
    return f"mean of {row['instance_type']}{interval}"


def _least(listed_rows: pd.DataFrame, value: str) -> str:
    """How many of the listed figures are least ones, because a term of their provider is not known."""
    least = int(listed_rows["lacking"].ne("").sum()) if value in BILLED else 0
    return (
        f" {least} of them {'is' if least == 1 else 'are'} the least that it can be: not all that is billed there is known."
        if least
        else ""
    )


def _offer(row: pd.Series[Any]) -> str:
    words = (row["provider"], row["instance_type"], row["region"], row["gpu"], row["tier"])
    return ", ".join(escaped(word) for word in words if isinstance(word, str))
