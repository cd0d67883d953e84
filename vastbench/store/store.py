"""Reading and writing runs and leases. Every write is one committed, synced transaction."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from vastbench.errors import NotFound, StoreError, TooManyInstances, UsageError, nothing_selected
from vastbench.owner import ENDED_BEAT, State, state_of
from vastbench.record.cost import Bill, Charges, Cost
from vastbench.record.lease import Announcement, LeaseRow
from vastbench.record.run import KILLED, NOT_COUNTED, Run
from vastbench.record.stopping import StoppingRule
from vastbench.record.study import EndedBy, Study, check_name, check_plan
from vastbench.store import pending_runs, tables
from vastbench.store.database import serialised
from vastbench.store.rows import (
    UNTABLED,
    charges_of,
    charges_row,
    phase_row,
    run_of,
    run_row,
    storable,
    study_of,
    study_of_runs,
    with_ending,
    without_ending,
)
from vastbench.store.transactions import Transactions

log = logging.getLogger(__name__)

Row = TypeVar("Row")

BATCH = 500
"""Runs whose rows are read at a time: rows take many times the memory of the runs that they become."""

READINGS = [tables.phases.c[name] for name in ("run_id", "name", "parent", "attempt", "outcome", "start_no_sent")]
READINGS += [tables.phases.c[name] for name in ("start_yes_received", "end_no_sent", "end_yes_received", "queued_s")]
"""What a table shows of a phase, or follows from."""

NAMED = 5
"""How many runs an error names for one that is not there."""


class Store(Transactions):
    """The store at ``place`` (a file path or a database URL), opened and migrated.

    Raises StoreError when it cannot be opened; so does every method when the database refuses. What a run or a lease
    depends on is written again for a while when the refusal passes: a lost connection, a server that starts again, a lock.

    Examples
    --------
    >>> with vastbench.Store("mine.sqlite") as store:
    ...     store.save_run(vastbench.load_run("2026-01-02-rtx4090"))
    ...     store.run("last")
    <Run seed-807359bf6926: passed after 99.0 s>
    """

    @classmethod
    def existing(cls, place: str | Path) -> "Store":
        """The store at ``place``, only to be read: one that is not there is not made. Raises NotFound for it."""
        return cls(place, made=False)

    def save_run(self, run: Run) -> None:
        """Write a finished run with its attempts, phases and instrument; a run of the same id is never overwritten.

        Except one recorded as killed: its process was alive but unheard, and this is what it measured. Raises UsageError for a
        study's name that no study can have.
        """
        if run.study:
            check_name(run.study)
        instrument = dict(run.instrument)
        known = {"clock_speed": instrument.get("clock_speed", 1.0), "poll_period_s": instrument.get("poll_period_s")}

        def save(connection: sa.Connection) -> None:
            if run.study:
                serialised(connection, f"study {run.study}")
            if run.cause != KILLED:
                buried = sa.and_(tables.runs.c.id == run.id, tables.runs.c.cause == KILLED)
                connection.execute(sa.delete(tables.runs).where(buried))
            connection.execute(sa.insert(tables.runs), storable(run_row(run)))
            connection.execute(sa.insert(tables.instruments), storable(known | {"run_id": run.id, "readings": instrument}))
            if run.attempts:
                rows = [asdict(attempt) | {"run_id": run.id} for attempt in run.attempts]
                connection.execute(sa.insert(tables.attempts), storable(rows))
            if run.phases:
                rows = [phase_row(run.id, i, p) for i, p in enumerate(run.phases)]
                connection.execute(sa.insert(tables.phases), storable(rows))
            if run.bill != Bill():  # it came with a record of another store, which had asked
                _put_charges(connection, [Charges(run.id, "", _now(), run.bill)])

        self._add(save, there=_is_run(run.id))

    def save_run_or_keep(self, run: Run) -> None:
        """Write a finished run; when the store refuses, keep it in a file for :meth:`take_in_pending_runs`.

        The StoreError that is raised then names the file.
        """
        try:
            self.save_run(run)
        except StoreError as error:
            path = pending_runs.keep(run, self._engine.url, because=error)
            raise StoreError(
                f"{error.message} The run {run.id} is kept in {path}.",
                hint=f"{error.hint} The next command on this store takes the run in.",
            ) from None

    def take_in_pending_runs(self) -> list[str]:
        """Store the runs that :meth:`save_run_or_keep` kept in files, and remove the files; the ids of those stored.

        A run that is there already is only removed. A file without a run, or whose run is refused again, is left and named
        in a warning.
        """
        taken = []
        for path, run in pending_runs.kept(self._engine.url):
            try:
                if not self._is_finished(run.id):
                    self.save_run(run)
                    taken.append(run.id)
            except (StoreError, UsageError) as error:
                if not self._is_finished(run.id):  # nor did somebody else take it in meanwhile
                    log.warning("The run in %s is not taken in: %s", path, error)
                    continue
            path.unlink(missing_ok=True)
        return taken

    def run(self, name: str) -> Run:
        """The run whose id is or begins with ``name``; ``last`` is the newest. Raises NotFound for none or several."""
        query = sa.select(tables.runs)
        if name == "last":
            query = query.order_by(tables.runs.c.started_at.desc(), tables.runs.c.id.desc()).limit(1)
        else:
            query = query.where(tables.runs.c.id.startswith(name, autoescape=True)).order_by(tables.runs.c.id).limit(2)
        found = self._read(lambda connection: _whole(connection, query))
        exact = [run for run in found if run.id == name]
        if len(exact or found) != 1:
            problem = "There is no run" if not found else "Several runs have an id that begins with"
            ids = ", ".join(run.id for run in found or self.runs(limit=NAMED))
            hint = f"{'Two of them' if found else 'The newest runs there'}: {ids}. `vastbench runs` lists them."
            raise NotFound(f"{problem} {name!r} in {self.place}.", hint=hint if ids else "Make one: vastbench run")
        return (exact or found)[0]

    def runs(self, *, limit: int | None = None, study: str | None = None) -> list[Run]:
        """The newest runs first, at most ``limit``; with ``study``, those of one study, or of all studies of a design.

        Raises NotFound when it has none.
        """
        query = sa.select(tables.runs).order_by(tables.runs.c.started_at.desc(), tables.runs.c.id.desc()).limit(limit)
        if study is not None:
            query = query.where(_of_study(study))
        found = self._read(lambda connection: _whole(connection, query))
        if study is not None and not found:
            raise self._no_study(study)
        return found

    def each_part(self, *, study: str | None = None) -> Iterator[tuple[list[Run], list[Any]]]:
        """All runs, or those of one study or design, oldest first, for :func:`~vastbench.analysis.frames.table_of`.

        Some hundred at a time, without phases and what a table does not show; beside them are the readings of their phases.
        """

        def find(connection: sa.Connection, some: Sequence[str]) -> tuple[list[Run], list[Any]]:
            chosen = sa.select(*(column for column in tables.runs.c if column.name not in UNTABLED))
            chosen = chosen.where(tables.runs.c.id.in_(some)).order_by(tables.runs.c.started_at, tables.runs.c.id)
            readings = sa.select(*READINGS).where(tables.phases.c.run_id.in_(some))
            ordered = readings.order_by(tables.phases.c.run_id, tables.phases.c.position)
            return _whole(connection, chosen, phases=False), [tuple(row) for row in connection.execute(ordered).all()]

        query = sa.select(tables.runs.c.id).order_by(tables.runs.c.started_at, tables.runs.c.id)
        if study is not None:
            query = query.where(_of_study(study))
        for some in _batches(self._read(lambda connection: connection.execute(query).scalars().all())):
            yield self._read(partial(find, some=some))

    def costs(self, study: str | None = None) -> dict[str, tuple[Cost, Bill]]:
        """What each stored run, or each of ``study``, cost by its meters and as charged, by its id; the runs are not read."""
        runs, charges = tables.runs, tables.charges
        query = sa.select(runs.c.id, runs.c.cost, charges.c.bill).outerjoin(charges, charges.c.run_id == runs.c.id)
        if study is not None:
            query = query.where(runs.c.study == study)
        return self._read(
            lambda connection: {row.id: (Cost(**row.cost), Bill(**row.bill or {})) for row in connection.execute(query)}
        )

    def save_charges(self, charges: Sequence[Charges]) -> None:
        """Write down what accounts charged for runs, in place of what they had charged when they were asked before."""

        def save(connection: sa.Connection) -> None:
            serialised(connection, "charges")
            for some in _batches(charges):
                _put_charges(connection, some)

        self._write(save)

    def charges(self) -> dict[str, Charges]:
        """What accounts charged, by the id of the run; of runs too that were never stored."""
        query = sa.select(tables.charges)
        return self._read(lambda connection: {row["run_id"]: charges_of(row) for row in connection.execute(query).mappings()})

    def _is_finished(self, run_id: str) -> bool:
        """Whether a run of exactly this id is there with what it measured, and not only as killed."""
        finished = _is_run(run_id).where(tables.runs.c.cause != KILLED)
        return self._read(lambda connection: connection.execute(finished).first()) is not None

    def has_run(self, run_id: str) -> bool:
        """Whether a run of exactly this id is there."""
        return self._read(lambda connection: connection.execute(_is_run(run_id)).first()) is not None

    def open_study(
        self,
        name: str,
        *,
        scenario: str,
        repeats: int,
        conditions: Mapping[str, Any],
        stopping: StoppingRule | None = None,
    ) -> Study:
        """The study of that name: a new one, or the one that is there, now with ``repeats`` and the rule ``stopping``.

        Raises UsageError for an unfit name or number, for fewer repeats than were made already, and when the study that is
        there has other conditions: runs made under different conditions are different studies.
        """
        check_plan(name, repeats)
        this = tables.studies.c.name == name
        row = {"name": name, "scenario": scenario, "started_at": _now(), "repeats": repeats}

        def open_it(connection: sa.Connection) -> None:
            serialised(connection, f"study {name}")
            there = connection.execute(sa.select(tables.studies).where(this)).mappings().first()
            if there is None:
                connection.execute(sa.insert(tables.studies), row | {"conditions": with_ending(conditions, stopping, None)})
                return
            before, rule, ended_by = without_ending(there["conditions"])
            _check_same(name, {"scenario": there["scenario"], **before}, {"scenario": scenario, **conditions})
            kept = with_ending(before, stopping, ended_by if stopping == rule else None)
            made = connection.execute(_made(name)).scalar_one()
            if repeats < min(made, there["repeats"]):
                raise UsageError(
                    f"The study {name!r} has {made} runs already, more than {repeats}.",
                    hint=f"Give --repeats {made} or more.",
                )
            connection.execute(sa.update(tables.studies).where(this).values(repeats=repeats, conditions=kept))

        self._write(open_it)
        return self.study(name)

    def end_study(self, name: str, ended_by: EndedBy | None) -> None:
        """Write down which rule ended the study's launch; None when it goes on."""
        this = tables.studies.c.name == name

        def end(connection: sa.Connection) -> None:
            serialised(connection, f"study {name}")
            document = connection.execute(sa.select(tables.studies.c.conditions).where(this)).scalar_one()
            before, rule, _ = without_ending(document)
            kept = with_ending(before, rule, ended_by)
            connection.execute(sa.update(tables.studies).where(this).values(conditions=kept))

        self._write(end)

    def study(self, name: str) -> Study:
        """The study of that name with its runs, oldest first; of imported runs it is what they tell. Raises NotFound."""
        found = [study for study in self._studies(name) if study.name == name]
        if not found:
            raise NotFound(f"There is no study {name!r} in {self.place}.", hint=self._no_study(name).hint)
        return found[0]

    def wanted(self, name: str) -> int:
        """How many runs make the study of that name complete (:attr:`Study.wanted`), without reading them. Raises NotFound."""

        def find(connection: sa.Connection) -> int | None:
            row = connection.execute(sa.select(tables.studies).where(tables.studies.c.name == name)).mappings().first()
            made = int(connection.execute(_made(name)).scalar_one())
            if row is None:
                there = connection.execute(sa.select(tables.runs.c.id).where(tables.runs.c.study == name)).first()
                return None if there is None else made
            return made if study_of(row, []).ended_by is EndedBy.PRECISION else int(row["repeats"])

        found = self._read(find)
        if found is None:
            raise self._no_study(name)
        return found

    def _no_study(self, name: str) -> NotFound:
        runs = sa.select(tables.runs.c.study, sa.func.count()).group_by(tables.runs.c.study).order_by(tables.runs.c.study)
        begun = sa.select(tables.studies.c.name).order_by(tables.studies.c.name)

        def count(connection: sa.Connection) -> dict[str, int]:
            there = dict.fromkeys(connection.execute(begun).scalars(), 0)
            return there | {study or "no study": number for study, number in connection.execute(runs)}

        return nothing_selected(self.place, f"of a study {name!r}", "Studies", self._read(count))

    def studies(self) -> list[Study]:
        """All studies with their runs, newest first."""
        return self._studies()

    def announce_run(self, study: str, run_id: str, owner: Mapping[str, Any]) -> bool:
        """Write down that ``owner`` begins a run of ``study``; false, and nothing is written, when no repeat is missing.

        Runs that were announced and not stored are under way as long as their owners are known to live, on this machine or, by
        their signs of life, on another. When this returns, the row is on the disk.
        """
        wanted = sa.select(tables.studies.c.repeats).where(tables.studies.c.name == study)
        there = sa.select(tables.study_runs.c.run_id).where(tables.study_runs.c.run_id == run_id)
        row = {"run_id": run_id, "study": study, "owner": dict(owner), "started_at": _now()}

        def announce(connection: sa.Connection) -> bool:
            serialised(connection, f"study {study}")
            repeats = connection.execute(wanted).scalar()
            if repeats is None:
                raise NotFound(f"There is no study {study!r} in {self.place}.", hint="Open it first.")
            if connection.execute(there).first():  # written by a try whose answer was lost
                return True
            beats, now = _beats(connection), _shared_now(connection)
            states = [state_of(one.owner, beats, now) for one in _unfinished(connection, study)]
            under_way = [state for state in states if state is State.LIVING]
            if connection.execute(_made(study)).scalar_one() + len(under_way) >= repeats:
                return False
            connection.execute(sa.insert(tables.study_runs), row)
            return True

        return self._write(announce)

    def begin_launch(self, *studies: str) -> int:
        """Write down that a launch of ``studies``, which need not exist yet, begins; its number, from 0, is new for each."""
        latest = sa.select(sa.func.max(tables.sittings.c.number)).where(tables.sittings.c.study.in_(studies))

        def begin(connection: sa.Connection) -> int:
            for study in sorted(studies):
                serialised(connection, f"study {study}")
            before = connection.execute(latest).scalar_one()
            number = 0 if before is None else int(before) + 1
            rows = [{"study": study, "number": number, "started_at": _now()} for study in studies]
            connection.execute(sa.insert(tables.sittings), rows)
            return number

        return self._write(begin)

    def announced(self, study: str) -> int:
        """How many runs of ``study`` were ever announced."""
        query = sa.select(sa.func.count()).where(tables.study_runs.c.study == study)
        return self._read(lambda connection: int(connection.execute(query).scalar_one()))

    def unfinished(self, study: str) -> list[Announcement]:
        """The runs of ``study`` that were announced and are not stored, oldest first."""
        return self._read(lambda connection: _unfinished(connection, study))

    def open_lease(self, lease: LeaseRow, *, at_most: int | None = None) -> None:
        """Write down a lease before its instance exists. When this returns, the row is on the disk.

        Raises TooManyInstances, and writes nothing, when ``at_most`` leases are open at its marketplace already.
        """

        def open_it(connection: sa.Connection) -> None:
            if at_most is not None:
                serialised(connection, f"instances {lease.url}")
                still = sa.select(sa.func.count()).where(tables.leases.c.state != "closed", tables.leases.c.url == lease.url)
                if (number := connection.execute(still).scalar_one()) >= at_most:
                    raise TooManyInstances(
                        f"Open leases on {lease.url}: {number}; at most {at_most} instances may exist at once.",
                        hint="Wait for them to end, raise --max-instances, or close what is left over: vastbench reap.",
                    )
            connection.execute(sa.insert(tables.leases), storable(asdict(lease)))

        self._add(open_it, there=sa.select(tables.leases.c.label).where(tables.leases.c.label == lease.label))

    def update_lease(self, label: str, **changes: Any) -> None:
        """Change columns of one lease. Raises StoreError when there is no such lease."""
        changing = sa.update(tables.leases).where(tables.leases.c.label == label).values(**storable(changes))
        if self._write(lambda connection: connection.execute(changing).rowcount) != 1:
            raise self._no_lease(label)

    def close_lease(self, label: str, *, verdict: str, note: str = "") -> bool:
        """Close a lease that is not closed yet; whether this did it. A verdict that is there is never overwritten.

        Without a ``note`` the lease keeps the one it has. Raises StoreError when there is no such lease.
        """
        this = tables.leases.c.label == label
        ours = {"verdict": verdict, "closed_at": _now()}
        closing = sa.update(tables.leases).where(this, tables.leases.c.state != "closed")
        values = ours | {"state": "closed", "note": storable(note) or tables.leases.c.note}

        def close(connection: sa.Connection) -> sa.RowMapping | None:
            connection.execute(closing.values(**values))
            return connection.execute(sa.select(tables.leases).where(this)).mappings().first()

        closed = self._write(close)
        if closed is None:
            raise self._no_lease(label)
        # Counting rows would call it somebody else's when the first try's answer was lost, and not its work.
        return {name: closed[name] for name in ours} == ours

    def adopt(self, lease: LeaseRow, *, reopen: bool = False) -> bool:
        """Write down that the instance of ``lease`` exists and is to be closed by us, in one synced transaction.

        A lease that is open keeps whose it was; one that is not in the store is written. One that is closed stays so, and the
        answer is false, unless ``reopen``: then its instance was seen again after all.
        """
        this = tables.leases.c.label == lease.label
        held = sa.update(tables.leases).where(this if reopen else sa.and_(this, tables.leases.c.state != "closed"))
        values = {"state": "held", "instance_id": lease.instance_id, "note": lease.note, "verdict": None, "closed_at": None}

        def adopt_it(connection: sa.Connection) -> bool:
            serialised(connection, f"lease {lease.label}")
            if connection.execute(sa.select(tables.leases.c.label).where(this)).first() is None:
                connection.execute(sa.insert(tables.leases), storable(asdict(lease)))
                return True
            return connection.execute(held.values(**values)).rowcount == 1

        return self._write(adopt_it)

    def leases(self, *, open_only: bool = False) -> list[LeaseRow]:
        """All leases, oldest first, or only those that are not closed."""
        query = sa.select(tables.leases).order_by(tables.leases.c.opened_at)
        if open_only:
            query = query.where(tables.leases.c.state != "closed")
        return self._read(lambda connection: [LeaseRow(**row) for row in connection.execute(query).mappings()])

    def beat(self, owner_id: str) -> None:
        """Write down that the owner of that id is alive now, unless it has ended."""
        self._sign(owner_id)

    def retire(self, owner_id: str) -> None:
        """Write down that the owner of that id has ended, whatever becomes of its process."""
        self._sign(owner_id, ENDED_BEAT)

    def _sign(self, owner_id: str, sign: str | None = None) -> None:
        # The same words on SQLite and PostgreSQL, which SQLAlchemy knows only as two dialects' own inserts.
        words = (
            "INSERT INTO owners (id, beat_at) VALUES (:id, :sign) "
            "ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at WHERE owners.beat_at <> :ended"
        )

        def write(connection: sa.Connection) -> None:
            beat_at = _shared_now(connection).isoformat() if sign is None else sign
            connection.execute(sa.text(words), {"id": owner_id, "sign": beat_at, "ended": ENDED_BEAT})

        self._write(write)

    def beats(self) -> dict[str, str]:
        """When each owner was last known to be alive, on the clock of :meth:`now`: its id, and a date in ISO 8601, UTC.

        ``ENDED_BEAT`` for one that has ended.
        """
        return self._read(_beats)

    def now(self) -> datetime:
        """This moment by the clock that all machines with this store share: the server's, or for a file its one machine's."""
        return self._read(_shared_now)

    def note_sweep(self, url: str, account: int | None) -> None:
        """Write down that the account has nothing left on the marketplace at ``url`` that a dead owner made."""
        words = (
            "INSERT INTO sweeps (url, account, swept_at) VALUES (:url, :account, :now) "
            "ON CONFLICT (url, account) DO UPDATE SET swept_at = excluded.swept_at"
        )
        values = {"url": url, "account": account or 0, "now": _now()}
        self._write(lambda connection: connection.execute(sa.text(words), values))

    def last_sweep(self, url: str, account: int | None) -> str | None:
        """When that was last written down: ISO 8601, UTC; None for never."""
        sweeps = tables.sweeps.c
        query = sa.select(sweeps.swept_at).where(sweeps.url == url, sweeps.account == (account or 0))
        return self._read(lambda connection: connection.execute(query).scalar_one_or_none())

    def _no_lease(self, label: str) -> StoreError:
        return StoreError(f"The lease {label} is not in the store {self.place}.", hint="Was the store replaced?")

    def _studies(self, name: str | None = None) -> list[Study]:
        opened, made = sa.select(tables.studies), sa.select(tables.runs).where(tables.runs.c.study != "")
        if name is not None:
            opened, made = opened.where(tables.studies.c.name == name), made.where(tables.runs.c.study == name)

        def find(connection: sa.Connection) -> list[Study]:
            rows = connection.execute(opened).mappings().all()
            runs: dict[str, list[Run]] = {}
            for run in _whole(connection, made.order_by(tables.runs.c.started_at, tables.runs.c.id)):
                runs.setdefault(run.study, []).append(run)
            found = [study_of(row, runs.pop(row["name"], [])) for row in rows]
            return found + [study_of_runs(imported) for imported in runs.values()]

        return sorted(sorted(self._read(find), key=lambda one: one.name), key=lambda one: one.started_at, reverse=True)


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _shared_now(connection: sa.Connection) -> datetime:
    if connection.dialect.name == "postgresql":
        told: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return told.astimezone(UTC)
    return datetime.now(UTC)


