"""What every scenario shares: it rents machines, does its work there, and whatever came of it is recorded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from vastbench.errors import (
    BudgetRefused,
    Interrupted,
    LeaseNotClosed,
    PriceRose,
    TooManyInstances,
    UsageError,
    Vanished,
    did_you_mean,
)
from vastbench.interrupts import shield
from vastbench.record.acceptance import Criterion
from vastbench.record.conditions import Conditions
from vastbench.record.cost import Cost, Rates, Usage, cost_of
from vastbench.record.moments import Moment
from vastbench.record.phases import COMPUTED, LONGEST_NAME, Outcome, Phase, PhaseName, Timeline, of_machine, renting, returning
from vastbench.record.recorder import Listener, Recorder, cause_of, outcome_of, summary_of
from vastbench.record.run import Run
from vastbench.record.stopping import USEFUL
from vastbench.rental.guest_clock import Guest, Known, ask
from vastbench.rental.provisioner import Machine, Provisioner, Rental
from vastbench.ssh.keys import RunKey
from vastbench.ssh.probe import Probe
from vastbench.vast.watch import Spell

log = logging.getLogger(__name__)

Losing = Callable[[int, tuple[float, float]], AbstractContextManager[Callable[[], bool]]]
"""Has an instance be lost within so many clock seconds (from, to), without telling when, while the body runs. What it yields
says afterwards whether it was."""

RESERVED = frozenset({*COMPUTED, "", "retries", "poll period"})
"""What no phase may be called: the names of other rows and columns of tables."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named drill.

    ``about``: one line. ``timeline``: its phases in order, each with the one that it is a part of. ``ready``: the phase at
    whose end it is useful. ``work_s``: clock seconds that it may work on a rented machine, which its budget pays for; a
    function where they depend on what is asked for. ``run``: what it does. ``machines``: the names of those that it rents; a
    first one needs none. ``options``: the fields of the conditions that only some drills know and this one does, with their
    defaults; ``emulated``: those of the defaults that are others on the emulator. ``acceptance``: what its runs must keep.

    >>> boot = Scenario("boot", "until a command runs", {**renting(), **returning()}, "wait SSH", 0.0, lambda drill: None)
    >>> list(boot.timeline)[-3:]
    ['destroy instance', 'confirm destroyed', 'remove SSH key']
    """

    name: str
    about: str
    timeline: Timeline
    ready: str
    work_s: float | Callable[[Conditions], float]
    run: Callable[[Drill], None]
    machines: tuple[str, ...] = ("",)
    options: Mapping[str, Any] = field(default_factory=dict)
    emulated: Mapping[str, Any] = field(default_factory=dict)
    acceptance: tuple[Criterion, ...] = ()

    def __post_init__(self) -> None:
        """Raise UsageError for names that tables cannot tell apart, and for what the timeline lacks."""
        needed = {name for one in self.machines for name in (*renting(one), *returning(one))} | {self.ready}
        columns = [" ".join(name.replace(":", " ").split()) for name in self.timeline]
        wrong = {
            "it rents no machine, or one twice": not self.machines or len(set(self.machines)) < len(self.machines),
            "a machine's name has a colon": any(":" in one for one in self.machines),
            f"its timeline lacks {sorted(needed - {*self.timeline})[:1]}": needed - {*self.timeline},
            "two phases have the same words": len(set(columns)) < len(columns),
            f"a phase is called like one of {sorted(RESERVED)}": RESERVED & {*columns},
            f"a name has more than {LONGEST_NAME} characters": max(map(len, (*self.timeline, self.name))) > LONGEST_NAME,
            "a phase is a part of one that is itself a part": any(
                parent is not None and self.timeline.get(parent, parent) is not None for parent in self.timeline.values()
            ),
        }
        if found := next((words for words, true in wrong.items() if true), None):
            raise UsageError(f"The scenario {self.name!r} cannot be run: {found}.", hint="See docs/architecture.md.")

    def check_quantity(self, quantity: str) -> None:
        """Raise UsageError for what is neither ``time until useful`` nor a phase of its timeline."""
        if quantity not in (USEFUL, PhaseName.TOTAL, *self.timeline):
            close = did_you_mean(quantity, self.timeline)
            raise UsageError(
                f"There is no quantity {quantity!r}.", hint=f"{close}Choose {USEFUL!r} or a phase of vastbench scenarios."
            )

    def settled(self, conditions: Conditions, *, live: bool = False) -> Conditions:
        """``conditions`` with the defaults of its own options. Raises UsageError for an option of other drills.

        >>> Scenario("boot", "", {**renting(), **returning()}, "wait SSH", 0.0, print).settled(Conditions(files=30))
        Traceback (most recent call last):
        vastbench.errors.UsageError: The scenario boot does not know files=. Leave it out; vastbench scenarios shows ...
        """
        for one in fields(Conditions):
            if one.metadata["of_drills"] and one.name not in self.options and getattr(conditions, one.name) is not None:
                raise UsageError(
                    f"The scenario {self.name} does not know {one.metadata['option']}.",
                    hint="Leave it out; vastbench scenarios shows which scenario takes which option.",
                )
        defaults = self.options if live else {**self.options, **self.emulated}
        missing = {name: value for name, value in defaults.items() if getattr(conditions, name) is None}
        return replace(conditions, **missing) if missing else conditions

    def lifetime_s(self, conditions: Conditions) -> float:
        """The longest that each of its instances may be needed, in clock seconds."""
        work_s = self.work_s(self.settled(conditions)) if callable(self.work_s) else self.work_s
        return conditions.lifetime_s(work_s, len(self.machines))

    def worst_case_usd(self, conditions: Conditions, usd_per_hour: float) -> float:
        """What one run costs at most: the whole hourly price of every machine over its whole lifetime."""
        return len(self.machines) * usd_per_hour * self.lifetime_s(conditions) / 3600


@dataclass(frozen=True, slots=True)
class Documents:
    """What a run's record says of one machine and of no other."""

    name: str
    resources: Mapping[str, object] = field(default_factory=dict)
    ssh: Mapping[str, object] = field(default_factory=dict)
    instrument: Mapping[str, object] = field(default_factory=dict)
    guest: Mapping[str, object] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)


