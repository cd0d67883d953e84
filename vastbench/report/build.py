"""Building a report: tables, charts, notebooks, pages; in place only when it is whole.

::

    runs.parquet ──┬── facts ── model ── figures/ ──┬── report.json, report.md, index.html
                   └── notebooks/ (processes) ──────┘
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from vastbench.analysis.attempts import of_one_kind
from vastbench.errors import NotebookFailed, SchemaError, StudyFailed, StudyIncomplete, VastbenchError
from vastbench.record.plain import dumps
from vastbench.report.notebooks import NOTEBOOKS, execute_all
from vastbench.report.place import MARK, building, publish

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.io.words import How
    from vastbench.record.acceptance import Question
    from vastbench.record.study import Study
    from vastbench.report.notebooks import Executed

Echo = Callable[[str], None]
FAILED = ".failed"
"""Put behind the name of a report whose notebook failed: it is kept there, and the report of before stays."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a report is about: the tidy frame ``phases``, the ``study``'s name, how many runs were ``asked`` for (None when
    unknown), the ``problems`` that kept data from being read, and how many notifications are ``pending`` in its store.
    """

    phases: pd.DataFrame
    study: str | None = None
    asked: int | None = None
    problems: tuple[str, ...] = ()
    pending: int = 0


def of_study(study: Study) -> Source:
    """A study as it stands in its store."""
    from vastbench.analysis.frames import phases_table

    return Source(phases_table(study.runs), study.name, study.wanted)


def of_places(places: Sequence[str | Path | None], study: str | None = None, **how: Unpack[How]) -> Source:
    """Everything in ``places`` (see :func:`vastbench.io.tables.load`), or the runs of one ``study`` in them.

    A table of another schema is a problem that the report states: then it has no figures at all, since those of the rest
    would pass for the whole. Raises NotFound for a place or a study that is not there, SettingsError for a broken file.
    """
    from vastbench.analysis.frames import phases_table
    from vastbench.io.tables import load

    try:
        phases = load(*places, study=study, **how)
    except SchemaError as error:
        said = error.message
        for place in places:
            said = said.replace(str(place), Path(str(place)).name)
        if len(places) > 1:
            said += " Tables of different schemas cannot be taken together."
        return Source(phases_table([]), study, problems=(said,))
    return Source(phases, study or _one_study(phases))


def of_table(phases: pd.DataFrame, study: str | None = None, asked: int | None = None) -> Source:
    """A tidy frame: of a ``study``, of which so many runs were ``asked`` for, or with its name when all runs are of one."""
    return Source(phases, study or _one_study(phases), asked)


def _one_study(phases: pd.DataFrame) -> str | None:
    studies = set(phases["study"])
    return (studies.pop() if len(studies) == 1 else None) or None


def build_report(source: Source, out: Path, *, notebooks: Sequence[str] | None = None, echo: Echo = lambda _: None) -> Path:
    """Build the report of ``source`` in the folder ``out`` and return the path of its ``index.html``.

    An earlier report there is replaced at the end, by a whole one. ``notebooks`` are names of ours, or files that have a
    parameter ``data``; by default the usual ones, and that of the runs' drill. ``echo`` hears of each step. Raises
    NotebookFailed when a notebook's cell raised: then everything is kept beside ``out``, and an earlier report stays. Raises
    UsageError when ``out`` is something else than a report, and for runs of several kinds that were not pooled
    (:func:`~vastbench.analysis.attempts.pool`).
    """
    out = Path(out).resolve()
    of_one_kind(source.phases)
    with building(out) as folder:
        log = Log(echo)
        failed = _build(source, folder, notebooks, log)
        log.write(folder / "vastbench.log")
        kept = out.with_name(out.name + FAILED) if failed else out
        publish(folder, kept)
    if failed:
        raise NotebookFailed(
            "; ".join(notebook.error for notebook in failed).rstrip(".") + ".",
            hint=f"Everything is kept in {kept}: look at notebooks/{failed[0].name}.ipynb.",
        )
    return out / "index.html"


def read_model(index: Path) -> Mapping[str, Any]:
    """The model of the report whose ``index.html`` is given."""
    found: Mapping[str, Any] = json.loads(index.with_name(MARK).read_text(encoding="utf-8"))
    return found


def shortfall(model: Mapping[str, Any], store: str | None = None) -> VastbenchError | None:
    """What keeps the runs of a report from being a success: SchemaError, StudyIncomplete, StudyFailed or None.

    ``store`` is where they come from, to be named in the message and in the command that makes more of them.
    """
    counts, conclusion, name = model["counts"], model["conclusion"], model["study"]
    if conclusion == "unreadable":
        return SchemaError(" ".join(model["problems"]), hint="Export the tables again with this vastbench.")
    if conclusion == "incomplete":
        of = "" if counts["asked"] is None else f" of {counts['asked']}"
        what = (f"The study {name!r}" if name else "The report") + (f" in {store}" if store else "")
        command = f"vastbench study --name {shlex.quote(name or 'first')}"
        command += f" --repeats {counts['asked']}" if counts["asked"] else ""
        command += f" --store {shlex.quote(store)}" if store else ""
        return StudyIncomplete(f"{what} has {counts['attempted']}{of} runs.", hint=f"Make runs: {command}")
    if conclusion == "none passed":
        none = f"None of the {counts['attempted']} runs passed." if counts["attempted"] > 1 else "The only run did not pass."
        return StudyFailed(none, hint="The report says why.")
    return None


def _build(source: Source, folder: Path, paths: Sequence[str] | None, log: Log) -> list[Executed]:
    """Everything but the log, in ``folder``; the notebooks that failed."""
    from vastbench.io.tables import export
    from vastbench.report.drills import question_of
    from vastbench.report.page import index_page, markdown_text, notebook_page

    question = question_of(source.phases)
    with log.step("runs.parquet written"):
        export(source.phases, folder / "runs.parquet")
    with ThreadPoolExecutor(1) as beside, log.step("notebooks executed"):
        # The notebooks have processes of their own, and this one is free for the charts meanwhile.
        drawing = beside.submit(_model, source, question, folder, log)
        if paths is None:
            paths = (*NOTEBOOKS, *([question.notebook] if question else []))
        # Of no run there is nothing that a notebook could say.
        paths = () if source.phases.empty else paths
        notebooks = execute_all(folder / "notebooks", paths, lambda done: log.note(_told(done), done.seconds))
        model = drawing.result()
    model["files"] = _files(folder, notebooks)
    with log.step("report written"):
        for notebook in notebooks:
            (folder / "notebooks" / f"{notebook.name}.html").write_text(notebook_page(model, notebook), encoding="utf-8")
        (folder / "report.md").write_text(markdown_text(model), encoding="utf-8")
        (folder / "index.html").write_text(index_page(model, folder), encoding="utf-8")
        text = dumps(model, indent=1)
        (folder / MARK).write_text(text + "\n", encoding="utf-8")
    return [notebook for notebook in notebooks if notebook.error]


def _model(source: Source, question: Question | None, folder: Path, log: Log) -> dict[str, Any]:
    """The report's model with its figures drawn, but without its list of files."""
    from vastbench.analysis.facts import Facts
    from vastbench.io.prices import prices
    from vastbench.report.drills import pictures
    from vastbench.report.figures import COMPARED, ONE_RUN, PICTURES, draw_figures, worth_drawing
    from vastbench.report.model import compared, report_model

    with log.step("facts computed"):
        catalogue, found = prices(), Facts(source.phases)
        model = report_model(
            found,
            catalogue,
            study=source.study,
            asked=source.asked,
            problems=list(source.problems),
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            version=version("vastbench"),
            pending=source.pending,
        )
    with log.step("figures drawn"):
        one_run = source.phases[source.phases["run"] == (model["median_run"] or {}).get("run")]
        frames = {ONE_RUN: one_run, COMPARED: compared(catalogue, source.phases)}
        names = worth_drawing(found.attempted, found.passed, source.phases)
        chosen = [(one, frames.get(one.name, source.phases)) for one in PICTURES if one.name in names]
        asked = question if names else None
        model["figures"] = draw_figures([*(pictures(source.phases, asked) if asked else ()), *chosen], folder / "figures")
    return model


