"""How long it takes, where the time goes, and what a faster phase would save."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vastbench.analysis.bottleneck import RETRIES, shares
from vastbench.analysis.drift import halves
from vastbench.analysis.summary import attempted, passed, phase_summary
from vastbench.analysis.survival.clusters import how_many
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.analysis.useful import until_useful
from vastbench.record.formats import counted, decimals, known, listed, percent, reach, seconds, within
from vastbench.record.phases import Outcome, PhaseName
from vastbench.render.sentences.basis import NO_SUCCESS, greatest, no_number, source
from vastbench.render.wording import escaped

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.analysis.survival.durations import Durations


def timing_answer(phases: pd.DataFrame) -> str:
    """Where the time goes, phase by phase, in bold."""
    return no_number(phases) or f"**{longest(phases)}** {useful(phases)} {source(phases)}"


def bottleneck_answer(phases: pd.DataFrame, what_if: pd.DataFrame) -> str:
    """What should be made faster first, in bold; ``what_if`` is the table of that function of ``analysis.bottleneck``."""
    nothing = no_number(phases)
    if nothing or what_if.empty:
        return nothing or "The runs that passed do not say where their time went, so there is no number."
    best = _halved(what_if, 1)[0]
    return (
        f"**Make {best['phase']} faster first**: halving it would save {seconds(best['saved_s'])} of the median total of "
        f"the passed runs ({within(best['saved_low_s'], best['saved_high_s'], 's', n=int(best['n']))}). {source(phases)}"
    )


def ready(phases: pd.DataFrame) -> str:
    """How long until a rented GPU was ready, as it was waited; runs that failed count as never."""
    found = until_useful(phases).iloc[0]
    n, attempts = int(found["n"]), int(found["attempted"])
    if not n:
        return NO_SUCCESS
    if not known(found["median_s"]):
        return f"Less than half of {attempts} attempted runs were ready at all: {n}."
    runs = f"Half of {attempts} attempted runs were" if attempts > 1 else "The only attempted run was"
    their = "their" if attempts > 1 else "its"
    interval = reach(found["median_low_s"], found["median_high_s"], n=attempts, machines=int(found["machines"]))
    return f"{runs} ready within **{seconds(found['median_s'])}** of {their} start ({interval})."


def useful(phases: pd.DataFrame) -> str:
    """How long until a rented GPU was ready, what that means, and how exactly the instant is known in one run."""
    found = until_useful(phases).iloc[0]
    if not found["n"]:
        return NO_SUCCESS
    width = f"known within {seconds(found['bounds_s'])} in one run" + (" (median width)" if found["n"] > 1 else "")
    return f"{ready(phases)} A run is ready at {ready_at(phases)}; that instant is {width}."


def ready_at(phases: pd.DataFrame) -> str:
    """Up to what the time to ready of these runs goes: the phase that makes their scenario useful."""
    names = sorted(phases["ready"].dropna().unique())
    if names in ([], [PhaseName.WAIT_SSH]):
        return "its first successful command over SSH"
    return f"the end of its phase {escaped(names[0])}" if len(names) == 1 else "the end of its last phase"


def longest(phases: pd.DataFrame) -> str:
    """Which phase takes most of the time, and which share of the mean total."""
    row, table = top_row(phases), shares(phases).set_index("phase")
    text = f"Most of the time goes into {row['phase']}"
    text += f": {_median(row)}" if known(row["median_s"]) else ", which half of its tries or more did not end"
    if row["phase"] in table.index:
        whole = table["mean_s"].sum()
        text += f", {percent(table.loc[row['phase'], 'mean_share'])} of the mean total of {seconds(whole)}"
    return f"{text}."


def phase_distributions(phases: pd.DataFrame) -> str:
    """The longest phase: its median and its tail over all runs that reached it, and how many of these never reached its end."""
    if no_number(phases):
        return no_number(phases)
    row = top_row(phases)
    text = f"**{row['phase']}** took {_median(row, strong=True)}"
    if not known(row["median_s"]):
        text = f"**{row['phase']}** has no median: {int(row['unfinished'])} of {_tries(row)} tries never reached its end"
    if known(row["p90_s"]):
        text += f"; nine of ten end within {seconds(row['p90_s'])} ({_reach(row, 'p90')})"
    if row["n"] > 1:
        text += f"; those that ended took {decimals(row['min_s'], 1)} to {seconds(row['max_s'])}"
    cut, failed = int(row["cut_off"]), int(row["failed"])
    if cut:
        text += f"; {counted(cut, 'run', 'was')} cut off in it and took longer than that"
    if failed:
        text += f"; {counted(failed, 'run')} failed in it and {'counts' if failed == 1 else 'count'} as longer than all others"
    return f"{text}."


def _tries(row: pd.Series[Any]) -> int:
    """How many runs reached the phase, of which not all ended it."""
    return int(row["n"] + row["unfinished"])


def _reach(row: pd.Series[Any], name: str) -> str:
    """The interval of a phase's median or p90, or why there is none: few runs, or few machines."""
    machines = int(row["machines"]) if row["unfinished"] == 0 else None
    return reach(row[f"{name}_low_s"], row[f"{name}_high_s"], n=_tries(row), machines=machines)


def _median(row: pd.Series[Any], *, strong: bool = False) -> str:
    """The median of a phase over all that reached it, with its interval; the value of a single one."""
    mark, tries = "**" if strong else "", _tries(row)
    interval = _reach(row, "median")
    interval = f"n = {tries}; {interval}" if known(row["median_low_s"]) else interval
    return f"{mark}{seconds(row['median_s'])}{mark} ({'median; ' if tries > 1 else ''}{interval})"


