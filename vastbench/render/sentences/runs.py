"""The answer of the last of a few runs, and which runs they are."""

from __future__ import annotations

from collections.abc import Sequence

from vastbench.analysis.frames import phases_table
from vastbench.record.formats import counted
from vastbench.record.phases import Outcome
from vastbench.record.run import Run
from vastbench.render.sentences.basis import NO_RUN, source
from vastbench.render.text import verdict
from vastbench.render.wording import escaped


def last_answer(runs: Sequence[Run], *, of: int | None = None) -> str:
    """How the last of ``runs`` went, in bold, and which runs are shown: the last ones ``of`` so many in the data, or, for None,
    those made now; and how many of several passed.
    """
    if not runs:
        return NO_RUN
    first, stop, rest = verdict(runs[-1]).strip().partition(". ")
    answer = f"**{escaped(first + stop.strip())}** {escaped(rest)}".strip()
    good = sum(run.outcome is Outcome.PASSED for run in runs)
    passed = "" if len(runs) == 1 else f" {good} of these {len(runs)} passed."
    shown = f"{_shown(len(runs), of)}{passed}"
    return f"{answer} {source(phases_table(runs[-1:]))} {shown} This is run {escaped(runs[-1].id)}, the last one."


def _shown(number: int, of: int | None) -> str:
    if of is None:
        return f"Shown {'is' if number == 1 else 'are'} {counted(number, 'run')} made now."
    if number == of:
        return "Shown is the only run of `data`." if of == 1 else f"Shown are all {of} runs of `data`."
    return f"Shown {'is the last' if number == 1 else f'are the last {number}'} of {of} runs of `data`."
