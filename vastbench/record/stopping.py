"""The rule by which a study may end before its repeats are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from vastbench.errors import UsageError

USEFUL = "time to ready"
"""What a rule is about unless a phase is named: seconds from a run's start until the end of its scenario's ready phase."""


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """Stop once the interval of a quantile is narrow enough.

    ``width``: the widest that interval that holds after every run may be, as a share of its middle (0.15 for ± 7.5 %).
    ``quantile``: which one of ``quantity``, which is ``time to ready`` or a phase. Raises UsageError for what cannot be.
    """

    width: float
    quantile: float = 0.5
    quantity: str = USEFUL
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Refuse a rule that no study could follow."""
        for name, value in (("width", self.width), ("quantile", self.quantile), ("confidence", self.confidence)):
            if not (isinstance(value, float) and 0 < value < 1):
                raise UsageError(f"The {name} to stop at is {value!r}.", hint="Give a share between 0 and 1, for example 0.15.")

    def to_dict(self) -> dict[str, object]:
        """The rule, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, rule: Mapping[str, Any]) -> Self:
        """The rule that :meth:`to_dict` wrote, also when the quantity had its first name."""
        return cls(**{**rule, "quantity": USEFUL if rule["quantity"] == "time until useful" else rule["quantity"]})
