"""What a run costs by meter, and what it would cost at list prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vastbench.analysis.cost import cost_summary, naive_ratio, reconciliation
from vastbench.analysis.durations import exact
from vastbench.analysis.frames import runs_table
from vastbench.analysis.summary import attempted
from vastbench.analysis.survival.clusters import how_many
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.record.cost import Match
from vastbench.record.formats import counted, known, times, usd, within
from vastbench.record.numbers import quotient
from vastbench.render.sentences.basis import NO_RUN, failures_by_cause, source
from vastbench.render.wording import escaped

if TYPE_CHECKING:
    import pandas as pd

PER = {
    "usd_per_hour": "per hour",
    "usd_per_gpu_hour": "per GPU and hour",
    "usd_per_gb_hour": "per GB of GPU memory and hour",
    "usd_per_run": "for the GPU time of a run",
}
"""The prices of a comparison, in words."""


def cost_answer(phases: pd.DataFrame, comparison: pd.DataFrame) -> str:
    """What a run costs, in bold, and what it would cost elsewhere; ``comparison`` is ``analysis.providers.compare``'s frame."""
    if attempted(phases).empty:
        return NO_RUN if phases.empty else failures_by_cause(phases)
    return f"**{spent(phases)}** {provider_costs(comparison, value='usd_per_run')} {source(phases)}"


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
    text = f"Ours is **{usd(paid)} {PER[value]}** ({escaped(row['gpu'])}, median of {row['instance_type']})"
    if listed_rows.empty:
        return f"{text}; no listed price can be set beside it."
    low, high = (listed_rows.sort_values(value).iloc[i] for i in (0, -1))
    below = int((listed_rows[value] < paid).sum())
    return (
        f"{text}; of {counted(len(listed_rows), 'listed price')}, dated {listed_rows['as_of'].min()} to "
        f"{listed_rows['as_of'].max()}, {below} {'is' if below == 1 else 'are'} lower. They go from "
        f"{usd(low[value])} ({_offer(low)}) to {usd(high[value])} ({_offer(high)}); "
        f"their median is {times(quotient(listed_rows[value].median(), paid))} ours."
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
    used, oldest, newest = int((~comparison["ours"]).sum()), prices["as_of"].min(), prices["as_of"].max()
    return (
        f"Of {counted(len(prices), 'listed price')}, dated {oldest:%Y-%m-%d} to {newest:%Y-%m-%d}, **{used}** "
        f"{'names' if used == 1 else 'name'} a region and can be compared."
    )


def _offer(row: pd.Series[Any]) -> str:
    words = (row["provider"], row["instance_type"], row["region"], row["gpu"], row["tier"])
    return ", ".join(escaped(word) for word in words if isinstance(word, str))
