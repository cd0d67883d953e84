"""The walls around one emulated machine: a namespace set of its own, or a plain folder where the system allows no better.

A namespaced machine is built in two storeys, both under an unprivileged host user. The first owns the mounts: the machine's
folder becomes the root, programs are bound read-only, the host's root is detached. The second, in which everything runs, only
inherits them: the kernel locks inherited mounts, so that not even the machine's root can remove or remount them. Its process
tree hangs on one ``cat`` that ends with our end of a pipe.
"""

import asyncio
import contextlib
import os
import resource
import secrets
import shutil
import signal
import socket
import stat
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Protocol

from vastbench.emulator import faultyclock, guest
from vastbench.emulator.isolation import NAMESPACE, Isolation
from vastbench.emulator.network import made_inside
from vastbench.emulator.spec import MachineSpec

MOST_PROCESSES = 256
"""Processes and threads that a machine may have at once."""

BOOT_LIMIT_S = 20.0
"""Real seconds after which a sandbox that is not up counts as broken."""

_SPARE = 8
"""Sockets for connections into a machine that are made at a time: making one takes as long as making many."""

REFUSED = (
    "refused: without namespaces this command would run as the emulator's own user, with all of that user's files. "
    "`vastbench doctor` says what to allow; `vastbench run` runs its own commands without."
)
"""What a machine says to a command of somebody else where nothing would keep it from the user's files."""

_HOST_ENV = {"PATH": os.defpath + ":/usr/sbin:/sbin"}
_MARK = "VASTBENCH_MACHINE"

_Stream = int | IO[bytes]


class SandboxError(Exception):
    """A sandbox could not be built; the text says what the system answered."""


class Sandbox(Protocol):
    """What a machine needs from its walls."""

    prefix: str
    """What stands before the machine's own paths: "" when it has its own root."""

    uid: int | None
    """The host user its processes run as; None: the emulator's own."""

    inside: dict[int, socket.socket]
    """Its own sockets, by the ports of its own loopback that they are bound to; none where its loopback is the host's."""

    async def start(self) -> None:
        """Build the walls. Raises SandboxError."""

    async def prove(self) -> None:
        """Build the walls and run one command inside. Raises SandboxError when any of it fails."""

    async def spawn(
        self, argv: Sequence[str], *, stdin: _Stream, stdout: _Stream, stderr: _Stream, tty: bool = False
    ) -> Process:
        """Start ``argv`` inside, in its own process group (``tty``: with standard input as its terminal)."""

    def signal(self, process: Process, number: int) -> None:
        """Send a signal to the process group of a spawned process; nothing happens when it has ended."""

    async def tcp_socket(self) -> socket.socket:
        """A TCP socket in the network that the machine sees, neither bound nor connected. Raises SandboxError or OSError."""

    def open_root(self) -> int:
        """A descriptor of the machine's root folder as the machine sees it; the caller closes it."""

    def localise(self, command: str) -> str:
        """``command`` with the machine's paths replaced where the walls cannot do it."""

    def write_no_more(self) -> None:
        """Let no file of the machine grow any more."""

    async def stop(self) -> None:
        """Kill every process of the machine and return when none is left. Idempotent."""


def open_sandbox(isolation: Isolation, root: Path, spec: MachineSpec, ports: Sequence[int] = ()) -> Sandbox:
    """The sandbox of the chosen kind over the folder ``root`` for the machine of ``spec``, not yet started.

    A network of its own has these ``ports`` bound inside. A plain folder shows the host's clock and disk, whatever the spec
    says of them.
    """
    uid, disk_bytes = isolation.uid(spec.id), int(spec.disk_gb * 1e9)
    if isolation.name == NAMESPACE:
        spoil = faultyclock.FAULTS[spec.clock] + (_FULL_DISK if spec.full_disk else "")
        held = ports if isolation.own_network else None
        return NamespaceSandbox(root, hostname=spec.hostname, uid=uid, disk_bytes=disk_bytes, spoil=spoil, ports=held)
    return PlainSandbox(root, uid=uid, disk_bytes=disk_bytes, refuses=isolation.exposes_user and isolation.for_others)


