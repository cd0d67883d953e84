"""Reading and writing runs and leases. Every write is one committed, synced transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from vastbench.errors import NotFound, StoreError
from vastbench.run import Attempt, Cost, Run
from vastbench.store import tables
from vastbench.store.database import connect, place_of, store_error
from vastbench.timing import Moment, Outcome, Phase, PhaseName

READINGS = ("no_sent", "no_received", "yes_sent", "yes_received")


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """One lease as it stands in the store.

    ``state``: ``intended`` (the create may or may not have happened), ``held`` (the instance exists), ``closed``.
    ``verdict``, once closed: ``destroyed``, ``already gone`` or ``never created``; while open: ``leaked`` or ``unknown``
    when an attempt to close it failed. Dates are ISO 8601, UTC; ``usd_per_hour`` is the whole hourly price.
    """

    label: str
    run_id: str
    attempt: int
    url: str
    offer_id: int
    usd_per_hour: float
    opened_at: str
    deadline_at: str
    owner: dict[str, Any] = field(default_factory=dict)
    machine_id: int | None = None
    instance_id: int | None = None
    state: str = "intended"
    verdict: str | None = None
    closed_at: str | None = None
    note: str = ""


class Store:
    """The store at ``place`` (a file path or a database URL), opened and migrated.

    Raises StoreError when it cannot be opened; so does every method when the database refuses.
    """

    def __init__(self, place: str | Path) -> None:
        """Open the store, making it when it does not exist."""
        self._engine = connect(place)
        self.place = place_of(self._engine.url)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def __enter__(self) -> "Store":
        """Use the store in a with-block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def save_run(self, run: Run) -> None:
        """Write a finished run with its attempts, phases and instrument; a run of the same id is never overwritten."""
        with self._transaction() as connection:
            connection.execute(sa.insert(tables.runs), _run_row(run))
            instrument = dict(run.instrument)
            connection.execute(
                sa.insert(tables.instruments),
                {
                    "run_id": run.id,
                    "clock_speed": instrument.get("clock_speed", 1.0),
                    "poll_period_s": instrument.get("poll_period_s"),
                    "readings": instrument,
                },
            )
            if run.attempts:
                rows = [asdict(a) | {"run_id": run.id, "outcome": str(a.outcome)} for a in run.attempts]
                connection.execute(sa.insert(tables.attempts), rows)
            if run.phases:
                connection.execute(sa.insert(tables.phases), [_phase_row(run.id, i, p) for i, p in enumerate(run.phases)])

    def run(self, name: str) -> Run:
        """The run whose id is or begins with ``name``; ``last`` is the newest. Raises NotFound for none or several."""
        with self._transaction() as connection:
            query = sa.select(tables.runs)
            if name == "last":
                query = query.order_by(tables.runs.c.started_at.desc(), tables.runs.c.id.desc()).limit(1)
            else:
                query = query.where(tables.runs.c.id.startswith(name, autoescape=True)).limit(2)
            found = connection.execute(query).mappings().all()
            exact = [row for row in found if row["id"] == name]
            if len(exact or found) != 1:
                problem = "There is no run" if not found else "Several runs have an id that begins with"
                raise NotFound(f"{problem} {name!r} in {self.place}.", hint="`vastbench runs` lists them.")
            return self._whole(connection, (exact or found)[0])

    def runs(self, *, limit: int | None = None, ids: list[str] | None = None) -> list[Run]:
        """The newest runs first, at most ``limit``, or those with the given ``ids``."""
        query = sa.select(tables.runs).order_by(tables.runs.c.started_at.desc(), tables.runs.c.id.desc()).limit(limit)
        if ids is not None:
            query = query.where(tables.runs.c.id.in_(ids))
        with self._transaction() as connection:
            return [self._whole(connection, row) for row in connection.execute(query).mappings().all()]

    def has_run(self, run_id: str) -> bool:
        """Whether a run of exactly this id is there."""
        with self._transaction() as connection:
            return connection.execute(sa.select(tables.runs.c.id).where(tables.runs.c.id == run_id)).first() is not None

    def open_lease(self, lease: LeaseRow) -> None:
        """Write down a lease before its instance exists. When this returns, the row is on the disk."""
        with self._transaction() as connection:
            connection.execute(sa.insert(tables.leases), asdict(lease))

    def update_lease(self, label: str, **changes: Any) -> None:
        """Change columns of one lease. Raises StoreError when there is no such lease."""
        with self._transaction() as connection:
            done = connection.execute(sa.update(tables.leases).where(tables.leases.c.label == label).values(**changes))
            if done.rowcount != 1:
                raise StoreError(f"The lease {label} is not in the store {self.place}.", hint="Was the store replaced?")

    def leases(self, *, open_only: bool = False) -> list[LeaseRow]:
        """All leases, oldest first, or only those that are not closed."""
        query = sa.select(tables.leases).order_by(tables.leases.c.opened_at)
        if open_only:
            query = query.where(tables.leases.c.state != "closed")
        with self._transaction() as connection:
            return [LeaseRow(**row) for row in connection.execute(query).mappings().all()]

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise store_error(error, self.place) from None

    def _whole(self, connection: sa.Connection, row: sa.RowMapping) -> Run:
        def of(table: sa.Table, *order: sa.Column[Any]) -> list[sa.RowMapping]:
            query = sa.select(table).where(table.c.run_id == row["id"]).order_by(*order)
            return list(connection.execute(query).mappings().all())

        instrument = of(tables.instruments)
        return Run(
            id=row["id"],
            scenario=row["scenario"],
            outcome=Outcome(row["outcome"]),
            cause=row["cause"],
            detail=row["detail"],
            source=row["source"],
            started_at=row["started_at"],
            total_s=row["total_s"],
            origin=row["origin"],
            conditions=row["conditions"],
            resources=row["resources"],
            ssh=row["ssh"],
            validation=row["validation"],
            cost=Cost(**row["cost"]),
            instrument=instrument[0]["readings"] if instrument else {},
            attempts=tuple(_attempt(a) for a in of(tables.attempts, tables.attempts.c.number)),
            phases=tuple(_phase(p) for p in of(tables.phases, tables.phases.c.position)),
        )


