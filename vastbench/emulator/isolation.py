"""Which walls stand between emulated machines and the host, and which host users they get."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from vastbench.errors import SettingsError

NAMESPACE = "namespace"
PLAIN = "plain"


_FAR_UID, _FAR_COUNT = 1_900_000_000, 200_000_000
_BLOCK = 1000


@dataclass(frozen=True, slots=True)
class Isolation:
    """How machines are kept apart: ``name`` is "namespace" or "plain", ``reason`` says why, for people.

    ``uid_base`` and ``uid_count`` are the unprivileged host users that machines get, one each, when the emulator runs as root;
    ``uid_base`` is None when they run as the emulator's own (unprivileged) user. ``for_others``: whoever has the key may use
    the machines, and not only this process. ``own_network``: a machine in namespaces has a network of its own; without, and
    in a plain folder, it is the host's.
    """

    name: str
    reason: str
    uid_base: int | None = None
    uid_count: int = 1
    for_others: bool = False
    own_network: bool = True

    @property
    def exposes_user(self) -> bool:
        """Whether a command in a machine could read and change the files of the user that the emulator runs as."""
        return self.name == PLAIN and self.uid_base is None

    def uid(self, instance: int) -> int | None:
        """The host user of ``instance``: a number that no account has, or None for the emulator's own user."""
        return None if self.uid_base is None else self.uid_base + instance % self.uid_count


def strangers() -> tuple[int | None, int]:
    """Host users without accounts or files, inside what this process may become; (None, 1) without root.

    Each emulator takes a block by its process id: a machine that is swept away by its user must not take the machine of
    another emulator with it. Raises SettingsError when root may become nobody else: machines never run as host uid 0.
    """
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        return None, 1
    try:
        ranges = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except OSError:
        ranges = [(0, 0, 2**32 - 2)]
    if any(first <= _FAR_UID and first + size >= _FAR_UID + _FAR_COUNT for first, _, size in ranges):
        return _FAR_UID + os.getpid() % (_FAR_COUNT // _BLOCK) * _BLOCK, _BLOCK
    first, _, size = max(ranges, key=lambda one: one[2])
    if first == 0:
        first, size = 1, size - 1
    if size < 1:
        raise SettingsError(
            "The emulator runs as root and may become no other user.", hint="Run vastbench as an ordinary user."
        )
    count = min(size, _BLOCK)
    return first + os.getpid() % (size // count) * count, count
