"""Is B worse than A, better, or the same within margins? The effect on success and on speed, its interval, and a verdict.

The effect of success is the difference of the rates at which attempted runs pass, see :func:`success`. That of speed is the
ratio of the medians, B ÷ A, over all attempted runs that reached a phase: those that failed or were cut off
count as longer, see :func:`~vastbench.analysis.durations.durations`. Its interval is put together from those of the two medians
on the logarithm (the method of variance estimates recovery, Zou and Donner 2008; for medians as Price and Bonett 2002), which
use the effective n where machines repeat, and vary together where machines are in both groups.

A verdict needs an interval. *Equivalent*: the interval at 1 − 2α lies within the margin. *Slower* and *faster*: the interval at
1 − α lies on one side of 1, and the p-value of a test is at most α. The first quantity is the primary one and keeps α to
itself. The others are secondary: their p-values are adjusted among themselves by Holm (1979), and the intervals that their
equivalence is judged by are at 1 − 2α ÷ their number. For B as a whole see :func:`~vastbench.analysis.verdicts.whole`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import machines, pool, totals
from vastbench.analysis.fairness import cautions
from vastbench.analysis.stopping import observations
from vastbench.analysis.survival.clusters import alike, effective_ns, how_many, numbered, repeated
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.quantiles import Estimate, quantile_estimate
from vastbench.analysis.survival.ranks import Spread, chance, difference, holm, together
from vastbench.analysis.verdicts import USUAL, Criteria, Verdict, undecided, whole
from vastbench.errors import UsageError, did_you_mean
from vastbench.record.formats import counted
from vastbench.record.numbers import quotient
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.plain import plain
from vastbench.record.shown import Answer
from vastbench.record.stopping import USEFUL

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Passes = tuple[np.ndarray, np.ndarray | None]

NAMED = 3

EFFECT_COLUMNS = {
    "quantity": "str",
    "n_a": "int64",
    "ended_a": "int64",
    "machines_a": "int64",
    "n_b": "int64",
    "ended_b": "int64",
    "machines_b": "int64",
    "median_a_s": "float64",
    "median_b_s": "float64",
    "ratio": "float64",
    "ratio_low": "float64",
    "ratio_high": "float64",
    "equivalence_low": "float64",
    "equivalence_high": "float64",
    "a_first": "float64",
    "a_first_low": "float64",
    "a_first_high": "float64",
    "test": "str",
    "p_value": "float64",
    "p_least": "float64",
    "p_adjusted": "float64",
    "verdict": "str",
    "why": "str",
}
"""The columns of :attr:`Comparison.effects`."""


@dataclass(frozen=True, slots=True)
class Success:
    """The rate of attempted runs that passed, B less A, −1 to 1, its interval and that for equivalence, the verdict, and why.

    ``effective_a`` and ``effective_b`` are the effective n that the interval used, where runs on one machine resemble each
    other; 0 where too few machines allow none. NaN where nothing was attempted, and of an interval that cannot be.
    """

    passed_a: int
    n_a: int
    effective_a: float
    passed_b: int
    n_b: int
    effective_b: float
    difference: float
    low: float
    high: float
    equivalence_low: float
    equivalence_high: float
    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Answer):
    """B against A; it shows itself.

    ``effects`` has a row per quantity (``EFFECT_COLUMNS``): ``n_a`` and ``n_b`` attempted runs that reached it, ``ended_a`` and
    ``ended_b`` of them with success, on ``machines_a`` and ``machines_b`` (one that is not known counts by itself); the medians
    of what was waited, in seconds; ``ratio`` of the medians B ÷ A of the durations themselves, without what the polls of either
    group add, with its interval, and the interval that equivalence is judged by; ``a_first``,
    the probability that a run of A takes less time than one of B, with its interval; the ``test``, its p-value, the least that
    it can be with as many runs, and the p-value, adjusted from the second row on for the number of these; the ``verdict``, and
    ``why``. NaN is missing. ``speed`` is the first row's verdict, that of the primary quantity; from it and from ``success``
    follows the ``verdict`` as a whole. ``cautions``: what makes the comparison unfair, in sentences.
    ``names``: what A and B are called; empty for nothing. ``a`` and ``b``: their tidy frames, ``runs`` both together.
    """

    effects: pd.DataFrame
    success: Success
    cautions: tuple[str, ...]
    criteria: Criteria
    a: pd.DataFrame
    b: pd.DataFrame
    names: tuple[str, str] = ("", "")

    @property
    def speed(self) -> Verdict:
        """The verdict on how long the first quantity takes."""
        return Verdict(self.effects["verdict"].iloc[0])

    @property
    def verdict(self) -> Verdict:
        """The verdict on B as a whole, by :func:`~vastbench.analysis.verdicts.whole`."""
        slow = self.effects["ratio"].iloc[0] > 1 + self.criteria.margin
        return whole(
            self.success.verdict, self.speed, loss_seen=slow or self.success.difference < -self.criteria.success_margin
        )

    @property
    def runs(self) -> pd.DataFrame:
        """The tidy frames of both in one, ``A`` or ``B`` in its column ``group``: for charts, which take ``by="group"``."""
        import pandas as pd

        both = pd.concat([self.a.assign(group="A"), self.b.assign(group="B")], ignore_index=True)
        return pool(both)  # they may differ in kind, and are drawn apart

    def to_dict(self) -> dict[str, object]:
        """The comparison for programs, ready for JSON: a figure that is missing, and an end that is open, are None."""
        said = {
            "a": self.names[0],
            "b": self.names[1],
            "verdict": str(self.verdict),
            "speed": str(self.speed),
            **asdict(self.criteria),
            "effects": self.effects.to_dict("records"),
            "success": asdict(self.success),
            "cautions": list(self.cautions),
        }
        return dict(plain(said))


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    quantities: Sequence[str] = (USEFUL,),
    criteria: Criteria = USUAL,
    *,
    by: str = "",
) -> Comparison:
    """Compare the runs of the tidy frames ``a`` and ``b`` by success and by ``quantities``: phases, or ``time to ready``.

    The first quantity is the primary one. ``by`` is the column by which the two were chosen, and so no caution. Raises
    UsageError for a run that is in both, a quantity that does not exist, and none at all.
    """
    strange = [name for name in quantities if name not in {USEFUL, *PhaseName, *a["phase"], *b["phase"]}]
    if strange or not quantities:
        name = (strange or [""])[0]
        there = [one for one in dict.fromkeys([*a["phase"], *b["phase"]]) if one != PhaseName.UNATTRIBUTED]
        close = did_you_mean(name, [USEFUL, *there])
        raise UsageError(f"There is no quantity {name!r}.", hint=f"{close}Choose {USEFUL!r} or a phase: {', '.join(there)}.")
    if shared := sorted(set(a["run"]) & set(b["run"])):
        which = ", ".join(shared[:NAMED]) + (" …" if len(shared) > NAMED else "")
        many = "1 run is" if len(shared) == 1 else f"{len(shared)} runs are"
        raise UsageError(f"{many} in both A and B: {which}.", hint="Compare different runs.")
    seen = {str(name): (observations(a, name), observations(b, name)) for name in quantities}
    table = effects(seen, criteria)
    for column, frame in (("median_a_s", a), ("median_b_s", b)):
        table[column] = [quantile_estimate(observations(frame, name, waited=True), 0.5).value for name in seen]
    return Comparison(table, success(a, b, criteria), tuple(cautions(a, b, by=by)), criteria, a, b)


def effects(seen: Mapping[str, tuple[Durations, Durations]], criteria: Criteria = USUAL) -> pd.DataFrame:
    """The table of :attr:`Comparison.effects` for durations of A and of B by name of the quantity, the primary one first."""
    import numpy as np
    import pandas as pd

    tests = [1] + [len(seen) - 1] * (len(seen) - 1)
    rows = [
        _effect(name, *pair, criteria.confidence, criteria.equivalence(many))
        for many, (name, pair) in zip(tests, seen.items(), strict=True)
    ]
    table = pd.DataFrame(rows, columns=list(EFFECT_COLUMNS))
    p_values = table["p_value"].to_numpy(dtype=float)
    table["p_adjusted"] = np.append(p_values[:1], holm(p_values[1:]))
    judged = [_of_speed(row, criteria, many) for many, row in zip(tests, table.to_dict("records"), strict=True)]
    table["verdict"], table["why"] = [str(verdict) for verdict, _ in judged], [why for _, why in judged]
    return table.astype(EFFECT_COLUMNS)


def success(a: pd.DataFrame, b: pd.DataFrame, criteria: Criteria = USUAL) -> Success:
    """How much more often the attempted runs of the tidy frame ``b`` passed than those of ``a``, by :func:`success_of`."""
    return success_of(_passed(a), _passed(b), criteria)


def success_of(a: Passes, b: Passes, criteria: Criteria = USUAL) -> Success:
    """How much more often the runs of ``b`` passed than those of ``a``: of each run whether it did, and its machine.

    The intervals are hybrid score intervals (Newcombe 1998, method 10). Where machines repeat they use the effective n
    (:func:`~vastbench.analysis.survival.clusters.effective_ns`); NaN where a group has a single machine with several runs. The
    one for equivalence counts every machine once: a machine that always fails may be among those that were not met.
    """
    counts = [(int(good.sum()), len(good)) for good, _ in (a, b)]
    known = effective_ns((a, b), criteria.confidence)
    sure = [_rate(*count, n, criteria.confidence) for count, n in zip(counts, known, strict=True)]
    once = [alike(numbered(machine, len(good))) if n else 0.0 for (good, machine), n in zip((a, b), known, strict=True)]
    equal = [_rate(*count, n, criteria.equivalence()) for count, n in zip(counts, once, strict=True)]
    difference, low, high = _apart_in(*sure)
    _, equal_low, equal_high = _apart_in(*equal)
    sizes = [size for good, machine in (a, b) for size in (len(good), how_many(machine, len(good)))]
    verdict, why = _of_success((low, high, equal_low, equal_high), sizes, criteria)
    if verdict is Verdict.NOT_ENOUGH:
        verdict, why = undecided(counts, why)
    (passed_a, n_a), (passed_b, n_b) = counts
    of_a, of_b = (passed_a, n_a, known[0]), (passed_b, n_b, known[1])
    return Success(*of_a, *of_b, difference, low, high, equal_low, equal_high, verdict, why)


def ratio_interval(a: Estimate, b: Estimate, *, correlation: float = 0.0) -> tuple[float, float, float]:
    """The ratio B ÷ A of two quantiles and its interval; what cannot be known is NaN, an open end infinite.

    Their ``correlation`` is 0 where they are independent.

    Where one of the two is only known to lie beyond what was seen, there is no ratio, and the ends of the two intervals alone
    bound it, which is wider than need be.
    """
    value = quotient(b.value, a.value) if a.value > 0 else math.nan
    if any(math.isnan(end) for end in (a.low, a.high, b.low, b.high)):
        return value, math.nan, math.nan
    if math.isnan(value) or not b.value > 0:
        low = b.low / a.high if math.isfinite(a.high) and a.high > 0 else 0.0
        high = b.high / a.low if math.isfinite(b.high) and a.low > 0 else math.inf
        return value, low, high
    down = _reach(_apart(b.low, b.value), _apart(a.value, a.high), correlation)
    up = _reach(_apart(b.value, b.high), _apart(a.low, a.value), correlation)
    return value, value * math.exp(-down), value * math.exp(up) if math.isfinite(up) else math.inf


def _reach(of_b: float, of_a: float, correlation: float) -> float:
    if math.isinf(of_b) or math.isinf(of_a):
        return math.inf
    return math.sqrt(max(0.0, of_b**2 + of_a**2 - 2 * correlation * of_b * of_a))


def _correlation(a: Durations, b: Durations, median_a: float, median_b: float) -> float:
    """How much the medians vary together because machines are in both groups: as the shares up to them do, by machine."""
    machines = together(a, b)
    if math.isnan(median_a) or math.isnan(median_b) or not repeated(machines):
        return 0.0
    below_a, below_b = (
        (found.ended & (found.upper <= median)).astype(float) for found, median in ((a, median_a), (b, median_b))
    )
    spread = Spread.of(below_a, below_b, machines[: len(a)], machines[len(a) :])
    return 0.0 if spread is None else spread.correlation


def _apart(low: float, high: float) -> float:
    """By how much two positive figures differ on the logarithm, infinite where the lower is 0."""
    if low <= 0 or math.isinf(high):
        return math.inf
    return math.log(high / low)


def _effect(name: str, a: Durations, b: Durations, confidence: float, narrower: float) -> dict[str, float | int | str]:
    medians = [quantile_estimate(found, 0.5, confidence=confidence) for found in (a, b)]
    common = _correlation(a, b, *(estimate.value for estimate in medians))
    ratio, low, high = ratio_interval(*medians, correlation=common)
    of_equivalence = (quantile_estimate(found, 0.5, confidence=narrower) for found in (a, b))
    _, equal_low, equal_high = ratio_interval(*of_equivalence, correlation=common)
    first, test = chance(a, b, confidence), difference(a, b)
    return {
        "quantity": name,
        "n_a": len(a),
        "ended_a": int(a.ended.sum()),
        "machines_a": how_many(a.machine, len(a)),
        "n_b": len(b),
        "ended_b": int(b.ended.sum()),
        "machines_b": how_many(b.machine, len(b)),
        "median_a_s": medians[0].value,
        "median_b_s": medians[1].value,
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "equivalence_low": equal_low,
        "equivalence_high": equal_high,
        "a_first": first.value,
        "a_first_low": first.low,
        "a_first_high": first.high,
        "test": test.name,
        "p_value": test.p_value,
        "p_least": test.least,
    }


def _of_speed(row: dict[Hashable, Any], criteria: Criteria, tests: int) -> tuple[Verdict, str]:
    """The verdict on a row of the effects, one of so many ``tests``, and why."""
    low, high, (least, most) = row["ratio_low"], row["ratio_high"], criteria.ratios
    within = f"the margin, {least:.3g} to {most:.3g}"
    counts = (row["ended_a"], row["n_a"]), (row["ended_b"], row["n_b"])
    if math.isnan(low):
        return undecided(counts, _too_few(row, criteria.level))
    if least <= row["equivalence_low"] and row["equivalence_high"] <= most:
        return Verdict.EQUIVALENT, (
            f"the interval at {criteria.equivalence(tests):.3g}, {row['equivalence_low']:.3g} to "
            f"{row['equivalence_high']:.3g}, lies within {within}"
        )
    if not (low > 1 or high < 1):
        return undecided(counts, f"the interval holds 1 and reaches over {within}{_how_many(row, criteria.margin)}")
    if row["p_adjusted"] <= criteria.level:
        side = "above" if low > 1 else "below"
        return Verdict.SLOWER if low > 1 else Verdict.FASTER, f"the whole interval lies {side} 1"
    p = (
        "nothing can be tested"
        if math.isnan(row["p_adjusted"])
        else f"the test does not confirm it, p = {row['p_adjusted']:.2g}"
    )
    return undecided(counts, f"the interval leaves out 1, but {p}")


def _too_few(row: dict[Hashable, Any], level: float) -> str:
    groups = _groups(*(row[f"{what}_{letter}"] for letter in "ab" for what in ("n", "machines")))
    least = f"; its p-value cannot be below {row['p_least']:.2g}" if row["p_least"] > level else ""
    return f"{groups} allow no interval of the ratio{least}"


def _groups(n_a: int, machines_a: int, n_b: int, machines_b: int) -> str:
    """``20 runs of A on 1 machine and 30 runs of B``: machines only where they repeat."""

    def group(letter: str, n: int, machines: int) -> str:
        return f"{counted(n, 'run')} of {letter}" + (f" on {counted(machines, 'machine')}" if machines < n else "")

    return f"{group('A', n_a, machines_a)} and {group('B', n_b, machines_b)}"


def _how_many(row: dict[Hashable, Any], margin: float) -> str:
    low, high = row["equivalence_low"], row["equivalence_high"]
    if not (low > 0 and math.isfinite(high)):
        return ""
    repeats = row["machines_a"] < row["n_a"] or row["machines_b"] < row["n_b"]
    return _times_as_many(math.log(high / low) / (2 * math.log1p(margin)), repeats=repeats)


def _times_as_many(width: float, *, repeats: bool) -> str:
    """How many times as many runs would bring an interval to ``width`` 1, as it narrows with the root of n."""
    machines = ", on as many more machines" if repeats else ""
    return f"; to be as narrow takes about {width**2:.2g} times as many runs{machines}" if width > 1 else ""


def _passed(phases: pd.DataFrame) -> Passes:
    runs = totals(phases)
    return (runs["run_outcome"] == Outcome.PASSED).to_numpy(dtype=bool), machines(runs)


def _rate(passed: int, runs: int, n: float, confidence: float) -> tuple[float, float, float]:
    """The rate at which so many ``runs`` passed, and its score interval (Wilson 1927) at the effective ``n``, each 0–1."""
    from scipy.stats import norm

    rate = quotient(passed, runs)
    if not n:
        return rate, math.nan, math.nan
    z = float(norm.ppf((1 + confidence) / 2))
    middle, half = rate + z * z / (2 * n), z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return rate, max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def _apart_in(a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, float, float]:
    (rate_a, low_a, high_a), (rate_b, low_b, high_b) = a, b
    difference = rate_b - rate_a
    return (
        difference,
        difference - math.hypot(rate_b - low_b, high_a - rate_a),
        difference + math.hypot(high_b - rate_b, rate_a - low_a),
    )


def _of_success(ends: tuple[float, ...], sizes: Sequence[int], criteria: Criteria) -> tuple[Verdict, str]:
    """The verdict on an interval and the one for equivalence, of groups of these ``sizes`` in runs and machines, and why."""
    low, high, equal_low, equal_high = ends
    margin = criteria.success_margin
    within = f"the margin of {100 * margin:g} points"
    if math.isnan(low):
        return Verdict.NOT_ENOUGH, f"{_groups(*sizes)} allow no interval of the difference"
    if high < 0:
        return Verdict.WORSE, "the whole interval lies below 0"
    if low > 0:
        return Verdict.BETTER, "the whole interval lies above 0"
    points = f"the interval at {criteria.equivalence():.3g}, {100 * equal_low:+z.1f} to {100 * equal_high:+z.1f} points,"
    if -margin <= equal_low and equal_high <= margin:
        return Verdict.EQUIVALENT, f"{points} lies within {within}"
    n_a, machines_a, n_b, machines_b = sizes
    more = _times_as_many((equal_high - equal_low) / (2 * margin), repeats=machines_a < n_a or machines_b < n_b)
    return Verdict.NOT_ENOUGH, f"the interval holds 0, and {points} reaches over {within}{more}"
