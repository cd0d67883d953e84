"""What is known of a set of runs: the tables of the other modules side by side, each computed once, when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vastbench.analysis.artefacts.detector import artefacts, timings_of
from vastbench.analysis.attempts import of_one_kind
from vastbench.analysis.bottleneck import shares, what_if
from vastbench.analysis.certainty import certainty
from vastbench.analysis.columns import RUN_COLUMNS
from vastbench.analysis.cost import cost_summary
from vastbench.analysis.summary import attempted, outcomes, phase_summary
from vastbench.record.phases import Outcome, PhaseName

if TYPE_CHECKING:
    import pandas as pd

EMULATED = "emulator"
"""The ``source`` of runs that rented nothing."""


@dataclass(frozen=True)
class Facts:
    """The tables of the runs in the tidy frame ``phases``: ``runs`` has one row per attempted run, with the tidy frame's run
    columns and its ``seconds`` in all; the others are what the functions of their names return, ``artefacts`` those of the
    attempted runs.
    """

    phases: pd.DataFrame

    def __post_init__(self) -> None:
        """Refuse runs of several kinds."""
        of_one_kind(self.phases)

    runs = cached_property(lambda self: _runs(self.phases))
    outcomes = cached_property(lambda self: outcomes(self.phases))
    summary = cached_property(lambda self: phase_summary(self.phases))
    shares = cached_property(lambda self: shares(self.phases))
    what_if = cached_property(lambda self: what_if(self.phases))
    costs = cached_property(lambda self: cost_summary(self.phases))
    certainty = cached_property(lambda self: certainty(self.phases))
    artefacts = cached_property(lambda self: artefacts(timings_of(attempted(self.phases))))

    @property
    def attempted(self) -> int:
        """How many runs count, whatever their outcome."""
        return len(self.runs)

    @property
    def passed(self) -> int:
        """How many of them passed."""
        return int((self.runs["run_outcome"] == Outcome.PASSED).sum())

    @property
    def stopped(self) -> int:
        """How many further runs say nothing of a machine: we ended them, or the account was refused."""
        return int(self.phases["run"].nunique()) - self.attempted

    @property
    def emulated(self) -> bool:
        """Whether any of the runs was emulated: then no figure describes the marketplace."""
        return bool((self.phases["source"] == EMULATED).any())


def _runs(phases: pd.DataFrame) -> pd.DataFrame:
    tried = attempted(phases)
    return tried.loc[tried["phase"] == PhaseName.TOTAL, [*RUN_COLUMNS, "seconds"]].reset_index(drop=True)
