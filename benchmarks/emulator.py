"""How fast, how small and how punctual the emulator is: ``python benchmarks/emulator.py [--instances 200] [--quick]``.

The emulator runs as a process of its own, started by ``vastbench emulator``; this process is its only client, on the same
cores. Every delay of its profile is fixed, so what a client waits beyond the drawn value is known for each request and session.
The client's own work (HTTP, SSH handshakes) counts against the emulator. Exit status: 0, or 1 when a limit is missed.
"""

import argparse
import asyncio
import gc
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncssh
import httpx
from figures import Row, show
from stand import Emulator

API, CREATE = 0.1, 0.2  # drawn seconds of every fixed delay
APPEARS, RUNNING, ACCEPTS, KEY_LAG = 1.0, 3.0, 1.0, 0.5
CONNECTION, LOGIN_SHARE, GONE = 1.0, 0.75, 1.0
TOLERANCE = 0.05
CORES = 2
ONSTART = "echo $CONTAINER_ID >/workspace/began"

PROFILE = f"""
extends = "default"
about = "Everything fixed, nothing fails, and calls may follow each other at once"
[latency]
search = {{ kind = "fixed", value = {API}, basis = "assumption" }}
create = {{ kind = "fixed", value = {CREATE}, basis = "assumption" }}
status = {{ kind = "fixed", value = {API}, basis = "assumption" }}
list = {{ kind = "fixed", value = {API}, basis = "assumption" }}
destroy = {{ kind = "fixed", value = {API}, basis = "assumption" }}
other = {{ kind = "fixed", value = {API}, basis = "assumption" }}
effect = {{ value = 0.5, basis = "assumption" }}
[boot]
appears = {{ kind = "fixed", value = {APPEARS}, basis = "assumption" }}
created_first = {{ p = 0, basis = "assumption" }}
running = {{ kind = "fixed", value = {RUNNING}, basis = "assumption" }}
never = {{ p = 0, basis = "assumption" }}
oci_error = {{ p = 0, basis = "assumption" }}
exits = {{ p = 0, basis = "assumption" }}
[ssh]
accepts = {{ kind = "fixed", value = {ACCEPTS}, basis = "assumption" }}
auth_never = {{ p = 0, basis = "assumption" }}
account_key_lag = {{ kind = "fixed", value = {KEY_LAG}, basis = "assumption" }}
proxy = {{ kind = "fixed", value = {CONNECTION}, basis = "assumption" }}
direct = {{ kind = "fixed", value = {CONNECTION}, basis = "assumption" }}
login_share = {{ value = {LOGIN_SHARE}, basis = "assumption" }}
[lag]
gone = {{ kind = "fixed", value = {GONE}, basis = "assumption" }}
[limits]
search = {{ count = 1000, seconds = 1, basis = "assumption" }}
create = {{ seconds = 0, basis = "assumption" }}
list = {{ seconds = 0, basis = "assumption" }}
status = {{ seconds = 0, basis = "assumption" }}
destroy = {{ seconds = 0, basis = "assumption" }}
[market]
offer_gone = {{ p = 0, basis = "assumption" }}
offer_gone_stale = {{ p = 0, basis = "assumption" }}
"""


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


@dataclass
class Life:
    """What one instance's client saw; monotonic seconds."""

    id: int
    due: float
    port_seen: float = 0.0
    login_s: float = 0.0
    command_s: float = 0.0
    connection: asyncssh.SSHClientConnection | None = None
    seen: list[tuple[float, float, bool]] = field(default_factory=list)


