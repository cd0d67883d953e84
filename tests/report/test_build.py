"""A report takes its place only when it is whole, says what is wrong, and lets no foreign word out of its cage."""

import base64
import hashlib
import json
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import nbformat
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from tests.processes import VASTBENCH, clean_environment, command, until
from vastbench.analysis.frames import phases_table
from vastbench.bundled import shared
from vastbench.errors import NotebookFailed, NotFound, SchemaError, StudyFailed, StudyIncomplete, UsageError
from vastbench.io.files import read_run
from vastbench.io.parquet import SCHEMA_KEY
from vastbench.io.tables import export
from vastbench.record.phases import Outcome
from vastbench.report.build import Source, build_report, of_places, of_study, read_model, shortfall
from vastbench.report.place import building, publish
from vastbench.store import Store

SEED = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
EVIL = "a\x1b[31m\u202egnp\u2066<script>alert(1)</script>|**x**`$y$` [a](javascript:b)\n# h <img src=//evil.example/x>"


def write_notebook(folder, name, *lines):
    """A notebook that looks at the report's table; its path."""
    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    parameters = nbformat.v4.new_code_cell("data = None  # type: Optional[str]  # a table")
    parameters.metadata["tags"] = ["parameters"]
    title = nbformat.v4.new_markdown_cell("# Is it there?")
    made.cells = [title, parameters, *map(nbformat.v4.new_code_cell, lines)]
    nbformat.write(made, folder / f"{name}.ipynb")
    return str(folder / f"{name}.ipynb")


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook into the test's folder."""
    return partial(write_notebook, tmp_path)


@pytest.fixture(scope="module")
def seed_report(tmp_path_factory):
    """The page of a report of the published run with a notebook that shows where it runs; only to be read or copied."""
    folder = tmp_path_factory.mktemp("seed")
    look = write_notebook(folder, "look", "import os, pathlib; print(pathlib.Path(data).is_file(), os.getcwd())")
    return build_report(Source(phases_table([SEED])), folder / "out", notebooks=[look])


@pytest.fixture
def without_charts(monkeypatch):
    """Reports of this test draw nothing: what they are asked for does not depend on it, and it takes the longest."""
    monkeypatch.setattr("vastbench.report.figures.worth_drawing", lambda *_: set())


def links(page):
    """Every address in a page's attributes."""
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.extend((tag, name, value) for name, value in attributes if name in {"src", "href", "srcset", "action"})
            found.extend((tag, name, value) for name, value in attributes if name.startswith("on"))

    Reader().feed(page)
    return found


def test_a_report_is_whole_and_names_no_folder_of_this_machine(seed_report):
    index, made_in = seed_report, seed_report.parent.parent
    there = {path.relative_to(index.parent).as_posix() for path in index.parent.rglob("*") if path.is_file()}
    assert {"index.html", "report.md", "report.json", "runs.parquet", "vastbench.log"} <= there
    assert {"notebooks/look.ipynb", "notebooks/look.html", "figures/phase-waterfall.svg"} <= there
    model = read_model(index)
    assert {file["path"] for file in model["files"]} == there
    for file in model["files"]:
        assert file["bytes"] in (None, (index.parent / file["path"]).stat().st_size)
    for path in index.parent.rglob("*"):
        if path.suffix in {".html", ".json", ".md", ".log", ".ipynb", ".svg"}:
            assert str(made_in) not in path.read_text(), path
            assert str(shared(".")) not in path.read_text(), path
    assert "True ." in (index.parent / "notebooks/look.html").read_text()
    assert sorted(p.name for p in made_in.iterdir()) == ["look.ipynb", "out"]


