"""The emulator's time: monotonic seconds, possibly faster than real ones."""

import asyncio
import time


class Pace:
    """Emulated time that runs ``speed`` times faster than real time.

    Emulated readings are ``CLOCK_MONOTONIC`` × speed: a pure scale without an offset, so that any other process of this
    machine can compare its own scaled readings with ours.
    """

    def __init__(self, speed: float = 1.0) -> None:
        """Start counting; ``speed`` is emulated seconds per real second and must be positive."""
        if not 0 < speed < 10_000:
            raise ValueError(f"speed must lie between 0 and 10000, not {speed}")
        self.speed = speed
        self._epoch_at_zero = time.time() - self.now()

    def now(self) -> float:
        """Emulated seconds on the monotonic clock."""
        return time.monotonic() * self.speed

    def epoch(self, now: float | None = None) -> float:
        """The emulated date of a reading (default: this moment) as a Unix time in seconds."""
        return self._epoch_at_zero + (self.now() if now is None else now)

    async def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` emulated seconds."""
        await asyncio.sleep(max(seconds, 0.0) / self.speed)

    async def sleep_until(self, reading: float) -> None:
        """Wait until the emulated clock shows ``reading``."""
        await self.sleep(reading - self.now())
