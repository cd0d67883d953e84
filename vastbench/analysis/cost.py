"""What runs cost together, by meter (see :mod:`vastbench.record.cost`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vastbench.analysis.frames import runs_table
from vastbench.analysis.summary import attempted, passed
from vastbench.record.cost import Match
from vastbench.record.numbers import quotient
from vastbench.record.phases import PhaseName
from vastbench.record.plain import plain
from vastbench.record.shown import Answer

if TYPE_CHECKING:
    import pandas as pd

METERS = {
    "gpu": "gpu_usd",
    "storage": "storage_usd",
    "transfer": "transfer_usd",
    "all meters": "cost_usd",
    "naive": "naive_usd",
}
"""The rows of :func:`cost_summary` and the columns of the tidy frame that they are made of."""

COST_COLUMNS = {
    "meter": "str",
    "n": "int64",
    "total_usd": "float64",
    "per_run_usd": "float64",
    "median_usd": "float64",
    "per_success_usd": "float64",
}


def cost_summary(phases: pd.DataFrame) -> pd.DataFrame:
    """What the attempted runs of ``phases`` cost by meter, per run and per success, in USD; one row per ``METERS``.

    Columns: ``n`` attempted runs of which the meter is known; ``total_usd`` of them, where the row ``all meters`` is the sum
    of the three meters' rows; ``per_run_usd`` and ``median_usd``, mean and median over these n; ``per_success_usd`` =
    total_usd ÷ number of runs that passed, so that it holds what the failures cost. What is missing is NaN: without any known
    value, and per success when none passed. Where n is less than the attempted runs, totals and costs per success
    are the least that it can have been. Raises UsageError for runs of several kinds that were not pooled.

    Examples
    --------
    >>> vastbench.cost_summary(vastbench.load("default-300"))[["meter", "n", "per_run_usd", "per_success_usd"]].round(5)
            meter    n  per_run_usd  per_success_usd
    0         gpu  300      0.00129          0.00144
    1     storage  300      0.00020          0.00022
    2    transfer  300      0.00000          0.00000
    3  all meters  300      0.00149          0.00166
    4       naive  300      0.00925          0.01027
    """
    import pandas as pd

    tried = attempted(phases)
    runs = tried[tried["phase"] == PhaseName.TOTAL]
    usd = runs[list(METERS.values())].set_axis(list(METERS), axis=1)
    total = usd.sum(min_count=1)
    total["all meters"] = total[["gpu", "storage", "transfer"]].sum(min_count=1)
    successes = passed(runs)["run"].nunique()
    found = pd.DataFrame(
        {
            "n": usd.count(),
            "total_usd": total,
            "per_run_usd": usd.mean(),
            "median_usd": usd.median(),
            "per_success_usd": total / successes if successes else float("nan"),
        }
    )
    return found.rename_axis("meter").reset_index().astype(COST_COLUMNS)


def naive_ratio(runs: pd.DataFrame) -> float:
    """How many times the metered cost wall clock × price says, over the rows of ``runs`` of which both are known; NaN if none.

    ``runs`` has the columns ``cost_usd`` and ``naive_usd`` of :func:`~vastbench.analysis.frames.runs_table`.
    """
    both = runs.dropna(subset=["cost_usd", "naive_usd"])
    return quotient(both["naive_usd"].sum(), both["cost_usd"].sum())


RECONCILED = {
    "gpu": ("gpu_usd", "charged_gpu_usd"),
    "storage": ("storage_usd", "charged_storage_usd"),
    "transfer": ("transfer_usd", "charged_transfer_usd"),
    "all meters": ("cost_usd", "charged_usd"),
}
"""The meters that accounts charge by: the column of what ours say, and that of what was charged."""

SETTLED = (str(Match.AGREES), str(Match.DIFFERS))
"""Of a run whose charges have all come."""

RECONCILED_COLUMNS = {
    "meter": "str",
    "n": "int64",
    "estimated_usd": "float64",
    "charged_usd": "float64",
    "residual_usd": "float64",
    "rounding_usd": "float64",
}


@dataclass(frozen=True, slots=True, repr=False)
class Reconciliation(Answer):
    """What an account charged beside what the runs' own meters say; it shows itself.

    ``runs``: one row for each run whose charges were asked for: ``run``, ``study``, ``charge`` (``agrees`` within the meters'
    bounds and the account's rounding, ``differs``, ``late``, ``missing``, ``not estimated``), ``cost_usd`` by our meters,
    ``charged_usd`` and how far that may be off, ``charged_rounding_usd``, and the residuals, charged − estimated:
    ``gpu_residual_usd``, ``storage_residual_usd``, ``transfer_residual_usd``, ``residual_usd`` of all. ``meters``: their sums
    over the ``n`` runs whose charges have all come and whose meter is known, one row per meter. USD. ``source``: in words,
    where the runs come from.
    """

    runs: pd.DataFrame
    meters: pd.DataFrame
    source: str = ""

    @property
    def differing(self) -> int:
        """How many runs were charged what neither rounding nor the meters' bounds explain."""
        return int((self.runs["charge"] == Match.DIFFERS).sum())

    @property
    def whole(self) -> dict[Any, Any]:
        """The row of ``meters`` for all of them together."""
        return self.meters.to_dict("records")[-1]

    def to_dict(self) -> dict[str, object]:
        """The reconciliation, ready for JSON: missing values are None."""
        tables = {"runs": self.runs.to_dict("records"), "meters": self.meters.to_dict("records")}
        return dict(plain({"source": self.source, **tables}))


def reconciliation(phases: pd.DataFrame, source: str = "") -> Reconciliation:
    """The charges in the tidy frame ``phases`` beside its runs' meters; runs of any kind together, as an account has them."""
    runs = runs_table(phases)
    runs = runs[runs["charge"].notna()].reset_index(drop=True)
    parts = {meter: runs[charged] - runs[estimated] for meter, (estimated, charged) in RECONCILED.items()}
    table = runs[["run", "study", "charge", "cost_usd", "charged_usd", "charged_rounding_usd"]].copy()
    for meter, residual in parts.items():
        table["residual_usd" if meter == "all meters" else f"{meter}_residual_usd"] = residual
    return Reconciliation(table, _by_meter(runs[runs["charge"].isin(SETTLED)], parts), source)


def _by_meter(runs: pd.DataFrame, residuals: dict[str, pd.Series[float]]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for meter, (estimated, charged) in RECONCILED.items():
        known = residuals[meter][runs.index].dropna()
        both = runs.loc[known.index]
        sums = [one.sum(min_count=1) for one in (both[estimated], both[charged], known)]
        rounding = both["charged_rounding_usd"].sum(min_count=1) if meter == "all meters" else float("nan")
        rows.append((meter, len(both), *sums, rounding))
    return pd.DataFrame(rows, columns=list(RECONCILED_COLUMNS)).astype(RECONCILED_COLUMNS)