class Fleet:
    """Instances on one emulator, and the client that rents, watches and uses them."""

    def __init__(self, emulator: Emulator, http: httpx.AsyncClient) -> None:
        """Start with none."""
        self.emulator = emulator
        self.http = http
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.lives: list[Life] = []
        self.failures: list[str] = []

    async def api(self, method: str, path: str, **more: Any) -> Any:
        """The answer to a call; HTTPStatusError when it is refused."""
        reply = await self.http.request(method, path, **more)
        return reply.raise_for_status().json()

    async def rent(self, count: int) -> None:
        """Rent ``count`` instances one after another; return when each has run its first command."""
        await self.api("POST", "/api/v0/ssh/", json={"ssh_key": self.key.export_public_key().decode()})
        offers: list[dict[str, Any]] = []
        order = {"image": "ubuntu:22.04", "disk": 10.0, "runtype": "ssh_direc ssh_proxy", "onstart": ONSTART}
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                offers = offers or (await self.api("POST", "/api/v0/bundles/", json={}))["offers"]
                sent = time.monotonic()
                try:
                    created = await self.api("PUT", f"/api/v0/asks/{offers.pop()['id']}/", json=order)
                except httpx.HTTPError as error:
                    self.failures.append(f"a create request: {error}")
                    continue
                life = Life(created["new_contract"], sent + CREATE / 2 + RUNNING)
                self.lives.append(life)
                group.create_task(self._guarded(self._follow(life), life))

    async def _guarded(self, work: Coroutine[Any, Any, Any], life: Life) -> None:
        try:
            await work
        except (httpx.HTTPError, asyncssh.Error, OSError, ValueError) as error:
            self.failures.append(f"instance {life.id}: {type(error).__name__}: {error}")

    async def _follow(self, life: Life) -> None:
        # Sent so that it is read 30 ms before the tolerance begins, and then when the tolerance ends.
        await self._look(life, life.due - API - 0.03)
        row = await self._look(life, life.due)
        address = ("127.0.0.1", int(row["ssh_port"]))
        await _until(life.due + ACCEPTS - 2 * TOLERANCE)
        life.port_seen = await self._first_accepted(address)
        await _until(life.port_seen + KEY_LAG + 2 * TOLERANCE)
        began = time.monotonic()
        life.connection = await asyncssh.connect(
            *address, username="root", client_keys=[self.key], known_hosts=None, config=None, agent_path=None
        )
        inside = time.monotonic()
        done = await life.connection.run("cat /workspace/began")
        life.login_s, life.command_s = inside - began, time.monotonic() - inside
        if done.exit_status != 0 or str(done.stdout).strip() != str(life.id):
            raise ValueError(f"the first command answered {done.exit_status}: {done.stdout!r} {done.stderr!r}")

    async def _look(self, life: Life, at: float) -> dict[str, Any]:
        await _until(at)
        sent = time.monotonic()
        row: dict[str, Any] = (await self.api("GET", f"/api/v0/instances/{life.id}/"))["instances"]
        life.seen.append((sent, time.monotonic(), row["actual_status"] == "running"))
        return row

    async def _first_accepted(self, address: tuple[str, int]) -> float:
        while True:
            with socket.socket() as one:
                one.setblocking(False)
                try:
                    await asyncio.get_running_loop().sock_connect(one, address)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.002)
                else:
                    return time.monotonic()

    @asynccontextmanager
    async def commands(self) -> AsyncIterator[None]:
        """Every instance runs one command meanwhile."""
        running = []
        for life in self.lives:
            if life.connection is not None:
                process = await life.connection.create_process("echo up; cat")
                running.append((life, process, asyncio.create_task(process.stdout.readline())))
        for life, process, line in running:
            if await line != "up\n":
                self.failures.append(f"instance {life.id}: a command said {await process.stderr.read()!r}")
        yield
        for _, process, _ in running:
            process.stdin.write_eof()
            await process.wait()

    async def answers(self, name: str, method: str, path: str, count: int, **more: Any) -> Row:
        """How long a call takes beyond its drawn latency."""
        excess = []
        for _ in range(count):
            began = time.monotonic()
            await self.api(method, path, **more)
            excess.append((time.monotonic() - began - API) * 1e3)
        return Row(f"API beyond the drawn latency: {name}", "ms", excess, 20, "median")

    async def destroy(self, lives: list[Life]) -> float:
        """Destroy these; seconds from the first request until the list lacks them all."""
        began = time.monotonic()
        for life in lives:
            await self._guarded(self.api("DELETE", f"/api/v0/instances/{life.id}/", json={}), life)
        await asyncio.sleep(GONE)
        wanted = {life.id for life in self.lives} - {life.id for life in lives}
        while (await self.api("GET", "/api/v0/instances/count/"))["count"] > len(wanted):
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    def punctuality(self) -> list[Row]:
        """How far from the drawn moments things happened, by the truth log and by what the clients saw."""
        created = {i: ns / 1e9 for i, ns in self.emulator.events("create_effective").items()}

        def off(event: str, drawn: float, **more: str) -> list[float]:
            return [abs(ns / 1e9 - created[i] - drawn) * 1e3 for i, ns in self.emulator.events(event, **more).items()]

        met = [life for life in self.lives if life.connection is not None]
        # A call reads after half of its latency: sent at the due moment it must see the change, answered by then it must not.
        seen = [(sent, got, up, created[life.id] + RUNNING) for life in met for sent, got, up in life.seen]
        wrong = sum((sent >= due and not up) or (got <= due and up) for sent, got, up, due in seen)
        opened = created | {life.id: created[life.id] + RUNNING + ACCEPTS for life in met}
        figures = {
            "status running (truth log)": off("status", RUNNING, status="running"),
            "SSH port open (truth log)": off("ssh_open", RUNNING + ACCEPTS),
            "SSH port open (seen by connecting)": [abs(life.port_seen - opened[life.id]) * 1e3 for life in met],
            "key usable (truth log)": off("ssh_ready", RUNNING + ACCEPTS + KEY_LAG),
            "connection and login": [abs(life.login_s - CONNECTION * LOGIN_SHARE) * 1e3 for life in met],
            "command": [abs(life.command_s - CONNECTION * (1 - LOGIN_SHARE)) * 1e3 for life in met],
            "connection, login and command": [abs(life.login_s + life.command_s - CONNECTION) * 1e3 for life in met],
        }
        rows = [Row(f"off the drawn delay: {name}", "ms", values, TOLERANCE * 1e3) for name, values in figures.items()]
        return [*rows, Row(f"status by GET wrong by {TOLERANCE * 1e3:g} ms, of {len(seen)} looks", "looks", [wrong], 0)]


