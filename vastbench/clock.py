"""Real time and scaled time.

All waiting and all stamps go through a :class:`Clock`. A clock counts *clock seconds*: monotonic seconds multiplied by its
speed. On the real marketplace the speed is 1 and clock seconds are seconds; against an emulator started with ``--speed 20``
twenty clock seconds pass in each real one, so that durations come out in emulated seconds.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass, field, replace

from vastbench.errors import Interrupted, UsageError

EMULATED_SPEED = 20.0
"""Emulated seconds per real second unless told otherwise: a first look should take seconds."""

MIN_SOCKET_TIMEOUT_S = 2.0
"""Real seconds below which a scaled network time limit never falls: sockets do not get faster with the clock."""


class Stop(threading.Event):
    """An event that, once set, sets every event that was made from it."""

    def __init__(self) -> None:
        """It is not set."""
        super().__init__()
        self._lock = threading.Lock()
        self._children: weakref.WeakSet[Stop] = weakref.WeakSet()

    def child(self) -> Stop:
        """An event that is set with this one, and may be set without it."""
        one = Stop()
        with self._lock:
            self._children.add(one)
        if self.is_set():
            one.set()
        return one

    def set(self) -> None:
        """Set it and all that were made from it."""
        super().set()
        with self._lock:  # another thread may begin a run meanwhile
            children = list(self._children)
        for one in children:
            one.set()


@dataclass(frozen=True, slots=True)
class Clock:
    """A monotonic clock that may run faster than real time.

    ``speed`` is clock seconds per real second. Two clocks of the same speed in one machine agree: readings are
    ``CLOCK_MONOTONIC`` × speed, so they can be compared with an emulator's truth log. ``stopping``, once set, asks every wait
    by this clock to give up, except to clean up.
    """

    speed: float = 1.0
    stopping: Stop = field(default_factory=Stop, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse a speed that is not a positive, finite number."""
        if not (isinstance(self.speed, (int, float)) and 0 < self.speed < 10_000):
            raise UsageError(f"The clock speed is {self.speed!r}.", hint="Give a speed between 0 and 10000, such as 1 or 20.")

    def child(self) -> Clock:
        """The same clock with a stop of its own, which stops with this one."""
        return replace(self, stopping=self.stopping.child())

    def now(self) -> float:
        """The current reading in clock seconds."""
        return time.monotonic() * self.speed

    def real_s(self, seconds: float) -> float:
        """Real seconds in which ``seconds`` clock seconds pass."""
        return seconds / self.speed

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` clock seconds; negative waits return at once."""
        if seconds > 0:
            time.sleep(self.real_s(seconds))

    def rest(self, seconds: float) -> None:
        """Wait like :meth:`sleep`; raises Interrupted as soon as the clock is stopping."""
        if self.wait(self.stopping, seconds):
            raise Interrupted("Stopped while waiting.")

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until ``event`` is set, at most ``seconds`` clock seconds; true when it is set."""
        return event.wait(self.real_s(max(seconds, 0.0)))

    def socket_timeout(self, seconds: float) -> float:
        """Real seconds for a network time limit of ``seconds`` clock seconds, never below the floor."""
        return max(self.real_s(seconds), MIN_SOCKET_TIMEOUT_S)
