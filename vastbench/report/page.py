"""The report's pages and its Markdown text, made of the model by templates.

Every value that is put into a template is escaped for its language, unless it is a sentence of our own, which is Markdown and
has its foreign words escaped already (:mod:`vastbench.render.sentences`). The pages load nothing from anywhere: styles and
images are inside, and a policy in their heads forbids the rest.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vastbench.errors import clean
from vastbench.record.formats import bounds, reach
from vastbench.render.findings import cell, worded
from vastbench.render.sentences import drills
from vastbench.render.wording import escaped, plain, without_spans
from vastbench.report import tables

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from vastbench.report.notebooks import Executed


class Ready(str):
    """Text that is Markdown already."""

    __slots__ = ()


def index_page(model: Mapping[str, Any], folder: Path) -> str:
    """The report as one HTML page; its images are read from ``folder`` and put inside."""
    pictures = [figure | {"data": _data_uri(folder / figure["png"])} for figure in model["figures"]]
    return _pages().get_template("index.html.j2").render(model=model, pictures=pictures)


def notebook_page(model: Mapping[str, Any], notebook: Executed) -> str:
    """The page of an executed notebook, which leads back to the report."""
    return _pages().get_template("notebook.html.j2").render(model=model, notebook=notebook)


def markdown_text(model: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    return _markdown().get_template("report.md.j2").render(model=model)


def _pages() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("vastbench.report"),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= _filters() | {"sentence": _sentence_html}
    return made


def _printable(value: Any) -> Any:
    """``value`` without characters that drive a terminal or turn the text's direction, unless it is HTML of our own."""
    return clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _markdown() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(  # noqa: S701 (no HTML: ``finalize`` escapes every value for Markdown)
        loader=PackageLoader("vastbench.report"),
        finalize=lambda value: value if isinstance(value, Ready) else escaped(value),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= _filters() | {"sentence": Ready, "grid": _grid}
    return made


def _filters() -> dict[str, Callable[..., object]]:
    return {
        "table": lambda rows, name: tables.table(name, rows),
        "tree": lambda run: Ready(tables.tree(run)),
        "bounds": lambda row: bounds(row["lower_s"], row["upper_s"]),
        "worded": lambda value, name: worded(name, value),
        "cell": lambda value, name: cell(name, value),
        "instrument": tables.instrument,
        "plain": plain,
        "title": title,
        "answer": _answer,
        "median_interval": _median_interval,
        "amount_of": drills.amount_of,
        "interval_of": drills.interval_of,
        "n_of": drills.n_of,
    }


def title(model: Mapping[str, Any]) -> str:
    """The report's title, with a foreign study's name as it came."""
    return f"Study {model['study']}" if model["study"] else "All runs"


def _median_interval(boot: Mapping[str, Any]) -> str:
    """The interval of the median of attempts, in words."""
    low, high = (math.nan if boot[name] is None else boot[name] for name in ("median_low_s", "median_high_s"))
    return reach(low, high, n=boot["attempted"])


def _answer(model: Mapping[str, Any]) -> str:
    """The verdict, without what the box above it says already of emulated runs."""
    verdict: str = model["verdict"]
    return verdict.removeprefix(model["basis"]).strip() if model["emulated"] else verdict


def _sentence_html(text: str) -> Markup:
    """One of our Markdown sentences as HTML; HTML in it is escaped."""
    import mistune
    from markupsafe import Markup

    rendered = str(mistune.create_markdown(escape=True)(without_spans(text))).strip()
    # The only markup that our sentences have is emphasis; the renderer escaped the rest.
    return Markup(rendered.removeprefix("<p>").removesuffix("</p>"))  # noqa: S704


def _grid(table: tables.Table) -> Ready:
    """A table in Markdown, every cell escaped, numbers to the right."""
    rule = ["---:" if number else "---" for number in table.numbers]
    indented = [
        [("    " * depth).replace(" ", "&nbsp;") + escaped(row[0]), *map(escaped, row[1:])]
        for row, depth in zip(table.rows, table.depths, strict=True)
    ]
    return Ready("\n".join("| " + " | ".join(line) + " |" for line in [list(map(escaped, table.head)), rule, *indented]))


def _data_uri(image: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(image.read_bytes()).decode("ascii")
