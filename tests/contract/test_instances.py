"""The official client rents one instance and takes it through its whole life."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract.emulation import until
from tests.contract.openssh import Address, OpenSsh, addresses
from tests.contract.rental import cheapest, create, show, until_ready

ONSTART = 'echo "onstart of $VAST_CONTAINERLABEL says $FOO"; env >> /etc/environment; touch /workspace/began'


@dataclass
class Rented:
    """An instance under test, the offer it came from, its row once it was up, and a way to log in to it."""

    id: int
    offer: int
    row: dict[str, Any]
    ssh: OpenSsh

    @property
    def at(self) -> dict[str, Address]:
        """Its first addresses; the proxy's stays, the direct one ends with the first boot."""
        return addresses(self.row)


@pytest.fixture(scope="module")
def rented(emulator, vastai) -> Rented:
    """An instance with an environment, an onstart script and a label, up and reachable."""
    ssh = OpenSsh(emulator.folder)
    made = vastai("create", "ssh-key", ssh.public_key)
    assert "'success': True" in made.out
    offer = cheapest(vastai)[0]
    options = ("--ssh", "--direct", "--label", "run-1", "--env", "-e FOO=bar -p 8080:8080 -h box", "--onstart-cmd", ONSTART)
    instance = create(vastai, offer, *options)
    until_ready(emulator, instance)
    return Rented(instance, offer, show(vastai, instance), ssh)


def test_create_sends_what_was_asked_for(rented):
    """Image, disk, label, environment, onstart and run type are the instance's, as ``show instance`` reads them back."""
    row = rented.row
    assert (row["image_uuid"], row["disk_space"], row["label"], row["onstart"]) == ("ubuntu:22.04", 16.0, "run-1", ONSTART)
    assert row["extra_env"] == {"FOO": "bar", "-p 8080:8080": "1", "-h": "box"}
    assert row["image_runtype"] == "ssh_direc ssh_proxy"
    assert (row["actual_status"], row["intended_status"]) == ("running", "running")


def test_an_offer_can_be_rented_once(rented, vastai):
    """The second create of one offer is told that it is gone, and makes nothing."""
    refused = vastai("create", "instance", rented.offer, "--image", "ubuntu:22.04", "--disk", 16, "--ssh")
    assert re.search(r"Failed with error 4\d\d: .*no_such_ask", refused.err)
    assert rented.offer not in [offer["id"] for offer in vastai.raw("search", "offers", "gpu_name=RTX_4090 num_gpus=1")]


def test_the_onstart_script_ran_with_the_environment(rented, vastai):
    """What it printed is in ``logs``; what it exported is there in a login, the container's own variables included."""
    at = rented.at["direct"]
    assert f"onstart of C.{rented.id} says bar\n" in vastai("logs", rented.id).out
    assert vastai("logs", rented.id, "--tail", 1, "--filter", "sshd").out.strip() == f"sshd: listening on port {at.port}"
    login = rented.ssh.ssh(at, "ls /workspace; cat /etc/environment; hostname; nvidia-smi -L")
    assert login.returncode == 0, login.stderr
    for line in ("began", "FOO=bar", f"CONTAINER_ID={rented.id}", f"VAST_TCP_PORT_22={at.port}", f"C.{rented.id}"):
        assert line in login.stdout.splitlines()
    assert "RTX 4090" in login.stdout


def test_the_containers_key_sees_its_own_instance_only(rented, vastai):
    """``CONTAINER_API_KEY`` shows its instance and may do nothing to the account."""
    at = rented.at["direct"]
    text = rented.ssh.ssh(at, "grep ^CONTAINER_API_KEY= /etc/environment").stdout
    key = text.strip().partition("=")[2]
    assert vastai.raw("show", "instance", rented.id, key=key)["id"] == rented.id
    assert "Failed with error 403" in vastai("show", "instances", "-q", key=key).err


def test_instances_are_listed_as_table_rows_ids_and_by_label(rented, vastai):
    """``show instances`` as a table, ``--raw``, ``-q`` and ``--label``."""
    table = vastai("show", "instances").out
    assert all(word in table for word in ("Total: 1 instances", str(rented.id), "running", "run-1", "RTX 4090"))
    assert [row["id"] for row in vastai.raw("show", "instances")] == [rented.id]
    assert vastai("show", "instances", "--label", "run-1", "-q").out.split() == [str(rented.id)]
    assert vastai("show", "instances", "--label", "other", "-q").out.split() == []


