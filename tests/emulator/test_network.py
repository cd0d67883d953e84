"""The network of an instance: its own loopback, and beside that only the marketplace and what its user forwards by SSH."""

import asyncio
import contextlib
import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.emulator.machines import connected, folder, make, run, said, serving
from tests.emulator.test_sandbox import needs_namespaces
from vastbench.cli import doctor
from vastbench.emulator.choosing import choose_isolation
from vastbench.emulator.isolation import NAMESPACE
from vastbench.emulator.sshd import HeldPort

pytestmark = needs_namespaces


@contextlib.asynccontextmanager
async def hosting(address="127.0.0.1"):
    """A service of the host that says hello to a line; gives its port."""

    async def answer(reader, writer):
        await reader.readline()
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, address, 0) as server:
        yield server.sockets[0].getsockname()[1]


def asks(port, host="127.0.0.1"):
    """The command that sends a line there and prints the answer."""
    return f"bash -c 'exec 3<>/dev/tcp/{host}/{port}; echo >&3; cat <&3'"


async def forwarded(ssh, port):
    """What a program in the machine answers through SSH."""
    reader, writer = await ssh.open_connection("localhost", port)
    writer.write(b"it\n")
    answer = await reader.read()
    writer.close()
    return answer


def sockets():
    """This process's own."""
    return sum(one.is_socket() for one in Path("/proc/self/fd").iterdir())


def test_the_loopback_is_all_that_it_has():
    async def scenario():
        async with connected(NAMESPACE) as (_, ssh):
            assert await said(ssh, "tail -n +3 /proc/net/dev | cut -d: -f1 | xargs; cat /proc/net/route | wc -l") == "lo\n1"

    run(scenario())


def test_what_it_binds_cannot_be_reached_from_the_host():
    async def scenario():
        async with connected(NAMESPACE) as (_, ssh), serving(ssh) as port:
            assert await said(ssh, asks(port)) == "got"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))

    run(scenario())


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_services_of_the_host_cannot_be_reached(address):
    async def scenario():
        async with hosting(address) as port, connected(NAMESPACE) as (_, ssh):
            assert "refused" in await said(ssh, asks(port))
            assert await forwarded(ssh, port) == b""
            assert "unreachable" in await said(ssh, asks(port, "192.0.2.1"))

    run(scenario())


def test_abstract_sockets_of_the_host_cannot_be_reached():
    async def scenario():
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"\0vastbench-{os.getpid()}")
            server.listen()
            async with connected(NAMESPACE) as (_, ssh):
                assert "vastbench" not in await said(ssh, "cat /proc/net/unix")

    run(scenario())


def test_the_marketplace_answers_inside_from_the_start_script_on():
    async def scenario():
        async with hosting() as port:
            script = f"{asks(port)}; echo; echo ran"
            async with connected(NAMESPACE, marketplace_port=port, onstart=script) as (machine, ssh):
                while "ran" not in machine.logs():
                    await asyncio.sleep(0.01)
                assert "hello\nran" in machine.logs()
                assert await asyncio.gather(*(said(ssh, asks(port)) for _ in range(5))) == ["hello"] * 5

    run(scenario())


def test_a_marketplace_that_is_down_hangs_up():
    async def scenario():
        held = HeldPort()
        async with connected(NAMESPACE, marketplace_port=held.number) as (_, ssh):
            assert "hello" not in await said(ssh, asks(held.number))
        held.release()

    run(scenario())


def test_its_ssh_ports_listen_inside_from_the_moment_they_do_outside():
    async def scenario():
        with folder() as path:
            machine = make(
                path / "900", await choose_isolation(NAMESPACE), onstart="while sleep 0.05; do cat /proc/net/tcp; done"
            )
            try:
                await machine.boot({})
                listening = [f":{port:04X} 00000000:0000 0A" for port in (machine.proxy_port, machine.direct_port)]
                while "sl" not in machine.logs():
                    await asyncio.sleep(0.01)
                assert not any(port in machine.logs() for port in listening)
                await machine.open_ssh()
                while not all(port in machine.logs() for port in listening):
                    await asyncio.sleep(0.01)
            finally:
                await machine.destroy()

    run(scenario())