def _tool(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        raise SandboxError(f"there is no {name}")
    return path


def _as_user(uid: int | None) -> list[str]:
    """The words that give up the host's privileges, for good, and tie the process's life to ours."""
    user = [] if uid is None else [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [_tool("setpriv"), *user, "--no-new-privs", "--pdeathsig=KILL", "--"]


def _host_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setblocking(False)
    return sock


def _only_child(pid: int) -> int | None:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


_FIRST_STOREY = r"""
set -e
echo apart
mount --no-canonicalize --bind . "$1"
cd "$1"
for tree in $2; do
  mkdir -p "$tree"
  mount --rbind "/$tree" "$tree"
  mount -o remount,bind,ro "$tree"
done
mkdir -p dev proc
mount -t tmpfs -o size=64m,mode=755 dev dev
for node in null zero full random urandom tty; do
  : >"dev/$node"
  mount --bind "/dev/$node" "dev/$node"
done
mkdir -m 1777 dev/shm
mkdir dev/pts
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mount -t proc proc proc
pivot_root . .
umount -l .
exec unshare --user --map-root-user --mount --pid --uts --ipc --fork --kill-child -- /bin/sh -c "$3" storey "$4" "$5"
"""
# The inherited /proc shows the first storey only; the machine's own lies over it.

_SECOND_STOREY = r"""
set -e
cd /
mount -t proc proc /proc
hostname "$1" 2>/dev/null || :
eval "$2"
echo up
exec env -i --ignore-signal=CHLD cat >/dev/null 2>&1
"""
# CHLD is ignored: the kernel then reaps what daemons leave to this process, which never waits.

_FULL_DISK = """
for folder in /workspace /tmp /var/tmp; do
  mount -t tmpfs -o size=4k,nr_inodes=1,mode=1777 full $folder
done
"""
# The one inode is the folder itself: whoever makes a file there is told that no space is left.


class NamespaceSandbox:
    """Namespaces for users, mounts, processes, host name, IPC, and the network: a loopback and nothing else.

    The network belongs to the first storey, so that the machine's root cannot change it. The emulator reaches it by sockets
    that were made inside.
    """

    def __init__(
        self,
        root: Path,
        *,
        hostname: str,
        uid: int | None,
        disk_bytes: int,
        spoil: str = "",
        ports: Sequence[int] | None = (),
    ) -> None:
        """Take the folder that becomes the machine's root, its host name, its host user, shell text that spoils it, and the
        ports to bind inside (None: the network is the host's)."""
        self.prefix = ""
        self.uid = uid
        self.inside: dict[int, socket.socket] = {}
        self._ports = ports
        self._spare: list[socket.socket] = []
        self._making: asyncio.Task[None] | None = None
        self._file_bytes = disk_bytes
        self._root = root
        self._hostname = hostname
        self._spoil = spoil
        self._outer: Process | None = None
        self._first: int | None = None
        self._inner: int | None = None

    async def start(self) -> None:
        """Build both storeys (30–60 ms). Raises SandboxError with the system's own words."""
        stage = next((p for p in ("/mnt", "/srv", "/media", "/tmp") if Path(p).is_dir()), "/")  # noqa: S108
        trees = [t for t in guest.SHARED_TREES if (host := Path("/") / t).is_dir() and not (host.is_symlink() and "/" not in t)]
        argv = [*_as_user(self.uid), _tool("unshare"), "--user", "--map-root-user", "--mount", "--propagation=private"]
        argv += [] if self._ports is None else ["--net"]
        argv += ["--pid", "--fork", "--kill-child", "--", "/bin/sh", "-c", _FIRST_STOREY, "storey"]
        argv += [stage, " ".join(trees), _SECOND_STOREY, self._hostname, self._spoil]
        self._outer = await asyncio.create_subprocess_exec(
            *argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=self._root, env=_HOST_ENV, start_new_session=True
        )
        assert self._outer.stdout is not None  # noqa: S101
        try:
            async with asyncio.timeout(BOOT_LIMIT_S):
                apart = await self._outer.stdout.readline()
                self._first = _only_child(self._outer.pid)
                if apart and self._ports is not None:
                    self._making = asyncio.create_task(self._bind(self._ports))
                answer = await self._outer.stdout.readline()
                if self._making is not None:
                    await self._making
        except TimeoutError:
            answer = b""
        self._inner = self._first and _only_child(self._first)
        if answer.strip() != b"up" or self._inner is None:
            raise SandboxError(await self._failure())

    async def _bind(self, ports: Sequence[int]) -> None:
        if self._outer is None:
            raise SandboxError("the machine is not running")
        made = await asyncio.to_thread(made_inside, self._outer.pid, ports or [0] * _SPARE)
        self.inside |= zip(ports, made, strict=False)
        self._spare += made[len(ports) :]

    async def tcp_socket(self) -> socket.socket:
        """One that was made inside, some in advance."""
        if self._ports is None:
            return _host_socket()
        while not self._spare:
            if self._making is None or self._making.done():
                self._making = asyncio.create_task(self._bind(()))
            await asyncio.shield(self._making)
        return self._spare.pop()

    async def _failure(self) -> str:
        outer = self._outer
        assert outer is not None and outer.stderr is not None  # noqa: PT018, S101
        self._kill()
        words = (await outer.stderr.read()).decode(errors="replace").split("\n")
        await outer.wait()
        return next((line.strip() for line in words if line.strip()), "the namespaces did not come up in time")

    async def prove(self) -> None:
        """Build the walls and see uid 0 inside. Raises SandboxError when any of it fails."""
        await self.start()
        process = await self.spawn(["/bin/sh", "-c", "id -u"], stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
        out, err = await process.communicate()
        if out.strip() != b"0":
            raise SandboxError(f"a command inside said {(err or out).decode(errors='replace').strip()!r} instead of uid 0")

    async def spawn(
        self, argv: Sequence[str], *, stdin: _Stream, stdout: _Stream, stderr: _Stream, tty: bool = False
    ) -> Process:
        """Enter all namespaces at once and start ``argv`` as uid 0 of the machine."""
        if self._inner is None or self._outer is None:
            raise SandboxError("the machine is not running")
        enter = []
        if self._ports is not None:  # the outer process is left where the network belongs
            enter = [_tool("nsenter"), f"--target={self._outer.pid}", "--user", "--preserve-credentials", "--net", "--"]
        enter += [_tool("nsenter"), f"--target={self._inner}", "--user", "--preserve-credentials", "--mount", "--pid"]
        # Set inside, where the kernel counts this machine's processes alone, whoever else the host user is.
        limits = ["/usr/bin/prlimit", f"--nproc={MOST_PROCESSES}", f"--fsize={self._file_bytes}", "--core=0", "--"]
        enter += ["--uts", "--ipc", "--", *limits, "/usr/bin/setsid", *(["--ctty"] if tty else []), *argv]
        return await asyncio.create_subprocess_exec(
            *_as_user(self.uid),
            *enter,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd="/",
            env=_HOST_ENV,
            start_new_session=True,
        )

    def signal(self, process: Process, number: int) -> None:
        """Signal the group inside; the entering process outside ends with it and reports how."""
        if process.returncode is not None:
            return
        inside = _only_child(process.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(inside if inside is not None else process.pid, number)

    def open_root(self) -> int:
        """The root as seen from inside, read-only trees and all."""
        return os.open(f"/proc/{self._inner}/root", os.O_PATH | os.O_DIRECTORY)

    def localise(self, command: str) -> str:
        """The machine has its own paths: nothing to replace."""
        return command

    def write_no_more(self) -> None:
        """Set the limit of every process inside, and of those to come, to nothing."""
        self._file_bytes = 0
        if self._inner is not None:
            space = _linked(f"/proc/{self._inner}/ns/pid")
            _limit_files(pid for pid in _pids() if _linked(f"/proc/{pid}/ns/pid") == space)

    def _kill(self) -> None:
        if self._outer is not None and self._outer.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._first or self._outer.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Kill the first storey's init: the kernel ends everything inside before the outer process returns."""
        self._inner = None  # first: nobody enters any more
        self._kill()
        if self._outer is not None:
            await reaped(self._outer)
        self._outer = self._first = None
        if self._making is not None:
            await asyncio.gather(self._making, return_exceptions=True)
        for one in (*self.inside.values(), *self._spare):  # the network lasts as long as they do
            one.close()
        self.inside, self._spare = {}, []


class PlainSandbox:
    """A folder: /workspace is replaced in commands, and under root a host user of its own keeps others' files safe."""

    def __init__(self, root: Path, *, uid: int | None, disk_bytes: int, refuses: bool = False) -> None:
        """Take the machine's folder and its host user; ``refuses``: no command is run in it."""
        self._refuses = refuses
        self.prefix = str(root)
        self.inside: dict[int, socket.socket] = {}
        self.uid = uid
        self._file_bytes = disk_bytes
        self._root = root
        self._mark = secrets.token_hex(8)
        self._running: set[Process] = set()
        self._up = False

    async def start(self) -> None:
        """Make sure that the machine's user can reach its folder. Raises SandboxError when it cannot."""
        if self.uid is not None:
            for parent in self._root.parents:
                closed = not parent.stat().st_mode & stat.S_IXOTH
                if closed and parent.is_relative_to(tempfile.gettempdir()) and parent.stat().st_uid == os.geteuid():
                    parent.chmod(parent.stat().st_mode | stat.S_IXOTH)  # a temporary folder of our own: let it be passed
                elif closed:
                    raise SandboxError(f"{parent} is closed to other users. Set TMPDIR to a folder open to all (mode 711).")
        self._up = True

    async def prove(self) -> None:
        """A folder needs no proof beyond its start."""
        await self.start()

    async def spawn(
        self, argv: Sequence[str], *, stdin: _Stream, stdout: _Stream, stderr: _Stream, tty: bool = False
    ) -> Process:
        """Start ``argv`` in the machine's folder."""
        if not self._up:
            raise SandboxError("the machine is not running")
        if self._refuses:
            raise SandboxError(REFUSED)
        words = list(argv)
        if sys.platform.startswith("linux"):
            session = ["/usr/bin/setsid", "--ctty"] if tty else []
            # Where the user is ours, the kernel would count our processes with the machine's.
            most = [f"--nproc={MOST_PROCESSES}"] if self.uid is not None else []
            words = [*_as_user(self.uid), _tool("prlimit"), *most, f"--fsize={self._file_bytes}", "--", *session, *words]
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=self._root / "root",
            env=_HOST_ENV | {_MARK: self._mark},
            start_new_session=not (tty and sys.platform.startswith("linux")),
        )
        self._running = {one for one in self._running if one.returncode is None} | {process}
        return process

    def signal(self, process: Process, number: int) -> None:
        """Signal the process group."""
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)

    async def tcp_socket(self) -> socket.socket:
        """One of the host's network, which is the machine's."""
        return _host_socket()

    def open_root(self) -> int:
        """The machine's folder."""
        return os.open(self._root, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)

    def localise(self, command: str) -> str:
        """``/workspace`` and the machine's own files of ``/etc`` in the command's text become paths in the folder."""
        for path in ("/workspace", "/etc/environment", "/etc/ssh/sshd_config"):
            command = command.replace(path, f"{self._root}{path}")
        return command

    def write_no_more(self) -> None:
        """Set the limit of every process that carries the machine's mark, and of those to come, to nothing."""
        self._file_bytes = 0
        _limit_files(_marked(f"{_MARK}={self._mark}".encode()))

    async def stop(self) -> None:
        """Kill what was started, and what carries the machine's mark or its user."""
        self._up = False
        if self.uid is not None:
            sweep = await asyncio.create_subprocess_exec(
                *_as_user(self.uid), "/bin/sh", "-c", "kill -KILL -1", stderr=DEVNULL, env=_HOST_ENV, start_new_session=True
            )
            await sweep.wait()
        for process in self._running:
            self.signal(process, signal.SIGKILL)
        # A process that forks or execs during one look can escape it; two looks that find nothing are the end.
        quiet = 0
        while quiet < 2:
            found = await asyncio.to_thread(_marked, f"{_MARK}={self._mark}".encode())
            quiet = 0 if found else quiet + 1
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        for process in self._running:
            await reaped(process)
        self._running.clear()


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def _marked(mark: bytes) -> list[int]:
    pids = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                pids.append(pid)
    return pids


def _linked(path: str) -> str:
    """Where a link leads; nowhere when it is gone or not ours to read."""
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def _limit_files(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))


async def reaped(process: Process) -> None:
    """Let go of the pipes of a process that was killed or has ended, as daemons may still hold them, and wait for its end."""
    if process.stdin is not None:
        unsent = process.stdin.transport
        if unsent.get_write_buffer_size() or not unsent.is_closing():
            unsent.abort()
    for number in (1, 2):
        if (pipe := process._transport.get_pipe_transport(number)) is not None:  # type: ignore[attr-defined]
            pipe.close()
    await process.wait()
