"""Rules for the values of a phase: lattices, spreads below the poll period, deadlines as values, zeros and constants."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vastbench.analysis.artefacts.claims import complete
from vastbench.analysis.artefacts.lattice import LEAST, SURE, Lattice, lattice
from vastbench.analysis.artefacts.rule import ANSWER, Artefact, has, per_phase, resolution, samples

if TYPE_CHECKING:
    import pandas as pd

RARE = 0.001
"""Below this probability it is not taken for a coincidence."""
COVERED = 0.8
"""Bounds of this part of a step declare it; they can be a little narrower where the next poll came early."""
NARROW = 0.25
"""A spread wider than this part of the poll period is not called far below it."""
SAME = 0.005
"""Values within this part of each other are the same deadline, read by a loop."""
PILE = 3
"""So many equal values at the top are a pile."""
NEAR = 0.05
"""A step this close to the declared poll period is that of the poll."""
_GIVEN = (
    "0.1 0.2 0.5 1 2 3 5 10 15 20 30 45 60 90 100 120 150 180 200 240 300 360 400 480 500 600 720 900 1000 1200 1500 1800 2400 "
    "2700 3600 5400 7200 10800 14400"
)
DEADLINES = tuple(map(float, _GIVEN.split()))
"""Deadlines that programs are given."""
SENTINELS = (999.0, 9999.0, 99999.0, 999999.0, 2147483647.0)
"""Numbers that programs write for a missing one."""
HUNDREDTH = 0.01
"""Printed to no finer than this, a time may well be so short that 0 stands for it."""
EXACT = 2000
"""A value of so many printed steps that two equal ones are no coincidence: 20.00 s."""


def any_value(timings: pd.DataFrame) -> bool:
    """Whether there is a sample of any phase."""
    return not samples(timings).empty


def enough(timings: pd.DataFrame) -> bool:
    """Whether a phase, or a status log, has so many values that a lattice could be told."""
    return bool(_groups(timings))


def polled(timings: pd.DataFrame) -> bool:
    """Whether a phase was polled so often that a spread could be told."""
    return any(len(rows) >= PILE for _, rows in _polled(timings))


def _groups(timings: pd.DataFrame) -> list[tuple[str, pd.DataFrame, bool]]:
    """Values that could lie on one lattice, with a name, and whether they are the answers of a status log."""
    groups = [(name, rows, False) for name, rows in per_phase(timings) if len(rows) >= LEAST]
    if has(timings, "kind"):
        answers = timings[(timings["kind"] == ANSWER) & timings["seconds"].notna()]
        logs = answers.groupby(["run", "phase"], sort=False)
        groups += [(f"{phase} of {run}", rows, True) for (run, phase), rows in logs if len(rows) >= LEAST]
    return groups


def _polled(timings: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The samples of each phase and poll period, with a name. A phase shorter than the period was not read by that poll."""
    for name, phase in per_phase(timings):
        for period, rows in phase[phase["poll_period_s"] > 0].groupby("poll_period_s"):
            if rows["seconds"].median() >= float(str(period)):
                yield name, rows


def lattices(timings: pd.DataFrame) -> Iterator[Artefact]:
    """Durations of a phase, or the answers of a status log, on a lattice; see :mod:`~vastbench.analysis.artefacts.lattice`."""
    groups = _groups(timings)
    for name, rows, answered in groups:
        found = lattice(rows["seconds"].to_numpy(dtype=float))
        if found and found.p < SURE / len(groups) and not _declared(rows, found.step_s):
            yield _lattice(name, rows, found, answered=answered)


def _declared(rows: pd.DataFrame, step: float) -> bool:
    """Whether most values carry bounds about as wide as ``step``: then they do not claim to be finer than they are."""
    if not (has(rows, "lower_s") and has(rows, "upper_s")):
        return False
    return float((rows["upper_s"] - rows["lower_s"] >= COVERED * step).mean()) > 0.5


def _lattice(name: str, rows: pd.DataFrame, found: Lattice, *, answered: bool) -> Artefact:
    on = rows[found.holds(rows["seconds"].to_numpy(dtype=float))]
    # A table of more values than are looked at may hold a few that none of those told of.
    off = len(rows) - len(on) if found.n == len(rows) else 0
    what = f"the answers in the status log of {name}" if answered else f"{name}: {'some' if off else 'the'} values"
    polled = has(rows, "poll_period_s") and bool(((rows["poll_period_s"] / found.step_s - 1).abs() < NEAR).any())
    rounded = found.rounded and not answered and not polled
    if rounded:
        text = f"are whole multiples of {found.step_s:.4g} s: {found.n} values in {found.cells} places"
    else:
        text = (
            f"lie on a lattice of step {found.step_s:.4g} ± {found.step_error_s:.2g} s and offset {found.offset_s:.4g} s: "
            f"{len(on) if off else found.n} {f'of {len(rows)} ' if off else ''}values in {found.cells} places, "
            f"{found.jitter_s:.2g} s about them"
        )
    others = f" The other {off} values do not: find what they differ in, and keep them apart (--group-by)." if off else ""
    return Artefact(
        "lattice",
        tuple((on if off else rows).index),
        {
            "n": found.n,
            "on_it": len(rows) - off,
            "step_s": found.step_s,
            "step_error_s": found.step_error_s,
            "offset_s": found.offset_s,
            "jitter_s": found.jitter_s,
            "places": found.cells,
            "p": found.p,
            "reading": "rounding" if rounded else "poll",
        },
        f"{what[0].upper()}{what[1:]} {text}; the chance of this without a lattice is {_chance(found.p)}.{others}",
        _rounded(found) if rounded else _ticks(found, answered=answered),
    )


