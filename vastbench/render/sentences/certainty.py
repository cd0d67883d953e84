"""How sure the numbers are: curves with their plateau, what polls prove, the effective n, and what looks wrong."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from vastbench.analysis.blocks import paired
from vastbench.analysis.certainty import certainty
from vastbench.analysis.naive import PERIODS_S, known_durations, naive_readings
from vastbench.analysis.survival.clusters import DOMINANT
from vastbench.record.formats import counted, decimals, known, listed, of_share, percent, reach, seconds
from vastbench.record.phases import PhaseName
from vastbench.record.stopping import USEFUL
from vastbench.render.sentences.basis import NO_RUN, failures_by_cause, source
from vastbench.render.wording import escaped

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.record.run import Run

DONE = {USEFUL: "were ready", PhaseName.WAIT_RUNNING: "had a running instance"}
NEVER = {USEFUL: "were never ready", PhaseName.WAIT_RUNNING: "never had a running instance"}
SINCE = {USEFUL: "their start", PhaseName.WAIT_RUNNING: "the contract"}
"""What happened at the end of a quantity, and since when it is counted."""


def certainty_answer(phases: pd.DataFrame) -> str:
    """How long until half of all runs are useful and how many never are, in bold, and how sure that is."""
    if phases.empty:
        return NO_RUN
    row = _row(phases, USEFUL)
    if row is None:
        return failures_by_cause(phases)
    return " ".join(filter(None, [f"**{_half(row)}**", _known(row), _effective_n(row), source(phases)]))


def conditions_answer(phases: pd.DataFrame, *, by: str = "study", against: str | None = None) -> str:
    """Which conditions are ready sooner or later than one of them, in bold, and how much of each is known.

    ``by`` and ``against`` are those of :func:`vastbench.paired`.
    """
    if phases.empty:
        return NO_RUN
    rows = paired(phases, by, against=against).to_dict("records")
    apart = [row for row in rows if row["low"] > 1 or row["high"] < 1]
    base = escaped(rows[0]["against"])
    if apart:
        bold = f"{listed([_times_as_long(row) for row in apart])} as {base}"
    else:
        bold = f"No condition is shown to be ready sooner or later than {base}"
    rest = [_times_as_long(row) for row in rows if row not in apart]
    more = f" Not shown to differ: {listed(rest)}." if rest else ""
    return f"**{bold}.**{more} {source(phases)}"


def _times_as_long(row: Mapping[Hashable, Any]) -> str:
    ends = f"95 % interval {decimals(row['low'])}–{decimals(row['high'])}" if known(row["high"]) else "no 95 % interval"
    ends = f"95 % interval above {decimals(row['low'])}" if known(row["low"]) and not known(row["high"]) else ends
    ratio = f"takes {decimals(row['ratio'])} times as long" if known(row["ratio"]) else "is seldom ready"
    return f"{escaped(row['condition'])} {ratio} ({counted(row['blocks'], 'block')}, {ends})"


def boot_curves(phases: pd.DataFrame, *, phase: str = PhaseName.WAIT_RUNNING) -> str:
    """By when half and nine in ten of the attempted runs had ended ``phase``, and how many never did."""
    if phases.empty:
        return NO_RUN
    row = _row(phases, phase)
    if row is None:
        return f"No attempted run reached {phase}, so there is no number."
    nine = ""
    if known(row["p90_s"]):
        nine = f" Nine in ten had by {seconds(row['p90_s'])} ({_interval(row, 'p90')})."
    elif known(row["p90_low_s"]):
        nine = f" Nine in ten took longer than {seconds(row['p90_low_s'])}; how much longer is not known."
    return f"{_half(row)}{nine}"


def clusters(phases: pd.DataFrame, *, phase: str = PhaseName.WAIT_RUNNING) -> str:
    """How far runs on one machine resemble each other in ``phase``, and their effective n."""
    if phases.empty:
        return NO_RUN
    row = _row(phases, phase)
    if row is None:
        return f"No attempted run reached {phase}, so there is no number."
    if not row["ended"]:
        return f"No attempted run {DONE.get(phase, f'ended {phase}').replace('were', 'was')}."
    few = f"{counted(int(row['ended']), 'run')} with a {phase} cannot show how far runs on one machine resemble each other."
    return _effective_n(row, "" if phase == USEFUL else phase) or few


def naive_beside_honest(
    phases: pd.DataFrame,
    *,
    phase: PhaseName = PhaseName.WAIT_RUNNING,
    periods_s: tuple[float, ...] = PERIODS_S,
    seed: int = 1,
) -> str:
    """The median that the bounds allow, and those that pollers would have reported of the same runs."""
    import numpy as np

    lower, upper = known_durations(phases, phase)
    if not len(lower):
        return NO_RUN if phases.empty else f"No {phase} ended, so there is no number."
    low, high = float(np.median(lower)), float(np.median(upper))
    parts = []
    for period in sorted(periods_s):
        median = float(np.median(naive_readings(lower, upper, period, seed=seed)))
        above = median - (low + high) / 2
        side = "above" if above >= 0 else "below"
        parts.append(f"**{seconds(median)}** with a poll every {seconds(period)} ({seconds(abs(above))} {side} the middle)")
    runs = f"the {phase} of {len(lower)} runs has its median" if len(lower) > 1 else f"the only {phase} that ended lies"
    return (
        f"By their bounds {runs} between **{decimals(low, 1)} and {seconds(high)}**. Pollers that take the poll for the event, "
        f"simulated from these bounds, report {listed(parts)}."
    )


def poll_timeline(run: Run) -> str:
    """Within how many seconds a run's polls prove when it was running and when it could be used."""
    ends = {name: run.phase(name) for name in (PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH)}
    seen = {name: phase.end for name, phase in ends.items() if phase and phase.end.seen}
    if not seen:
        return f"In run {escaped(run.id)} no event was seen, so there is no number."
    words = {PhaseName.WAIT_RUNNING: "it ran", PhaseName.WAIT_SSH: "it was ready"}
    parts = [
        f"{words[name]} from an instant between **{decimals(end.lower, 1)} and {seconds(end.upper)}** on "
        f"({seconds(end.upper - end.lower)} wide)"
        for name, end in seen.items()
    ]
    return f"The polls of run {escaped(run.id)} (n = 1) prove that, counted from its start, {listed(parts)}.{_guest(run)}"


