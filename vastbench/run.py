"""The record of one run: immutable, versioned, self-describing.

Readings inside a run count clock seconds from its start; ``origin`` is the monotonic clock reading (× speed) at that
start, which places them on the machine's own clock.

Format history (``FORMAT``), newest first:

3. ``guest``: what the instance's own clock said; phases may have ``queued_s``.
2. ``study``: the study that the run belongs to.
1. The first one.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from vastbench.errors import SettingsError
from vastbench.timing import Moment, Outcome, Phase, PhaseName, Row, measurable, tree

FORMAT = 3
READABLE = (1, 2, 3)

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


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run cost, in USD, by meter; an estimate from the run's own bounds.

    ``gpu_usd`` with ``gpu_lower_usd``/``gpu_upper_usd``: seconds running × price. ``storage_usd``: seconds from creation to
    destruction × storage price. ``transfer_usd``: the test file's bytes × the offer's price per GB
    (10⁹ bytes); the image pull and the protocol's own bytes are not known to us. ``naive_usd``: wall clock × hourly
    price, as is commonly reported. Missing values are None.
    """

    gpu_usd: float | None = None
    gpu_lower_usd: float | None = None
    gpu_upper_usd: float | None = None
    storage_usd: float | None = None
    transfer_usd: float | None = None
    naive_usd: float | None = None

    @property
    def total_usd(self) -> float | None:
        """The known meters together, or None when the GPU meter is unknown."""
        if self.gpu_usd is None:
            return None
        return self.gpu_usd + (self.storage_usd or 0.0) + (self.transfer_usd or 0.0)


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a scenario.

    ``total_s``: clock seconds from start to end (None for a run that never ended by itself and was not timed).
    ``source``: ``emulator``, ``live`` or ``import``. ``study``: the study that it belongs to, empty for none.
    ``conditions``: what was asked for (GPU, image, disk in GB, profile, seed …). ``resources``: what was got (offer, machine,
    price in USD per hour, region …). ``ssh``: endpoints and what each showed. ``validation``: the checks and their results.
    ``instrument``: poll period, polls, 429s, latencies, clock speed, client version, host. ``guest``: what the instance's own
    clock said of its start, and whether that can be trusted; empty when it was not read.
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
    conditions: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Any] = field(default_factory=dict)
    ssh: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    cost: Cost = Cost()
    instrument: dict[str, Any] = field(default_factory=dict)
    guest: dict[str, Any] = field(default_factory=dict)

    @property
    def started_at_utc(self) -> datetime:
        """``started_at`` as a date; one without a zone is taken as UTC."""
        date = datetime.fromisoformat(self.started_at)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)

    def phase(self, name: PhaseName) -> Phase | None:
        """The phase of that name in the last attempt that has one."""
        found = [p for p in self.phases if p.name is name]
        return found[-1] if found else None

    def seconds(self, name: PhaseName) -> float | None:
        """What the user waited in that phase, in clock seconds; None when it is missing or was not finished."""
        phase = self.phase(name)
        return phase.seconds if phase else None

    def rows(self) -> list[Row]:
        """The phase tree, the unattributed row included."""
        return tree(list(self.phases), self.total_s)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary that :func:`run_from_dict` reads back."""
        plain: dict[str, Any] = {"format": FORMAT}
        for item in fields(self):
            plain[item.name] = getattr(self, item.name)
        plain["outcome"] = str(self.outcome)
        plain["phases"] = [_phase_to_dict(p) for p in self.phases]
        plain["attempts"] = [
            {f.name: getattr(a, f.name) for f in fields(a)} | {"outcome": str(a.outcome)} for a in self.attempts
        ]
        plain["cost"] = {f.name: getattr(self.cost, f.name) for f in fields(self.cost)} | {"total_usd": self.cost.total_usd}
        return plain

    def __str__(self) -> str:
        """The phase tree as text."""
        from vastbench.report.text import run_text

        return run_text(self)

    def _repr_html_(self) -> str:
        from vastbench.report.html import run_html

        return run_html(self)


def _phase_to_dict(phase: Phase) -> dict[str, Any]:
    upper = phase.upper if math.isfinite(phase.upper) else None
    return {
        "name": str(phase.name),
        "parent": str(phase.parent) if phase.parent else None,
        "attempt": phase.attempt,
        "outcome": str(phase.outcome),
        "seconds": phase.seconds,
        "lower": phase.lower,
        "upper": upper,
        "start": _moment_to_dict(phase.start),
        "end": _moment_to_dict(phase.end),
        "detail": phase.detail,
        "queued_s": phase.queued_s,
    }


def _moment_to_dict(moment: Moment) -> dict[str, Any]:
    return {item.name: getattr(moment, item.name) for item in fields(moment)}


@dataclass(frozen=True, slots=True)
class _Conditions:
    profile: str | None = None
    image: str | None = None
    disk_gb: float | None = None


@dataclass(frozen=True, slots=True)
class _Resources:
    gpu_name: str | None = None
    num_gpus: int | None = None
    gpu_ram_mb: float | None = None
    region: str | None = None
    offer_id: int | None = None
    machine_id: int | None = None
    instance_id: int | None = None
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class _Instrument:
    clock_speed: float | None = None
    poll_period_s: float | None = None
    client_version: str | None = None


@dataclass(frozen=True, slots=True)
class _Form(Run):
    """A run whose documents are as narrow as the tables need them; only there to check a record against."""

    conditions: _Conditions = _Conditions()  # type: ignore[assignment]
    resources: _Resources = _Resources()  # type: ignore[assignment]
    instrument: _Instrument = _Instrument()  # type: ignore[assignment]


def run_from_dict(plain: dict[str, Any]) -> Run:
    """Read back what :meth:`Run.to_dict` wrote.

    Raises SettingsError for a record of another format, or one that does not have a run's form; it names the field.
    """
    if plain.get("format") not in READABLE:
        raise SettingsError(
            f"The record has format {plain.get('format')!r}, but this vastbench reads formats up to {FORMAT}.",
            hint="Install a newer vastbench, or export the run again.",
        )
    _check_form(plain)
    try:
        phases = tuple(
            Phase(
                PhaseName(p["name"]),
                Moment(**p["start"]),
                Moment(**p["end"]),
                Outcome(p["outcome"]),
                int(p["attempt"]),
                str(p["detail"]),
                float(p.get("queued_s", 0.0)),
            )
            for p in plain["phases"]
        )
        attempts = tuple(Attempt(**(a | {"outcome": Outcome(a["outcome"])})) for a in plain["attempts"])
        cost = Cost(**{k: v for k, v in plain["cost"].items() if k != "total_usd"})
        rest = {k: v for k, v in plain.items() if k not in {"format", "phases", "attempts", "cost", "outcome"}}
        run = Run(**rest, outcome=Outcome(plain["outcome"]), phases=phases, attempts=attempts, cost=cost)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"The record is not a run: {type(error).__name__} at {error}.", hint="Check the file.") from None
    _check_values(run)
    return run


def _check_form(plain: dict[str, Any]) -> None:
    """Raise SettingsError, naming the field, where a value is not of its field's type."""
    from pydantic import TypeAdapter, ValidationError

    try:
        # As JSON, because only there does pydantic's strict mode take a list for a tuple and a word for an enum.
        TypeAdapter(_Form).validate_json(json.dumps(plain, allow_nan=False), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise _no_run(f"{name!r}: {first['msg'][:200]}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise _no_run(f"a value is not JSON: {error}") from None


def _check_values(run: Run) -> None:
    """Raise SettingsError, naming the field, where a value of the right type cannot be."""
    try:
        _ = run.started_at_utc
    except (ValueError, OverflowError) as error:
        raise _no_run(f"'started_at': {error}") from None
    numbers = {"total_s": run.total_s, "origin": run.origin} | {f.name: getattr(run.cost, f.name) for f in fields(run.cost)}
    for name, value in numbers.items():
        if value is not None and not measurable(value):
            raise _no_run(f"{name!r} is {str(value)[:40]}, which nobody can have measured")
    if run.total_s is not None and run.total_s < 0:
        raise _no_run(f"'total_s' is {run.total_s}, a negative time")
    for number, phase in enumerate(run.phases):
        if phase.name in (PhaseName.UNATTRIBUTED, PhaseName.TOTAL):
            raise _no_run(f"'phases.{number}.name' is {str(phase.name)!r}, which is computed and never recorded")
        if phase.seconds is not None and phase.seconds < -ROUNDING_S:
            raise _no_run(f"'phases.{number}' ends {-phase.seconds:g} s before it starts")


def _no_run(reason: str) -> SettingsError:
    return SettingsError(f"The record is not a run: {reason}.", hint="Check the file, or export the run again.")
