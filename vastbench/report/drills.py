"""What a report says of the drill that its runs are of, and of those that they are not of.

Which drill it is stands in the runs; what it asks, and which quantities answer it, in
:mod:`vastbench.scenarios.questions`: the drill's notebook computes the same ones with the same functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from vastbench import charts
from vastbench.analysis import failover
from vastbench.analysis.acceptance import acceptance
from vastbench.analysis.measures import line, measured, with_curves
from vastbench.errors import UsageError
from vastbench.render import sentences
from vastbench.render.sentences.drills import criteria_met, rows_of
from vastbench.report.figures import Picture

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.record.acceptance import Question


def question_of(phases: pd.DataFrame) -> Question | None:
    """What the drill asks that all these runs are of; None where they are of none, or of several."""
    from vastbench.scenarios.questions import QUESTIONS

    names = set(phases["scenario"].dropna())
    return QUESTIONS.get(names.pop()) if len(names) == 1 else None


def drill_section(phases: pd.DataFrame, question: Question) -> dict[str, Any]:
    """The quantities that runs show, what was asked of them, and what follows from them; the estimate only of a recovery."""
    accepted = rows_of(acceptance(phases, question.criteria))
    return {
        "title": question.title,
        "text": sentences.until_answer(with_curves(phases, question.measures), question.answer.what, question.done),
        "reading": question.reading,
        "caveats": sentences.caveats(phases, question),
        "measures": [row for row in rows_of(measured(phases, question.measures)) if row["n"]],
        "headlines": [one.what for one in question.measures if one.drawn],
        "sentence": sentences.sizes(line(phases, question.size, question.took)) if question.size else "",
        "acceptance": accepted,
        "verdicts": dict(Counter(row["verdict"] for row in accepted)),
        "consequence": criteria_met(accepted),
        "estimate": _estimate(phases, question),
    }


def _estimate(phases: pd.DataFrame, question: Question) -> dict[str, Any] | None:
    """The estimate from these drills' parts, what other plans would come to, and whether the drills could come from it."""
    if not question.recovery:
        return None
    try:
        parts = failover.parts_of(phases, names=question.recovery)
    except UsageError:  # no run came so far
        return None
    made = failover.plan_of(phases, question.recovery["machine"][0])
    held = failover.check(parts, failover.measured(phases, question.answer.first, question.answer.last), made)
    asked = failover.Plan(made.hedge, made.stagger_s, made.standby)
    return {
        "parts": rows_of(failover.table(failover.estimate(parts, asked))),
        "plans": rows_of(failover.what_ifs(parts, failover.beside(asked))),
        "check": {"n": held.n, "inside": held.inside, "low_s": held.low, "high_s": held.high, "p": held.p},
        "text": sentences.against_drills(held),
    }


def next_steps(phases: pd.DataFrame) -> dict[str, Any]:
    """The drills of which there is no run among these, each with what makes some, and what no drill does."""
    from vastbench.scenarios.questions import QUESTIONS, UNDRILLED

    made = set(phases["scenario"].dropna())
    lacking = [
        {"scenario": name, "title": one.title, "command": f"vastbench study --name {name} --scenario {name} --repeats 20"}
        for name, one in QUESTIONS.items()
        if name not in made
    ]
    return {"lacking": lacking, "undrilled": list(UNDRILLED)}


def pictures(phases: pd.DataFrame, question: Question) -> Iterator[tuple[Picture, pd.DataFrame]]:
    """A curve for each quantity that is drawn, with the frame that it is drawn of."""
    drawn = [one for one in question.measures if one.drawn]
    spanned = with_curves(phases, drawn)
    for number, one in enumerate(drawn, 1):
        draw = partial(charts.boot_curves, phase=one.what, title=one.drawn)
        says = partial(sentences.quantity, measure=one)
        yield Picture(f"drill-{number}", "drill", one.what, draw, says), spanned
