"""One launch of a study: what earlier launches spent and left behind, and how the emulator's draws go on after them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from vastbench.errors import StoreError
from vastbench.owner import State, state_of
from vastbench.record.lease import Announcement, LeaseRow
from vastbench.record.phases import Outcome
from vastbench.record.run import KILLED, Run
from vastbench.record.study import Study
from vastbench.rental.budget import worst_usd
from vastbench.store import Store


def launch_seed(seed: int | None, number: int) -> int | None:
    """The emulator's seed for the launch of that ``number``, from 0.

    The first launch uses ``seed`` itself; another must not draw the same again, and takes 32 bits of the SHA-256 of
    ``SEED/NUMBER``. None stays None: the emulator then draws at random.
    """
    if seed is None or number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4])


def record_killed_runs(store: Store, study: Study) -> list[Run]:
    """Store the announced runs whose process has ended as killed: censored, without phases and without a total.

    Runs of processes that live, or may live, are left alone. Returns what was stored.
    """
    beats, now = store.beats(), store.now()
    dead = [one for one in store.unfinished(study.name) if state_of(one.owner, beats, now) is State.ENDED]
    leases = store.leases() if dead else []
    buried = [_killed(one, study, [lease for lease in leases if lease.run_id == one.run_id]) for one in dead]
    for run in buried:
        try:
            store.save_run(run)
        except StoreError:
            if not store.has_run(run.id):  # stored meanwhile, by its own process or by another launch
                raise
    return buried


def _killed(announced: Announcement, study: Study, leases: list[LeaseRow]) -> Run:
    last = leases[-1] if leases else None
    resources = (
        {}
        if last is None
        else {
            "offer_id": last.offer_id,
            "machine_id": last.machine_id,
            "instance_id": last.instance_id,
            "usd_per_hour": last.usd_per_hour,
            "lease": last.label,
        }
    )
    process = f"process {announced.owner.get('pid')} on {announced.owner.get('host')}"
    return Run(
        id=announced.run_id,
        scenario=study.scenario,
        outcome=Outcome.CENSORED,
        cause=KILLED,
        detail=f"The {process} ended without storing it.",
        started_at=announced.started_at,
        source=str(study.conditions.get("source", "emulator")),
        study=study.name,
        phases=(),
        conditions=study.conditions,
        resources=resources,
    )


def spent_at_most_usd(metered: Mapping[str, float | None], leases: list[LeaseRow], *, speed: float) -> float:
    """What runs cost at most, in USD, ``metered`` being what their meters say at most, by id; None for no meter.

    A run counts by its meters, or with the worst case of its leases where it has none or a lease is still open.
    ``speed``: clock seconds per real second, since the dates of a lease are real.
    """
    total = 0.0
    for run_id, known in metered.items():
        mine = [lease for lease in leases if lease.run_id == run_id and lease.verdict != "never created"]
        worst = worst_usd(mine, speed=speed)
        still_open = any(lease.state != "closed" for lease in mine)
        total += worst if known is None else max(known, worst) if still_open else known
    return total
