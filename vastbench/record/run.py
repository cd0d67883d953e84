"""The record of one run: immutable, versioned, self-describing.

Readings inside a run count clock seconds from its start; ``origin`` is the monotonic clock reading (× speed) at that
start, which places them on the machine's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from vastbench.errors import AccountRefused, KeyRejected, clean
from vastbench.record.cost import Bill, Cost
from vastbench.record.formats import decimals
from vastbench.record.numbers import measurable
from vastbench.record.phases import Outcome, Phase, PhaseName, Row, tree
from vastbench.record.shown import Shown

KILLED = "killed"
"""The cause of a run whose process ended without storing it."""

OF_THE_ACCOUNT = frozenset({AccountRefused.cause, KeyRejected.cause})
"""Causes that hold for the whole account, whatever the machine: its next run would end the same way."""

NOT_COUNTED = OF_THE_ACCOUNT | {"interrupted", KILLED, "budget"}
"""Causes that say nothing of a machine: we ended the run, or the account was refused. It is not counted as attempted."""

ROUNDING_S = 1e-6
"""What sums of seconds may be off by: a time no further below 0 is taken as 0."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try inside a run. ``cause`` and ``detail`` are empty for the attempt that went through."""

    number: int
    outcome: Outcome
    offer_id: int | None = None
    machine_id: int | None = None
    instance_id: int | None = None
    cause: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Run(Shown):
    """One execution of a scenario.

    ``total_s``: clock seconds from start to end (None for a run that never ended by itself and was not timed). ``ready``: the
    phase at whose end the run had what it was made for; with it the scenario is useful. ``source``: ``emulator``, ``live`` or
    ``import``. ``study``: the study that it belongs to, empty for none. ``conditions``: what was asked for (GPU, image, disk in
    GB, profile, seed …). ``resources``: what was got (offer, machine, price in USD per hour, region …) as its first machine;
    the others, whole, are in ``machines``, those ``used`` and those that came to nothing. ``ssh``: endpoints and what each
    showed. ``validation``: the checks and their results. ``cost``: by its own meters; ``bill``: as the account charged it.
    ``instrument``: poll period, polls, 429s, latencies, clock speed, client version, host. ``guest``: what the instance's own
    clock said of its start, and whether that can be trusted; empty when it was not read.

    It shows itself: ``print`` it, or end a cell with it.

    Examples
    --------
    >>> run = vastbench.load_run("2026-01-02-rtx4090")
    >>> run
    <Run seed-807359bf6926: passed after 99.0 s>
    >>> run.seconds("wait running"), run.phase("wait running").lower
    (72.77, 62.15)
    """

    id: str
    scenario: str
    outcome: Outcome
    started_at: str
    source: str
    phases: tuple[Phase, ...]
    attempts: tuple[Attempt, ...] = ()
    cause: str = ""
    detail: str = ""
    total_s: float | None = None
    origin: float = 0.0
    study: str = ""
    ready: str = PhaseName.WAIT_SSH
    conditions: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    ssh: Mapping[str, Any] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    bill: Bill = field(default_factory=Bill)
    instrument: Mapping[str, Any] = field(default_factory=dict)
    guest: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """One short line, as runs stand in lists: print a run to see it whole."""
        took = "" if self.total_s is None else f" after {decimals(self.total_s, 1)} s"
        return f"<Run {clean(self.id)}: {self.outcome}{f' ({clean(self.cause)})' if self.cause else ''}{took}>"

    @property
    def started_at_utc(self) -> datetime:
        """``started_at`` as a date; one without a zone is taken as UTC."""
        date = datetime.fromisoformat(self.started_at)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)

    @property
    def rented(self) -> list[Mapping[str, Any]]:
        """What was got of each machine that was used, the first one's without the others."""
        others = self.resources.get("machines", [])
        return [
            {name: one for name, one in self.resources.items() if name != "machines"},
            *(one["resources"] for one in others if one.get("used", True)),
        ]

    @property
    def usd_per_hour(self) -> float | None:
        """The whole hourly price of all machines that it used; None when one is not known."""
        prices = [got.get("usd_per_hour") for got in self.rented]
        known = [price for price in prices if price is not None]
        return sum(known) if len(known) == len(prices) else None

    @property
    def figures(self) -> dict[str, Any]:
        """The numbers that its checks hold, under the names of the checks and their own; of a list, those in it."""
        return _numbers(self.validation)

    def phase(self, name: str) -> Phase | None:
        """The phase of that name in the last attempt that has one."""
        found = [p for p in self.phases if p.name == name]
        return found[-1] if found else None

    def seconds(self, name: str) -> float | None:
        """What the user waited in that phase, in clock seconds; None when it is missing or was not finished."""
        phase = self.phase(name)
        return phase.seconds if phase else None

    def rows(self) -> list[Row]:
        """The phase tree, the unattributed row included."""
        return tree(list(self.phases), self.total_s)


def _numbers(document: Mapping[str, Any], depth: int = 2) -> dict[str, Any]:
    """What of ``document`` are numbers, so many documents deep."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        match value:
            case Mapping() if depth:
                found[name] = _numbers(value, depth - 1)
            case list():
                found[name] = [one for one in value if _is_number(one)]
            case _ if _is_number(value):
                found[name] = value
    return {name: value for name, value in found.items() if value not in ({}, [])}


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and bool(measurable(value))
