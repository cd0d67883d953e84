"""What a drill is made to find out, and what it must keep to be accepted, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Unit = Literal["s", "ms", "min", "MB", "MiB", "MB/s", "Mbit/s", "s/GB", "tokens/s", "USD", "share", ""]
"""In what a quantity is shown; ``share`` is a part of 1, and nothing a count."""

Place = tuple[str, ...]
"""Where in the checks of a run's record a number stands: the check's name, then the number's own."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One row of a drill's acceptance table.

    ``what``: in words. ``limit``: what the median may be at most, in ``unit``: seconds from the start of the phase ``first`` to
    the end of ``last``, USD of a run, or of the number at ``place`` over the one at ``per``; of the unit ``share``, what share
    of the runs must pass at least. ``stretch``: the limit that is hoped for.

    >>> Criterion("second GPU online", 180.0, "s", "search offers", "wait SSH", stretch=120.0).limit
    180.0
    """

    what: str
    limit: float
    unit: Unit
    first: str = ""
    last: str = ""
    stretch: float | None = None
    place: Place = ()
    per: Place = ()


@dataclass(frozen=True, slots=True)
class Measure:
    """One quantity that a drill finds out.

    ``what``: in words, not the name of a phase. It is seconds from the start of the phase ``first`` to the end of ``last``, or
    those of the phases ``parts`` together, or the number at ``place`` over the one at ``per``; of a list, its mean.
    ``drawn``: the title of its curve; empty for none.

    >>> Measure("sent", "MB/s", place=("first snapshot", "bytes_stored"), per=("first snapshot", "stream_s")).unit
    'MB/s'
    """

    what: str
    unit: Unit = "s"
    first: str = ""
    last: str = ""
    parts: tuple[str, ...] = ()
    place: Place = ()
    per: Place = ()
    drawn: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What a drill asks, and what of its runs answers it.

    ``done``: what has happened at the end of the ``answer``, the first of the ``measures``, in words. ``criteria``: what is
    asked of the runs. ``notebook``: the one that looks at them. ``reading``: what the measures mean, in sentences.
    ``recovery``: the parts of a recovery, each with its first and its last phase, for the estimate. ``size`` and ``took``:
    where the bytes and the seconds stand through which a line is laid. ``emulated``: what must be known of figures that are
    emulated; ``faster``: of those on a clock that is faster than time.
    """

    title: str
    done: str
    measures: tuple[Measure, ...]
    criteria: tuple[Criterion, ...]
    notebook: str
    reading: str
    recovery: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    size: Place = ()
    took: Place = ()
    emulated: str = ""
    faster: str = ""

    @property
    def answer(self) -> Measure:
        """The measure that answers it."""
        return self.measures[0]
