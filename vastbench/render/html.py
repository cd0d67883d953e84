"""Runs and studies as HTML fragments, for notebook cells; every foreign string is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from vastbench.errors import clean, in_python
from vastbench.record.formats import bounds, decimals, percent
from vastbench.record.phases import Outcome
from vastbench.record.run import Run
from vastbench.render.text import attempts_text, findings_of, headline, study_headline, study_phases
from vastbench.render.wording import NO_FORMULA

if TYPE_CHECKING:
    from vastbench.record.study import Study

_CELL = "style='text-align:right;padding:2px 10px;font-variant-numeric:tabular-nums'"
_NAME = "style='text-align:left;padding:2px 10px;padding-left:{indent}px'"


def shown(text: object) -> str:
    """A text, foreign words in it, as what an element holds, without what turns text around or makes a formula."""
    return escape(clean(text)).translate(NO_FORMULA)


def run_html(run: Run) -> str:
    """The phase tree of a run as a table, one bar per phase for its share of the total."""
    head = "".join(f"<th {_CELL}>{name}</th>" for name in ("seconds", "bounds", "share", ""))
    rows = []
    for row in run.rows():
        name = shown(str(row.name)) + (" ◀ bottleneck" if row.bottleneck else "")
        if row.outcome is not Outcome.PASSED:
            name += f" <em>{shown(str(row.outcome))}</em>"
        share = max(0.0, row.share or 0.0)
        bar = f"<div style='background:#0072b2;height:9px;width:{share * 160:.0f}px'></div>"
        cells = (decimals(row.seconds), bounds(row.lower, row.upper), "" if row.share is None else percent(row.share))
        rows.append(
            f"<tr><td {_NAME.format(indent=10 + 18 * row.depth)}>{name}</td>"
            + "".join(f"<td {_CELL}>{shown(cell)}</td>" for cell in cells)
            + f"<td style='text-align:left;min-width:170px'>{bar}</td></tr>"
        )
    total = f"<tr><th {_NAME.format(indent=10)}>total</th><th {_CELL}>{decimals(run.total_s)}</th><th colspan=3></th></tr>"
    tries = f"<div>{shown(attempts_text(run))}</div>" if len(run.attempts) > 1 else ""
    detail = f"<div>{shown(in_python(run.detail))}</div>" if run.detail else ""
    says = "".join(f"<div><b>{shown(name)}</b> {shown(text)}</div>" for name, text in findings_of(run))
    return (
        f"<div><b>Run {shown(run.id)}</b> {shown(headline(run))}</div>{detail}"
        f"<table><thead><tr><th {_NAME.format(indent=10)}>phase</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}{total}</tbody></table>{tries}{says}"
    )


def study_html(study: Study) -> str:
    """A study's counts and the median of each phase as a table."""
    head = "".join(f"<th {_CELL}>{name}</th>" for name in ("median s", "n"))
    rows = "".join(
        f"<tr><td {_NAME.format(indent=10 + 18 * depth)}>{shown(name)}</td><td {_CELL}>{median}</td><td {_CELL}>{n}</td></tr>"
        for name, depth, median, n in study_phases(study)
    )
    return (
        f"<div><b>Study “{shown(study.name)}”</b> {shown(study_headline(study))}</div>"
        f"<table><thead><tr><th {_NAME.format(indent=10)}>phase</th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )
