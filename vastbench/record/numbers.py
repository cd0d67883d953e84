"""Which numbers can have been measured."""

import math
from typing import Any

LARGEST, SMALLEST = 1e18, 1e-30


def measurable(value: Any) -> Any:
    """Whether a number can have been measured, or which of an array: finite, and so far from a float's limits that no rate,
    ratio or square of such numbers reaches them."""
    size = abs(value)
    return (size == 0) | ((size >= SMALLEST) & (size <= LARGEST))


def quotient(part: float, whole: float) -> float:
    """``part`` ÷ ``whole``; NaN, which is a missing value, where there is none or it is beyond all that can be measured."""
    found = float(part) / float(whole) if whole else math.nan  # numpy's own division warns
    return found if abs(found) <= LARGEST else math.nan