def _beats(connection: sa.Connection) -> dict[str, str]:
    return {row.id: row.beat_at for row in connection.execute(sa.select(tables.owners))}


def _put_charges(connection: sa.Connection, charges: Sequence[Charges]) -> None:
    ids = [one.run_id for one in charges]
    connection.execute(sa.delete(tables.charges).where(tables.charges.c.run_id.in_(ids)))
    connection.execute(sa.insert(tables.charges), storable([charges_row(one) for one in charges]))


def _is_run(run_id: str) -> sa.Select[Any]:
    return sa.select(tables.runs.c.id).where(tables.runs.c.id == storable(run_id))


def _whole(connection: sa.Connection, chosen: sa.Select[Any], *, phases: bool = True) -> list[Run]:
    """The runs that ``chosen`` selects from their table, in its order, with five queries for some hundred of them."""

    def by_run(table: sa.Table, ids: Sequence[str], *order: sa.Column[Any]) -> dict[str, list[sa.RowMapping]]:
        found: dict[str, list[sa.RowMapping]] = {}
        query = sa.select(table).where(table.c.run_id.in_(ids)).order_by(*order)
        for row in connection.execute(query).mappings():
            found.setdefault(row["run_id"], []).append(row)
        return found

    runs: list[Run] = []
    for rows in _batches(connection.execute(chosen).mappings().all()):
        ids = [row["id"] for row in rows]
        attempts = by_run(tables.attempts, ids, tables.attempts.c.number)
        steps = by_run(tables.phases, ids, tables.phases.c.position) if phases else {}
        readings = {run: found[0]["readings"] for run, found in by_run(tables.instruments, ids).items()}
        bills = {run: found[0]["bill"] for run, found in by_run(tables.charges, ids).items()}
        runs += [
            run_of(row, attempts.get(one, []), steps.get(one, []), readings.get(one, {}), bills.get(one, {}))
            for one, row in zip(ids, rows, strict=True)
        ]
    return runs


