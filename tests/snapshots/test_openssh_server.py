"""The same against OpenSSH's own server, where there is one: streams, snapshots, a connection that it drops."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import until
from tests.snapshots.conftest import connected
from tests.snapshots.test_broken import Interrupting, big  # noqa: F401 (a fixture)
from tests.snapshots.test_round_trip import change
from vastbench.errors import ConnectionLost
from vastbench.snapshots import LocalPlace, check, read_manifest, restore, take, verify
from vastbench.ssh.keys import RunKey

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(not SSHD or os.geteuid() != 0, reason="needs OpenSSH's server, and root")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, RunKey]]:
    """sshd on a port of loopback that takes one key; its process, the port and the key."""
    key = RunKey.generate()
    (tmp_path / "sshd").mkdir(mode=0o700)
    host_key, config = tmp_path / "sshd/host", tmp_path / "sshd/config"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host_key)], check=True)
    (tmp_path / "sshd/keys").write_text(f"{key.public_line}\n")
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {host_key}\nAuthorizedKeysFile {tmp_path}/sshd/keys\n"
        "PermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nPidFile none\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _listens(port))
            yield process, port, key
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_a_chain_of_snapshots_comes_back_whole(server, work, place, tmp_path):
    _, port, key = server
    with connected(port, key) as session:
        full = take(session, str(work), place)
        change(work)
        after = read_manifest(session, str(work))
        second = take(session, str(work), place, full)
        verify(second, place)
        restore(session, second, place, str(tmp_path / "back"))
        check(read_manifest(session, str(tmp_path / "back")), after)


def test_a_connection_that_it_drops_leaves_no_snapshot(server, big, tmp_path):  # noqa: F811
    _, port, key = server

    def drop() -> None:
        found = subprocess.run(["pgrep", "-P", str(server[0].pid)], capture_output=True, text=True, check=False).stdout
        for one in found.split():
            os.kill(int(one), 9)

    with connected(port, key) as session, pytest.raises(ConnectionLost):
        take(session, str(big), Interrupting(tmp_path / "place", drop))
    assert LocalPlace(tmp_path / "place").names() == []
