"""What a drill must keep to be accepted, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Criterion:
    """One row of a drill's acceptance table.

    ``what``: in words. ``limit``: what the median may be at most, in ``unit``: seconds from the start of the phase ``first`` to
    the end of ``last``, or USD of a run; of the unit ``share``, what share of the runs must pass at least. ``stretch``: the
    limit that is hoped for.

    >>> Criterion("second GPU online", 180.0, "s", "search offers", "wait SSH", stretch=120.0).limit
    180.0
    """

    what: str
    limit: float
    unit: Literal["s", "USD", "share"]
    first: str = ""
    last: str = ""
    stretch: float | None = None
