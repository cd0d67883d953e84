"""When a rented machine is lost: heartbeats over SSH and the marketplace's status together; no threads, no clock, no I/O.

Neither alone will do. A status may flicker, may say running for minutes after a host has died, and cannot be read while the API
is down; a heartbeat fails on a slow network, and when our own connection is gone. So a status alone is never a loss, and an
unreadable one is unknown. Heartbeats that fail are a loss when enough of them do so in a row while the API answers us, which
shows that our own network works; when it does not answer, it takes more of them. A status that says gone makes it quicker.

The caller sends a heartbeat every ``period_s`` and gives it up after ``timeout_s``, reads the status as often as it likes, and
tells the detector of both, in any order and from one thread at a time. ``benchmarks/detection.py`` shows what the rule costs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from vastbench.errors import UsageError
from vastbench.record.moments import Moment
from vastbench.vast.models import DOOMED
from vastbench.vast.watch import Sighting

GONE = "gone"
"""The status of an instance that the whole list lacks; the marketplace has no word for it."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat: when it was sent, and when its answer came or it was given up, in clock seconds.

    ``symptom``: how it failed (``no answer``, ``refused`` …); empty when it was answered.
    """

    sent: float
    received: float
    symptom: str = ""


@dataclass(frozen=True, slots=True)
class Poll:
    """One request for the status: the marketplace's word, :data:`GONE`, or None where it could not be read."""

    sent: float
    received: float
    status: str | None

    @classmethod
    def of(cls, sighting: Sighting) -> Poll:
        """The poll that a watch of the list has made."""
        instance = sighting.instance
        return cls(sighting.sent, sighting.received, GONE if instance is None else instance.actual_status)


@dataclass(frozen=True, slots=True)
class HeartbeatRule:
    """How soon silence is a loss. Raises UsageError for what cannot be.

    ``period_s``: clock seconds from one heartbeat's sending to the next's, or to the former's end where that is later.
    ``timeout_s``: how long each is waited for. ``misses``: failed heartbeats in a row, in or right after each of which the API
    was read, that are a loss. ``blind_misses``: failed heartbeats in a row that are one whatever the API does. ``dead_polls``:
    readable polls in a row that say it does not run, which with one failed heartbeat are a loss; one alone may be a flicker.
    """

    period_s: float = 2.0
    timeout_s: float = 3.0
    misses: int = 4
    blind_misses: int = 20
    dead_polls: int = 2

    def __post_init__(self) -> None:
        """Refuse a rule by which nothing, or everything, is lost."""
        for name, value in asdict(self).items():
            if not 0 < value < float("inf"):
                raise UsageError(f"The heartbeat rule's {name} is {value!r}.", hint="Give a number above 0.")
        if self.blind_misses < self.misses:
            raise UsageError(
                f"The heartbeat rule takes {self.blind_misses} misses while the API is silent, {self.misses} otherwise.",
                hint="Give at least as many blind_misses as misses.",
            )


@dataclass(frozen=True, slots=True)
class Loss:
    """A machine is lost: after the last answered heartbeat was sent, before what told us was received; ``reason`` in words."""

    moment: Moment
    reason: str


@dataclass(slots=True)
class _Miss:
    """A failed heartbeat, and whether the API was read meanwhile: ``witnessed``."""

    beat: Beat
    witnessed: bool


@dataclass(slots=True)
class Detector:
    """Decides from heartbeats and polls; ``alive`` is the last heartbeat, or other command, that the machine has answered.

    >>> detector = Detector(HeartbeatRule(misses=2), alive=Beat(0.0, 0.2))
    >>> for beat in Beat(2.0, 5.0, "no answer"), Beat(5.0, 8.0, "no answer"):
    ...     _ = detector.observe(Poll(beat.sent + 1, beat.sent + 1.3, "running"))
    ...     loss = detector.observe(beat)
    >>> loss.reason, (loss.moment.lower, loss.moment.upper)
    ('2 heartbeats in a row failed (no answer), and the status is running', (0.0, 8.0))
    """

    rule: HeartbeatRule
    alive: Beat
    loss: Loss | None = None
    _misses: list[_Miss] = field(default_factory=list)
    _polls: list[Poll] = field(default_factory=list)
    """The last readable ones since the machine was alive that agree: it runs, or it does not."""

    def observe(self, seen: Beat | Poll) -> Loss | None:
        """Take account of what was seen; the loss, once there is one, whatever comes afterwards."""
        if self.loss is None and self._news(seen):
            reason = self._reason()
            if reason:
                source = "ssh" if isinstance(seen, Beat) else "poll"
                moment = Moment(self.alive.sent, self.alive.received, seen.sent, seen.received, source)
                self.loss = Loss(moment, reason)
        return self.loss

    def _news(self, seen: Beat | Poll) -> bool:
        """Whether what was seen may make it a loss."""
        if isinstance(seen, Poll):
            return self._polled(seen)
        if seen.sent <= self.alive.sent:
            return False  # what a later heartbeat has shown counts more
        if seen.symptom:
            read = bool(self._polls) and self._polls[-1].sent >= seen.sent
            self._misses.append(_Miss(seen, read))
            return True
        self.alive = seen
        self._misses = [one for one in self._misses if one.beat.sent > seen.sent]
        self._polls = [one for one in self._polls if one.sent > seen.sent]
        return False

    def _polled(self, poll: Poll) -> bool:
        last = self._polls[-1].sent if self._polls else self.alive.sent
        if poll.status is None or poll.sent <= last:
            return False
        if self._polls and _dead(self._polls[-1]) != _dead(poll):
            self._polls.clear()
        self._polls = [*self._polls, poll][-self.rule.dead_polls :]
        for one in self._misses:
            one.witnessed |= one.beat.sent <= poll.sent and poll.received <= one.beat.received + self.rule.period_s
        return True

    def _reason(self) -> str:
        """Why it is lost; empty where it is not, or not yet."""
        if not self._misses:
            return ""
        failed = len(self._misses)
        symptoms = ", ".join(dict.fromkeys(one.beat.symptom for one in self._misses))
        words = f"{failed} heartbeats in a row failed ({symptoms})" if failed > 1 else f"a heartbeat failed ({symptoms})"
        status = self._polls[-1].status if self._polls else None
        if self._polls and _dead(self._polls[-1]) and len(self._polls) >= self.rule.dead_polls:
            return f"{words}, and the status is {status}"
        if sum(one.witnessed for one in self._misses) >= self.rule.misses:
            return f"{words}, and the status is {status}"
        if failed >= self.rule.blind_misses:
            return f"{words}, and the API was not read meanwhile"
        return ""


def _dead(poll: Poll) -> bool:
    return poll.status == GONE or poll.status in DOOMED
