"""An instant that is known only within bounds.

Where it comes from polling, four readings are kept: when the last negative
answer was asked for and received, and when the first positive answer was. The event lies in (no_sent, yes_received].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vastbench.record.numbers import LARGEST


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant known within bounds, in clock seconds.

    ``no_sent``/``no_received``: when the last answer that said "not yet" was asked for and received.
    ``yes_sent``/``yes_received``: the same for the first answer that said "it has happened"; None when none ever did.
    ``source``: what told us: ``action`` (our own doing, exact), ``poll``, ``ssh``, ``guest`` (the instance's own clock),
    ``file`` (an imported record).
    """

    no_sent: float
    no_received: float
    yes_sent: float | None
    yes_received: float | None
    source: str = "action"

    def __post_init__(self) -> None:
        """Refuse readings that no clock shows or that run backwards."""
        readings = [r for r in (self.no_sent, self.yes_received) if r is not None]
        if not all(abs(r) <= LARGEST for r in readings) or readings != sorted(readings):
            raise ValueError(f"a moment's readings must be finite and in order, and at most {LARGEST:g} s: {self}")

    @classmethod
    def exact(cls, reading: float, source: str = "action") -> Moment:
        """An instant that is our own doing, known exactly."""
        return cls(reading, reading, reading, reading, source)

    @classmethod
    def between(cls, lower: float, upper: float | None, source: str) -> Moment:
        """An instant in (``lower``, ``upper``]; ``upper`` None when it was never seen to have happened."""
        return cls(lower, lower, upper, upper, source)

    @property
    def lower(self) -> float:
        """The event lies after this reading (or at it, for an exact moment)."""
        return self.no_sent

    @property
    def upper(self) -> float:
        """The event lies at or before this reading; infinity when it was never seen."""
        return math.inf if self.yes_received is None else self.yes_received

    @property
    def seen(self) -> bool:
        """Whether the event was seen to have happened."""
        return self.yes_received is not None
