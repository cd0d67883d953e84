"""The run of 2026-01-02, driven again by its own method, gives its own readings.

Here each figure is a least: how much a busy machine adds is measured by ``benchmarks/fidelity.py``.
"""

import subprocess
import time
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from vastbench.emulator import Emulator

SPEED = 20.0
EARLY_S = 0.01
"""The figures are printed with two decimals."""


def test_the_seeds_own_method_reads_the_seeds_own_figures(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with Emulator("seed", speed=SPEED) as emulator:
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        with httpx.Client(base_url=emulator.url, headers=headers, timeout=20, verify=False) as http:
            replay(http, key, emulator)


def replay(http: httpx.Client, key: Path, emulator: Emulator) -> None:
    """Search, create, poll by id every 10 s, then try SSH every 10 s, run the seed's commands, destroy."""
    http.get("/api/v0/gpu_names/unique/")
    http.post("/api/v0/ssh/", json={"ssh_key": key.with_suffix(".pub").read_text("utf-8")})
    search = {"gpu_name": {"eq": "RTX 4090"}, "num_gpus": {"eq": 1}, "order": [["dph_total", "asc"]], "limit": 64}
    offers, seconds = timed(lambda: http.post("/api/v0/bundles/", json=search).json()["offers"])
    assert seconds >= 1.26 - EARLY_S
    assert (len(offers), offers[0]["dph_total"]) == (64, 0.1689)

    order = {"image": "nvidia/cuda:12.1.0-base-ubuntu22.04", "disk": 20, "runtype": "ssh"}
    made, seconds = timed(lambda: http.put(f"/api/v0/asks/{offers[0]['id']}/", json=order).json())
    assert seconds >= 1.59 - EARLY_S
    instance = made["new_contract"]

    row, noted = poll(http, instance)
    changes = [event for event in emulator.events if event["event"] == "status" and event["instance"] == instance]
    for poll_ in noted:
        assert poll_.status in statuses_between(changes, poll_.sent, poll_.received)
    assert [status for status, _ in groupby(poll_.status for poll_ in noted)] == [None, "loading", "running"]
    drawn = [0.04, 0.66, 0.30, 0.30, 0.40, 0.40, 0.40, 0.27]
    assert len(noted) <= len(drawn)  # a late poll may see at once what the seed saw at the next
    for poll_, least in zip(noted, drawn, strict=False):
        assert poll_.received - poll_.sent >= least - EARLY_S
    assert changes[-1]["s"] - noted[0].sent > 62.5

    refused, _ = timed(lambda: ssh(row, key, "true"))
    assert refused != 0
    pause(10)
    for expected in (2.36, 2.09, 2.09, 2.13, 2.10, 2.11):
        status, seconds = timed(lambda: ssh(row, key, "nvidia-smi -L"))
        assert status == 0
        assert seconds >= expected
    answer, seconds = timed(lambda: http.delete(f"/api/v0/instances/{instance}/").json())
    assert answer["success"]
    assert seconds >= 0.48 - EARLY_S


class Poll(NamedTuple):
    """What one question by id was answered, and when it was sent and answered, in emulated seconds."""

    status: str | None
    sent: float
    received: float


def poll(http: httpx.Client, instance: int) -> tuple[dict[str, Any], list[Poll]]:
    """Ask every 10 s until it runs: the last row and every answer."""
    noted: list[Poll] = []
    while not noted or noted[-1].status != "running":
        if noted:
            pause(10)
        sent = time.monotonic() * SPEED
        row = http.get(f"/api/v0/instances/{instance}/").json()["instances"]
        noted.append(Poll(row["actual_status"], sent, time.monotonic() * SPEED))
    return row, noted


def statuses_between(changes: list[dict[str, Any]], sent: float, received: float) -> set[str | None]:
    """What the marketplace showed at any moment of a request."""
    before = [change["status"] for change in changes if change["s"] <= sent]
    return {before[-1] if before else None} | {change["status"] for change in changes if sent <= change["s"] <= received}


def ssh(row: dict[str, Any], key: Path, command: str) -> int:
    """The exit status of one command over a connection of its own."""
    options = ["-F", "none", "-i", str(key), "-p", str(row["ssh_port"]), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    return subprocess.run(["ssh", *options, f"root@{row['ssh_host']}", command], capture_output=True, check=False).returncode


def timed(act: Any) -> tuple[Any, float]:
    """What ``act`` gives, and how many emulated seconds it took."""
    begin = time.monotonic()
    result = act()
    return result, (time.monotonic() - begin) * SPEED


def pause(seconds: float) -> None:
    """The seed's own sleep, in emulated seconds."""
    time.sleep(seconds / SPEED)
