"""The committed notebooks: readable parameters, outputs that reproduce, and data of every kind run through."""

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import nbformat
import papermill
import pytest
from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from ipywidgets import Dropdown
from matplotlib import pyplot as plt

import vastbench
from tests.formulas import formulas, shown_as_formulas
from tests.hostile.test_escaping import hostile_run
from vastbench.analysis.frames import phases_table
from vastbench.bundled import shared
from vastbench.errors import NotebookFailed, NotFound, UsageError
from vastbench.io.files import read_run
from vastbench.io.tables import export
from vastbench.notebooks.running import check_parameters, run_notebook
from vastbench.record.cost import Cost
from vastbench.record.phases import Outcome
from vastbench.store import Store

OURS = sorted(shared("notebooks").glob("*.ipynb"))
RENTING = [path for path in OURS if path.stem.startswith("01")]
ANALYSING = [path for path in OURS if path not in RENTING]
DRILLS = [path for path in OURS if "06" <= path.stem[:2] <= "09"]
COMPARING = next(path for path in OURS if path.stem.startswith("10"))
BLOCKED = next(path for path in OURS if path.stem.startswith("11"))
ASKING = [path for path in OURS if path.stem[:2] in {"02", "03", "04", "05"}]
SEED = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
FAILED = replace(
    SEED, id="failed", outcome=Outcome.FAILED, cause="boot_failed", phases=SEED.phases[:2], cost=Cost(), total_s=9.0
)
KILLED = replace(SEED, id="killed", outcome=Outcome.CENSORED, cause="killed", phases=(), cost=Cost(), total_s=None)
STORIES = {"one run": [SEED], "no success": [FAILED, replace(FAILED, id="too")], "one killed": [KILLED]}

each_of = pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
OF_ANY_SCENARIO = [path for path in OURS if path not in (*DRILLS, COMPARING, BLOCKED)]
of_any_scenario = pytest.mark.parametrize("path", OF_ANY_SCENARIO, ids=lambda path: path.stem)


def sources(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def results(path: Path, monkeypatch: pytest.MonkeyPatch, **parameters: object) -> list[object]:
    """The results of the notebook's cells, run in this process. Raises what a cell raises."""
    monkeypatch.setattr(plt, "show", lambda *_, **__: None)
    shell, found = InteractiveShell(), []
    tagged = next(cell for cell in nbformat.read(path, as_version=4).cells if "parameters" in cell.metadata.get("tags", []))
    for source in sources(path):
        with capture_output():
            result = shell.run_cell(source)
        result.raise_error()
        if source == tagged.source:
            shell.push(parameters)
        found.append(result.result)
    plt.close("all")
    return found


def told(path: Path, monkeypatch: pytest.MonkeyPatch, **parameters: object) -> list[str]:
    """The same results as text."""
    return [getattr(result, "data", None) or str(result) for result in results(path, monkeypatch, **parameters)]


@each_of
def test_every_parameter_has_a_type_and_a_help_text(path):
    for name, parameter in papermill.inspect_notebook(str(path)).items():
        assert parameter["inferred_type_name"] in {"int", "float", "str", "bool", "Optional[float]", "Optional[str]"}, name
        assert re.match(r"[\w\"']", parameter["help"]), f"{name}: {parameter['help']!r}"


@each_of
def test_an_unknown_or_ill_typed_parameter_is_refused_with_the_known_ones(path):
    known = papermill.inspect_notebook(str(path))
    with pytest.raises(UsageError, match="nubmer") as caught:
        check_parameters(path, {"nubmer": 1})
    assert all(name in caught.value.hint for name in known)
    for name, parameter in known.items():
        if parameter["inferred_type_name"] in {"int", "float", "Optional[float]"}:
            with pytest.raises(UsageError, match=name):
                check_parameters(path, {name: "many"})


@pytest.mark.parametrize("path", ANALYSING, ids=lambda path: path.stem)
def test_outputs_are_committed_without_times_and_versions(path):
    made = json.loads(path.read_text())
    assert made["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    code = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert {key for cell in made["cells"] for key in cell["metadata"]} <= {"tags"}
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)


@pytest.mark.parametrize("path", RENTING, ids=lambda path: path.stem)
def test_a_notebook_that_rents_is_committed_without_outputs(path):
    code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [(cell["execution_count"], cell["outputs"]) for cell in code] == [(None, [])] * len(code)


@pytest.mark.parametrize("path", ASKING, ids=lambda path: path.stem)
def test_the_answer_stands_first_and_in_bold(path):
    cells = nbformat.read(path, as_version=4).cells
    with_output = [cell for cell in cells if cell.cell_type == "code" and cell.outputs]
    assert with_output[0].metadata["tags"] == ["answer"]
    answer = with_output[0].outputs[0]["data"]["text/markdown"]
    assert answer.startswith("**")
    assert re.search(r"\d", answer)


@pytest.mark.parametrize("path", ASKING, ids=lambda path: path.stem)
def test_every_chart_has_a_sentence_under_it(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    for cell, below in pairwise(cells):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            assert "text/markdown" in below.outputs[0]["data"], cell.source


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """What strict nbval says of a committed notebook, as it is and with one digit of its answer changed."""
    folder = tmp_path_factory.mktemp("nbval")
    text = (path := ASKING[1]).read_text()
    (folder / "same.ipynb").write_text(text)
    made = json.loads(text)
    answer = next(cell for cell in made["cells"] if "answer" in cell["metadata"].get("tags", []))
    lines = answer["outputs"][0]["data"]["text/markdown"]
    said = "".join(lines)
    mutated = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), said, count=1)
    assert mutated != said, path
    answer["outputs"][0]["data"]["text/markdown"] = mutated
    (folder / "mutated.ipynb").write_text(json.dumps(made))
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "-rA", "-q"]
    return subprocess.run(
        [*command, "same.ipynb", "mutated.ipynb"], cwd=folder, capture_output=True, text=True, timeout=150, check=False
    ).stdout