def test_ssh_answers_inside():
    async def scenario():
        async with connected(NAMESPACE) as (machine, ssh):
            for port in (machine.proxy_port, machine.direct_port):
                banner = await said(ssh, f"bash -c 'exec 3<>/dev/tcp/localhost/{port}; head -1 <&3'")
                assert banner.startswith("SSH-2.0-OpenSSH")

    run(scenario())


def test_many_connections_at_once_reach_a_program_inside():
    async def scenario():
        async with connected(NAMESPACE) as (_, ssh), serving(ssh) as port:
            assert await asyncio.gather(*(forwarded(ssh, port) for _ in range(30))) == [b"got it\n"] * 30

    run(scenario())


def test_two_instances_use_the_same_port():
    async def scenario():
        async with (
            connected(NAMESPACE, id=901) as (_, one),
            connected(NAMESPACE, id=902) as (_, two),
            serving(one) as port,
            serving(two, port) as same,
        ):
            assert same == port
            assert [await forwarded(ssh, port) for ssh in (one, two)] == [b"got it\n"] * 2

    run(scenario())


def test_its_root_cannot_change_the_network():
    take_down = (
        "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH22x', b'lo', 0))"  # SIOCSIFFLAGS
    )

    async def scenario():
        async with connected(NAMESPACE) as (_, ssh), serving(ssh) as port:
            assert "not permitted" in await said(ssh, f'python3 -c "{take_down}"')
            assert await forwarded(ssh, port) == b"got it\n"

    run(scenario())


def test_a_stop_leaves_neither_network_nor_socket():
    async def scenario():
        before = sockets()
        async with hosting() as port:
            with folder() as path:
                machine = make(path / "900", await choose_isolation(NAMESPACE), marketplace_port=port)
                try:
                    for _ in range(2):
                        await machine.boot({})
                        machine.authorize([])
                        await machine.open_ssh()
                        network = Path(f"/proc/{machine._sandbox._inner}/ns/net").readlink()
                        (await machine._sandbox.tcp_socket()).close()
                        await machine.stop()
                        assert network not in networks()
                finally:
                    await machine.destroy()
        while sockets() != before:  # the event loop closes them in a few steps
            await asyncio.sleep(0.01)

    run(scenario())


def networks():
    """The networks of all processes that live; some end while we look."""
    found = set()
    for one in Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.add(one.readlink())
    return found


def test_connections_that_are_open_at_the_end_leave_no_socket():
    async def scenario():
        before = sockets()
        async with hosting() as port, connected(NAMESPACE, marketplace_port=port) as (machine, ssh), serving(ssh) as inside:
            await ssh.create_process(f"exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3")
            opened = [await ssh.open_connection("localhost", inside) for _ in range(10)]
            await machine.destroy()
            for _, writer in opened:
                writer.close()
        while sockets() != before:
            await asyncio.sleep(0.01)

    run(scenario())


@pytest.fixture
def no_networks(monkeypatch):
    """A system that lets nobody make a network namespace."""
    with folder() as path:
        path.chmod(0o755)
        unshare = path / "unshare"
        refusal = "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1"
        unshare.write_text(f'#!/bin/sh\ncase " $* " in *" --net "*) {refusal} ;; esac\nexec {shutil.which("unshare")} "$@"\n')
        unshare.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
        yield


def test_without_the_right_to_it_the_hosts_is_shared_as_doctor_says(no_networks):
    async def scenario():
        isolation = await choose_isolation()
        assert (isolation.name, isolation.own_network) == (NAMESPACE, False)
        async with hosting() as port, connected(None) as (_, ssh):
            assert await said(ssh, asks(port)) == "hello"
            async with serving(ssh) as inside:
                assert await forwarded(ssh, inside) == b"got it\n"

    run(scenario())
    finding = doctor._isolation()
    assert finding.state == "warn"
    assert "share this host's network: unshare: unshare failed: Operation not permitted" in finding.found
