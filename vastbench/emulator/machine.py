"""One emulated instance from its first boot to its end: files, processes, SSH."""

import asyncio
import contextlib
import itertools
import os
import shutil
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh

from vastbench.emulator import authorized, guest, leftovers
from vastbench.emulator.choosing import choose_isolation
from vastbench.emulator.isolation import NAMESPACE, PLAIN, Isolation
from vastbench.emulator.ollama import Line
from vastbench.emulator.ollama_server import OllamaServer, Pipes
from vastbench.emulator.pace import Pace
from vastbench.emulator.sandbox import Sandbox, SandboxError, open_sandbox
from vastbench.emulator.session import Traffic
from vastbench.emulator.spec import MachineSpec, SshDelays
from vastbench.emulator.sshd import Door, HeldPort, SshServer
from vastbench.emulator.sshfaults import SshTrouble
from vastbench.emulator.truth import TruthLog

__all__ = ["NAMESPACE", "PLAIN", "Isolation", "Machine", "MachineSpec", "SandboxError", "SshDelays", "choose_isolation"]

LOG_BYTES = 16_000_000
"""Bytes of what onstart writes that are kept: the first ones."""

DISK_LOOK_S = 0.25
"""Real seconds between two looks at how full a machine's disk is."""

LOG_LIMIT = 1_000_000
"""Characters of the container log that :meth:`Machine.logs` gives at most: the last ones."""


