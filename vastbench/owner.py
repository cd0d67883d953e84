"""Which process a lease or a run belongs to, and whether that process has ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


def owner(*, emulator: bool = False) -> dict[str, Any]:
    """This process: host, boot id, process and its start time (clock ticks since boot), as far as the system tells.

    ``emulator``: its instances live in an emulator inside this process, and end with it.
    """
    boot = _PROC / "sys/kernel/random/boot_id"
    state_and_start = _state_and_start(os.getpid())
    return {
        "host": socket.gethostname(),
        "boot_id": boot.read_text().strip() if boot.exists() else None,
        "pid": os.getpid(),
        "process_start": state_and_start[1] if state_and_start else None,
        "emulator": emulator,
    }


def has_ended(other: Mapping[str, Any]) -> bool:
    """Whether the process that ``other`` (of :func:`owner`) describes is known to have ended.

    False when that cannot be told from here: another host's processes cannot be seen.
    """
    here = owner()
    if other.get("host") != here["host"]:
        return False
    boots = other.get("boot_id"), here["boot_id"]
    if None not in boots and boots[0] != boots[1]:
        return True
    pid = other.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    if here["process_start"] is None:
        return not _answers(pid)
    found = _state_and_start(pid)
    # A zombie has ended; its number is only kept until its parent asks for it.
    return found is None or found[0] in "ZX" or found[1] != other.get("process_start")


def _state_and_start(pid: int) -> tuple[str, str] | None:
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return fields[0], fields[19]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
