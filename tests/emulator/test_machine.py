"""One emulated machine over SSH: ports, keys, commands, terminals, onstart, its life from boot to destruction."""

import asyncio
import hashlib
import io
import socket

import asyncssh
import paramiko
import pytest

from tests.emulator.machines import KEY, NO_DELAY, PUBLIC, booted, connected, folder, login, make, run, said, serving
from vastbench.emulator.machine import SandboxError, SshDelays, choose_isolation
from vastbench.emulator.truth import TruthLog

KINDS = ["plain"] + (["namespace"] if run(choose_isolation()).name == "namespace" else [])
BEST = KINDS[-1]
every_kind = pytest.mark.parametrize("kind", KINDS)


def refused(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_ports_are_known_from_the_start_and_refuse_until_ssh_opens():
    async def scenario():
        with folder() as path:
            machine = make(path / "900", await choose_isolation(BEST))
            try:
                assert machine.proxy_port != machine.direct_port
                assert refused(machine.proxy_port)
                await machine.boot({})
                assert refused(machine.proxy_port)
                assert refused(machine.direct_port)
                await machine.open_ssh()
                assert not refused(machine.proxy_port)
                assert not refused(machine.direct_port)
            finally:
                await machine.destroy()

    run(scenario())


def test_a_machine_without_direct_access_has_one_port():
    async def scenario():
        async with connected(BEST, direct=None) as (machine, ssh):
            assert machine.direct_port is None
            assert await said(ssh, "echo x") == "x"

    run(scenario())


def test_the_truth_log_brackets_the_system_call_that_opens_ssh():
    truth = TruthLog(1.0)

    async def scenario():
        async with booted(BEST, truth=truth):
            (event,) = [event for event in truth.events if event["event"] == "ssh_open"]
            assert event["not_before_ns"] <= event["ns"]
            assert event["instance"] == 900

    run(scenario())


def test_both_addresses_lead_to_one_machine_with_one_host_key():
    async def scenario():
        async with booted(BEST) as machine, login(machine) as proxy, login(machine, machine.direct_port) as direct:
            await proxy.run("echo both > /workspace/x")
            assert await said(direct, "cat /workspace/x") == "both"
            assert proxy.get_server_host_key().public_data == direct.get_server_host_key().public_data

    run(scenario())


def test_two_machines_have_two_host_keys():
    async def scenario():
        async with connected(BEST, id=901) as (_, one), connected(BEST, id=902) as (_, two):
            assert one.get_server_host_key().public_data != two.get_server_host_key().public_data

    run(scenario())


@pytest.mark.parametrize("user", ["ubuntu", "nobody"])
def test_only_root_can_log_in(user):
    async def scenario():
        async with booted(BEST) as machine:
            with pytest.raises(asyncssh.PermissionDenied):
                await asyncssh.connect(
                    "127.0.0.1", machine.proxy_port, username=user, client_keys=[KEY], known_hosts=None, config=None
                )

    run(scenario())


def test_a_key_that_arrives_late_works_on_the_connection_that_was_refused():
    key = paramiko.Ed25519Key.from_private_key(io.StringIO(KEY.export_private_key().decode()))

    def client(port, authorize):
        with paramiko.Transport(("127.0.0.1", port)) as transport:
            transport.start_client(timeout=10)
            for _ in range(8):
                with pytest.raises(paramiko.AuthenticationException):
                    transport.auth_publickey("root", key)
            authorize()
            transport.auth_publickey("root", key)
            channel = transport.open_session(timeout=10)
            channel.exec_command("echo late")
            said = channel.makefile().read()
            channel.close()
            return said

    async def scenario():
        async with booted(BEST) as machine:
            machine.authorize([])
            loop = asyncio.get_running_loop()
            done = await asyncio.to_thread(
                client, machine.proxy_port, lambda: loop.call_soon_threadsafe(machine.authorize, [PUBLIC])
            )
            assert done == b"late\n"

    run(scenario())


def test_a_removed_key_is_refused_at_once_and_an_invalid_line_is_logged():
    async def scenario():
        async with booted(BEST) as machine:
            machine.authorize(["not a key"])
            with pytest.raises(asyncssh.PermissionDenied):
                async with login(machine):
                    pass
            assert "is no key" in machine.logs()

    run(scenario())


@every_kind
def test_commands_get_input_and_give_output_error_and_status(kind):
    async def scenario():
        async with connected(kind) as (_, ssh):
            done = await ssh.run("cat; echo bad >&2; exit 7", input="hello")
            assert (done.stdout, done.stderr, done.exit_status) == ("hello", "bad\n", 7)

    run(scenario())


@every_kind
def test_a_command_that_dies_by_a_signal_says_so(kind):
    async def scenario():
        async with connected(kind) as (_, ssh):
            assert (await ssh.run("kill -SEGV $$")).exit_signal[0] == "SEGV"

    run(scenario())


@every_kind
def test_signals_reach_the_command(kind):
    async def scenario():
        async with connected(kind) as (_, ssh):
            process = await ssh.create_process("trap 'echo got it; exit 3' USR1; echo ready; while :; do sleep 0.05; done")
            assert await process.stdout.readline() == "ready\n"
            process.send_signal("USR1")
            done = await process.wait()
            assert (done.stdout, done.exit_status) == ("got it\n", 3)

    run(scenario())


@every_kind
def test_no_output_is_lost_over_25_commands_at_once(kind):
    sizes = [(n * 7919 * 97) % 700_000 for n in range(25)]

    async def one(ssh, size):
        done = await ssh.run(f"head -c {size} /dev/zero | tr '\\0' x; exit 4", encoding=None)
        return len(done.stdout), done.exit_status

    async def scenario():
        async with connected(kind) as (machine, ssh):
            assert await asyncio.gather(*(one(ssh, size) for size in sizes)) == [(size, 4) for size in sizes]
            assert machine.bytes_up == sum(sizes)

    run(scenario())


def test_megabytes_go_in_and_come_back_unchanged_and_are_counted():
    data = bytes(range(256)) * 12_000

    async def scenario():
        async with connected(BEST) as (machine, ssh):
            done = await ssh.run("tee /workspace/x; sha256sum /workspace/x >&2", input=data, encoding=None)
            assert done.stdout == data
            assert done.stderr.split()[0].decode() == hashlib.sha256(data).hexdigest()
            assert machine.bytes_down == len(data)

    run(scenario())


def test_a_command_that_reads_nothing_does_not_hang_on_its_input():
    async def scenario():
        async with connected(BEST) as (_, ssh):
            assert (await ssh.run("exit 2", input=b"x" * 500_000, encoding=None)).exit_status == 2

    run(scenario())


@every_kind
def test_a_terminal_has_a_size_a_type_and_a_shell(kind):
    async def scenario():
        async with connected(kind) as (_, ssh):
            done = await ssh.run("stty size; echo $TERM; exit 3", term_type="vt100", term_size=(101, 41))
            assert (done.stdout.split(), done.exit_status) == (["41", "101", "vt100"], 3)
            shell = await ssh.create_process(term_type="xterm")
            shell.stdin.write("echo $((40+2))\nexit 5\n")
            done = await shell.wait()
            assert "42" in done.stdout
            assert done.exit_status == 5

    run(scenario())


def test_a_shell_without_a_terminal_reads_its_script_from_input():
    async def scenario():
        async with connected(BEST) as (_, ssh):
            assert "42" in (await ssh.run(input="echo $((40+2))\nexit\n")).stdout

    run(scenario())


@every_kind
def test_a_lost_client_ends_its_command_but_not_daemons(kind):
    async def scenario():
        async with booted(kind) as machine:
            async with login(machine) as ssh:
                await ssh.run(
                    "setsid nohup sh -c 'echo $$ > /workspace/daemon; sleep 100' </dev/null >/dev/null 2>&1 & sleep 0.1"
                )
                process = await ssh.create_process("echo $$ > /workspace/foreground; echo up; sleep 100; echo never")
                assert await process.stdout.readline() == "up\n"
                ssh.abort()
                await ssh.wait_closed()
            async with login(machine) as ssh:
                ended = "for i in $(seq 100); do kill -0 $(cat /workspace/foreground) || break; sleep 0.05; done 2>/dev/null; "
                state = await said(ssh, ended + "kill -0 $(cat /workspace/foreground) 2>/dev/null || echo ended")
                assert state == "ended"
                assert await said(ssh, "kill -0 $(cat /workspace/daemon) && echo alive") == "alive"

    run(scenario())


def test_sessions_get_a_login_environment_and_what_etc_environment_holds():
    onstart = "echo started; env >> /etc/environment"

    async def scenario():
        async with connected(BEST, onstart=onstart, env={"CONTAINER_ID": "900", "TEXT": 'it\'s "quoted"'}) as (machine, ssh):
            for _ in range(100):
                if "TEXT" in await said(ssh, "cat /etc/environment" if BEST == "namespace" else "cat ~/../etc/environment"):
                    break
            assert await said(ssh, 'echo "$CONTAINER_ID/$TEXT/$USER"') == '900/it\'s "quoted"/root'
            assert "started" in machine.logs()

    run(scenario())


def test_the_containers_environment_is_onstarts_alone_unless_exported():
    async def scenario():
        async with connected(BEST, onstart="true", env={"CONTAINER_API_KEY": "k"}) as (_, ssh):
            assert await said(ssh, "echo [$CONTAINER_API_KEY]") == "[]"

    run(scenario())


def test_onstart_runs_at_every_boot_and_files_survive_a_stop():
    async def scenario():
        async with booted(BEST, onstart="echo boot >> /workspace/boots; cat /workspace/boots | wc -l; echo ran") as machine:
            proxy, direct = machine.proxy_port, machine.direct_port
            while machine.logs().count("ran") < 1:
                await asyncio.sleep(0.01)
            await machine.stop()
            assert refused(proxy)
            assert refused(direct)
            await machine.boot({})
            while machine.logs().count("ran") < 2:
                await asyncio.sleep(0.01)
            await machine.open_ssh()
            assert machine.proxy_port == proxy
            async with login(machine) as ssh:
                assert await said(ssh, "cat /workspace/boots; head -1 ~/onstart.sh | cut -c1-9") == "boot\nboot\necho boot"

    run(scenario())


def test_stop_drops_connections_and_what_runs_on_them():
    async def scenario():
        async with connected(BEST) as (machine, ssh):
            process = await ssh.create_process("echo up; sleep 100")
            await process.stdout.readline()
            await machine.stop()
            await ssh.wait_closed()
            with pytest.raises(SandboxError, match="not running"):
                await machine.open_ssh()

    run(scenario())


def test_a_destroyed_machine_does_not_boot_again_and_its_ports_are_free():
    async def scenario():
        with folder() as path:
            machine = make(path / "900", await choose_isolation(BEST))
            await machine.destroy()
            with pytest.raises(SandboxError, match="destroyed"):
                await machine.boot({})

    run(scenario())


def test_delays_are_drawn_once_per_connection_and_once_per_command():
    drawn = []
    delays = SshDelays(lambda: drawn.append("login") or 0.02, lambda: drawn.append("command") or 0.01)

    async def scenario():
        async with booted(BEST, proxy=NO_DELAY, direct=delays) as machine, login(machine, machine.direct_port) as ssh:
            await ssh.run("true")
            await ssh.run("true")

    run(scenario())
    assert drawn == ["login", "command", "command"]


@every_kind
def test_local_forwarding_reaches_the_loopback_and_nothing_else(kind):
    async def scenario():
        async with connected(kind) as (_, ssh), serving(ssh) as port:
            reader, writer = await ssh.open_connection("localhost", port)
            writer.write(b"it\n")
            assert await reader.read() == b"got it\n"
            writer.close()
            with pytest.raises(asyncssh.ChannelOpenError):
                await ssh.open_connection("192.0.2.1", 80)

    run(scenario())


def test_no_key_material_shows_in_the_machines_text():
    async def scenario():
        async with booted(BEST, env={"CONTAINER_API_KEY": "topsecret"}, onstart="true") as machine:
            assert "topsecret" not in repr(machine) + machine.logs()

    run(scenario())
