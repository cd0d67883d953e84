"""From ``ollama serve`` inside a machine to a server that listens in its network, and back when that process ends.

The program inside holds a pipe open for as long as it lives; the server itself is the emulator's. It listens on a socket of
the machine's own network, where the machine has one.
"""

import asyncio
import contextlib
import math
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import uvicorn

from vastbench.emulator.network import LOOPBACK
from vastbench.emulator.ollama import Line, Ollama
from vastbench.emulator.ollama_program import PORT
from vastbench.emulator.ollama_store import ModelStore, StoreError
from vastbench.emulator.pace import Pace
from vastbench.emulator.sandbox import Sandbox, SandboxError

_LONGEST_LINE = 4096
_READING = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Pipes:
    """The two named pipes of a machine: the one that its program holds open, and the one that tells it what went wrong.

    They are opened before anything runs inside, and never looked for by their names again: by then these could lead anywhere.
    """

    def __init__(self, root: Path, owner: int | None) -> None:
        """Make them below ``root`` for the host user ``owner``. Raises OSError."""
        folder = root / "run/ollama"
        folder.mkdir()
        made = [folder, folder / "serve", folder / "error"]
        for path in made[1:]:
            os.mkfifo(path, 0o600)
        if owner is not None:
            for path in made:
                os.chown(path, owner, owner)
        self._path = made[1]
        self.heard = os.open(made[1], _READING)
        self._error = os.open(made[2], os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def renew(self) -> None:
        """Hear the next program: a pipe that its writer has left says so for ever."""
        again = Path(f"/proc/self/fd/{self.heard}")
        fresh = os.open(again if again.exists() else self._path, _READING)
        if not stat.S_ISFIFO(os.fstat(fresh).st_mode):
            os.close(fresh)
            return
        os.close(self.heard)
        self.heard = fresh

    def refuse(self, words: str) -> None:
        """Tell the program inside why it does not serve."""
        with contextlib.suppress(OSError):
            os.write(self._error, f"{words}\n".encode())

    def close(self) -> None:
        """Let go of them."""
        os.close(self.heard)
        os.close(self._error)


class OllamaServer:
    """What a running machine has of Ollama."""

    def __init__(self, sandbox: Sandbox, pace: Pace, pipes: Pipes, line: Line, log: Callable[[str], None]) -> None:
        """Take the machine's walls, pipes and line; nothing is heard before :meth:`watch`."""
        self._sandbox, self._pace, self._pipes, self._line, self._log = sandbox, pace, pipes, line, log
        self._serving: asyncio.Task[None] | None = None
        self._ollama: Ollama | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._watched = -1

    def watch(self) -> None:
        """Serve whenever the machine's program runs."""
        self._watched = self._pipes.heard
        asyncio.get_running_loop().add_reader(self._watched, self._hear)

    async def close(self) -> None:
        """Serve no more."""
        asyncio.get_running_loop().remove_reader(self._watched)
        self._end()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _hear(self) -> None:
        try:
            said = os.read(self._pipes.heard, _LONGEST_LINE)
        except BlockingIOError:
            return
        if said:
            if self._serving is None:
                self._serving = asyncio.create_task(self._serve(said.decode(errors="replace").split("\n")[0]))
            return
        asyncio.get_running_loop().remove_reader(self._watched)
        self._pipes.renew()
        self._end()
        self.watch()

    def _end(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            self._ending.add(self._serving)
            self._serving.add_done_callback(self._ending.discard)
            self._serving = None

    async def _serve(self, said: str) -> None:
        address, _, rest = said.partition(" ")
        parallel, _, folder = rest.partition(" ")
        last = address.rpartition(":")[2].rstrip("/")
        port = int(last) if last.isdecimal() and 0 < int(last) < 65_536 else PORT
        try:
            listening = await self._listening(port)
        except (OSError, SandboxError) as error:
            words = str(error.strerror if isinstance(error, OSError) else error).lower()
            self._pipes.refuse(f"listen tcp {LOOPBACK}:{port}: bind: {words}")
            return
        ollama = self._ollama = Ollama(
            ModelStore(self._sandbox, folder),
            self._pace,
            self._line,
            self._hold,
            int(parallel) if parallel.isdecimal() and int(parallel) else 1,
        )
        config = uvicorn.Config(
            ollama.app(), http="h11", ws="none", lifespan="off", log_config=None, log_level="critical", access_log=False
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await asyncio.shield(serving)
        finally:
            server.should_exit = server.force_exit = True
            for connection in server.server_state.connections:
                connection.transport.abort()
            await asyncio.gather(serving, *server.server_state.tasks, return_exceptions=True)
            listening.close()  # only now: the loop would go on looking at whatever has its number next
            await ollama.close()

    async def _listening(self, port: int) -> socket.socket:
        sock = await self._sandbox.tcp_socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # the port may be held for it
            sock.bind((LOOPBACK, port))
            sock.listen(128)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _hold(self, memory_bytes: int) -> None:
        """Let nvidia-smi say how much of the first GPU's memory is held."""
        script = 'echo "$1" >"$2/opt/nvidia/bin/nvidia-smi.used"'
        try:
            mib = math.ceil(memory_bytes / 2**20)
            await ModelStore(self._sandbox, "").run(script, str(mib), self._sandbox.prefix)
        except (StoreError, SandboxError) as error:
            self._log(f"ollama: the memory that it holds cannot be shown: {error}")
