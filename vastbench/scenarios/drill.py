"""What every scenario shares: it rents machines, does its work there, and whatever came of it is recorded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from typing import Any

from vastbench.clock import Clock, Stop
from vastbench.errors import (
    CheckFailed,
    DeadlineExceeded,
    InstanceError,
    Interrupted,
    TooManyInstances,
    UsageError,
    did_you_mean,
)
from vastbench.record.acceptance import Criterion
from vastbench.record.conditions import Conditions
from vastbench.record.cost import Cost, Rates, Usage, cost_of, usd_for
from vastbench.record.moments import Moment
from vastbench.record.phases import COMPUTED, LONGEST_NAME, Outcome, Phase, PhaseName, Timeline, of_machine, renting, returning
from vastbench.record.recorder import Listener, Recorder, cause_of, outcome_of, summary_of
from vastbench.record.run import Attempt, Run
from vastbench.record.stopping import USEFUL
from vastbench.rental.guest_clock import Guest, Known, ask
from vastbench.rental.provisioner import Machine, Provisioner, Rental
from vastbench.scenarios.crew import Keeper, all_of, first_of, kept
from vastbench.ssh.keys import RunKey
from vastbench.ssh.probe import Probe
from vastbench.vast.watch import Spell

log = logging.getLogger(__name__)

Losing = Callable[[int, tuple[float, float]], AbstractContextManager[Callable[[], bool]]]
"""Has an instance be lost within so many clock seconds (from, to), without telling when, while the body runs. What it yields
says afterwards whether it was."""

OUTRUN = "outrun"
"""The cause of an attempt that ended because another machine ran commands first."""

TRIES = 3
"""How many machines are tried, one after the other, in place of one that never runs commands. The first machine of a run is
tried once: whether it comes is what the run shows."""

RESERVED = frozenset({*COMPUTED, "", "retries", "poll period"})
"""What no phase may be called: the names of other rows and columns of tables."""


HEDGING: Mapping[str, Any] = {"hedge": None, "stagger_s": None}
"""The options of a drill whose first machine may be raced for; by default it is not."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named drill.

    ``about``: one line. ``timeline``: its phases in order, each with the one that it is a part of. ``ready``: the phase at
    whose end it is useful. ``work_s``: clock seconds that it may work on a rented machine, which its budget pays for; a
    function where they depend on what is asked for. ``run``: what it does. ``machines``: the names of those that it rents; a
    first one needs none. ``options``: the fields of the conditions that only some drills know and this one does, with their
    defaults; ``emulated``: those of the defaults that are others on the emulator. ``variants``: the ways in which it can be
    made, the usual one first, each with the options that it knows beside. ``acceptance``: what its runs must keep.

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
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
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
        """Raise UsageError for what is neither ``time to ready`` nor a phase of its timeline."""
        if quantity not in (USEFUL, PhaseName.TOTAL, *self.timeline):
            close = did_you_mean(quantity, self.timeline)
            raise UsageError(
                f"There is no quantity {quantity!r}.", hint=f"{close}Choose {USEFUL!r} or a phase of vastbench scenarios."
            )

    def settled(self, conditions: Conditions, *, live: bool = False) -> Conditions:
        """``conditions`` with the defaults of its own options. Raises UsageError for an option of other drills or variants.

        >>> Scenario("boot", "", {**renting(), **returning()}, "wait SSH", 0.0, print).settled(Conditions(files=30))
        Traceback (most recent call last):
        vastbench.errors.UsageError: The scenario boot does not know files=. Leave it out; vastbench scenarios shows ...
        """
        variant = conditions.variant or next(iter(self.variants), None)
        if self.variants and variant not in self.variants:
            raise UsageError(
                f"The scenario {self.name} has no variant {variant!r}.",
                hint=f"{did_you_mean(str(variant), self.variants)}Variants: {', '.join(self.variants)}.",
            )
        known = {**self.options, **({"variant": variant, **self.variants[str(variant)]} if self.variants else {})}
        for one in fields(Conditions):
            if one.metadata["of_drills"] and one.name not in known and getattr(conditions, one.name) is not None:
                which = f"{self.name}, variant {variant}," if self.variants else self.name
                raise UsageError(
                    f"The scenario {which} does not know {one.metadata['option']}.",
                    hint="Leave it out; vastbench scenarios shows which scenario and variant takes which option.",
                )
        defaults = known if live else {**known, **self.emulated}
        missing = {name: value for name, value in defaults.items() if getattr(conditions, name) is None}
        return replace(conditions, **missing) if missing else conditions

    def lifetime_s(self, conditions: Conditions) -> float:
        """The longest that each of its instances may be needed, in clock seconds."""
        conditions = self.settled(conditions)
        work_s = self.work_s(conditions) if callable(self.work_s) else self.work_s
        staggered_s = ((conditions.hedge or 1) - 1) * (conditions.stagger_s or 0.0)
        return conditions.lifetime_s(work_s + staggered_s, 1 + TRIES * (len(self.machines) - 1))

    def at_once(self, conditions: Conditions) -> int:
        """How many of its instances exist at the same time, at most."""
        return len(self.machines) + (self.settled(conditions).hedge or 1) - 1

    def worst_case_usd(self, conditions: Conditions, usd_per_hour: float) -> float:
        """What one run costs at most: the whole hourly price of every machine over its whole lifetime, and of all tries in
        vain."""
        count = self.at_once(conditions)
        paid_s = count * self.lifetime_s(conditions) + conditions.lifetime_s(0.0, (TRIES - 1) * (count - 1))
        return usd_for(paid_s, usd_per_hour)