@dataclass(slots=True)
class Drill:
    """One run of a scenario under way: it rents the machines and keeps what the scenario finds out.

    ``recorder``: of the scenario's own phases. ``checks``: the results that the record keeps; one that has ``says``
    is shown in these words. What goes over the machines' sessions is metered; what a machine moves beside them is added to its
    rental's ``elsewhere``. ``losing``: what loses an instance.
    """

    scenario: Scenario
    provisioner: Provisioner
    conditions: Conditions
    run_id: str
    listener: Listener | None = None
    losing: Losing | None = None
    recorder: Recorder = field(init=False)
    checks: dict[str, object] = field(default_factory=dict)
    _rentals: list[Rental] = field(default_factory=list)
    _guests: dict[str, Guest] = field(default_factory=dict)
    _taken: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The run's clock starts now."""
        clock = self.provisioner.account.clock.child()
        giving_back = {name for machine in self.scenario.machines for name in returning(machine)}

        def hears(name: str, phase: Phase | None) -> None:
            if phase is None and name not in giving_back and clock.stopping.is_set():
                raise Interrupted("The run was stopped.")
            if self.listener:
                self.listener(name, phase)

        self.recorder = Recorder(clock, hears, self.scenario.timeline)

    @contextmanager
    def rent(self, machine: str = "") -> Iterator[Machine]:
        """The machine of that name, running commands while the body runs, and given back on every way out."""
        with self.provisioner.rent(self._rental(machine)) as rented:
            yield rented
            self._ask_guest(machine, rented)

    @contextmanager
    def rent_all(self) -> Iterator[tuple[Machine, ...]]:
        """All machines of the scenario at the same time, in the order of their names; else like :meth:`rent`.

        Each is rented, kept and given back by a thread of its own. When one cannot be had, the others are given back at once,
        and its error is raised. Raises TooManyInstances, and rents nothing, where so many may not exist at once.
        """
        count, most = len(self.scenario.machines), self.provisioner.max_instances
        if most is not None and count > most:
            raise TooManyInstances(
                f"The scenario {self.scenario.name} rents {count} machines at once, and at most {most} may exist.",
                hint=f"Allow them: --max-instances {count}.",
            )
        keepers = [_Keeper(self.provisioner, self._rental(machine)) for machine in self.scenario.machines]
        error: BaseException | None = None
        try:
            for keeper in keepers:
                keeper.start()
            ended, _ = wait([keeper.ready for keeper in keepers], return_when=FIRST_EXCEPTION)
            if first := next((failed for one in ended if (failed := one.exception())), None):
                raise first
            machines = tuple(keeper.ready.result() for keeper in keepers)
            yield machines
            for machine, rented in zip(self.scenario.machines, machines, strict=True):
                self._ask_guest(machine, rented)
        except BaseException as stopped:
            error = stopped
            raise
        finally:
            with shield():
                if error is not None:
                    self.recorder.clock.stopping.set()  # whatever is still waited for, is so in vain
                for keeper in keepers:
                    keeper.end(error)
                ends = [one for one in [keeper.ended() for keeper in keepers] if one is not None and one is not error]
            # Without an error of its own the run ends with whatever giving back met.
            for kind in (LeaseNotClosed, Vanished, PriceRose, BudgetRefused, *([BaseException] if error is None else [])):
                if found := next((one for one in ends if isinstance(one, kind)), None):
                    # A price that rose is what stopped the body.
                    raise found from (None if isinstance(found, (PriceRose, BudgetRefused)) else error)

    def record(self, error: BaseException | None, *, started_at: str, source: str) -> Run:
        """The run's record, when it has ended: by ``error``, or passed."""
        total, origin = self.recorder.finish(), self.recorder.started
        outcome, cause = (Outcome.PASSED, "") if error is None else (outcome_of(error), cause_of(error))
        detail = "" if error is None else summary_of(error, with_hint=True)
        machines = [self._of_machine(rental, total) for rental in self._rentals]
        first = machines[0] if machines else Documents("")
        others = {"machines": [asdict(one) for one in machines[1:]]} if machines[1:] else {}
        return Run(
            id=self.run_id,
            scenario=self.scenario.name,
            outcome=outcome,
            cause=cause,
            detail=detail,
            started_at=started_at,
            source=source,
            ready=self.scenario.ready,
            phases=tuple(_shifted(phase, origin) for phase in self.recorder.phases),
            attempts=tuple(sorted((one for rental in self._rentals for one in rental.attempts), key=lambda one: one.number)),
            total_s=total,
            origin=origin,
            conditions=self.conditions.to_dict(),
            resources={**first.resources, **others},
            ssh=first.ssh,
            validation=self.checks,
            cost=self._cost(total),
            instrument=first.instrument,
            guest=first.guest,
        )

    def at_most_usd(self, total_s: float | None) -> float | None:
        """What the run costs at most, its leases being closed; None when an instance may have run unseen."""
        costs = [0.0 if one.lease is None else self._cost_of(one, total_s).at_most_usd for one in self._rentals]
        return None if None in costs or any(one.unclear for one in self._rentals) else sum(filter(None, costs))

    def _rental(self, machine: str) -> Rental:
        """Raises UsageError for a machine that the scenario does not name, and for one that it rented already."""
        if machine not in self.scenario.machines or machine in (one.recorder.machine for one in self._rentals):
            raise UsageError(
                f"The scenario {self.scenario.name} rents the machine {machine!r} once more than it says.",
                hint="Give each machine that it rents a name of its own in machines=.",
            )
        rental = Rental(
            self.recorder.of_machine(machine),
            self.run_id,
            self.conditions,
            self.scenario.lifetime_s(self.conditions),
            RunKey.generate(f"vastbench-{self.run_id}"),
            self._taken,
            # One that held a place while it waited for another could wait for itself.
            waits_for_place=len(self.scenario.machines) == 1,
        )
        self._rentals.append(rental)
        return rental

    def _ask_guest(self, machine: str, rented: Machine) -> None:
        """The instance's own account of its start; after the work, so that it delays nothing that is measured."""
        if rented.rental.lost:
            return
        recorder = next(one.recorder for one in self._rentals if one.recorder.machine == machine)
        known = Known(rented.lease.created.lower, rented.running, rented.ready.winner.moments)
        guest = self._guests[machine] = ask(rented.session, recorder.clock, known)
        if guest.switch:
            log.warning("the dead-man's switch of instance %d is not armed: %s", rented.lease.instance_id, guest.switch)
        if guest.trusted:
            recorder.add(Phase(PhaseName.REPORTING, guest.moments["container_started"], rented.running))

    def _cost(self, total_s: float) -> Cost:
        """All machines together."""
        leased = [self._cost_of(one, total_s) for one in self._rentals if one.lease is not None]
        return sum(leased[1:], leased[0]) if leased else Cost()

    def _cost_of(self, rental: Rental, total_s: float | None) -> Cost:
        offer, lease = rental.offer, rental.lease
        if offer is None or lease is None:
            return Cost()
        # An instance never seen running ran after the last poll that said no, if ever.
        waited = of_machine(rental.recorder.machine, PhaseName.WAIT_RUNNING)
        running = rental.running or next((one.end for one in self.recorder.phases if one.name == waited), None)
        disk_gb = self.conditions.disk_gb
        rose_usd = max(0.0, rental.usd_per_hour - offer.usd_per_hour(disk_gb))
        moved = rental.traffic
        used = Usage(total_s, lease.created, running, lease.destroyed, disk_gb, moved.down, moved.up)
        return cost_of(
            used,
            Rates(
                offer.usd_per_hour(disk_gb) + rose_usd,
                offer.dph_base + rose_usd,
                offer.storage_cost,
                offer.inet_down_cost,
                offer.inet_up_cost,
            ),
        )

    def _of_machine(self, rental: Rental, total_s: float) -> Documents:
        machine, origin = rental.recorder.machine, self.recorder.started
        guest = self._guests.get(machine)
        return Documents(
            machine,
            resources=_resources(rental),
            ssh={
                "used": rental.used.kind if rental.used else None,
                "host": rental.used.host if rental.used else None,
                "port": rental.used.port if rental.used else None,
                "endpoints": [_probe(probe, origin) for probe in rental.probes],
            },
            instrument=_instrument(rental),
            guest=guest.to_dict(origin) if guest else {},
            cost=self._cost_of(rental, total_s),
        )