def _guest(run: Run) -> str:
    """What the instance's own clock adds, or why it adds nothing."""
    if not run.guest:
        return ""
    if not run.guest.get("trusted"):
        return f" The instance's own clock was not trusted: {escaped(run.guest.get('why') or 'no reason was given')}."
    told = (run.guest.get("moments") or {}).get("container_started")
    lag = run.phase(PhaseName.REPORTING)
    if not told or told.get("yes_received") is None:
        return ""
    width = decimals(told["yes_received"] - told["no_sent"])
    text = f" By the instance's own clock its container had started by {seconds(told['yes_received'])}, known within {width} s"
    if lag and lag.end.seen:
        text += f"; the status said so between {decimals(lag.lower, 1)} and {seconds(lag.upper)} later"
    return f"{text}."


def _row(phases: pd.DataFrame, quantity: str) -> pd.Series[Any] | None:
    table = certainty(phases, [quantity])
    return None if table.empty else table.iloc[0]


def _half(row: pd.Series[Any]) -> str:
    """By when half of the runs had it, and how many waited in vain."""
    name, n, vain = row["quantity"], int(row["n"]), int(row["n"] - row["ended"])
    done, since = DONE.get(name, f"had ended {name}"), SINCE.get(name, "its beginning")
    if n == 1:
        done, since = done.replace("were", "was"), since.replace("their", "its")
    rate = of_share(row["never_low_rate"], row["never_high_rate"], n=n)
    vainly = NEVER.get(name, f"never ended {name}")
    vainly = vainly.replace("were", "was") if vain == 1 else vainly
    lost = f"{vain} of {n} {vainly} ({rate})" if n > 1 else f"one run says little of how many never do ({rate})"
    runs = f"half of {n} attempted runs" if n > 1 else "the only attempted run"
    if known(row["median_s"]):
        when = f"within {seconds(row['median_s'])} of {since}"
        return f"{runs.capitalize()} {done} {when} ({_interval(row, 'median')}); {lost}."
    if n == 1:
        return f"The only attempted run {vainly}; {lost}."
    least = f"; the median is above {seconds(row['median_low_s'])}" if known(row["median_low_s"]) else ""
    return f"Less than half of {n} attempted runs {done}{least}; {lost}."


def _interval(row: pd.Series[Any], name: str) -> str:
    return reach(row[f"{name}_low_s"], row[f"{name}_high_s"], n=int(row["n"]), machines=_of_machines(row))


def _of_machines(row: pd.Series[Any]) -> int | None:
    """How many machines the runs came from, where they name them."""
    return None if row["unnamed"] else int(row["machines"])


def _known(row: pd.Series[Any]) -> str:
    width = row["bounds_s"]
    return f"In one run this instant is known within {seconds(width)} (median width)." if known(width) else ""


def _effective_n(row: pd.Series[Any], of: str = "") -> str:
    """The effective n of the runs that ended, as several come from one machine."""
    n, machines = int(row["ended"]), int(row["machines"])
    if n < 2:
        return ""
    if row["unnamed"] == n:
        return f"The {n} runs do not name their machines: each is taken as independent of the others."
    if machines == n:
        return f"The {n} runs came from as many machines: each says something of its own."
    text = f"{n} runs came from {counted(machines, 'machine')}"
    if known(row["effective_n"]):
        those = ["and", f"for {of}" if of else "", "they" if row["n"] == n else f"all {int(row['n'])} attempted"]
        text += (
            f"{',' if of else ''} {' '.join(filter(None, those))} tell as much as **{decimals(row['effective_n'], 1)}** "
            "independent ones "
            f"(design effect {decimals(row['design_effect'], 1)}; {percent(row['icc'])} of the variance lies between machines)"
        )
    else:
        text += "; they cannot show how far runs on one machine resemble each other"
    if row["largest_share"] > DOMINANT:
        text += (
            f". **One machine gave {percent(row['largest_share'])} of them**: the figures describe it more than the marketplace"
        )
    return f"{text}."
