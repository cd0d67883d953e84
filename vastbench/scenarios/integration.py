"""The integration drill: rent a GPU, reach it over SSH, prove that it is the GPU that was paid for, write a file, check it,
give the machine back and prove that it is gone."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping

from vastbench.errors import CheckFailed, CommandFailed
from vastbench.record.moments import Moment
from vastbench.record.phases import PhaseName, renting, returning
from vastbench.record.recorder import Open
from vastbench.scenarios.drill import Drill, Scenario
from vastbench.scenarios.gpu_names import same_gpu
from vastbench.ssh.session import Session
from vastbench.vast.models import Offer

FILE_BYTES = 64 * 1024
GPU_QUERY = "nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader"


CHECK_GPU = "check GPU"
"""Command sent → nvidia-smi names the GPU that was rented."""

CREATE_FILE = "create file"
"""Command sent → written, synced, exit 0."""

VERIFY_FILE = "verify file"
"""Command sent → SHA-256 equal."""


LONGEST_ANSWER = 16_384
"""Characters of what nvidia-smi says that are read: a hundred times what eight cards need."""


def run(drill: Drill) -> None:
    """Rent a machine, check its GPU, write a file of random content, check its hash. Raises CheckFailed and what SSH raises."""
    with drill.rent() as machine:
        work(drill, machine.offer, machine.session)


def work(drill: Drill, offer: Offer, session: Session) -> None:
    """The checks on a machine that runs commands."""
    with drill.recorder.phase(CHECK_GPU) as phase:
        drill.checks["gpu"] = _check_gpu(session, offer.gpu_name or "", offer.num_gpus or 1, phase)
    content = os.urandom(FILE_BYTES)
    quoted = shlex.quote(f"/workspace/vastbench-{os.urandom(4).hex()}.bin")
    drill.bytes_down = len(content)
    with drill.recorder.phase(CREATE_FILE) as phase:
        done = session.run(f"mkdir -p /workspace && cat > {quoted} && sync {quoted}", stdin=content)
        phase.start, phase.end = Moment.exact(done.sent), Moment.exact(done.received)
    with drill.recorder.phase(VERIFY_FILE) as phase:
        done = session.run(f"sha256sum {quoted}")
        phase.start, phase.end = Moment.exact(done.sent), Moment.exact(done.received)
        expected, found = hashlib.sha256(content).hexdigest(), done.stdout.split(maxsplit=1)[:1]
        drill.checks["file"] = {"phase": CREATE_FILE, "bytes": len(content), "sha256": expected, "matches": found == [expected]}
        if found != [expected]:
            raise CheckFailed(
                f"The file read back has SHA-256 {''.join(found)[:64] or '(nothing)'}, not {expected}.",
                hint="The machine's disk or the connection garbled it; do not use this machine.",
            )


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
    {**renting(), CHECK_GPU: None, CREATE_FILE: None, VERIFY_FILE: None, **returning()},
    ready=PhaseName.WAIT_SSH,
    work_s=60.0,
    run=run,
)
