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

from vastbench.analysis.artefacts.rule import resolution

if TYPE_CHECKING:
    import numpy as np

SURE = 0.003
"""The chance of a false lattice in one table, shared between its phases."""
LEAST = 5
"""So many values at least: any four lie near some lattice."""
CELLS = 3
"""In so many cells at least."""
PRINTED_S = 0.01
"""Values that are printed coarser are taken as printed so, and no jitter is known to be less than what is printed."""
MOST = 1000
"""Of more values so many are drawn: a lattice shows in any of them."""
DECIMAL = (600.0, 300.0, 120.0, 60.0, 30.0, 20.0, 15.0, 10.0, 6.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001)
"""Steps that programs are given: they share half of the chance of a false lattice, all other steps the rest."""
MOST_OFF = 0.1
"""A lattice whose middle value is farther from it than this part of the step is loose: then no value is told to be off it."""

_OVERSAMPLED, _FREQUENCIES, _CANDIDATES = 6, 30_000, 40
_PLACES = 1e9  # of more steps in the span a float would not tell one from the next
# Between two independent frequencies, 1/span apart, the best of a continuum is found: so many trials to each, by simulation.
_TRIALS = 3.0


@dataclass(frozen=True, slots=True)
class Lattice:
    """The best lattice of some values. ``p`` is the chance that values without one look as much like one, all steps counted.

    ``step_error_s`` is the standard error of the step (least squares over the cells), ``offset_s`` lies in [0, step),
    ``jitter_s`` is the standard deviation about the lattice, ``cells`` how many of its places the ``n`` values take.
    ``rounded``: each value is a whole multiple of the step. Values ``within_s`` of a place are on the lattice, others off it.
    """

    step_s: float
    step_error_s: float
    offset_s: float
    jitter_s: float
    cells: int
    n: int
    p: float
    within_s: float
    rounded: bool = False

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Which of the values lie on the lattice."""
        import numpy as np

        away = (np.asarray(values, dtype=float) - self.offset_s) / self.step_s
        return np.abs(away - np.round(away)) * self.step_s <= self.within_s


def rounding(values: np.ndarray) -> Lattice | None:
    """The coarsest usual step of which all finite ``values``, seconds, are whole multiples; None where chance could do that.

    Values with one decimal more would all be multiples with a chance of (finer ÷ step) to the power of their number.
    """
    import numpy as np

    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if len(known) < LEAST or not known.any():
        return None
    for step in DECIMAL:
        places = np.round(known / step)
        if not np.allclose(known, places * step, rtol=0, atol=1e-9 + 1e-6 * step):
            continue
        finer = 10.0 ** math.floor(math.log10(step) + 1e-9)
        finer = finer if finer < step * (1 - 1e-9) and _divides(finer, step) else finer / 10
        p = min(1.0, math.exp(len(known) * math.log(finer / step)) * len(DECIMAL))
        if len(cells := np.unique(places)) >= CELLS and p < SURE:
            return Lattice(step, 0.0, 0.0, 0.0, len(cells), len(known), p, step / 2, rounded=True)
    return None


def _divides(finer: float, step: float) -> bool:
    return abs(step / finer - round(step / finer)) < 1e-6


def lattice(values: np.ndarray, *, seed: int = 1) -> Lattice | None:
    """The lattice on which the finite ``values``, seconds, are most likely to lie; None where none can be told.

    Steps from 5 % of the median (at least two printed digits, at most 1 s) to half the span are looked at: a finer one would
    change no figure. ``seed`` draws the value that stands for its cell, and 1,000 of more values.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if len(known) > MOST:
        known = rng.choice(known, MOST, replace=False)
    span = float(np.ptp(known)) if len(known) else 0.0
    typical = float(np.median(np.abs(known))) if len(known) else 0.0
    printed = min(PRINTED_S, resolution(known))
    if (found := rounding(known)) and found.step_s >= min(1.0, 0.05 * typical):
        return found
    finest = max(min(1.0, max(2 * printed, 0.05 * typical)), span / _PLACES, 1.5 * found.step_s if found else 0.0)
    if len(known) < LEAST or span < 2 * finest:
        return None
    start, order = float(known.min()), rng.permutation(len(known))
    shifted, octaves = known - start, max(1.0, math.log2(span / 2 / finest))
    best: tuple[float, np.ndarray] | None = None
    usual = {1 / step for step in DECIMAL if finest <= step <= span / 2}
    for frequency in [*_frequencies(shifted, span, finest), *usual]:
        direction = complex(np.exp(2j * np.pi * frequency * shifted).mean())
        step = 1 / frequency
        cells = np.round(shifted / step - np.angle(direction) / (2 * np.pi)).astype(np.int64)
        _, first = np.unique(cells[order], return_index=True)
        if len(first) < CELLS:
            continue
        lone = abs(np.exp(2j * np.pi * frequency * shifted[order][first]).mean())
        sharpest = 1 - 2 * (math.pi * printed / step) ** 2 / 12
        log_p = max(log_chance(len(first), min(lone, sharpest)), log_chance(len(known), min(abs(direction), sharpest)))
        log_p += math.log(2 * (len(DECIMAL) if frequency in usual else _TRIALS * octaves * span / step))
        if best is None or log_p < best[0]:
            best = log_p, cells
    return _fitted(known, best[1], math.exp(min(0.0, best[0])), printed) if best else None


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


def _fitted(values: np.ndarray, cells: np.ndarray, p: float, printed: float) -> Lattice:
    """The line through the values over their cells, and again without those that lie clearly off it."""
    import numpy as np

    step, error, start, rest = _line(values, cells)
    within, on = math.inf, np.ones(len(values), dtype=bool)
    for _ in range(2):
        middle = float(np.median(np.abs(rest)))
        if middle > MOST_OFF * step:
            break
        # 6 medians are 4 standard deviations of a normal jitter; a sharper one is not known better than the print.
        within = max(6 * middle, 0.02 * step, 2 * printed)
        on = np.abs(rest) <= within
        if on.all() or len(np.unique(cells[on])) < CELLS:
            break
        step, error, start, _ = _line(values[on], cells[on])
        rest = values - start - step * cells
    offset = start % step if step > 0 else 0.0
    return Lattice(step, error, offset, float(rest[on].std()), len(np.unique(cells[on])), len(values), p, within)


def _line(values: np.ndarray, cells: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    from scipy.stats import linregress

    line = linregress(cells, values)
    return float(line.slope), float(line.stderr), float(line.intercept), values - line.intercept - line.slope * cells
