"""What JupyterLab takes for a formula in a text that a notebook displays, read as its MathJax reads a page.

Delimiters pair inside one run of text; an element other than ``br`` ends it. A backslash before a dollar protects it in
HTML, but Markdown takes the backslash away before MathJax reads the page.
"""

import re
from html.parser import HTMLParser

from nbconvert.filters import markdown2html

FORMULAS = (r"(?<!\\)\$.+?(?<!\\)\$", r"\\\(.+?\\\)", r"\\\[.+?\\\]", r"\\begin\{(.+?)\}.*?\\end\{\1\}", r"\\(?:eq)?ref\{.*?\}")
FORMULA = re.compile("|".join(FORMULAS), re.DOTALL)
VOID = {"area", "col", "embed", "hr", "img", "input", "link", "meta"}
INSIDE = {"br", "wbr"}
NO_TEXT = {"script", "noscript", "style", "textarea", "pre", "code", "math", "select", "option", "mglyph", "svg"}


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.runs = [""]
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag not in INSIDE:
            self.runs.append("")
        if tag not in INSIDE | VOID:
            ignored = "mathjax_ignore" in (dict(attributes).get("class") or "").split()
            self.open.append((tag, ignored or tag in NO_TEXT))

    def handle_endtag(self, tag):
        self.runs.append("")
        while any(name == tag for name, _ in self.open) and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if not any(ignored for _, ignored in self.open):
            self.runs[-1] += data


def formulas(mime: str, text: str) -> list[str]:
    """The parts of ``text``, a ``text/html`` or ``text/markdown``, that would be shown as formulas."""
    page = _Page(markdown2html(text) if mime == "text/markdown" else text)
    return [found[0] for run in page.runs for found in FORMULA.finditer(run)]


def shown_as_formulas(data: dict[str, str]) -> list[str]:
    """The same for all that one output holds, by type; figures and plain text are not looked at."""
    return [part for mime in ("text/html", "text/markdown") for part in formulas(mime, data.get(mime, ""))]
