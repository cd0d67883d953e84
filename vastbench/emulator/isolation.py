"""Which walls stand between emulated machines and the host, found out by building one."""

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vastbench.emulator.spec import MachineSpec
from vastbench.errors import SettingsError

NAMESPACE = "namespace"
PLAIN = "plain"

_TRIAL = MachineSpec(0, "trial", "RTX 4090", 1, 24564, "550.54.14", "12.4", 1.0, None)

_FAR_UID, _FAR_COUNT = 1_900_000_000, 200_000_000
_BLOCK = 1000


@dataclass(frozen=True, slots=True)
class Isolation:
    """How machines are kept apart: ``name`` is "namespace" or "plain", ``reason`` says why, for people.

    ``uid_base`` and ``uid_count`` are the unprivileged host users that machines get, one each, when the emulator runs as root;
    ``uid_base`` is None when they run as the emulator's own (unprivileged) user.
    """

    name: str
    reason: str
    uid_base: int | None = None
    uid_count: int = 1

    def uid(self, instance: int) -> int | None:
        """The host user of ``instance``: a number that no account has, or None for the emulator's own user."""
        return None if self.uid_base is None else self.uid_base + instance % self.uid_count


async def choose_isolation(force: str | None = None) -> Isolation:
    """Try the namespaces on a throw-away machine, with the very commands that real ones get; fall back to plain folders.

    ``force`` ("namespace" or "plain") takes one without trying. Raises ValueError for another name.
    """
    from vastbench.emulator import guest
    from vastbench.emulator.sandbox import SandboxError, open_sandbox

    if force not in (None, NAMESPACE, PLAIN):
        raise ValueError(f"isolation must be {NAMESPACE!r} or {PLAIN!r}, not {force!r}")
    base, count = _strangers()
    if force is not None:
        return Isolation(force, "asked for", base, count)
    if not sys.platform.startswith("linux"):
        return Isolation(PLAIN, f"{sys.platform} has no namespaces", base, count)
    trial = Isolation(NAMESPACE, "user, mount, pid, uts and ipc namespaces work here", base, count)
    with tempfile.TemporaryDirectory(prefix="vastbench-probe-") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        uid = trial.uid(_TRIAL.id)
        guest.build(root, _TRIAL, uid)
        sandbox = open_sandbox(trial, root, hostname=_TRIAL.hostname, uid=uid)
        try:
            await sandbox.prove()
        except (SandboxError, OSError) as error:
            return Isolation(PLAIN, f"namespaces do not work here: {error}", base, count)
        finally:
            await sandbox.stop()
    return trial


def _strangers() -> tuple[int | None, int]:
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