def _rounded(found: Lattice) -> str:
    return (
        f"They were rounded, or taken from rounded clock times: each may be up to {found.step_s / 2:.3g} s from the true time, "
        f"and up to {found.step_s:.4g} s where fractions were cut off. Rounding shifts no median by more; no difference below "
        f"{found.step_s:.4g} s can be seen."
    )


def _ticks(found: Lattice, *, answered: bool) -> str:
    step = f"{found.step_s:.4g} s"
    reading = "An event read from this log" if answered else "Each value"
    return (
        f"{reading} is a tick of a poll or of a clock, not an event: the true time may be up to {step} away. A median of "
        f"polled times is too long by {found.step_s / 2:.3g} s on average, and no difference below {step} can be seen."
    )


def spreads(timings: pd.DataFrame) -> Iterator[Artefact]:
    """Values of a polled phase that differ by far less than its poll period.

    Were the event anywhere in the period, ``n`` values would all lie within a part ``w`` of it with the chance
    n·wⁿ⁻¹ − (n − 1)·wⁿ.
    """
    for name, rows in _polled(timings):
        n, period = len(rows), float(rows["poll_period_s"].iloc[0])
        spread = float(rows["seconds"].max() - rows["seconds"].min())
        width = (spread + resolution(rows["seconds"])) / period  # equal as printed is not equal
        if n < PILE or width > NARROW or _declared(rows, period) or n * width ** (n - 1) - (n - 1) * width**n > RARE:
            continue
        yield Artefact(
            "spread below the poll period",
            tuple(rows.index),
            {"n": n, "spread_s": spread, "poll_period_s": period},
            f"{name}: {n} values differ by {spread:.3g} s, but were read by a poll every {period:.4g} s.",
            f"The spread is that of the polls: the true times may differ by up to {period:.4g} s, and a standard deviation "
            "or an interval computed from these values is too narrow.",
        )


def timeouts(timings: pd.DataFrame) -> Iterator[Artefact]:
    """Deadlines reported as values: at a declared deadline, or piled up just above a usual one that nobody declared."""
    for name, rows in per_phase(timings):
        seconds = rows["seconds"]
        limits = rows["timeout_s"].where(rows["timeout_s"] > 0) if has(rows, "timeout_s") else seconds * math.nan
        if len(at := rows[seconds >= (1 - SAME / 5) * limits]):
            low, high = float(limits[at.index].min()), float(limits[at.index].max())
            deadline = f"{low:.4g} s" if low == high else f"{low:.4g} to {high:.4g} s"
            yield Artefact(
                "value equal to a timeout",
                tuple(at.index),
                {"n": len(rows), "at_deadline": len(at), "deadline_s": float(limits[at.index].median())},
                f"{name}: {len(at)} of {len(rows)} values lie at or beyond the declared deadline of {deadline}.",
                f"There the waiting was given up: {BOUNDED}",
            )
        elif found := _undeclared(seconds):
            pile, deadline_s, chance = found
            yield Artefact(
                "value equal to a timeout",
                tuple(pile.index),
                {"n": len(rows), "at_deadline": len(pile), "deadline_s": deadline_s, "p": chance},
                f"{name}: {len(pile)} of {len(rows)} values, the largest, lie within {pile.max() - deadline_s:.3g} s above "
                f"{deadline_s:.4g} s, a usual deadline; the chance of that in a smooth tail is {_chance(chance)}.",
                f"If the waiting was given up there, say so by timeout_s, or by censored as outcome: then {BOUNDED}",
            )


BOUNDED = (
    "these are not durations but lower bounds of longer ones. A mean is too short by an unknown amount; only quantiles below "
    "the deadline can be told."
)


def _undeclared(seconds: pd.Series[float]) -> tuple[pd.Series[float], float, float] | None:
    """The values piled up at the top just above a usual deadline, that deadline, and the chance of such a pile; else None.

    A tight group of slow runs looks the same but for where it lies, so a pile anywhere else is none.
    """
    top = float(seconds.max())
    deadline = max((one for one in DEADLINES if one <= top * (1 + 1e-9)), default=math.inf)
    pile = seconds[seconds >= (1 - 1e-9) * deadline]
    if not PILE <= len(pile) < len(seconds) or top > (1 + SAME) * deadline or pile.min() > (1 + SAME / 5) * deadline:
        return None
    grain = _grain(seconds)
    if 4 * ((seconds >= deadline - max(SAME * deadline, grain) - 1e-9).sum() - len(pile)) > len(pile):
        return None  # as many lie just below
    chance = _pile(seconds, len(pile), grain)
    return (pile, deadline, chance) if chance < RARE else None


