"""The run of 2026-01-02, driven again by its own method, gives its own readings."""

import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from vastbench.emulator import Emulator

SPEED = 20.0
SLACK_REAL_S = 0.06
"""What one request or connection may cost beyond its drawn time on a busy machine, in real seconds."""


def test_the_seeds_own_method_reads_the_seeds_own_figures(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with Emulator("seed", speed=SPEED) as emulator:
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        with httpx.Client(base_url=emulator.url, headers=headers, timeout=20) as http:
            replay(http, key, emulator)


def replay(http: httpx.Client, key: Path, emulator: Emulator) -> None:
    """Search, create, poll by id every 10 s, then try SSH every 10 s, run the seed's commands, destroy."""
    http.get("/api/v0/gpu_names/unique/")
    http.post("/api/v0/ssh/", json={"ssh_key": key.with_suffix(".pub").read_text("utf-8")})
    search = {"gpu_name": {"eq": "RTX 4090"}, "num_gpus": {"eq": 1}, "order": [["dph_total", "asc"]], "limit": 64}
    offers, seconds = timed(lambda: http.post("/api/v0/bundles/", json=search).json()["offers"])
    assert seconds == pytest.approx(1.26, abs=SLACK_REAL_S * SPEED)
    assert (len(offers), offers[0]["dph_total"]) == (64, 0.1689)

    order = {"image": "nvidia/cuda:12.1.0-base-ubuntu22.04", "disk": 20, "runtype": "ssh"}
    made, seconds = timed(lambda: http.put(f"/api/v0/asks/{offers[0]['id']}/", json=order).json())
    assert seconds == pytest.approx(1.59, abs=SLACK_REAL_S * SPEED)
    instance = made["new_contract"]

    row, noted = poll(http, instance)
    assert [status for status, _, _ in noted] == [None, None, "loading", "loading", "loading", "loading", "loading", "running"]
    drawn = [0.04, 0.66, 0.30, 0.30, 0.40, 0.40, 0.40, 0.27]
    for (_, _, took), expected in zip(noted, drawn, strict=True):
        assert expected - 0.01 <= took <= expected + SLACK_REAL_S * SPEED
    printed = [0.0, 10.7, 21.0, 31.3, 41.7, 52.1, 62.5, 72.77]
    for count, ((_, elapsed, _), expected) in enumerate(zip(noted, printed, strict=True), start=1):
        assert expected - 0.05 <= elapsed <= expected + count * SLACK_REAL_S * SPEED

    refused, _ = timed(lambda: ssh(row, key, "true"))
    assert refused != 0
    pause(10)
    for expected in (2.36, 2.09, 2.09, 2.13, 2.10, 2.11):
        status, seconds = timed(lambda: ssh(row, key, "nvidia-smi -L"))
        assert status == 0
        assert expected <= seconds <= expected + 0.5 * SPEED
    answer, seconds = timed(lambda: http.delete(f"/api/v0/instances/{instance}/").json())
    assert answer["success"]
    assert seconds == pytest.approx(0.48, abs=SLACK_REAL_S * SPEED)


def poll(http: httpx.Client, instance: int) -> tuple[dict[str, Any], list[tuple[str | None, float, float]]]:
    """Each answer's status, when it was noted since the first question, and how long it took; emulated seconds."""
    noted: list[tuple[str | None, float, float]] = []
    begin = time.monotonic()
    while not noted or noted[-1][0] != "running":
        if noted:
            pause(10)
        row, took = timed(lambda: http.get(f"/api/v0/instances/{instance}/").json()["instances"])
        noted.append((row["actual_status"], (time.monotonic() - begin) * SPEED, took))
    return row, noted


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
