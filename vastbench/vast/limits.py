"""How often each endpoint may be called, and the limiter that keeps to it across threads.

The marketplace documents a minimum interval per endpoint and identity. Staying below it is cheaper than being refused: a
refusal costs several seconds and, on a create, the offer.
"""

import threading
from collections import deque
from dataclasses import dataclass, field

from vastbench.clock import Clock
from vastbench.errors import Interrupted
from vastbench.record.study import CREATE_EVERY_S
from vastbench.timed import seconds_left

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
    "PUT /api/v0/asks/{id}/": Allowance(1, CREATE_EVERY_S, penalty_s=12.0),
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


RENTING = frozenset(
    {"POST /api/v0/bundles/", "PUT /api/v0/asks/{id}/", "POST /api/v0/ssh/", "POST /api/v0/instances/{id}/ssh/"}
)
"""The calls on the way to an instance: none of them is made any more once the clock is stopping."""

NOTABLY_LATE = 1.5
"""A call that takes at most this many times the usual is taken to have arrived in time: answers differ without that."""

LATEST_S = 2.0
"""Real seconds by which a call is taken to have arrived late at most."""


class NotSent(Interrupted):
    """The clock was stopping while a call waited for its turn: it was not sent."""


@dataclass(slots=True)
class _Sent:
    """A call under way or ended; readings of the clock."""

    thread: int
    sent: float
    ended: float | None = None


@dataclass(slots=True)
class _Line:
    """The calls to one endpoint. ``turn`` is held by the one caller who is next."""

    allowance: Allowance | None
    calls: deque[_Sent]
    turn: threading.Lock = field(default_factory=threading.Lock)
    resting_until: float = 0.0
    refusals: int = 0
    usual_s: float | None = None

    def due(self, now: float, speed: float) -> float:
        """When the next call may be sent, as far as is known ``now``."""
        if self.allowance is None or len(self.calls) < self.allowance.calls:
            return self.resting_until
        first = self.calls[0]
        # The marketplace counts from arrival to arrival, and a call that takes longer than usual may have arrived late.
        took = (now if first.ended is None else first.ended) - first.sent
        # Where half an interval passes for usual at most, nobody overtakes a call that is still under way.
        usual_s = min(took if self.usual_s is None else self.usual_s, self.allowance.per_s / 2)
        late = min(took - usual_s, LATEST_S * speed) if took > NOTABLY_LATE * usual_s else 0.0
        return max(self.resting_until, first.sent + self.allowance.per_s + JITTER_S * speed + late)

    def end(self, now: float) -> None:
        """Note that the call of this thread has ended."""
        for call in self.calls:
            if call.thread == threading.get_ident() and call.ended is None:
                call.ended = now
                usual_s = took = now - call.sent
                if self.usual_s is not None:
                    # Quick to fall and slow to rise: a busy spell must not pass for the usual.
                    usual_s = self.usual_s + (0.2 if took < self.usual_s else 0.05) * (took - self.usual_s)
                self.usual_s = usual_s


class Limiter:
    """Spaces the calls to each endpoint; one per account, shared by all threads.

    Callers of an endpoint go one after the other, each counted from when it really went: threads wake up late on a busy
    machine, and slots handed out in advance would bunch together.
    """

    def __init__(self, clock: Clock) -> None:
        """Start with every endpoint free."""
        self._clock = clock
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}

    def acquire(self, endpoint: str) -> float:
        """Wait until ``endpoint`` may be called; the clock seconds waited.

        Raises NotSent for a call on the way to an instance when the clock is stopping, and TimeoutError when its turn would
        come after the limits around it (:func:`vastbench.timed.within`).
        """
        asked = self._clock.now()
        line = self._line(endpoint)
        with line.turn:
            while (rest := self._rest(line)) > 0:
                if self._clock.real_s(rest) > seconds_left():
                    raise TimeoutError("its turn would come too late")
                self._wait(endpoint, rest)
            if endpoint in RENTING and self._clock.stopping.is_set():
                raise NotSent("Nothing more is rented: the clock is stopping.")
            now = self._clock.now()
            with self._lock:
                line.calls.append(_Sent(threading.get_ident(), now))
        return max(0.0, now - asked)

    def refused(self, endpoint: str, retry_after_s: float | None) -> None:
        """Let ``endpoint`` rest after a 429: as long as the reply asked, else 3 s, doubling; at most a minute."""
        line = self._line(endpoint)
        with self._lock:
            line.refusals += 1
            rest = 3.0 * 2.0 ** min(line.refusals - 1, 10) if retry_after_s is None else retry_after_s
            # A destroy must not be held back for a day because somebody asked us to wait that long.
            rest = min(max(rest, line.allowance.penalty_s if line.allowance else 0.0), LONGEST_BACKOFF_S)
            line.resting_until = max(self._clock.now() + rest, line.resting_until)

    def answered(self, endpoint: str) -> None:
        """Forget earlier refusals of ``endpoint``: it answered."""
        line = self._line(endpoint)
        with self._lock:
            line.refusals = 0

    def ended(self, endpoint: str) -> None:
        """This thread's call is over, however it ended."""
        line = self._line(endpoint)
        with self._lock:
            line.end(self._clock.now())

    def _line(self, endpoint: str) -> _Line:
        with self._lock:
            if endpoint not in self._lines:
                allowance = ALLOWANCES.get(endpoint)
                self._lines[endpoint] = _Line(allowance, deque(maxlen=allowance.calls if allowance else 0))
            return self._lines[endpoint]

    def _rest(self, line: _Line) -> float:
        with self._lock:
            now = self._clock.now()
            return line.due(now, self._clock.speed) - now

    def _wait(self, endpoint: str, seconds: float) -> None:
        if endpoint not in RENTING:
            self._clock.sleep(seconds)
            return
        try:
            self._clock.rest(seconds)
        except Interrupted as stopped:
            raise NotSent("Nothing more is rented: stopped while waiting for a turn.") from stopped
