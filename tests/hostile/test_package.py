"""What the package never does: unpickle, evaluate, or listen beyond this machine."""

import ast
import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

import vastbench
from tests.profiles import certain
from vastbench.bench.bench import Bench
from vastbench.emulator import Emulator
from vastbench.record.phases import PhaseName
from vastbench.scenarios.integration import VERIFY_FILE

MODULES = sorted(Path(vastbench.__file__).parent.rglob("*.py"))
LOADERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "jsonpickle"}
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "read_pickle",
    "allow_pickle",
    "unpack_archive",
    "extractall",
    "system",
    "popen",
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(Path(vastbench.__file__).parent).as_posix())
def test_nothing_is_unpickled_evaluated_or_unpacked(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names} & LOADERS
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").split(".")[0]} & LOADERS
        elif isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            of_re = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "re"
            found |= {called} & CALLS if not of_re else set()
            found |= {keyword.arg for keyword in node.keywords if keyword.arg == "allow_pickle"}
    assert found == set()


def listening() -> set[tuple[str, int]]:
    mine = psutil.Process()
    ours = [mine, *mine.children(recursive=True)]
    found = []
    for process in ours:
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            found += process.net_connections()
    return {(one.laddr.ip, one.laddr.port) for one in found if one.status == psutil.CONN_LISTEN}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_emulator_listens_on_loopback_only_at_any_port():
    for port in (0, free_port()):
        with Emulator(port=port) as vast:
            assert int(vast.url.rpartition(":")[2]) in {at for _, at in listening()}
            assert all(ip_address(host).is_loopback for host, _ in listening())


def test_an_emulated_instance_listens_on_loopback_only(tmp_path):
    seen = []

    def tell(name, phase):
        if name in (PhaseName.FIRST_COMMAND, VERIFY_FILE):
            seen.append(listening())

    with Bench(profile=certain(tmp_path), seed=4, speed=40, store=tmp_path / "runs.sqlite") as bench:
        assert bench.run(listener=tell).cause == ""
    assert max(map(len, seen)) > 1  # HTTP and SSH
    assert all(ip_address(host).is_loopback for hosts in seen for host, _ in hosts)
