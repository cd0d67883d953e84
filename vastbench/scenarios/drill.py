"""What every scenario shares: it rents machines, does its work there, and whatever came of it is recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from vastbench.errors import LeaseNotClosed, TooManyInstances
from vastbench.interrupts import shield
from vastbench.record.conditions import Conditions
from vastbench.record.cost import Cost, Rates, Usage, cost_of
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, Phase, PhaseName, Timeline, of_machine
from vastbench.record.recorder import Listener, Recorder, cause_of, outcome_of, summary_of
from vastbench.record.run import Run
from vastbench.rental.guest_clock import Guest, Known, ask
from vastbench.rental.provisioner import Machine, Provisioner, Rental
from vastbench.ssh.keys import RunKey
from vastbench.ssh.probe import Probe
from vastbench.vast.watch import Spell

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named drill.

    ``about``: one line. ``timeline``: its phases in order, each with the one that it is a part of. ``ready``: the phase at
    whose end it is useful. ``work_s``: clock seconds that it may work on a rented machine, which its budget pays for. ``run``:
    what it does. ``machines``: the names of those that it rents; a first one needs none.

    >>> boot = Scenario("boot", "until a command runs", {**renting(), **returning()}, "wait SSH", 0.0, lambda drill: None)
    >>> list(boot.timeline)[-3:]
    ['destroy instance', 'confirm destroyed', 'remove SSH key']
    """

    name: str
    about: str
    timeline: Timeline
    ready: str
    work_s: float
    run: Callable[[Drill], None]
    machines: tuple[str, ...] = ("",)

    def worst_case_usd(self, conditions: Conditions, usd_per_hour: float) -> float:
        """What one run costs at most: the whole hourly price of every machine over its whole lifetime."""
        return len(self.machines) * usd_per_hour * conditions.lifetime_s(self.work_s) / 3600


