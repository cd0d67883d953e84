"""Between runs and the rows of their tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import sqlalchemy as sa

from vastbench.record.cost import Bill, Charges, Cost
from vastbench.record.document import phase_to_dict, plain_fields
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, Phase
from vastbench.record.run import Attempt, Run
from vastbench.record.stopping import StoppingRule
from vastbench.record.study import EndedBy, Study
from vastbench.store import tables

Recorded = TypeVar("Recorded", Run, Phase, Attempt)

_NAMES = {kind: [field.name for field in fields(kind)] for kind in (Run, Phase, Attempt)}
_READINGS = {edge: [f"{edge}_{field.name}" for field in fields(Moment)] for edge in ("start", "end")}

ELSEWHERE = ("attempts", "phases", "instrument", "bill")
"""What of a run is in tables of its own."""
UNTABLED = ("ssh", "guest")
"""Documents of a run of which no table shows anything."""
ENDING = "ending"
"""Where a study's document of conditions keeps when it may end and which rule ended it."""


def storable(value: Any) -> Any:
    """``value``, a row or a part of one, as every database takes it; what came from an instance may hold anything.

    A NUL and half of a surrogate pair become U+FFFD in texts; a number that is not finite becomes None.
    """
    match value:
        case str():
            return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace").replace("\0", "\ufffd")
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {storable(key): storable(one) for key, one in value.items()}
        case list() | tuple():
            return [storable(one) for one in value]
    return value


def run_row(run: Run) -> dict[str, object]:
    """The row of ``runs``."""
    gpu_name = run.resources.get("gpu_name")
    return {name: value for name, value in plain_fields(run).items() if name not in ELSEWHERE} | {
        "outcome": str(run.outcome),
        "cost": plain_fields(run.cost),
        "cost_usd": run.cost.total_usd,
        "gpu_name": None if gpu_name is None else str(gpu_name)[: tables.LONGEST_GPU_NAME],
        "machine_id": run.resources.get("machine_id"),
        "instance_id": run.resources.get("instance_id"),
        "usd_per_hour": run.resources.get("usd_per_hour"),
    }


def phase_row(run_id: str, position: int, phase: Phase) -> dict[str, object]:
    """The row of ``phases``: its document, the readings of its moments beside the rest."""
    row = phase_to_dict(phase)
    readings = {f"{edge}_{name}": value for edge in ("start", "end") for name, value in row.pop(edge).items()}
    return {"run_id": run_id, "position": position} | row | readings


def charges_row(charges: Charges) -> dict[str, object]:
    """The row of ``charges``."""
    known = {name: getattr(charges, name) for name in ("run_id", "url", "asked_at", "by_contract")}
    return known | {"bill": plain_fields(charges.bill)}


def charges_of(row: sa.RowMapping) -> Charges:
    """The charges of a row of ``charges``."""
    return Charges(**{**row, "bill": Bill(**row["bill"])})


def run_of(
    row: sa.RowMapping,
    attempts: list[sa.RowMapping],
    phases: list[sa.RowMapping],
    instrument: Mapping[str, Any],
    bill: Mapping[str, Any],
) -> Run:
    """The run of its rows, ``attempts`` and ``phases`` in their order, ``bill`` empty where nobody has asked for its charges.

    What was not read is as if it were not known.
    """
    return _of(
        Run,
        row,
        **{name: {} for name in UNTABLED if name not in row},
        cost=Cost(**row["cost"]),
        bill=Bill(**bill),
        instrument=dict(instrument),
        attempts=tuple(_of(Attempt, attempt) for attempt in attempts),
        phases=tuple(_of(Phase, phase, start=_moment(phase, "start"), end=_moment(phase, "end")) for phase in phases),
    )


def _of(kind: type[Recorded], row: sa.RowMapping, **known: Any) -> Recorded:
    """The value of that kind in a row that has a column for every field but the ``known`` ones."""
    known["outcome"] = Outcome(row["outcome"])
    return kind(**{name: row[name] for name in _NAMES[kind] if name not in known}, **known)


def _moment(row: sa.RowMapping, edge: str) -> Moment:
    return Moment(*map(row.__getitem__, _READINGS[edge]))


def study_of(row: sa.RowMapping, runs: Sequence[Run]) -> Study:
    """The study that a row of ``studies`` holds, with its runs."""
    conditions, stopping, ended_by = without_ending(row["conditions"])
    known = {name: row[name] for name in ("name", "scenario", "repeats", "started_at")}
    return Study(**known, conditions=conditions, runs=tuple(runs), stopping=stopping, ended_by=ended_by)


def study_of_runs(runs: Sequence[Run]) -> Study:
    """The study that imported ``runs``, oldest first, belong to, as far as they tell."""
    first = runs[0]
    known = Study(
        first.study, first.scenario, len(runs), {**first.conditions, "source": first.source}, first.started_at, tuple(runs)
    )
    return replace(known, repeats=len(known.made))


def with_ending(conditions: Mapping[str, Any], stopping: StoppingRule | None, ended_by: EndedBy | None) -> dict[str, object]:
    """The document of ``studies.conditions``."""
    ending = {"rule": stopping and stopping.to_dict(), "ended_by": ended_by and str(ended_by)}
    return {**conditions} | ({ENDING: ending} if stopping or ended_by else {})


def without_ending(document: Mapping[str, Any]) -> tuple[dict[str, object], StoppingRule | None, EndedBy | None]:
    """What :func:`with_ending` put together."""
    conditions = {**document}
    ending = conditions.pop(ENDING, {})
    rule, ended_by = ending.get("rule"), ending.get("ended_by")
    return conditions, rule and StoppingRule.from_dict(rule), ended_by and EndedBy(ended_by)