@dataclass(frozen=True, slots=True)
class Documents:
    """What a run's record says of one machine and of no other; ``used``: that its work was done there."""

    name: str
    used: bool = True
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
    _claims: set[str] = field(default_factory=set)
    _outrun: set[Stop] = field(default_factory=set)
    _renting: threading.Lock = field(default_factory=threading.Lock)

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
    def rent(self, machine: str = "", *, hedge: int = 1, stagger_s: float = 0.0) -> Iterator[Machine]:
        """The machine of that name, running commands while the body runs, and given back on every way out.

        One that never runs commands is given back, and another is tried in its place (``TRIES``), unless it is the first.
        ``hedge``: so many machines are rented, each ``stagger_s`` clock seconds after the one before it if none has come; the
        first that runs commands is used, the others are given back while the body runs. Raises UsageError for a machine that
        the scenario does not name, and for one that it rented already; TooManyInstances and BudgetRefused, before anything is
        rented, where so many may not exist at once or the budget does not hold the worst case of all.
        """
        renting = self._tried if hedge == 1 else partial(self._raced, hedge, stagger_s)
        with renting(self._claimed(machine), self.recorder.clock) as rented:
            yield rented
            self._ask_guest(rented)

    def rent_raced(self, machine: str = "") -> AbstractContextManager[Machine]:
        """Like :meth:`rent`, raced for as the conditions ask (``HEDGING``)."""
        return self.rent(machine, hedge=self.conditions.hedge or 1, stagger_s=self.conditions.stagger_s or 0.0)

    @contextmanager
    def _raced(self, hedge: int, stagger_s: float, machine: str, clock: Clock) -> Iterator[Machine]:
        """The first of so many machines that runs commands."""
        self._check_room(hedge)
        self._set_aside([_nth(machine, number) for number in range(1, hedge + 1)])
        clocks = [clock.child() for _ in range(hedge)]
        keepers = [Keeper(self._tried(machine, own), _nth(machine, n), own) for n, own in enumerate(clocks, 1)]
        with kept(keepers, clock):
            winner = first_of(keepers, clock, stagger_s)
            for one in keepers:
                if one is not winner:
                    self._outrun.add(one.clock.stopping)
                    one.give_up()
            rented = winner.ready.result()
            rented.rental.recorder.clock = clock  # what stops it from now on stops the run
            yield rented

    def _check_room(self, count: int) -> None:
        """Raise TooManyInstances where so many more than this run has may not exist at once."""
        held = sum(one.lease is not None and one.lease.verdict is None for one in self._rentals)
        most, count = self.provisioner.max_instances, held + count
        if most is not None and count > most:
            raise TooManyInstances(
                f"The scenario {self.scenario.name} rents {count} machines at once, and at most {most} may exist.",
                hint=f"Allow them: --max-instances {count}.",
            )

    def _set_aside(self, names: Sequence[str]) -> None:
        """Set the worst case of rentals aside before any of them begins, at the highest price so far; each then knows its
        own."""
        prices = [one.offer.usd_per_hour(self.conditions.disk_gb) for one in self._rentals if one.offer]
        usd_per_hour = max(prices, default=self.conditions.max_usd_per_hour)
        usd = usd_for(self.scenario.lifetime_s(self.conditions), usd_per_hour)
        if (budget := self.provisioner.budget) is not None:
            for name in names:
                budget.reserve(self.run_id, usd, machine=name)

    @contextmanager
    def _tried(self, machine: str, clock: Clock) -> Iterator[Machine]:
        """A machine that runs commands, at the last of so many tries; each is a lease of its own on a machine of its own."""
        for left in reversed(range(TRIES if machine else 1)):
            rental = self._rental(machine, clock)
            with ExitStack() as stack:
                try:
                    rented = stack.enter_context(self.provisioner.rent(rental))
                except (InstanceError, DeadlineExceeded) as error:
                    self._check_apart(rental)
                    if not left or clock.stopping.is_set():
                        raise
                    log.info("%s: another machine is tried: %s", rental.name, summary_of(error))
                    self._pay_only(rental)
                    continue
                self._check_apart(rental)
                yield rented
                return

    def _check_apart(self, rental: Rental) -> None:
        """Raise CheckFailed for a machine that the run rented before: what failed there fails again, and nothing has moved."""
        others = [one.offer.machine_id for one in self._rentals if one is not rental and one.offer and one.lease]
        if rental.offer and rental.offer.machine_id is not None and rental.offer.machine_id in others:
            raise CheckFailed(
                f"Two instances of the run were on the machine {rental.offer.machine_id}.",
                hint="What goes on where it was proves nothing: run it again.",
            )

    def _pay_only(self, rental: Rental) -> None:
        """Of the worst case of a rental that came to nothing, set aside what it cost at most, where that is known."""
        usd, budget = self._cost_of(rental, self.recorder.finish()).at_most_usd, self.provisioner.budget
        if budget is not None and usd is not None and not rental.unclear:
            budget.reserve(self.run_id, usd, machine=rental.name)

    @contextmanager
    def rent_all(self) -> Iterator[tuple[Machine, ...]]:
        """All machines of the scenario at the same time, in the order of their names, else like :meth:`rent`.

        When one cannot be had, the others are given back at once,
        and its error is raised. Raises TooManyInstances, and rents nothing, where so many may not exist at once.
        """
        self._check_room(len(self.scenario.machines))
        clock = self.recorder.clock
        keepers = [Keeper(self._tried(self._claimed(machine), clock), machine, clock) for machine in self.scenario.machines]
        with kept(keepers, clock):
            machines = all_of(keepers)
            yield machines
            for rented in machines:
                self._ask_guest(rented)

    def record(self, error: BaseException | None, *, started_at: str, source: str) -> Run:
        """The run's record, when it has ended: by ``error``, or passed."""
        total, origin = self.recorder.finish(), self.recorder.started
        outcome, cause = (Outcome.PASSED, "") if error is None else (outcome_of(error), cause_of(error))
        detail = "" if error is None else summary_of(error, with_hint=True)
        # Those that are rented at once begin in any order; of those that raced to be the first, the winner stands first.
        places = {name: place for place, name in enumerate(self.scenario.machines)}
        in_order = sorted(
            self._rentals,
            key=lambda one: (place := places[one.recorder.machine], place == 0 and not self._used(one)),
        )
        machines = [self._of_machine(rental, total) for rental in in_order]
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
            phases=tuple(_shifted(phase, origin) for phase in self._phases()),
            attempts=tuple(
                sorted((one for rental in self._rentals for one in self._attempts(rental)), key=attrgetter("number"))
            ),
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

    def _claimed(self, machine: str) -> str:
        if machine not in self.scenario.machines or machine in self._claims:
            raise UsageError(
                f"The scenario {self.scenario.name} rents the machine {machine!r} once more than it says.",
                hint="Give each machine that it rents a name of its own in machines=.",
            )
        self._claims.add(machine)
        return machine

    def _rental(self, machine: str, clock: Clock) -> Rental:
        """Another try at that machine, which waits by ``clock``."""
        recorder, key = self.recorder.of_machine(machine, clock), RunKey.generate(f"vastbench-{self.run_id}")
        with self._renting:
            before = sum(one.recorder.machine == machine for one in self._rentals)
            rental = Rental(
                recorder,
                self.run_id,
                self.conditions,
                _nth(machine, before + 1),
                self.scenario.lifetime_s(self.conditions),
                key,
                self._taken,
                # One that held a place while it waited for another could wait for itself.
                waits_for_place=self.scenario.at_once(self.conditions) == 1,
            )
            self._rentals.append(rental)
        return rental

    def _used(self, rental: Rental) -> bool:
        """Whether it is the one with which the work went on: the last try at its machine that was not outrun."""
        tries = [one for one in self._rentals if one.recorder.machine == rental.recorder.machine]
        return rental is ([one for one in tries if not self._was_outrun(one)] or tries)[-1]

    def _was_outrun(self, rental: Rental) -> bool:
        return rental.recorder.clock.stopping in self._outrun

    def _attempts(self, rental: Rental) -> list[Attempt]:
        """Those of one rental; a machine that was outrun was not interrupted by anybody."""
        return [
            replace(one, cause=OUTRUN, detail="another machine ran commands first")
            if self._was_outrun(rental) and one.cause == Interrupted.cause
            else one
            for one in rental.attempts
        ]

    def _phases(self) -> Iterator[Phase]:
        """All phases; of those with the same name the one of the machine that was used comes last, whenever it ended."""
        others = {number for rental in self._rentals if not self._used(rental) for number in rental.recorder.tries}
        of_name: dict[str, list[Phase]] = {}
        for phase in sorted(self.recorder.phases, key=lambda one: one.attempt not in others):
            of_name.setdefault(phase.name, []).append(phase)
        return (of_name[phase.name].pop(0) for phase in self.recorder.phases)

    def _ask_guest(self, rented: Machine) -> None:
        """The instance's own account of its start; after the work, so that it delays nothing that is measured."""
        rental = rented.rental
        if rental.lost:
            return
        known = Known(rented.lease.created.lower, rented.running, rented.ready.winner.moments)
        guest = self._guests[rental.name] = ask(rented.session, rental.recorder.clock, known)
        if guest.switch:
            log.warning("the dead-man's switch of instance %d is not armed: %s", rented.lease.instance_id, guest.switch)
        if guest.trusted:
            rental.recorder.add(Phase(PhaseName.REPORTING, guest.moments["container_started"], rented.running))

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
        mine = (one for one in list(self.recorder.phases) if one.name == waited and one.attempt in rental.recorder.tries)
        running = rental.running or next((one.end for one in mine), None)
        disk_gb = self.conditions.disk_gb
        rose_usd = max(0.0, rental.usd_per_hour - offer.usd_per_hour(disk_gb))
        moved, destroyed = rental.traffic, lease.destroyed
        if rental.lost and destroyed and destroyed.seen:  # what was gone before it was destroyed still lived until then
            destroyed = Moment.between(max(rental.lost.lower, destroyed.lower), destroyed.upper, "action")
        used = Usage(total_s, lease.created, running, rental.paused, destroyed, disk_gb, moved.down, moved.up)
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
        origin, guest = self.recorder.started, self._guests.get(rental.name)
        return Documents(
            rental.name,
            self._used(rental),
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


def _nth(machine: str, number: int) -> str:
    """What the machine is called that is the ``number``-th, from 1, to be rented for that name."""
    return f"{machine} {number}".strip() if number > 1 else machine


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
