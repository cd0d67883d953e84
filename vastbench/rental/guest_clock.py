"""What the instance's own clock says about its start: a second instrument, finer than any poll, and never believed unchecked.

:mod:`vastbench.rental.startup` leaves a timeline in readings of ``/proc/uptime``. Here it is read over the session, with some
round trips that ask the instance for its clock. A clock that shows g when it was asked at ``sent`` and answered at ``received``
has an offset (ours − its) in (sent − g − 0.01, received − g], because it counts in hundredths and rounds down; the offset lies
in what all round trips allow. That needs no symmetric network, which estimates from half the round trip do (NTP, RFC 5905 §8).

Two steady clocks may drift apart by :data:`DRIFT`; each bound is widened by that much of the time it is carried over. A clock
that cannot be reconciled with ours, stands still, jumps, or tells of a start that cannot have been is not trusted: then there
is a reason in words and no moment.
"""

from __future__ import annotations

import math
import re
import secrets
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from vastbench.clock import Clock
from vastbench.errors import VastbenchError
from vastbench.record.moments import Moment
from vastbench.record.recorder import summary_of
from vastbench.rental.startup import FOLDER, TOOL
from vastbench.ssh.evidence import Step

if TYPE_CHECKING:
    from vastbench.ssh.session import Session

TICK_S = 0.01
"""Seconds that a reading of ``/proc/uptime``, or a process's start, is rounded down by at most."""

DRIFT = 5e-4
"""Seconds per second that two kernel clocks may drift apart: the most that NTP makes one of them run off its rate."""

ROUND_TRIPS = 8
"""How often the instance is asked for its clock."""

READ_LIMIT_S = 5.0
"""Clock seconds that reading all of it may take."""

STANDSTILL_S = 2.0
"""Seconds between two looks of the timeline, 0.2 s apart, above which a jump of the clock must be feared."""

SLACK_S = 1e-6
"""Seconds that sums of readings may be off by."""

_LONGEST = 200_000
"""Characters of the timeline that are read; some hours of looking."""

_BAD_RATE = "it jumps, or runs at another rate than ours"
_STOOD_STILL = "it jumped, or the machine stood still"

_UPTIME = re.compile(r"\d{1,12}(\.\d{1,9})?")

_SCRIPT = f"""exec 2>/dev/null
cd ~/{FOLDER}
for file in timeline login; do
  echo; echo "{{mark}} $file"; cat $file
done
echo; echo "{{mark}} switch"
read -r pid words <switch && kill -0 "$pid" && echo "armed $words ${TOOL}"
echo; echo "{{mark}} end"
while read -r _; do
  up=
  read -r up _ </proc/uptime
  echo "{{mark}} clock $up"
done"""


@dataclass(frozen=True, slots=True)
class Reading:
    """The instance's clock showed ``uptime`` at some time between ``sent`` and ``received`` on ours; all in real seconds."""

    sent: float
    received: float
    uptime: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was read: the timeline's lines, the readings at first commands, the round trips with their answers' words, and what
    the dead-man's switch says of itself."""

    timeline: tuple[str, ...]
    logins: tuple[str, ...]
    answers: tuple[tuple[float, float, str], ...]
    switch: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What we know of the same events ourselves, in clock seconds: the guest's tale has to agree with it.

    ``created``: when the create request was sent. ``running``: when the status became running. ``steps``: the way to SSH.
    """

    created: float
    running: Moment
    steps: Mapping[Step, Moment]


@dataclass(frozen=True, slots=True)
class Guest:
    """The instance's own account of its start. Moments and durations are clock seconds; ``why`` is empty when it is trusted.

    ``moments``: container_started, onstart_started, sshd_up, key_installed, as far as they are known. ``offset_error_s``: half
    the width of what the round trips leave of the offset. ``rate_error``: the error of the clock's rate (0.1 is 10 %)
    that would have been noticed between the first command and the round trips. ``switch``: what is wrong with the instance's
    dead-man's switch, empty when it is armed, None when that could not be seen.
    """

    why: str = ""
    switch: str | None = None
    moments: dict[str, Moment] = field(default_factory=dict)
    offset_error_s: float | None = None
    round_trips: int = 0
    rtt_min_s: float | None = None
    rate_error: float | None = None
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def trusted(self) -> bool:
        """Whether the clock agrees with everything we know."""
        return not self.why

    def to_dict(self, origin: float) -> Mapping[str, object]:
        """The account as a run's record keeps it, its moments counted from the run's start at ``origin``."""
        plain = {"trusted": self.trusted} | {item.name: getattr(self, item.name) for item in fields(self)}
        plain["moments"] = {name: asdict(_since(origin, moment)) for name, moment in self.moments.items()}
        return plain


def _since(origin: float, moment: Moment) -> Moment:
    upper = moment.upper - origin if moment.seen else None
    return Moment.between(moment.lower - origin, upper, moment.source)


class _Distrust(Exception):
    """The reason why the clock is not believed."""


def ask(session: Session, clock: Clock, known: Known) -> Guest:
    """Read the instance's account over ``session`` and check it. Never raises for what the instance does or says."""
    try:
        transcript = read(session, clock)
    except VastbenchError as error:
        return Guest(why=f"it could not be read: {summary_of(error)}"[:300])
    return examine(transcript, known, clock.speed)


