"""What makes a comparison of two groups of runs unfair: other conditions, other machines, another time of day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vastbench.analysis.attempts import begun
from vastbench.analysis.survival.clusters import DOMINANT
from vastbench.record.formats import percent
from vastbench.record.phases import PhaseName

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
    """Sentences on how else than in the column ``by`` the runs of the tidy frames ``a`` and ``b`` differ."""
    a, b = (frame[frame["phase"] == PhaseName.TOTAL] for frame in (a, b))
    if a.empty or b.empty:
        return []
    found = [_condition(words, a[name], b[name]) for name, words in CONDITIONS.items() if name != by]
    if by != "region":
        found.append(_condition("region", a["region"], b["region"], above=SHIFTED))
    if by != "machine":
        found += [_machines(a["machine"], b["machine"]), _one(a["machine"], "A"), _one(b["machine"], "B")]
    if by != "started_at":
        found.append(_order(begun(a), begun(b)))
    return [sentence for sentence in found if sentence]


def _condition(words: str, a: pd.Series, b: pd.Series, above: float = 0.0) -> str:
    """Names a condition of which a value is missing in one group or, with ``above``, more than that part would have to move."""
    of_a, of_b = (_words(values).value_counts(normalize=True) for values in (a, b))
    moved = sum(abs(of_a.get(value, 0.0) - of_b.get(value, 0.0)) for value in set(of_a.index) | set(of_b.index)) / 2
    if moved <= above or (not above and set(of_a.index) == set(of_b.index)):
        return ""
    return f"The {words} is not the same: A {_named(of_a)}; B {_named(of_b)}."


def _words(values: pd.Series) -> pd.Series:
    import pandas as pd

    def word(value: Any) -> str:
        return "unknown" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)

    return pd.Series([word(value) for value in values], dtype="str")


def _named(shares: pd.Series) -> str:
    some = [f"{name}" + (f" ({percent(share, 0)})" if share < 1 else "") for name, share in shares.head(NAMED).items()]
    more = len(shares) - len(some)
    return ", ".join(some) + (f" and {more} more" if more else "")


def _machines(a: pd.Series, b: pd.Series) -> str:
    of_a, of_b = set(a.dropna()), set(b.dropna())
    repeated = len(of_a) < a.notna().sum() or len(of_b) < b.notna().sum()
    if not (of_a and of_b and repeated):
        return ""
    if of_a & of_b:
        return ""
    return (
        f"No machine gave runs to both groups ({len(of_a)} in A, {len(of_b)} in B): a difference may be that of the machines."
    )


def _one(machine: pd.Series, group: str) -> str:
    counts = machine.value_counts()
    if counts.empty or len(machine) < 2 or counts.iloc[0] <= DOMINANT * len(machine):
        return ""
    return f"One machine gave {counts.iloc[0]} of the {len(machine)} runs of {group}: they describe that machine."


def _order(a: pd.Series, b: pd.Series) -> str:
    """Whether the groups were run one after the other, so that whatever changed meanwhile is part of the difference."""
    from scipy.stats import mannwhitneyu

    if a.empty or b.empty or len(a) + len(b) < 3:
        return ""
    b_later = mannwhitneyu(b.astype("int64"), a.astype("int64"), method="asymptotic").statistic
    a_first = float(b_later) / (len(a) * len(b))
    if max(a_first, 1 - a_first) <= APART:
        return ""
    early, late = ("A", "B") if a_first > 0.5 else ("B", "A")
    how = "All" if a_first in (0.0, 1.0) else "Most"
    return (
        f"{how} runs of {early} began before those of {late}: what changed in the market meanwhile is part of the difference. "
        "Run both in turn."
    )
