"""Runs and studies as plain text, for terminals and for ``print`` in notebooks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from vastbench.analysis.attempts import MEASURED
from vastbench.errors import clean
from vastbench.record.formats import MISSING, bounds, counted, decimals, dollars, given, percent, seconds, usd
from vastbench.record.phases import Outcome, PhaseName, Row
from vastbench.record.run import Run
from vastbench.record.study import EndedBy

if TYPE_CHECKING:
    from vastbench.record.study import Study


def headline(run: Run) -> str:
    """One line: outcome, GPU, price, total, cost."""
    got = run.resources
    gpu = clean(got.get("gpu_name") or run.conditions.get("gpu_name") or "any GPU")
    price = run.usd_per_hour
    parts = [f"{run.outcome}" + (f" ({clean(run.cause)})" if run.cause else ""), gpu]
    if price is not None:
        parts.append(f"{dollars(price)}/h")
    parts.append(f"{decimals(run.total_s)} s")
    parts.append(f"{dollars(run.cost.total_usd)} by meter, {dollars(run.cost.naive_usd)} naive")
    return " · ".join(parts)


def run_text(run: Run, beside: Run | None = None) -> str:
    """The phase tree of a run with seconds, bounds and shares, the bottleneck marked; ``beside`` adds another run's seconds."""
    other = {row.name: decimals(row.seconds) for row in beside.rows()} if beside else {}
    column = f"{'beside':>9}" if beside else ""
    when = "" if run.scenario == MEASURED and run.started_at < "1971" else f", {run.started_at[:19]}Z"
    lines = [f"Run {run.id}  {run.scenario}, {run.source}{when}", headline(run)]
    if run.detail:
        lines.append(f"  {clean(run.detail)}")
    if beside:
        lines.append(f"  beside: run {beside.id}, {headline(beside)}")
    names = ["  " * row.depth + str(row.name) for row in run.rows()]
    wide = name_width(names)
    lines += ["", f"  {'phase':<{wide}}{'seconds':>9}{column}  {'bounds':<20}{'share':>7}"]
    for name, row in zip(names, run.rows(), strict=True):
        lines.append(_line(f"{name:<{wide}}", row, run.detail, f"{other.get(row.name, MISSING):>9}" if beside else ""))
    lines.append(f"  {'total':<{wide}}{decimals(run.total_s):>9}" + (f"{decimals(beside.total_s):>9}" if beside else ""))
    if doubt := run.guest.get("why"):
        lines += ["", f"  the instance's own clock is not trusted: {clean(doubt)}"]
    if wrong := run.guest.get("switch"):
        lines += ["", f"  the instance's dead-man's switch is not armed: {clean(wrong)}"]
    if tries := attempts_text(run):
        lines += ["", f"  {tries}"]
    if says := findings_of(run):
        wide = name_width(name for name, _ in says)
        lines += ["", *(f"  {name:<{wide}}{text}" for name, text in says)]
    return "\n".join(map(clean, lines))


def attempts_text(run: Run) -> str:
    """How each try of a run ended; empty for a run with one try."""
    tries = [f"{one.number} {one.outcome} {clean(one.cause or '')}".strip() for one in run.attempts]
    return f"attempts: {'; '.join(tries)}" if len(tries) > 1 else ""


def findings_of(run: Run) -> list[tuple[str, str]]:
    """What the checks of a run say in words, each with its name; checks that say nothing are left out."""
    checks = [(name, one) for name, one in run.validation.items() if isinstance(one, Mapping)]
    return [(clean(name), clean(one["says"])) for name, one in checks if "says" in one]


def name_width(names: Iterable[str]) -> int:
    """Characters for a column of phases' names, and two between it and the next."""
    return max([22, *(len(name) + 2 for name in names)])


def _line(name: str, row: Row, said_already: str, beside: str) -> str:
    share = "" if row.share is None else percent(row.share)
    mark = "  ◀ bottleneck" if row.bottleneck else ""
    if row.outcome is not Outcome.PASSED:
        mark += f"  {row.outcome}" + (f": {clean(row.detail)}" if row.detail and row.detail not in said_already else "")
    return f"  {name}{decimals(row.seconds):>9}{beside}  {bounds(row.lower, row.upper):<20}{share:>7}{mark}".rstrip()


def study_headline(study: Study) -> str:
    """One line: runs made of those wanted, passed, the others by cause, spent."""
    parts = [f"{len(study.made)} of {study.repeats} runs made", f"{study.passed} passed"]
    parts += [f"{number} {clean(cause)}" for cause, number in study.causes.items()]
    if stopped := len(study.runs) - len(study.made):
        parts.append(f"{stopped} not counted")
    return " · ".join([*parts, f"{dollars(study.spent_usd)} by meter"])