def test_committed_outputs_reproduce(strict):
    assert "PASSED same.ipynb::Cell 2" in strict
    assert "FAILED same.ipynb" not in strict


def test_one_changed_digit_is_found(strict):
    assert re.findall(r"FAILED (mutated.ipynb::Cell \d+)", strict) == ["mutated.ipynb::Cell 2"]


def test_nbval_needs_no_plugin_that_only_developers_install():
    absent = [word for name in ("timeout", "xdist", "hypothesispytest") for word in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", *absent, "-p", "no:cacheprovider", "--strict-config"]
    words = ["--nbval-lax", "--nbval-current-env", "--collect-only", str(RENTING[0])]
    done = subprocess.run([*command, *words], cwd=shared("."), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", DRILLS, ids=lambda path: path.stem)
def test_a_drills_notebook_refuses_runs_of_other_scenarios_by_name(path, monkeypatch):
    with pytest.raises(NotFound, match=r"whose scenario is '\w+' in default-300.*integration \(300 runs\)"):
        told(path, monkeypatch, data="default-300")


@pytest.mark.parametrize("story", STORIES)
@of_any_scenario
def test_every_kind_of_data_is_told_without_a_crash(path, story, tmp_path, monkeypatch):
    export(phases_table(STORIES[story]), tmp_path / "runs.parquet")
    texts = told(path, monkeypatch, data=str(tmp_path / "runs.parquet"))
    assert not any(re.search(r"\bnan\b", text) for text in texts)


@each_of
def test_committed_texts_and_outputs_show_no_formula(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert cell.cell_type != "markdown" or formulas("text/markdown", cell.source) == []
        for output in cell.get("outputs", []):
            assert shown_as_formulas(output.get("data", {})) == []


@of_any_scenario
def test_what_a_notebook_displays_is_no_formula_whatever_the_words(path, tmp_path, monkeypatch):
    runs = [hostile_run(r"$x$ \(y\) $z$"), hostile_run(r"$x$ \(y\) $z$", failed=True)]
    export(phases_table(runs), tmp_path / "runs.parquet")
    for result in results(path, monkeypatch, data=str(tmp_path / "runs.parquet")):
        data, _ = DisplayFormatter().format(result)
        assert shown_as_formulas(data) == [], result


@each_of
def test_data_without_a_run_are_an_error(path, tmp_path, monkeypatch):
    export(phases_table([]), tmp_path / "runs.parquet")
    with pytest.raises(NotFound, match=r"There is no run in .*runs\.parquet\. Make one"):
        told(path, monkeypatch, data=str(tmp_path / "runs.parquet"))


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"study": "nowhere"}, r"of a study 'nowhere' in default-300\. Studies there: default-300 \(300 runs\)"),
        ({"gpu": "H100"}, r"on 'H100' in default-300\. GPUs there: RTX 4090 \(300 runs\)"),
    ],
    ids=["study", "gpu"],
)
@pytest.mark.parametrize("path", ASKING, ids=lambda path: path.stem)
def test_a_selection_without_a_run_is_an_error_that_says_what_there_is(path, chosen, said, monkeypatch):
    with pytest.raises(NotFound, match=said):
        told(path, monkeypatch, **chosen)


