"""Foreign words stay words: in pages, in Markdown, on terminals, in file names."""

import json
import re
import unicodedata
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import mistune
import pytest

from tests.vast.market import Script, client
from tests.vast.market import offer as listed
from vastbench.analysis.facts import Facts
from vastbench.analysis.frames import phases_table
from vastbench.bundled import shared
from vastbench.cli import market, stored
from vastbench.cli.app import print_json, print_table
from vastbench.errors import CommandFailed, Interrupted, Refused, SshError, StudyIncomplete, VastbenchError
from vastbench.io.files import read_run
from vastbench.io.prices import prices
from vastbench.notebooks.running import run_notebook
from vastbench.record.document import run_to_dict
from vastbench.record.phases import Outcome
from vastbench.record.study import Study
from vastbench.render.html import run_html, study_html
from vastbench.render.progress import plain
from vastbench.render.text import run_text, study_text, verdict
from vastbench.report import build
from vastbench.report.model import report_model
from vastbench.report.page import index_page, markdown_text
from vastbench.ssh.command import shorten
from vastbench.ssh.transport import NotYet
from vastbench.store import Store
from vastbench.vast.replies import Reply, read

WORDS = {
    "a script": "<script>alert(1)</script>",
    "an attribute": "\" onload='x' a=\"",
    "a link": "x](javascript:alert(1)) ![y](http://z/p.png) <http://z>",
    "a table": "a|b\\|c `code` *b* _i_ # h $x$ ~~s~~ &lt;b&gt;",
    "a terminal": "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08",
    "a turn": "safe\u202egnp.exe\u2066\u200f",
    "lines": "one\ntwo\r\nthree\u2028four\n\n# five\n\n    six",
    "a path": "../../../tmp/x\x00/etc/passwd",
    "an option": "-rf --help",
    "length": "W" * 300,
    "a template": "{{ model }}{% raw %}${7*7}",
}
BENIGN = "word"


def hostile_run(word, failed=False):
    """A passed run of an emulator with ``word`` wherever the marketplace or an instance has a say."""
    run = read_run(shared("data/runs") / "emulated-rtx4090.json")
    resources = run.resources | {"gpu_name": word, "region": word, "host": word}
    conditions = run.conditions | {"image": word, "gpu_name": word, "profile": word}
    phases = tuple(replace(phase, detail=word) for phase in run.phases)
    ended = {"outcome": Outcome.FAILED, "cause": word, "detail": word} if failed else {"detail": word}
    return replace(run, id=f"{word}-{failed}", study=word, resources=resources, conditions=conditions, phases=phases, **ended)


def study(word):
    runs = (hostile_run(word), hostile_run(word, failed=True))
    conditions = {"image": word, "gpu_name": word, "source": "emulator"}
    known = {"name": word, "scenario": "integration", "repeats": 2, "started_at": runs[0].started_at}
    return Study(**known, conditions=conditions, runs=runs)


def model(words):
    """A report's model of a passed and a failed run for each of ``words``."""
    runs = [run for word in words for run in study(word).runs]
    made = report_model(
        Facts(phases_table(runs)),
        prices(),
        study=" ".join(words),
        asked=len(runs),
        problems=list(words),
        made_at="2026-01-01T00:00:00+00:00",
        version="0",
    )
    return made | {"figures": [], "files": []}


@pytest.fixture(scope="module")
def models():
    """The model of runs with hostile words, and the same with harmless ones."""
    return model(list(WORDS.values())), model([f"{BENIGN}{number}" for number in range(len(WORDS))])


