"""The emulator as a process: what a shell gets from it, what it does when a GPU is taken, and that it leaves nothing."""

import subprocess

import pytest

from tests.contract.emulation import emulation
from tests.contract.official import Client
from tests.contract.openssh import OpenSsh, addresses
from tests.contract.rental import cheapest, create, show, until_ready
from tests.profiles import CERTAIN

TAKEN = CERTAIN.replace("gpu_taken = { p = 0,", "gpu_taken = { p = 1,").replace(
    "[ssh]", 'gpu_taken_for = { kind = "fixed", value = 30, basis = "assumption" }\n[ssh]'
)


@pytest.fixture(scope="module")
def emulator():
    """An emulator on which every stopped instance's GPU goes to somebody else for a while."""
    with emulation(TAKEN) as running:
        yield running


def test_a_start_without_a_free_gpu_is_queued(emulator, vastai):
    """``start instance`` says that the change is queued; it happens, and bills, when the GPU is free again."""
    vastai("create", "ssh-key", OpenSsh(emulator.folder).public_key)
    instance = create(vastai, cheapest(vastai)[0], "--ssh")
    emulator.until_event(instance, "status", status="running")
    vastai("stop", "instance", instance)
    emulator.until_event(instance, "status", status="stopped")
    said = vastai("start", "instance", instance)
    assert said.out.strip() == "Required resources are currently unavailable, state change queued."
    emulator.until_event(instance, "status", status="running", count=2)


def test_the_end_leaves_no_process_port_or_folder():
    """SIGTERM with an instance up, a daemon in it and a login open: all of it goes, and the exit code is 0."""
    with emulation() as running:
        vastai = Client(running.environment)
        ssh = OpenSsh(running.folder)
        vastai("create", "ssh-key", ssh.public_key)
        instance = create(vastai, cheapest(vastai)[0], "--ssh", "--direct", "--onstart-cmd", "setsid sleep 1000 &")
        until_ready(running, instance)
        at = addresses(show(vastai, instance))["direct"]
        assert ssh.ssh(at, "setsid sleep 1000 >/dev/null 2>&1 & echo begun").stdout == "begun\n"
        login = [*("ssh", *ssh.options()), "-p", str(at.port), f"root@{at.host}", "echo in; sleep 1000"]
        with subprocess.Popen(login, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as open_login:
            assert open_login.stdout is not None
            assert open_login.stdout.readline() == "in\n"
            assert "sleep" in running.programs()
            assert any(running.temporary.iterdir())
            remains = running.stop()
            assert open_login.wait(10) == 255
        assert remains.nothing, remains
