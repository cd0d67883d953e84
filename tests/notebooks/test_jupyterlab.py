"""Every notebook in a real JupyterLab: all cells run, no output is an error, and no text of ours becomes a formula."""

import base64

import nbformat
import pytest
from nbformat import v4

from tests.notebooks.lab import CHROMIUM, LONGEST_S, TOKEN, Browser, lab, until
from vastbench.bundled import shared

OURS = sorted(shared("notebooks").glob("*.ipynb"))

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium, as .ci/run does"),
    pytest.mark.timeout(2 * LONGEST_S),
]

FORMULA = "from IPython.display import Markdown\nMarkdown('the last text $x$')"
"""A last cell whose output is a formula: once it is set, all that was shown before it has been looked at, too."""

STARTED = "typeof jupyterapp === 'object' && jupyterapp.restored.then(() => true)"

OPENED = """(async () => {{
    window.panel = await jupyterapp.commands.execute('docmanager:open', {{path: '{name}', factory: 'Notebook'}});
    await panel.revealed;
    await panel.sessionContext.ready;
    jupyterapp.shell.activateById(panel.id);
}})()"""

RUN = """(async () => {
    await jupyterapp.commands.execute('notebook:run-all-cells');
    return panel.content.widgets.filter(cell => cell.model.type === 'code').map(cell => ({
        source: cell.model.sharedModel.getSource(),
        count: cell.model.executionCount,
        outputs: cell.model.outputs.toJSON().map(one => ({type: one.output_type, name: one.ename, text: one.evalue})),
    }));
})()"""

FORMULAS = """[...panel.content.node.querySelectorAll('mjx-container, .MathJax')]
    .map(one => one.closest('.jp-OutputArea-child, .jp-MarkdownOutput, .jp-Cell').textContent)"""

DROPDOWNS = "panel.content.node.querySelectorAll('.widget-dropdown').length"

CLOSED = """(async () => {
    await panel.sessionContext.shutdown();
    await panel.context.save();
    panel.dispose();
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A page in which JupyterLab has started over copies of our notebooks, each with a formula at its end."""
    folder = tmp_path_factory.mktemp("lab")
    (root := folder / "notebooks").mkdir()
    for path in OURS:
        made = nbformat.read(path, as_version=4)
        made.cells.append(v4.new_code_cell(FORMULA))
        nbformat.write(made, root / path.name)
    with lab(root, folder) as address:
        browser = Browser(folder)
        try:
            browser.call("Page.navigate", url=f"{address}?token={TOKEN}&reset")
            until(lambda: browser.run(STARTED), "JupyterLab starts")
            yield browser
        finally:
            browser.close()


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_jupyterlab(path, browser, tmp_path):
    browser.run(OPENED.format(name=path.name))
    cells = browser.run(RUN)
    shown = base64.b64decode(browser.call("Page.captureScreenshot")["data"])
    (tmp_path / f"{path.stem}.png").write_bytes(shown)
    errors = [(cell["source"], output) for cell in cells for output in cell["outputs"] if output["type"] == "error"]
    assert errors == []
    assert all(cell["count"] for cell in cells)
    formulas = until(lambda: browser.run(FORMULAS), "the formula of the last cell is set")
    assert [text for text in formulas if "the last text" not in text] == []
    # Each choice of notebook 00 has a control.
    assert browser.run(DROPDOWNS) == (4 if path.stem.startswith("00") else 0)
    browser.run(CLOSED)
