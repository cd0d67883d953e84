"""What an account charged for runs, beside what their own meters say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from vastbench.analysis.cost import Reconciliation, reconciliation
from vastbench.answers.selection import Which, runs_of

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = "charges-40"
"""The bundled runs with charges."""


def reconcile(data: pd.DataFrame | str | Path | None = None, **which: Unpack[Which]) -> Reconciliation:
    """Set what an account charged for runs beside what their own meters say; ``vastbench reconcile --live`` asks the account.

    Charges come late and rounded: a run agrees when its charge, as far as rounding lets it be known, lies within the bounds of
    its meters.

    Parameters
    ----------
    data
        Runs whose charges were asked for: a frame, a file, a store, a study, a data set; by default the bundled ones.
    **which
        ``study``, ``where``, ``store`` as of :func:`vastbench.load`.

    Returns
    -------
    Reconciliation
        It shows itself. ``runs``: one row for each run that was asked about, with ``charge`` (agrees, differs, late, missing,
        not estimated), what our meters say, what was charged, and the residuals, charged − estimated, by meter; ``meters``:
        their sums over the runs whose charges have all come. USD.

    Raises
    ------
    NotFound
        No such file, study, data set or run.

    Examples
    --------
    >>> made = vastbench.reconcile("charges-40")
    >>> made.runs["charge"].value_counts().to_dict()
    {'agrees': 40}
    """
    chosen = runs_of(data, which, sample=SAMPLE)
    return reconciliation(chosen.phases, chosen.place)
