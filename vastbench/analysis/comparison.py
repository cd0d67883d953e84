"""Is B slower than A, faster, or the same within a margin? The effect and its interval first, then a test, then the verdict.

The effect is the ratio of the medians, B ÷ A, over all attempted runs that reached a phase: those that failed or were cut off
count as longer, see :func:`~vastbench.analysis.durations.durations`. Its interval is put together from those of the two medians
on the logarithm (the method of variance estimates recovery, Zou and Donner 2008; for medians as Price and Bonett 2002), which
use the effective n where machines repeat, and vary together where machines are in both groups.

A verdict needs an interval. *Equivalent*: the interval at 1 − 2α lies within the margin (two one-sided tests, Schuirmann 1987).
*Slower* and *faster*: the interval at 1 − α lies on one side of 1, and the test's p-value, adjusted for the number of phases by
Holm (1979), is at most α. Anything else is *not enough runs*.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import attempted, pool
from vastbench.analysis.fairness import cautions
from vastbench.analysis.stopping import observations
from vastbench.analysis.survival.clusters import effective_n, numbered, repeated
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.intervals import CONFIDENCE
from vastbench.analysis.survival.quantiles import Estimate, quantile_estimate
from vastbench.analysis.survival.ranks import Spread, chance, difference, holm, together
from vastbench.errors import UsageError
from vastbench.record.numbers import quotient
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.plain import plain
from vastbench.record.shown import Answer
from vastbench.record.stopping import USEFUL

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 0.1
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


class Verdict(StrEnum):
    """What B is against A."""

    SLOWER = "slower"
    FASTER = "faster"
    EQUIVALENT = "equivalent"
    NOT_ENOUGH = "not enough runs"


@dataclass(frozen=True, slots=True)
class Success:
    """The rate of attempted runs that passed, B less A, and its interval, each −1 to 1; NaN where nothing was attempted."""

    passed_a: int
    n_a: int
    passed_b: int
    n_b: int
    difference: float
    low: float
    high: float

    @property
    def worse(self) -> bool:
        """Whether B surely passes less often."""
        return self.high < 0

    @property
    def better(self) -> bool:
        """Whether B surely passes more often."""
        return self.low > 0


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Answer):
    """B against A; it shows itself.

    ``effects`` has a row per quantity (``EFFECT_COLUMNS``): ``n_a`` and ``n_b`` attempted runs that reached it, ``ended_a`` and
    ``ended_b`` of them with success, on ``machines_a`` and ``machines_b`` (one that is not known counts by itself); the medians
    of what was waited, in seconds; ``ratio`` of the medians B ÷ A of the durations themselves, without what the polls of either
    group add, with its interval, and the interval that equivalence is judged by; ``a_first``,
    the probability that a run of A takes less time than one of B, with its interval; the ``test``, its p-value, the least that
    it can be with as many runs, and the p-value adjusted for the number of rows; the ``verdict``, and ``why``. NaN is missing.
    The first row is what the ``verdict`` as a whole is about. ``cautions``: what makes the comparison unfair, in sentences.
    ``names``: what A and B are called; empty for nothing. ``a`` and ``b``: their tidy frames, ``runs`` both together.
    """

    effects: pd.DataFrame
    success: Success
    cautions: tuple[str, ...]
    margin: float
    confidence: float
    a: pd.DataFrame
    b: pd.DataFrame
    names: tuple[str, str] = ("", "")

    @property
    def verdict(self) -> Verdict:
        """The verdict on the first quantity."""
        return Verdict(self.effects["verdict"].iloc[0])

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
            "margin": self.margin,
            "confidence": self.confidence,
            "effects": self.effects.to_dict("records"),
            "success": asdict(self.success),
            "cautions": list(self.cautions),
        }
        return dict(plain(said))


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    quantities: Sequence[str] = (USEFUL,),
    *,
    margin: float = MARGIN,
    confidence: float = CONFIDENCE,
    by: str = "",
) -> Comparison:
    """Compare the runs of the tidy frames ``a`` and ``b`` by ``quantities``: phases, or ``time to ready``.

    Within ``margin``, 0.1 for 10 %, ratios from 1 ÷ 1.1 to 1.1 are the same for the user. ``by`` is the column by which the two
    were chosen, and so no caution. Raises UsageError for a run that is in both, a quantity that does not exist, none at all,
    and a margin or confidence that cannot be.
    """
    if not 0 < margin < 1 or not 0.5 < confidence < 1:
        raise UsageError(
            f"A margin of {margin} and a confidence of {confidence} cannot both be.",
            hint="Give a margin between 0 and 1, for example 0.1, and a confidence between 0.5 and 1, for example 0.95.",
        )
    strange = [name for name in quantities if name not in {USEFUL, *PhaseName, *a["phase"], *b["phase"]}]
    if strange or not quantities:
        raise UsageError(f"There is no quantity {(strange or [''])[0]!r}.", hint=f"Choose {USEFUL!r} or a phase.")
    if shared := sorted(set(a["run"]) & set(b["run"])):
        which = ", ".join(shared[:NAMED]) + (" …" if len(shared) > NAMED else "")
        many = "1 run is" if len(shared) == 1 else f"{len(shared)} runs are"
        raise UsageError(f"{many} in both A and B: {which}.", hint="Compare different runs.")
    seen = {str(name): (observations(a, name), observations(b, name)) for name in quantities}
    table = effects(seen, margin=margin, confidence=confidence)
    for column, frame in (("median_a_s", a), ("median_b_s", b)):
        table[column] = [quantile_estimate(observations(frame, name, waited=True), 0.5).value for name in seen]
    return Comparison(table, success(a, b, confidence), tuple(cautions(a, b, by=by)), margin, confidence, a, b)


def effects(
    seen: Mapping[str, tuple[Durations, Durations]], *, margin: float = MARGIN, confidence: float = CONFIDENCE
) -> pd.DataFrame:
    """The table of :attr:`Comparison.effects` for durations of A and of B by the name of the quantity."""
    import pandas as pd

    table = pd.DataFrame([_effect(name, *pair, confidence) for name, pair in seen.items()], columns=list(EFFECT_COLUMNS))
    table["p_adjusted"] = holm(table["p_value"].to_numpy(dtype=float))
    judged = [_verdict(row, margin, confidence) for row in table.to_dict("records")]
    table["verdict"], table["why"] = [str(verdict) for verdict, _ in judged], [why for _, why in judged]
    return table.astype(EFFECT_COLUMNS)


def success(a: pd.DataFrame, b: pd.DataFrame, confidence: float = CONFIDENCE) -> Success:
    """How much more often the attempted runs of the tidy frame ``b`` passed than those of ``a``.

    The interval is the hybrid score interval (Newcombe 1998, method 10). Where machines repeat it uses the effective n
    (:func:`~vastbench.analysis.survival.clusters.effective_n`); NaN where a group has a single machine with several runs.
    """
    parts = [_passed(frame, confidence) for frame in (a, b)]
    (passed_a, n_a, rate_a, low_a, high_a), (passed_b, n_b, rate_b, low_b, high_b) = parts
    return Success(
        passed_a,
        n_a,
        passed_b,
        n_b,
        rate_b - rate_a,
        rate_b - rate_a - math.hypot(rate_b - low_b, high_a - rate_a),
        rate_b - rate_a + math.hypot(high_b - rate_b, rate_a - low_a),
    )


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


def _effect(name: str, a: Durations, b: Durations, confidence: float) -> dict[str, float | int | str]:
    medians = [quantile_estimate(found, 0.5, confidence=confidence) for found in (a, b)]
    common = _correlation(a, b, *(estimate.value for estimate in medians))
    ratio, low, high = ratio_interval(*medians, correlation=common)
    narrower = (quantile_estimate(found, 0.5, confidence=2 * confidence - 1) for found in (a, b))
    _, equal_low, equal_high = ratio_interval(*narrower, correlation=common)
    first, test = chance(a, b, confidence), difference(a, b)
    return {
        "quantity": name,
        "n_a": len(a),
        "ended_a": int(a.ended.sum()),
        "machines_a": int(numbered(a.machine, len(a)).max(initial=-1)) + 1,
        "n_b": len(b),
        "ended_b": int(b.ended.sum()),
        "machines_b": int(numbered(b.machine, len(b)).max(initial=-1)) + 1,
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


def _verdict(row: dict[Hashable, Any], margin: float, confidence: float) -> tuple[Verdict, str]:
    low, high, least, most = row["ratio_low"], row["ratio_high"], 1 / (1 + margin), 1 + margin
    within = f"the margin, {least:.3g} to {most:.3g}"
    if math.isnan(low):
        return Verdict.NOT_ENOUGH, _too_few(row, 1 - confidence)
    if least <= row["equivalence_low"] and row["equivalence_high"] <= most:
        return Verdict.EQUIVALENT, (
            f"the interval at {2 * confidence - 1:.3g}, {row['equivalence_low']:.3g} to {row['equivalence_high']:.3g}, "
            f"lies within {within}"
        )
    if not (low > 1 or high < 1):
        return Verdict.NOT_ENOUGH, f"the interval holds 1 and reaches over {within}{_how_many(row, margin)}"
    if row["p_adjusted"] <= 1 - confidence:
        return (
            (Verdict.SLOWER, "the whole interval lies above 1")
            if low > 1
            else (
                Verdict.FASTER,
                "the whole interval lies below 1",
            )
        )
    p = (
        "nothing can be tested"
        if math.isnan(row["p_adjusted"])
        else f"the test does not confirm it, p = {row['p_adjusted']:.2g}"
    )
    return Verdict.NOT_ENOUGH, f"the interval leaves out 1, but {p}"


def _too_few(row: dict[Hashable, Any], level: float) -> str:
    def group(letter: str) -> str:
        n, machines = row[f"n_{letter}"], row[f"machines_{letter}"]
        return f"{n} {'run' if n == 1 else 'runs'} of {letter.upper()}" + (
            f" on {machines} {'machine' if machines == 1 else 'machines'}" if machines < n else ""
        )

    least = f"; its p-value cannot be below {row['p_least']:.2g}" if row["p_least"] > level else ""
    return f"{group('a')} and {group('b')} allow no interval of the ratio{least}"


def _how_many(row: dict[Hashable, Any], margin: float) -> str:
    """How many times as many runs would bring the interval to the width of the margin, as it narrows with the root of n."""
    low, high = row["equivalence_low"], row["equivalence_high"]
    if not (low > 0 and math.isfinite(high)):
        return ""
    times = (math.log(high / low) / (2 * math.log1p(margin))) ** 2
    machines = ", on as many more machines" if row["machines_a"] < row["n_a"] or row["machines_b"] < row["n_b"] else ""
    return f"; to be as narrow takes about {times:.2g} times as many runs{machines}" if times > 1 else ""


def _passed(phases: pd.DataFrame, confidence: float) -> tuple[int, int, float, float, float]:
    import numpy as np
    from scipy.stats import norm

    runs = attempted(phases)
    runs = runs[runs["phase"] == PhaseName.TOTAL]
    good = (runs["run_outcome"] == Outcome.PASSED).to_numpy(dtype=bool)
    n, hits = len(good), int(good.sum())
    if not n:
        return 0, 0, math.nan, math.nan, math.nan
    rate, size = hits / n, effective_n(good, runs["machine"].to_numpy(dtype=float, na_value=np.nan), confidence).n
    if not size:
        return hits, n, rate, math.nan, math.nan
    z = float(norm.ppf((1 + confidence) / 2))
    middle, half = rate + z * z / (2 * size), z * math.sqrt(rate * (1 - rate) / size + z * z / (4 * size * size))
    return hits, n, rate, max(0.0, (middle - half) / (1 + z * z / size)), min(1.0, (middle + half) / (1 + z * z / size))