def study_phases(study: Study) -> list[tuple[str, int, str, str]]:
    """What a study's table shows of each phase: name, depth, the median in seconds of the runs that reached it, and their n."""
    from vastbench.analysis.frames import phases_table
    from vastbench.analysis.summary import phase_summary

    summary = phase_summary(phases_table(study.made))
    depths = summary["parent"].notna() & (summary["parent"] != PhaseName.TOTAL)
    columns = (summary["phase"], depths, summary["median_s"], summary["n"] + summary["unfinished"])
    return [(name, int(deep), decimals(median), str(n)) for name, deep, median, n in zip(*columns, strict=True)]


def conditions_text(study: Study) -> str:
    """What a study asked for, in short: ``emulator, default, RTX 4090, nvidia/cuda:12.1.0-base-ubuntu22.04``."""
    asked = study.conditions
    return ", ".join(clean(asked[name]) for name in ("source", "profile", "gpu_name", "image") if asked.get(name))


def study_text(study: Study) -> str:
    """A study's counts and the median of each phase."""
    lines = [
        f"Study “{study.name}”  {study.scenario}, {conditions_text(study)}, begun {study.started_at[:19]}Z",
        study_headline(study),
    ]
    rows = study_phases(study)
    if rows:
        wide = name_width("  " * depth + name for name, depth, _, _ in rows)
        lines += ["", f"  {'phase':<{wide}}{'median s':>9}{'n':>6}"]
        lines += [f"  {'  ' * depth + name:<{wide}}{median:>9}{n:>6}" for name, depth, median, n in rows]
    return "\n".join(map(clean, lines))


def stopping_text(study: Study) -> str:
    """What a study's stopping rule looked at, what it found, and what ended the study; empty for a study without one."""
    from vastbench.analysis.frames import phases_table
    from vastbench.analysis.stopping import effective_n_at, interval, observations, relative_width

    rule = study.stopping
    if rule is None:
        return ""
    seen = observations(phases_table(study.made), rule.quantity)
    low, high = interval(rule, seen)
    independent = effective_n_at(seen.upper, seen.machine, rule.quantile, rule.confidence)
    of = counted(len(seen), "run") + (f" (effective n {decimals(independent, 0)})" if independent < len(seen) else "")
    width = relative_width(low, high)
    found = f"has no interval yet, from {of}"
    if math.isfinite(width):
        found = f"lies between {decimals(low, 1)} and {seconds(high)}, {percent(width)} wide, from {of}"
    what = "median" if rule.quantile == 0.5 else f"{rule.quantile:g}-quantile"
    ended = f"Ended by its {study.ended_by}" if study.ended_by else "Not ended"
    more = ""
    if study.ended_by is EndedBy.PRECISION and width > rule.width:
        more = "\nIt was as narrow before the last runs, which were under way then, had ended."
    elif math.isfinite(width) and width > rule.width:
        more = f"\nHow many it takes: vastbench plan --from {study.name} --target-width {rule.width:g}"
    return (
        f"{ended}: the {what} of {rule.quantity} {found}; to be at most {percent(rule.width)}. "
        f"({given(rule.confidence)} confidence, also when looked at after every run.){more}"
    )


def verdict(run: Run) -> str:
    """The answer of one run in a sentence or two: how long until ready, where the time went, what it cost.

    Examples
    --------
    >>> print(vastbench.verdict(vastbench.load_run("2026-01-02-rtx4090")))  # doctest: +ELLIPSIS
    The RTX 4090 was ready 88.0 s after the start (known to lie between 75.6 and 88.0 s). ...
    """
    ready = run.phase(run.ready)
    gpu = clean(run.resources.get("gpu_name") or "GPU")
    if run.outcome is not Outcome.PASSED or ready is None or not ready.end.seen:
        after = f"{run.outcome} ({clean(run.cause)}) after {decimals(run.total_s)} s"
        return f"The {gpu} did not become ready: {after}. {clean(run.detail)}"
    top = next((row for row in run.rows() if row.bottleneck), None)
    most = ""
    if top:
        share = "" if top.share is None else f", {percent(top.share)} of the {decimals(run.total_s)} s in all"
        most = f"Most of the time went into {top.name}: {decimals(top.seconds)} s{share}. "
    return (
        f"The {gpu} was ready {seconds(ready.end.upper)} after the start (known to lie between {decimals(ready.end.lower, 1)} "
        f"and {seconds(ready.end.upper)}). {most}"
        f"It cost {usd(run.cost.total_usd)} by meter; wall clock times price would say {usd(run.cost.naive_usd)}."
    )
