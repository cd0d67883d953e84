"""Files in and out of an emulated machine: SFTP by asyncssh, and OpenSSH's own ssh, scp, sftp."""

import asyncio
import contextlib
import os
import shutil

import asyncssh
import pytest

from tests.emulator.machines import KEY, PUBLIC, booted, connected, folder, login, run, said, serving
from vastbench.emulator.machine import choose_isolation
from vastbench.emulator.truth import TruthLog

KINDS = ["plain"] + (["namespace"] if run(choose_isolation()).name == "namespace" else [])
BEST = KINDS[-1]
every_kind = pytest.mark.parametrize("kind", KINDS)


@contextlib.asynccontextmanager
async def files(kind, **more):
    async with connected(kind, **more) as (machine, ssh), ssh.start_sftp_client() as sftp:
        yield machine, ssh, sftp


async def write(sftp, path, data):
    async with sftp.open(path, "wb") as file:
        await file.write(data)


async def read(sftp, path):
    async with sftp.open(path, "rb") as file:
        return await file.read()


@every_kind
def test_what_sftp_writes_commands_read_and_the_other_way_round(kind):
    data = os.urandom(300_000)

    async def scenario():
        async with files(kind) as (machine, ssh, sftp):
            await write(sftp, "/workspace/a", data)
            assert (await ssh.run("cat /workspace/a", encoding=None)).stdout == data
            await ssh.run("cp /workspace/a /workspace/b; chmod 640 /workspace/b")
            assert await read(sftp, "/workspace/b") == data
            told = await sftp.stat("/workspace/b")
            assert (told.size, told.permissions & 0o777, told.uid, told.gid) == (len(data), 0o640, 0, 0)
            assert machine.bytes_down >= len(data)
            assert machine.bytes_up >= len(data)

    run(scenario())


@every_kind
def test_paths_are_the_machines_own_and_start_in_roots_home(kind):
    async def scenario():
        async with files(kind) as (_, ssh, sftp):
            assert await sftp.realpath(".") == "/root"
            await write(sftp, "notes", b"x")
            assert await said(ssh, "cat ~/notes") == "x"
            assert {"etc", "root", "tmp", "workspace"} <= set(await sftp.listdir("/"))
            assert not await sftp.exists("/work")

    run(scenario())


@every_kind
def test_folders_links_renames_and_removals_work(kind):
    async def scenario():
        async with files(kind) as (_, _, sftp):
            await sftp.makedirs("/workspace/one/two")
            await write(sftp, "/workspace/one/two/x", b"x")
            await sftp.symlink("/workspace/one", "/workspace/link")
            assert await read(sftp, "/workspace/link/two/x") == b"x"
            assert await read(sftp, "/workspace/one/two/../../link/./two/x") == b"x"
            assert await sftp.readlink("/workspace/link") == "/workspace/one"
            await sftp.rename("/workspace/one/two/x", "/workspace/y")
            await write(sftp, "/workspace/z", b"z")
            with pytest.raises(asyncssh.SFTPFailure):
                await sftp.rename("/workspace/y", "/workspace/z")
            await sftp.posix_rename("/workspace/y", "/workspace/z")
            assert await read(sftp, "/workspace/z") == b"x"
            await sftp.chmod("/workspace/z", 0o600)
            await sftp.truncate("/workspace/z", 0)
            assert (await sftp.stat("/workspace/z")).size == 0
            await sftp.rmtree("/workspace/one")
            await sftp.remove("/workspace/link")
            assert set(await sftp.listdir("/workspace")) == {".", "..", "z"}
            with pytest.raises(asyncssh.SFTPNoSuchFile):
                await sftp.stat("/workspace/nothing")

    run(scenario())


@every_kind
@pytest.mark.parametrize(
    "way", ["../../../../../..{path}", "/..{path}", "/workspace/link{path}", "/workspace/up{path}", "/proc/self/root{path}"]
)
def test_no_path_leads_out_of_the_machine(kind, way):
    async def scenario():
        with folder() as outside:
            (outside / "secret").write_text("secret")
            outside.chmod(0o777)
            async with files(kind) as (_, ssh, sftp):
                await ssh.run("ln -s / /workspace/link; ln -s ../../../../../../../.. /workspace/up")
                path = way.format(path=f"{outside}/secret")
                with pytest.raises(asyncssh.SFTPError):
                    await read(sftp, path)
                with pytest.raises(asyncssh.SFTPError):
                    await write(sftp, path.replace("secret", "made"), b"x")
            assert [one.name for one in outside.iterdir()] == ["secret"]

    run(scenario())


@every_kind
def test_a_link_to_a_host_file_leads_to_the_machines_own_file(kind):
    async def scenario():
        async with files(kind) as (_, ssh, sftp):
            await ssh.run("ln -s /etc/passwd /workspace/users; ln -s loop /workspace/loop")
            assert b"root:x:0:0:root:/root:/bin/bash\nnobody" in await read(sftp, "/workspace/users")
            with pytest.raises(asyncssh.SFTPError):
                await read(sftp, "/workspace/loop")

    run(scenario())


def test_pipes_and_devices_of_the_machines_making_do_not_stop_the_emulator():
    async def scenario():
        async with files(BEST) as (_, ssh, sftp):
            await ssh.run("mkfifo /workspace/pipe")
            with pytest.raises(asyncssh.SFTPError):
                await read(sftp, "/workspace/pipe")
            with pytest.raises(asyncssh.SFTPError):
                await write(sftp, "/workspace/pipe", b"x")

    run(scenario())


