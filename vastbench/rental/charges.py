"""What the account was charged for our instances: asked for, matched by contract, and stored beside what the meters say.

Charges come late, rounded and in pieces: a contract without a row is not yet charged, or never was, and is no error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vastbench.record.cost import Bill, Charges, Cost, reconciled, together
from vastbench.record.lease import LeaseRow
from vastbench.rental.label import CLOCKS_APART_S, read_label
from vastbench.store import Store
from vastbench.vast.api import VastApi
from vastbench.vast.models import Charge

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What an account was asked and what came of it.

    ``contracts`` of ours, and the ``rows`` of charges that are known for them; ``unstored`` runs of ours of which only
    leases are in the store, and what was charged for them; ``foreign`` rows of other contracts, which are not kept. USD.
    """

    contracts: int = 0
    rows: int = 0
    unstored: int = 0
    unstored_usd: float = 0.0
    foreign: int = 0
    foreign_usd: float = 0.0


def ask_charges(api: VastApi, store: Store, *, study: str | None = None) -> Asked:
    """Ask for the charges of all runs in ``store`` that rented on the marketplace of ``api``, or of a ``study``; store them.

    A contract's rows replace those that were stored for it; where there are none any more, they stay. Raises ApiError when they
    cannot be read, all of them; StoreError when the store refuses. Nothing is rented, and nothing is spent.
    """
    costs, known, now = store.costs(study), store.charges(), store.now()
    leases = {one.instance_id: one for one in store.leases() if one.url == api.url and one.instance_id is not None}
    runs: dict[str, list[LeaseRow]] = {}
    for lease in leases.values():
        if study is None or lease.run_id in costs:
            runs.setdefault(lease.run_id, []).append(lease)
    if not runs:
        return Asked()
    first = min(datetime.fromisoformat(one.opened_at) for mine in runs.values() for one in mine)
    fresh: dict[int | None, list[dict[str, Any]]] = {instance: [] for instance in leases}
    foreign: list[Charge] = []
    for row in _since(api, first.timestamp() - CLOCKS_APART_S):
        if row.instance_id in leases and _fits(row, leases[row.instance_id]):
            fresh[row.instance_id].append(row.model_dump())
        else:
            foreign.append(row)
    found = []
    for run_id, mine in runs.items():
        before = known[run_id].by_contract if run_id in known else {}
        kept: dict[str, Sequence[Mapping[str, Any]]] = {
            str(one.instance_id): fresh[one.instance_id] or before.get(str(one.instance_id), []) for one in mine
        }
        bill = _bill(costs[run_id][0] if run_id in costs else Cost(), kept, _age_s(mine, now, api.clock.speed))
        found.append(Charges(run_id, api.url, now.isoformat(), bill, kept))
    store.save_charges(found)
    unstored = [one.bill.total_usd or 0.0 for one in found if one.run_id not in costs]
    return Asked(
        contracts=sum(len(one.by_contract) for one in found),
        rows=sum(len(rows) for one in found for rows in one.by_contract.values()),
        unstored=len(unstored),
        unstored_usd=sum(unstored),
        foreign=len(foreign),
        foreign_usd=sum(row.amount for row in foreign),
    )


def _since(api: VastApi, first_s: float) -> list[Charge]:
    """All charges since the date ``first_s``, in epoch seconds: an instance that was not given back is charged to this day."""
    now_s = api.epoch_s()
    rows = api.charges(first_s, now_s).value
    # If this was the first answer, only now is the marketplace's date known: an emulator's may be days ahead of ours.
    return rows if api.epoch_s() // DAY_S == now_s // DAY_S else api.charges(first_s, api.epoch_s()).value


def _fits(row: Charge, lease: LeaseRow) -> bool:
    """Whether a row of the contract of a lease is about its instance: emulators give their numbers again, and never a label."""
    return read_label(row.label) is None or row.label == lease.label


def _bill(cost: Cost, by_contract: Mapping[str, Sequence[Mapping[str, Any]]], age_s: float | None) -> Bill:
    """What the rows of a run's contracts come to, beside its meters; a meter that one of them does not name is not known."""
    parts = [Charge.model_validate(row).charged for rows in by_contract.values() for row in rows]
    named: set[str] = set.intersection(*map(set, parts)) if parts else set()
    charged = {name: together(part[name] for part in parts) for name in named}
    return reconciled(cost, charged, lacking=not all(by_contract.values()), age_s=age_s)


def _age_s(leases: Sequence[LeaseRow], now: datetime, speed: float) -> float | None:
    """Clock seconds since the last of ``leases`` was closed; None while one is open."""
    closed = [datetime.fromisoformat(one.closed_at) for one in leases if one.state == "closed" and one.closed_at]
    return (now - max(closed)).total_seconds() * speed if len(closed) == len(leases) else None
