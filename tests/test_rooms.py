"""The rules of the house: which room may import which."""

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import vastbench
from tests.profiles import certain
from vastbench.analysis.frames import phases_table
from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.record.phases import renting, returning
from vastbench.scenarios.integration import INTEGRATION

PACKAGE = Path(vastbench.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
HOUSE = PACKAGE.parent / "docs/architecture.md"

EVERYWHERE = {"errors"}
MAY_IMPORT: dict[str, set[str]] = {
    # from the top of the house to its ground: each room may import what is named, all of it below, and `errors`
    "cli": {
        "report",
        "answers",
        "bench",
        "scenarios",
        "notebooks",
        "rental",
        "render",
        "io",
        "webhooks",
        "analysis",
        "store",
        "vast",
        "ssh",
    }
    | {"record", "emulator", "interrupts", "settings", "clock"},
    "pytest_plugin": {"emulator"},
    "vastbench": {"answers", "bench", "scenarios", "notebooks", "render", "charts", "io", "analysis", "store", "record"},
    "report": {"answers", "scenarios", "notebooks", "render", "charts", "io", "analysis", "artefacts", "survival"}
    | {"store", "record", "interrupts", "settings", "bundled"},
    "answers": {"scenarios", "io", "analysis", "artefacts", "survival", "store", "record", "settings", "bundled"},
    "bench": {"scenarios", "rental", "webhooks", "analysis", "store", "vast", "record", "emulator", "owner", "interrupts"}
    | {"settings", "clock"},
    "scenarios": {"snapshots", "rental", "vast", "ssh", "record", "interrupts", "clock"},
    "snapshots": {"ssh", "record"},
    "notebooks": {"rental", "record", "interrupts", "settings", "bundled"},
    "rental": {"store", "vast", "ssh", "record", "owner", "interrupts", "settings", "clock", "timed"},
    "render": {"analysis", "artefacts", "survival", "record"},
    "charts": {"analysis", "survival", "record"},
    "io": {"analysis", "artefacts", "store", "record", "settings", "bundled"},
    "webhooks": {"store", "record", "timed"},
    "analysis": {"artefacts", "survival", "record"},
    "artefacts": {"survival", "record"},
    "survival": set(),
    "store": {"record", "owner", "settings"},
    "vast": {"record", "clock", "timed"},
    "ssh": {"record", "clock"},
    "record": {"clock"},
    "emulator": {"bundled"},
    "owner": set(),
    "interrupts": set(),
    "settings": set(),
    "clock": set(),
    "timed": set(),
    "bundled": set(),
    "errors": set(),
}


def room_of(module: str) -> str:
    """The room in which a module lies: a folder of the package, one of the two inside ``analysis/``, or a file beside them."""
    _, *inner = module.split(".")
    if inner[:1] == ["analysis"] and inner[1:2] in (["artefacts"], ["survival"]):
        return inner[1]
    return inner[0] if inner else "vastbench"


def imported(source: str) -> set[str]:
    """Every module and name that a file imports: at its top, inside a function, or for the type checker only."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules_in(source: str) -> set[str]:
    """The modules of the package that a file imports."""
    found = set()
    for name in imported(source):
        while name.startswith("vastbench") and name not in MODULES:
            name = name.rpartition(".")[0]
        found |= {name} & MODULES.keys()
    return found


def offences(sources: dict[str, str]) -> list[str]:
    """The imports of these modules that the table does not allow."""
    return [
        f"{module} imports {other}"
        for module, source in sources.items()
        for other in modules_in(source)
        if room_of(other) not in MAY_IMPORT[room_of(module)] | EVERYWHERE | {room_of(module)}
    ]


SOURCES = {module: path.read_text() for module, path in MODULES.items()}


def test_every_room_imports_only_what_the_table_allows():
    assert offences(SOURCES) == []


def test_the_table_allows_nothing_that_nobody_imports():
    used = defaultdict(set)
    for module, source in SOURCES.items():
        used[room_of(module)] |= {room_of(other) for other in modules_in(source)} - {room_of(module)} - EVERYWHERE
    assert {room: set(used[room]) for room in MAY_IMPORT} == MAY_IMPORT


def test_the_table_leads_down_only():
    order = list(MAY_IMPORT)
    assert [(room, other) for room in order for other in MAY_IMPORT[room] if order.index(other) <= order.index(room)] == []


@pytest.mark.parametrize(
    "planted",
    [
        "from vastbench.bench.bench import Bench",
        "import vastbench.store.store",
        "def late():\n    from vastbench.render import text",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vastbench.cli import app",
    ],
)
def test_an_import_that_runs_up_is_found_wherever_it_stands(planted):
    assert offences({"vastbench.record.run": SOURCES["vastbench.record.run"] + "\n" + planted}) != []


def test_no_modules_import_each_other_in_a_circle():
    left = {module: modules_in(source) - {module, "vastbench"} for module, source in SOURCES.items()}
    while free := {module for module, needs in left.items() if not needs & left.keys()}:
        left = {module: needs for module, needs in left.items() if module not in free}
    assert left == {}


def test_the_architecture_page_shows_the_table():
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", HOUSE.read_text(), re.MULTILINE))
    assert {room: set(re.findall(r"`(\w+)`", row)) for room, row in rows.items()} == MAY_IMPORT


def in_room(*rooms: str) -> dict[str, str]:
    found = {module: source for module, source in SOURCES.items() if room_of(module) in rooms}
    assert found, rooms
    return found


ANALYSIS = ("analysis", "artefacts", "survival")
NETWORK = {"http", "httpx", "paramiko", "requests", "socket", "urllib"}
DISK = {"os", "pathlib", "shutil", "sqlalchemy", "subprocess", "tempfile"}
CLOCK_AND_CHANCE = {"random", "secrets", "time"}


def libraries(source: str) -> set[str]:
    return {name.split(".")[0] for name in imported(source)}


def test_analysis_has_no_network_no_disk_and_no_clock():
    calls = {"open", "now", "today", "utcnow", "read_csv", "read_json", "read_parquet", "to_csv", "to_parquet", "savefig"}
    for module, source in in_room(*ANALYSIS).items():
        assert libraries(source) & (NETWORK | DISK | CLOCK_AND_CHANCE) == set(), module
        called = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        assert calls & {getattr(call, "attr", getattr(call, "id", "")) for call in called} == set(), module


def test_records_have_no_network_no_disk_and_no_clock():
    for module, source in in_room("record").items():
        assert libraries(source) & (NETWORK | DISK | CLOCK_AND_CHANCE) == set(), module


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


def test_a_parquet_file_is_analysed_without_client_store_or_emulator(tmp_path):
    file, figure = tmp_path / "runs.parquet", tmp_path / "waterfall.png"
    phases_table([read_run(shared("data/runs") / "2026-01-02-rtx4090.json")]).to_parquet(file)
    kept = {"vastbench", "charts", "record", "clock", "errors", *ANALYSIS}
    blocked = [f"vastbench.{room}" for room in MAY_IMPORT if room not in kept]
    blocked += ["httpx", "paramiko", "asyncssh", "sqlalchemy", "pydantic"]
    program = ANALYST.format(blocked=blocked, file=str(file), figure=str(figure))
    environment = os.environ | {"MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(72.77)
    assert figure.stat().st_size > 0


def test_the_emulator_shares_no_library_with_the_client():
    assert [module for module, source in in_room("emulator").items() if {"httpx", "paramiko"} & libraries(source)] == []


def test_the_official_client_is_never_imported():
    assert [module for module, source in SOURCES.items() if "vastai" in libraries(source)] == []


def test_a_module_is_short_enough_to_read_at_once():
    assert [module for module, source in SOURCES.items() if source.count("\n") > 600] == []


def test_only_its_own_file_names_a_scenario_and_its_phases():
    own = {*INTEGRATION.timeline} - {*renting(), *returning()} | {INTEGRATION.name}
    # The registry, and the shape of the published run, which is a report of that one scenario.
    may = {"vastbench.scenarios", "vastbench.scenarios.integration", "vastbench.io.seed"}
    for name, path in MODULES.items():
        if name not in may:
            words = {node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)}
            assert not own & words, name


def test_the_drill_of_the_architecture_page_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", HOUSE.read_text("utf-8"), re.DOTALL)
    drill = tmp_path / "drill.py"
    drill.write_text(code + "\nfrom vastbench.cli import main\nmain()\n", encoding="utf-8")
    words = ["run", "python", "--profile", str(certain(tmp_path)), "--speed", "40", "--store", str(tmp_path / "runs.sqlite")]
    done = subprocess.run([sys.executable, drill, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"start Python +\d", done.stdout)
