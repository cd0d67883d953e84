"""The integration drill: rent a GPU, reach it over SSH, prove that it is the GPU that was paid for, write a file, check it,
give the machine back and prove that it is gone."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from vastbench.analysis.cost import run_cost
from vastbench.errors import CheckFailed, CommandFailed
from vastbench.record.conditions import Conditions
from vastbench.record.cost import Cost
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, Phase, PhaseName
from vastbench.record.recorder import Recorder, cause_of, outcome_of, summary_of
from vastbench.record.run import Run
from vastbench.rental.guest_clock import Guest, Known, ask
from vastbench.rental.provisioner import Provisioner, Rented
from vastbench.ssh.keys import RunKey
from vastbench.ssh.probe import Probe
from vastbench.ssh.session import Session
from vastbench.vast.watch import Spell

log = logging.getLogger(__name__)

NAME = "integration"
FILE_BYTES = 64 * 1024
GPU_QUERY = "nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader"


def integration(
    provisioner: Provisioner, recorder: Recorder, conditions: Conditions, *, run_id: str, source: str
) -> tuple[Run, BaseException | None]:
    """One run of the drill and, when it did not pass, the error that ended it.

    Nothing is raised: whatever ends the run, an interruption included, becomes its outcome and cause, and the caller
    decides what goes on.
    """
    started_at = datetime.now(UTC).isoformat()
    rented = Rented(RunKey.generate(f"vastbench-{run_id}"))
    checks: dict[str, Any] = {}
    guest: Guest | None = None
    error: BaseException | None = None
    try:
        with provisioner.rent(recorder, run_id, conditions, rented):
            _work(recorder, rented, checks)
            guest = _ask_guest(recorder, rented)
    except BaseException as stopped:  # noqa: BLE001 (classified below, and handed to the caller)
        error = stopped
    total = recorder.finish()
    return _record(recorder, rented, conditions, checks, guest, error, total, run_id, started_at, source), error


def _work(recorder: Recorder, rented: Rented, checks: dict[str, Any]) -> None:
    assert rented.ready is not None  # noqa: S101 (renting ends with a session)
    assert rented.offer is not None  # noqa: S101
    session = rented.ready.session
    with recorder.phase(PhaseName.CHECK_GPU) as phase:
        checks["gpu"] = _check_gpu(session, rented.offer.gpu_name or "", rented.offer.num_gpus or 1, phase)
    content = os.urandom(FILE_BYTES)
    path = f"/workspace/vastbench-{os.urandom(4).hex()}.bin"
    quoted = shlex.quote(path)
    with recorder.phase(PhaseName.CREATE_FILE) as phase:
        done = session.run(f"mkdir -p /workspace && cat > {quoted} && sync {quoted}", stdin=content)
        phase.start, phase.end = Moment.exact(done.sent), Moment.exact(done.received)
    with recorder.phase(PhaseName.VERIFY_FILE) as phase:
        done = session.run(f"sha256sum {quoted}")
        phase.start, phase.end = Moment.exact(done.sent), Moment.exact(done.received)
        expected, found = hashlib.sha256(content).hexdigest(), done.stdout.split(maxsplit=1)[:1]
        checks["file"] = {"bytes": len(content), "sha256": expected, "matches": found == [expected]}
        if found != [expected]:
            raise CheckFailed(
                f"The file read back has SHA-256 {''.join(found)[:64] or '(nothing)'}, not {expected}.",
                hint="The machine's disk or the connection garbled it; do not use this machine.",
            )


def _ask_guest(recorder: Recorder, rented: Rented) -> Guest:
    """The instance's own account of its start; after the work, so that it delays nothing that is measured."""
    assert rented.ready is not None  # noqa: S101 (renting ends with a session)
    assert rented.lease is not None  # noqa: S101
    assert rented.running is not None  # noqa: S101
    known = Known(rented.lease.created.lower, rented.running, rented.ready.winner.moments)
    guest = ask(rented.ready.session, recorder.clock, known)
    if guest.switch:
        log.warning("the dead-man's switch of instance %d is not armed: %s", rented.lease.instance_id, guest.switch)
    if guest.trusted:
        recorder.add(Phase(PhaseName.REPORTING, guest.moments["container_started"], rented.running))
    return guest


def _check_gpu(session: Session, gpu_name: str, num_gpus: int, phase: Any) -> dict[str, Any]:
    try:
        done = session.run(GPU_QUERY)
    except CommandFailed as failed:
        raise CheckFailed(f"nvidia-smi does not answer: {failed.message}", hint="The machine's driver is broken.") from failed
    phase.start, phase.end = Moment.exact(done.sent), Moment.exact(done.received)
    cards = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.count(",") >= 2]
    names = [card[0] for card in cards]
    phase.detail = ", ".join(names)[:120]
    if len(cards) != num_gpus or not all(same_gpu(gpu_name, name) for name in names):
        raise CheckFailed(
            f"Rented {num_gpus} × {gpu_name}, but nvidia-smi names {names or 'nothing'}.",
            hint="The host does not deliver what it offers; do not use this machine.",
        )
    return {"name": names[0], "count": len(cards), "driver_version": cards[0][1], "memory": cards[0][2], "matches": True}