def _batches(everything: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Some hundred at a time."""
    return (everything[at : at + BATCH] for at in range(0, len(everything), BATCH))


def _of_study(name: str) -> sa.ColumnElement[bool]:
    """Runs of the study of that name; where it has none, of the studies that are called after it, as those of a design are."""
    other = tables.runs.alias()
    alone = sa.select(other.c.id).where(other.c.study == name).exists()
    return (tables.runs.c.study == name) | (~alone & tables.runs.c.study.startswith(f"{name}.", autoescape=True))


def _made(study: str) -> sa.Select[Any]:
    """How many runs of ``study`` ended by themselves."""
    return sa.select(sa.func.count()).where(tables.runs.c.study == study, tables.runs.c.cause.not_in(NOT_COUNTED))


def _unfinished(connection: sa.Connection, study: str) -> list[Announcement]:
    stored = sa.select(tables.runs.c.id).where(tables.runs.c.id == tables.study_runs.c.run_id).exists()
    query = sa.select(tables.study_runs).where(tables.study_runs.c.study == study, ~stored)
    ordered = query.order_by(tables.study_runs.c.started_at, tables.study_runs.c.run_id)
    return [Announcement(**row) for row in connection.execute(ordered).mappings()]


def _check_same(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise UsageError for the first condition that was written down and is another one now."""
    for condition, value in before.items():
        if now.get(condition) != value:
            raise UsageError(
                f"The study {name!r} was begun with {condition} {value!r}, not {now.get(condition)!r}.",
                hint="Give the same conditions to go on with it, or another --name for a new study.",
            )
