"""The emulator as a whole: it starts, it stops, it leaves nothing behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

import vastbench.emulator
from tests.emulator.conftest import Api
from vastbench.emulator import Emulator
from vastbench.errors import NotFound, SettingsError, UsageError


def children() -> set[str]:
    """The processes that this process started."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()) if sys.platform == "linux" else set()


def test_it_leaves_no_thread_process_port_or_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    threads, processes = set(threading.enumerate()), children()
    with Emulator("seed", speed=500) as emulator:
        api = Api(emulator)
        ports = [api.wait_status(api.create(), "running")["ssh_port"] for _ in range(2)]
        api.http.close()
        assert list(tmp_path.iterdir())
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)  # one that waited for a process may still be on its way out
        assert not thread.is_alive()
    assert children() == processes
    assert not list(tmp_path.iterdir())
    for port in (*ports, int(emulator.url.rpartition(":")[2])):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"profile": "flakey"}, NotFound, "'flakey'.*Did you mean flaky"),
        ({"speed": "fast"}, UsageError, "speed is 'fast'"),
        ({"port": "any"}, UsageError, "port is 'any'"),
        ({"faults": {"key-nevr": 1.0}}, UsageError, "'key-nevr'.*Did you mean key-never"),
        ({"faults": {"key-never": "often"}}, UsageError, "'often'"),
    ],
)
def test_a_wrong_setting_is_named_before_it_starts(wrong, error, said) -> None:
    with pytest.raises(error, match=said):
        Emulator(**wrong)


def test_stop_is_idempotent_and_a_new_start_has_a_new_key() -> None:
    emulator = Emulator("seed", speed=500)
    first = emulator.start().api_key
    emulator.stop()
    emulator.stop()
    assert emulator.start().api_key != first
    emulator.stop()


def test_the_events_can_be_read_after_the_stop_and_are_in_the_file(tmp_path: Path) -> None:
    with Emulator("seed", speed=500, truth=tmp_path / "truth.jsonl") as emulator:
        api = Api(emulator)
        instance = api.create()
        api.http.close()
    assert emulator.events[0]["instance"] == instance
    assert (tmp_path / "truth.jsonl").read_text("utf-8").count("create_effective") == 1


def test_the_package_itself_can_be_called_and_works_under_a_running_loop() -> None:
    async def notebook() -> int:
        with vastbench.emulator(profile="seed", speed=500) as vast:
            return httpx.get(f"{vast.url}/api/v0/gpu_names/unique/").status_code

    assert asyncio.run(notebook()) == 200


def test_its_key_is_in_no_repr() -> None:
    with Emulator("seed", speed=500) as emulator:
        assert emulator.api_key not in repr(emulator)


def test_bad_settings_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="speed is 0"):
        Emulator(speed=0)
    with pytest.raises(UsageError, match="port is 70000"):
        Emulator(port=70000)
    with pytest.raises(NotFound, match="nonsense"):
        Emulator("nonsense").start()
    with pytest.raises(SettingsError, match="truth log"):
        Emulator("seed", truth=tmp_path / "no" / "such" / "folder").start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="Port"):
            Emulator("seed", port=taken.getsockname()[1]).start()


def test_importing_it_loads_no_server() -> None:
    script = "import sys, vastbench.emulator; print({'starlette', 'uvicorn', 'asyncssh', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_prints_what_a_shell_evaluates_and_ends_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    script = "from vastbench.emulator import Emulator, serve\n"
    script += "serve(Emulator('seed', seed=1, speed=20.0), lambda line: print(line, flush=True))"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command, pipe = [sys.executable, "-W", "error", "-c", script], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline().strip() for _ in range(3)]
        said = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        reply = httpx.get(
            f"{said['VAST_URL']}/api/v0/users/current/", headers={"Authorization": f"Bearer {said['VAST_API_KEY']}"}
        )
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    assert reply.status_code == 200
    assert said["VASTBENCH_SPEED"] == "20"
    assert not list(tmp_path.iterdir())
