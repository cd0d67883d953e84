"""What stands out in a set of runs: rules over its facts.

A rule is a function of :class:`~vastbench.analysis.facts.Facts` that gives findings, or none when the data for it are missing.
A finding's text names its figures in braces; their names carry their units (``_s`` seconds, ``_usd``, ``_share`` and ``_rate``
0–1, ``_ratio``, anything else a count or a word), so that any reader can format them, and no number is in the text only.
``{passed:run}`` is a count with its noun, ``1 run`` or ``2 runs``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vastbench.analysis.cost import naive_ratio, reconciliation
from vastbench.analysis.durations import exact
from vastbench.analysis.facts import EMULATED, Facts
from vastbench.analysis.frames import in_words
from vastbench.analysis.survival.clusters import DOMINANT
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.errors import LeaseNotClosed
from vastbench.record.cost import METERS, Match
from vastbench.record.formats import listed
from vastbench.record.numbers import quotient
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.stopping import USEFUL

FEW = 6
"""Fewer runs than this have no 95 % interval of their median."""
PRECISE = 0.1
"""The half-width of the median's interval, as a part of the median, that is worth aiming at."""
SHORTEST_PERIOD_S = 1.0
"""The marketplace's documented minimum between two looks at the status: nobody can poll faster."""
MIXED = {"source": "source", "scenario": "scenario", "scale": "clock speed", "profile": "profile", "gpu": "GPU"}
MIXED |= {"num_gpus": "GPU count", "image": "image", "disk_gb": "disk size"}
"""Conditions in which runs that are taken together may differ, and what they are called."""
NAMED = 4
"""More values of one condition than this are not named."""