class _Keeper(threading.Thread):
    """Rents one machine, keeps it until it is told to end, and gives it back: its lease never changes hands."""

    def __init__(self, provisioner: Provisioner, rental: Rental) -> None:
        """Nothing is rented before it is started."""
        super().__init__(name=f"vastbench-rent-{rental.recorder.machine}", daemon=True)
        self.ready: Future[Machine] = Future()
        self._provisioner = provisioner
        self._rental = rental
        self._over = threading.Event()
        self._told: BaseException | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """The thread's work."""
        try:
            with self._provisioner.rent(self._rental) as machine:
                self.ready.set_result(machine)
                self._over.wait()
                if self._told is not None:
                    raise self._told
        except BaseException as error:  # noqa: BLE001 (kept for whoever ends it)
            self._error = error
            if not self.ready.done():
                self.ready.set_exception(error)

    def end(self, told: BaseException | None) -> None:
        """Let it give its machine back, because of ``told`` if that is an error."""
        self._told = told
        self._over.set()

    def ended(self) -> BaseException | None:
        """Wait until it has given its machine back: the error with which it ended."""
        if self.ident is not None:
            self.join()
        return self._error


def run_scenario(drill: Drill, *, source: str) -> tuple[Run, BaseException | None]:
    """Run the drill's scenario once: its record and, when it did not pass, the error that ended it.

    Nothing is raised: whatever ends the run, an interruption included, becomes its outcome and cause, and the caller
    decides what goes on.
    """
    started_at, error = datetime.now(UTC).isoformat(), None
    try:
        drill.scenario.run(drill)
    except BaseException as stopped:  # noqa: BLE001 (classified in the record, and handed to the caller)
        error = stopped
    return drill.record(error, started_at=started_at, source=source), error


