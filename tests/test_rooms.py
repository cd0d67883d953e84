"""The rules of the house: which room may import which."""

import ast
from pathlib import Path

import pytest

import vastbench

PACKAGE = Path(vastbench.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offences(room: str, forbidden: tuple[str, ...]) -> list[str]:
    files = [path for path in MODULES if path.relative_to(PACKAGE).as_posix().startswith(room)]
    assert files, room
    return [f"{path.name} imports {name}" for path in files for name in imported(path) if name.startswith(forbidden)]


@pytest.mark.parametrize("room", ["analysis/", "charts.py"])
def test_analysis_and_charts_need_neither_network_nor_store(room):
    assert (
        offences(room, ("vastbench.vast", "vastbench.ssh", "vastbench.store", "vastbench.emulator", "httpx", "paramiko")) == []
    )


def test_scenarios_know_nothing_of_the_store():
    assert offences("scenarios/", ("vastbench.store", "sqlalchemy")) == []


def test_timing_is_pure():
    assert (
        offences("timing.py", ("vastbench.vast", "vastbench.ssh", "vastbench.store", "httpx", "paramiko", "time", "datetime"))
        == []
    )


def test_the_emulator_shares_no_code_with_the_client():
    rooms = ("vastbench.emulator", "vastbench.errors", "vastbench.resources")
    for path in (PACKAGE / "emulator").glob("*.py"):
        ours = {name for name in imported(path) if name.startswith("vastbench.")}
        assert [name for name in ours if not name.startswith(rooms)] == [], path.name
        assert not {"httpx", "paramiko"} & {name.split(".")[0] for name in imported(path)}, path.name


def test_the_client_does_not_reach_into_the_emulator():
    rooms = [path for path in MODULES if path.parent.name in {"vast", "ssh", "scenarios", "store", "report", "analysis"}]
    assert [path.name for path in rooms if any(name.startswith("vastbench.emulator") for name in imported(path))] == []


def test_the_official_client_is_never_imported():
    assert [path.name for path in MODULES if any(name.split(".")[0] == "vastai" for name in imported(path))] == []


def test_a_module_is_read_in_one_sitting():
    assert [path.name for path in MODULES if len(path.read_text().splitlines()) > 600] == []
