"""A run as a JSON document, and back.

Format history (``FORMAT``), newest first:

5. ``bill``: what the account charged for the run, and whether it is what the run's meters say.
4. ``ready``: the phase at whose end the run is useful; phases may have any name, and their ``parent`` counts.
3. ``guest``: what the instance's own clock said; phases may have ``queued_s``.
2. ``study``: the study that the run belongs to.
1. The first one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any

from vastbench.errors import SettingsError
from vastbench.record.cost import Bill, Cost
from vastbench.record.moments import Moment
from vastbench.record.numbers import measurable
from vastbench.record.phases import COMPUTED, Phase
from vastbench.record.run import ROUNDING_S, Attempt, Run

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 5
READABLE = (1, 2, 3, 4, 5)

_REQUIRED, _REQUIRED_OF_PHASE = ("attempts", "cost"), ("outcome", "attempt", "detail", "parent")
"""What every format holds although a new value may leave it out: a phase that lacks its outcome has not passed."""

_KINDS = {"text": (str, NoneType), "number": (int, float, NoneType), "whole number": (int, NoneType)}
_TABLED = {
    "conditions": dict.fromkeys(("profile", "image", "variant"), "text")
    | {"disk_gb": "number", "stagger_s": "number", "hedge": "whole number"},
    "resources": {"gpu_name": "text", "region": "text", "gpu_ram_mb": "number", "usd_per_hour": "number"}
    | dict.fromkeys(("num_gpus", "offer_id", "machine_id", "instance_id"), "whole number"),
    "instrument": {"clock_speed": "number", "poll_period_s": "number", "client_version": "text"},
}
"""What tables show of a run's documents, and of which kind it is; whatever else these hold may be anything."""


def plain_fields(value: Run | Phase | Moment | Attempt | Cost | Bill) -> dict[str, Any]:
    """What ``value`` is made of, by the names of its fields."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def phase_to_dict(phase: Phase) -> dict[str, Any]:
    """The phase ready for JSON, with the seconds and the bounds that follow from its moments."""
    rest = plain_fields(phase) | {"start": plain_fields(phase.start), "end": plain_fields(phase.end)}
    first = {name: rest.pop(name) for name in ("name", "parent", "attempt", "outcome")}
    return first | {"seconds": phase.seconds, "lower": phase.lower, "upper": phase.upper if phase.end.seen else None} | rest


def run_to_dict(run: Run) -> dict[str, object]:
    """A JSON-ready dictionary that :func:`run_from_dict` reads back."""
    return {"format": FORMAT, **plain_fields(run)} | {
        "phases": [phase_to_dict(phase) for phase in run.phases],
        "attempts": [plain_fields(attempt) for attempt in run.attempts],
        "cost": plain_fields(run.cost) | {"total_usd": run.cost.total_usd},
        "bill": plain_fields(run.bill),
    }


@cache
def _codec() -> TypeAdapter[Run]:
    from pydantic import TypeAdapter

    return TypeAdapter(Run)


def run_from_dict(plain: Mapping[str, Any]) -> Run:
    """Read back what :func:`run_to_dict` wrote.

    Raises SettingsError for a record of another format, or one that does not have a run's form; it names the field.
    """
    if plain.get("format") not in READABLE:
        raise SettingsError(
            f"The record has format {plain.get('format')!r}, but this vastbench reads formats up to {FORMAT}.",
            hint="Install a newer vastbench, or export the run again.",
        )
    from pydantic import ValidationError

    try:
        # As JSON, because only there does pydantic's strict mode take a list for a tuple and a word for an enum.
        run = _codec().validate_json(json.dumps(plain, allow_nan=False), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise _no_run(f"{name!r}: {first['msg'][:200]}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise _no_run(f"a value is not JSON: {error}") from None
    needed = [*_REQUIRED, *(f"phases.{number}.{name}" for number in range(len(run.phases)) for name in _REQUIRED_OF_PHASE)]
    there = {*plain, *(f"phases.{number}.{name}" for number, phase in enumerate(plain["phases"]) for name in phase)}
    if lacking := [name for name in needed if name not in there]:
        raise _no_run(f"{lacking[0]!r} is missing")
    _check_values(run)
    return run


def _check_values(run: Run) -> None:
    """Raise SettingsError, naming the field, where a value of the right type cannot be."""
    try:
        _ = run.started_at_utc
    except (ValueError, OverflowError) as error:
        raise _no_run(f"'started_at': {error}") from None
    numbers = {"total_s": run.total_s, "origin": run.origin}
    numbers |= {f"cost.{name}": value for name, value in plain_fields(run.cost).items()}
    numbers |= {f"bill.{name}": value for name, value in plain_fields(run.bill).items() if name != "match"}
    for document, kinds in _TABLED.items():
        for name, kind in kinds.items():
            value = getattr(run, document).get(name)
            if type(value) not in _KINDS[kind]:
                raise _no_run(f"'{document}.{name}' is {value!r:.40}, which is no {kind}")
            if kind != "text":
                numbers[f"{document}.{name}"] = value
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