@pytest.mark.usefixtures("without_charts")
def test_no_process_that_executes_notebooks_is_given_a_secret(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("VAST_API_KEY", "K3Y")
    monkeypatch.setenv("VASTBENCH_STORE", "postgresql://me:K3Y@host/runs")
    look = "import os, pathlib\nfor who in (os.getpid(), os.getppid()):\n"
    look += f"    there = pathlib.Path({str(tmp_path)!r}, f'{{who}}.environ')\n"
    look += "    there.write_bytes(pathlib.Path(f'/proc/{who}/environ').read_bytes())"
    build_report(Source(phases_table([SEED])), tmp_path / "out", notebooks=[notebook("look", look)])
    found = [path.read_bytes() for path in tmp_path.glob("*.environ")]
    assert len(found) == 2
    assert all(b"PATH=" in text and b"K3Y" not in text for text in found)


def test_a_killed_command_takes_all_its_processes_along(tmp_path):
    arguments = [VASTBENCH, "report", "--data", "2026-01-02-rtx4090", "--out", "report"]
    with subprocess.Popen(arguments, cwd=tmp_path, env=clean_environment(tmp_path), stderr=subprocess.DEVNULL) as process:
        command = psutil.Process(process.pid)
        until(lambda: any("ipykernel" in " ".join(cmdline(one)) for one in command.children(recursive=True)))
        below = command.children(recursive=True)
        process.kill()
    assert psutil.wait_procs(below, 60)[1] == []


def cmdline(process):
    with suppress(psutil.Error):
        return process.cmdline()
    return []


@pytest.mark.usefixtures("without_charts")
def test_a_process_that_is_killed_fails_its_notebook_and_not_the_command(notebook, tmp_path):
    dies = notebook("dies", "import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    with pytest.raises(NotebookFailed, match=r"executed .*dies\.ipynb ended with status -9"):
        build_report(Source(phases_table([SEED])), tmp_path / "out", notebooks=[dies])


def test_its_table_is_the_one_that_it_was_made_of(seed_report):
    pd.testing.assert_frame_equal(of_places([seed_report.with_name("runs.parquet")]).phases, phases_table([SEED]))


@pytest.mark.usefixtures("without_charts")
def test_a_failing_notebook_is_named_and_the_earlier_report_stays(notebook, tmp_path, seed_report):
    out = shutil.copytree(seed_report.parent, tmp_path / "out")
    before = (out / "report.json").read_text()
    broken, sound = notebook("broken", "1 / 0", "print('never')"), notebook("sound", "print('fine')")
    with pytest.raises(NotebookFailed, match=r"Cell 4 of broken\.ipynb raised ZeroDivisionError") as caught:
        build_report(Source(phases_table([SEED])), out, notebooks=[broken, sound])
    assert caught.value.exit_code == 9
    kept = tmp_path / "out.failed"
    assert str(kept) in caught.value.hint
    assert "ZeroDivisionError" in (kept / "notebooks/broken.ipynb").read_text()
    assert "Failed" in (kept / "notebooks/broken.html").read_text()
    assert (kept / "notebooks/sound.html").is_file()
    assert (out / "report.json").read_text() == before


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_what_is_not_a_report_is_left_as_it_is(tmp_path, what):
    out = tmp_path / "out"
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.txt").write_text("years of work")
    if what == "folder":
        (tmp_path / "else").rename(out)
    elif what == "file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "else")
    with pytest.raises(UsageError, match="not a report"), building(out):
        pytest.fail("it was built")
    assert out.is_symlink() or out.is_file() or (out / "thesis.txt").is_file()


def test_nothing_half_made_stays_and_a_killed_one_is_cleared(tmp_path):
    out = tmp_path / "out"
    (tmp_path / ".out.building" / "junk").mkdir(parents=True)

    def fail():
        with building(out) as folder:
            assert list(folder.iterdir()) == []
            (folder / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_was_set_aside_when_we_were_killed_comes_back(tmp_path):
    out = tmp_path / "out"
    with building(out) as folder:
        (folder / "report.json").write_text("{}")
        publish(folder, out)
    out.rename(tmp_path / ".out.replaced")
    with building(out):
        assert (out / "report.json").is_file()


def test_two_reports_are_not_built_in_one_place(tmp_path):
    with building(tmp_path / "out") as folder:
        (folder / "half").touch()
        with pytest.raises(UsageError, match="already"), building(tmp_path / "out"):
            pytest.fail("it was built")
        assert (folder / "half").exists()


@pytest.fixture(scope="module")
def foreign_report(tmp_path_factory):
    """The page of a report whose names hold markup, and characters that drive terminals or turn text."""
    folder = tmp_path_factory.mktemp("foreign")
    got = SEED.resources | {"gpu_name": EVIL, "region": EVIL}
    changes = {"resources": got, "conditions": SEED.conditions | {"image": EVIL, "profile": EVIL}, "study": EVIL}
    runs = [replace(SEED, id="a", **changes), replace(SEED, id="b", outcome=Outcome.FAILED, cause=EVIL, detail=EVIL, **changes)]
    look = write_notebook(folder, "look", "print('fine')")
    return build_report(Source(phases_table(runs), study=EVIL), folder / "out", notebooks=[look])


def test_foreign_words_stay_words_in_page_and_text(foreign_report):
    page = foreign_report.read_text()
    assert "alert(1)" in page
    assert page.count("<script") == 1
    assert "<script>alert" not in page
    assert "evil.example" not in str(links(page))
    assert page.count("</title>") == 1
    for picture in (foreign_report.parent / "figures").glob("*.svg"):
        assert "<script" not in picture.read_text()
    text = foreign_report.with_name("report.md").read_text()
    assert "\n# h" not in text
    assert re.search(r"(?<!\\)<(script|img)", text) is None
    assert re.search(r"(?<!\\)\]\(javascript", text) is None
    tables = re.findall(r"(?:^\|.*\|$\n)+", text, re.MULTILINE)
    assert len(tables) >= 6
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_characters_that_drive_terminals_or_turn_text_reach_no_page(foreign_report):
    for path in (foreign_report, foreign_report.with_name("report.md"), foreign_report.parent / "notebooks/look.html"):
        assert "gnp" in path.read_text()
        assert not re.search("[\x1b\u202a-\u202e\u2066-\u2069]", path.read_text()), path


def test_the_page_asks_for_nothing_from_outside(seed_report):
    page = seed_report.read_text()
    assert "default-src 'none'" in page
    for tag, name, address in links(page):
        assert not name.startswith("on")
        if tag == "a" or name == "href":
            assert address.startswith(("#", "data:,")) or (seed_report.parent / address).is_file(), address
        else:
            assert address.startswith("data:image/svg+xml;base64,")
    images = re.findall(r'<img [^>]*alt="([^"]*)"', page)
    assert len(images) == 9  # no run failed: of that there is a sentence and no chart
    assert page.count("<source media=") == 9
    assert all(re.search(r"\d|One run", words) for words in images)
    assert page.count("<h1") == 1


def test_the_only_script_that_may_run_is_the_one_that_sorts_tables(seed_report):
    page = seed_report.read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page
    assert "script-src" not in (seed_report.parent / "notebooks/look.html").read_text()


def test_the_first_screen_is_a_verdict_four_tiles_and_one_chart(seed_report):
    first, _, rest = seed_report.read_text().partition("<nav")
    assert first.count('class="verdict"') == 1
    assert first.count("<div><dt>") == 4
    assert first.count("<img") == 1
    assert "<figcaption" not in first
    assert "time to ready" in first
    assert "first successful command over SSH" in first
    assert "On the first screen:" in rest


def test_each_chart_is_there_for_wide_and_narrow_screens_day_and_night(seed_report):
    drawn = {path.stem: path.read_text() for path in (seed_report.parent / "figures").glob("*.svg")}
    wide = {name for name in drawn if not name.endswith("-narrow")}
    assert {f"{name}-narrow" for name in wide} == {*drawn} - wide
    for name, text in drawn.items():
        assert "prefers-color-scheme: dark" in text
        assert f'width="{576 if name in wide else 266.4:g}pt"' in text
        assert "fill: #ffffff" not in text.partition('id="axes_1"')[0].partition("</style>")[2]  # no background


def test_a_page_ends_with_the_words_that_it_uses(seed_report):
    words = seed_report.read_text().partition('<section id="words">')[2]
    assert "<dt>time to ready</dt>" in words
    assert "<dt>RPO</dt>" not in words
    assert '<section id="words">' not in (seed_report.parent / "notebooks/look.html").read_text()


@pytest.mark.usefixtures("without_charts")
def test_what_a_report_says_decides_how_it_ends(tmp_path):
    failed = replace(SEED, id="b", outcome=Outcome.FAILED, cause="boot_failed")
    for source, error in [
        (Source(phases_table([SEED])), None),
        (Source(phases_table([failed])), StudyFailed),
        (Source(phases_table([])), StudyIncomplete),
        (Source(phases_table([SEED]), asked=2), StudyIncomplete),
    ]:
        index = build_report(source, tmp_path / "out", notebooks=[])
        found = shortfall(read_model(index))
        assert (found and type(found)) == error


def test_tables_of_two_schemas_are_a_report_that_says_so_without_a_number(tmp_path):
    good, other = tmp_path / "good.parquet", tmp_path / "other.parquet"
    export(phases_table([SEED]), good)
    table = pq.read_table(good)
    pq.write_table(table.replace_schema_metadata({SCHEMA_KEY: b"7"}), other)
    index = build_report(of_places([good, other]), tmp_path / "out", notebooks=[])
    model = read_model(index)
    assert model["counts"]["runs"] == 0
    assert model["phases"] == []
    for text in (index.read_text(), index.with_name("report.md").read_text()):
        assert "other.parquet" in text
        assert "schema 7" in text
        assert "72.77" not in text
    assert isinstance(shortfall(model), SchemaError)
    assert "cannot be taken together" in model["problems"][0]
    assert "together" not in of_places([other]).problems[0]


def test_a_study_brings_what_it_was_asked_for_also_when_it_has_no_run(tmp_path):
    with Store(tmp_path / "runs.sqlite") as store:
        study = store.open_study("first", scenario="integration", repeats=3, conditions={})
        store.save_run(replace(SEED, study="first"))
        assert (of_study(study).asked, len(of_study(study).phases)) == (3, 0)
        assert of_study(store.study("first")).phases["run"].nunique() == 1
        error = shortfall(read_model(build_report(of_study(study), tmp_path / "out", notebooks=[])), "runs.sqlite")
    assert error is not None
    assert error.message == "The study 'first' in runs.sqlite has 0 of 3 runs."
    assert error.hint == "Make runs: vastbench study --name first --repeats 3 --store runs.sqlite"
    with pytest.raises(NotFound, match="second"):
        of_places([tmp_path / "runs.sqlite"], "second")


@pytest.mark.usefixtures("without_charts")
def test_a_report_without_a_run_has_no_notebook(tmp_path, notebook):
    index = build_report(Source(phases_table([])), tmp_path / "out", notebooks=[notebook("broken", "1 / 0")])
    assert not any("notebooks/" in file["path"] for file in read_model(index)["files"])


def test_runs_of_one_study_give_the_report_its_name():
    phases = phases_table([replace(SEED, study="first")])
    assert of_places([shared("data/runs") / "2026-01-02-rtx4090.json"]).study is None
    assert set(phases["study"]) == {"first"}


def test_the_command_makes_all_of_it_with_our_notebooks(tmp_path):
    arguments = [VASTBENCH, "report", "--data", "2026-01-02-rtx4090", "--out", "report"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, env=clean_environment(tmp_path), timeout=170)
    assert done.returncode == 0, done.stderr
    report = tmp_path / "report"
    assert done.stdout.splitlines()[-1] == f"Report: {report / 'index.html'}"
    pages = sorted(path.stem for path in (report / "notebooks").glob("*.html"))
    assert [page[:2] for page in pages] == ["01", "02", "03", "04", "05"]
    for page in pages:
        text = (report / "notebooks" / f"{page}.html").read_text()
        assert all(address.startswith("data:image") for tag, _, address in links(text) if tag == "img")
        assert "<script" not in text
        assert str(tmp_path) not in text
        made = json.loads((report / "notebooks" / f"{page}.ipynb").read_text())
        assert made["metadata"]["papermill"]["parameters"]["data"] == "../runs.parquet"
        assert str(tmp_path) not in json.dumps(made)
    assert "notebook 02-phase-timings executed" in (report / "vastbench.log").read_text()


@pytest.mark.parametrize("words", [["report"], ["report", "--study", "first"], ["export", "runs.parquet"]])
@pytest.mark.parametrize("place", ["nothere.sqlite", "sqlite:///nothere.sqlite"])
def test_a_store_that_is_not_there_is_named_and_not_made(tmp_path, words, place):
    done = command(*words, "--store", place, env=clean_environment(tmp_path), cwd=tmp_path)
    assert done.returncode == NotFound.exit_code
    assert "There is no store nothere.sqlite." in done.stderr
    assert not list(tmp_path.glob("*nothere*"))
    assert not (tmp_path / "out").exists()


def test_a_stopped_command_leaves_nothing_and_the_report_of_before(tmp_path, seed_report):
    shutil.copytree(seed_report.parent, tmp_path / "report")
    before = (tmp_path / "report" / "report.json").read_text()
    arguments = [VASTBENCH, "report", "--data", "2026-01-02-rtx4090", "--out", "report"]
    environment = clean_environment(tmp_path)
    with subprocess.Popen(arguments, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(60) == 130, line + rest
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == ["report"]
    assert (tmp_path / "report" / "report.json").read_text() == before
