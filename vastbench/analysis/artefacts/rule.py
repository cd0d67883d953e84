"""One artefact: a property that a table of timings has from how it was measured, not from what was measured.

The rules look at *timings*, a long frame of which ``COLUMNS`` names the columns. ``run``, ``phase`` and ``seconds`` are always
there; a rule that needs a column that is not there says nothing. Rows are named by the frame's index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

DURATION, ANSWER = "duration", "answer"

COLUMNS = {
    "run": "what the row belongs to; rows of one run add up to its total",
    "phase": "the phase's name; `total` is the stated total of the run",
    "seconds": "the reported duration; missing where there is none",
    "lower_s": "the least that the true duration can be",
    "upper_s": "the most that it can be",
    "kind": f"`{DURATION}`, or `{ANSWER}`: when an answer of a status log was noted, seconds since the waiting began",
    "parent": "the phase that it is a part of, missing or `total` for those that add up to the total",
    "final": "false for the phase of an earlier try, not a sample of the phase",
    "outcome": "passed, failed or censored; missing where nothing is said",
    "poll_period_s": "seconds between two polls for what ended the phase; missing where it was not polled",
    "timeout_s": "the deadline of the phase",
    "machine": "the host",
    "group": "what the row is kept apart by; missing where rows are not grouped",
    "bytes": "bytes moved in the phase",
    "link_bytes_per_s": "the link's declared speed",
    "verified": "whether the run claims that content was verified",
    "content_hash": "the hash that the content was compared with; missing where none is recorded",
    "files": "files that were restored or compared",
    "attempts": "tries that the run took",
    "retries_allowed": "tries after the first that the method allowed itself",
}
"""The columns of a table of timings and what they hold; all but the first three may be missing."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """One finding. ``rows`` are labels of the timings' index; ``evidence`` are its numbers, units in their names.

    ``text`` says what was found, ``consequence`` what is wrong with a figure computed from those rows. Names of phases, runs
    and machines in them are as they came: escape them where they are shown.
    """

    rule: str
    rows: tuple[Any, ...]
    evidence: dict[str, float | int | str]
    text: str
    consequence: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its name, what it looks for, how it finds, and what it needs beside ``run``, ``phase`` and ``seconds``.

    ``sees`` says whether any row of timings with the needed columns is one that the rule judges; ``without`` says in words
    what is lacking where none is. ``needs``: each entry is a column, or several joined by ``|`` of which one must be there with
    a value; ``total`` is a row of the phase ``total``.
    """

    name: str
    looks_for: str
    find: Callable[[pd.DataFrame], Iterator[Artefact]]
    sees: Callable[[pd.DataFrame], bool]
    without: str
    needs: tuple[str, ...] = field(default=())

    def lacks(self, timings: pd.DataFrame) -> str:
        """Why the rule says nothing of the timings, in words: no such column, or no row that it judges; empty where it does."""
        missing = [need for need in self.needs if not any(has(timings, name) for name in need.split("|"))]
        words = ["no stated total" if need == "total" else f"no column {need.replace('|', ' or ')}" for need in missing]
        return " and ".join(words) or ("" if len(timings) and self.sees(timings) else self.without)


def has(timings: pd.DataFrame, name: str) -> bool:
    """Whether the timings have a column ``name`` with at least one value; for ``total``, a row of that phase."""
    if name == "total":
        return bool((timings["phase"] == "total").any())
    return name in timings.columns and bool(timings[name].notna().any())


def last_tries(timings: pd.DataFrame) -> pd.DataFrame:
    """The durations, those of earlier tries left out: they are not samples of their phase."""
    kept = timings["phase"].notna()
    if "kind" in timings:
        kept &= timings["kind"].ne(ANSWER)
    if "final" in timings:
        kept &= timings["final"].ne(False)
    return timings[kept]


def ended_otherwise(timings: pd.DataFrame) -> set[str]:
    """The runs of which a row of the last try says that it did not pass."""
    if "outcome" not in timings:
        return set()
    rows = last_tries(timings)
    return set(rows.loc[rows["outcome"].notna() & rows["outcome"].ne("passed"), "run"])


def samples(timings: pd.DataFrame) -> pd.DataFrame:
    """The rows that are samples of a phase: durations of last tries that have a value and did not end otherwise than passed."""
    rows = last_tries(timings)
    kept = rows["seconds"].notna() & rows["phase"].ne("unattributed")
    if "outcome" in rows:
        kept &= rows["outcome"].isna() | rows["outcome"].eq("passed")
    return rows[kept]


def per_phase(timings: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The samples of each phase, and of each group if there are several, with a name for them.

    A stated total repeats what the phases say and is left out, unless the table has nothing else.
    """
    rows = samples(timings)
    parts = rows[rows["phase"] != "total"]
    rows = rows if parts.empty else parts
    if has(rows, "group"):
        groups = rows.groupby(["phase", "group"], sort=False)
        yield from ((f"{phase} of {group}", some) for (phase, group), some in groups)
    else:
        yield from ((str(name), some) for name, some in rows.groupby("phase", sort=False))


def resolution(values: Any) -> float:
    """The step of the last printed decimal of ``values``: 1, 0.1, 0.01 …, at finest a microsecond.

    Of five values or more that end in zeros, 10 or 100.
    """
    import numpy as np

    found = np.asarray(values, dtype=float)
    found = found[np.isfinite(found)][:1000]
    coarse = 2 if len(found) >= 5 and found.any() else 0
    for digits in range(-coarse, 6):
        if np.allclose(found, np.round(found, digits), rtol=0, atol=1e-9):
            return float(10.0**-digits)
    return 1e-6
