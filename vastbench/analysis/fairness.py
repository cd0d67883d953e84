"""What makes a comparison of two groups of runs unfair: other conditions, other machines, another time of day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastbench.analysis.clusters import DOMINANT
from vastbench.timing import PhaseName

if TYPE_CHECKING:
    import pandas as pd

CONDITIONS = {
    "source": "source",
    "profile": "emulator profile",
    "scale": "clock speed",
    "scenario": "scenario",
    "gpu": "GPU",
    "num_gpus": "number of GPUs",
    "image": "image",
    "disk_gb": "disk in GB",
    "poll_period_s": "poll period in s",
}
"""What one chooses, and so should be the same in both groups."""

SHIFTED = 0.5
"""Regions come as the market has them: they are named when more than this part of one group would have to move."""

APART = 0.8
"""Groups of which a run of one began before a run of the other in more than this part of the pairs were not interleaved."""

NAMED = 3


def cautions(a: pd.DataFrame, b: pd.DataFrame, *, by: str = "") -> list[str]:
    """Sentences on how else the runs of the tidy frames ``a`` and ``b`` differ, but for the column ``by``; none if in nothing."""
    runs = [frame[frame["phase"] == PhaseName.TOTAL] for frame in (a, b)]
    if any(frame.empty for frame in runs):
        return []
    found = [_condition(words, *(frame[name] for frame in runs)) for name, words in CONDITIONS.items() if name != by]
    if by != "region":
        found.append(_condition("region", *(frame["region"] for frame in runs), above=SHIFTED))
    if by != "machine":
        found += [
            _machines(*(frame["machine"] for frame in runs)),
            *(_one(frame["machine"], g) for frame, g in zip(runs, "AB", strict=True)),
        ]
    found.append(_order(*(frame["started_at"] for frame in runs)))
    return [sentence for sentence in found if sentence]


def _condition(words: str, a: pd.Series, b: pd.Series, above: float = 0.0) -> str:
    """Names a condition of which more than the part ``above`` is distributed otherwise in B."""
    shares = [_words(values).value_counts(normalize=True) for values in (a, b)]
    moved = float(shares[0].subtract(shares[1], fill_value=0.0).abs().sum()) / 2
    if moved <= above + 1e-9 or (not above and set(shares[0].index) == set(shares[1].index)):
        return ""
    return f"The {words} is not the same: A {_named(shares[0])}; B {_named(shares[1])}."


def _words(values: pd.Series) -> pd.Series:
    return values.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value), na_action="ignore").fillna(
        "unknown"
    )


def _named(shares: pd.Series) -> str:
    some = [f"{name}" + (f" ({share:.0%})" if share < 1 else "") for name, share in shares.head(NAMED).items()]
    more = len(shares) - len(some)
    return ", ".join(some) + (f" and {more} more" if more else "")


def _machines(a: pd.Series, b: pd.Series) -> str:
    of_a, of_b = set(a.dropna()), set(b.dropna())
    repeated = len(of_a) < a.notna().sum() or len(of_b) < b.notna().sum()
    if not (of_a and of_b and repeated):
        return ""
    if shared := len(of_a & of_b):
        return (
            f"{shared} of the {len(of_a | of_b)} machines gave runs to both groups: the intervals take the groups as independent, "
            "and are wider than need be."
        )
    return f"A ran on {len(of_a)} machines and B on {len(of_b)} others: a difference may be that of the machines."


def _one(machine: pd.Series, group: str) -> str:
    counts = machine.value_counts()
    if counts.empty or len(machine) < 2 or counts.iloc[0] <= DOMINANT * len(machine):
        return ""
    return f"One machine gave {counts.iloc[0]} of the {len(machine)} runs of {group}: they describe that machine."


def _order(a: pd.Series, b: pd.Series) -> str:
    """Whether the groups were run one after the other, so that whatever changed meanwhile is part of the difference."""
    a, b = a.dropna(), b.dropna()
    if a.empty or b.empty or len(a) + len(b) < 3:
        return ""
    ranks = _pooled_ranks(a, b)
    a_first = 1 - (float(ranks[: len(a)].sum()) - len(a) * (len(a) + 1) / 2) / (len(a) * len(b))
    if max(a_first, 1 - a_first) <= APART:
        return ""
    early, late = ("A", "B") if a_first > 0.5 else ("B", "A")
    how = "All" if a_first in (0.0, 1.0) else "Most"
    return (
        f"{how} runs of {early} began before those of {late}: what changed in the market meanwhile is part of the difference. "
        "Run both in turn."
    )


def _pooled_ranks(a: pd.Series, b: pd.Series) -> pd.Series:
    import pandas as pd

    return pd.concat([a, b], ignore_index=True).rank()
