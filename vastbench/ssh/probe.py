"""When is the machine usable? All of its addresses are tried at once; the first that runs a command to exit 0 wins.

Each address has a thread that goes through the steps port → banner → login → first command, again and again, and notes each
failure and each first success. :mod:`vastbench.ssh.evidence` turns the notes into bounds and says why they hold.

A machine is asked often enough to be measured and never so often that it shuts us out. OpenSSH 9.8 and newer ban an address
for a refused key per second on fresh connections, but not for offers repeated on one connection; so a refused key is offered
again every second on the same connection, five times at most (six end it), and then left alone for five seconds.

Limits grow while an address stays silent (twice as long after each silent try, four times at most), so that a slow machine is
slow rather than never ready. At most eight handshakes of a process run at once: more would measure our own processor. The
queue for a place lies between the identification and the key exchange; ``queued_s`` tells how much of the wait it was.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vastbench.clock import Clock
from vastbench.errors import (
    CommandFailed,
    ConnectionLost,
    DeadlineExceeded,
    Interrupted,
    SshError,
    UsageError,
    VastbenchError,
)
from vastbench.record.formats import seconds
from vastbench.record.moments import Moment
from vastbench.ssh.command import shorten
from vastbench.ssh.evidence import Failure, Step, Success, bounds
from vastbench.ssh.keys import HostKeyPin, RunKey
from vastbench.ssh.session import Session
from vastbench.ssh.transport import Connection, Endpoint, NotYet

__all__ = ["Endpoint", "NotReady", "Probe", "Ready", "Step", "wait_ready"]

CONNECT_S, BANNER_S, EXCHANGE_S, OFFER_S, COMMAND_S = 2.0, 1.0, 5.0, 5.0, 10.0
"""Clock seconds that a try waits for each kind of answer, before silence makes it more patient."""

PATIENCE = 4.0
"""How many times longer than at first a try may wait at most."""

KNOCK_PACE_S, TRY_PACE_S = 0.25, 0.5
"""Clock seconds between the starts of two tries: while the port is closed, which no SSH server sees, and after that."""

OFFERS, OFFER_PACE_S = 5, 1.0
"""How often a key is offered on one connection, and the clock seconds between offers."""

REST_AFTER_REFUSAL_S = 5.0
"""Clock seconds without a connection after one on which the key was refused."""

REST_AFTER_HANDSHAKE_S = 1.5
"""Clock seconds between connections that got as far as SSH and no further."""

LOSER_GRACE_S = 1.0
"""Clock seconds that the other address may use to finish a handshake after one has won."""

LOOK_UP_S = 0.2
"""Real seconds after which a wait looks whether it is still wanted."""

KINDS = 2
"""How many addresses an instance has at most: through the proxy, and directly."""

HANDSHAKES = threading.BoundedSemaphore(8)
"""The places for handshakes in this process."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What one address showed, the loser's included. Readings and durations are clock seconds.

    ``moments`` has every step; one that was never seen has no upper bound. ``tries``: connections begun.
    ``refusals_by_symptom``: failed tries by what they looked like. ``last_error``: the latest failure, in words.
    ``queued_s``: time spent waiting for a place to shake hands in; ``queued_login_s``: what of it lay in the connection that
    logged in first, or in the last one.
    """

    endpoint: Endpoint
    moments: dict[Step, Moment]
    tries: int
    refusals_by_symptom: dict[str, int]
    last_error: str
    queued_s: float
    queued_login_s: float


@dataclass(frozen=True, slots=True)
class Ready:
    """A usable machine: the open session, what the winning address showed, and what each address showed, in the order given."""

    session: Session
    winner: Probe
    probes: tuple[Probe, ...]


class NotReady(DeadlineExceeded):
    """No address ran the command before the deadline; ``probes`` holds what each showed, censored moments included."""

    def __init__(self, message: str, *, waited_for: str, last_seen: str, probes: tuple[Probe, ...], hint: str = "") -> None:
        """Take the evidence too."""
        super().__init__(message, waited_for=waited_for, last_seen=last_seen, hint=hint)
        self.probes = probes


def wait_ready(
    endpoints: Sequence[Endpoint],
    key: RunKey,
    pin: HostKeyPin,
    *,
    clock: Clock,
    since: float,
    deadline: float,
    command: str = "true",
    latest: Callable[[], Sequence[Endpoint]] | None = None,
) -> Ready:
    """Wait until one of ``endpoints`` runs ``command`` to exit 0, and return the session that did.

    ``since`` and ``deadline`` are clock readings: when nothing was known to be reachable yet, and when to give up. ``latest``
    says, at any time, which addresses are known by then: new ones join, and take the place of an older one of their kind; one
    that is no longer named is tried on.

    Raises :class:`NotReady` (a :class:`DeadlineExceeded`) at the deadline, :class:`vastbench.errors.Interrupted` when the clock
    is stopping, :class:`vastbench.errors.HostKeyChanged` at once
    when an address shows another host key than before, and :class:`SshError` when no address can ever work. Threads and
    connections other than the winner's are ended before it returns or raises, KeyboardInterrupt included.
    """
    if not endpoints and latest is None:
        raise UsageError("There is no SSH address to probe.", hint="Give the proxy address, the direct one, or both.")
    finished: queue.SimpleQueue[_Prober] = queue.SimpleQueue()
    probers: list[_Prober] = []
    tried: dict[str, _Prober] = {}
    winner: _Prober | None = None

    def join(named: Sequence[Endpoint]) -> None:
        for endpoint in named:
            former = tried.get(endpoint.kind)
            if former is None or (former.endpoint != endpoint and former.session is None):
                if former is not None:
                    former.stop()
                tried[endpoint.kind] = _Prober(endpoint, key, pin, clock, since, command, finished)
                probers.append(tried[endpoint.kind])
                probers[-1].start()

    try:
        join(endpoints)
        while winner is None:
            join(latest() if latest is not None else ())
            if clock.stopping.is_set():
                raise Interrupted("Stopped while waiting for SSH.")
            left = max(0.0, deadline - clock.now())
            try:
                prober = finished.get(timeout=min(clock.real_s(left), LOOK_UP_S))
            except queue.Empty:
                if left > 0:
                    continue
                raise _not_ready(probers, command, since, deadline) from None
            if tried[prober.endpoint.kind] is not prober:  # it was told to stop: its address is another's by now
                continue
            if prober.session is not None:
                winner = prober
            elif prober.fatal is not None and (prober.decisive or _none_can(tried, latest is not None)):
                raise prober.fatal
        ends = clock.now() + LOSER_GRACE_S
        for prober in probers:
            if prober is not winner and prober.shaking_hands:
                prober.join(clock.real_s(max(0.0, ends - clock.now())))
        session = winner.hand_over()
    except BaseException:
        if winner is not None and winner.session is not None:
            winner.session.close()
        raise
    finally:
        for prober in probers:
            prober.stop()
        gone = time.monotonic() + 1.0
        for prober in probers:
            if prober.ident is not None:
                prober.join(max(0.0, gone - time.monotonic()))
            prober.discard()
    return Ready(session, winner.probe(), tuple(p.probe() for p in probers))


def _none_can(tried: Mapping[str, _Prober], more_may_come: bool) -> bool:
    """Whether every address has failed for good, and none can join them: there is one of each kind at most."""
    return all(prober.fatal is not None for prober in tried.values()) and (len(tried) == KINDS or not more_may_come)


def _not_ready(probers: list[_Prober], command: str, since: float, deadline: float) -> NotReady:
    probes = tuple(p.probe() for p in probers)
    seen = "; ".join(f"{p.endpoint}: {p.last_error or 'no answer yet'} ({p.tries} tries)" for p in probes)
    seen = seen or "the marketplace has named none"
    return NotReady(
        f"No address ran {shorten(command)!r} within {seconds(deadline - since)}: {seen}.",
        waited_for="SSH",
        last_seen=seen,
        probes=probes,
        hint="Allow more time, or destroy the instance and rent another offer.",
    )


class _Prober(threading.Thread):
    """Tries one address until it works, can never work, or is told to stop."""

    def __init__(
        self,
        endpoint: Endpoint,
        key: RunKey,
        pin: HostKeyPin,
        clock: Clock,
        since: float,
        command: str,
        finished: queue.SimpleQueue[_Prober],
    ) -> None:
        super().__init__(daemon=True, name=f"vastbench-probe-{endpoint.kind}")
        self.endpoint = endpoint
        self.session: Session | None = None
        self.fatal: BaseException | None = None
        self.shaking_hands = False
        self._key, self._pin, self._clock = key, pin, clock
        self._since, self._command = since, command
        self._finished = finished
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._kept = False
        self._failures: list[Failure] = []
        self._successes: dict[Step, Success] = {}
        self._symptoms: Counter[str] = Counter()
        self._patience: dict[Step, float] = {}
        self._tries = 0
        self._refused = False
        self._queued_s = 0.0
        self._queued_login_s = 0.0
        self._last_error = ""

    @property
    def decisive(self) -> bool:
        """Whether the fatal error condemns the other address as well: a changed host key, or an error of our own."""
        return type(self.fatal) is not SshError

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                next_try = self._try()
                if self.session is not None:
                    break
                self._clock.wait(self._stopped, next_try - self._clock.now())
        except BaseException as error:  # noqa: BLE001  # it is raised in the thread that waits
            self.fatal = error
            self._last_error = error.message if isinstance(error, VastbenchError) else repr(error)
        if self._stopped.is_set():
            self.discard()
        self._finished.put(self)

    def probe(self) -> Probe:
        """What has been seen so far."""
        with self._lock:
            moments = bounds(self._since, self._failures, self._successes)
            queued = (self._queued_s, self._queued_login_s)
            return Probe(self.endpoint, moments, self._tries, dict(self._symptoms), self._last_error, *queued)

    def hand_over(self) -> Session:
        """The session, which :meth:`stop` then leaves open."""
        assert self.session is not None  # noqa: S101  # only winners are asked
        self._kept = True
        return self.session

    def stop(self) -> None:
        """End every wait and close the connection unless it was handed over."""
        self._stopped.set()
        with self._lock:
            connection = None if self._kept else self._connection
        if connection is not None:
            connection.interrupt()

    def discard(self) -> None:
        """Close a session that was reached and is not wanted: another address was faster."""
        if self.session is not None and not self._kept:
            self.session.close()

    def _try(self) -> float:
        """One connection; the clock reading at which the next may begin."""
        connection = Connection(self.endpoint, self._pin)
        began = self._clock.now()
        with self._lock:
            self._connection = connection
            self._tries += 1
        self._refused = False
        if self._stopped.is_set():
            return began
        try:
            return self._go_through(connection, began)
        finally:
            self.shaking_hands = False
            if self.session is None:
                connection.close()

    def _go_through(self, connection: Connection, began: float) -> float:
        with self._step(Step.PORT, began) as passed:
            connection.connect(self._limit(Step.PORT, CONNECT_S))
        if not passed:
            return began + KNOCK_PACE_S
        # A server that names itself does so unasked: it decided on that when it was connected to.
        with self._step(Step.BANNER, began) as passed:
            connection.identify(self._limit(Step.BANNER, BANNER_S))
        if not passed:
            return began + TRY_PACE_S
        self.shaking_hands = True
        if not self._log_in(connection, began):
            rest = REST_AFTER_REFUSAL_S if self._refused else REST_AFTER_HANDSHAKE_S
            return self._clock.now() + rest
        while not self._stopped.is_set():
            asked = self._clock.now()
            session = Session(connection, self._clock)
            with self._step(Step.FIRST_COMMAND, began) as passed:
                self._run_command(session, asked)
            if passed:
                self.session = session
                return asked
            if not connection.alive:
                break
            self._clock.wait(self._stopped, asked + TRY_PACE_S - self._clock.now())
        return self._clock.now() + REST_AFTER_HANDSHAKE_S

    def _log_in(self, connection: Connection, began: float) -> bool:
        with self._place():
            exchanging = self._clock.now()
            with self._step(Step.LOGIN, began, note_success=False) as passed:
                connection.exchange_keys(self._limit(Step.LOGIN, EXCHANGE_S))
            if not passed:
                return False
            exchange = self._clock.now() - exchanging
            if self._offer(connection, began, exchange):
                return True
        for _ in range(OFFERS - 1):
            if not connection.alive or self._clock.wait(self._stopped, OFFER_PACE_S):
                return False
            if self._offer(connection, began, exchange):
                return True
        return False

    def _offer(self, connection: Connection, began: float, exchange: float) -> bool:
        asked = self._clock.now()
        with self._step(Step.LOGIN, began, asked, at_least=exchange) as passed:
            connection.offer_key(self._key, self._limit(Step.LOGIN, OFFER_S))
        return bool(passed)

    def _run_command(self, session: Session, asked: float) -> None:
        limit_s = self._limit(Step.FIRST_COMMAND, COMMAND_S) * self._clock.speed
        try:
            session.run(self._command, timeout_s=limit_s)
        except CommandFailed as error:
            raise _Answered("command failed", error.message, asked) from error
        except DeadlineExceeded as error:
            session.close()
            raise NotYet("command silent", error.message, silent=True) from error
        except ConnectionLost as error:
            session.close()
            raise NotYet("lost during command", error.message) from error
        except SshError as error:
            raise _Answered("command refused", error.message, asked) from error

    @contextmanager
    def _step(
        self, step: Step, began: float, asked: float | None = None, *, note_success: bool = True, at_least: float = 0.0
    ) -> Iterator[list[bool]]:
        """Note what the body shows about ``step``; the list that it yields is filled when the body succeeds."""
        entered = self._clock.now()
        passed: list[bool] = []
        try:
            yield passed
        except NotYet as failure:
            if not self._stopped.is_set():
                self._note_failure(step, failure, began, asked, entered)
            return
        passed.append(True)
        if note_success:
            now = self._clock.now()
            took = max(now - (began if step is Step.BANNER else entered), at_least)
            with self._lock:
                self._successes.setdefault(step, Success(entered if asked is None else asked, now, took))

    def _note_failure(self, step: Step, failure: NotYet, began: float, asked: float | None, entered: float) -> None:
        now = self._clock.now()
        decided = began
        if isinstance(failure, _Answered):
            decided = failure.asked
        elif failure.symptom == "permission denied" and asked is not None:
            decided = asked
            self._refused = True
        with self._lock:
            silence = now - entered if failure.silent else None
            self._failures.append(Failure(step, decided, now, failure.symptom, silence))
            self._symptoms[failure.symptom] += 1
            self._last_error = f"{step}: {failure}"
            more = min(self._patience.get(step, 1.0) * 2, PATIENCE)
            self._patience[step] = more if failure.silent else 1.0

    def _limit(self, step: Step, seconds: float) -> float:
        return self._clock.socket_timeout(seconds) * self._patience.get(step, 1.0)

    @contextmanager
    def _place(self) -> Iterator[None]:
        asked = self._clock.now()
        while not HANDSHAKES.acquire(timeout=0.2):
            if self._stopped.is_set():
                yield
                return
        with self._lock:
            queued_s = self._clock.now() - asked
            self._queued_s += queued_s
            if Step.LOGIN not in self._successes:
                self._queued_login_s = queued_s
        try:
            yield
        finally:
            HANDSHAKES.release()


class _Answered(NotYet):
    """A no that came within a living connection, to a request sent at ``asked``."""

    def __init__(self, symptom: str, detail: str, asked: float) -> None:
        super().__init__(symptom, detail)
        self.asked = asked
