"""When a rented machine is lost: heartbeats over SSH and the marketplace's status together; no threads, no clock, no I/O.

Neither alone will do. A status may flicker, may say running for minutes after a host has died, and cannot be read while the API
is down; a heartbeat fails on a slow network, and when our own connection is gone. So a status alone is never a loss, and what
cannot be read is unknown. Silence is a loss when it has lasted and the API was read meanwhile, which shows that our own network
works; when the API is silent, too, it has to last longer. A status that says gone makes it quicker.

The caller sends a heartbeat every ``period_s``, whatever became of those before. It tells the detector of each that has no
answer after ``timeout_s``, of each answer however late, and of each poll of the status: in any order, one thread at a time. A
line to a shell's loop on one channel (:meth:`vastbench.ssh.session.Session.dialogue`) is a cheap heartbeat. The defaults are a
point of the curve that ``benchmarks/detection.py`` draws.
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

    @property
    def dead(self) -> bool:
        """Whether it says that the machine does not run."""
        return self.status == GONE or self.status in DOOMED


@dataclass(frozen=True, slots=True)
class HeartbeatRule:
    """How soon silence is a loss; all in clock seconds. Raises UsageError for what cannot be.

    ``period_s``: from one heartbeat to the next. ``timeout_s``: without an answer for so long, one has failed. ``silence_s``:
    since the last answered heartbeat was sent, with at least ``misses`` failed ones and the API read all through the last
    ``read_s``: a loss. ``gap_s``: after so long without a readable poll the API counts as unread. ``blind_s``: silence that is
    a loss whatever the API does. ``dead_polls``: readable polls in a row that say that the machine does not run, which are
    a loss together with one failed heartbeat; a single poll may be a flicker.
    """

    period_s: float = 1.0
    timeout_s: float = 3.0
    silence_s: float = 14.5
    misses: int = 3
    read_s: float = 6.0
    gap_s: float = 10.0
    blind_s: float = 120.0
    dead_polls: int = 2

    def __post_init__(self) -> None:
        """Refuse a rule by which nothing, or everything, is lost."""
        for name, value in asdict(self).items():
            if not 0 < value < float("inf"):
                raise UsageError(f"The heartbeat rule's {name} is {value!r}.", hint="Give a number above 0.")
        if not max(self.timeout_s, self.read_s) <= self.silence_s <= self.blind_s:
            raise UsageError(
                f"The heartbeat rule cannot hold: {self}.",
                hint="silence_s is at least timeout_s and read_s, and blind_s at least silence_s.",
            )


@dataclass(frozen=True, slots=True)
class Loss:
    """A machine is lost: after the last answered heartbeat was sent, before what told us was received; ``reason`` in words."""

    moment: Moment
    reason: str


@dataclass(slots=True)
class Detector:
    """Decides from heartbeats and polls; ``alive`` is the last heartbeat, or other command, that the machine has answered.

    >>> detector = Detector(HeartbeatRule(silence_s=10.0), alive=Beat(0.0, 0.2))
    >>> for second in range(1, 12):
    ...     _ = detector.observe(Poll(second, second + 0.3, "running"))
    ...     loss = detector.observe(Beat(second - 3, second, "no answer")) if second > 3 else None
    >>> loss.reason, (loss.moment.lower, loss.moment.upper)
    ('no heartbeat was answered for 10.0 s (no answer), and the status is running', (0.0, 10))
    """

    rule: HeartbeatRule
    alive: Beat
    loss: Loss | None = None
    _failed: list[Beat] = field(default_factory=list)
    """Those sent since the machine was last alive."""
    _polls: list[Poll] = field(default_factory=list)
    """The last readable ones that agree: it runs, or it does not."""
    _read: tuple[float, float] | None = None
    """Since when, and until when, the API has been read without a gap."""

    def observe(self, seen: Beat | Poll) -> Loss | None:
        """Take account of what was seen; the loss, once there is one, whatever comes afterwards."""
        if self.loss is None:
            self._note_poll(seen) if isinstance(seen, Poll) else self._note_beat(seen)
            if reason := self._reason(seen.received):
                source = "ssh" if isinstance(seen, Beat) else "poll"
                moment = Moment(self.alive.sent, self.alive.received, seen.sent, seen.received, source)
                self.loss = Loss(moment, reason)
        return self.loss

    def _note_beat(self, beat: Beat) -> None:
        if beat.sent <= self.alive.sent:
            return  # what a later heartbeat has shown counts more
        if beat.symptom:
            self._failed.append(beat)
            return
        self.alive = beat
        self._failed = [one for one in self._failed if one.sent > beat.sent]

    def _note_poll(self, poll: Poll) -> None:
        if poll.status is None or (self._polls and poll.sent <= self._polls[-1].sent):
            return
        if self._read is None or poll.received - self._read[1] > self.rule.gap_s:
            self._read = (poll.received, poll.received)
        self._read = (self._read[0], poll.received)
        if self._polls and self._polls[-1].dead != poll.dead:
            self._polls.clear()
        self._polls = [*self._polls, poll][-self.rule.dead_polls :]

    def _reason(self, now: float) -> str:
        """Why it is lost at the reading ``now``; empty where it is not, or not yet."""
        if not self._failed:
            return ""
        silent_s = now - self.alive.sent
        symptoms = ", ".join(dict.fromkeys(one.symptom for one in self._failed))
        words = f"no heartbeat was answered for {silent_s:.1f} s ({symptoms})"
        polls = [one for one in self._polls if one.sent > self.alive.sent]
        if polls and polls[-1].dead and len(polls) >= self.rule.dead_polls:
            return f"{words}, and the status is {polls[-1].status}"
        if len(self._failed) < self.rule.misses or silent_s < self.rule.silence_s:
            return ""
        since, until = self._read or (now, now)
        if now - until <= self.rule.gap_s and until - max(since, self.alive.sent) >= self.rule.read_s:
            return f"{words}, and the status is {self._polls[-1].status}"
        return f"{words}, and the API was not read meanwhile" if silent_s >= self.rule.blind_s else ""
