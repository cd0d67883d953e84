"""An emulator started the way a newcomer starts it, and what is left of it once it has been asked to end."""

import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.processes import VASTBENCH, clean_environment
from tests.profiles import CERTAIN

T = TypeVar("T")

SPEED = 20
"""Emulated seconds per second, unless a module says otherwise."""


def until(look: Callable[[], T | None], what: str, limit_s: float = 30.0) -> T:
    """The first answer of ``look`` that is true; fails naming ``what`` after ``limit_s`` real seconds."""
    deadline = time.monotonic() + limit_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {limit_s:g} s"
        time.sleep(0.05)
    return found


@dataclass
class Remains:
    """What a stopped emulator left behind; every field is empty or zero when it left nothing."""

    exit_code: int
    errors: str
    processes: list[str]
    open_ports: list[int]
    files: list[str]

    @property
    def nothing(self) -> bool:
        """Whether it ended in order and left nothing."""
        return self == Remains(0, "", [], [], [])


@dataclass
class Emulation:
    """A running ``vastbench emulator``; ``environment`` is a shell's after evaluating its export lines."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    folder: Path
    temporary: Path
    remains: Remains | None = field(default=None)

    def events(self, instance: int | None = None) -> list[dict[str, Any]]:
        """The truth log so far, or one instance's share of it."""
        text = (self.folder / "truth.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if instance in (None, line["instance"])]

    def until_event(self, instance: int, event: str, *, count: int = 1, **more: str) -> dict[str, Any]:
        """The ``count``-th such event of the instance in the truth log, as soon as it is there."""

        def look() -> dict[str, Any] | None:
            found = [one for one in self.events(instance) if one["event"] == event and more.items() <= one.items()]
            return found[count - 1] if len(found) >= count else None

        return until(look, f"instance {instance}: {event} {more or ''} ({count}.)")

    def programs(self) -> set[str]:
        """The names of its processes, those inside its machines included."""
        return {one.name() for one in self._family()}

    def stop(self) -> Remains:
        """End it with SIGTERM and see what stays."""
        if self.remains is not None:
            return self.remains
        family = self._family()
        ports = sorted(
            {link.laddr.port for one in family for link in one.net_connections(kind="tcp") if link.status == psutil.CONN_LISTEN}
        )
        self.process.terminate()
        _, errors = self.process.communicate(timeout=60)
        psutil.wait_procs(family, timeout=5)
        left = [one.info["name"] for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        files = [str(path.relative_to(self.temporary)) for path in self.temporary.iterdir()]
        self.remains = Remains(self.process.returncode, errors, left, [port for port in ports if _accepts(port)], files)
        return self.remains

    def _family(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid)
        family = [own, *own.children(recursive=True)]
        for one in family:
            one.info = {"name": f"{one.pid} {one.name()}"}
        return family


@contextmanager
def emulation(
    profile: str = CERTAIN, *, seed: int = 1, speed: float = SPEED, faults: tuple[str, ...] = ()
) -> Iterator[Emulation]:
    """``vastbench emulator`` with a home and a temporary folder of its own, ended by SIGTERM; checks that nothing stays."""
    # Machines run as users of their own and must be able to pass the folder; pytest's own folders are closed to them.
    folder = Path(tempfile.mkdtemp(prefix="vastbench-contract-"))
    folder.chmod(0o711)
    temporary = folder / "tmp"
    temporary.mkdir(mode=0o711)
    (folder / "profile.toml").write_text(profile)
    environment = clean_environment(folder, XDG_CACHE_HOME=str(folder / "cache"), TMPDIR=str(temporary))
    command = [VASTBENCH, "emulator", "--profile", str(folder / "profile.toml"), "--seed", str(seed)]
    command += ["--speed", str(speed), "--truth", str(folder / "truth.jsonl")]
    command += [word for name in faults for word in ("--fault", name)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        running = Emulation(process, environment | _exports(process), folder, temporary)
        yield running
        remains = running.stop()
        assert remains.nothing, remains
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def _exports(process: subprocess.Popen[str]) -> dict[str, str]:
    """What the export lines say, read up to the last one."""
    assert process.stdout is not None
    assert process.stderr is not None
    exports: dict[str, str] = {}
    while "VASTBENCH_SPEED" not in exports:
        line = process.stdout.readline()
        assert line, f"the emulator ended early: {process.stderr.read()}"
        found = re.fullmatch(r"export (\w+)=(\S+)\n", line)
        assert found, f"a shell could not evaluate {line!r}"
        exports[found[1]] = found[2]
    return exports


def _accepts(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port of the loopback that nothing listens on at the moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
