"""Closing an emulator: whatever its machines are doing, and however it is hurried, it returns when nothing of it is left."""

import asyncio
import gc
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import asyncssh
import pytest

from tests.emulator.conftest import Api
from tests.emulator.machines import KEY, PUBLIC, booted, run
from tests.emulator.test_server import children
from vastbench.emulator import Emulator, engine, leftovers
from vastbench.emulator.choosing import choose_isolation

KINDS = ["plain"] + (["namespace"] if run(choose_isolation()).name == "namespace" else [])
COMMANDS = {
    "run": "sleep 1000",
    "have left daemons that hold their pipes": "setsid sleep 1000 & sleep 1000",
    "say more than their client reads": "setsid sleep 1000 & cat /dev/zero",
}


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    """No process, no thread, and nothing that Python's garbage collector would find unclosed: it blames an innocent test."""
    found, before, threads = [], children(), set(threading.enumerate())
    monkeypatch.setattr(sys, "unraisablehook", lambda one: found.append(repr(one.exc_value)))
    yield
    gc.collect()
    assert found == []
    assert children() <= before
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)  # one that has said its last word to a closed loop may still be on its way out
        assert not thread.is_alive(), thread


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    monkeypatch.setattr(engine, "_tried", [run(choose_isolation(request.param))])
    return request.param


def rented(emulator, count, **order):
    """The ids and SSH ports of running instances that accept :data:`KEY`."""
    api = Api(emulator)
    with api.http:
        api("POST", "/api/v0/ssh/", json={"ssh_key": PUBLIC})
        ids = [api.create(**order) for _ in range(count)]
        return {one: api.wait_status(one, "running")["ssh_port"] for one in ids}


async def logged_in(port):
    options = {"username": "root", "client_keys": [KEY], "known_hosts": None, "agent_path": None, "config": None}
    while True:
        try:
            return await asyncssh.connect("127.0.0.1", port, **options)
        except (OSError, asyncssh.Error):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("what", COMMANDS)
@pytest.mark.parametrize("client", ["waits", "has gone"])
def test_commands_that(what, client, kind):
    async def scenario():
        with Emulator("seed", speed=500) as emulator:
            ports = await asyncio.to_thread(rented, emulator, 2, onstart="sleep 1000")
            logins = [await logged_in(port) for port in ports.values()]
            for ssh in logins:
                for _ in range(3):
                    process = await ssh.create_process(f"echo up; {COMMANDS[what]}")
                    await process.stdout.readline()
                    process.channel.pause_reading()
                shell = await ssh.create_process(COMMANDS[what], term_type="xterm")
                shell.channel.pause_reading()
                await ssh.create_process("sleep 1000")  # perhaps still being started
                if client == "has gone":
                    ssh.abort()
            ended = emulator._engine
            await asyncio.to_thread(emulator.stop)
        assert ended.ended.is_set()
        assert ended.failure is None
        for ssh in logins:
            ssh.abort()
            await ssh.wait_closed()

    run(scenario())


def test_files_and_forwarded_ports_that_are_open(kind):
    async def scenario():
        with Emulator("seed", speed=500) as emulator:
            ports = await asyncio.to_thread(rented, emulator, 1)
            ssh = await logged_in(*ports.values())
            files = await ssh.start_sftp_client()
            await (await files.open("/workspace/half", "wb")).write(b"x" * 100_000)
            _, writer = await ssh.open_connection("localhost", int(emulator.url.rpartition(":")[2]))
            writer.write(b"GET /")
            await asyncio.to_thread(emulator.stop)
        await ssh.wait_closed()

    run(scenario())


@pytest.mark.parametrize("orders", [("DELETE",), ("PUT", "DELETE"), ("PUT", "PUT", "DELETE")])
def test_orders_that_overtake_one_another_and_are_under_way(orders, kind):
    def give(api, instance):
        for method, state in zip(orders, ("stopped", "running", None), strict=False):
            api(method, f"/api/v0/instances/{instance}/", json={"state": state})

    for lead_s in (0.0, 0.01, 0.03):
        with Emulator("seed", speed=500) as emulator:
            ports = rented(emulator, 4, onstart="sleep 1000")
            api, ended = Api(emulator), emulator._engine
            with api.http, ThreadPoolExecutor(4) as pool:
                given = [pool.submit(give, api, instance) for instance in ports]
                time.sleep(lead_s)
                emulator.stop()
                for one in given:
                    one.exception()  # an emulator that is closing hangs up
        assert ended.failure is None


def test_clients_that_connect_while_it_closes():
    def knock(port, kept):
        while True:
            try:
                kept.append(socket.create_connection(("127.0.0.1", port)))
            except OSError:
                return

    for _ in range(5):
        kept = []
        with Emulator("seed", speed=500) as emulator, ThreadPoolExecutor(4) as pool:
            port = int(emulator.url.rpartition(":")[2])
            for _ in range(4):
                pool.submit(knock, port, kept)
            emulator.stop()
        for one in kept:
            one.close()


@pytest.mark.parametrize("end", ["stop", "destroy"])
@pytest.mark.parametrize("steps", range(1, 5))
def test_a_machines_end_that_is_cancelled_half_way_comes_nevertheless(end, steps, kind):
    async def scenario():
        async with booted(kind, onstart="sleep 1000") as one:
            ending = asyncio.ensure_future(getattr(one, end)())
            for _ in range(steps):
                await asyncio.sleep(0)
            ending.cancel()
            await asyncio.sleep(0)
            ending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ending
            assert one._sandbox is None

    run(scenario())


def test_one_machine_whose_end_fails_keeps_no_other_from_its_own(kind, monkeypatch, caplog):
    remove, failed = leftovers.empty, []

    def fail_once(directory):
        remove(directory)
        if not failed:
            failed.append(directory)
            raise OSError("no")

    monkeypatch.setattr(leftovers, "empty", fail_once)
    with Emulator("seed", speed=500) as emulator:
        rented(emulator, 3)
    assert [record.message for record in caplog.records if record.name.startswith("vastbench")] == [
        "The emulator did not end as it should; its processes may be left: OSError('no')"
    ]


def test_a_stop_that_is_interrupted_is_interrupted_when_nothing_is_left(monkeypatch):
    stop = engine.Engine.stop

    def interrupted(self):
        stop(self)
        signal.raise_signal(signal.SIGINT)

    emulator = Emulator("seed", speed=500).start()
    rented(emulator, 2, onstart="sleep 1000")
    monkeypatch.setattr(engine.Engine, "stop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        emulator.stop()


@pytest.mark.parametrize("moment", ["before its first step", "before it answers"])
def test_a_start_that_is_interrupted_leaves_nothing(moment, monkeypatch, tmp_path):
    serve = engine.Engine.run

    def run_on(self):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        serve(self)

    emulator = Emulator("seed", truth=tmp_path / "truth.jsonl")
    with monkeypatch.context() as patched:
        if moment == "before it answers":
            patched.setattr(engine.Engine, "run", run_on)
        else:
            patched.setattr("atexit.register", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            emulator.start()
    with emulator:  # and does not stand in the way of the next
        assert emulator.alive == []
