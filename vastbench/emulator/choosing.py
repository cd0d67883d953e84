"""Which walls this machine allows, found out by building them."""

import sys
import tempfile
from pathlib import Path

from vastbench.emulator import guest
from vastbench.emulator.isolation import NAMESPACE, PLAIN, Isolation, strangers
from vastbench.emulator.sandbox import SandboxError, open_sandbox
from vastbench.emulator.spec import MachineSpec

_TRIAL = MachineSpec(0, "trial", "RTX 4090", 1, 24564, "550.54.14", "12.4", 1.0, None)


async def choose_isolation(force: str | None = None) -> Isolation:
    """Try the namespaces on a throw-away machine, with the very commands that real ones get; fall back to plain folders.

    ``force`` ("namespace" or "plain") takes one without trying. Raises ValueError for another name.
    """
    if force not in (None, NAMESPACE, PLAIN):
        raise ValueError(f"isolation must be {NAMESPACE!r} or {PLAIN!r}, not {force!r}")
    base, count = strangers()
    if force is not None:
        return Isolation(force, "asked for", base, count)
    if not sys.platform.startswith("linux"):
        return Isolation(PLAIN, f"{sys.platform} has no namespaces", base, count)
    whole = Isolation(NAMESPACE, "user, mount, pid, uts, ipc and network namespaces work here", base, count)
    if (failure := await _failure(whole)) is None:
        return whole
    reason = f"machines share this host's network: {failure}; user, mount, pid, uts and ipc namespaces work here"
    shared = Isolation(NAMESPACE, reason, base, count, own_network=False)
    if (failure := await _failure(shared)) is None:
        return shared
    return Isolation(PLAIN, f"namespaces do not work here: {failure}", base, count)


async def _failure(trial: Isolation) -> Exception | None:
    """What keeps a machine with these walls from working, or None."""
    with tempfile.TemporaryDirectory(prefix="vastbench-probe-") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        uid = trial.uid(_TRIAL.id)
        guest.build(root, _TRIAL, uid, guest.Surroundings())
        sandbox = open_sandbox(trial, root, _TRIAL)
        try:
            await sandbox.prove()
        except (SandboxError, OSError) as error:
            return error
        finally:
            await sandbox.stop()
    return None
