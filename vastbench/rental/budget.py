"""What may be spent: nothing is rented whose worst case does not fit beside what is spent and what may still be running."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from vastbench.errors import BudgetRefused
from vastbench.record.cost import usd_for
from vastbench.record.formats import dollars
from vastbench.record.lease import LeaseRow
from vastbench.rental.label import read_label


class Budget:
    """What all runs together may cost, in USD: what is spent, and for each machine under way its worst case. Thread-safe.

    ``others`` says, each time before something is rented, what everybody else has spent of it and may still spend.
    """

    def __init__(self, limit_usd: float, spent_usd: float = 0.0, others: Callable[[], float] = lambda: 0.0) -> None:
        """Start with what was spent before."""
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self._others = others
        self._reserved: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    @property
    def taken_usd(self) -> float:
        """What is spent, and what others have taken; without what is set aside for our own runs under way."""
        return self.spent_usd + self._others()

    def reserve(self, run_id: str, worst_usd: float, *, machine: str = "") -> None:
        """Set ``worst_usd`` aside for one machine of a run, instead of what was set aside for it before.

        Raises BudgetRefused, and changes nothing, when that is too much.
        """
        others_usd = self._others()
        with self._lock:
            mine = (run_id, machine)
            taken = self.spent_usd + others_usd + sum(usd for other, usd in self._reserved.items() if other != mine)
            if taken + worst_usd > self.limit_usd:
                left_over = f", {dollars(others_usd)} of it by others or for their open leases" if others_usd else ""
                raise BudgetRefused(
                    f"This run may cost up to {dollars(worst_usd)}; "
                    f"{dollars(taken)} of the budget of {dollars(self.limit_usd)} is spent or set aside{left_over}.",
                    hint="Raise --budget, lower --max-price, shorten the deadlines, or close what is left: vastbench reap.",
                )
            self._reserved[mine] = worst_usd

    def settle(self, run_id: str, usd: float | None) -> None:
        """Turn what was set aside for a run into what it cost; all of it when that is not known (``usd`` None)."""
        with self._lock:
            reserved = sum(self._reserved.pop(one) for one in list(self._reserved) if one[0] == run_id)
            self.spent_usd += reserved if usd is None else usd


def worst_usd(leases: Iterable[LeaseRow], *, speed: float, now: datetime | None = None) -> float:
    """What ``leases`` cost at most, in USD: the whole hourly price from the lease's beginning until it was closed.

    One that is open counts until its last deadline, or until ``now`` (default: this moment) when that has passed. ``speed``:
    clock seconds per real second, since the dates of a lease are real.
    """
    now = now or datetime.now(UTC)
    total = 0.0
    for lease in leases:
        opened = datetime.fromisoformat(lease.opened_at)
        if lease.state == "closed" and lease.closed_at:
            until = datetime.fromisoformat(lease.closed_at)
        else:
            label = read_label(lease.label)
            last = label.deadline if label else datetime.fromisoformat(lease.deadline_at)  # a living run moves its deadline on
            until = max(last, now)
        total += usd_for(max((until - opened).total_seconds(), 0.0) * speed, lease.usd_per_hour)
    return total
