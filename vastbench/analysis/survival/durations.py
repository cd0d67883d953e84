"""How long something took, known within bounds or cut off: one sample.

A duration is an interval, see :mod:`vastbench.analysis.survival.curves`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vastbench.analysis.survival.curves import check

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Durations:
    """Durations in (``lower``, ``upper``] seconds, and the ``machine`` of each (NaN where unknown; None where all are)."""

    lower: np.ndarray
    upper: np.ndarray
    machine: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for bounds that are missing, in the wrong order or not as many as each other."""
        check(self.lower, self.upper)
        if self.machine is not None and len(self.machine) != len(self.lower):
            raise ValueError(f"{len(self.machine)} machines are named for {len(self.lower)} durations; name one for each.")

    def __len__(self) -> int:
        """How many durations there are, those that were cut off included."""
        return len(self.lower)

    @property
    def ended(self) -> np.ndarray:
        """Which of them ended."""
        import numpy as np

        ended: np.ndarray = np.isfinite(self.upper)
        return ended

    @property
    def earliest(self) -> Durations:
        """The same, as if each had ended as early as its bounds allow."""
        return self._exact(self.lower)

    @property
    def latest(self) -> Durations:
        """The same, as if each had ended as late as its bounds allow."""
        return self._exact(self.upper)

    def _exact(self, ends: np.ndarray) -> Durations:
        import numpy as np

        exact = np.where(self.ended, ends, self.lower)
        return Durations(exact, np.where(self.ended, exact, np.inf), self.machine)
