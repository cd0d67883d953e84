"""What B is against A: a verdict on success, one on speed, and the one on the whole that follows from both.

Success is how often attempted runs pass, speed how long what is compared takes. *Equivalent* is said of an endpoint whose
interval at 1 − 2α lies within its margin (two one-sided tests, Schuirmann 1987). Speed that differs within the margin is
equivalent; a fall in success is never, however small, once it is proved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vastbench.analysis.survival.intervals import CONFIDENCE
from vastbench.errors import UsageError

MARGIN = 0.1
SUCCESS_MARGIN = 0.05

OUTAGE = 20
"""So many attempted runs of which none passed are an outage and not too few: surely less than one in seven would pass."""


class Verdict(StrEnum):
    """What B is against A: slower or faster in speed, worse or better in success and as a whole; the others of each of them."""

    SLOWER = "slower"
    FASTER = "faster"
    WORSE = "worse"
    BETTER = "better"
    EQUIVALENT = "equivalent"
    NOT_ENOUGH = "not enough runs"
    A_NEVER = "A never passed"
    B_NEVER = "B never passed"


LOSSES = frozenset({Verdict.SLOWER, Verdict.WORSE})
GAINS = frozenset({Verdict.FASTER, Verdict.BETTER})


@dataclass(frozen=True, slots=True)
class Criteria:
    """What difference does not matter, and how sure a verdict has to be; each as a part of 1.

    Within ``margin`` lie ratios from 1 ÷ (1 + margin) to 1 + margin, within ``success_margin`` rates of success that differ by
    no more. Raises UsageError for what cannot be.
    """

    margin: float = MARGIN
    success_margin: float = SUCCESS_MARGIN
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        """Refuse what is no margin or confidence."""
        if not (0 < self.margin < 1 and 0 < self.success_margin < 1 and 0.5 < self.confidence < 1):
            raise UsageError(
                f"Margins of {self.margin} and {self.success_margin} (success) and a confidence of {self.confidence} "
                "cannot all be.",
                hint="Give margins between 0 and 1, for example 0.1 and 0.05, and a confidence between 0.5 and 1, "
                "for example 0.95.",
            )

    @property
    def level(self) -> float:
        """α: how often a test may err."""
        return 1 - self.confidence

    @property
    def ratios(self) -> tuple[float, float]:
        """The least and the greatest ratio within the margin."""
        return 1 / (1 + self.margin), 1 + self.margin

    def equivalence(self, tests: int = 1) -> float:
        """The confidence of the interval that equivalence is judged by, for one of so many ``tests`` (Bonferroni)."""
        return 1 - 2 * self.level / tests


USUAL = Criteria()


def whole(success: Verdict, speed: Verdict, *, loss_seen: bool) -> Verdict:
    """The verdict on B as a whole: the first of these that holds.

    *Worse*: a loss is proved in one endpoint, whatever the other. *B never passed*: an outage. *Better*: a gain is proved in
    one endpoint, and in the other there is no ``loss_seen``, proved or not, beyond its margin. *A never passed*. *Equivalent*:
    both lie within their margins. *Not enough runs*.
    """
    found = {success, speed}
    if found & LOSSES:
        return Verdict.WORSE
    if Verdict.B_NEVER in found:
        return Verdict.B_NEVER
    if found & GAINS and not loss_seen:
        return Verdict.BETTER
    if Verdict.A_NEVER in found:
        return Verdict.A_NEVER
    return Verdict.EQUIVALENT if found == {Verdict.EQUIVALENT} else Verdict.NOT_ENOUGH


def undecided(counts: Sequence[tuple[int, int]], why: str) -> tuple[Verdict, str]:
    """What is said where nothing is proved: that, and ``why``, or which group never passed.

    ``counts``: of A and of B how many runs passed, and of how many.
    """
    never = {name: n for name, (passed, n) in zip("AB", counts, strict=True) if n >= OUTAGE and not passed}
    if not never:
        return Verdict.NOT_ENOUGH, why
    said = " and ".join(f"none of the {n} runs of {name}" for name, n in never.items())
    return Verdict.B_NEVER if "B" in never else Verdict.A_NEVER, f"{said} passed"