def test_urls_lead_to_the_direct_address(rented, vastai):
    """``ssh-url`` and, from its cache, ``scp-url`` name the direct address that ``show instance`` has in its ports."""
    at = rented.at["direct"]
    assert vastai("scp-url", rented.id).out.strip() == f"scp://root@127.0.0.1:{at.port}"
    assert vastai("ssh-url", rented.id).out.strip() == f"ssh://root@127.0.0.1:{at.port}"


def test_a_label_can_be_changed(rented, vastai):
    """``label instance`` is seen in the list at once."""
    assert "label" in vastai("label", "instance", rented.id, "run-2").out
    assert vastai("show", "instances", "--label", "run-2", "-q").out.split() == [str(rented.id)]


def test_a_second_key_can_be_attached(rented, vastai, emulator):
    """``attach ssh`` lets another key in after its delay, and is told when it is there already."""
    second = OpenSsh(emulator.folder, "second")
    at = rented.at["proxy"]
    assert "Permission denied" in second.ssh(at, "true").stderr
    attached = vastai("attach", "ssh", rented.id, second.public_key_file)
    assert "'success': True" in attached.out
    until(lambda: second.ssh(at, "true").returncode == 0, "the attached key's login")
    assert "already associated" in vastai("attach", "ssh", rented.id, second.public_key_file).err


def test_a_snapshot_is_scheduled(rented, vastai):
    """``take snapshot`` is accepted for an instance that exists and refused for one that does not."""
    words = ("--repo", "me/image", "--docker_login_user", "me", "--docker_login_pass", "secret")
    assert "Snapshot request sent successfully" in vastai("take", "snapshot", rented.id, *words).out
    missing = vastai("take", "snapshot", rented.id + 1_000_000, *words)
    assert "Failed with error 404" in missing.err
    assert "successfully" not in missing.out


def test_reboot_keeps_files_and_the_proxy_address(rented, vastai, emulator):
    """``reboot instance`` runs onstart again on the same disk; processes end."""
    proxy = rented.at["proxy"]
    rented.ssh.ssh(proxy, "echo kept > /workspace/file; setsid sleep 600 >/dev/null 2>&1 &")
    vastai("reboot", "instance", rented.id)
    emulator.until_event(rented.id, "status", status="rebooting")
    until_ready(emulator, rented.id, boot=2)
    seen = rented.ssh.ssh(proxy, "cat /workspace/file; ps ax | grep -c '[s]leep 600'", hosts="yes")
    assert seen.stdout.split() == ["kept", "0"], seen.stderr
    assert vastai("logs", rented.id).out.count("says bar") == 2


def test_stop_gives_up_the_machine_and_start_brings_it_back(rented, vastai, emulator):
    """``stop instance`` closes SSH and shows ``stopped``; ``start instance`` boots the same disk again."""
    proxy = rented.at["proxy"]
    assert f"stopping instance {rented.id}" in vastai("stop", "instance", rented.id).out
    emulator.until_event(rented.id, "status", status="stopped")
    row = show(vastai, rented.id)
    assert (row["actual_status"], row["intended_status"]) == ("stopped", "stopped")
    assert "ports" not in row
    assert rented.ssh.ssh(proxy, "true").returncode == 255
    assert f"starting instance {rented.id}" in vastai("start", "instance", rented.id).out
    until_ready(emulator, rented.id, boot=3)
    assert rented.ssh.ssh(proxy, "cat /workspace/file", hosts="yes").stdout == "kept\n"


def test_destroyed_is_gone_everywhere(rented, vastai, emulator):
    """After ``destroy instance`` the id answers null, the list lacks it and SSH is closed."""
    proxy = rented.at["proxy"]
    assert f"destroying instance {rented.id}" in vastai("destroy", "instance", rented.id, "-y").out
    emulator.until_event(rented.id, "gone")
    assert vastai.raw("show", "instance", rented.id) == {"instances": None}
    assert vastai.raw("show", "instances") == []
    assert rented.ssh.ssh(proxy, "true").returncode == 255
    assert "Failed with error 404" in vastai("destroy", "instance", rented.id, "-y").err
