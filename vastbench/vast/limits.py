"""How often each endpoint may be called, and the limiter that keeps to it across threads.

The marketplace documents a minimum interval per endpoint and identity. Staying below it is cheaper than being refused: a
refusal costs several seconds and, on a create, the offer.
"""

import threading
from collections import deque
from dataclasses import dataclass

from vastbench.clock import Clock
from vastbench.errors import Interrupted

JITTER_S = 0.02
"""Real seconds added to every interval: two requests sent exactly one interval apart may arrive closer together."""

LONGEST_BACKOFF_S = 60.0
"""Clock seconds that an endpoint rests at most after a refusal."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """``calls`` calls in ``per_s`` clock seconds; after a refusal the endpoint rests for at least ``penalty_s``."""

    calls: int
    per_s: float
    penalty_s: float = 0.0


ALLOWANCES: dict[str, Allowance] = {
    "POST /api/v0/bundles/": Allowance(10, 60.0),
    "PUT /api/v0/asks/{id}/": Allowance(1, 4.5, penalty_s=12.0),
    "GET /api/v1/instances/": Allowance(1, 1.0),
    "GET /api/v0/instances/{id}/": Allowance(1, 2.0),
    "PUT /api/v0/instances/{id}/": Allowance(1, 1.0),
    "DELETE /api/v0/instances/{id}/": Allowance(1, 3.0),
    "GET /api/v0/ssh/": Allowance(1, 1.0),
    "POST /api/v0/ssh/": Allowance(1, 1.0),
    "DELETE /api/v0/ssh/{id}/": Allowance(1, 1.0),
    "POST /api/v0/instances/{id}/ssh/": Allowance(1, 2.0),
    "GET /api/v0/charges/": Allowance(1, 1.0),
}
"""The documented limits, by method and path. An endpoint that is not here has none that we know of."""


RENTING = frozenset({"POST /api/v0/bundles/", "PUT /api/v0/asks/{id}/"})
"""The calls on the way to an instance: none of them is made any more once the clock is stopping."""


class NotSent(Interrupted):
    """The clock was stopping while a call waited for its turn: it was not sent."""


class Limiter:
    """Spaces the calls to each endpoint; one per account, shared by all threads."""

    def __init__(self, clock: Clock) -> None:
        """Start with every endpoint free."""
        self._clock = clock
        self._lock = threading.Lock()
        self._slots: dict[str, deque[float]] = {}
        self._resting_until: dict[str, float] = {}
        self._refusals: dict[str, int] = {}

    def acquire(self, endpoint: str) -> float:
        """Wait until ``endpoint`` may be called; the clock seconds waited.

        Raises NotSent for a call on the way to an instance when the clock is stopping.
        """
        asked = self._clock.now()
        while True:
            slot = self._reserve(endpoint)
            if endpoint not in RENTING:
                self._clock.sleep(slot - self._clock.now())
            elif self._clock.wait(self._clock.stopping, slot - self._clock.now()):
                raise NotSent("Nothing more is rented: stopped while waiting for a turn.")
            with self._lock:
                # A refusal that came while this caller slept holds for it too.
                if self._resting_until.get(endpoint, slot) <= slot:
                    return max(0.0, self._clock.now() - asked)

    def refused(self, endpoint: str, retry_after_s: float | None) -> None:
        """Let ``endpoint`` rest after a 429: as long as the reply asked, else 3 s, doubling; at most a minute."""
        allowance = ALLOWANCES.get(endpoint)
        with self._lock:
            refusals = self._refusals[endpoint] = self._refusals.get(endpoint, 0) + 1
            rest = 3.0 * 2.0 ** min(refusals - 1, 10) if retry_after_s is None else retry_after_s
            # A destroy must not be held back for a day because somebody asked us to wait that long.
            rest = min(max(rest, allowance.penalty_s if allowance else 0.0), LONGEST_BACKOFF_S)
            until = self._clock.now() + rest
            self._resting_until[endpoint] = max(until, self._resting_until.get(endpoint, until))

    def answered(self, endpoint: str) -> None:
        """Forget earlier refusals of ``endpoint``: it answered."""
        with self._lock:
            self._refusals.pop(endpoint, None)

    def _reserve(self, endpoint: str) -> float:
        """The next free slot of ``endpoint``, now taken."""
        allowance = ALLOWANCES.get(endpoint)
        with self._lock:
            slot = max(self._clock.now(), self._resting_until.get(endpoint, 0.0))
            if allowance:
                taken = self._slots.setdefault(endpoint, deque(maxlen=allowance.calls))
                if len(taken) == allowance.calls:
                    slot = max(slot, taken[0] + allowance.per_s + JITTER_S * self._clock.speed)
                taken.append(slot)
        return slot