def same_gpu(offered: str, reported: str) -> bool:
    """Whether nvidia-smi's name means the card of the offer: same model number, and the same Ti, SUPER or D behind it."""

    def model(name: str) -> tuple[str, frozenset[str]]:
        words = re.findall(r"[A-Z0-9]+", re.sub(r"(\d)(TI|SUPER|ADA)\b", r"\1 \2", name.upper()))
        number = next((w for w in words if any(c.isdigit() for c in w)), "")
        return number, frozenset(words) & {"TI", "SUPER", "D"}

    return model(offered)[0] != "" and model(offered) == model(reported)


def _record(
    recorder: Recorder,
    rented: Rented,
    conditions: Conditions,
    checks: dict[str, Any],
    guest: Guest | None,
    error: BaseException | None,
    total: float,
    run_id: str,
    started_at: str,
    source: str,
) -> Run:
    origin = recorder.started
    phases = tuple(_shifted(phase, origin) for phase in recorder.phases)
    session = rented.ready.session.endpoint if rented.ready else None
    outcome, cause = (Outcome.PASSED, "") if error is None else (outcome_of(error), cause_of(error))
    detail = "" if error is None else summary_of(error, with_hint=True)
    if rented.attempts and rented.attempts[-1].outcome is Outcome.PASSED:
        rented.attempts[-1] = replace(rented.attempts[-1], outcome=outcome, cause=cause, detail=detail)
    return Run(
        id=run_id,
        scenario=NAME,
        outcome=outcome,
        cause=cause,
        detail=detail,
        started_at=started_at,
        source=source,
        phases=phases,
        attempts=tuple(rented.attempts),
        total_s=total,
        origin=origin,
        conditions=conditions.to_dict(),
        resources=_resources(rented, conditions),
        ssh={
            "used": session.kind if session else None,
            "host": session.host if session else None,
            "port": session.port if session else None,
            "endpoints": [_probe(probe, origin) for probe in rented.probes],
        },
        validation=checks,
        cost=_cost(rented, conditions, recorder.phases, total),
        instrument=_instrument(rented, recorder),
        guest=guest.to_dict(origin) if guest else {},
    )


def _not_running(phases: list[Phase]) -> Moment | None:
    """The moment of running that was waited for in vain: after the last look that said no."""
    return next((phase.end for phase in phases if phase.name is PhaseName.WAIT_RUNNING), None)


def _cost(rented: Rented, conditions: Conditions, phases: list[Phase], total: float) -> Cost:
    offer, lease = rented.offer, rented.lease
    if offer is None or lease is None:
        return Cost()
    return run_cost(
        usd_per_hour=offer.usd_per_hour(conditions.disk_gb),
        gpu_usd_per_hour=offer.dph_base,
        total_s=total,
        running=rented.running or _not_running(phases),
        created=lease.created,
        destroyed=lease.destroyed,
        storage_usd_per_gb_month=offer.storage_cost,
        disk_gb=conditions.disk_gb,
        bytes_down=FILE_BYTES if any(phase.name is PhaseName.CREATE_FILE for phase in phases) else 0,
        usd_per_gb_down=offer.inet_down_cost,
        usd_per_gb_up=offer.inet_up_cost,
    )


def _resources(rented: Rented, conditions: Conditions) -> dict[str, Any]:
    offer = rented.offer
    if offer is None:
        return {"offers_found": rented.offers_found}
    return {
        "offers_found": rented.offers_found,
        "offer_id": offer.id,
        "machine_id": offer.machine_id,
        "host_id": offer.host_id,
        "instance_id": rented.lease.instance_id if rented.lease else None,
        "gpu_name": offer.gpu_name,
        "num_gpus": offer.num_gpus,
        "gpu_ram_mb": offer.gpu_ram_mb,
        "usd_per_hour": offer.usd_per_hour(conditions.disk_gb),
        "gpu_usd_per_hour": offer.dph_base,
        "storage_usd_per_gb_month": offer.storage_cost,
        "region": offer.geolocation,
        "reliability": offer.reliability,
        "lease": rented.lease.label if rented.lease else None,
        "lease_verdict": rented.lease.verdict if rented.lease else None,
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


def _instrument(rented: Rented, recorder: Recorder) -> dict[str, Any]:
    stats = rented.following.stats if rented.following else None
    return {
        "clock_speed": recorder.clock.speed,
        "polls": stats.polls if stats else 0,
        "polls_missed": stats.missed if stats else 0,
        "polls_rate_limited": stats.rate_limited if stats else 0,
        "ssh_tries": sum(probe.tries for probe in rented.probes),
        "ssh_queued_s": sum(probe.queued_s for probe in rented.probes),
        "sightings": [_spell(spell, recorder.started) for spell in rented.following.spells] if rented.following else [],
        **rented.notes,
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
