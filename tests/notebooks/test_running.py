"""Notebooks run with checked parameters; a failing one is kept and named."""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import nbformat
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from papermill import inspect_notebook

from tests.processes import VASTBENCH, clean_environment, until
from vastbench.bundled import shared
from vastbench.errors import NotebookFailed, NotFound, UsageError
from vastbench.notebooks import engine
from vastbench.notebooks.running import RunResult, check_parameters, convert, find_notebook, run_notebook

OURS = sorted(shared("notebooks").glob("*.ipynb"))


@pytest.fixture
def notebook(tmp_path):
    """A notebook that prints its parameter, or fails when told to."""
    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    parameters = nbformat.v4.new_code_cell("number: int = 1  # a number\nfail: bool = False  # whether to fail")
    parameters.metadata["tags"] = ["parameters"]
    made.cells = [parameters, nbformat.v4.new_code_cell("print('number', number)\nassert not fail, 'told to'")]
    made.cells.append(nbformat.v4.new_code_cell("print('not reached')"))
    path = tmp_path / "odd name; $(x).ipynb"
    nbformat.write(made, path)
    return path


def states(path):
    """Each cell's fate; papermill's own banner above a failed notebook has none."""
    metadata = [cell["metadata"].get("papermill") for cell in json.loads(path.read_text())["cells"]]
    return [fate["status"] for fate in metadata if fate and "status" in fate]


def test_it_runs_in_any_executor_and_prints_nothing_by_default(notebook, tmp_path):
    with ProcessPoolExecutor(1) as pool:
        result = pool.submit(run_notebook, notebook, {"number": "7"}, tmp_path / "out").result(timeout=60)
    assert isinstance(result, RunResult)
    assert result.parameters == {"number": 7}
    assert "number 7" in result.path.read_text()
    assert result.path.parent == tmp_path / "out"
    assert set(states(result.path)) == {"completed"}


def looking(tmp_path, declared):
    """A notebook with the parameter ``live`` that prints which of the secret variables its kernel was started with."""
    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    look = "given = open('/proc/self/environ', 'rb').read().split(b'\\0')\n"
    look += "print('given:', sorted(one.split(b'=')[0] for one in given if b'K3Y' in one))"
    cells = [nbformat.v4.new_code_cell(declared), nbformat.v4.new_code_cell(look)]
    cells[0].metadata["tags"] = ["parameters"]
    made.cells = cells
    nbformat.write(made, tmp_path / "looking.ipynb")
    return tmp_path / "looking.ipynb"


@pytest.mark.parametrize(
    ("declared", "parameters", "given_key"),
    [
        ("live: bool = False  # rents for money", {}, False),
        ("live: bool = False  # rents for money", {"live": "False"}, False),
        ("live: bool = False  # rents for money", {"live": "true"}, True),
        ("live: bool = True", {}, True),
        ("live: bool = True", {"live": False}, False),
        ("other: int = 1", {}, False),
    ],
)
def test_a_kernel_is_given_the_key_only_where_its_notebook_rents_live(tmp_path, monkeypatch, declared, parameters, given_key):
    monkeypatch.setenv("VAST_API_KEY", "K3Y")
    monkeypatch.setenv("VASTBENCH_STORE", "postgresql://me:K3Y@host/runs")
    result = run_notebook(looking(tmp_path, declared), parameters, tmp_path / "out")
    given = ["b'VASTBENCH_STORE'"] + ["b'VAST_API_KEY'"] * given_key
    assert f"given: [{', '.join(sorted(given))}]" in result.path.read_text()


def test_a_killed_command_takes_its_kernel_along(tmp_path):
    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made.cells = [nbformat.v4.new_code_cell("import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(300)")]
    nbformat.write(made, tmp_path / "slow.ipynb")
    words = [VASTBENCH, "notebook", "slow.ipynb"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, env=clean_environment(tmp_path)) as process:
        until((tmp_path / "begun").exists)
        below = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert below
    assert psutil.wait_procs(below, 60)[1] == []


def test_a_failing_cell_is_named_and_the_notebook_is_kept_with_the_error(notebook, tmp_path):
    with pytest.raises(NotebookFailed, match=r"Cell 3 .* AssertionError: told to") as caught:
        run_notebook(notebook, {"fail": True}, tmp_path)
    kept = next(tmp_path.glob("odd_name*.ipynb"))
    assert str(kept) in caught.value.hint
    assert states(kept)[-2:] == ["failed", "pending"]
    assert json.loads(kept.read_text())["metadata"]["papermill"]["exception"] is True


def test_an_unknown_parameter_is_refused_with_the_known_ones(notebook):
    with pytest.raises(UsageError, match="nubmer") as caught:
        check_parameters(notebook, {"nubmer": 3})
    assert "number" in caught.value.hint


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 3}'])
def test_a_file_that_is_no_notebook_is_refused(tmp_path, content):
    path = tmp_path / "bad.ipynb"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"bad\.ipynb"):
        check_parameters(path, {})


def test_our_notebooks_are_found_by_name():
    assert [find_notebook(path.stem) for path in OURS] == OURS
    with pytest.raises(NotFound, match="nowhere"):
        find_notebook("../nowhere")


@pytest.mark.parametrize(
    ("value", "declared", "expected"),
    [
        ("3", "int", 3),
        ("0.5", "float", 0.5),
        ("true", "bool", True),
        (False, "bool", False),
        ("None", "Optional[float]", None),
        ("2", "Optional[float]", 2.0),
        ("1", "str", "1"),
        ("['a']", "list[str]", ["a"]),
    ],
)
def test_text_becomes_the_declared_type(value, declared, expected):
    assert convert(value, declared) == expected