@dataclass(slots=True)
class Drill:
    """One run of a scenario under way: it rents the machines and keeps what the scenario finds out.

    ``recorder``: of the scenario's own phases. ``checks``: the results that the record keeps. ``bytes_down``: what was sent to
    the machines, for the bytes meter of the first.
    """

    scenario: Scenario
    provisioner: Provisioner
    conditions: Conditions
    run_id: str
    listener: Listener | None = None
    recorder: Recorder = field(init=False)
    checks: dict[str, Any] = field(default_factory=dict)
    bytes_down: int = 0
    _rentals: list[Rental] = field(default_factory=list)
    _guests: dict[str, Guest] = field(default_factory=dict)
    _taken: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The run's clock starts now."""
        self.recorder = Recorder(self.provisioner.account.clock, self.listener, self.scenario.timeline)

    @contextmanager
    def rent(self, machine: str = "") -> Iterator[Machine]:
        """The machine of that name, running commands while the body runs, and given back on every way out."""
        with self.provisioner.rent(self._rental(machine)) as rented:
            yield rented
            self._ask_guest(machine, rented)

    @contextmanager
    def rent_all(self) -> Iterator[tuple[Machine, ...]]:
        """All machines of the scenario at the same time, in the order of their names; else like :meth:`rent`.

        When one cannot be had, the others are given back at once and its error is raised; one that was waiting for SSH then
        ends that wait with its deadline. Raises TooManyInstances, and rents nothing, where so many may not exist at once.
        """
        count, most = len(self.scenario.machines), self.provisioner.max_instances
        if most is not None and count > most:
            raise TooManyInstances(
                f"The scenario {self.scenario.name} rents {count} machines at once, and at most {most} may exist.",
                hint=f"Allow them: --max-instances {count}, or max_instances={count}.",
            )
        rentals = [self._rental(machine) for machine in self.scenario.machines]
        with ExitStack() as stack:
            machines = self._enter_all(stack, rentals)
            yield machines
            for rental, rented in zip(rentals, machines, strict=True):
                self._ask_guest(rental.recorder.machine, rented)

    def _enter_all(self, stack: ExitStack, rentals: list[Rental]) -> tuple[Machine, ...]:
        """Rent all at once, each in a thread; whatever was rented is given back by ``stack``. Raises the first error."""
        contexts = [self.provisioner.rent(one) for one in rentals]
        first: BaseException | None = None
        with ThreadPoolExecutor(2 * len(rentals), "vastbench-rent") as pool:
            entering = [pool.submit(one.__enter__) for one in contexts]
            try:
                ended, _ = wait(entering, return_when=FIRST_EXCEPTION)
                first = next((error for one in ended if (error := one.exception())), None)
            except BaseException:
                self.recorder.clock.stopping.set()  # an interruption: the threads that still wait must hear of it, too
                raise
            finally:
                with shield():
                    # In threads of their own: one that cannot be closed must not keep the others.
                    cancelling = [
                        pool.submit(rental.cancel) for one, rental in zip(entering, rentals, strict=True) if not one.done()
                    ]
                    everything: list[Future[Any]] = [*entering, *cancelling]
                    wait(everything)
                    for one, context in zip(entering, contexts, strict=True):
                        if one.exception() is None:
                            stack.push(context)
        errors = [error for one in everything if (error := one.exception())]
        if errors:
            raise next((error for error in errors if isinstance(error, LeaseNotClosed)), first or errors[0])
        return tuple(one.result() for one in entering)

    def record(self, error: BaseException | None, *, started_at: str, source: str) -> Run:
        """The run's record, when it has ended: by ``error``, or passed."""
        total, origin = self.recorder.finish(), self.recorder.started
        outcome, cause = (Outcome.PASSED, "") if error is None else (outcome_of(error), cause_of(error))
        detail = "" if error is None else summary_of(error, with_hint=True)
        last = self._rentals[-1].attempts if self._rentals else []
        if last and last[-1].outcome is Outcome.PASSED:
            last[-1] = replace(last[-1], outcome=outcome, cause=cause, detail=detail)
        machines = [self._of_machine(rental, total) for rental in self._rentals]
        first = machines[0] if machines else {"resources": {}, "ssh": {}, "instrument": {}, "guest": {}}
        others = {"machines": machines[1:]} if machines[1:] else {}
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
            resources=first["resources"] | others,
            ssh=first["ssh"],
            validation=self.checks,
            cost=self._cost(total),
            instrument=first["instrument"],
            guest=first["guest"],
        )

    def at_most_usd(self, total_s: float | None) -> float | None:
        """What the run costs at most, its leases being closed; None when an instance may have run unseen."""
        costs = [0.0 if one.lease is None else self._cost_of(one, total_s).at_most_usd for one in self._rentals]
        return None if None in costs or any(one.unclear for one in self._rentals) else sum(filter(None, costs))

    def _rental(self, machine: str) -> Rental:
        rental = Rental(
            self.recorder.of_machine(machine),
            self.run_id,
            self.conditions,
            self.scenario.work_s,
            RunKey.generate(f"vastbench-{self.run_id}"),
            self._taken,
        )
        self._rentals.append(rental)
        return rental

    def _ask_guest(self, machine: str, rented: Machine) -> None:
        """The instance's own account of its start; after the work, so that it delays nothing that is measured."""
        recorder = self.recorder.of_machine(machine)
        known = Known(rented.lease.created.lower, rented.running, rented.ready.winner.moments)
        guest = self._guests[machine] = ask(rented.session, recorder.clock, known)
        if guest.switch:
            log.warning("the dead-man's switch of instance %d is not armed: %s", rented.lease.instance_id, guest.switch)
        if guest.trusted:
            recorder.add(Phase(PhaseName.REPORTING, guest.moments["container_started"], rented.running))

    def _cost(self, total_s: float) -> Cost:
        """All machines together; the first meters the bytes."""
        leased = [self._cost_of(one, total_s) for one in self._rentals if one.lease is not None]
        return sum(leased[1:], leased[0]) if leased else Cost()

    def _cost_of(self, rental: Rental, total_s: float | None) -> Cost:
        offer, lease, first = rental.offer, rental.lease, rental is self._rentals[0]
        if offer is None or lease is None:
            return Cost()
        # An instance never seen running ran after the last poll that said no, if ever.
        waited = of_machine(rental.recorder.machine, PhaseName.WAIT_RUNNING)
        running = rental.running or next((one.end for one in self.recorder.phases if one.name == waited), None)
        disk_gb = self.conditions.disk_gb
        used = Usage(total_s, lease.created, running, lease.destroyed, disk_gb, self.bytes_down if first else 0)
        return cost_of(
            used,
            Rates(offer.usd_per_hour(disk_gb), offer.dph_base, offer.storage_cost, offer.inet_down_cost, offer.inet_up_cost),
        )

    def _of_machine(self, rental: Rental, total_s: float) -> dict[str, Any]:
        """The documents about one machine: everything about it that no other has a part in."""
        machine, origin = rental.recorder.machine, self.recorder.started
        guest = self._guests.get(machine)
        return {
            "name": machine,
            "resources": _resources(rental),
            "ssh": {
                "used": rental.used.kind if rental.used else None,
                "host": rental.used.host if rental.used else None,
                "port": rental.used.port if rental.used else None,
                "endpoints": [_probe(probe, origin) for probe in rental.probes],
            },
            "instrument": _instrument(rental),
            "guest": guest.to_dict(origin) if guest else {},
            "cost": asdict(self._cost_of(rental, total_s)),
        }


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


def _resources(rental: Rental) -> dict[str, Any]:
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


def _probe(probe: Probe, origin: float) -> dict[str, Any]:
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


def _instrument(rental: Rental) -> dict[str, Any]:
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


def _spell(spell: Spell, origin: float) -> dict[str, Any]:
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
