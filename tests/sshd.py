"""OpenSSH's own server on loopback, where this machine has it."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import until
from vastbench.ssh.keys import RunKey

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

needs_sshd = pytest.mark.skipif(not SSHD or os.geteuid() != 0, reason="needs OpenSSH's server, and root")


@contextmanager
def sshd(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, RunKey]]:
    """sshd on a port of loopback that takes one key; its process, the port and the key."""
    key = RunKey.generate()
    place = folder / "sshd"
    place.mkdir(mode=0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / "host")], check=True)
    (place / "keys").write_text(f"{key.public_line}\n")
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    (place / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {place}/host\nAuthorizedKeysFile {place}/keys\n"
        "PermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nPidFile none\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(place / "config")], stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _listens(port))
            yield process, port, key
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
