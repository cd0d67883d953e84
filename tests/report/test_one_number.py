"""One quantity, one number: report, charts, notebooks and commands over one data set print the same figure for one name."""

import html
import json
import re
from collections import defaultdict
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import vastbench
from tests.report.test_model import model_of
from vastbench.analysis.frames import runs_from
from vastbench.bundled import shared
from vastbench.cli.app import app
from vastbench.render.wording import plain
from vastbench.report.figures import PICTURES, draw_figures
from vastbench.report.page import index_page, markdown_text
from vastbench.store import Store

DATA = "default-300"
SAID = {
    "time to ready": (
        r"(?:ready|useful GPU|useful) within (?P<n>[\d.]+) s",
        r"time to ready, median (?P<n>[\d.]+) s",
        r"the median of time (?:to ready|until useful) is (?P<n>[\d.]+) s",
        r"the quantile is (?P<n>[\d.]+) s now",
        r"\bA: \S+: time (?:to ready|until useful) median (?P<n>[\d.]+) s",
        r"Ready after how long.*?half by (?P<n>[\d.]+) s",
    ),
    "wait running": (
        r"(?<!\(n = 1\) )wait running took (?P<n>[\d.]+) s",
        r"running instance within (?P<n>[\d.]+) s",
        r"into wait running: (?P<n>[\d.]+) s",
        r"Running after how long.*?half by (?P<n>[\d.]+) s",
    ),
    "confirm destroyed": (r"half of \d+ attempted runs had ended confirm destroyed within (?P<n>[\d.]+) s",),
    "runs that passed": (
        r"(?P<n>\d+) of 300 (?:attempted runs |runs )?passed",
        r"runs that passed (?P<n>\d+) of 300",
        r"(?<!of )\b(?P<n>\d+) passed\b",
    ),
    "runs that did not pass": (r"(?P<n>\d+) of 300 attempted runs did not pass", r"(?P<n>\d+) runs? never came to its end"),
    "cost per success": (
        r"cost per success, by meter (?P<n>[\d.]+) USD",
        r"a success (?P<n>[\d.]+) USD",
        r"Budget (?P<n>[\d.]+) USD per",
    ),
    "cost per run": (r"A run cost (?P<n>[\d.]+) USD", r"per run (?P<n>[\d.]+) USD", r"costs \$(?P<n>[\d.]+) by meter"),
}
"""How texts say a quantity, those of earlier versions included."""
MEDIAN = {"median s", "median_s", "half by s", "seconds, median"}
OTHER_NAMES = {"time until useful": "time to ready"}


class Tables(HTMLParser):
    """The rows of a page's tables, each as its cells, headings included."""

    def __init__(self):
        super().__init__()
        self.tables, self._cell = [], None

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th") and self.tables and self.tables[-1]:
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1][-1].append(" ".join(self._cell.split()))
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data