@pytest.mark.parametrize(
    ("value", "declared"), [("3.5", "int"), ("nan", "float"), ("inf", "float"), ("maybe", "bool"), ("x", "int")]
)
def test_what_does_not_fit_is_refused(value, declared):
    with pytest.raises(ValueError, match="is not of type"):
        convert(value, declared)


@given(st.text(max_size=20), st.sampled_from(["int", "float", "bool", "Optional[int]", "list[int]"]))
def test_whatever_is_typed_it_converts_or_is_refused(text, declared):
    with contextlib.suppress(ValueError):
        convert(text, declared)


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.stem)
def test_each_notebook_keeps_the_conventions(path):
    made = nbformat.read(path, as_version=4)
    nbformat.validate(made)
    first = made.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert "?" in first.source.splitlines()[0]
    tagged = [cell for cell in made.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert not any(word in tagged[0].source for word in ("key", "secret", "token", "password"))
    assert all("  # " in line for line in tagged[0].source.splitlines())
    # What papermill cannot read (a second = on the line, even in the comment) is no parameter at all.
    assert list(inspect_notebook(str(path))) == [line.split(":")[0].split(" =")[0] for line in tagged[0].source.splitlines()]
    assert "assert" in made.cells[-1].source
    assert max(len(cell.source.splitlines()) for cell in made.cells if cell.cell_type == "code" and cell is not tagged[0]) <= 10
    assert made.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", [path for path in OURS if path.stem.startswith("01")], ids=lambda p: p.stem)
def test_notebooks_that_rent_are_committed_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def of_cells(path, *cells):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, path)
    return path


def dying(tmp_path, cell):
    return of_cells(tmp_path / "dying.ipynb", "import os, signal", cell, "os.kill(os.getpid(), signal.SIGKILL)")


def test_a_kernel_that_dies_is_named_with_its_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("VASTBENCH_STORE", str(tmp_path / "runs.sqlite"))
    with pytest.raises(NotebookFailed, match=r"kernel of .*dying\.ipynb died in cell 3\."):
        run_notebook(dying(tmp_path, "1"), {}, tmp_path / "out")


def test_a_kernel_listens_on_no_port_that_another_process_could_take(tmp_path):
    told = "import json, ipykernel; print(json.load(open(ipykernel.get_connection_file()))['transport'])"
    made = run_notebook(of_cells(tmp_path / "told.ipynb", told), {}, tmp_path / "out")
    assert nbformat.read(made.path, as_version=4).cells[0].outputs[0].text == "ipc\n"


def test_where_names_of_files_are_too_long_it_listens_on_ports(tmp_path, monkeypatch):
    long = tmp_path / ("long" * 25)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    told = "import json, ipykernel; print(json.load(open(ipykernel.get_connection_file()))['transport'])"
    made = run_notebook(of_cells(tmp_path / "told.ipynb", told), {}, tmp_path / "out")
    assert nbformat.read(made.path, as_version=4).cells[0].outputs[0].text == "tcp\n"


def test_a_kernel_that_does_not_start_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "QUIET", ("--IPKernelApp.shell_port=no-number",))
    with pytest.raises(NotebookFailed, match=r"The kernel of .*one\.ipynb did not start: Kernel died") as failed:
        run_notebook(of_cells(tmp_path / "one.ipynb", "1"), {}, tmp_path / "out")
    assert "Run it again" in failed.value.hint


RENTING = """
from vastbench.owner import owner
from vastbench.record.lease import LeaseRow
from vastbench.store import Store
then = "2026-01-01T00:00:00+00:00"
row = LeaseRow("vb-left", "run-1", 1, "https://console.vast.ai", 7001, 0.2, then, then, owner=owner(), instance_id=77)
Store({place!r}).open_lease(row)
"""


@pytest.mark.parametrize("command", [(VASTBENCH, "notebook"), (sys.executable, "-m", "papermill", "--engine", "vastbench")])
def test_a_kernel_that_dies_while_it_rents_ends_with_8_and_names_the_lease(tmp_path, command):
    place = str(tmp_path / "runs.sqlite")
    path = dying(tmp_path, RENTING.format(place=place))
    out = ["--out", "out"] if command[0] == VASTBENCH else ["out.ipynb"]
    environment = clean_environment(tmp_path, VASTBENCH_STORE=place)
    done = subprocess.run([*command, path.name, *out], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 8, done.stderr
    assert "dying.ipynb died in cell 3 and left vb-left (instance 77)" in done.stderr
    assert "vastbench reap --live" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stopped_notebook_has_time_to_clean_up_and_ends_with_130(tmp_path, number):
    begun, cleaned = tmp_path / "begun", tmp_path / "cleaned"
    work = f"from pathlib import Path; import time\ntry:\n    Path({str(begun)!r}).touch(); time.sleep(60)\n"
    work += f"finally:\n    time.sleep(6); Path({str(cleaned)!r}).touch()"  # papermill itself would kill it after 2.5 s
    of_cells(tmp_path / "slow.ipynb", work)
    command = [sys.executable, "-m", "papermill", "--engine", "vastbench", "--no-progress-bar", "slow.ipynb", "out.ipynb"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(300):
            if begun.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(60) == 130, said
    assert "out.ipynb. Open leases, if any: vastbench doctor" in said
    assert cleaned.exists()
