"""What the data say, as Markdown sentences with their numbers; notebooks and reports show the same ones.

Each function takes a tidy frame (:mod:`vastbench.analysis.frames`) unless it says otherwise, and gives one short paragraph:
the finding, its unit, its n and its 95 % interval where n allows one. Without data it says so and gives no number. The
functions named like a chart of :mod:`vastbench.charts` give the sentence that belongs under it. Foreign strings are escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vastbench.analysis.bottleneck import shares
from vastbench.analysis.cost import cost_summary
from vastbench.analysis.frames import TOP_LEVEL, runs_table
from vastbench.analysis.intervals import quantile_interval
from vastbench.analysis.summary import attempted, outcomes, passed, phase_summary
from vastbench.analysis.useful import until_useful
from vastbench.report.wording import counted, escaped, known, listed, percent, seconds, times, usd, within
from vastbench.timing import Outcome, PhaseName

if TYPE_CHECKING:
    import pandas as pd

NO_RUN = "There is no run in the data, so there is no number."
NO_SUCCESS = "No run passed, so there is no number for how long it takes."
CAUSES_NAMED = 4
PER = {
    "usd_per_hour": "per hour",
    "usd_per_gpu_hour": "per GPU and hour",
    "usd_per_gb_hour": "per GB of GPU memory and hour",
    "usd_per_run": "for the GPU time of a run",
}
"""The prices of a comparison, in words."""


def study_verdict(phases: pd.DataFrame) -> str:
    """The answer of a study: emulated or live, how long until useful, where the time goes, what it costs, what fails."""
    if phases.empty:
        return NO_RUN
    if attempted(phases).empty:
        return f"{source(phases)} {failures_by_cause(phases)}"
    if passed(phases).empty:
        return f"{source(phases)} {failures_by_cause(phases)} {NO_SUCCESS} {_spent(phases)}"
    return f"{source(phases)} {useful(phases)} {_longest(phases)} {_spent(phases)} {failures_by_cause(phases)}"


def source(phases: pd.DataFrame) -> str:
    """Whether the runs were emulated, live or imported, and at which speed; empty for an empty frame."""
    runs = phases[phases["phase"] == PhaseName.TOTAL]
    counts = runs["source"].value_counts()
    words = {"emulator": "emulated", "live": "live", "import": "imported"}
    if len(counts) > 1:
        parts = [f"{n} {words.get(str(name), escaped(name))}" for name, n in counts.items()]
        return f"**MIXED SOURCES**: {listed(parts)} runs are taken together here."
    only = str(counts.index[0]) if len(counts) else ""
    if only == "emulator":
        profiles = listed([escaped(name) for name in sorted(runs["profile"].dropna().unique())]) or "unknown"
        fast = sorted(runs["scale"].dropna().unique())
        speed = "–".join(f"{value:g}" for value in dict.fromkeys((fast[0], fast[-1]))) if fast else "an unknown multiple of"
        return f"**EMULATED**, not live: delays are drawn from the profile {profiles}, at {speed} × real time."
    if only == "live":
        return "Measured live on the marketplace."
    return "Imported from a published record." if only == "import" else ""


def useful(phases: pd.DataFrame) -> str:
    """How long until a rented GPU could be used, and what the looks really prove of that instant."""
    found = until_useful(phases).iloc[0]
    if not found["n"]:
        return NO_SUCCESS
    interval = within(found["median_low_s"], found["median_high_s"], "s", n=int(found["n"]))
    return (
        f"A run that passed had a useful GPU **{seconds(found['median_s'])}** after its start (median; {interval}); the polls "
        f"and tries of a run prove that instant only within {seconds(found['bounds_s'])} (median width): it may be as early "
        f"as {seconds(found['earliest_median_s'])}."
    )


def data(phases: pd.DataFrame) -> str:
    """What was loaded: how many runs, from when to when, how many failed or were stopped."""
    if phases.empty:
        return NO_RUN
    runs = phases[phases["phase"] == PhaseName.TOTAL]
    ended = runs["run_outcome"].value_counts()
    begun = runs["started_at"].dropna()
    between = f", begun {_date(begun.min())} to {_date(begun.max())} UTC" if len(begun) else ""
    fates = [f"{ended.get(str(outcome), 0)} {outcome}" for outcome in Outcome]
    return f"{len(phases)} rows of {counted(len(runs), 'run')}{between}: {listed(fates)}. {source(phases)}".strip()


def timing_answer(phases: pd.DataFrame) -> str:
    """Where the time goes, phase by phase, in bold."""
    return _no_number(phases) or f"**{_longest(phases)}** {useful(phases)} {source(phases)}"


def bottleneck_answer(phases: pd.DataFrame, what_if: pd.DataFrame) -> str:
    """What should be made faster first, in bold; ``what_if`` is the table of that function of ``analysis.bottleneck``."""
    nothing = _no_number(phases)
    if nothing or what_if.empty:
        return nothing or "The runs that passed do not say where their time went, so there is no number."
    best = _halved(what_if, 1)[0]
    return (
        f"**Make {best['phase']} faster first**: halving it would save {seconds(best['saved_s'])} of the median total "
        f"({within(best['saved_low_s'], best['saved_high_s'], 's', n=int(best['n']))}). {source(phases)}"
    )


def cost_answer(phases: pd.DataFrame, comparison: pd.DataFrame) -> str:
    """What a run costs, in bold, and what it would cost elsewhere; ``comparison`` is ``analysis.providers.compare``'s frame."""
    if attempted(phases).empty:
        return NO_RUN if phases.empty else failures_by_cause(phases)
    return f"**{_spent(phases)}** {provider_costs(comparison, value='usd_per_run')} {source(phases)}"


