"""The emulator under test: a process of its own, started as a newcomer starts it, and what it uses and leaves."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil


class Emulator:
    """A running ``vastbench emulator`` with a folder and a temporary folder of its own."""

    def __init__(self, profile: str) -> None:
        """Start it and wait for an answer; ``printed_s`` and ``answered_s`` say how long that took."""
        # Machines run as users of their own and must be able to pass the folders.
        self.folder = Path(tempfile.mkdtemp(prefix="vastbench-benchmark-"))
        self.folder.chmod(0o711)
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir(mode=0o711)
        (self.folder / "profile.toml").write_text(profile)
        command = [str(Path(sys.executable).with_name("vastbench")), "emulator", "--seed", "1"]
        command += ["--profile", str(self.folder / "profile.toml"), "--truth", str(self.folder / "truth.jsonl")]
        environment = os.environ | {"TMPDIR": str(self.temporary)}
        began = time.monotonic()
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            self.url = self._export("VAST_URL")
            self.printed_s = time.monotonic() - began
            self.key = self._export("VAST_API_KEY")
            httpx.get(f"{self.url}/api/v0/gpu_names/unique/").raise_for_status()
            self.answered_s = time.monotonic() - began
        except BaseException:
            self.process.kill()
            self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _export(self, name: str) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(rf"export {name}=(\S+)\n", line)
        if found is None:
            raise SystemExit(f"The emulator did not start: it printed {line!r} instead of {name}.")
        return found[1]

    def family(self) -> list[psutil.Process]:
        """Its process and all that descend from it."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def pss_mb(self) -> float:
        """Memory of the whole family in MB, shared pages divided among those that share them."""
        total = 0
        for one in self.family():
            try:
                total += one.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
        return total / 1e6

    def events(self, name: str, **more: str) -> dict[int, int]:
        """The monotonic nanoseconds of an event in the truth log, by instance."""
        lines = map(json.loads, (self.folder / "truth.jsonl").read_text().splitlines())
        return {line["instance"]: line["ns"] for line in lines if line["event"] == name and more.items() <= line.items()}

    def stop(self) -> tuple[float, list[str]]:
        """End it with SIGTERM: the seconds that took, and what stayed."""
        family = self.family()
        ports = {c.laddr.port for c in family[0].net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        began = time.monotonic()
        self.process.terminate()
        code = self.process.wait(120)
        took = time.monotonic() - began
        left = [f"exit status {code}"] if code else []
        _, alive = psutil.wait_procs(family[1:], timeout=2)
        left += [f"process {one.pid}" for one in alive]
        left += [f"port {port}" for port in sorted(ports) if _accepts(port)]
        left += [f"file {path.name}" for path in self.temporary.iterdir()]
        shutil.rmtree(self.folder, ignore_errors=True)
        return took, left


def _accepts(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