def _grain(seconds: pd.Series[float]) -> float:
    """The step of the printed values, or of the lattice on which they lie."""
    found = lattice(seconds.to_numpy(dtype=float))
    return max(resolution(seconds), found.step_s if found and found.p < SURE else 0.0)


def _pile(seconds: pd.Series[float], k: int, grain: float) -> float:
    """The chance that the ``k`` largest values lie so close, were the tail exponential there, as any smooth tail nearly is.

    Then the gaps between successive values, times their ranks, are exponential and independent of each other (Rényi 1953), and
    the means of the ``k`` − 1 topmost and of those below have a ratio with an F distribution. Printed digits widen each gap.
    """
    import numpy as np
    from scipy.stats import f

    ordered = np.sort(seconds.to_numpy(dtype=float))[::-1]
    below = min(len(ordered) - k, max(5, k))
    gaps = (ordered[: k + below - 1] - ordered[1 : k + below] + grain) * np.arange(1, k + below)
    ratio = gaps[: k - 1].mean() / gaps[k - 1 :].mean()
    return float(f.cdf(ratio, 2 * (k - 1), 2 * below))


def zeros(timings: pd.DataFrame) -> Iterator[Artefact]:
    """Zeros among positive durations, negative durations, and one value again and again.

    Where one zero lies in a run that adds up to its total, all of its phase are short times.
    """
    whole = complete(timings)
    for name, rows in per_phase(timings):
        seconds = rows["seconds"]
        positive = seconds[seconds > 0]
        if len(negative := rows[seconds < 0]):
            yield Artefact(
                "zero for missing",
                tuple(negative.index),
                {"n": len(rows), "negative": len(negative), "least_s": float(seconds.min())},
                f"{name}: {len(negative)} of {len(rows)} durations are negative, the least {seconds.min():.4g} s.",
                "No duration is negative: a mark for a missing value, or two clocks. Every mean and quantile with it is too "
                "short.",
            )
        zero = rows[seconds == 0]
        if len(zero) and not zero["run"].isin(whole).any() and len(positive) and _rounded_to_zero(positive) < RARE:
            yield Artefact(
                "zero for missing",
                tuple(zero.index),
                {"n": len(rows), "zeros": len(zero), "median_positive_s": float(positive.median())},
                f"{name}: {len(zero)} of {len(rows)} durations are exactly 0; the median of the others is "
                f"{positive.median():.4g} s.",
                f"A missing value was written as 0{_or_short(positive)}. It draws the mean down to {seconds.mean():.4g} s from "
                f"{positive.mean():.4g} s and makes the fastest run one that was never timed.",
            )
        marks = rows[seconds.isin(SENTINELS)]
        if (
            len(marks)
            and len(rows) - len(marks) >= PILE
            and marks["seconds"].min() > 5 * seconds[~seconds.isin(SENTINELS)].max()
        ):
            yield Artefact(
                "zero for missing",
                tuple(marks.index),
                {"n": len(rows), "marks": len(marks), "mark_s": float(marks["seconds"].max())},
                f"{name}: {len(marks)} of {len(rows)} durations are {marks['seconds'].max():.10g} s; all others are at most "
                f"{seconds[~seconds.isin(SENTINELS)].max():.4g} s.",
                "That number is a mark for a missing value. Every mean with it is too long.",
            )
        # Few values of few digits may well be equal, and so may many of a thing that takes nearly always as long.
        if len(rows) >= LEAST and seconds.nunique() == 1 and seconds.iloc[0] >= EXACT * resolution(seconds.iloc[:1]):
            value = float(seconds.iloc[0])
            yield Artefact(
                "zero for missing",
                tuple(rows.index),
                {"n": len(rows), "constant_s": value},
                f"{name}: all {len(rows)} durations are {value:.6g} s.",
                "What is measured varies: this is a constant of the program, or one value copied. Its spread of 0 is no "
                "precision.",
            )


def _or_short(positive: pd.Series[float]) -> str:
    grain = resolution(positive)
    return f", if it is not a time below {grain / 2:g} s" if grain > HUNDREDTH else ""


def _rounded_to_zero(positive: pd.Series[float]) -> float:
    """The chance that the least of such values is printed as 0, were their lower tail the power of a time that it looks like.

    Its exponent is Hill's (1975), of the lower half or of the ten least: times that come near 0, as of a cache or of nothing
    to do, have a small one.
    """
    import numpy as np

    grain = resolution(positive)
    least = np.sort(positive.to_numpy(dtype=float))[: min(11, (len(positive) + 1) // 2 + 1)]
    spread = float(np.log((least[-1] + grain) / least[:-1]).mean()) if len(least) > 1 else 1.0
    return float(min(1.0, grain / 2 / least[0]) ** (1 / spread))


def _chance(p: float) -> str:
    return "less than one in a billion" if p < 1e-9 else f"{p:.1g}"