def tables_in(text):
    """The tables of a page, of Markdown, and of what a terminal shows."""
    reader = Tables()
    reader.feed(text)
    markdown = re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)
    rows = [
        [
            [plain(cell).replace("&nbsp;", " ").strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in one.splitlines()
        ]
        for one in markdown
    ]
    columns = [
        [re.split(r"\s{2,}", line.strip()) for line in one.splitlines()] for one in re.split(r"\n\s*\n", text) if "<" not in one
    ]
    return [*reader.tables, *rows, *columns]


def found_in(text):
    """The figures that a text gives, by the name of their quantity, as they are printed."""
    found = defaultdict(list)
    for table in tables_in(text):
        head = [cell.removesuffix(" ↕") for cell in table[0]] if table else []
        places = [place for place, name in enumerate(head) if name in MEDIAN]
        for row in table[1:]:
            if places and len(row) == len(head) and re.fullmatch(r"[\d.]+", row[places[0]]):
                found[OTHER_NAMES.get(row[0], row[0])].append(row[places[0]])
    bare = " ".join(plain(html.unescape(re.sub(r"<[^>]+>", " ", text))).replace("**", "").split())
    for name, patterns in SAID.items():
        for pattern in patterns:
            found[name] += [match["n"].rstrip(".") for match in re.finditer(pattern, bare)]
    return {name: values for name, values in found.items() if values}


def apart(values):
    """Which of the printed figures are not one number, rounded to different digits."""
    exact = max(values, key=lambda value: len(value.partition(".")[2]))
    return sorted(
        {value for value in values if abs(float(value) - float(exact)) > 0.51 * 10 ** -len(value.partition(".")[2])}
        and {*values}
    )


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What is printed of the data set, by where it is printed."""
    folder, phases = tmp_path_factory.mktemp("one"), vastbench.load(DATA)
    model = json.loads(json.dumps(model_of(phases, study=DATA), allow_nan=False))
    drawn = draw_figures([(one, phases) for one in PICTURES if one.name in ("ready-curves", "boot-curves")], folder / "figures")
    model["figures"] = drawn
    texts = {"report.md": markdown_text(model), "index.html": index_page(model, folder)}
    for one in drawn:
        words = "".join(ElementTree.parse(folder / one["svg"]).getroot().itertext())
        texts[one["name"]] = f"{one['heading']} {' '.join(words.split())}"
    place = folder / "runs.sqlite"
    with Store(place) as store:
        store.open_study(DATA, scenario="integration", repeats=300, conditions={})
        for run in runs_from(phases):
            store.save_run(run)
    other = str(shared("data/runs") / "emulated-rtx4090.json")
    for words in (["plan", "--target-width", "15%"], ["show", DATA, "--store", str(place)], ["compare", DATA, other, "--pool"]):
        texts[words[0]] = CliRunner().invoke(app, words).stdout
    return texts, model


def test_one_quantity_has_one_number_in_report_charts_and_commands(printed):
    texts, model = printed
    found = defaultdict(dict)
    for where, text in texts.items():
        for name, values in found_in(text).items():
            for value in values:
                found[name][value, where] = value
    assert {name: sorted(values) for name, values in found.items() if apart([*values.values()])} == {}
    assert {where for _, where in found["time to ready"]} >= {"report.md", "index.html", "ready-curves", "plan", "compare"}
    assert {where for _, where in found["wait running"]} >= {"report.md", "index.html", "boot-curves", "show"}
    assert {*SAID} <= {*found}
    rows = {row["phase"]: row["median_s"] for row in model["phases"]}
    for row in model["certainty"]:
        assert row["median_s"] == rows.get(row["quantity"], model["failover"]["fresh_boot"]["median_s"]), row["quantity"]


@pytest.mark.parametrize("name", ["02-phase-timings", "03-boot-bottlenecks", "04-provider-costs", "05-how-sure-are-we"])
def test_the_committed_notebooks_print_the_numbers_of_the_report(printed, name):
    notebook = json.loads((shared("notebooks") / f"{name}.ipynb").read_text(encoding="utf-8"))
    outputs = [one for cell in notebook["cells"] for one in cell.get("outputs", [])]
    told = [
        "".join(text) for one in outputs for kind, text in one.get("data", {}).items() if kind in ("text/markdown", "text/html")
    ]
    report = found_in(printed[0]["report.md"])
    found = defaultdict(list)
    for text in told:
        for quantity, values in found_in(text).items():
            found[quantity] += values
    assert {*found} & {*report}
    assert {one: values for one, values in found.items() if one in report and apart(values + report[one])} == {}


def test_a_second_number_for_one_name_is_noticed():
    first = "Half of 300 attempted runs had a useful GPU within 95.4 s of the start."
    table = "| what | n | half by s |\n| --- | --- | --- |\n| time until useful | 300 | 97.01 |\n"
    assert found_in(first + "\n\n" + table) == {"time to ready": ["97.01", "95.4"]}
    assert apart(["97.01", "95.4"])
    assert not apart(["97.01", "97.0", "97"])
