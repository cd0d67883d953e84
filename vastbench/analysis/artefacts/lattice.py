"""Whether values lie on a lattice: a fixed offset plus whole multiples of a step, as polling and rounding make them.

The values are turned into angles of a circle whose circumference is the step. On a lattice they point one way, and their mean
resultant length R (Rayleigh 1880; Mardia and Jupp, Directional Statistics, 2000, §6.3) is near 1. Two lengths are asked for,
because smooth data can imitate either one alone: R of all values, and R of one value drawn from each cell of the lattice, so
that a tight cluster of values counts once. What remains is the chance that any of the many steps looked at does as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEAST = 5
"""So many values at least: any four lie near some lattice."""
CELLS = 3
"""In so many cells at least."""
PRINTED_S = 0.01
"""Values are taken as printed to no finer than this, so that no jitter is known to be less."""
MOST = 1000
"""Of more values so many are drawn: a lattice shows in any of them."""
DECIMAL = (600.0, 300.0, 120.0, 60.0, 30.0, 20.0, 15.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1)
"""Steps that programs are given: they share half of the chance of a false lattice, all other steps the rest."""

_OVERSAMPLED, _FREQUENCIES, _CANDIDATES = 6, 30_000, 40
_PLACES = 1e9  # of more steps in the span a float would not tell one from the next
# Between two independent frequencies, 1/span apart, the best of a continuum is found: so many trials to each, by simulation.
_TRIALS = 3.0


@dataclass(frozen=True, slots=True)
class Lattice:
    """The best lattice of some values. ``p`` is the chance that values without one look as much like one, all steps counted.

    ``step_error_s`` is the standard error of the step (least squares over the cells), ``offset_s`` lies in [0, step),
    ``jitter_s`` is the standard deviation about the lattice, ``cells`` how many of its places the ``n`` values take.
    """

    step_s: float
    step_error_s: float
    offset_s: float
    jitter_s: float
    cells: int
    n: int
    p: float


def lattice(values: np.ndarray, *, seed: int = 1) -> Lattice | None:
    """The lattice on which the finite ``values``, seconds, are most likely to lie; None where none can be told.

    Steps from 5 % of the median (at least 0.02 s, at most 1 s) to half the span are looked at: a finer one would change no
    figure. ``seed`` draws the value that stands for its cell, and 1,000 of more values.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if len(known) > MOST:
        known = rng.choice(known, MOST, replace=False)
    span = float(np.ptp(known)) if len(known) else 0.0
    finest = min(1.0, max(2 * PRINTED_S, 0.05 * float(np.median(np.abs(known))))) if len(known) else 1.0
    finest = max(finest, span / _PLACES)
    if len(known) < LEAST or span < 2 * finest:
        return None
    start, order = float(known.min()), rng.permutation(len(known))
    shifted, octaves = known - start, max(1.0, math.log2(span / 2 / finest))
    best: tuple[float, np.ndarray, int] | None = None
    usual = {1 / step for step in DECIMAL if finest <= step <= span / 2}
    for frequency in [*_frequencies(shifted, span, finest), *usual]:
        direction = complex(np.exp(2j * np.pi * frequency * shifted).mean())
        step = 1 / frequency
        cells = np.round(shifted / step - np.angle(direction) / (2 * np.pi)).astype(np.int64)
        _, first = np.unique(cells[order], return_index=True)
        if len(first) < CELLS:
            continue
        lone = abs(np.exp(2j * np.pi * frequency * shifted[order][first]).mean())
        sharpest = 1 - 2 * (math.pi * PRINTED_S / step) ** 2 / 12
        log_p = max(log_chance(len(first), min(lone, sharpest)), log_chance(len(known), min(abs(direction), sharpest)))
        log_p += math.log(2 * (len(DECIMAL) if frequency in usual else _TRIALS * octaves * span / step))
        if best is None or log_p < best[0]:
            best = log_p, cells, len(first)
    return _fitted(known, best[1], best[2], math.exp(min(0.0, best[0]))) if best else None


def log_chance(n: int, length: float) -> float:
    """The logarithm of the chance that ``n`` directions drawn evenly have a mean resultant length of at least ``length``.

    By the saddle point approximation (Daniels 1954), whose exponential family is von Mises': within a tenth from 3 directions
    on, at lengths so near 1 that Rayleigh's own approximation is off by orders of magnitude.
    """
    from scipy.special import i0e

    if length <= 1e-6:
        return 0.0
    kappa, slope = _concentration(min(length, 1 - 1e-12))
    log_density = n * (math.log(i0e(kappa)) + kappa * (1 - length))
    return min(0.0, 0.5 * math.log(length / (kappa * slope)) + log_density)


def _concentration(length: float) -> tuple[float, float]:
    """The von Mises concentration whose mean resultant length is ``length``, and the length's slope there."""
    from scipy.special import i0e, i1e

    if length > 0.98:
        kappa = 1 / (2 * (1 - length))
        return kappa, 1 / (2 * kappa**2)
    kappa = length * (2 - length**2) / (1 - length**2)
    for _ in range(8):
        now = i1e(kappa) / i0e(kappa)
        kappa = max(1e-9, kappa - (now - length) / (1 - now / kappa - now**2))
    now = i1e(kappa) / i0e(kappa)
    return float(kappa), float(1 - now / kappa - now**2)


def _frequencies(shifted: np.ndarray, span: float, finest: float) -> list[float]:
    """The frequencies, 1/s, of the most coherent steps, refined."""
    import numpy as np

    low, width = 2 / span, 1 / (_OVERSAMPLED * span)
    grid = low + width * np.arange(min(_FREQUENCIES, max(1, math.ceil((1 / finest - low) / width))))
    lengths = _lengths(grid, shifted)
    best = []
    for coarse in grid[np.argsort(-lengths)[:_CANDIDATES]]:
        fine = np.linspace(max(low, coarse - width), coarse + width, 61)
        best.append(float(fine[np.argmax(_lengths(fine, shifted))]))
    return best


def _lengths(frequencies: np.ndarray, shifted: np.ndarray) -> np.ndarray:
    import numpy as np

    at_once = max(1, 2_000_000 // len(shifted))
    parts = [frequencies[i : i + at_once] for i in range(0, len(frequencies), at_once)]
    return np.concatenate([np.abs(np.exp(2j * np.pi * np.outer(part, shifted)).mean(axis=1)) for part in parts])


def _fitted(values: np.ndarray, cells: np.ndarray, places: int, p: float) -> Lattice:
    from scipy.stats import linregress

    line = linregress(cells, values)
    rest = values - line.intercept - line.slope * cells
    step = float(line.slope)
    offset = float(line.intercept) % step if step > 0 else 0.0
    return Lattice(step, float(line.stderr), offset, float(rest.std()), places, len(values), p)
