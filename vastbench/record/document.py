"""A run as a JSON document, and back.

Format history (``FORMAT``), newest first:

4. ``ready``: the phase at whose end the run is useful; phases may have any name, and their ``parent`` counts.
3. ``guest``: what the instance's own clock said; phases may have ``queued_s``.
2. ``study``: the study that the run belongs to.
1. The first one.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from typing import Any

from vastbench.errors import SettingsError
from vastbench.record.cost import Cost
from vastbench.record.moments import Moment
from vastbench.record.numbers import measurable
from vastbench.record.phases import COMPUTED, Outcome, Phase
from vastbench.record.run import ROUNDING_S, Attempt, Run

FORMAT = 4


READABLE = (1, 2, 3, 4)


def _phase_to_dict(phase: Phase) -> dict[str, Any]:
    upper = phase.upper if math.isfinite(phase.upper) else None
    return {
        "name": phase.name,
        "parent": phase.parent,
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


def run_to_dict(run: Run) -> dict[str, Any]:
    """A JSON-ready dictionary that :func:`run_from_dict` reads back."""
    plain: dict[str, Any] = {"format": FORMAT}
    for item in fields(run):
        plain[item.name] = getattr(run, item.name)
    plain["outcome"] = str(run.outcome)
    plain["phases"] = [_phase_to_dict(p) for p in run.phases]
    plain["attempts"] = [{f.name: getattr(a, f.name) for f in fields(a)} | {"outcome": str(a.outcome)} for a in run.attempts]
    plain["cost"] = {f.name: getattr(run.cost, f.name) for f in fields(run.cost)} | {"total_usd": run.cost.total_usd}
    return plain


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
    """Read back what :func:`run_to_dict` wrote.

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
                str(p["name"]),
                Moment(**p["start"]),
                Moment(**p["end"]),
                Outcome(p["outcome"]),
                int(p["attempt"]),
                str(p["detail"]),
                float(p.get("queued_s", 0.0)),
                p["parent"],
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
        if phase.name in COMPUTED:
            raise _no_run(f"'phases.{number}.name' is {phase.name!r}, which is computed and never recorded")
        if phase.seconds is not None and phase.seconds < -ROUNDING_S:
            raise _no_run(f"'phases.{number}' ends {-phase.seconds:g} s before it starts")


def _no_run(reason: str) -> SettingsError:
    return SettingsError(f"The record is not a run: {reason}.", hint="Check the file, or export the run again.")