def _resources(rental: Rental) -> Mapping[str, object]:
    offer, lease = rental.offer, rental.lease
    if offer is None:
        return {"offers_found": rental.offers_found}
    return {
        "offers_found": rental.offers_found,
        "offer_id": offer.id,
        "machine_id": offer.machine_id,
        "host_id": offer.host_id,
        "instance_id": lease.instance_id if lease else None,
        "gpu_name": offer.gpu_name,
        "num_gpus": offer.num_gpus,
        "gpu_ram_mb": offer.gpu_ram_mb,
        "usd_per_hour": offer.usd_per_hour(rental.conditions.disk_gb),
        "gpu_usd_per_hour": offer.dph_base,
        "storage_usd_per_gb_month": offer.storage_cost,
        "region": offer.geolocation,
        "reliability": offer.reliability,
        "lease": lease.label if lease else None,
        "lease_verdict": lease.verdict if lease else None,
    }


def _probe(probe: Probe, origin: float) -> Mapping[str, object]:
    return {
        "kind": probe.endpoint.kind,
        "host": probe.endpoint.host,
        "port": probe.endpoint.port,
        "tries": probe.tries,
        "refusals": dict(probe.refusals_by_symptom),
        "last_error": probe.last_error,
        "queued_s": probe.queued_s,
        "steps": {str(step): asdict(_relative(moment, origin)) for step, moment in probe.moments.items()},
    }


def _instrument(rental: Rental) -> Mapping[str, object]:
    recorder, following = rental.recorder, rental.following
    stats = following.stats if following else None
    return {
        "clock_speed": recorder.clock.speed,
        "polls": stats.polls if stats else 0,
        "polls_missed": stats.missed if stats else 0,
        "polls_rate_limited": stats.rate_limited if stats else 0,
        "ssh_tries": sum(probe.tries for probe in rental.probes),
        "ssh_queued_s": sum(probe.queued_s for probe in rental.probes),
        "sightings": [_spell(spell, recorder.started) for spell in following.spells] if following else [],
        **rental.notes,
    }


def _spell(spell: Spell, origin: float) -> Mapping[str, object]:
    first, last = ([reading - origin for reading in poll] for poll in (spell.first, spell.last))
    return {"status": spell.status, "polls": spell.polls, "first": first, "last": last}


def _shifted(phase: Phase, origin: float) -> Phase:
    return replace(phase, start=_relative(phase.start, origin), end=_relative(phase.end, origin))


def _relative(moment: Moment, origin: float) -> Moment:
    def shift(reading: float | None) -> float | None:
        return None if reading is None else reading - origin

    return Moment(
        moment.no_sent - origin,
        moment.no_received - origin,
        shift(moment.yes_sent),
        shift(moment.yes_received),
        moment.source,
    )