def read(session: Session, clock: Clock) -> Transcript:
    """The timeline, and :data:`ROUND_TRIPS` readings of the instance's clock, over one channel. Raises VastbenchError."""
    mark = secrets.token_hex(4)
    parts: dict[str, list[str]] = {"timeline": [], "login": [], "switch": []}
    answers = []
    with session.dialogue(f"sh -c {shlex.quote(_SCRIPT.format(mark=mark))}", timeout_s=READ_LIMIT_S) as talk:
        part, size = "", 0
        while part != "end":
            line = talk.hear().decode("ascii", "replace")
            if line.startswith(f"{mark} "):
                part = line.partition(" ")[2]
            elif line and size <= _LONGEST:
                parts.setdefault(part, []).append(line)
                size += len(line)
        for _ in range(ROUND_TRIPS):
            sent = clock.now()
            talk.say(b"")
            line = talk.hear().decode("ascii", "replace")
            answers.append((clock.real_s(sent), clock.real_s(clock.now()), line.removeprefix(f"{mark} clock").strip()))
    return Transcript(tuple(parts["timeline"]), tuple(parts["login"]), tuple(answers), tuple(parts["switch"]))


def wrong_with_switch(lines: Sequence[str]) -> str:
    """What keeps the dead-man's switch that says ``lines`` of itself from destroying its instance; empty when nothing does."""
    words = lines[0].split() if lines else []
    if words[:1] != ["armed"]:
        return "it does not run: the start script did not take, or was ended"
    if "key" not in words:
        return "it has no key: the marketplace gave the container none"
    if not any(word.startswith("/") for word in words):
        return "the machine has neither curl, python3 nor GNU wget, and apt-get has fetched none yet"
    return ""


def offset(readings: Iterable[Reading]) -> tuple[float, float] | None:
    """The bounds of (our clock − the instance's), in seconds, that all ``readings`` allow; None when they agree on none."""
    readings = list(readings)
    last = max(reading.received for reading in readings)
    drifts = [DRIFT * (last - reading.sent) + SLACK_S for reading in readings]
    low = max(r.sent - r.uptime - TICK_S - drift for r, drift in zip(readings, drifts, strict=True))
    high = min(r.received - r.uptime + drift for r, drift in zip(readings, drifts, strict=True))
    return (low, high) if low <= high else None


def examine(transcript: Transcript, known: Known, speed: float) -> Guest:
    """Judge what was read; ``speed`` is clock seconds per real second."""
    rtts = [received - sent for sent, received, _ in transcript.answers]
    guest = Guest(
        switch=wrong_with_switch(transcript.switch),
        round_trips=len(rtts),
        rtt_min_s=min(rtts) * speed if rtts else None,
        raw={
            "timeline": [line[:80] for line in transcript.timeline if not line.startswith("look ")][:20],
            "looks": sum(line.startswith("look ") for line in transcript.timeline),
            "logins": [line[:80] for line in transcript.logins[:20]],
            "answers": [line[:80] for _, _, line in transcript.answers],
        },
    )
    try:
        return _trusted(guest, transcript, known, speed)
    except _Distrust as reason:
        return replace(guest, why=str(reason))


def _trusted(guest: Guest, transcript: Transcript, known: Known, speed: float) -> Guest:
    readings = [Reading(sent, received, _uptime(line)) for sent, received, line in transcript.answers]
    if not transcript.timeline:
        raise _Distrust("the start script left no timeline")
    _check_order([*_stamps(transcript.timeline), *(r.uptime for r in readings)])
    _check_standstill(transcript.timeline)
    spans = _spans(transcript.timeline, min([*map(_uptime, transcript.logins), *(r.uptime for r in readings)]))
    bounds = offset(readings)
    if bounds is None:
        raise _Distrust(f"no offset fits all of {len(readings)} round trips: {_BAD_RATE}")
    low, high = bounds
    rate_error = _check_rate(transcript, readings, bounds, known, speed)
    last = readings[-1].uptime

    def moment(after: float, until: float) -> Moment:
        drift = DRIFT * max(0.0, last - after) + SLACK_S
        return Moment.between((after + low - drift) * speed, (until + TICK_S + high + drift) * speed, "guest")

    moments = {name: moment(*span) for name, span in spans.items()}
    moments["container_started"] = _plausible(moments, known)
    error = (high - low) / 2 * speed
    return replace(guest, moments=moments, offset_error_s=error, rate_error=rate_error)


