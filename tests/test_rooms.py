"""The rules of the house: which room may import which."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vastbench
from vastbench.analysis.frames import phases_table
from vastbench.bundled import shared
from vastbench.io.files import read_run

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


def in_room(room: str) -> list[Path]:
    files = [path for path in MODULES if path.relative_to(PACKAGE).as_posix().startswith(room)]
    assert files, room
    return files


def offences(room: str, forbidden: tuple[str, ...]) -> list[str]:
    return [f"{path.name} imports {name}" for path in in_room(room) for name in imported(path) if name.startswith(forbidden)]


ANALYSIS = ("vastbench.analysis", "vastbench.record.run", "vastbench.record.phases", "vastbench.errors")
NETWORK = {"http", "httpx", "paramiko", "requests", "socket", "urllib"}
DISK = {"os", "pathlib", "shutil", "sqlalchemy", "subprocess", "tempfile"}
CLOCK_AND_CHANCE = {"random", "secrets", "time"}


@pytest.mark.parametrize(("room", "allowed"), [("analysis/", ANALYSIS), ("charts", (*ANALYSIS, "vastbench.charts"))])
def test_analysis_and_charts_need_nothing_else_of_the_package(room, allowed):
    for path in in_room(room):
        ours = {name for name in imported(path) if name.split(".")[0] == "vastbench"}
        strange = [name for name in ours if not any(name == one or name.startswith(one + ".") for one in allowed)]
        assert strange == [], path.name


def test_analysis_has_no_network_no_disk_and_no_clock():
    calls = {"open", "now", "today", "utcnow", "read_csv", "read_json", "read_parquet", "to_csv", "to_parquet", "savefig"}
    for path in in_room("analysis/"):
        assert {name.split(".")[0] for name in imported(path)} & (NETWORK | DISK | CLOCK_AND_CHANCE) == set(), path.name
        called = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert calls & {getattr(call, "attr", getattr(call, "id", "")) for call in called} == set(), path.name


ANALYST = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # importing it fails

import pandas as pd
from vastbench import charts
from vastbench.analysis import bottleneck, cost, frames, summary

phases = frames.conformed(pd.read_parquet({file!r}))
for table in (summary.outcomes, summary.phase_summary, bottleneck.shares, bottleneck.what_if, cost.cost_summary):
    assert len(table(phases)), table
charts.phase_waterfall(phases).figure.savefig({figure!r})
print(summary.phase_summary(phases).set_index("phase").loc["wait running", "median_s"])
"""


def test_an_analyst_with_a_parquet_file_needs_neither_client_nor_store_nor_emulator(tmp_path):
    file, figure = tmp_path / "runs.parquet", tmp_path / "waterfall.png"
    phases_table([read_run(shared("data/runs") / "2026-01-02-rtx4090.json")]).to_parquet(file)
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    kept = {"__init__", "analysis", "charts", "run", "timing", "errors", "clock"}
    blocked = [f"vastbench.{room}" for room in rooms - kept] + ["httpx", "paramiko", "asyncssh", "sqlalchemy", "pydantic"]
    program = ANALYST.format(blocked=blocked, file=str(file), figure=str(figure))
    environment = os.environ | {"MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(72.77)
    assert figure.stat().st_size > 0


def test_scenarios_know_nothing_of_the_store():
    assert offences("scenarios/", ("vastbench.store", "sqlalchemy")) == []


def test_timing_is_pure():
    assert (
        offences("timing.py", ("vastbench.vast", "vastbench.ssh", "vastbench.store", "httpx", "paramiko", "time", "datetime"))
        == []
    )


def test_the_emulator_shares_no_code_with_the_client():
    rooms = ("vastbench.emulator", "vastbench.errors", "vastbench.bundled")
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
