"""The same against OpenSSH's own server, where there is one: streams, snapshots, a connection that it drops."""

import os
import subprocess
from contextlib import suppress

import pytest

from tests.snapshots.conftest import connected
from tests.snapshots.test_broken import Interrupting, big  # noqa: F401 (a fixture)
from tests.snapshots.test_round_trip import change
from tests.sshd import needs_sshd, sshd
from vastbench.errors import ConnectionLost
from vastbench.snapshots import LocalPlace, check, read_manifest, restore, take, verify

pytestmark = needs_sshd


@pytest.fixture
def server(tmp_path):
    with sshd(tmp_path) as running:
        yield running


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
            with suppress(ProcessLookupError):  # that of a login may have ended meanwhile
                os.kill(int(one), 9)

    with connected(port, key) as session, pytest.raises(ConnectionLost):
        take(session, str(big), Interrupting(tmp_path / "place", drop))
    assert LocalPlace(tmp_path / "place").names() == []