def test_a_notebook_that_rents_fails_after_its_tables_when_no_run_passed(tmp_path):
    asked = {"gpu_name": "RTX4090", "repeats": 2, "store": str(tmp_path / "runs.sqlite")}
    with pytest.raises(NotebookFailed, match=r"StudyFailed: None of the 2 runs passed: 2 failed \(no_offer\)") as failed:
        run_notebook(RENTING[0], asked, tmp_path / "strict")
    assert "No offer for 1 × RTX4090" in failed.value.message
    assert "require_passed" in failed.value.message
    (kept,) = (tmp_path / "strict").glob("*.ipynb")
    cells = [cell for cell in nbformat.read(kept, as_version=4).cells if cell.cell_type == "code"]
    assert "StudyFailed" in str(cells[-1].outputs)
    assert any("no_offer" in output.get("data", {}).get("text/html", "") for cell in cells for output in cell.outputs)
    run_notebook(RENTING[0], asked | {"require_passed": False}, tmp_path / "lenient")


@pytest.mark.parametrize("path", [path for path in ANALYSING if path in OF_ANY_SCENARIO], ids=lambda path: path.stem)
def test_a_study_of_ones_own_is_found_in_the_default_store(path, tmp_path, monkeypatch):
    monkeypatch.setenv("VASTBENCH_STORE", str(tmp_path / "runs.sqlite"))
    with Store(tmp_path / "runs.sqlite") as store:
        for number in range(13):
            store.save_run(replace(SEED, id=f"mine-{number:02}", study="first"))
    for parameters in ({"study": "first"}, {"data": "first"}):
        texts = told(path, monkeypatch, **parameters)
        assert any(re.search(r"\b13\b", text) for text in texts), texts