def _run_row(run: Run) -> dict[str, Any]:
    named = ("id", "scenario", "cause", "detail", "source", "started_at", "total_s", "origin")
    documents = ("conditions", "resources", "ssh", "validation")
    return {name: getattr(run, name) for name in named + documents} | {
        "outcome": str(run.outcome),
        "cost": {f.name: getattr(run.cost, f.name) for f in fields(run.cost)},
        "cost_usd": run.cost.total_usd,
        "gpu_name": run.resources.get("gpu_name"),
        "machine_id": run.resources.get("machine_id"),
        "instance_id": run.resources.get("instance_id"),
        "usd_per_hour": run.resources.get("usd_per_hour"),
    }


def _phase_row(run_id: str, position: int, phase: Phase) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run_id": run_id,
        "position": position,
        "attempt": phase.attempt,
        "name": str(phase.name),
        "parent": str(phase.parent) if phase.parent else None,
        "outcome": str(phase.outcome),
        "seconds": phase.seconds,
        "lower": phase.lower,
        "upper": phase.upper if phase.end.seen else None,
        "detail": phase.detail,
    }
    for edge, moment in (("start", phase.start), ("end", phase.end)):
        row |= {f"{edge}_{reading}": getattr(moment, reading) for reading in READINGS}
        row[f"{edge}_source"] = moment.source
    return row


def _phase(row: sa.RowMapping) -> Phase:
    def moment(edge: str) -> Moment:
        no_sent, no_received, yes_sent, yes_received = (row[f"{edge}_{reading}"] for reading in READINGS)
        return Moment(no_sent, no_received, yes_sent, yes_received, row[f"{edge}_source"])

    return Phase(PhaseName(row["name"]), moment("start"), moment("end"), Outcome(row["outcome"]), row["attempt"], row["detail"])


def _attempt(row: sa.RowMapping) -> Attempt:
    values = {f.name: row[f.name] for f in fields(Attempt)}
    return Attempt(**(values | {"outcome": Outcome(row["outcome"])}))
