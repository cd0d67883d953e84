"""A clock that tests move by hand."""

import threading
from dataclasses import dataclass, field

from vastbench.clock import Clock


@dataclass(frozen=True, slots=True)
class HandClock(Clock):
    """Begins at 0 and moves only by what is waited by it, at once and exactly."""

    waits: list[float] = field(default_factory=list, compare=False, repr=False)

    def now(self) -> float:
        return sum(self.waits)

    def sleep(self, seconds: float) -> None:
        self.waits.append(max(seconds, 0.0))

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.sleep(seconds)
        return event.is_set()
