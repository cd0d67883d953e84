"""What could be wrong with a study's numbers, as far as the data themselves can tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vastbench.analysis.bottleneck import shares
from vastbench.analysis.findings import FEW
from vastbench.analysis.summary import attempted, passed, phase_summary
from vastbench.analysis.survival.clusters import DOMINANT
from vastbench.record.formats import counted, known, listed, percent, seconds
from vastbench.record.phases import PhaseName
from vastbench.render.sentences import NO_RUN, source, unfinished
from vastbench.render.wording import escaped

if TYPE_CHECKING:
    import pandas as pd

MIXED = {"gpu": "GPU", "image": "image", "profile": "profile", "scale": "clock speed", "scenario": "scenario"}


def doubts(phases: pd.DataFrame) -> str:
    """The doubts that the tidy frame ``phases`` itself raises, with their numbers, as a Markdown list."""
    if phases.empty:
        return NO_RUN
    found = [source(phases), *_few(phases), *_looks(phases), *_unfinished(phases), *_unattributed(phases)]
    return "\n".join(f"- {line}" for line in [*found, *_retries(phases), *_machines(phases), *_mixed(phases)] if line)


def _few(phases: pd.DataFrame) -> Iterator[str]:
    n = passed(phases)["run"].nunique()
    if n < FEW:
        yield f"Only {counted(n, 'run')} passed: below {FEW} a median has no 95 % interval." if n else "No run passed."


def _looks(phases: pd.DataFrame) -> Iterator[str]:
    summary, period = phase_summary(phases).set_index("phase")["bounds_s"], phases["poll_period_s"].median()
    width = summary.get(str(PhaseName.WAIT_RUNNING), float("nan"))
    if known(width):
        polled = f"polled every {seconds(period)} (median), " if known(period) else ""
        yield f"A status is {polled}so one run's wait running is known only within {seconds(width)} (median width)."


def _unfinished(phases: pd.DataFrame) -> Iterator[str]:
    table = phase_summary(phases)
    names = table.loc[(table["parent"] == PhaseName.TOTAL) & (table["phase"] != PhaseName.UNATTRIBUTED), "phase"]
    ends = {name: unfinished(phases, name) for name in names}
    cut = [f"{name} in {counted(n, 'run')}" for name, (n, _) in ends.items() if n]
    failed = [f"{name} in {counted(n, 'run')}" for name, (_, n) in ends.items() if n]
    if cut:
        longer = (
            "Those times could only have been longer; medians reckon with that, means and extremes are of the others alone."
        )
        yield f"Cut off: {listed(cut)}. {longer}"
    if failed:
        yield f"Failed: {listed(failed)}. Medians count those as never."


def _unattributed(phases: pd.DataFrame) -> Iterator[str]:
    for _, row in shares(phases).iterrows():
        if row["phase"] == PhaseName.UNATTRIBUTED:
            part = percent(row["mean_share"])
            yield f"No phase explains {part} of the mean total ({seconds(row['mean_s'])}, n = {row['n']})."


def _retries(phases: pd.DataFrame) -> Iterator[str]:
    runs = phases[phases["phase"] == PhaseName.TOTAL]
    again = int((runs["attempts"] > 1).sum())
    if again:
        yield f"{counted(again, 'run')} of {len(runs)} needed more than one try; only the last try is in a phase's sample."
    stopped = len(runs) - attempted(runs)["run"].nunique()
    if stopped:
        yield f"We stopped {counted(stopped, 'run')} ourselves; they are counted nowhere."


def _machines(phases: pd.DataFrame) -> Iterator[str]:
    machines = phases.loc[phases["phase"] == PhaseName.TOTAL, "machine"].dropna()
    counts = machines.value_counts()
    if len(machines) > 1 and len(counts) < len(machines):
        most = counts.iloc[0] / len(machines)
        text = f"{len(machines)} runs came from {counted(len(counts), 'machine')}, {percent(most)} of them from one"
        if len(counts) == 1:
            yield f"{text}: they describe that machine, and no interval can be given for others."
        elif most > DOMINANT:
            yield f"{text}: they describe it more than the marketplace."
        else:
            reckoned = "Intervals of phases and of what would be saved reckon with it; those of rates, costs and trends do not."
            yield f"{text}: they are not independent. {reckoned}"


def _mixed(phases: pd.DataFrame) -> Iterator[str]:
    runs = phases[phases["phase"] == PhaseName.TOTAL]
    for name, noun in MIXED.items():
        values = runs[name].dropna().value_counts()
        if len(values) > 1:
            shown = listed([f"{escaped(value)} ({n})" for value, n in list(values.items())[:4]])
            yield f"Taken together: {counted(len(values), noun)}: {shown}."