class Machine:
    """An instance's machine. All methods belong to one event loop.

    ``proxy_port`` and ``direct_port`` are loopback ports that refuse connections until :meth:`open_ssh`; ``proxy_port`` stays
    the same for the machine's life, ``direct_port`` (None without ``direct``) changes with every stop.
    """

    def __init__(
        self,
        spec: MachineSpec,
        *,
        directory: Path,
        isolation: Isolation,
        pace: Pace,
        truth: TruthLog,
        proxy: SshDelays,
        direct: SshDelays | None,
        trouble: SshTrouble,
        marketplace_port: int | None = None,
    ) -> None:
        """Reserve the ports; ``directory`` is made at the first boot and belongs to this machine alone.

        ``marketplace_port`` is the one port of the host's loopback that can be reached from inside, under the same number.
        Raises OSError when no port is free.
        """
        self.spec = spec
        self._directory = directory
        self._root = directory / "root"
        self._log_path = directory / "container.log"
        self._isolation = isolation
        self._pace = pace
        self._truth = truth
        self._trouble = trouble
        self._marketplace_port = marketplace_port
        self._traffic = Traffic()
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._keys: dict[bytes, str] = {}
        self._written: set[bytes] = set()
        self._proxy = Door(HeldPort(), proxy)
        self._direct = Door(HeldPort(), direct) if direct is not None else None
        self._model_port = None if isolation.name == NAMESPACE and isolation.own_network else HeldPort()
        self._pipes: Pipes | None = None
        self._ollama: OllamaServer | None = None
        self._sandbox: Sandbox | None = None
        self._server: SshServer | None = None
        self._onstart: Process | None = None
        self._logger: Process | None = None
        self._guard: asyncio.Task[None] | None = None
        self._booted = False
        self._destroyed = False
        self._changing = asyncio.Lock()

    def __repr__(self) -> str:
        """The instance and its ports."""
        return f"<Machine {self.spec.id} proxy={self.proxy_port} direct={self.direct_port}>"

    @property
    def proxy_port(self) -> int:
        """The port behind the proxy's address."""
        return self._proxy.port.number

    @property
    def direct_port(self) -> int | None:
        """The port behind the machine's own address; None without direct access."""
        return self._direct.port.number if self._direct is not None else None

    @property
    def bytes_up(self) -> int:
        """SSH payload out of the instance, in bytes."""
        return self._traffic.up

    @property
    def bytes_down(self) -> int:
        """SSH payload into the instance, in bytes."""
        return self._traffic.down

    @property
    def _disk_bytes(self) -> int:
        return int(self.spec.disk_gb * 1e9)

    @property
    def _doors(self) -> list[Door]:
        return [self._proxy, *([self._direct] if self._direct is not None else [])]

    async def boot(self, env: dict[str, str]) -> None:
        """Build the sandbox and start onstart in the background, with ``env`` as the container's environment.

        Files of an earlier boot are found again. Raises SandboxError when the walls cannot be built, or the machine is running
        or destroyed.
        """
        await _to_its_end(self._boot(env))

    async def _boot(self, env: dict[str, str]) -> None:
        async with self._changing:
            if self._destroyed:
                raise SandboxError(f"instance {self.spec.id} is destroyed")
            if self._sandbox is not None:
                raise SandboxError(f"instance {self.spec.id} is running already")
            ports = [port for port in (self._marketplace_port, self.proxy_port, self.direct_port) if port is not None]
            sandbox = open_sandbox(self._isolation, self._root, self.spec, ports)
            if not self._booted:
                await asyncio.to_thread(self._build, sandbox)
            self._booted = True
            try:
                before = time.monotonic_ns()
                await sandbox.start()
                self._truth.write("container_started", self.spec.id, not_before_ns=before)
                self._sandbox = sandbox
                self._write_keys()
                self._server = SshServer(
                    sandbox,
                    self._pace,
                    self._host_key,
                    self._traffic,
                    lambda: self._keys.keys(),
                    lambda line: self._log(line),
                    self._trouble,
                )
                marketplace = sandbox.inside.get(self._marketplace_port or 0)
                if marketplace is not None:
                    marketplace.listen()
                if self.spec.onstart is not None:
                    await self._run_onstart(sandbox, env)
                if marketplace is not None:
                    self._server.start(self._server.pass_on(marketplace))
                self._guard = asyncio.create_task(self._guard_disk(sandbox))
                if self._pipes is not None:
                    line = Line(self.spec.inet_down * 1e6 / 8, lambda size: self._traffic.count(0, size))
                    self._ollama = OllamaServer(sandbox, self._pace, self._pipes, line, self._log)
                    self._ollama.watch()
            except BaseException:
                self._sandbox = self._server = None
                await sandbox.stop()
                raise

    def _build(self, sandbox: Sandbox) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        self._log_path.touch(mode=0o600)
        self._root.mkdir(mode=0o700)
        spec = replace(self.spec, onstart=sandbox.localise(self.spec.onstart)) if self.spec.onstart is not None else self.spec
        model_port = None if self._model_port is None else self._model_port.number
        around = guest.Surroundings(sandbox.prefix, self.proxy_port, model_port, self._pace.speed)
        guest.build(self._root, spec, sandbox.uid, around)
        self._pipes = Pipes(self._root, sandbox.uid)

    async def _run_onstart(self, sandbox: Sandbox, env: dict[str, str]) -> None:
        read, write = os.pipe()
        try:
            # A process of its own reads it: a script that writes without end would hold up everything in this one.
            keep = ["/bin/sh", "-c", f"head -c {LOG_BYTES}; exec cat >/dev/null"]
            with self._log_path.open("ab") as log:
                self._logger = await asyncio.create_subprocess_exec(*keep, stdin=read, stdout=log, stderr=DEVNULL, env={})
            before = time.monotonic_ns()
            self._onstart = await sandbox.spawn(guest.onstart_argv(sandbox.prefix), stdin=PIPE, stdout=write, stderr=write)
        finally:
            os.close(read)
            os.close(write)
        self._truth.write("onstart_started", self.spec.id, not_before_ns=before)
        assert self._onstart.stdin is not None  # noqa: S101
        with contextlib.suppress(OSError):
            if self.spec.bare:
                env = env | {"PATH": guest.bare_path(sandbox.prefix)}
            self._onstart.stdin.write(guest.exports(sandbox.prefix, env))
            await self._onstart.stdin.drain()
        self._onstart.stdin.close()

    async def _guard_disk(self, sandbox: Sandbox) -> None:
        """Let nothing more be written once the machine's files have become as large as the disk that was rented.

        Counting them takes a millisecond or more: it is done every five seconds, and when the host's disk has lost as much.
        """
        before = shutil.disk_usage(self._directory).free
        for look in itertools.count():
            lost = before - shutil.disk_usage(self._directory).free
            if (lost >= self._disk_bytes or look % 20 == 19) and (
                await asyncio.to_thread(_size, self._root) >= self._disk_bytes
            ):
                break
            await asyncio.sleep(DISK_LOOK_S)
        self._log(f"disk: the {self.spec.disk_gb:g} GB that were rented are full; nothing can be written any more")
        sandbox.write_no_more()

    async def open_ssh(self, *, silent: bool = False) -> None:
        """Let both ports accept connections; ``silent``: no SSH answers there before :meth:`answer_ssh`.

        Raises SandboxError when the machine is not running.
        """
        async with self._changing:
            if self._server is None:
                raise SandboxError(f"instance {self.spec.id} is not running")
            if silent:
                self._server.answering.clear()
            before, after = await self._server.open(self._doors)
            for door in self._doors:
                self._log(f"sshd: listening on port {door.port.number}")
            at_s = after * self._pace.speed / 1e9
            port = self.direct_port or self.proxy_port
            self._truth.write("ssh_open", self.spec.id, at_s=at_s, not_before_ns=before, port=port)

    def answer_ssh(self) -> None:
        """Let SSH answer on the open ports from now on."""
        if self._server is not None:
            self._server.answering.set()

    def fall_silent(self) -> None:
        """Lose the network: connections stand and carry nothing, new ones are never answered. What runs inside goes on."""
        if self._server is not None:
            self._server.fall_silent()

    def authorize(self, public_keys: Iterable[str]) -> None:
        """Accept exactly these keys (lines in authorized_keys form) from now on; what is no key is left out, and logged."""
        known = {}
        for line in public_keys:
            try:
                known[asyncssh.import_public_key(line).public_data] = line
            except asyncssh.KeyImportError as error:
                self._log(f"sshd: a line of authorized_keys is no key: {error}")
        self._keys = known
        self._write_keys()

    def _write_keys(self) -> None:
        """Show the accepted keys where the machine's own programs look for them; from its first boot on."""
        if self._sandbox is None or not (self._keys or self._written):
            return
        before = time.monotonic_ns()
        root = self._sandbox.open_root()
        try:
            authorized.write(root, self._sandbox.uid, self._keys.values())
        except OSError as error:
            self._log(f"sshd: authorized_keys cannot be written: {error.strerror}")
            return
        finally:
            os.close(root)
        for data in self._keys.keys() - self._written:
            key = asyncssh.import_public_key(self._keys[data])
            mark, comment = key.get_fingerprint(), key.get_comment()
            self._truth.write("key_written", self.spec.id, not_before_ns=before, key=mark, comment=comment)
        self._written |= self._keys.keys()

    def logs(self) -> str:
        """The container's log: what onstart wrote, and sshd's start; the last :data:`LOG_LIMIT` bytes."""
        try:
            with self._log_path.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_LIMIT))
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def _log(self, line: str) -> None:
        if self._log_path.exists():
            with self._log_path.open("ab") as log:
                log.write(f"{line}\n".encode())

    async def stop(self) -> None:
        """Close the ports, drop connections, kill every process; the files stay. Idempotent."""
        await _to_its_end(self._stop())

    async def _stop(self) -> None:
        async with self._changing:
            was_up = self._sandbox is not None
            await self._take_down()
            if was_up and self._direct is not None:  # now, so that the next boot's environment can name the new port
                self._direct.port.release()
                self._direct = Door(HeldPort(), self._direct.delays)

    async def _take_down(self) -> None:
        server, sandbox, onstart = self._server, self._sandbox, self._onstart
        self._server = self._sandbox = self._onstart = None
        logger, guard, self._logger, self._guard = self._logger, self._guard, None, None
        if guard is not None:
            guard.cancel()
            await asyncio.wait({guard})
        self._written = set()
        ollama, self._ollama = self._ollama, None
        if server is not None:
            server.close(self._doors)
        if ollama is not None:
            await ollama.close()
        if sandbox is not None:
            await sandbox.stop()
        if server is not None:  # only now: a session may wait for what the kill has ended
            await server.wait_closed()
        if onstart is not None:
            await onstart.wait()
        if logger is not None:  # nobody is left who writes
            await logger.wait()

    async def destroy(self) -> None:
        """Stop, give the ports back, remove the files. Idempotent."""
        await _to_its_end(self._destroy())

    async def _destroy(self) -> None:
        async with self._changing:
            await self._take_down()
            self._destroyed = True
            for door in self._doors:
                door.port.release()
            if self._model_port is not None:
                self._model_port.release()
            if self._pipes is not None:
                self._pipes.close()
                self._pipes = None
            await asyncio.to_thread(leftovers.empty, self._directory)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do ``work`` to its end although the caller is cancelled meanwhile: nobody would take up what is left half-way."""
    task, cancelled = asyncio.ensure_future(work), None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from task.exception()
    task.result()


def _size(directory: Path) -> int:
    """The bytes on disk of a tree's files."""
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(Path(folder) / name).st_blocks * 512
    return total
