"""A small SSH machine on loopback whose accept behaviour a test scripts, and the relays to put before it."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any, Literal

import asyncssh

from vastbench.emulator.sshd import HeldPort
from vastbench.ssh.transport import Endpoint

BEFORE_SSH = ("closed", "close", "reset", "silent", "garbage", "http", "ssh1", "banner then silence", "banner then close")
"""What the machine can do before it speaks SSH properly; ``closed`` refuses the connection."""


class Machine:
    """One SSH endpoint on 127.0.0.1 that behaves as told from now on; connections are judged when they are accepted.

    Beyond ``BEFORE_SSH``: ``denied`` refuses every key (judged at each offer), ``password`` offers no public keys, ``broken``
    lets commands fail, ``no exec`` refuses them, ``drop`` ends the connection under a command, ``no status`` closes only the
    channel, ``ready`` runs commands for real.
    """

    def __init__(self, behaviour: str = "ready", *, banner_delay_s: float = 0.0, greeting: bytes = b"") -> None:
        self.behaviour = behaviour
        self.banner_delay_s = banner_delay_s
        self.greeting = greeting
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.truth: dict[str, tuple[float, float]] = {}
        self.offers: list[tuple[int, float]] = []
        self.accepted: list[float] = []
        self.commands: list[str] = []
        self._live: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._held = HeldPort()  # while it is closed, nobody else may take it
        self.port = self._held.number
        self._loop = asyncio.new_event_loop()
        self._children: list[asyncio.subprocess.Process] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._tasks: set[asyncio.Task[None]] = set()
        self.behave(behaviour)

    def endpoint(self, kind: Literal["proxy", "direct"] = "direct") -> Endpoint:
        return Endpoint(kind, "127.0.0.1", self.port)

    def behave(self, behaviour: str) -> None:
        """Change the behaviour now; ``truth`` notes the monotonic seconds just before and after the change."""
        before = time.monotonic()
        self._wait(self._apply(behaviour))
        self.truth.setdefault(behaviour, (before, time.monotonic()))

    def play(self, *script: tuple[str, float]) -> threading.Thread:
        """Behave in this way for so many seconds, then in the next; stays in the last."""

        def act() -> None:
            for behaviour, seconds in script:
                self.behave(behaviour)
                time.sleep(seconds)

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        return thread

    def drop_all(self) -> None:
        """Reset every connection."""
        self._wait(self._drop())

    def stop(self) -> None:
        self._wait(self._shut())
        self._held.release()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _apply(self, behaviour: str) -> None:
        self.behaviour = behaviour
        if behaviour == "closed" and self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener = None
            self._held.refuse()
        elif behaviour != "closed" and self._listener is None:
            self._listener = self._held.listen()
            self._loop.add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        """In one step, so that no connection is lost that is accepted while the machine is being stopped."""
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        self._live.append(sock)
        self.accepted.append(time.monotonic())
        task = self._loop.create_task(self._serve(sock, self.behaviour, len(self.accepted)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket, behaviour: str, number: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first = {
            "garbage": b"\x8f\x03\xff" * 200,
            "http": b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n",
            "ssh1": b"SSH-1.5-old\r\n",
        }
        if behaviour == "close":
            sock.close()
        elif behaviour == "reset":
            _reset(sock)
        elif behaviour in ("silent", "garbage", "http", "ssh1", "banner then silence", "banner then close"):
            words = first.get(behaviour, b"SSH-2.0-half\r\n" if behaviour.startswith("banner") else b"")
            if words:
                await self._loop.sock_sendall(sock, words)
            if behaviour == "banner then close":
                await asyncio.sleep(0.05)
                sock.close()
        else:
            await asyncio.sleep(self.banner_delay_s)
            if self.greeting:
                await self._loop.sock_sendall(sock, self.greeting)
            with contextlib.suppress(OSError, asyncssh.Error):
                await asyncssh.run_server(
                    sock,
                    server_factory=lambda: _Server(self, number),
                    server_host_keys=[self.host_key],
                    encoding=None,
                )

    async def _process(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = process.command or ""
        self.commands.append(command)
        if self.behaviour == "drop":
            await self._drop()
            return
        if self.behaviour == "no status":
            process.close()
            return
        if self.behaviour == "broken":
            process.stderr.write(b"not yet\n")
            process.exit(3)
            return
        child = await asyncio.create_subprocess_shell(command, stdin=-1, stdout=-1, stderr=-1, start_new_session=True)
        assert child.stdin is not None
        self._children.append(child)

        async def pump(source: Any, sink: Any, *, end: bool) -> None:
            with contextlib.suppress(OSError, asyncssh.Error):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            if end:
                with contextlib.suppress(OSError):
                    sink.close()

        feeding = asyncio.create_task(pump(process.stdin, child.stdin, end=True))
        await asyncio.gather(
            pump(child.stdout, process.stdout, end=False), pump(child.stderr, process.stderr, end=False), child.wait()
        )
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding
        process.exit(child.returncode or 0)
        if process.is_closing():
            await process.wait_closed()

    async def _drop(self) -> None:
        for sock in self._live:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    async def _shut(self) -> None:
        await self._apply("closed")
        await self._drop()
        await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        for child in self._children:
            if child.returncode is None:
                # One that has just ended is reaped before its return code is known here.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
            for pipe in (child.stdout, child.stderr):
                pipe._transport.close()  # a grandchild that left the group may hold it open
            await child.wait()
        for sock in self._live:
            with contextlib.suppress(OSError):
                sock.close()
        others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class _Server(asyncssh.SSHServer):
    def __init__(self, machine: Machine, number: int) -> None:
        self.machine, self.number = machine, number

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return self.machine.behaviour != "password"

    def password_auth_supported(self) -> bool:
        return self.machine.behaviour == "password"

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        self.machine.offers.append((self.number, time.monotonic()))
        return self.machine.behaviour != "denied"

    def session_requested(self) -> "_Process":
        return _Process(self.machine)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True


class _Process(asyncssh.SSHServerProcess[bytes]):
    def __init__(self, machine: Machine) -> None:
        super().__init__(machine._process, None, 3, False)
        self.machine = machine

    def exec_requested(self, command: str) -> bool:
        return self.machine.behaviour != "no exec"


class Relay:
    """Forwards one port to another until told to stop forwarding; connections then hang half-open."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._forwarding = threading.Event()
        self._forwarding.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        self._forwarding.clear()

    def stop(self) -> None:
        self._forwarding.set()
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._ends.append(near)
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends.append(far)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._forwarding.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A port that drops connection requests: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield listener.getsockname()[1]


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
