"""OpenSSH's own programs against an emulated instance, with a key and a file of pinned host keys of their own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.contract.emulation import free_port, until

_LIMIT_S = 30


@dataclass(frozen=True)
class Address:
    """Where an instance's SSH answers."""

    host: str
    port: int


def addresses(row: dict) -> dict[str, Address]:
    """The addresses in an instance's row as the client shows it: ``proxy``, and ``direct`` where there is one."""
    found = {"proxy": Address(row["ssh_host"], row["ssh_port"])}
    if "22/tcp" in row.get("ports", {}):
        found["direct"] = Address(row["public_ipaddr"].strip(), int(row["ports"]["22/tcp"][0]["HostPort"]))
    return found


class OpenSsh:
    """``ssh``, ``scp`` and ``sftp`` as root, taking no key and no host but those in ``folder``."""

    def __init__(self, folder: Path, name: str = "id") -> None:
        """Make a key pair in ``folder``."""
        self.key = folder / name
        self.public_key_file = folder / f"{name}.pub"
        self.known_hosts = folder / "known_hosts"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{name}@contract", "-f", str(self.key)]
        subprocess.run(command, check=True, timeout=_LIMIT_S)
        self.public_key = self.public_key_file.read_text().strip()

    def options(self, *, hosts: str = "accept-new") -> list[str]:
        """The options of every call; ``hosts`` is what to do with a host that is not pinned yet: accept-new or yes (refuse)."""
        given = {
            "BatchMode": "yes",
            "ConnectTimeout": "10",
            "ControlMaster": "no",
            "GlobalKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "IdentityFile": str(self.key),
            "LogLevel": "ERROR",
            "StrictHostKeyChecking": hosts,
            "UserKnownHostsFile": str(self.known_hosts),
        }
        return ["-F", "/dev/null", *(word for name, value in given.items() for word in ("-o", f"{name}={value}"))]

    def ssh(self, at: Address, command: str, *, hosts: str = "accept-new", **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command over ``ssh``."""
        return _run(["ssh", *self.options(hosts=hosts), "-p", str(at.port), f"root@{at.host}", command], **more)

    def scp(self, at: Address, *words: str) -> subprocess.CompletedProcess[str]:
        """Copy with ``scp``; ``remote:`` in a word stands for the instance."""
        places = [word.replace("remote:", f"root@{at.host}:") for word in words]
        return _run(["scp", *self.options(), "-P", str(at.port), *places])

    def sftp(self, at: Address, batch: str) -> subprocess.CompletedProcess[str]:
        """Run a batch of ``sftp`` commands."""
        return _run(["sftp", *self.options(), "-b", "-", "-P", str(at.port), f"root@{at.host}"], input=batch)

    @contextmanager
    def forwarded(self, at: Address, port: int) -> Iterator[Address]:
        """``ssh -L`` to the instance's own loopback port; gives the near end."""
        near = free_port()
        forward = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{near}:127.0.0.1:{port}"]
        command = ["ssh", *self.options(), *forward, "-p", str(at.port), f"root@{at.host}"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                until(lambda: _open(near) or process.poll() is not None, "ssh -L listening")
                assert process.poll() is None, process.communicate()[1]
                yield Address("127.0.0.1", near)
            finally:
                process.terminate()


def _open(port: int) -> bool:
    """Whether the port is listened on, found out without connecting: a connection would open a channel of its own."""
    wanted = f"0100007F:{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1] == wanted and line.split()[3] == "0A" for line in lines)


def _run(command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    given = more or {"stdin": subprocess.DEVNULL}
    return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, **given)