async def _serve(emulator: Emulator, instances: int, calls: int) -> tuple[list[Row], list[str]]:
    headers = {"Authorization": f"Bearer {emulator.key}"}
    async with httpx.AsyncClient(base_url=emulator.url, headers=headers, timeout=30) as http:
        fleet = Fleet(emulator, http)
        await fleet.rent(instances)
        listed = (await fleet.api("GET", "/api/v1/instances/"))["total_instances"]
        if listed != instances:
            fleet.failures.append(f"{listed} instances are listed instead of {instances}")
        first = fleet.lives[0].id
        rows = [
            Row("instances listed", "", [listed]),
            Row("SSH sessions open", "", [sum(life.connection is not None for life in fleet.lives)]),
            await fleet.answers("instance by id", "GET", f"/api/v0/instances/{first}/", calls),
            await fleet.answers("list, one page", "GET", "/api/v1/instances/", calls),
            await fleet.answers("search", "POST", "/api/v0/bundles/", calls, json={"gpu_name": {"eq": "RTX 4090"}}),
            *fleet.punctuality(),
        ]
        async with fleet.commands():
            rows.append(Row("memory (PSS), each instance running a command", "MB", [emulator.pss_mb()], 1000))
            rows.append(Row("processes meanwhile", "", [len(emulator.family())]))
        # The other half is left to SIGTERM.
        half = fleet.lives[::2]
        rows.append(Row(f"destroying {len(half)} in turn, drawn delays included", "s", [await fleet.destroy(half)]))
    rows.append(Row("failures of instances and calls", "", [len(fleet.failures)], 0))
    return rows, fleet.failures


def main() -> None:
    """Measure, print the table, and exit with 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description="Measure the emulator against its limits.")
    parser.add_argument("--instances", type=int, help="how many run at once (default 200; with --quick 20)")
    parser.add_argument("--quick", action="store_true", help="fewer instances and repetitions: under half a minute")
    parser.add_argument("--no-limits", action="store_true", help="only show the figures: exit with 0 whatever they are")
    options = parser.parse_args()
    instances = (20 if options.quick else 200) if options.instances is None else options.instances
    if not 1 <= instances <= 250:
        parser.error(f"--instances {instances}: the market has room for 1 to 250")
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    # The client's own full collections would be taken for the emulator's delays.
    gc.freeze()

    starts = []
    for _ in range(2 if options.quick else 7):
        one = Emulator(PROFILE)
        starts.append((one.printed_s, one.answered_s))
        one.stop()
    emulator = Emulator(PROFILE)
    try:
        rows, failures = asyncio.run(_serve(emulator, instances, 10 if options.quick else 60))
    finally:
        stopped_s, left = emulator.stop()
    rows = [
        Row("start, to the first export line", "s", [printed for printed, _ in starts], 1),
        Row("start, to the first answer", "s", [answered for _, answered in starts], 1),
        *rows,
        Row(f"SIGTERM with {instances // 2} running, to the exit", "s", [stopped_s]),
        Row("left behind (processes, ports, files)", "", [len(left)], 0),
    ]
    missed = show(f"Emulator at speed 1, {instances} instances, its client on the same cores", rows, len(cores))
    for line in [*failures, *left]:
        print(line)
    print(f"Missed: {'; '.join(missed)}." if missed else "All limits kept.")
    sys.exit(1 if missed and not options.no_limits else 0)


if __name__ == "__main__":
    main()