def phase_waterfall(phases: pd.DataFrame) -> str:
    """One run: its longest phase, and how exactly the end of it is known."""
    top = phases[(phases["parent"] == PhaseName.TOTAL) & phases["seconds"].notna()]
    if top.empty:
        return "No phase of a run has ended, so there is no number."
    longest = _greatest(top, "seconds")
    total = phases.loc[phases["phase"] == PhaseName.TOTAL, "seconds"].iloc[0]
    share = f" of {seconds(total)} in all ({percent(longest['seconds'] / total)})" if known(total) and total > 0 else ""
    text = f"In run {escaped(longest['run'])} (n = 1) {longest['phase']} took **{seconds(longest['seconds'])}**{share}"
    low, high = longest["lower_s"], longest["upper_s"]
    return f"{text}, known to lie between {low:.1f} and {seconds(high)}." if known(low) and known(high) else f"{text}."


def phase_distributions(phases: pd.DataFrame) -> str:
    """The longest phase: its median, its tail, and how many runs are not in it."""
    if _no_number(phases):
        return _no_number(phases)
    row = _top_row(phases)
    text = (
        f"**{row['phase']}** has a median of **{seconds(row['median_s'])}** "
        f"({within(row['median_low_s'], row['median_high_s'], 's', n=int(row['n']))}; from {row['min_s']:.1f} to "
        f"{seconds(row['max_s'])})"
    )
    if known(row["p90_s"]):
        text += f"; nine of ten end within {seconds(row['p90_s'])} ({row['p90_low_s']:.1f}–{seconds(row['p90_high_s'])})"
    if row["unfinished"]:
        text += f"; {counted(int(row['unfinished']), 'run')} never finished it and can only have been longer"
    return f"{text}."


