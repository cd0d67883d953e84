"""What the data say, as Markdown sentences with their numbers; notebooks and reports show the same ones.

Each function takes a tidy frame (:mod:`vastbench.analysis.frames`) unless it says otherwise, and gives one short paragraph:
the finding, its unit, its n and its 95 % interval where n allows one. Without data it says so and gives no number. The
functions named like a chart of :mod:`vastbench.charts` give the sentence that belongs under it. Foreign strings are escaped.

>>> vastbench.sentences.useful(vastbench.load("default-300"))
'... of 300 attempted runs ...'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.summary import attempted, passed
from vastbench.render.sentences.basis import NO_RUN, NO_SUCCESS, data, failures_by_cause, source
from vastbench.render.sentences.certainty import (
    boot_curves,
    certainty_answer,
    clusters,
    conditions_answer,
    naive_beside_honest,
    poll_timeline,
)
from vastbench.render.sentences.drills import (
    acceptance_table,
    against_drills,
    caveats,
    measured_table,
    quantity,
    sizes,
    until_answer,
)
from vastbench.render.sentences.money import (
    PER,
    billed,
    billing,
    break_even,
    charges,
    cost_answer,
    cost_meters,
    price_table,
    provider_costs,
    seed_ratios,
    spent,
)
from vastbench.render.sentences.runs import last_answer
from vastbench.render.sentences.time import (
    beside,
    bottleneck_answer,
    inside,
    longest,
    phase_distributions,
    phase_shares,
    phase_waterfall,
    ready,
    ready_at,
    runs_over_time,
    timing_answer,
    useful,
    what_if,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "NO_RUN",
    "NO_SUCCESS",
    "PER",
    "acceptance_table",
    "against_drills",
    "beside",
    "billed",
    "billing",
    "boot_curves",
    "bottleneck_answer",
    "break_even",
    "caveats",
    "certainty_answer",
    "charges",
    "clusters",
    "conditions_answer",
    "cost_answer",
    "cost_meters",
    "data",
    "failures_by_cause",
    "inside",
    "last_answer",
    "longest",
    "measured_table",
    "naive_beside_honest",
    "phase_distributions",
    "phase_shares",
    "phase_waterfall",
    "poll_timeline",
    "price_table",
    "provider_costs",
    "quantity",
    "ready",
    "ready_at",
    "runs_over_time",
    "seed_ratios",
    "sizes",
    "source",
    "spent",
    "study_verdict",
    "timing_answer",
    "until_answer",
    "useful",
    "what_if",
]


def study_verdict(phases: pd.DataFrame) -> str:
    """The answer of a study in three sentences: emulated or live, how long until ready, and what fails."""
    if phases.empty:
        return NO_RUN
    if attempted(phases).empty:
        return f"{source(phases)} {failures_by_cause(phases)}"
    if passed(phases).empty:
        return f"{source(phases)} {failures_by_cause(phases)} {NO_SUCCESS}"
    return f"{source(phases)} {ready(phases)} {failures_by_cause(phases)}"
