"""Emulated machines for tests: real sandboxes and real SSH on loopback."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import asyncssh

from vastbench.emulator.faults import Faults
from vastbench.emulator.machine import Isolation, Machine, MachineSpec, SshDelays, choose_isolation
from vastbench.emulator.pace import Pace
from vastbench.emulator.sshfaults import SshTrouble
from vastbench.emulator.truth import TruthLog

KEY = asyncssh.generate_private_key("ssh-ed25519")
PUBLIC = KEY.export_public_key().decode()
NO_DELAY = SshDelays(lambda: 0.0, lambda: 0.0)

SPEC = {
    "hostname": "C.900",
    "gpu_name": "RTX 4090",
    "gpu_count": 1,
    "gpu_ram_mb": 24564,
    "driver_version": "550.54.14",
    "cuda_version": "12.4",
    "disk_gb": 20.0,
    "onstart": None,
}


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    """Run one scenario in an event loop of its own, at most 60 real seconds."""
    return asyncio.run(asyncio.wait_for(scenario, 60))


def make(directory: Path, isolation: Isolation, **more: Any) -> Machine:
    """A machine that is not yet booted; ``more`` replaces parts of the spec, ``proxy``, ``direct`` or ``speed``."""
    pace = Pace(more.pop("speed", 1.0))
    truth = more.pop("truth", None) or TruthLog(pace.speed)
    proxy, direct = more.pop("proxy", NO_DELAY), more.pop("direct", NO_DELAY)
    marketplace_port = more.pop("marketplace_port", None)
    spec = MachineSpec(**({"id": 900} | SPEC | more))
    return Machine(
        spec,
        directory=directory,
        isolation=isolation,
        pace=pace,
        truth=truth,
        proxy=proxy,
        direct=direct,
        trouble=SshTrouble(Faults({}, 0), 900),
        marketplace_port=marketplace_port,
    )


@contextlib.contextmanager
def folder() -> Any:
    """A private temporary folder, as an emulator would make it."""
    path = Path(tempfile.mkdtemp(prefix="vastbench-test-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.asynccontextmanager
async def booted(kind: str, env: dict[str, str] | None = None, **more: Any) -> AsyncIterator[Machine]:
    """A running machine with SSH open to :data:`KEY`."""
    with folder() as path:
        machine = make(path / "900", await choose_isolation(kind), **more)
        try:
            await machine.boot(env or {})
            machine.authorize([PUBLIC])
            await machine.open_ssh()
            yield machine
        finally:
            await machine.destroy()


@contextlib.asynccontextmanager
async def connected(kind: str, **more: Any) -> AsyncIterator[tuple[Machine, asyncssh.SSHClientConnection]]:
    """The same, and a connection to it."""
    async with booted(kind, **more) as machine, login(machine) as ssh:
        yield machine, ssh


@contextlib.asynccontextmanager
async def login(
    machine: Machine, port: int | None = None, key: asyncssh.SSHKey = KEY
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection by ``key``, to the proxy port unless told."""
    options = {"username": "root", "client_keys": [key], "known_hosts": None, "agent_path": None, "config": None}
    async with asyncssh.connect("127.0.0.1", port or machine.proxy_port, **options) as ssh:
        yield ssh


SERVE = """python3 -c '
import socket, threading

def answer(one):
    with one, one.makefile("rb") as said:
        one.sendall(b"got " + said.readline())

with socket.create_server(("0.0.0.0", PORT)) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        threading.Thread(target=answer, args=(server.accept()[0],)).start()
'"""


@contextlib.asynccontextmanager
async def serving(ssh: asyncssh.SSHClientConnection, port: int = 0) -> AsyncIterator[int]:
    """A program in the machine that answers a line with "got " and the line, on all of its addresses; gives its port."""
    async with ssh.create_process(SERVE.replace("PORT", str(port))) as program:
        yield int(await program.stdout.readline())
        program.terminate()


async def said(ssh: asyncssh.SSHClientConnection, command: str) -> str:
    """What ``command`` wrote to both outputs, stripped."""
    done = await ssh.run(command, stderr=asyncssh.STDOUT)
    return str(done.stdout).strip()