def runs_over_time(phases: pd.DataFrame) -> str:
    """Whether later runs took longer than earlier ones: the median total of either half."""
    runs = runs_table(passed(phases)).dropna(subset="total_s").sort_values("started_at", kind="stable")
    if len(runs) < 2:
        return f"{counted(len(runs), 'run')} passed: nothing can be said of a trend."
    halves = runs.iloc[: len(runs) // 2], runs.iloc[len(runs) // 2 :]
    first, second = (
        f"{seconds(half['total_s'].median())} ({within(*quantile_interval(half['total_s'], 0.5), 's', n=len(half))})"
        for half in halves
    )
    return f"The median total of the earlier half of the runs that passed is **{first}**, of the later half **{second}**."


def failures_by_cause(phases: pd.DataFrame) -> str:
    """How many of the attempted runs did not pass, and why."""
    stopped = phases["run"].nunique() - attempted(phases)["run"].nunique()
    left_out = f" Not counted, as we stopped them ourselves: {counted(stopped, 'run')}." if stopped else ""
    table = outcomes(phases)
    if table.empty:
        return f"No run was attempted.{left_out}"
    n, good = int(table["attempted"].iloc[0]), table[table["outcome"] == Outcome.PASSED].iloc[0]
    bad = n - int(good["runs"])
    interval = f"95 % interval {percent(1 - good['rate_high'])[:-2]}–{percent(1 - good['rate_low'])}"
    if not bad:
        passed_all = "The one attempted run passed" if n == 1 else f"All {n} attempted runs passed"
        return f"{passed_all}: failures are 0 of {n} ({interval}).{left_out}"
    rest = table[table["outcome"] != Outcome.PASSED]
    named = [f"{_cause(r.cause or r.outcome)} {r.runs}" for r in rest.head(CAUSES_NAMED).itertuples()]
    more = int(rest["runs"].iloc[CAUSES_NAMED:].sum())
    causes = listed([*named, f"others {more}"] if more else named)
    return f"**{bad} of {n}** attempted runs did not pass ({percent(bad / n)}; {interval}): {causes}.{left_out}"


def phase_shares(phases: pd.DataFrame) -> str:
    """Which phase makes most of the mean, and which most of the differences between runs."""
    table = shares(phases)
    if table.empty:
        return _no_number(phases) or "The runs that passed do not say where their time went, so there is no number."
    mean, apart = _greatest(table, "mean_share"), _greatest(table, "variance_share")
    text = f"**{mean['phase']}** makes **{percent(mean['mean_share'])}** of the mean total (n = {mean['n']})"
    if table["variance_share"].isna().all():
        return f"{text}; {counted(int(mean['n']), 'run')} cannot tell what makes runs differ."
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
    return f"Of the median total, {listed(parts)}."


def inside(phases: pd.DataFrame) -> str:
    """What the longest phase consists of, as far as its own parts were seen."""
    if _no_number(phases):
        return _no_number(phases)
    whole, table = _top_row(phases), phase_summary(phases)
    parts = table[(table["parent"] == whole["phase"]) & (table["n"] > 0)]
    if parts.empty:
        return f"What {whole['phase']} consists of was not seen."
    named = [
        f"{row['phase']} **{seconds(row['median_s'])}** ({within(row['median_low_s'], row['median_high_s'], 's', n=row['n'])})"
        for _, row in parts.iterrows()
    ]
    return f"Within {whole['phase']}, at the median: {listed(named)}. Medians do not add up."


def beside(phases: pd.DataFrame, other: pd.DataFrame) -> str:
    """Where one other run, the only one in the frame ``other``, lies among these, in the phase that is longest here."""
    if _no_number(phases):
        return _no_number(phases)
    name = _top_row(phases)["phase"]
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


def cost_meters(phases: pd.DataFrame) -> str:
    """What a run costs by meter, and how far the naive figure is from it in the same runs."""
    if attempted(phases).empty:
        return failures_by_cause(phases)
    runs = runs_table(attempted(phases)).dropna(subset=["cost_usd", "naive_usd"])
    if runs.empty:
        return _spent(phases)
    interval = within(*quantile_interval(runs["cost_usd"], 0.5), "USD", n=len(runs), digits=4)
    ratio = runs["naive_usd"].sum() / runs["cost_usd"].sum() if runs["cost_usd"].sum() > 0 else None
    return (
        f"{_spent(phases)} At the median it is **{usd(runs['cost_usd'].median())}** ({interval}); over the runs of which both "
        f"are known, wall clock × price says **{times(ratio)}** as much."
    )


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
        f"{listed_rows['as_of'].max()}, {below} are lower. They go from {usd(low[value])} ({_offer(low)}) to "
        f"{usd(high[value])} ({_offer(high)}); their median is {times(listed_rows[value].median() / paid)} ours."
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


def _offer(row: pd.Series[Any]) -> str:
    words = (row["provider"], row["instance_type"], row["region"], row["gpu"], row["tier"])
    return ", ".join(escaped(word) for word in words if isinstance(word, str))


def _date(when: Any) -> str:
    return f"{when:%Y-%m-%d %H:%M}"


def _no_number(phases: pd.DataFrame) -> str:
    """Why there is no duration to speak of; empty when there is one."""
    if phases.empty:
        return NO_RUN
    return f"{failures_by_cause(phases)} {NO_SUCCESS} {source(phases)}" if passed(phases).empty else ""


def _top_row(phases: pd.DataFrame) -> pd.Series[Any]:
    """The summary of the longest top-level phase, by the median."""
    table = phase_summary(phases)
    named = table[(table["parent"] == PhaseName.TOTAL) & (table["phase"] != PhaseName.UNATTRIBUTED)]
    return _greatest(named, "median_s")


def _greatest(table: pd.DataFrame, name: str) -> pd.Series[Any]:
    return table.nlargest(1, name).iloc[0] if table[name].notna().any() else table.iloc[0]


def _halved(what_if: pd.DataFrame, most: int) -> list[pd.Series[Any]]:
    """The rows of the phases whose halving would save most."""
    real = what_if["phase"].isin([str(name) for name in TOP_LEVEL])
    best = what_if[real & (what_if["factor"] == 0.5)].nlargest(most, "saved_s")
    return [best.iloc[i] for i in range(len(best))]


def _cause(name: object) -> str:
    return escaped(str(name).replace("_", " "))


def _longest(phases: pd.DataFrame) -> str:
    row, table = _top_row(phases), shares(phases).set_index("phase")
    text = (
        f"Most of the time goes into {row['phase']}: {seconds(row['median_s'])} "
        f"(median; {within(row['median_low_s'], row['median_high_s'], 's', n=int(row['n']))})"
    )
    if row["phase"] in table.index:
        whole = table["mean_s"].sum()
        text += f", {percent(table.loc[row['phase'], 'mean_share'])} of the mean total of {seconds(whole)}"
    return f"{text}."


def _spent(phases: pd.DataFrame) -> str:
    table = {row["meter"]: row for row in cost_summary(phases).to_dict("records")}
    by_meter, naive, n = table["all meters"], table["naive"], attempted(phases)["run"].nunique()
    wall = f"{usd(naive['per_run_usd'])} (n = {naive['n']})"
    if not by_meter["n"] and not naive["n"]:
        return "What a run cost is not known."
    if not by_meter["n"]:
        return f"What a run cost is not known by meter; wall clock × price would say {wall}."
    least = "" if by_meter["n"] == n else "at least "
    success = f", a success {least}{usd(by_meter['per_success_usd'])}" if known(by_meter["per_success_usd"]) else ""
    return (
        f"A run cost {usd(by_meter['per_run_usd'])} by meter (mean; known for {by_meter['n']} of {n}){success}; "
        f"wall clock × price would say {wall}."
    )
