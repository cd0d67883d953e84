"""The integration drill: rent a GPU, reach it over SSH, prove that it is the GPU that was paid for, write a file, read it back
over another connection, give the machine back and prove that it is gone."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping

from vastbench.errors import CheckFailed, CommandFailed
from vastbench.record.moments import Moment
from vastbench.record.phases import PhaseName, renting, returning
from vastbench.record.recorder import Open
from vastbench.rental.provisioner import Machine
from vastbench.scenarios.drill import HEDGING, Drill, Scenario
from vastbench.scenarios.gpu_names import same_gpu
from vastbench.ssh.probe import Step
from vastbench.ssh.session import Session

FILE_BYTES = 64 * 1024
_NOT_STORED = "The machine's disk or the connection loses what is written; do not use this machine."
GPU_QUERY = "nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader"


CHECK_GPU = "check GPU"
"""Command sent → nvidia-smi names the GPU that was rented."""

CREATE_FILE = "create file"
"""Command sent → written, synced, exit 0."""

CONNECT_AGAIN = "connect again"
"""Connection begun → a command exits 0 over it: the second connection's cost, which is no part of ``verify file``."""

VERIFY_FILE = "verify file"
"""Command sent → the content read back over the second connection has the SHA-256 of what was written."""


LONGEST_ANSWER = 16_384
"""Characters of what nvidia-smi says that are read: a hundred times what eight cards need."""


def run(drill: Drill) -> None:
    """Rent a machine, check its GPU, write a file of random content, read it back over another connection.

    Raises CheckFailed and what SSH raises.
    """
    with drill.rent_raced() as machine:
        _work(drill, machine)


def _work(drill: Drill, machine: Machine) -> None:
    """The checks on a machine that runs commands."""
    offer, session = machine.offer, machine.session
    with drill.recorder.phase(CHECK_GPU) as phase:
        drill.checks["gpu"] = _check_gpu(session, offer.gpu_name or "", offer.num_gpus or 1, phase)
    content = os.urandom(FILE_BYTES)
    path = f"/workspace/vastbench-{os.urandom(4).hex()}.bin"
    quoted = shlex.quote(path)
    with drill.recorder.phase(CREATE_FILE) as phase:
        done = session.run(f"mkdir -p /workspace && cat > {quoted} && sync {quoted}", stdin=content)
        phase.start, phase.end = Moment.exact(done.sent), Moment.exact(done.received)
    # The host must not be asked for the hash, nor within the connection that wrote: it could answer both without a disk.
    with drill.recorder.phase(CONNECT_AGAIN) as phase:
        again = machine.connect_again()
        phase.end, phase.queued_s = again.winner.moments[Step.FIRST_COMMAND], again.winner.queued_login_s
    with again.session as second, drill.recorder.phase(VERIFY_FILE):
        expected = hashlib.sha256(content).hexdigest()
        file = drill.checks["file"] = {"phase": CREATE_FILE, "bytes": len(content), "sha256": expected, "matches": False}
        back = _read_back(second, path)
        found = hashlib.sha256(back).hexdigest()
        if found != expected:
            raise CheckFailed(
                f"The file read back over a second connection has SHA-256 {found}, not {expected}.", hint=_NOT_STORED
            )
        file["matches"] = True


def _read_back(session: Session, path: str) -> bytes:
    """What the machine holds at ``path``. Raises CheckFailed when it has no file there, or one that is longer than ours."""
    try:
        return session.get(path, timeout_s=60.0, limit_bytes=FILE_BYTES)
    except CommandFailed as failed:
        raise CheckFailed(
            f"The file that was written cannot be read back over a second connection: {failed.message}", hint=_NOT_STORED
        ) from failed


def _check_gpu(session: Session, gpu_name: str, num_gpus: int, phase: Open) -> Mapping[str, object]:
    try:
        done = session.run(GPU_QUERY)
    except CommandFailed as failed:
        raise CheckFailed(f"nvidia-smi does not answer: {failed.message}", hint="The machine's driver is broken.") from failed
    phase.start, phase.end = Moment.exact(done.sent), Moment.exact(done.received)
    cards = [
        [part.strip() for part in line.split(",")] for line in done.stdout[:LONGEST_ANSWER].splitlines() if line.count(",") >= 2
    ]
    names = [card[0] for card in cards]
    phase.detail = ", ".join(names)[:120]
    same = [same_gpu(gpu_name, name) for name in names]
    if len(cards) != num_gpus or False in same:
        raise CheckFailed(
            f"Rented {num_gpus} × {gpu_name}, but nvidia-smi names {names or 'nothing'}.",
            hint="The host does not deliver what it offers; do not use this machine.",
        )
    return {
        "name": names[0],
        "count": len(cards),
        "driver_version": cards[0][1],
        "memory": cards[0][2],
        "matches": None if None in same else True,
    }


INTEGRATION = Scenario(
    "integration",
    "until a rented GPU runs commands, and until it is gone again; checks the GPU and a file",
    {**renting(), CHECK_GPU: None, CREATE_FILE: None, CONNECT_AGAIN: None, VERIFY_FILE: None, **returning()},
    ready=PhaseName.WAIT_SSH,
    work_s=60.0,
    run=run,
    options=HEDGING,
)