def _uptime(text: str) -> float:
    if not text:
        raise _Distrust("it has no /proc/uptime")
    if not _UPTIME.fullmatch(text):
        raise _Distrust(f"it gives {text[:40]!r} for its uptime")
    return float(text)


def _stamps(lines: Iterable[str]) -> list[float]:
    """The readings of the timeline in the order in which they were written."""
    return [_uptime(line.partition(" ")[2]) for line in lines if line.partition(" ")[0] != "container_started"]


def _spans(lines: Sequence[str], logged_in: float) -> dict[str, tuple[float, float]]:
    """For each event the clock's last reading before it and the first after it; ``logged_in`` is one at which SSH was in use.

    Looks that never saw an event may have been blind (no grep on the image, keys kept elsewhere): they prove nothing.
    """
    words = [line.partition(" ") for line in lines]
    ticks = next((text for name, _, text in words if name == "container_started"), "")
    if not re.fullmatch(r"\d{1,15}", ticks):
        raise _Distrust(f"it gives {ticks[:40]!r} for the start of its first process")
    container = int(ticks) * TICK_S
    spans = {"container_started": (container, container)}
    looks = [container, container]
    for name, _, text in words:
        if name == "look":
            looks.append(_uptime(text))
        elif name == "onstart_started":
            spans.setdefault(name, (container, _uptime(text)))
        elif name in ("sshd_up", "key_installed"):
            # The latest look is the one that saw it; the one before it did not.
            spans.setdefault(name, (looks[-2], _uptime(text)))
    for name in ("sshd_up", "key_installed"):
        spans.setdefault(name, (container, logged_in))
    for name, (after, until) in spans.items():
        if until + TICK_S < after:
            raise _Distrust(f"{name} at {until:.2f} s comes before {after:.2f} s, at which it had not happened")
    return spans


def _check_order(stamps: Sequence[float]) -> None:
    for before, after in pairwise(stamps):
        if after < before:
            raise _Distrust(f"its clock went backwards, from {before:.2f} to {after:.2f} s")


def _check_standstill(lines: Sequence[str]) -> None:
    looks = _stamps(line for line in lines if line.startswith("look "))
    for before, after in pairwise(looks):
        if after - before > STANDSTILL_S:
            raise _Distrust(f"its clock went on by {after - before:.2f} s from one look to the next: {_STOOD_STILL}")


def _check_rate(
    transcript: Transcript, readings: Sequence[Reading], bounds: tuple[float, float], known: Known, speed: float
) -> float | None:
    """Compare the clock at the first command with the round trips; the rate error that this would have shown."""
    command = known.steps.get(Step.FIRST_COMMAND)
    if command is None or command.yes_sent is None or command.yes_received is None or not transcript.logins:
        return None
    sent, received = command.yes_sent / speed, command.yes_received / speed
    passed = readings[-1].received - sent
    drift = DRIFT * passed + SLACK_S
    gains = []
    for uptime in map(_uptime, transcript.logins):
        earlier = (sent - uptime - TICK_S - drift, received - uptime + drift)
        gains.append(max(0.0, earlier[0] - bounds[1]) - max(0.0, bounds[0] - earlier[1]))
    # Each address that ran the command has left a line; which one is the winner's is not known.
    gain = min(gains, key=abs)
    if gain:
        verb = "gained" if gain > 0 else "lost"
        raise _Distrust(f"its clock {verb} at least {abs(gain):.2f} s on ours within {passed:.2f} s: {_BAD_RATE}")
    base = readings[0].sent - received
    width = received - sent + TICK_S + bounds[1] - bounds[0]
    return width / base if base > 0 else None


def _plausible(moments: Mapping[str, Moment], known: Known) -> Moment:
    """When the container started, no later than it was said to run. Raises _Distrust for a tale that cannot be."""
    container, running = moments["container_started"], known.running
    if container.upper < known.created:
        raise _Distrust(f"its first process started {known.created - container.upper:.1f} s before it was asked for")
    if container.lower > running.upper:
        raise _Distrust(f"its first process started {container.lower - running.upper:.1f} s after it was seen running")
    for name, step in (("sshd_up", Step.BANNER), ("key_installed", Step.LOGIN)):
        seen = known.steps[step].upper if step in known.steps else math.inf
        if moments[name].lower > seen:
            raise _Distrust(f"{name} lies {moments[name].lower - seen:.1f} s after we had seen it in use")
    return Moment.between(
        max(container.lower, known.created), min(container.upper, max(running.upper, container.lower)), "guest"
    )
