"""A report by the names of runs, and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from vastbench.answers.selection import existing, narrowed
from vastbench.errors import SettingsError, VastbenchError
from vastbench.io.words import how_of
from vastbench.record.shown import Answer
from vastbench.render.blocks import Block, show_blocks
from vastbench.render.wording import plain
from vastbench.report.build import Source, build_report, of_places, of_table, read_model, shortfall

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.answers.selection import Which

OUT = "out/report"


@dataclass(frozen=True, slots=True, repr=False)
class Report(Answer):
    """A report that was built: the path ``index`` of its page, and its ``model``, the report as data. It shows its verdict."""

    index: Path
    model: Mapping[str, Any]

    def shortfall(self, store: str | Path | None = None) -> VastbenchError | None:
        """What keeps its runs from being a success: SchemaError, StudyIncomplete, StudyFailed or None."""
        return shortfall(self.model, None if store is None else str(store))


def report(
    data: pd.DataFrame | str | Path | Sequence[str | Path] | None = None,
    out: str | Path = OUT,
    *,
    notebooks: Sequence[str] | None = None,
    echo: Callable[[str], None] = lambda _: None,
    **which: Unpack[Which],
) -> Report:
    """Make a report of runs that were made: a page, a text and data, with charts and executed notebooks. It rents nothing.

    Parameters
    ----------
    data
        A frame, or one or several files, stores, studies or data sets; by default the store.
    out
        The folder of the report; an earlier one there is replaced, at the end and by a whole one.
    notebooks
        Names of ours, or files of one's own that have a parameter ``data``, executed over the same runs; by default those that
        fit the runs, and none for ``[]``.
    echo
        Hears of each step, a line at a time.
    **which
        ``study``, ``where``, ``store`` as of :func:`vastbench.load`; ``pool=True`` takes runs of several kinds for one sample;
        ``passed``, ``unit``, ``column``, ``group_by`` as of :func:`vastbench.check`, for files of other tools.

    Returns
    -------
    Report
        It shows its verdict. ``index``: the path of its page. ``model``: what its report.json holds. ``shortfall()``: what
        keeps the runs from being a success, None when nothing does.

    Raises
    ------
    NotFound
        No such file, study, data set or run.
    UsageError
        ``out`` is something else than a report, or runs of several kinds were not pooled.
    NotebookFailed
        A notebook's cell raised: everything is kept beside ``out``, and an earlier report stays.

    Examples
    --------
    >>> made = vastbench.report("default-300", "report", where="cause=boot_failed", notebooks=[])
    >>> made.index.name, made.model["counts"]["attempted"]
    ('index.html', 6)
    >>> made.shortfall().message
    'None of the 6 runs passed.'
    """
    source = _source(data, which)
    index = build_report(replace(source, phases=narrowed(source.phases, which)), Path(out), notebooks=notebooks, echo=echo)
    return Report(index, read_model(index))


def _source(data: pd.DataFrame | str | Path | Sequence[str | Path] | None, which: Which) -> Source:
    from vastbench.analysis.frames import only, table_of
    from vastbench.store.outbox import pending_in

    study, store = which.get("study"), which.get("store")
    if data is not None and store:
        raise SettingsError("--data and --store were both given.", hint="Name files, or one store.")
    if data is None:
        with existing(store) as opened:
            asked = opened.wanted(study) if study else None
            found = of_table(table_of(opened.each_part(study=study)), study, asked)
            return replace(found, pending=pending_in(opened))
    if isinstance(data, (str, Path, Sequence)):
        places = [data] if isinstance(data, (str, Path)) else data
        return of_places(places, study, **how_of(which))
    return of_table(only(data, "study", study, "the frame"), study)


def _blocks(made: Report) -> list[Block]:
    return [f"{plain(made.model['verdict'])}\nReport: {made.index}"]


show_blocks(Report, _blocks)
