"""What an instance can do to the host, to the emulator and to its neighbours: nothing."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.emulator.machines import PUBLIC, booted, connected, folder, login, make, run, said
from vastbench.emulator import Emulator
from vastbench.emulator.choosing import choose_isolation
from vastbench.emulator.isolation import NAMESPACE, PLAIN, Isolation
from vastbench.emulator.sandbox import MOST_PROCESSES, SandboxError

needs_namespaces = pytest.mark.skipif(
    run(choose_isolation()).name != NAMESPACE, reason=f"this machine has no namespaces: {run(choose_isolation()).reason}"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give instances host users of their own")


def processes(mark: str) -> list[int]:
    """The host's processes with ``mark`` in their command line, ourselves excepted."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def started(mark: str, count: int) -> bool:
    """Whether there are ``count`` of them within five seconds."""
    deadline = time.monotonic() + 5
    while len(processes(mark)) < count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(mark: str) -> bool:
    """Whether they end within five seconds."""
    deadline = time.monotonic() + 5
    while processes(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_the_choice_is_made_by_trying_and_gives_its_reason():
    chosen = run(choose_isolation())
    assert chosen.name in (NAMESPACE, PLAIN)
    assert chosen.reason


def test_without_unshare_the_choice_is_plain_and_says_what_is_missing(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("vastbench.emulator.sandbox._tool", _no_tool)
    chosen = run(choose_isolation())
    assert chosen.name == PLAIN
    assert "there is no" in chosen.reason


def _no_tool(name):
    from vastbench.emulator.sandbox import SandboxError

    raise SandboxError(f"there is no {name}")


def test_a_kind_of_isolation_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="chroot"):
        run(choose_isolation("chroot"))


@needs_root
def test_every_instance_gets_a_host_user_of_its_own_and_never_root():
    chosen = run(choose_isolation())
    users = {chosen.uid(n) for n in range(900, 1100)}
    assert len(users) == 200
    assert 0 not in users
    assert None not in users


def test_without_root_instances_run_as_the_emulators_own_user():
    assert Isolation(PLAIN, "", None).uid(900) is None


@needs_namespaces
def test_inside_is_root_with_its_own_name_tree_and_processes():
    async def scenario():
        async with connected(NAMESPACE) as (_, ssh):
            assert await said(ssh, "id -u; hostname; pwd") == "0\nC.900\n/root"
            assert await said(ssh, "cat /proc/1/cmdline | tr '\\0' ' '") == "cat"
            assert set((await said(ssh, "ls /proc | grep '^[0-9]' | wc -l")).split()) <= {"3", "4", "5"}

    run(scenario())


@needs_namespaces
@pytest.mark.parametrize(
    "attack",
    [
        "touch /usr/{mark}",
        "mount -o remount,bind,rw /usr; touch /usr/{mark}",
        "unshare -Urm sh -c 'mount -o remount,bind,rw /usr; touch /usr/{mark}'",
        "umount -l /usr; umount -R /usr; touch /usr/{mark}",
        "mount -t tmpfs none /usr && touch /usr/{mark}",
        "umount -l /; cd /; touch usr/{mark} ../usr/{mark}",
        "mkdir /workspace/old && mount --bind / /workspace/old; touch /workspace/old/usr/{mark}",
        "echo x > /etc/{mark}",
        "touch /etc/alternatives/{mark} /etc/ssl/certs/{mark}",
        "cp /bin/sh /tmp/{mark}; chmod u+s /tmp/{mark}; /tmp/{mark} -p -c 'touch /usr/{mark}'",
    ],
)
def test_nothing_it_does_writes_into_the_hosts_folders(attack):
    mark = f"vastbench-attack-{os.getpid()}"

    async def scenario():
        async with connected(NAMESPACE) as (_, ssh):
            await ssh.run(attack.format(mark=mark))

    run(scenario())
    written = [f"{place}/{mark}" for place in ("", "/usr", "/etc", "/etc/alternatives", "/etc/ssl/certs", "/tmp", "/root")]
    assert [path for path in written if Path(path).exists()] == []


@needs_namespaces
def test_the_programs_stay_read_only_whatever_its_root_mounts():
    async def scenario():
        async with connected(NAMESPACE) as (_, ssh):
            assert "denied" in await said(ssh, "mount -o remount,bind,rw /usr")
            assert "Read-only" in await said(ssh, "touch /usr/x")
            assert "not permitted" in await said(ssh, "mknod /tmp/disk b 254 0")

    run(scenario())


@needs_namespaces
def test_the_hosts_files_cannot_be_seen():
    async def scenario():
        with folder() as outside:
            (outside / "api-key").write_text("a secret")
            async with connected(NAMESPACE) as (machine, ssh):
                own = machine._directory.parent
                assert "a secret" not in await said(ssh, f"cat {outside}/api-key; cat /proc/*/root{outside}/api-key")
                assert await said(ssh, f"ls -d {outside} {own} {Path(__file__).parent} 2>/dev/null") == ""
                tops = set((await said(ssh, "ls /")).split())
                expected = {"bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "mnt", "opt", "proc", "root", "run"}
                assert tops <= expected | {"sbin", "srv", "sys", "tmp", "usr", "var", "workspace"}
                assert await said(ssh, "ls /home /mnt /srv /sys /var/log; ls -A /root /tmp") == (
                    "/home:\n\n/mnt:\n\n/srv:\n\n/sys:\n\n/var/log:\n/root:\n.ssh\n\n/tmp:"
                )
                assert "shadow" not in await said(ssh, "ls /etc")

    run(scenario())


@needs_namespaces
def test_the_emulator_can_be_neither_seen_nor_killed_nor_read():
    async def scenario():
        async with connected(NAMESPACE) as (_, ssh):
            for probe in ("", "umount /proc; ", "unshare -Ur ", "mkdir -p /tmp/p; mount -t proc proc /tmp/p; "):
                seen = await said(
                    ssh, f"{probe}cat /proc/*/cmdline /proc/*/environ /tmp/p/*/environ 2>/dev/null | tr '\\0' '\\n'"
                )
                assert "pytest" not in seen
                assert "PYTEST_CURRENT_TEST" not in seen
            await ssh.run(f"kill -9 {os.getpid()} {os.getppid()}; umount /proc; kill -9 {os.getpid()}")
            assert await said(ssh, "echo alive") == "alive"

    run(scenario())


@needs_namespaces
def test_the_entering_of_a_session_exposes_no_host_process_to_the_instance():
    """A guest that watches for processes entering never finds one whose root is the host's."""

    async def scenario():
        async with booted(NAMESPACE) as machine, login(machine) as ssh:
            look = "ls -d /proc/[0-9]*/root/boot /proc/[0-9]*/root/media"
            watch = f"i=0; while [ $i -lt 300 ]; do {look}; i=$((i+1)); done 2>/dev/null"
            spying = asyncio.ensure_future(said(ssh, watch))
            for _ in range(15):
                await ssh.run("true")
            assert await spying == ""

    run(scenario())


@needs_namespaces
def test_two_instances_see_neither_each_others_files_nor_processes():
    async def scenario():
        async with connected(NAMESPACE, id=901) as (_, one), connected(NAMESPACE, id=902) as (_, two):
            await one.run("echo treasure > /workspace/neighbour; cp /workspace/neighbour /tmp; cp /tmp/neighbour /dev/shm")
            await one.run("setsid sleep 4711 </dev/null >/dev/null 2>&1 & true")
            assert await said(two, "find /workspace /tmp /root /dev/shm /var /run -name neighbour") == ""
            assert "4711" in await said(one, "cat /proc/*/cmdline | tr '\\0' ' '")
            assert "4711" not in await said(two, "cat /proc/*/cmdline | tr '\\0' ' ' | sed 's/cat.*//'")
            assert "treasure" not in await said(two, "cat /proc/*/root/workspace/neighbour")

    run(scenario())


@needs_root
@pytest.mark.parametrize("kind", [NAMESPACE, PLAIN])
def test_what_an_instance_writes_belongs_to_its_own_host_user(kind):
    async def scenario():
        async with connected(kind) as (machine, ssh):
            await ssh.run("touch /workspace/mine")
            owner = (machine._root / "workspace/mine").stat().st_uid
            assert owner == machine._isolation.uid(900) != 0

    run(scenario())


@needs_root
def test_plain_folders_protect_neighbours_and_host_files_by_user_rights():
    async def scenario():
        async with connected(PLAIN, id=901) as (first, one), connected(PLAIN, id=902) as (_, two):
            await one.run("echo treasure > /workspace/neighbour")
            hidden = first._root / "workspace/neighbour"
            assert "denied" in await said(two, f"cat {hidden}")
            assert "denied" in await said(two, f"touch {hidden}")
            assert "denied" in await said(two, "touch /usr/x /etc/x 2>&1 | head -1")
            assert "not permitted" in await said(two, f"kill -9 {os.getpid()}")

    run(scenario())


def test_the_guests_environment_file_cannot_change_host_processes():
    """A preload that the guest puts into its environment acts, if at all, inside."""

    async def scenario():
        for kind in (NAMESPACE, PLAIN) if run_kind() == NAMESPACE else (PLAIN,):
            async with connected(kind) as (_, ssh):
                await ssh.run("printf 'LD_PRELOAD=/workspace/evil.so\\nKIND=\"a b\"\\n' > /etc/environment")
                told = await said(ssh, 'echo "$KIND"')
                assert "a b" in told.splitlines()  # beside what ld.so says of the missing library on stderr

    kind = run(choose_isolation()).name

    def run_kind():
        return kind

    run(scenario())


@pytest.mark.parametrize("kind", [pytest.param(NAMESPACE, marks=needs_namespaces), PLAIN])
def test_stop_leaves_no_process_and_destroy_no_file_nor_mount(kind):
    mark = f"sleep-{os.getpid()}-{kind}"

    async def scenario():
        with folder() as path:
            machine = make(path / "900", await choose_isolation(kind), onstart=f"sh -c 'sleep 1000; : {mark}'")
            await machine.boot({})
            machine.authorize([PUBLIC])
            await machine.open_ssh()
            async with login(machine) as ssh:
                await ssh.run(f"setsid nohup sh -c 'sleep 1000; : {mark}' </dev/null >/dev/null 2>&1 & true")
                assert await asyncio.to_thread(started, mark, 2)
                await machine.stop()
            assert processes(mark) == []
            assert (path / "900").is_dir()
            await machine.destroy()
            await machine.destroy()
            assert not (path / "900").exists()
            assert str(path) not in Path("/proc/self/mountinfo").read_text()

    run(scenario())


@needs_namespaces
def test_daemons_that_end_leave_no_zombies():
    async def scenario():
        async with connected(NAMESPACE) as (_, ssh):
            await ssh.run("for i in 1 2 3 4 5; do (sleep 0.01 &) done; sleep 0.1")
            assert " Z" not in await said(ssh, "cat /proc/[0-9]*/stat")

    run(scenario())


@needs_namespaces
def test_a_killed_emulator_takes_its_machines_with_it():
    mark = f"sleep-{os.getpid()}-orphan"
    program = f"""
import asyncio, sys
from tests.emulator.machines import booted
async def main():
    async with booted("namespace", onstart="setsid sh -c 'sleep 1000; : {mark}' & sleep 1000"):
        print("up", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with folder() as path:
        emulator = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"TMPDIR": str(path)},
        )
        with emulator:
            assert emulator.stdout is not None
            assert emulator.stdout.readline() == b"up\n"
            assert started(mark, 1)
            emulator.send_signal(signal.SIGKILL)
        assert gone(mark)


@needs_namespaces
def test_it_has_no_more_processes_than_it_may():
    async def scenario():
        async with connected(NAMESPACE) as (_, ssh):
            many = "i=0; while [ $i -lt 400 ]; do sleep 61.97 >/dev/null 2>&1 & i=$((i+1)); done"
            assert "fork" in await said(ssh, f"exec sh -c '{many}'")
            assert MOST_PROCESSES / 2 < len(processes("61.97")) <= MOST_PROCESSES

    run(scenario())


@pytest.mark.parametrize("kind", [NAMESPACE, PLAIN])
def test_its_files_become_no_larger_than_the_disk_that_was_rented(kind):
    async def scenario():
        async with booted(kind, disk_gb=0.05) as machine, login(machine) as ssh:
            one = "head -c 60000000 /dev/zero > /workspace/one; wc -c < /workspace/one"
            assert (await said(ssh, one)).endswith("50000000")  # after what the shell says of a head that was killed
            for _ in range(100):
                if "are full" in machine.logs():
                    break
                await asyncio.sleep(0.1)
            # What the shell says of a head that was killed may come before or after.
            more = "exec 2>/dev/null; head -c 1000 /dev/zero > /workspace/two; echo; cat /workspace/two | wc -c"
            assert await said(ssh, more) == "0"

    run(scenario())


@pytest.mark.parametrize("kind", [NAMESPACE, PLAIN])
def test_what_its_start_script_writes_is_kept_up_to_a_limit(kind, monkeypatch):
    monkeypatch.setattr("vastbench.emulator.machine.LOG_BYTES", 100_000)

    async def scenario():
        async with booted(kind, onstart="head -c 5000000 /dev/zero | tr '\\0' x; touch /workspace/wrote") as machine:
            async with login(machine) as ssh:
                while await said(ssh, "ls /workspace/wrote") != await said(ssh, "echo /workspace/wrote"):
                    await asyncio.sleep(0.05)
            assert machine.logs().count("x") == 100_000

    run(scenario())


def test_the_next_start_removes_the_folder_of_a_killed_emulator_alone(tmp_path):
    script = (
        "import time; from vastbench.emulator import Emulator; e = Emulator().start(); print(e.url, flush=True); time.sleep(60)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    killed, living = (
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) for _ in range(2)
    )
    try:
        assert all(one.stdout.readline() for one in (killed, living))
        assert len(list(tmp_path.glob("vastbench-emulator-*"))) == 2
        killed.kill()
        killed.wait()
        (tmp_path / "vastbench-emulator-not-ours").mkdir()
        subprocess.run([sys.executable, "-c", script.replace("60", "0")], env=environment, check=True, stdout=subprocess.PIPE)
        left = {one.name for one in tmp_path.glob("vastbench-emulator-*")} - {"vastbench-emulator-not-ours"}
        assert len(left) == 1
        assert living.poll() is None
    finally:
        for one in (killed, living):
            one.kill()
            one.wait()
            one.stdout.close()


def test_commands_of_others_are_refused_where_they_would_run_as_us():
    exposed = Isolation(PLAIN, "asked for", for_others=True)

    async def scenario():
        with folder() as path:
            machine = make(path / "900", exposed)
            try:
                await machine.boot({})
                machine.authorize([PUBLIC])
                await machine.open_ssh()
                async with login(machine) as ssh:
                    done = await ssh.run("cat /etc/passwd")
                    assert (done.exit_status, done.stdout) == (255, "")
                    assert "refused: without namespaces" in done.stderr
            finally:
                await machine.destroy()
            with_script = make(path / "901", exposed, onstart="true")
            with pytest.raises(SandboxError, match="refused"):
                await with_script.boot({})
            await with_script.destroy()

    run(scenario())


def test_an_emulator_without_namespaces_says_so_once(monkeypatch, caplog):
    monkeypatch.setattr("vastbench.emulator.engine._tried", [])
    monkeypatch.setattr(
        "vastbench.emulator.sandbox.shutil.which", lambda name, **_: None if name == "unshare" else f"/usr/bin/{name}"
    )
    for _ in range(2):
        with Emulator() as emulator:
            assert emulator.isolation == PLAIN
    (said,) = [record.getMessage() for record in caplog.records if "not isolated" in record.getMessage()]
    assert "vastbench doctor" in said
