"""The column dictionary of the tidy frame: of each column its type, its unit, what it holds and what a missing value means."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vastbench.errors import NotFound, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 5
"""The version of the tidy frame's columns; files carry it.

5: ``charge``, ``charged_usd`` and its parts. 4: ``variant``, ``hedge``, ``stagger_s``, ``figures``. 3: ``ready``.
2: ``queued_s``, ``client_version``."""

READABLE = (2, 3, 4, 5)
"""The schemas that :func:`~vastbench.analysis.frames.conformed` takes."""

NEVER = "never missing"
"""Of a column in which every row has a value."""

NOT_RENTED = "no machine was rented, or the record does not say"

NO_METER = "the run never came so far, or the record does not say"

NO_CHARGE = "nobody asked for the account's charges, or there is none yet"

NO_ITEM = f"{NO_CHARGE}, or it does not name this meter"

NOT_SEEN = "the phase's end was not seen"

COMPUTED = "it is `unattributed` or `total`"

NO_START = f"the phase's start was not seen, or {COMPUTED}"


class Column(NamedTuple):
    """A column's pandas dtype, its unit (empty for words and counts), what it holds, what it means that a value is missing, and
    the place in a run that it is of; none for what is computed."""

    dtype: str
    unit: str
    meaning: str
    missing: str
    place: str = ""


WHEN = "datetime64[us, UTC]"

RUN_COLUMNS = {
    "run": Column("str", "", "the run's id", NEVER, "id"),
    "study": Column("str", "", "the study that it belongs to, empty for none", NEVER, "study"),
    "scenario": Column("str", "", "the drill", NEVER, "scenario"),
    "ready": Column("str", "", "the phase at whose end the run was useful", NEVER, "ready"),
    "variant": Column(
        "str", "", "the way of a drill that can be made in several", "the drill has one way", "conditions.variant"
    ),
    "hedge": Column("Int64", "", "machines raced for the one that was used", "there was no race", "conditions.hedge"),
    "stagger_s": Column(
        "float64", "s", "from the rent of one of these to the next", "there was no race", "conditions.stagger_s"
    ),
    "source": Column("str", "", "emulator, live or import", NEVER, "source"),
    "profile": Column("str", "", "the emulator's behaviour", "the run was live or imported", "conditions.profile"),
    "run_outcome": Column("str", "", "how the run ended: passed, failed or censored", NEVER, "outcome"),
    "cause": Column("str", "", "why it did not pass, empty when it did", NEVER, "cause"),
    "detail": Column("str", "", "one line of evidence for the cause", NEVER, "detail"),
    "started_at": Column(WHEN, "UTC", "when it began", NEVER, "started_at"),
    "gpu": Column("str", "", "the GPU's name on the marketplace", NOT_RENTED, "resources.gpu_name"),
    "num_gpus": Column("Int64", "", "GPUs in the instance", NOT_RENTED, "resources.num_gpus"),
    "gpu_memory_gb": Column("float64", "GB", "memory of one GPU (1 GB is 1024 MB)", NOT_RENTED, "resources.gpu_ram_mb"),
    "image": Column("str", "", "the container image", "the record does not say", "conditions.image"),
    "disk_gb": Column("float64", "GB", "disk asked for", "the record does not say", "conditions.disk_gb"),
    "region": Column("str", "", "where the machine stands, in the marketplace's words", NOT_RENTED, "resources.region"),
    "offer": Column("Int64", "", "the offer that was rented", NOT_RENTED, "resources.offer_id"),
    "machine": Column("Int64", "", "the machine behind it", NOT_RENTED, "resources.machine_id"),
    "instance": Column("Int64", "", "the instance that it became", NOT_RENTED, "resources.instance_id"),
    "attempts": Column("int64", "", "tries inside the run, without the first of each further machine", NEVER),
    "usd_per_hour": Column(
        "float64", "USD/h", "the whole hourly price of all machines, GPU and disk", NOT_RENTED, "resources.usd_per_hour"
    ),
    "gpu_usd": Column("float64", "USD", "GPU meter: price × seconds running", NO_METER, "cost.gpu_usd"),
    "gpu_lower_usd": Column(
        "float64", "USD", "the least that it can be, from the bounds of the moments", NO_METER, "cost.gpu_lower_usd"
    ),
    "gpu_upper_usd": Column("float64", "USD", "the most that it can be", NO_METER, "cost.gpu_upper_usd"),
    "storage_usd": Column(
        "float64", "USD", "storage meter: price × seconds from creation to destruction", NO_METER, "cost.storage_usd"
    ),
    "transfer_usd": Column("float64", "USD", "bytes meter: the test file both ways", NO_METER, "cost.transfer_usd"),
    "cost_usd": Column("float64", "USD", "the known meters together", "no meter is known"),
    "naive_usd": Column("float64", "USD", "wall clock × hourly price, as is commonly reported", NO_METER, "cost.naive_usd"),
    "charged_gpu_usd": Column("float64", "USD", "what the account was charged for the GPU", NO_ITEM, "bill.gpu_usd"),
    "charged_storage_usd": Column("float64", "USD", "what it was charged for storage", NO_ITEM, "bill.storage_usd"),
    "charged_transfer_usd": Column("float64", "USD", "what it was charged for bytes both ways", NO_ITEM, "bill.transfer_usd"),
    "charged_usd": Column("float64", "USD", "what it was charged in all", NO_CHARGE, "bill.total_usd"),
    "charged_rounding_usd": Column(
        "float64", "USD", "how far that may be off either way, as accounts round", NO_CHARGE, "bill.rounding_usd"
    ),
    "charge": Column(
        "str",
        "",
        "the charges beside the meters: agrees, differs, late, missing, not estimated",
        "nobody asked for the account's charges",
        "bill.match",
    ),
    "scale": Column(
        "float64", "", "emulated seconds per real second; 1 for real time", "the record does not say", "instrument.clock_speed"
    ),
    "poll_period_s": Column(
        "float64", "s", "from one poll of the status to the next", "the record does not say", "instrument.poll_period_s"
    ),
    "client_version": Column("str", "", "the vastbench that measured", "the run was imported", "instrument.client_version"),
}

CHARGED = tuple(name for name in RUN_COLUMNS if name.startswith("charged_"))
"""The columns of amounts that an account charged."""

PHASE_COLUMNS = {
    "phase": Column("str", "", "the phase's name, `unattributed` or `total`", NEVER),
    "parent": Column("str", "", "the phase that it is a part of", "it is `total`"),
    "attempt": Column("int64", "", "which try of the run; 0 for `unattributed` and `total`", NEVER),
    "final": Column("bool", "", "no later try of the run has this phase: only these rows are a sample of the phase", NEVER),
    "outcome": Column("str", "", "how the phase ended: passed, failed or censored", NEVER),
    "seconds": Column("float64", "s", "what the user waited", NOT_SEEN),
    "lower_s": Column("float64", "s", "the least that the true duration can be", COMPUTED),
    "upper_s": Column("float64", "s", "the most that it can be", f"{NOT_SEEN}, or {COMPUTED}"),
    "start_lower_s": Column("float64", "s", "the start's lower bound, since the run's start", COMPUTED),
    "start_s": Column("float64", "s", "when the start was known, since the run's start", NO_START),
    "end_lower_s": Column("float64", "s", "the end's lower bound, since the run's start", COMPUTED),
    "end_upper_s": Column("float64", "s", "when the end was known, since the run's start", f"{NOT_SEEN}, or {COMPUTED}"),
    "queued_s": Column("float64", "s", "what of the wait was a queue of our own; left out of `seconds`", NEVER),
    "figures": Column(
        "str",
        "",
        "in row `total`, the numbers that the run's checks hold, as JSON",
        "any other row, or no check holds a number",
    ),
}

COLUMNS = RUN_COLUMNS | PHASE_COLUMNS


def columns(name: str = "") -> pd.DataFrame:
    """The column dictionary of the tidy frame (:func:`vastbench.load`) as a frame, one row per column, in their order.

    Parameters
    ----------
    name
        Only the column of this name or, where there is none, those with it in their names; all if empty.

    Returns
    -------
    pandas.DataFrame
        ``column``; ``of``, what it tells of: a run (repeated in each of its rows) or a phase; ``dtype``; ``unit``, empty for
        words and counts; ``meaning``; ``missing``, what a missing value means.

    Raises
    ------
    NotFound
        No column has ``name`` in its name; the message says which there are.

    Examples
    --------
    >>> vastbench.columns("upper_s")[["column", "of", "unit", "meaning"]]
        column     of unit                  meaning
    0  upper_s  phase    s  the most that it can be
    """
    import pandas as pd

    chosen = [name] if name in COLUMNS else [one for one in COLUMNS if name in one]
    if not chosen:
        raise NotFound(f"There is no column {name!r}.", hint=f"{did_you_mean(name, COLUMNS)}Columns: {', '.join(COLUMNS)}.")
    rows = [
        {
            "column": one,
            "of": "run" if one in RUN_COLUMNS else "phase",
            **{field: getattr(COLUMNS[one], field) for field in ("dtype", "unit", "meaning", "missing")},
        }
        for one in chosen
    ]
    return pd.DataFrame(rows, dtype="str")


def check_run_column(name: str) -> None:
    """Raise NotFound, with what there is, for a ``name`` that is no column with one value for each run."""
    if name not in RUN_COLUMNS:
        groups = "What --group-by tells apart is in the column 'variant'. "
        first = groups if name == "group" else did_you_mean(name, RUN_COLUMNS)
        raise NotFound(f"There is no column {name!r}.", hint=f"{first}Choose one of {', '.join(RUN_COLUMNS)}.")
