"""What a report says of a set of runs, computed once: the tables of the other modules side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vastbench.analysis.artefacts.detector import Artefact, artefacts, timings_of
from vastbench.analysis.bottleneck import shares, what_if
from vastbench.analysis.certainty import certainty
from vastbench.analysis.cost import cost_summary
from vastbench.analysis.frames import RUN_COLUMNS
from vastbench.analysis.providers import compare
from vastbench.analysis.summary import attempted, outcomes, phase_summary
from vastbench.analysis.useful import until_useful
from vastbench.record.phases import Outcome, PhaseName

if TYPE_CHECKING:
    import pandas as pd

EMULATED = "emulator"
"""The ``source`` of runs that rented nothing."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The tables of one set of runs. ``phases`` is the tidy frame of all of them; ``runs`` has one row per attempted run, with
    the tidy frame's run columns and its ``seconds`` in all; the others are what the functions of their names return,
    ``artefacts`` those of the attempted runs.
    """

    phases: pd.DataFrame
    runs: pd.DataFrame
    outcomes: pd.DataFrame
    summary: pd.DataFrame
    shares: pd.DataFrame
    what_if: pd.DataFrame
    costs: pd.DataFrame
    comparison: pd.DataFrame
    useful: pd.DataFrame
    certainty: pd.DataFrame
    artefacts: list[Artefact]

    @property
    def attempted(self) -> int:
        """How many runs ended by themselves, whatever their outcome."""
        return len(self.runs)

    @property
    def passed(self) -> int:
        """How many of them passed."""
        return int((self.runs["run_outcome"] == Outcome.PASSED).sum())

    @property
    def stopped(self) -> int:
        """How many further runs we ended ourselves."""
        return int(self.phases["run"].nunique()) - self.attempted

    @property
    def emulated(self) -> bool:
        """Whether any of the runs was emulated: then no figure describes the marketplace."""
        return bool((self.phases["source"] == EMULATED).any())


def facts(phases: pd.DataFrame, prices: pd.DataFrame) -> Facts:
    """The facts of the tidy frame ``phases``, beside the price table ``prices`` (see ``vastbench.io.prices``)."""
    tried = attempted(phases)
    return Facts(
        phases=phases,
        runs=tried.loc[tried["phase"] == PhaseName.TOTAL, [*RUN_COLUMNS, "seconds"]].reset_index(drop=True),
        outcomes=outcomes(phases),
        summary=phase_summary(phases),
        shares=shares(phases),
        what_if=what_if(phases),
        costs=cost_summary(phases),
        comparison=compare(prices, phases),
        useful=until_useful(phases),
        certainty=certainty(phases),
        artefacts=artefacts(timings_of(tried)),
    )
