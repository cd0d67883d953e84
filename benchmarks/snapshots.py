"""What snapshots cost: tar through each compression and restic, first and with 1 % changed, on loopback and over a slow line.

One machine (an SSH server in a process of its own) holds a workspace of mixed files; this process is the controller. Over
the line, packets wait 15 ms each way at 200 Mbit/s between two network namespaces, and restic's repository lies on this side,
so that all data cross it. All figures are of one run; they vary with what else the computer does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
from link import FAR, NEAR, at_end, join
from rich.console import Console
from rich.table import Table

from vastbench.clock import Clock
from vastbench.scenarios.workspace import Workspace
from vastbench.snapshots import LocalPlace, Repository, archive, check, read_manifest, restore, take, verify
from vastbench.ssh.keys import HostKeyPin, RunKey
from vastbench.ssh.probe import wait_ready
from vastbench.ssh.session import Session
from vastbench.ssh.transport import Endpoint

RATE, ONE_WAY_S = 200e6 / 8, 0.015
LIMIT_S = 3600.0
KEYS = {"RESTIC_PASSWORD": "benchmark", "AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark-secret"}


@dataclass
class Measured:
    """One method: seconds of each step, what was kept of the first and of the second snapshot, the controller's peak."""

    method: str
    first_s: float
    second_s: float
    restore_s: float
    first_bytes: int
    second_bytes: int
    first_stream_s: float
    peak_mb: float