class Structure(HTMLParser):
    """The elements of a page with the names of their attributes, addresses included."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(re.sub(r"<span>(\$|\\|&#\d+;)</span>", "", text))  # signs of a formula, kept apart
        self.close()

    def handle_starttag(self, tag, attributes):
        kept = [(name, value if name in ("href", "src", "style", "class") else "") for name, value in attributes]
        self.found.append((tag, tuple(kept)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        self.found.append(f"/{tag}")


def drives_a_terminal(text):
    """The characters of ``text`` that are no text: controls but the line end, directions, lone surrogates."""
    return [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def test_the_report_has_the_same_elements_whatever_the_words(models, tmp_path):
    hostile, benign = (index_page(one, tmp_path) for one in models)
    assert Structure(hostile).found == Structure(benign).found
    assert drives_a_terminal(hostile) == []


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_fragments_for_notebooks_have_the_same_elements_whatever_the_words(word):
    runs = run_html(hostile_run(word, failed=True)), run_html(hostile_run(BENIGN, failed=True))
    studies = study_html(study(word)), study_html(study(BENIGN))
    for made, benign in (runs, studies):
        assert Structure(made).found == Structure(benign).found
        assert drives_a_terminal(made) == []


def test_hostile_words_do_not_change_the_elements_of_the_markdown_report(models):
    render = mistune.create_markdown(escape=False, plugins=["table", "strikethrough"])
    hostile, benign = (markdown_text(one) for one in models)
    assert Structure(render(hostile)).found == Structure(render(benign)).found
    assert drives_a_terminal(hostile) == []


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_terminals_get_text_only(word, capsys):
    run = hostile_run(word, failed=True)
    stream = StringIO()
    listen = plain(stream)
    for phase in run.phases:
        listen(phase.name, phase)
    print_table(["run", "GPU"], [[word, word]])
    print_json({"word": word})
    shown = [run_text(run, run), study_text(study(word)), verdict(run), stream.getvalue(), capsys.readouterr().out]
    assert drives_a_terminal("".join(shown)) == []
    assert len(run_text(run).splitlines()) == len(run_text(hostile_run(BENIGN, failed=True)).splitlines())


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_errors_quote_foreign_words_without_what_drives_a_terminal(word):
    errors = [
        Refused(word, hint=word),
        SshError(word),
        Interrupted(word, hint=word),
        CommandFailed(word, command="x", exit_code_remote=1, stderr_tail=word),
        NotYet("not SSH", word),
    ]
    try:
        read(Reply(400, {}, word.encode("utf-8", "replace")), "GET /")
    except VastbenchError as error:
        errors.append(error)
    assert len(errors) == 6
    shown = "".join(str(error) + repr(error.args) for error in errors) + shorten(word, 400)
    assert drives_a_terminal(shown + "".join(getattr(error, "message", "") for error in errors)) == []


@pytest.mark.parametrize("name", ["../../escaped", "\x1b[2J\na|b `c`"])
def test_an_executed_notebook_stays_in_its_folder_whatever_its_name(name, tmp_path):
    source = tmp_path / "in" / "x" / f"{name.replace('/', '_')}.ipynb"
    source.parent.mkdir(parents=True)
    kernel = {"name": "python3", "display_name": "", "language": "python"}
    source.write_text(json.dumps({"cells": [], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}))
    before = set(tmp_path.rglob("*"))
    result = run_notebook(source, {}, tmp_path / "out" / "deep")
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert made == {result.path}
    assert re.fullmatch(r"[A-Za-z0-9._-]+", result.path.name)
    assert Path(result.path).parent == tmp_path / "out" / "deep"


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_listed_offers_are_escaped_for_terminals_and_verbatim_for_programs(word, capsys, monkeypatch):
    rows = [listed(gpu_name=words, geolocation=words, verification="verified", rentable=True) for words in (BENIGN, word)]
    monkeypatch.setattr(market, "open_market", lambda *_: client(Script({"success": True, "offers": rows})))
    market.offers()
    table = capsys.readouterr()
    assert drives_a_terminal(table.out + table.err) == []
    assert len(table.out.splitlines()) == 3
    market.offers(as_json=True)
    made = capsys.readouterr().out
    assert drives_a_terminal(made) == []
    assert json.loads(made)[1]["geolocation"] == word


FOLDERS = ["a\x1b[2Jb", "\u202egnp", "-rf", "a|b `c` <b>", "..x"]


@pytest.mark.parametrize("name", FOLDERS)
def test_an_export_lies_where_it_was_asked_for_and_terminals_get_text_only(name, tmp_path, capsys):
    with Store(tmp_path / "runs.sqlite") as store:
        store.save_run(replace(hostile_run("../../x\x1b[2J"), study=""))
    before = set(tmp_path.rglob("*"))
    for suffix in ("parquet", "json"):
        stored.export(tmp_path / f"{name}.{suffix}", store=str(tmp_path / "runs.sqlite"))
    assert set(tmp_path.rglob("*")) - before == {tmp_path / f"{name}.{suffix}" for suffix in ("parquet", "json")}
    assert drives_a_terminal(capsys.readouterr().out) == []


@pytest.mark.parametrize("name", FOLDERS)
def test_a_report_lies_in_its_folder_alone_and_terminals_get_text_only(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(build, "build_report", partial(build.build_report, notebooks=[]))
    Store(tmp_path / "runs.sqlite").close()
    before = set(tmp_path.iterdir())
    with pytest.raises(StudyIncomplete) as caught:
        stored.report(tmp_path / name, store=str(tmp_path / "runs.sqlite"))
    assert set(tmp_path.iterdir()) - before == {tmp_path / name}
    shown = capsys.readouterr()
    assert drives_a_terminal(shown.out + shown.err + str(caught.value)) == []
    for page in ("index.html", "report.md"):
        assert drives_a_terminal((tmp_path / name / page).read_text()) == []


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_an_imported_runs_id_and_its_files_name_are_text_only(word, tmp_path, capsys):
    file = tmp_path / f"{word.translate({0: None, ord('/'): '_'})[:80]}.json"
    file.write_text(json.dumps(run_to_dict(replace(hostile_run(BENIGN), id=word))))
    for _ in range(2):
        stored.import_run([file], store=str(tmp_path / "runs.sqlite"))
    assert drives_a_terminal(capsys.readouterr().out) == []