@pytest.mark.skipif(
    "namespace" not in KINDS,
    reason="this machine has no namespaces, and without them an instance has no programs of its own to show",
)
def test_the_programs_are_seen_but_not_writable_by_sftp():
    async def scenario():
        async with files("namespace") as (_, _, sftp):
            assert await sftp.exists("/usr/bin/env")
            with pytest.raises(asyncssh.SFTPError):
                await write(sftp, "/usr/x", b"x")

    run(scenario())


openssh = pytest.mark.skipif(not all(map(shutil.which, ("ssh", "scp", "sftp"))), reason="OpenSSH's client is not installed")


@contextlib.asynccontextmanager
async def tools(kind):
    """A machine, a folder, and a way to run OpenSSH's programs against the machine."""
    with folder() as path:
        KEY.write_private_key(str(path / "key"))
        (path / "key").chmod(0o600)
        options = ["-F", "none", "-i", str(path / "key"), "-oIdentitiesOnly=yes", "-oBatchMode=yes", "-oLogLevel=ERROR"]
        options += ["-oStrictHostKeyChecking=no", f"-oUserKnownHostsFile={path}/known"]

        async def call(program, port, *words, stdin=b""):
            flag = "-p" if program == "ssh" else "-P"
            process = await asyncio.create_subprocess_exec(
                program, *options, flag, str(port), *words, stdin=-1, stdout=-1, stderr=asyncio.subprocess.STDOUT
            )
            out, _ = await asyncio.wait_for(process.communicate(stdin), 20)
            return process.returncode, out.decode()

        async with booted(kind) as machine:
            yield machine, path, call


@openssh
@every_kind
def test_openssh_runs_commands_on_both_addresses(kind):
    async def scenario():
        async with tools(kind) as (machine, _, call):
            for port in (machine.proxy_port, machine.direct_port):
                assert await call("ssh", port, "root@127.0.0.1", "cat; exit 3", stdin=b"in") == (3, "in")
            assert (await call("ssh", machine.proxy_port, "-tt", "root@127.0.0.1", "stty size >/dev/null && echo tty"))[
                1
            ] == "tty\r\n"

    run(scenario())


@openssh
@every_kind
def test_scp_copies_both_ways_by_sftp(kind):
    async def scenario():
        async with tools(kind) as (machine, path, call):
            (path / "x").write_bytes(os.urandom(100_000))
            assert await call("scp", machine.proxy_port, str(path / "x"), "root@127.0.0.1:/workspace/x") == (0, "")
            assert await call("scp", machine.direct_port, "root@127.0.0.1:/workspace/x", str(path / "y")) == (0, "")
            assert (path / "x").read_bytes() == (path / "y").read_bytes()

    run(scenario())


@openssh
@every_kind
def test_scp_copies_both_ways_by_its_old_protocol(kind):
    async def scenario():
        async with tools(kind) as (machine, path, call):
            (path / "x").write_bytes(os.urandom(100_000))
            assert await call("scp", machine.proxy_port, "-O", str(path / "x"), "root@127.0.0.1:/workspace/x") == (0, "")
            assert await call("scp", machine.direct_port, "-O", "root@127.0.0.1:/workspace/x", str(path / "y")) == (0, "")
            assert (path / "x").read_bytes() == (path / "y").read_bytes()

    run(scenario())


@openssh
def test_sftp_lists_puts_and_gets():
    async def scenario():
        async with tools(BEST) as (machine, path, call):
            (path / "x").write_text("hello")
            script = f"put {path}/x /workspace/x\nls -l /workspace\nget /workspace/x {path}/y\nrm /workspace/x\nquit\n"
            code, told = await call("sftp", machine.proxy_port, "-b", "-", "root@127.0.0.1", stdin=script.encode())
            assert code == 0, told
            assert "root" in told
            assert (path / "y").read_text() == "hello"

    run(scenario())


@openssh
def test_ssh_l_forwards_to_the_loopback():
    async def scenario():
        async with tools(BEST) as (machine, _, call), login(machine) as ssh, serving(ssh) as port:
            told = await call("ssh", machine.direct_port, "-W", f"127.0.0.1:{port}", "root@127.0.0.1", stdin=b"it\n")
            assert told == (0, "got it\n")

    run(scenario())


def test_accepted_keys_are_in_the_machines_file_when_the_truth_log_says_so():
    truth = TruthLog(1.0)

    async def scenario():
        async with connected(BEST, truth=truth) as (machine, ssh):
            assert await said(ssh, "cat ~/.ssh/authorized_keys; stat -c %a ~/.ssh/authorized_keys") == f"{PUBLIC.strip()}\n600"
            machine.authorize([])
            assert await said(ssh, "cat ~/.ssh/authorized_keys") == ""
        (event,) = [event for event in truth.events if event["event"] == "key_written"]
        assert event["key"] == KEY.get_fingerprint()
        assert event["not_before_ns"] < event["ns"]

    run(scenario())


def test_a_link_in_place_of_the_keys_folder_is_not_followed(tmp_path):
    async def scenario():
        async with connected(BEST) as (machine, ssh):
            await said(ssh, f"rm -rf ~/.ssh && ln -s {tmp_path} ~/.ssh")
            machine.authorize([PUBLIC])
            assert list(tmp_path.iterdir()) == []
            assert "authorized_keys cannot be written" in machine.logs()

    run(scenario())
