"""What every scenario shares: rent a machine, do its work there, and record whatever came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from vastbench.analysis.cost import run_cost
from vastbench.record.conditions import Conditions
from vastbench.record.cost import Cost
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, Phase, PhaseName
from vastbench.record.recorder import Recorder, cause_of, outcome_of, summary_of
from vastbench.record.run import Run
from vastbench.rental.guest_clock import Guest, Known, ask
from vastbench.rental.provisioner import Machine, Provisioner, Rental
from vastbench.ssh.keys import RunKey
from vastbench.ssh.probe import Probe
from vastbench.vast.watch import Spell

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Work:
    """What a scenario's work needs, and what it leaves for the record: its ``checks``, and the bytes that it sent down."""

    recorder: Recorder
    machine: Machine
    checks: dict[str, Any] = field(default_factory=dict)
    bytes_down: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named drill. ``about``: one line. ``timeline``: its phases in order. ``work``: what it does on a rented machine."""

    name: str
    about: str
    timeline: tuple[PhaseName, ...]
    work: Callable[[Work], None]


def run_scenario(
    scenario: Scenario, provisioner: Provisioner, recorder: Recorder, conditions: Conditions, *, run_id: str, source: str
) -> tuple[Run, BaseException | None]:
    """One run of the scenario and, when it did not pass, the error that ended it.

    Nothing is raised: whatever ends the run, an interruption included, becomes its outcome and cause, and the caller
    decides what goes on.
    """
    started_at = datetime.now(UTC).isoformat()
    rental = Rental(recorder, run_id, conditions, RunKey.generate(f"vastbench-{run_id}"))
    work: Work | None = None
    guest: Guest | None = None
    error: BaseException | None = None
    try:
        with provisioner.rent(rental) as machine:
            work = Work(recorder, machine)
            scenario.work(work)
            guest = _ask_guest(recorder, machine)
    except BaseException as stopped:  # noqa: BLE001 (classified below, and handed to the caller)
        error = stopped
    total = recorder.finish()
    origin = recorder.started
    outcome, cause = (Outcome.PASSED, "") if error is None else (outcome_of(error), cause_of(error))
    detail = "" if error is None else summary_of(error, with_hint=True)
    if rental.attempts and rental.attempts[-1].outcome is Outcome.PASSED:
        rental.attempts[-1] = replace(rental.attempts[-1], outcome=outcome, cause=cause, detail=detail)
    run = Run(
        id=run_id,
        scenario=scenario.name,
        outcome=outcome,
        cause=cause,
        detail=detail,
        started_at=started_at,
        source=source,
        phases=tuple(_shifted(phase, origin) for phase in recorder.phases),
        attempts=tuple(rental.attempts),
        total_s=total,
        origin=origin,
        conditions=conditions.to_dict(),
        resources=_resources(rental),
        ssh={
            "used": rental.used.kind if rental.used else None,
            "host": rental.used.host if rental.used else None,
            "port": rental.used.port if rental.used else None,
            "endpoints": [_probe(probe, origin) for probe in rental.probes],
        },
        validation=work.checks if work else {},
        cost=_cost(rental, total, work.bytes_down if work else 0),
        instrument=_instrument(rental),
        guest=guest.to_dict(origin) if guest else {},
    )
    return run, error


def _ask_guest(recorder: Recorder, machine: Machine) -> Guest:
    """The instance's own account of its start; after the work, so that it delays nothing that is measured."""
    known = Known(machine.lease.created.lower, machine.running, machine.ready.winner.moments)
    guest = ask(machine.session, recorder.clock, known)
    if guest.switch:
        log.warning("the dead-man's switch of instance %d is not armed: %s", machine.lease.instance_id, guest.switch)
    if guest.trusted:
        recorder.add(Phase(PhaseName.REPORTING, guest.moments["container_started"], machine.running))
    return guest


def _cost(rental: Rental, total: float, bytes_down: int) -> Cost:
    offer, lease, disk_gb = rental.offer, rental.lease, rental.conditions.disk_gb
    if offer is None or lease is None:
        return Cost()
    phases = rental.recorder.phases
    # One that was waited for in vain ran after the last look that said no, if ever.
    running = rental.running or next((phase.end for phase in phases if phase.name is PhaseName.WAIT_RUNNING), None)
    return run_cost(
        usd_per_hour=offer.usd_per_hour(disk_gb),
        gpu_usd_per_hour=offer.dph_base,
        total_s=total,
        running=running,
        created=lease.created,
        destroyed=lease.destroyed,
        storage_usd_per_gb_month=offer.storage_cost,
        disk_gb=disk_gb,
        bytes_down=bytes_down,
        usd_per_gb_down=offer.inet_down_cost,
        usd_per_gb_up=offer.inet_up_cost,
    )


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
    first, last = ([reading - origin for reading in look] for look in (spell.first, spell.last))
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