KINDS = {
    "index.html": "this report as a page",
    "report.md": "this report as text",
    MARK: "this report as data",
    "vastbench.log": "what was done, and how long it took",
    "runs.parquet": "every run and phase, one row each",
    ".png": "a chart as a picture",
    ".svg": "a chart of any size; -narrow for phones",
    ".ipynb": "an executed notebook",
    ".html": "a notebook as a page",
}


def _files(folder: Path, notebooks: list[Executed]) -> list[dict[str, object]]:
    """What the report consists of. Files that hold this list, or are written after it, have no size in it."""
    late = {"index.html", "report.md", MARK, "vastbench.log"} | {f"notebooks/{one.name}.html" for one in notebooks}
    titles = {f"notebooks/{one.name}.html": one.title for one in notebooks}
    there = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return [
        {"path": path, "bytes": there.get(path), "what": KINDS.get(path) or KINDS[Path(path).suffix], "title": titles.get(path)}
        for path in sorted(there | dict.fromkeys(late))
    ]


def _told(notebook: Executed) -> str:
    return f"notebook {notebook.name} " + (f"FAILED: {notebook.error}" if notebook.error else "executed")


@dataclass
class Log:
    """What was done, with durations; each line is also said to ``echo``."""

    echo: Echo
    lines: list[str] = field(default_factory=list)

    def note(self, text: str, seconds: float) -> None:
        """Add a line."""
        self.lines.append(f"{datetime.now(UTC).isoformat(timespec='seconds')} {seconds:7.2f} s  {text}")
        self.echo(f"{seconds:6.1f} s  {text}")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Note ``text`` with its duration when the body has ended well."""
        begun = time.monotonic()
        yield
        self.note(text, time.monotonic() - begun)

    def write(self, path: Path) -> None:
        """Write all lines to ``path``."""
        path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