def main() -> None:
    """Measure, print, and exit with 1 when a limit is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mb", type=int, default=1074, help="MB in the workspace (1074: 1 GiB)")
    options.add_argument("--files", type=int, default=18_000)
    options.add_argument("--methods", default="zstd,gzip,none,restic")
    options.add_argument("--links", default="loopback,line", help="line: 200 Mbit/s and 30 ms, needs root")
    options.add_argument("--memory-gb", type=float, default=0.0, help="also stream so many GiB and show this process's peak")
    options.add_argument("--no-limits", action="store_true")
    given = options.parse_args()
    print(
        f"{given.mb} MB in about {given.files} files; {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f}), "
        f"{platform.platform()}"
    )
    missed = []
    for name in given.links.split(","):
        missed += [name] if over(name, given) else []
    sys.exit(1 if missed and not given.no_limits else 0)


def over(name: str, given: argparse.Namespace) -> int:
    """Measure over that link, each end in a process of its own; 1 for a missed limit."""
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="vastbench-benchmark-") as made:
        folder = Path(made)
        given.port, given.store_port = free_port(), free_port()
        if name == "loopback":
            machine = os.fork()
            if not machine:
                serve("127.0.0.1", given.port)
            try:
                return controller("127.0.0.1", "127.0.0.1", name, folder, given)
            finally:
                os.kill(machine, signal.SIGKILL)
                os.waitpid(machine, 0)
        pairs = [socket.socketpair() for _ in range(2)]
        machine = at_end(FAR, NEAR, pairs[1][1], lambda: serve(FAR, given.port))
        near = at_end(NEAR, FAR, pairs[0][1], lambda: controller(FAR, NEAR, name, folder, given))
        try:
            return join([pairs[0][0], pairs[1][0]], RATE, ONE_WAY_S, near)
        finally:
            os.kill(machine, signal.SIGKILL)
            os.waitpid(machine, 0)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


# --- the machine


def serve(host: str, port: int) -> int:
    """An SSH server that runs commands, for ever."""

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:  # noqa: ARG002
            return True

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
            return True

    async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
        child = await asyncio.create_subprocess_shell(process.command or "", stdin=-1, stdout=-1, stderr=-1)

        async def pump(source, sink, *, end: bool) -> None:
            with contextlib.suppress(OSError, asyncssh.Error):
                while data := await source.read(262_144):
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
        process.exit(child.returncode or 0)

    async def live() -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        await asyncssh.create_server(
            Server, host, port, server_host_keys=[key], process_factory=run, encoding=None, line_editor=False
        )
        await asyncio.Event().wait()

    asyncio.run(live())
    return 0


# --- the controller


@contextlib.contextmanager
def connected(host: str, port: int) -> Iterator[Session]:
    """A session on the machine."""
    clock = Clock()
    now = clock.now()
    endpoint = Endpoint("direct", host, port)
    ready = wait_ready([endpoint], RunKey.generate(), HostKeyPin(), clock=clock, since=now, deadline=now + 60)
    with ready.session as session:
        yield session


@contextlib.contextmanager
def store(host: str, port: int, folder: Path) -> Iterator[str]:
    """A real S3 endpoint on this side of the link; the repository's address."""
    (folder / "bucket").mkdir(parents=True)
    names = {"NANIO_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"], "NANIO_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"]}
    words = [sys.executable, "-m", "nanio", "serve", "--data-dir", str(folder), "--host", host, "--port", str(port)]
    with subprocess.Popen(words, env=os.environ | names, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
                    break
                time.sleep(0.1)
            yield f"s3:http://{host}:{port}/bucket/work"
        finally:
            process.kill()


def controller(machine: str, here: str, name: str, folder: Path, given: argparse.Namespace) -> int:
    """Measure every method; 1 for a missed limit."""
    found = []
    with connected(machine, given.port) as session:
        workspace = Workspace(str(folder / "work"), 1, given.files, given.mb * 1_000_000)
        workspace.make(session, LIMIT_S)
        for method in given.methods.split(","):
            if method == "restic" and not (shutil.which("restic") and importlib.util.find_spec("nanio")):
                print("restic and nanio are not both installed: not measured")
                continue
            with contextlib.ExitStack() as stack:
                place: LocalPlace | Repository = LocalPlace(folder / f"place-{method}")
                if method == "restic":
                    place = Repository(stack.enter_context(store(here, given.store_port, folder / "store")), place, KEYS)
                else:
                    archive.compression_of = _only(method)
                found.append(measured(session, workspace, place, method, folder))
        if given.memory_gb:
            print(f"streaming {given.memory_gb:g} GiB: this process's peak {streamed(session, given.memory_gb):.0f} MB")
    return report(found, name, given)


def _only(method: str) -> Callable[[Session], str]:
    """That compression, whichever others the machine has."""
    return lambda _: method


def measured(session: Session, workspace: Workspace, place, method: str, folder: Path) -> Measured:
    """First snapshot, 1 % changed, second snapshot, restore, compare."""
    Path("/proc/self/clear_refs").write_text("5")
    first, first_s = timed(lambda: take(session, workspace.folder, place, timeout_s=LIMIT_S))
    first_bytes = kept_bytes(folder, method)
    changed = shlex.quote(f"{workspace.folder}/weights/changed-{method}")
    session.run(f"head -c {workspace.size_bytes // 100} /dev/urandom >{changed}", timeout_s=LIMIT_S)
    second, second_s = timed(lambda: take(session, workspace.folder, place, first, timeout_s=LIMIT_S))
    before = read_manifest(session, workspace.folder, timeout_s=LIMIT_S)
    verify(second, place, session)
    _, restore_s = timed(lambda: restore(session, second, place, str(folder / "back"), timeout_s=LIMIT_S))
    check(read_manifest(session, str(folder / "back"), timeout_s=LIMIT_S), before)
    peak = peak_mb()
    shutil.rmtree(folder / "back")
    second_bytes = kept_bytes(folder, method) - first_bytes
    return Measured(method, first_s, second_s, restore_s, first_bytes, second_bytes, first.stream_s, peak)


def kept_bytes(folder: Path, method: str) -> int:
    """What lies in the place and in the repository, manifests included."""
    return sum(
        one.stat().st_size
        for part in [f"place-{method}"] + ["store"] * (method == "restic")
        for one in (folder / part).rglob("*")
        if one.is_file()
    )


def timed(work):
    """What ``work`` gives, and the seconds that it took."""
    began = time.monotonic()
    return work(), time.monotonic() - began


def peak_mb() -> float:
    """The most memory that this process has held since it was last asked to forget it, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def streamed(session: Session, gib: float) -> float:
    """Stream so many GiB through a hash, and give this process's peak in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    digest = hashlib.sha256()
    session.stream(f"head -c {int(gib * 2**30)} /dev/zero", sink=digest.update, timeout_s=LIMIT_S)
    return peak_mb()


def report(found: list[Measured], name: str, given: argparse.Namespace) -> int:
    """Print the table; 1 when the default is not the fastest first snapshot, or does not fill the line."""
    mb = given.mb
    table = Table("method", "first s", "MB/s", "kept MB", "on the wire", "1 % s", "kept MB", "restore s", "MB/s", "peak MB")
    for one in found:
        wire = one.first_bytes / 1e6 / one.first_stream_s
        shown = f"{wire:.0f} MB/s" + (f" ({wire * 1e6 / RATE:.2f} of the line)" if name == "line" else "")
        figures = (one.first_s, mb / one.first_s, one.first_bytes / 1e6)
        rest = (one.second_s, one.second_bytes / 1e6, one.restore_s, mb / one.restore_s, one.peak_mb)
        table.add_row(one.method, *(f"{x:.1f}" for x in figures), shown, *(f"{x:.1f}" for x in rest))
    console = Console(width=None if sys.stdout.isatty() else 128, highlight=False)
    console.print(f"\n{name}" + (": 200 Mbit/s, 30 ms there and back" if name == "line" else ""))
    console.print(table)
    default = next((one for one in found if one.method == "zstd"), None)
    if default is None:
        return 0
    for other in found:
        if other is not default:
            steps = ("first", "second", "restore")
            ratios = [getattr(other, f"{step}_s") / getattr(default, f"{step}_s") for step in steps]
            print(f"{other.method} to the default: " + ", ".join(f"{r:.2f} ({s})" for r, s in zip(ratios, steps, strict=True)))
    filled = default.first_bytes / default.first_stream_s / RATE
    wrong = [f"the default fills {filled:.2f} of the line, not 0.8"] if name == "line" and filled < 0.8 else []
    wrong += [f"the controller's peak is {default.peak_mb:.0f} MB, not 200"] if default.peak_mb > 200 else []
    print("\n".join(f"MISSED: {one}" for one in wrong) if wrong else "limits kept")
    return int(bool(wrong))


if __name__ == "__main__":
    main()
