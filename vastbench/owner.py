"""Which process a lease or a run belongs to, and whether that process still lives.

On the same machine the kernel tells, where it lets us see. Elsewhere only signs of life do: an owner writes one to the store
every :data:`BEAT_S` seconds, and who has given none for :data:`SILENCE_S` is taken for dead.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from vastbench.errors import StoreError

log = logging.getLogger(__name__)

ENDED_BEAT = ""
"""What an owner writes in place of a sign of life when it ends: its process may go on without it."""

BEAT_S = 10.0
"""Real seconds between two signs of life."""

SILENCE_S = 300.0
"""Real seconds without a sign of life after which an owner of which the kernel tells nothing is taken for dead."""

_PROC = Path("/proc")


class State(StrEnum):
    """What is known of an owner."""

    LIVING = "living"
    ENDED = "ended"
    UNKNOWN = "unknown"


def owner(*, emulator: bool = False) -> dict[str, object]:
    """This process as an owner: an id of its own, host, boot id, process number and namespace, and its start time (clock
    ticks since boot), as far as the system tells.

    ``emulator``: its instances live in an emulator inside this process, and end with it.
    """
    return {"id": secrets.token_hex(16), **_here(), "emulator": emulator}


def has_ended(other: Mapping[str, Any]) -> bool:
    """Whether the process that ``other`` (of :func:`owner`) describes is known here to have ended."""
    return state_here(other) is State.ENDED


def state_here(other: Mapping[str, Any]) -> State:
    """What this machine's kernel tells of ``other`` for certain.

    Unknown for another host, boot or container, of which it sees nothing (an owner of another boot ended with it, or lives on
    another machine of the same name); where there is no ``/proc``; and for a process that exists and that ``/proc`` hides from
    this user (``hidepid``): its number may be another's by now.
    """
    here, pid = _here(), other.get("pid")
    same = all(here[name] is not None and other.get(name) == here[name] for name in ("host", "boot_id", "pid_namespace"))
    if not same or not isinstance(pid, int) or pid <= 0:
        return State.UNKNOWN
    if not _exists(pid):
        return State.ENDED
    found = _state_and_start(pid)
    if found is None or other.get("process_start") is None:
        return State.UNKNOWN
    # A zombie has ended; its number is only kept until its parent asks for it.
    return State.ENDED if found[0] in "ZX" or found[1] != other["process_start"] else State.LIVING


def state_of(other: Mapping[str, Any], beats: Mapping[str, str], now: datetime) -> State:
    """What is known of ``other``: from its own last word, from this machine's kernel or, where neither tells, from its signs of
    life.

    ``beats``: the last signs of life by owner's id (ISO 8601), on the same clock as ``now``. One that never gave any stays
    unknown.
    """
    seen = state_here(other)
    last = beats.get(str(other.get("id")))
    if last == ENDED_BEAT:
        return State.ENDED
    if seen is not State.UNKNOWN or last is None:
        return seen
    silent_s = (now - datetime.fromisoformat(last)).total_seconds()
    return State.LIVING if silent_s < SILENCE_S else State.ENDED


class Heartbeat:
    """Signs of life, from a thread of its own, for as long as the with-block lasts.

    ``beat`` writes one. The first is written before the block is entered, and raises what it raises; later ones may fail:
    the next follows soon. ``end`` writes that the owner has ended; when that fails, its process has to end first.
    """

    def __init__(self, beat: Callable[[], None], end: Callable[[], None]) -> None:
        """Nothing is written yet."""
        self._beat = beat
        self._end = end
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_stopped, name="vastbench-heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        """Begin."""
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; a sign that is being written is waited for, briefly."""
        self._ended.set()
        self._thread.join(1.0)
        try:
            self._end()
        except StoreError as error:
            log.info("the end of the owner could not be written: %s", error)

    def _beat_until_stopped(self) -> None:
        while not self._ended.wait(BEAT_S):
            try:
                self._beat()
            except StoreError as error:
                log.info("no sign of life could be written: %s", error)


def _here() -> dict[str, object]:
    boot = _PROC / "sys/kernel/random/boot_id"
    state_and_start = _state_and_start(os.getpid())
    try:
        namespace = (_PROC / "self/ns/pid").readlink().name
    except OSError:
        namespace = None
    return {
        "host": socket.gethostname(),
        "boot_id": boot.read_text().strip() if boot.exists() else None,
        "pid_namespace": namespace,
        "pid": os.getpid(),
        "process_start": state_and_start[1] if state_and_start else None,
    }


def _state_and_start(pid: int) -> tuple[str, str] | None:
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return fields[0], fields[19]


def _exists(pid: int) -> bool:
    """Whether a process has that number: also asked of strangers' processes, and of hidden ones, the kernel answers truly."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