class Kind(StrEnum):
    """Where in a report a finding stands."""

    WORKS = "works"
    BOTTLENECK = "bottleneck"
    ISSUE = "issue"
    DOUBT = "doubt"
    """What could be wrong with the other figures."""
    RECOMMENDATION = "recommendation"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence that a ``rule`` found true. ``text`` has the names of ``figures`` in braces."""

    rule: str
    kind: Kind
    text: str
    figures: dict[str, float | int | str]


Rule = Callable[[Facts], Iterator[Finding]]


def findings(facts: Facts, rules: Iterable[Rule] | None = None) -> list[Finding]:
    """What the ``rules`` (None: ``RULES``) find in ``facts``, in their order; nothing for no attempted run.

    A sentence of which a figure is missing is not said.
    """
    found = [finding for rule in rules or RULES for finding in rule(facts)] if facts.attempted else []
    return [one for one in found if all(isinstance(figure, str) or math.isfinite(figure) for figure in one.figures.values())]


def passes(facts: Facts) -> Iterator[Finding]:
    """How many runs passed."""
    row = facts.outcomes[facts.outcomes["outcome"] == Outcome.PASSED].iloc[0]
    if row["runs"]:
        text = f"{{passed}} of {{attempted}} runs passed: {{pass_rate}}{_within(row)}."
        yield Finding("passes", Kind.WORKS, text, _rates(row, passed=int(row["runs"]), pass_rate=row["rate"]))


def destroyed(facts: Facts) -> Iterator[Finding]:
    """Whether each instance was shown to be gone at the end of its run, those of runs that do not count included."""
    totals = facts.phases[facts.phases["phase"] == PhaseName.TOTAL]
    rented = set(totals.loc[totals["instance"].notna() | (totals["cause"] == LeaseNotClosed.cause), "run"])
    confirmed = facts.phases[(facts.phases["phase"] == PhaseName.CONFIRM) & (facts.phases["outcome"] == Outcome.PASSED)]
    gone = len(rented & set(confirmed["run"]))
    figures: dict[str, float | int | str] = {"rented": len(rented), "gone": gone, "open": len(rented) - gone}
    if rented and gone == len(rented):
        yield Finding("destroyed", Kind.WORKS, "Every instance was confirmed destroyed: {gone} of {rented}.", figures)
    elif rented:
        text = "{open:instance} of {rented} could not be confirmed as destroyed within their runs; see `vastbench doctor`."
        yield Finding("destroyed", Kind.ISSUE, text, figures)


def accounted(facts: Facts) -> Iterator[Finding]:
    """How much of the time no phase accounts for."""
    for _, row in facts.shares[facts.shares["phase"] == PhaseName.UNATTRIBUTED].iterrows():
        figures = {"rest_share": row["mean_share"], "rest_s": row["mean_s"], "runs": int(row["n"])}
        text = "No phase explains {rest_share} of the mean total ({rest_s}, n = {runs})."
        yield Finding("accounted", Kind.DOUBT, text, figures)


def longest(facts: Facts) -> Iterator[Finding]:
    """The phase with the largest part of the mean total, and what it does to the variance."""
    named = facts.shares[(facts.shares["phase"] != PhaseName.UNATTRIBUTED) & facts.shares["mean_share"].notna()]
    if named.empty:
        return
    row = named.nlargest(1, "mean_share").iloc[0]
    text = "{phase} takes {mean_share} of the mean total: {mean_s} of {total_s} (n = {runs})."
    total = float(facts.shares["mean_s"].sum())
    figures = {"phase": row["phase"], "mean_share": row["mean_share"], "mean_s": row["mean_s"], "total_s": total}
    yield Finding("longest", Kind.BOTTLENECK, text, figures | {"runs": int(row["n"])})


def varying(facts: Facts) -> Iterator[Finding]:
    """The phase that makes runs differ most."""
    if facts.shares["variance_share"].notna().any():
        row = facts.shares.nlargest(1, "variance_share").iloc[0]
        text = "{phase} accounts for {variance_share} of the variance of the total between runs (n = {runs})."
        figures = {"phase": row["phase"], "variance_share": row["variance_share"], "runs": int(row["n"])}
        yield Finding("varying", Kind.BOTTLENECK, text, figures)


def savings(facts: Facts) -> Iterator[Finding]:
    """What the most would be saved by, were it gone or halved."""
    known = facts.what_if[~facts.what_if["phase"].isin([PhaseName.UNATTRIBUTED])]
    for factor, rule, kind, text in (
        (
            0.0,
            "savings",
            Kind.BOTTLENECK,
            "Without {phase} the median total of the passed runs would be {then_s} instead of {now_s}",
        ),
        (
            0.5,
            "shorten",
            Kind.RECOMMENDATION,
            "Shorten {phase} first: half of it would save {saved_s} of the {now_s} that a passed run takes (median)",
        ),
    ):
        rows = known[(known["factor"] == factor) & (known["saved_s"] > 0)]
        if rows.empty:
            continue
        row = rows.nlargest(1, "saved_s").iloc[0]
        now = row["median_total_s"] + row["saved_s"]
        figures = {"phase": row["phase"], "saved_s": row["saved_s"], "then_s": row["median_total_s"], "now_s": now}
        if math.isfinite(row["saved_low_s"]):
            figures |= {"low_s": row["saved_low_s"], "high_s": row["saved_high_s"]}
            text += "; 95 % interval of the saving: {low_s} to {high_s}"
        yield Finding(rule, kind, f"{text}.", figures)


def failures(facts: Facts) -> Iterator[Finding]:
    """Each cause of runs that did not pass."""
    for _, row in facts.outcomes[facts.outcomes["outcome"] != Outcome.PASSED].iterrows():
        text = f"{{lost}} of {{attempted}} runs {{outcome}} ({{cause}}): {{rate}}{_within(row)}."
        cut_off = "was cut off" if row["runs"] == 1 else "were cut off"
        words = {"outcome": cut_off if row["outcome"] == Outcome.CENSORED else "failed", "cause": row["cause"]}
        yield Finding("failures", Kind.ISSUE, text, _rates(row, lost=int(row["runs"]), rate=row["rate"]) | words)


def unfinished(facts: Facts) -> Iterator[Finding]:
    """Phases in which runs were cut off or failed, so that those that ended it are not all there is."""
    top = facts.summary[(facts.summary["parent"] == PhaseName.TOTAL) & (facts.summary["phase"] != PhaseName.UNATTRIBUTED)]
    longer = "Medians reckon with that; means and extremes leave such runs out."
    never = "Medians count such runs as longer than all others."
    for column, how, so in (("cut_off", "A deadline cut off", longer), ("failed", "Failed in", never)):
        for _, row in top[top[column] > 0].iterrows():
            figures = {"phase": row["phase"], "runs": int(row[column])}
            yield Finding("unfinished", Kind.DOUBT, f"{how} {{phase}}: {{runs:run}}. {so}", figures)


def stopped(facts: Facts) -> Iterator[Finding]:
    """Runs that say nothing of a machine."""
    if facts.stopped:
        text = "Not counted: {stopped:run} that we stopped, or that were refused to the account."
        yield Finding("stopped", Kind.DOUBT, text, {"stopped": facts.stopped})


def retries(facts: Facts) -> Iterator[Finding]:
    """Runs that needed more than one try."""
    again = int((facts.runs["attempts"] > 1).sum())
    if again:
        text = "{again} of {attempted:attempted run} needed more than one try; a phase's figures are of the last try."
        yield Finding("retries", Kind.DOUBT, text, {"again": again, "attempted": facts.attempted})


def one_host(facts: Facts) -> Iterator[Finding]:
    """One machine behind most of the successes: repeats on one machine are not independent of each other."""
    machines = facts.runs.loc[facts.runs["run_outcome"] == Outcome.PASSED, "machine"].dropna()
    if len(machines) < 3:
        return
    counts = machines.value_counts()
    if counts.iloc[0] > DOMINANT * len(machines):
        figures: dict[str, float | int | str] = {"machine": str(counts.index[0]), "runs": int(counts.iloc[0])}
        text = "Machine {machine} gave {runs} of {passed} successes: the figures describe it more than the marketplace."
        yield Finding("one_host", Kind.DOUBT, text, figures | {"passed": len(machines)})
        more = "Exclude machine {machine} or search more widely: repeats on one machine are not independent."
        yield Finding("other_hosts", Kind.RECOMMENDATION, more, {"machine": str(counts.index[0])})


def repeats(facts: Facts) -> Iterator[Finding]:
    """Runs on one machine that resemble each other, so that they say less than as many independent ones."""
    useful = facts.certainty[facts.certainty["quantity"] == USEFUL]
    for _, row in useful[useful["machines"] < useful["ended"]].iterrows():
        figures = {"ended": int(row["ended"]), "machines": int(row["machines"]), "largest_share": row["largest_share"]}
        text = "{ended:run} that were ready came from {machines:machine}, {largest_share} of them from one: they "
        if row["machines"] == 1:
            text += "describe that machine, and no interval can be given for others."
        else:
            text += "are not independent. Every interval reckons with it."
        yield Finding("repeats", Kind.DOUBT, text, figures)


def measured(facts: Facts) -> Iterator[Finding]:
    """What the timings show of how they were measured rather than of what was measured."""
    if facts.artefacts:
        names = ", ".join(dict.fromkeys(one.rule for one in facts.artefacts))
        figures: dict[str, float | int | str] = {"count": len(facts.artefacts), "rules": names}
        text = "The timings show {count:artefact} of how they were measured ({rules}); see certainty."
        yield Finding("measured", Kind.ISSUE, text, figures)


def naive_cost(facts: Facts) -> Iterator[Finding]:
    """Wall clock times price against the meters."""
    both = facts.runs.dropna(subset=["cost_usd", "naive_usd"])
    if both["cost_usd"].sum() > 0:
        text = "Wall clock times price, as is commonly reported, is {naive_ratio} times the metered cost (n = {runs})."
        yield Finding("naive_cost", Kind.ISSUE, text, {"naive_ratio": naive_ratio(both), "runs": len(both)})


def charges(facts: Facts) -> Iterator[Finding]:
    """Charges of the account that neither its rounding nor the bounds of the meters explain."""
    made = reconciliation(facts.phases)
    apart = made.runs[made.runs["charge"] == Match.DIFFERS]
    if apart.empty:
        return
    most = apart[[f"{meter}_residual_usd" for meter in METERS]].sum().abs().fillna(0.0)
    figures: dict[str, float | int | str] = {"differ": len(apart), "asked": len(made.runs)}
    figures |= {"charged_usd": float(apart["charged_usd"].sum()), "metered_usd": float(apart["cost_usd"].sum())}
    text = "{differ} of {asked:run} cost other than the meters say, by more than rounding: the account was charged "
    text += "{charged_usd} where they say {metered_usd}"
    if most.any():
        figures |= {"meter": str(most.idxmax()).removesuffix("_residual_usd")}
        text += "; most of it by the meter {meter}"
    yield Finding("charges", Kind.ISSUE, f"{text}. See `vastbench reconcile`.", figures)


def polling(facts: Facts) -> Iterator[Finding]:
    """How well a poll can know when the instance was running."""
    period = float(facts.runs["poll_period_s"].median())
    for _, row in facts.summary[facts.summary["phase"] == PhaseName.WAIT_RUNNING].iterrows():
        known = math.isfinite(period)
        text = "A status is polled every {period_s} (median), so one" if known else "One"
        text += " run's wait running is known only within {bounds_s} (median width)."
        figures = {"bounds_s": row["bounds_s"]} | ({"period_s": period} if known else {})
        yield Finding("polling", Kind.DOUBT, text, figures)
        if row["bounds_s"] > PRECISE * row["median_s"] and period > 1.5 * SHORTEST_PERIOD_S:
            more = "Poll more often than every {period_s}: the wait for running is known to within {bounds_s} only."
            yield Finding("poll_faster", Kind.RECOMMENDATION, more, figures)


def emulated(facts: Facts) -> Iterator[Finding]:
    """Runs that rented nothing."""
    runs = facts.runs[facts.runs["source"] == EMULATED]
    scales = sorted(runs["scale"].dropna().unique())
    if runs.empty:
        return
    figures: dict[str, float | int | str] = {"runs": len(runs), "attempted": facts.attempted}
    text = "EMULATED: {runs} of {attempted} runs"
    if scales:
        figures |= {"slowest": float(scales[0]), "fastest": float(scales[-1])}
        text += f", at {'{fastest}' if scales[0] == scales[-1] else '{slowest} to {fastest}'} × real time"
    yield Finding("emulated", Kind.DOUBT, f"{text}. They show the method and the emulator's model.", figures)
    yield Finding("live", Kind.RECOMMENDATION, "Repeat the study live before relying on a figure.", {})


def pooled(facts: Facts) -> Iterator[Finding]:
    """Conditions that differ between runs whose figures are taken together."""
    for name, noun in MIXED.items():
        values = facts.runs[name].dropna().value_counts()
        if len(values) > 1:
            which = listed([f"{in_words(value)} ({n})" for value, n in list(values.items())[:NAMED]])
            figures: dict[str, float | int | str] = {"column": name, "values": len(values), "which": which}
            yield Finding("pooled", Kind.DOUBT, f"These figures mix {{values:{noun}}}: {{which}}.", figures)


def few(facts: Facts) -> Iterator[Finding]:
    """Too few passed runs for an interval, or for a narrow one."""
    if not facts.passed:
        yield Finding("few", Kind.DOUBT, "No run passed.", {})
        return
    if facts.passed < FEW:
        figures: dict[str, float | int | str] = {"passed": facts.passed, "needed": FEW}
        yield Finding(
            "few", Kind.DOUBT, "Only {passed:run} passed: a median of fewer than {needed} has no 95 % interval.", figures
        )
        yield Finding("more_runs", Kind.RECOMMENDATION, "Make at least {needed} runs that pass.", {"needed": FEW})
        return
    row = facts.summary[facts.summary["phase"] == PhaseName.TOTAL]
    if row.empty:
        return
    low, high, median = (float(row[name].iloc[0]) for name in ("median_low_s", "median_high_s", "median_s"))
    if not all(math.isfinite(value) for value in (low, high, median)):
        return
    half = quotient((high - low) / 2, median)
    if half > PRECISE:
        # The width of an interval shrinks with the square root of the number of runs.
        needed = math.ceil(facts.passed * (half / PRECISE) ** 2)
        text = "The median total is known to ±{half_share}; about {needed} passed runs would bring that to ±{aim_share}."
        figures = {"half_share": half, "needed": needed, "aim_share": PRECISE}
        yield Finding("more_runs", Kind.RECOMMENDATION, text, figures)


def give_up(facts: Facts) -> Iterator[Finding]:
    """How long to wait for a machine, where some never became useful."""
    last = facts.phases[(facts.phases["phase"] == PhaseName.WAIT_RUNNING) & facts.phases["final"]]
    last = last[last["run"].isin(facts.runs["run"])]
    ran = last[last["outcome"] == Outcome.PASSED]
    nine = quantile_estimate(exact(ran["seconds"], ran["machine"]), 0.9)
    longer = int((last.loc[last["outcome"] == Outcome.CENSORED, "lower_s"] > nine.high).sum())
    if not math.isfinite(nine.high) or not longer:
        return
    text = (
        "Give up on a machine that is not running after about {p90_s} and rent another: "
        "90 % of those that ran were running by then (95 % interval {low_s} to {high_s}); {unfinished:run} waited longer."
    )
    figures: dict[str, float | int | str] = {"p90_s": nine.value, "low_s": nine.low, "high_s": nine.high}
    yield Finding("give_up", Kind.RECOMMENDATION, text, figures | {"unfinished": longer})


def per_success(facts: Facts) -> Iterator[Finding]:
    """What a success costs when the failures are paid too."""
    row = facts.costs[facts.costs["meter"] == "all meters"]
    known = not row.empty and row["n"].iloc[0] == facts.attempted
    if not known or facts.passed == facts.attempted or math.isnan(row["per_success_usd"].iloc[0]):
        return
    text = "Budget {success_usd} per success, not {run_usd} per run: failures are paid, too."
    figures = {"success_usd": row["per_success_usd"].iloc[0], "run_usd": row["per_run_usd"].iloc[0]}
    if figures["success_usd"] > figures["run_usd"]:
        yield Finding("per_success", Kind.RECOMMENDATION, text, figures)


def _rates(row: Any, **figures: Any) -> dict[str, float | int | str]:
    interval = {"low_rate": row["rate_low"], "high_rate": row["rate_high"]} if _within(row) else {}
    return figures | {"attempted": int(row["attempted"])} | interval


def _within(row: Any) -> str:
    """The words for a rate's interval, none where a single machine allows none."""
    return ", with a 95 % interval of {low_rate} to {high_rate}" if math.isfinite(row["rate_low"]) else ""


DOUBTS: tuple[Rule, ...] = (emulated, few, polling, unfinished, accounted, retries, stopped, one_host, repeats, pooled)
"""The rules about what could be wrong with the figures."""
RULES: tuple[Rule, ...] = (
    passes,
    destroyed,
    longest,
    varying,
    savings,
    failures,
    measured,
    naive_cost,
    charges,
    *DOUBTS,
    give_up,
    per_success,
)
"""Every rule, in the order in which a report lists what they find. A rule's docstring says what it looks for."""
