"""Rules for the values of a phase: lattices, spreads below the poll period, deadlines as values, zeros and constants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vastbench.analysis.artefacts.lattice import LEAST, Lattice, lattice
from vastbench.analysis.artefacts.rule import ANSWER, Artefact, has, per_phase, resolution

if TYPE_CHECKING:
    import pandas as pd

SURE = 0.003
"""The chance of a false lattice in one table, shared between its phases."""
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


def lattices(timings: pd.DataFrame) -> Iterator[Artefact]:
    """Durations of a phase, or the answers of a status log, on a lattice; see :mod:`~vastbench.analysis.artefacts.lattice`."""
    groups = [(name, rows, False) for name, rows in per_phase(timings) if len(rows) >= LEAST]
    if has(timings, "kind"):
        answers = timings[(timings["kind"] == ANSWER) & timings["seconds"].notna()]
        logs = answers.groupby(["run", "phase"], sort=False)
        groups += [(f"{phase} of {run}", rows, True) for (run, phase), rows in logs if len(rows) >= LEAST]
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
    what = f"the answers in the status log of {name}" if answered else f"{name}: the values"
    step = f"{found.step_s:.4g} s"
    reading = "An event read from this log" if answered else "Each value"
    return Artefact(
        "lattice",
        tuple(rows.index),
        {
            "n": found.n,
            "step_s": found.step_s,
            "step_error_s": found.step_error_s,
            "offset_s": found.offset_s,
            "jitter_s": found.jitter_s,
            "places": found.cells,
            "p": found.p,
        },
        f"{what[0].upper()}{what[1:]} lie on a lattice of step {found.step_s:.4g} ± {found.step_error_s:.2g} s and offset "
        f"{found.offset_s:.4g} s: {found.n} values in {found.cells} places, {found.jitter_s:.2g} s about them; the chance of "
        f"this without a lattice is {_chance(found.p)}.",
        f"{reading} is a tick of a poll or of rounding, not an event: the true time may be up to {step} away. A median of "
        f"polled times is too long by {found.step_s / 2:.3g} s on average, and no difference below {step} can be seen.",
    )


def spreads(timings: pd.DataFrame) -> Iterator[Artefact]:
    """Values of a polled phase that differ by far less than its poll period.

    Were the event anywhere in the period, ``n`` values would all lie within a part ``w`` of it with the chance
    n·wⁿ⁻¹ − (n − 1)·wⁿ.
    """
    for name, phase in per_phase(timings):
        for _, rows in phase[phase["poll_period_s"] > 0].groupby("poll_period_s"):
            n, period = len(rows), float(rows["poll_period_s"].iloc[0])
            spread = float(rows["seconds"].max() - rows["seconds"].min())
            width = spread / period
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
    """Deadlines reported as values: at a declared deadline, or piled up at the largest value."""
    for name, rows in per_phase(timings):
        seconds = rows["seconds"]
        if has(rows, "timeout_s"):
            at = rows[seconds >= (1 - SAME / 5) * rows["timeout_s"]]
            if len(at):
                deadline = float(at["timeout_s"].median())
                yield _timeout(name, at, len(rows), deadline, f"at or beyond the declared deadline of {deadline:.4g} s", {})
            continue
        pile = rows[seconds >= (1 - SAME) * seconds.max()]
        if seconds.max() > 0 and PILE <= len(pile) < len(rows) and (chance := _pile(seconds, len(pile))) < RARE:
            top = float(pile["seconds"].max())
            text = f"at the largest one, {top:.4g} s; the chance of that in a smooth tail is {_chance(chance)}"
            yield _timeout(name, pile, len(rows), top, text, {"p": chance})


def _timeout(name: str, at: pd.DataFrame, n: int, deadline: float, where: str, more: dict[str, float | int | str]) -> Artefact:
    return Artefact(
        "value equal to a timeout",
        tuple(at.index),
        {"n": n, "at_deadline": len(at), "deadline_s": deadline, **more},
        f"{name}: {len(at)} of {n} values lie {where}.",
        "There the waiting was given up: these are not durations but lower bounds of longer ones. A mean is too short by an "
        "unknown amount; only quantiles below the deadline can be told.",
    )


def _pile(seconds: pd.Series[float], k: int) -> float:
    """The chance that the ``k`` largest values lie so close, were the tail exponential there, as any smooth tail nearly is.

    Then the gaps between successive values, times their ranks, are exponential and independent of each other (Rényi 1953), and
    the means of the ``k`` − 1 topmost and of those below have a ratio with an F distribution. Printed digits widen each gap.
    """
    import numpy as np
    from scipy.stats import f

    ordered = np.sort(seconds.to_numpy(dtype=float))[::-1]
    below = min(len(ordered) - k, max(5, k))
    grain = max(resolution(seconds), found.step_s if (found := lattice(ordered)) and found.p < SURE else 0.0)
    gaps = (ordered[: k + below - 1] - ordered[1 : k + below] + grain) * np.arange(1, k + below)
    ratio = gaps[: k - 1].mean() / gaps[k - 1 :].mean()
    return float(f.cdf(ratio, 2 * (k - 1), 2 * below))


def zeros(timings: pd.DataFrame) -> Iterator[Artefact]:
    """Zeros among positive durations, negative durations, and one value again and again."""
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
        if len(zero) and len(positive) and positive.median() >= 10 * resolution(positive):
            yield Artefact(
                "zero for missing",
                tuple(zero.index),
                {"n": len(rows), "zeros": len(zero), "median_positive_s": float(positive.median())},
                f"{name}: {len(zero)} of {len(rows)} durations are exactly 0; the median of the others is "
                f"{positive.median():.4g} s.",
                f"A missing value was written as 0. It draws the mean down to {seconds.mean():.4g} s from "
                f"{positive.mean():.4g} s and makes the fastest run one that was never timed.",
            )
        # Few values of few digits may well be equal; of many digits they are not.
        least = PILE if seconds.abs().max() >= 200 * resolution(seconds) else LEAST
        if len(rows) >= least and seconds.nunique() == 1 and seconds.iloc[0] > 0:
            value = float(seconds.iloc[0])
            yield Artefact(
                "zero for missing",
                tuple(rows.index),
                {"n": len(rows), "constant_s": value},
                f"{name}: all {len(rows)} durations are {value:.6g} s.",
                "What is measured varies: this is a constant of the program, or one value copied. Its spread of 0 is no "
                "precision.",
            )


def _chance(p: float) -> str:
    return "less than one in a billion" if p < 1e-9 else f"{p:.1g}"
