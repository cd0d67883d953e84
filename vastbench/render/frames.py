"""The library's frames, rounded for reading in a notebook. Units stay in the column names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vastbench.analysis.frames import shown_as_text
from vastbench.errors import clean
from vastbench.record.formats import MISSING, decimals, percent

if TYPE_CHECKING:
    import pandas as pd

SHARES = {"share", "rate"}
"""Words in a column's name that make its values parts of 1."""


def format_frame(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The columns ``names`` of ``frame`` (all, if none is named) as text to be read, the first of them as the row labels.

    Seconds get 2 decimals, prices per hour 4 and other USD 6, as a run's transfer costs millionths; shares and rates
    become percent; other numbers that are not whole keep 2 decimals; what is missing is –.

    Examples
    --------
    >>> vastbench.format_frame(vastbench.outcomes(vastbench.load("default-300")), "outcome", "runs", "rate", "rate_low")
             runs    rate rate_low
    passed    270  90.0 %   85.5 %
    censored   24   8.0 %    4.9 %
    failed      6   2.0 %    0.4 %
    """
    import pandas as pd

    shown_as_text()
    wanted = list(names) or [str(name) for name in frame.columns]
    texts = {name: [_text(name, value) for value in frame[name]] for name in wanted}
    return pd.DataFrame(texts, columns=wanted, dtype="str").set_index(wanted[0]).rename_axis(None)


def _text(name: str, value: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return MISSING
    if hasattr(value, "strftime"):
        return f"{value:%Y-%m-%d}"
    if not isinstance(value, float):
        return clean(value)
    if SHARES & set(name.split("_")):
        return percent(value)
    if "usd" in name:
        return decimals(value, 4 if "hour" in name else 6)
    return f"{value:g}" if value.is_integer() and not name.endswith("_s") else decimals(value)
