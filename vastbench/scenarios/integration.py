"""The integration drill: rent a GPU, reach it over SSH, prove that it is the GPU that was paid for, write a file, check it,
give the machine back and prove that it is gone."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from typing import Any

from vastbench.errors import CheckFailed, CommandFailed
from vastbench.record.moments import Moment
from vastbench.record.phases import PhaseName
from vastbench.record.recorder import Open
from vastbench.scenarios.drill import Scenario, Work
from vastbench.ssh.session import Session

FILE_BYTES = 64 * 1024
GPU_QUERY = "nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader"


def work(on: Work) -> None:
    """Check the GPU, write a file of random content, and check its hash. Raises CheckFailed and what SSH raises."""
    offer, session = on.machine.offer, on.machine.session
    with on.recorder.phase(PhaseName.CHECK_GPU) as phase:
        on.checks["gpu"] = _check_gpu(session, offer.gpu_name or "", offer.num_gpus or 1, phase)
    content = os.urandom(FILE_BYTES)
    quoted = shlex.quote(f"/workspace/vastbench-{os.urandom(4).hex()}.bin")
    on.bytes_down = len(content)
    with on.recorder.phase(PhaseName.CREATE_FILE) as phase:
        done = session.run(f"mkdir -p /workspace && cat > {quoted} && sync {quoted}", stdin=content)
        phase.start, phase.end = Moment.exact(done.sent), Moment.exact(done.received)
    with on.recorder.phase(PhaseName.VERIFY_FILE) as phase:
        done = session.run(f"sha256sum {quoted}")
        phase.start, phase.end = Moment.exact(done.sent), Moment.exact(done.received)
        expected, found = hashlib.sha256(content).hexdigest(), done.stdout.split(maxsplit=1)[:1]
        on.checks["file"] = {"bytes": len(content), "sha256": expected, "matches": found == [expected]}
        if found != [expected]:
            raise CheckFailed(
                f"The file read back has SHA-256 {''.join(found)[:64] or '(nothing)'}, not {expected}.",
                hint="The machine's disk or the connection garbled it; do not use this machine.",
            )


def _check_gpu(session: Session, gpu_name: str, num_gpus: int, phase: Open) -> dict[str, Any]:
    try:
        done = session.run(GPU_QUERY)
    except CommandFailed as failed:
        raise CheckFailed(f"nvidia-smi does not answer: {failed.message}", hint="The machine's driver is broken.") from failed
    phase.start, phase.end = Moment.exact(done.sent), Moment.exact(done.received)
    cards = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.count(",") >= 2]
    names = [card[0] for card in cards]
    phase.detail = ", ".join(names)[:120]
    if len(cards) != num_gpus or not all(same_gpu(gpu_name, name) for name in names):
        raise CheckFailed(
            f"Rented {num_gpus} × {gpu_name}, but nvidia-smi names {names or 'nothing'}.",
            hint="The host does not deliver what it offers; do not use this machine.",
        )
    return {"name": names[0], "count": len(cards), "driver_version": cards[0][1], "memory": cards[0][2], "matches": True}


def same_gpu(offered: str, reported: str) -> bool:
    """Whether nvidia-smi's name means the card of the offer: same model number, and the same Ti, SUPER or D behind it."""

    def model(name: str) -> tuple[str, frozenset[str]]:
        words = re.findall(r"[A-Z0-9]+", re.sub(r"(\d)(TI|SUPER|ADA)\b", r"\1 \2", name.upper()))
        number = next((w for w in words if any(c.isdigit() for c in w)), "")
        return number, frozenset(words) & {"TI", "SUPER", "D"}

    return model(offered)[0] != "" and model(offered) == model(reported)


INTEGRATION = Scenario(
    "integration",
    "until a rented GPU runs commands, and until it is gone again; checks the GPU and a file",
    tuple(name for name in PhaseName if name not in (PhaseName.UNATTRIBUTED, PhaseName.TOTAL)),
    work,
)