def phase_waterfall(phases: pd.DataFrame) -> str:
    """One run: its longest phase, and how exactly the end of it is known."""
    top = phases[(phases["parent"] == PhaseName.TOTAL) & phases["seconds"].notna()]
    if top.empty:
        return "No phase of a run has ended, so there is no number."
    longest = greatest(top, "seconds")
    total = phases.loc[phases["phase"] == PhaseName.TOTAL, "seconds"].iloc[0]
    share = f" of {seconds(total)} in all ({percent(longest['seconds'] / total)})" if known(total) and total > 0 else ""
    text = f"In run {escaped(longest['run'])} (n = 1) {longest['phase']} took **{seconds(longest['seconds'])}**{share}"
    low, high = longest["lower_s"], longest["upper_s"]
    return f"{text}, known to lie between {decimals(low, 1)} and {seconds(high)}." if known(low) and known(high) else f"{text}."


def inside(phases: pd.DataFrame) -> str:
    """What the longest phase consists of, as far as its own parts were seen."""
    if no_number(phases):
        return no_number(phases)
    whole, table = top_row(phases), phase_summary(phases)
    parts = table[(table["parent"] == whole["phase"]) & (table["n"] > 0)]
    if parts.empty:
        return f"What {whole['phase']} consists of was not seen."
    named = [f"{row['phase']} {_median(row, strong=True)}" for _, row in parts.iterrows()]
    return f"Within {whole['phase']}: {listed(named)}. Medians do not add up."


def beside(phases: pd.DataFrame, other: pd.DataFrame) -> str:
    """Where one other run, the only one in the frame ``other``, lies among these, in the phase that is longest here."""
    if no_number(phases):
        return no_number(phases)
    name = top_row(phases)["phase"]
    theirs = other.loc[(other["phase"] == name) & other["final"], "seconds"].dropna()
    rows = attempted(phases)
    rows = rows[(rows["phase"] == name) & rows["final"] & (rows["outcome"] == Outcome.PASSED)]["seconds"].dropna()
    if theirs.empty:
        return f"The other run has no {name}."
    run = escaped(other["run"].iloc[0])
    return (
        f"Run {run} took **{seconds(theirs.iloc[0])}** in {name} (n = 1), longer than "
        f"{percent((rows < theirs.iloc[0]).mean())} of these runs (n = {len(rows)})."
    )


def runs_over_time(phases: pd.DataFrame) -> str:
    """Whether later runs took longer than earlier ones: the median total of either half."""
    both = halves(phases)
    if not both:
        return f"{'No' if passed(phases).empty else 'One'} run passed, so there is no trend."
    first, second = map(_half, both)
    return f"The median total of the earlier half of the passed runs is **{first}**, of the later half **{second}**."


def _half(totals: Durations) -> str:
    found = quantile_estimate(totals, 0.5)
    interval = within(found.low, found.high, "s", n=found.n, machines=how_many(totals.machine, found.n))
    return f"{seconds(found.value)} ({interval})"


def phase_shares(phases: pd.DataFrame) -> str:
    """Which phase makes most of the mean, and which most of the differences between runs."""
    table = shares(phases)
    if table.empty:
        return no_number(phases) or "The runs that passed do not say where their time went, so there is no number."
    mean, apart = greatest(table, "mean_share"), greatest(table, "variance_share")
    text = f"**{mean['phase']}** makes **{percent(mean['mean_share'])}** of the mean total (n = {mean['n']})"
    if table["variance_share"].isna().all():
        return f"{text}; {counted(int(mean['n']), 'run')} cannot show what makes runs differ."
    other = "" if apart["phase"] == mean["phase"] else f"{apart['phase']} "
    text += f", and {other}**{percent(apart['variance_share'])}** of its variance"
    if known(apart["variance_share_trimmed"]):
        text += f" ({percent(apart['variance_share_trimmed'])} without the runs beyond p95)"
    return f"{text}."


def what_if(table: pd.DataFrame) -> str:
    """What halving the two most rewarding phases would save; ``table`` is ``analysis.bottleneck.what_if``'s."""
    if table.empty:
        return "No run that passed says where its time went, so there is no number."
    parts = [
        f"halving {row['phase']} would save **{seconds(row['saved_s'])}** "
        f"({within(row['saved_low_s'], row['saved_high_s'], 's', n=int(row['n']))})"
        for row in _halved(table, 2)
    ]
    return f"Of the median total of the passed runs, {listed(parts)}."


def top_row(phases: pd.DataFrame) -> pd.Series[Any]:
    """The summary of the longest top-level phase, by the median; one that half of the tries or more did not end is longest."""
    table = phase_summary(phases)
    named = table[(table["parent"] == PhaseName.TOTAL) & (table["phase"] != PhaseName.UNATTRIBUTED)]
    return greatest(named.assign(median_s=named["median_s"].fillna(math.inf)), "median_s").replace(math.inf, math.nan)


def _halved(what_if: pd.DataFrame, most: int) -> list[pd.Series[Any]]:
    """The rows of the phases whose halving would save most."""
    real = ~what_if["phase"].isin([RETRIES, PhaseName.UNATTRIBUTED])
    best = what_if[real & (what_if["factor"] == 0.5)].nlargest(most, "saved_s")
    return [best.iloc[i] for i in range(len(best))]
