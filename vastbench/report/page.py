"""The report's pages and its Markdown text, made of the model by templates.

Every value that is put into a template is escaped for its language, unless it is a sentence of our own, which is Markdown and
has its foreign words escaped already (:mod:`vastbench.render.sentences`). The pages load nothing from anywhere: styles,
images and the script that sorts tables are inside, and a policy in their heads forbids the rest.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vastbench.analysis.findings import FEW
from vastbench.errors import clean
from vastbench.record.formats import bounds, counted, of_share, percent, reach
from vastbench.render.findings import cell, worded
from vastbench.render.glossary import used_in
from vastbench.render.sentences import drills
from vastbench.render.wording import escaped, plain, without_spans
from vastbench.report import tables
from vastbench.report.figures import drawings

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from vastbench.report.notebooks import Executed


class Ready(str):
    """Text that is Markdown already."""

    __slots__ = ()


def index_page(model: Mapping[str, Any], folder: Path) -> str:
    """The report as one HTML page; its images are read from ``folder`` and put inside."""
    pages = _pages()
    pictures = [figure | {name: _data_uri(path) for name, path in drawings(folder, figure)} for figure in model["figures"]]
    script = pages.get_template("sort.js").render()
    words = used_in(markdown_text(model))
    return pages.get_template("index.html.j2").render(model=model, pictures=pictures, script=script, words=words)


def notebook_page(model: Mapping[str, Any], notebook: Executed) -> str:
    """The page of an executed notebook, which leads back to the report."""
    words = used_in(html.unescape(re.sub(r"<[^>]+>", " ", notebook.body)))
    return _pages().get_template("notebook.html.j2").render(model=model, notebook=notebook, words=words)


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
        "counted": counted,
        "digest": _digest,
        "lacking": _lacking,
        "tiles": tiles,
    }


def title(model: Mapping[str, Any]) -> str:
    """The report's title, with a foreign study's name as it came."""
    return f"Study “{model['study']}”" if model["study"] else "All runs"


def _median_interval(boot: Mapping[str, Any]) -> str:
    """The interval of the median of attempts, in words."""
    low, high = (math.nan if boot[name] is None else boot[name] for name in ("median_low_s", "median_high_s"))
    return reach(low, high, n=boot["attempted"], machines=boot["machines"])


def _lacking(phases: Sequence[Mapping[str, Any]]) -> str:
    """Why some rows of the table of phases have no interval, and what stands there; nothing where all have one."""
    without = [row for row in phases if row["median_low_s"] is None and row["n"] + row["unfinished"]]
    if not without:
        return ""
    few = all(row["n"] + row["unfinished"] < FEW for row in without)
    return f"; – where {'runs' if few else 'runs, or the machines that they came from,'} are too few for one"


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
    return "data:image/svg+xml;base64," + base64.b64encode(image.read_bytes()).decode("ascii")


def _digest(script: str) -> Markup:
    """What a policy names the only script by that it lets run."""
    from markupsafe import Markup

    return Markup("sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"))  # noqa: S704


class Tile(NamedTuple):
    """A figure on the first screen: ``what`` it is, the ``figure``, and a ``note`` in small."""

    what: str
    figure: str
    note: str


def tiles(model: Mapping[str, Any]) -> list[Tile]:
    """The four figures of the first screen of a report with attempted runs."""
    counts, failed = model["counts"], model["failed"]
    passed = model["outcomes"][0]
    rate = f"{percent(passed['rate'])}, {of_share(passed['rate_low'], passed['rate_high'], n=counts['attempted'])}"
    asked = "" if counts["asked"] in (None, counts["attempted"]) else f"; {counts['asked']} asked for"
    made = [Tile("runs that passed", f"{counts['passed']} of {counts['attempted']}", rate + asked)]
    if model["drill"]:
        drawn = [row for row in model["drill"]["measures"] if row["what"] in model["drill"]["headlines"]]
        made += [Tile(f"{row['what']}, median", drills.amount_of(row, "value"), drills.interval_note(row)) for row in drawn[:2]]
    else:
        boot = model["failover"]["fresh_boot"]
        note = f"{_median_interval(boot)}; from the start of a run to {plain(model['ready_at'])}"
        made.append(Tile("time to ready, median", worded("median_s", boot["median_s"]), note))
    (costs,) = (row for row in model["costs"] if row["meter"] == "all meters")
    least = "at least " if costs["n"] < counts["attempted"] and costs["per_success_usd"] is not None else ""
    paid = "failures are paid, too; " if failed["runs"] else ""
    per_run = f"{paid}per run {worded('per_run_usd', costs['per_run_usd'])}"
    made.append(Tile("cost per success, by meter", least + worded("per_success_usd", costs["per_success_usd"]), per_run))
    longest = [one["figures"] for one in model["findings"] if one["rule"] == "longest"]
    made += [
        Tile("the longest phase", str(one["phase"]), f"{worded('mean_share', one['mean_share'])} of the mean total")
        for one in longest
    ]
    return made[:4]
