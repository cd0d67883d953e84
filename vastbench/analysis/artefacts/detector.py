"""The artefact detector: what a table of timings shows of how it was measured rather than of what was measured.

::

    found = artefacts(timings_of(vastbench.load()))

:data:`RULES` are all rules, :data:`~vastbench.analysis.artefacts.rule.COLUMNS` the columns that they read. A rule says nothing
where its columns, or rows that it could judge, are missing; :func:`not_applicable` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vastbench.analysis.artefacts import claims, readings
from vastbench.analysis.artefacts.claims import bounds, hosts, passes, rates, sums
from vastbench.analysis.artefacts.readings import lattices, spreads, timeouts, zeros
from vastbench.analysis.artefacts.rule import Artefact, Rule
from vastbench.record.numbers import measurable
from vastbench.record.phases import PhaseName
from vastbench.record.shown import Answer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RULES", "Artefact", "Checked", "Examined", "Rule", "artefacts", "examined", "not_applicable", "timings_of"]

NO_VALUE = "no value of a run that passed"

RULES = (
    Rule("lattice", "values on a lattice of a poll or a clock", lattices, readings.enough, "no phase with 5 values"),
    Rule(
        "spread below the poll period",
        "values that differ by far less than their poll period",
        spreads,
        readings.polled,
        "no polled phase with 3 values",
        ("poll_period_s",),
    ),
    Rule("value equal to a timeout", "a deadline reported as a value", timeouts, readings.any_value, NO_VALUE),
    Rule(
        "phases do not add up",
        "phases that do not sum to the stated total",
        sums,
        claims.adds_up,
        "no run that passed with a total and all phases",
        ("total",),
    ),
    Rule(
        "bounds that cannot be",
        "bounds in the wrong order, and values outside of their own",
        bounds,
        claims.bounded,
        "no value with bounds of a run that passed",
        ("lower_s|upper_s",),
    ),
    Rule(
        "rate above the link",
        "more bytes per second than the link carries",
        rates,
        claims.moved,
        "no value with bytes of a run that passed",
        ("bytes",),
    ),
    Rule("zero for missing", "zeros, negative durations and constants in place of values", zeros, readings.any_value, NO_VALUE),
    Rule(
        "pass that could not have failed",
        "a success without a check",
        passes,
        claims.claimed,
        "no run that passed claims a check or more tries",
        ("verified|retries_allowed",),
    ),
    Rule(
        "one host counted many times",
        "more than half of the runs from one machine",
        hosts,
        claims.several,
        "fewer than 3 runs whose machine is known",
        ("machine",),
    ),
)
"""Every rule, in the order in which it is applied."""

POLLED = {str(name) for name in (PhaseName.WAIT_RUNNING, PhaseName.ALLOCATE, PhaseName.PULL, PhaseName.CONFIRM)}
"""Phases whose end is seen by polling the status: a run's poll period says something of these alone."""


def artefacts(timings: pd.DataFrame) -> list[Artefact]:
    """What the rules find in ``timings``; nothing in an empty table.

    An impossible number (:func:`~vastbench.record.numbers.measurable`) counts as missing.
    """
    known = timings.copy()
    for name in timings.select_dtypes("float"):
        known[name] = timings[name].where(measurable(timings[name]))
    return [found for rule in RULES if not rule.lacks(known) for found in rule.find(known)]


def not_applicable(timings: pd.DataFrame) -> dict[str, str]:
    """The rules that say nothing of ``timings``, each with what is missing: columns, or rows that it could judge."""
    lacking = {rule.name: rule.lacks(timings) for rule in RULES}
    return {name: words for name, words in lacking.items() if words}


@dataclass(frozen=True, slots=True)
class Examined:
    """One table of timings, what the rules ``found`` in it, and the ``silent`` rules, each with what it misses."""

    name: str
    timings: pd.DataFrame
    found: tuple[Artefact, ...]
    silent: Mapping[str, str]

    @property
    def applied(self) -> list[str]:
        """The rules that looked at it."""
        return [rule.name for rule in RULES if rule.name not in self.silent]

    def to_dict(self) -> dict[str, object]:
        """For programs: rows with run, phase and seconds (null where missing)."""
        columns = ["run", "phase", "seconds"]
        return {
            "source": self.name,
            "rows": len(self.timings),
            "runs": int(self.timings["run"].nunique()),
            "findings": [
                {
                    "rule": one.rule,
                    "text": one.text,
                    "consequence": one.consequence,
                    "evidence": one.evidence,
                    "rows": self.timings.loc[list(one.rows), columns].to_dict("records"),
                }
                for one in self.found
            ],
            "not_applicable": self.silent,
            "columns_not_read": self.timings.attrs.get("ignored", []),
            "notes": self.timings.attrs.get("notes", []),
        }


@dataclass(frozen=True, slots=True, repr=False)
class Checked(Answer):
    """What the rules find in tables of timings; it shows itself."""

    tables: tuple[Examined, ...]

    @property
    def findings(self) -> pd.DataFrame:
        """One row per artefact: ``table``, ``rule``, ``text``, ``consequence`` and how many ``rows`` show it."""
        import pandas as pd

        rows = [(one.name, at.rule, at.text, at.consequence, len(at.rows)) for one in self.tables for at in one.found]
        return pd.DataFrame(rows, columns=["table", "rule", "text", "consequence", "rows"])


def examined(name: str, timings: pd.DataFrame) -> Examined:
    """Apply every rule to a table that is called ``name``."""
    return Examined(name, timings, tuple(artefacts(timings)), not_applicable(timings))


def timings_of(phases: pd.DataFrame) -> pd.DataFrame:
    """The timings of a tidy frame (:data:`~vastbench.analysis.columns.COLUMNS`): one row per row, index kept.

    What ``unattributed`` says of an imported run is our arithmetic and not its record's, so that row is left out.
    """
    ours = (phases["phase"] == PhaseName.UNATTRIBUTED) & (phases["source"] == "import")
    rows = phases[~ours]
    columns = ["run", "phase", "seconds", "lower_s", "upper_s", "parent", "final", "outcome", "machine", "attempts"]
    # A queue of our own is left out of the value and kept in the bounds.
    least = (rows["lower_s"] - rows["queued_s"].fillna(0.0)).clip(lower=0.0)
    polled = rows["poll_period_s"].where(rows["phase"].isin(POLLED))
    return rows[columns].assign(lower_s=least, poll_period_s=polled)
