"""Is B worse than A, by names of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from vastbench.analysis import comparison
from vastbench.analysis.comparison import Comparison
from vastbench.analysis.frames import timeline
from vastbench.analysis.survival.intervals import CONFIDENCE
from vastbench.analysis.verdicts import MARGIN, SUCCESS_MARGIN, Criteria
from vastbench.answers.selection import Chosen, Which, chosen, named, narrowed
from vastbench.errors import SettingsError, UsageError
from vastbench.io.words import how_of
from vastbench.record.phases import PhaseName
from vastbench.record.stopping import USEFUL

if TYPE_CHECKING:
    import pandas as pd

ALL = "all phases"
"""In place of the name of a phase: each that runs of both groups reached."""


def compare(
    a: pd.DataFrame | str | Path | float,
    b: pd.DataFrame | str | Path | float,
    *,
    by: str = "",
    data: pd.DataFrame | str | Path | None = None,
    phase: str | Sequence[str] = USEFUL,
    margin: float = MARGIN,
    success_margin: float = SUCCESS_MARGIN,
    confidence: float = CONFIDENCE,
    **which: Unpack[Which],
) -> Comparison:
    """Say whether the runs ``b`` are worse than the runs ``a``, better, or the same within margins, and how sure that is.

    Two things are judged, each with an interval: success, how often runs pass, and speed, how long ``phase`` takes.

    Parameters
    ----------
    a, b
        Two groups of runs: tidy frames (:func:`vastbench.load`), or names of files, data sets, stores, studies or runs, several
        by commas. With ``by``, two values of that column; a part of one that no other value has is enough.
    by
        A column of a run in which the two groups differ: ``region``, ``image``, ``gpu``, ``source``, ``client_version`` … Of
        frames it says by what they were chosen, which is then no caution.
    data
        With ``by``: where the runs are, a frame or a name; by default the store.
    phase
        What to compare: ``time to ready``, a phase, or several; ``all phases`` for each that both groups reached. The first
        one is primary and has the verdict. The others are secondary: their verdicts are adjusted for their number.
    margin
        What difference in speed does not matter, as a part of 1: with 0.1 ratios from 1 ÷ 1.1 to 1.1 are the same.
    success_margin
        What difference in the rate of success does not matter: with 0.05 five runs of a hundred. A fall that is proved counts
        all the same.
    confidence
        Of the intervals, as a part of 1.
    **which
        ``study``, ``where``, ``store`` as of :func:`vastbench.load`; ``pool=True`` takes runs of several kinds for one sample;
        ``passed``, ``unit``, ``column``, ``group_by`` as of :func:`vastbench.check`, for files of other tools.

    Returns
    -------
    Comparison
        It shows itself. ``verdict`` follows from ``success.verdict`` and ``speed``: a loss that is proved in one of them is
        *worse* whatever the other, and *equivalent* takes both. The table ``effects`` has the speed (seconds and ratios, one
        row per quantity), ``success`` the rates, ``cautions`` what makes the comparison unfair; the tidy frames are ``a``,
        ``b`` and ``runs``, both together, for charts: ``vastbench.boot_curves(found.runs, by="group")``.

    Raises
    ------
    NotFound
        No such file, study, run, column or value; the message says which there are.
    UsageError
        A run that is in both groups, a quantity that does not exist, a margin or confidence that cannot be, runs of several
        kinds that were not pooled.

    Examples
    --------
    >>> found = vastbench.compare("Vietnam", "Spain", by="region", data="default-300")
    >>> found.verdict
    <Verdict.NOT_ENOUGH: 'not enough runs'>
    >>> found.success.verdict
    <Verdict.NOT_ENOUGH: 'not enough runs'>
    >>> found.effects[["n_a", "n_b", "ratio", "ratio_low", "ratio_high"]].round(2)
       n_a  n_b  ratio  ratio_low  ratio_high
    0  111   47   1.09       0.68         1.5
    """
    store = which.get("store")
    if by and isinstance(a, (str, int, float)) and isinstance(b, (str, int, float)):
        groups = chosen(a, b, by, data, which)
    elif data is not None or which.get("study"):
        raise SettingsError(
            "--from and --study are for --by.", hint="Name two files or studies as A and B, or the column with --by."
        )
    else:
        groups = _group(a, store, which), _group(b, store, which)
    first, second = (group.phases for group in groups)
    wanted = [phase] if isinstance(phase, str) else list(phase)
    criteria = Criteria(margin, success_margin, confidence)
    found = comparison.compare(first, second, _quantities(wanted, first, second), criteria, by=by)
    return replace(found, names=(groups[0].place, groups[1].place))


def _group(runs: pd.DataFrame | str | Path | float, store: str | Path | None, which: Which) -> Chosen:
    """The runs of a frame, called by their study if that is one, or of a name."""
    if isinstance(runs, (str, Path)):
        return Chosen(narrowed(named(runs, store, **how_of(which)), which), str(runs))
    if isinstance(runs, (int, float)):
        raise UsageError(f"{runs!r} names no runs.", hint="Give a frame or a name, or say by which column it is a value.")
    studies = set(runs["study"]) if "study" in runs else set()
    return Chosen(narrowed(runs, which), str(studies.pop()) if len(studies) == 1 else "")


def _quantities(asked: Sequence[str], a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """What was asked for, in that order, and for ``ALL`` each phase that runs of both groups reached."""
    named = list(dict.fromkeys(name for name in asked if name != ALL)) or [USEFUL]
    if ALL not in asked:
        return named
    reached = set(a["phase"]) & set(b["phase"]) - {PhaseName.UNATTRIBUTED}
    return named + [name for name in timeline(a) if name in reached and name not in named]
