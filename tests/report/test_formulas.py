"""Dollars and backslashes stay what they are where a notebook looks for formulas."""

import ast
import re
from pathlib import Path

import pandas as pd
import pytest

import vastbench
from tests.formulas import formulas
from tests.hostile.test_escaping import hostile_run, study
from vastbench.analysis.frames import phases_table, runs_table
from vastbench.bundled import shared
from vastbench.io.prices import prices
from vastbench.io.timings import read
from vastbench.record.shown import _SHOWN_BY
from vastbench.render.frames import format_frame
from vastbench.render.wording import escaped

WORD = r"$x$ \(y\) \[z\] $$q$$ \begin{equation}a\end{equation} \$5 and \$6"

# Seen in JupyterLab 4.6.6 with Chromium: what its MathJax made of these outputs.
IN_JUPYTERLAB = [
    ("text/html", "It cost $0.0010, not $0.0046.", True),
    ("text/html", "It cost &#36;0.0010, not &#36;0.0046.", True),
    ("text/html", r"It cost \$0.0010, not \$0.0046.", False),
    ("text/html", "It cost <span>$</span>0.0010, not <span>$</span>0.0046.", False),
    ("text/html", r"\(x\)", True),
    ("text/html", r"\begin{equation}x\end{equation}", True),
    ("text/html", "<div class='mathjax_ignore'>It cost $0.0010, not $0.0046.</div>", False),
    ("text/html", "<pre>It cost $0.0010, not $0.0046.</pre>", False),
    ("text/html", "<table><tr><td>$0.0010</td><td>$0.0046</td></tr></table>", False),
    ("text/html", "It cost $0.0010.", False),
    ("text/markdown", "It cost $0.0010, not $0.0046.", True),
    ("text/markdown", "It cost &#36;0.0010, not &#36;0.0046.", True),
    ("text/markdown", r"It cost \$0.0010, not \$0.0046.", True),
    ("text/markdown", "It cost <span>$</span>0.0010, not <span>$</span>0.0046.", True),
    ("text/markdown", "It cost <span>&#36;</span>0.0010, not <span>&#36;</span>0.0046.", False),
    ("text/markdown", "`$0.0010` and `$0.0046`", False),
    ("text/markdown", r"\\(x\\)", True),
    ("text/markdown", "It cost **$0.0010**.", False),
]


@pytest.mark.parametrize(("mime", "text", "typeset"), IN_JUPYTERLAB)
def test_texts_are_read_as_jupyterlab_reads_them(mime, text, typeset):
    assert bool(formulas(mime, text)) is typeset


def test_no_object_that_displays_itself_shows_a_formula(tmp_path):
    runs = vastbench.load("default-300").assign(gpu=WORD, image=WORD)
    vietnam = runs["region"] == "Vietnam, VN"
    (tmp_path / f"{WORD[:5]}.csv").write_text(f"run,phase,seconds\none,{WORD},5\n")
    charged = vastbench.load("charges-40")
    displayed = {
        "Run": hostile_run(WORD, failed=True),
        "Study": study(WORD),
        "Comparison": vastbench.compare(runs[vietnam].assign(study=WORD), runs[~vietnam].assign(study=WORD + "b")),
        "Plan": vastbench.plan(0.3, runs.assign(study=WORD)),
        "Forecast": vastbench.estimate(vastbench.load("failover-40").assign(gpu=WORD, study=WORD)),
        "Checked": vastbench.check(tmp_path / f"{WORD[:5]}.csv"),
        "Reconciliation": vastbench.reconcile(charged.assign(study=WORD, run=WORD + charged["run"])),
        "Report": vastbench.report(runs[:60].assign(study=WORD), tmp_path / "report", notebooks=[]),
    }
    nodes = [node for path in Path(vastbench.__file__).parent.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    displaying = {one.name for one in classes if re.search(r"def (_repr_|_ipython_display_)", ast.unparse(one))}
    assert displaying == {"Shown"}
    assert {kind.__name__ for kind in _SHOWN_BY} == set(displayed)
    for one in displayed.values():
        assert formulas("text/html", one._repr_html_()) == []


def test_a_word_in_a_sentence_is_no_formula():
    assert formulas("text/markdown", f"One {escaped(WORD)} and {escaped(WORD)}.") == []


def timings(folder):
    (folder / "timings.csv").write_text(f"run,phase,seconds\none,{WORD},5\n")
    return read(folder / "timings.csv")


def listed(folder):
    text = (shared("data/prices") / "gpu_prices.csv").read_text()
    (folder / "prices.csv").write_text(text.replace("AWS", "$A$"))
    return prices(folder / "prices.csv")


FRAMES = {
    "phases_table": lambda folder: phases_table([hostile_run(WORD)]),
    "runs_table": lambda folder: runs_table(phases_table([hostile_run(WORD)])),
    "format_frame": lambda folder: format_frame(pd.DataFrame({"gpu": [WORD], "cause": [WORD]})),
    "timings": timings,
    "prices": listed,
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_frames_show_no_formula_in_cells_or_headings(make, tmp_path):
    with pd.option_context("display.html.use_mathjax", True):
        frame = make(tmp_path)
        assert formulas("text/html", frame.rename(columns=lambda name: f"$x$ {name}")._repr_html_()) == []
