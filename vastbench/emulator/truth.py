"""The truth log: what really happened, and when, for benchmarks and tests to compare with. No client code reads it.

One JSON object a line::

    {"event": "running", "instance": 900, "not_before_ns": 123, "ns": 125, "not_before_s": 0.000246, "s": 0.00025, ...}

``ns`` and ``not_before_ns`` are real ``CLOCK_MONOTONIC`` nanoseconds: the event lies between them (they are equal where the
emulator's own state changed in one step; they differ by the length of a system call where the kernel was involved). ``s`` and
``not_before_s`` are the same in emulated seconds. Further keys belong to the event.

Events, in the order of a normal life: ``create_effective``, ``status`` (key ``status``: created, loading, running, stopped …),
``container_started`` (the machine's first process exists), ``onstart_started``, ``ssh_open`` (key ``port``: both endpoints
accept connections), ``key_installed`` (the key would be accepted), ``key_written`` (its line stands in the machine's
``authorized_keys``), ``ssh_ready`` (a command would succeed), ``destroy_effective`` or ``vanished``, ``gone`` (GET by id
answers null and the list lacks it), ``stop_effective``, ``lost`` (key ``kind``: it ended while it worked, and nobody was told).
"""

import json
import time
from pathlib import Path
from typing import IO, Any


class TruthLog:
    """An append-only list of true events; written to a file as well when one is given.

    ``events`` holds the same dictionaries that the file holds, for an emulator that lives in the reader's process.
    """

    def __init__(self, speed: float, path: Path | None = None) -> None:
        """Open ``path`` for appending, line by line; without one, keep the events in memory only."""
        self.speed = speed
        self.events: list[dict[str, Any]] = []
        self._file: IO[str] | None = path.open("a", buffering=1, encoding="utf-8") if path else None

    def write(
        self, event: str, instance: int, *, at_s: float | None = None, not_before_ns: int | None = None, **more: Any
    ) -> None:
        """Record ``event``: now, or at the emulated reading ``at_s`` (for changes that follow a schedule)."""
        ns = time.monotonic_ns() if at_s is None else round(at_s / self.speed * 1e9)
        first = ns if not_before_ns is None else not_before_ns
        line = {"event": event, "instance": instance, "not_before_ns": first, "ns": ns}
        line |= {"not_before_s": first * self.speed / 1e9, "s": ns * self.speed / 1e9} | more
        self.events.append(line)
        if self._file is not None:
            self._file.write(json.dumps(line, allow_nan=False) + "\n")

    def close(self) -> None:
        """Close the file, if any."""
        if self._file is not None:
            self._file.close()
            self._file = None
