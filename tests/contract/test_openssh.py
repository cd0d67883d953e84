"""OpenSSH's ssh, scp, sftp and ssh -L reach an emulated instance through the proxy's address and through its own."""

import hashlib
import secrets

import pytest

from tests.contract.emulation import Emulation
from tests.contract.official import Client
from tests.contract.openssh import Address, OpenSsh, addresses
from tests.contract.rental import cheapest, create, show, until_ready

BOTH = pytest.mark.parametrize("door", ["proxy", "direct"])


@pytest.fixture(scope="module")
def ssh(emulator: Emulation) -> OpenSsh:
    """OpenSSH with a key of its own and an empty file of known hosts."""
    return OpenSsh(emulator.folder)


@pytest.fixture(scope="module")
def at(emulator: Emulation, vastai: Client, ssh: OpenSsh) -> dict[str, Address]:
    """Both addresses of a machine that has this key."""
    vastai("create", "ssh-key", ssh.public_key)
    instance = create(vastai, cheapest(vastai)[0], "--ssh", "--direct")
    until_ready(emulator, instance)
    found = addresses(show(vastai, instance))
    for address in found.values():
        assert ssh.ssh(address, "true").returncode == 0
    return found


@pytest.fixture
def name() -> str:
    """A file name that no other test uses."""
    return f"file-{secrets.token_hex(4)}"


@BOTH
def test_ssh_runs_commands(at, ssh, door):
    """Output, error output and exit code arrive apart; the host key is the one pinned at first contact."""
    done = ssh.ssh(at[door], "echo out; echo err >&2; exit 7", hosts="yes")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


@BOTH
def test_ssh_passes_standard_input_on(at, ssh, door):
    """A megabyte through a remote filter comes back the same."""
    text = secrets.token_hex(500_000)
    assert ssh.ssh(at[door], "cat", input=text).stdout == text


def test_both_addresses_lead_to_one_machine(at, ssh, name):
    """What is written through the proxy is read directly."""
    ssh.ssh(at["proxy"], f"echo hello > /workspace/{name}")
    assert ssh.ssh(at["direct"], f"cat /workspace/{name}").stdout == "hello\n"


@BOTH
def test_another_host_key_is_refused(at, ssh, door, tmp_path):
    """A machine that answers with another key than the pinned one gets no login."""
    stranger = OpenSsh(tmp_path)
    stranger.known_hosts.write_text(f"[{at[door].host}]:{at[door].port} {stranger.public_key}\n")
    stranger.key.write_bytes(ssh.key.read_bytes())
    refused = stranger.ssh(at[door], "true", hosts="yes")
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr


@BOTH
def test_another_users_key_is_refused(at, door, tmp_path):
    """A key that the account does not know gets no login."""
    refused = OpenSsh(tmp_path).ssh(at[door], "true")
    assert refused.returncode == 255
    assert "Permission denied (publickey" in refused.stderr


@BOTH
def test_scp_copies_both_ways(at, ssh, door, name, tmp_path):
    """A binary file there and back, with the same SHA-256 on the machine and here."""
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(secrets.token_bytes(300_000))
    remote = f"remote:/workspace/{name}"
    up = ssh.scp(at[door], str(sent), remote)
    assert up.returncode == 0, up.stderr
    digest = hashlib.sha256(sent.read_bytes()).hexdigest()
    assert ssh.ssh(at[door], f"sha256sum /workspace/{name}").stdout.split()[0] == digest
    down = ssh.scp(at[door], remote, str(back))
    assert down.returncode == 0, down.stderr
    assert back.read_bytes() == sent.read_bytes()


def test_scp_copies_folders_and_its_old_protocol_works(at, ssh, name, tmp_path):
    """``-r`` with the SFTP protocol, and ``-O`` with the one before it."""
    tree = tmp_path / name
    (tree / "inner").mkdir(parents=True)
    (tree / "inner" / "with space.txt").write_text("text\n")
    assert ssh.scp(at["proxy"], "-r", str(tree), "remote:/workspace/").returncode == 0
    assert ssh.ssh(at["proxy"], f"cat '/workspace/{name}/inner/with space.txt'").stdout == "text\n"
    old = ssh.scp(at["proxy"], "-O", "-r", str(tree), f"remote:/workspace/{name}-old")
    assert old.returncode == 0, old.stderr
    assert ssh.ssh(at["proxy"], f"ls -R /workspace/{name}-old").stdout.count("with space.txt") == 1


@BOTH
def test_sftp_runs_a_batch(at, ssh, door, name, tmp_path):
    """Make, put, list, rename, get, remove; a batch that fails says so."""
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(secrets.token_bytes(50_000))
    lines = [f"mkdir {name}", f"cd {name}", f"put {sent} one", "rename one two", "ls -l", f"get two {back}", "rm two"]
    done = ssh.sftp(at[door], "\n".join(["cd /workspace", *lines, "cd ..", f"rmdir {name}"]) + "\n")
    assert done.returncode == 0, done.stderr
    assert "50000" in done.stdout
    assert back.read_bytes() == sent.read_bytes()
    assert ssh.sftp(at[door], f"get /workspace/{name} {back}\n").returncode != 0


@BOTH
def test_ssh_forwards_a_local_port(at, ssh, door):
    """``ssh -L`` to a port of the machine carries a whole second SSH session."""
    other = at["direct" if door == "proxy" else "proxy"]
    with ssh.forwarded(at[door], other.port) as near:
        through = ssh.ssh(near, "hostname; head -c 200000 /dev/zero | wc -c")
        straight = ssh.ssh(at[door], "hostname")
    assert through.stdout.split() == [straight.stdout.strip(), "200000"], through.stderr


def test_an_instance_without_a_direct_address_has_the_proxys_only(emulator, vastai, ssh):
    """Rented with ``--ssh`` alone, ``ssh-url`` and ``scp-url`` name the proxy's address, and it works."""
    instance = create(vastai, cheapest(vastai)[0], "--ssh")
    until_ready(emulator, instance)
    at = addresses(show(vastai, instance))
    assert list(at) == ["proxy"]
    assert vastai("ssh-url", instance).out.strip() == f"ssh://root@127.0.0.1:{at['proxy'].port}"
    assert vastai("scp-url", instance).out.strip() == f"scp://root@127.0.0.1:{at['proxy'].port}"
    assert ssh.ssh(at["proxy"], "hostname").stdout == f"C.{instance}\n"