@each_of
def test_a_notebook_imports_nothing_of_ours_but_public_names(path):
    for node in (node for source in sources(path) for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            assert not any(one.name.startswith("vastbench.") for one in node.names), ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "vastbench":
            assert node.module == "vastbench", ast.unparse(node)
            assert {one.name for one in node.names} <= set(vastbench.__all__), ast.unparse(node)


@each_of
def test_a_cell_has_at_most_ten_lines_and_words_before_it(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    for cell in cells:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert cell.cell_type != "code" or "parameters" in cell.metadata.get("tags", []) or len(lines) <= 10, cell.source


def test_two_studies_are_compared_by_their_names(tmp_path, monkeypatch):
    monkeypatch.setenv("VASTBENCH_STORE", str(tmp_path / "runs.sqlite"))
    with Store(tmp_path / "runs.sqlite") as store:
        for study, other in (("before", SEED), ("after", FAILED)):
            for number in range(8):
                store.save_run(replace(other, id=f"{study}-{number:02}", study=study))
    texts = told(COMPARING, monkeypatch, a="before", b="after", by="")
    assert any("A: before: " in text and "8 of 8 runs got there" in text for text in texts)
    assert any("8 of 8 passed in A, 0 of 8 in B" in text for text in texts)
    assert not any(re.search(r"\bnan\b", text) for text in texts)


def test_values_of_a_column_are_compared_whatever_their_words(tmp_path, monkeypatch):
    runs = [replace(hostile_run(r"$x$ \(y\) $z$"), id=f"a{n}", conditions={"image": "$a$ <b>one</b>"}) for n in range(3)]
    runs += [replace(hostile_run(r"$x$ \(y\) $z$"), id=f"b{n}", conditions={"image": r"two \(b\)"}) for n in range(3)]
    export(phases_table(runs), tmp_path / "runs.parquet")
    found = results(COMPARING, monkeypatch, data=str(tmp_path / "runs.parquet"), by="image", a="one", b="two")
    shown = [DisplayFormatter().format(result)[0] for result in found]
    assert [part for data in shown for part in shown_as_formulas(data)] == []
    assert any("B: image two" in data.get("text/plain", "") for data in shown)
    assert not any("<b>" in data.get("text/html", "") for data in shown)


def test_conditions_of_ones_own_are_compared_by_the_name_of_their_study(tmp_path, monkeypatch):
    monkeypatch.setenv("VASTBENCH_STORE", str(tmp_path / "runs.sqlite"))
    with Store(tmp_path / "runs.sqlite") as store:
        for number in range(24):
            study, run = ("gpus.old", SEED) if number % 2 else ("gpus.new", FAILED)
            started = f"2026-01-02T{number:02}:00:00+00:00"
            resources = {**SEED.resources, "machine_id": number}
            run = replace(run, id=f"{number:02}", study=study, started_at=started, resources=resources)
            store.save_run(replace(run, conditions={"image": r"$x$ \(y\)"}))
    found = results(BLOCKED, monkeypatch, data="gpus", factor="study")
    shown = [DisplayFormatter().format(result)[0] for result in found]
    texts = [data.get("text/markdown", "") + data.get("text/plain", "") for data in shown]
    assert any("gpus.new" in text and "12 blocks" in text for text in texts), texts
    assert [part for data in shown for part in shown_as_formulas(data)] == []


@pytest.fixture
def _shell():
    """Only in a shell of its own is anything displayed."""
    InteractiveShell.instance()
    yield
    InteractiveShell.clear_instance()


@pytest.mark.usefixtures("_shell")
def test_a_choice_draws_anew_where_somebody_has_the_notebook_open(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "mine.ipynb")
    drawn, boxes = [], []
    monkeypatch.setattr("ipywidgets.Dropdown", lambda **given: boxes.append(Dropdown(**given)) or boxes[-1])
    with capture_output() as live:
        vastbench.explore(lambda **chosen: drawn.append(chosen.copy()), by=[None, "gpu"], phase=["total", "wait SSH"])
    assert "application/vnd.jupyter.widget-view+json" in live.outputs[0].data
    by, phase = boxes
    assert by.options == ("–", "gpu")
    by.index = 1
    phase.index = 1
    assert drawn == [
        {"by": None, "phase": "total"},
        {"by": "gpu", "phase": "total"},
        {"by": "gpu", "phase": "wait SSH"},
    ]


@pytest.mark.usefixtures("_shell")
def test_where_nobody_can_choose_the_first_choices_are_shown(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    with capture_output() as shown:
        vastbench.explore(lambda **chosen: chosen, by=[None, "gpu"], phase=["total", "wait SSH"])
    assert [one.data["text/plain"] for one in shown.outputs] == ["{'by': None, 'phase': 'total'}"]


def test_stored_runs_are_looked_at_without_renting(tmp_path, monkeypatch):
    later = replace(SEED, id="later", started_at="2026-02-01T00:00:00+00:00")
    export(phases_table([later, SEED]), tmp_path / "runs.parquet")
    monkeypatch.setattr("vastbench.bench.bench.Bench.__init__", lambda *_, **__: pytest.fail("a bench was opened"))
    texts = told(RENTING[0], monkeypatch, data=str(tmp_path / "runs.parquet"), repeats=1)
    assert any("Run later" in text for text in texts)
    (answer,) = (text for text in texts if text.startswith("**"))
    assert "Shown is the last of 2 runs of `data`. This is run later" in answer
    assert not any(SEED.id in text for text in texts)


def test_a_notebook_runs_from_any_folder_and_names_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export(phases_table([SEED]), tmp_path / "runs.parquet")
    result = run_notebook("03-boot-bottlenecks", {"data": "runs.parquet", "resamples": "200"}, "out")
    assert result.parameters == {"data": "runs.parquet", "resamples": 200}
    assert os.fspath(tmp_path) not in json.dumps(nbformat.read(result.path, as_version=4).cells)
