"""Rules for what a table claims beside its values: sums, rates, passes, and how many runs it counts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vastbench.analysis.artefacts.rule import ANSWER, Artefact, ended_otherwise, has, last_tries, resolution, samples
from vastbench.record.formats import counted, decimals, percent
from vastbench.record.numbers import measurable, quotient

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

APART = 0.005
"""A sum that misses the total by less than this part of it is taken as adding up."""
FASTEST_LINK = 12.5e9
"""Bytes per second of 100 Gbit/s: no instance of the marketplace has a faster link."""
SLACK = 1.02
"""By so much a rate may exceed its link, for what the declared figure leaves out."""
HALF = 0.5
CROWD = 6
"""From so many runs on, more than half of them on one machine is not chance."""
ALL = 3
"""From so many runs on, all of them on one machine is not chance."""


def adds_up(timings: pd.DataFrame) -> bool:
    """Whether a run has all that :func:`sums` compares."""
    return not (_summed(timings).empty and _two_totals(timings).empty)


def complete(timings: pd.DataFrame) -> set[str]:
    """The runs whose phases add up to their stated total: nothing that was timed is missing in them."""
    if not has(timings, "total"):
        return set()
    grouped = _summed(timings)
    return set(grouped.index[~_off(grouped)])


def _off(grouped: pd.DataFrame) -> pd.Series[bool]:
    """Which runs miss their total by more than the printed digits, and a small part, explain."""
    rest = grouped["rest"].abs()
    return (rest > APART * grouped["total"].abs()) & (rest > grouped["printed"] + 1e-9)


def _top(timings: pd.DataFrame) -> pd.DataFrame:
    """The rows that add up to a total, and the totals, of runs that passed."""
    rows = timings[timings["kind"].ne(ANSWER)] if has(timings, "kind") else timings
    if has(rows, "parent"):
        rows = rows[rows["parent"].isna() | rows["parent"].eq("total") | rows["phase"].eq("total")]
    return rows[~rows["run"].isin(ended_otherwise(timings))]


def _summed(timings: pd.DataFrame) -> pd.DataFrame:
    """By run the ``sum`` and number (``size``) of its phases, its stated ``total``, the ``rest``, and what was ``printed``.

    ``printed`` is what the last digits of the phases and of the total can make of the rest.
    """
    rows = _top(timings)
    totals = rows[rows["phase"] == "total"]
    stated = totals[~totals["run"].isin(_two_totals(timings)["run"])].drop_duplicates("run").set_index("run")["seconds"]
    parts = rows[(rows["phase"] != "total") & rows["run"].isin(stated.index)]
    last = last_tries(parts)
    lacking = last.loc[last["seconds"].isna(), "run"]
    parts = parts[~parts["run"].isin(lacking)]
    least = resolution([*parts["seconds"], *stated])  # few values of a phase do not show that all are in tens
    of_phase = {phase: max(least, resolution(some["seconds"])) for phase, some in parts.groupby("phase")}
    grains = parts["phase"].map(of_phase)
    of_runs = parts.assign(grain=grains.astype("float64") / 2).groupby("run", sort=False)
    grouped = of_runs.agg(sum=("seconds", "sum"), size=("seconds", "size"), printed=("grain", "sum"))
    grouped["total"] = stated.reindex(grouped.index)
    grouped["printed"] += max(least, resolution(stated)) / 2
    grouped = grouped[(grouped["size"] > 1) & grouped["total"].notna()]
    return grouped.assign(rest=grouped["total"] - grouped["sum"])


def _two_totals(timings: pd.DataFrame) -> pd.DataFrame:
    """The stated totals of runs that state several, not all the same."""
    totals = last_tries(timings)
    totals = totals[totals["phase"].eq("total") & totals["seconds"].notna()]
    return totals[totals.groupby("run")["seconds"].transform("nunique") > 1]


def sums(timings: pd.DataFrame) -> Iterator[Artefact]:
    """Runs whose phases do not add up to their stated total. A run that did not pass, or lacks a value, is left alone."""
    if len(twice := _two_totals(timings)):
        runs = int(twice["run"].nunique())
        one = twice[twice["run"] == twice["run"].iloc[0]]["seconds"]
        yield Artefact(
            "phases do not add up",
            tuple(twice.index),
            {"runs": runs, "least_s": float(one.min()), "most_s": float(one.max())},
            f"{counted(runs, 'run', 'states')} more than one total; {twice['run'].iloc[0]} has {decimals(one.min())} s and "
            f"{decimals(one.max())} s.",
            "One of them is wrong, or several runs have the same name: no sum of their phases can be checked, and a mean of "
            "totals counts such a run several times.",
        )
    rows, grouped = _top(timings), _summed(timings)
    wrong = grouped[_off(grouped)]
    for sign, some in (("less", wrong[wrong["rest"] > 0]), ("more", wrong[wrong["rest"] < 0])):
        if not some.empty:
            yield _sum(rows, some, sign, len(grouped))


def _sum(rows: pd.DataFrame, wrong: pd.DataFrame, sign: str, n: int) -> Artefact:
    row = wrong.iloc[int(wrong["rest"].abs().to_numpy().argmax())]
    rest = abs(float(row["rest"]))
    part = quotient(rest, float(row["total"]))
    known, of_it = ({"share": part}, f" ({percent(part)})") if math.isfinite(part) else ({}, "")
    missing = "The difference is time that no phase explains: a step was not timed, and all shares are of a part of the whole"
    twice = "Phases overlap or one is counted twice: their shares add up to more than the whole"
    return Artefact(
        "phases do not add up",
        tuple(rows.index[rows["run"].isin(wrong.index)]),
        {
            "n": n,
            "runs": len(wrong),
            "phases_s": float(row["sum"]),
            "total_s": float(row["total"]),
            "difference_s": rest,
            **known,
        },
        f"In {len(wrong)} of {n} runs the phases sum to {sign} than the stated total; most in {row.name}: "
        f"{decimals(row['sum'])} s against {decimals(row['total'])} s, a difference of {decimals(rest)} s{of_it}.",
        f"{missing if sign == 'less' else twice}.",
    )


def moved(timings: pd.DataFrame) -> bool:
    """Whether a sample says how many bytes were moved in it."""
    return not _moved(timings).empty


def _moved(timings: pd.DataFrame) -> pd.DataFrame:
    """The samples with bytes. Where a table repeats those of a run beside all of its phases, only the slowest moved them."""
    rows = samples(timings)
    rows = rows[(rows["bytes"] > 0) & (rows["seconds"] > 0)]
    of_run = rows.groupby("run", sort=False)
    repeated = (of_run["bytes"].transform("nunique") == 1) & (of_run["bytes"].transform("size") > 1)
    slowest = rows.index.isin(rows.sort_values("seconds", kind="stable").drop_duplicates("run", keep="last").index)
    return rows[~repeated | slowest]


def bounded(timings: pd.DataFrame) -> bool:
    """Whether a sample has bounds."""
    return not _bounded(timings).empty


def _bounded(timings: pd.DataFrame) -> pd.DataFrame:
    rows = samples(timings)
    rows = rows.assign(**{name: math.nan for name in ("lower_s", "upper_s") if name not in rows})
    return rows[rows["lower_s"].notna() | rows["upper_s"].notna()]


def bounds(timings: pd.DataFrame) -> Iterator[Artefact]:
    """Bounds of which the lower one is above the upper one, and values outside of their own bounds."""
    for name, rows in _bounded(timings).groupby("phase", sort=False):
        reversed_ = rows[rows["lower_s"] > rows["upper_s"]]
        cells = [rows[column] for column in ("seconds", "lower_s", "upper_s") if rows[column].notna().any()]
        printed = max(map(resolution, cells)) * (1 + 1e-6)
        low = rows["seconds"] < rows["lower_s"] - printed
        outside = rows[(low | (rows["seconds"] > rows["upper_s"] + printed)) & ~rows.index.isin(reversed_.index)]
        for some, what in ((reversed_, "have a lower bound above the upper one"), (outside, "lie outside of their own bounds")):
            if some.empty:
                continue
            first = some.iloc[0]
            yield Artefact(
                "bounds that cannot be",
                tuple(some.index),
                {"n": len(rows), "wrong": len(some)},
                f"{name}: {len(some)} of {len(rows)} values {what}; the first is {decimals(first['seconds'])} s in "
                f"{decimals(first['lower_s'])} to {decimals(first['upper_s'])} s.",
                "The columns were swapped, or are in another unit, or belong to another quantity: no interval that is computed "
                "from them holds the truth.",
            )


def rates(timings: pd.DataFrame) -> Iterator[Artefact]:
    """Bytes per second beyond the declared link or, without one, beyond 100 Gbit/s."""
    rows = _moved(timings)
    declared = has(rows, "link_bytes_per_s")  # 0 says that it is not known
    link = rows["link_bytes_per_s"].where(rows["link_bytes_per_s"] > 0).fillna(FASTEST_LINK) if declared else FASTEST_LINK
    rows = rows.assign(rate=rows["bytes"] / rows["seconds"], link=link)
    known = measurable(rows["rate"])  # no clock tells the time of one that is not
    for name, fast in rows[known & (rows["rate"] > SLACK * rows["link"])].groupby("phase", sort=False):
        worst = fast.iloc[int((fast["rate"] / fast["link"]).to_numpy().argmax())]
        yield Artefact(
            "rate above the link",
            tuple(fast.index),
            {"rows": len(fast), "bytes_per_s": float(worst["rate"]), "link_bytes_per_s": float(worst["link"])},
            f"{name}: {len(fast)} rates exceed the link, the highest {worst['rate'] / 1e6:,.0f} MB/s on a link of "
            f"{worst['link'] / 1e6:,.0f} MB/s.",
            "These bytes did not cross the link in that time: they came from a cache, were compressed, or the clock stopped "
            "before they were written. No transfer time can be foretold from this rate.",
        )


def claimed(timings: pd.DataFrame) -> bool:
    """Whether a run that passed claims that its content was verified, or may have been tried again."""
    return not (_verified(timings).empty and _tried_again(timings).empty)


def _verified(timings: pd.DataFrame) -> pd.DataFrame:
    """The rows that claim verified content, of runs that passed: what failed is no pass."""
    claims = timings["verified"].eq(True) if has(timings, "verified") else timings["run"].isna()
    return timings[claims & ~timings["run"].isin(ended_otherwise(timings))]


def _tried_again(timings: pd.DataFrame) -> pd.DataFrame:
    known = has(timings, "outcome") and has(timings, "retries_allowed")
    return timings[timings["retries_allowed"] > 0] if known else timings.iloc[:0]


def passes(timings: pd.DataFrame) -> Iterator[Artefact]:
    """Passes that could not have failed: nothing compared, nothing to compare, no time taken, or uncounted tries."""
    yield from _unchecked(_verified(timings))
    if len(again := _tried_again(timings)) and not has(timings, "attempts"):
        runs = again["run"].nunique()
        if runs >= ALL and not again["run"].isin(ended_otherwise(timings)).any():
            allowed = float(again["retries_allowed"].max())
            yield _pass(
                again,
                {"runs": runs, "retries_allowed": allowed},
                f"All {runs} runs that were allowed more tries (up to {allowed:.0f}) passed; how many they took is not told.",
                "A success rate of 100 % counts only the last try: first tries that failed, and their time, are hidden.",
            )


def _unchecked(claimed: pd.DataFrame) -> Iterator[Artefact]:
    if "content_hash" in claimed:
        bare = claimed[~claimed["run"].isin(claimed.loc[claimed["content_hash"].notna(), "run"])]
        if runs := bare["run"].nunique():
            yield _pass(
                bare,
                {"runs": runs},
                f"{runs} runs claim verified content but record no hash of it."
                if runs > 1
                else "The run claims verified content but records no hash of it.",
                "An empty, stale or wrong file could have passed the same way: this success says that a command ran, not that "
                "the content was right.",
            )
    for column, what in (("files", "files"), ("bytes", "bytes")):
        if has(claimed, column) and len(empty := claimed[claimed[column] == 0]):
            yield _pass(
                empty,
                {"runs": empty["run"].nunique(), column: 0},
                f"{empty['run'].nunique()} verified runs compared 0 {what}.",
                "A comparison of nothing always passes: these successes must not be counted.",
            )
    if len(instant := claimed[(claimed["phase"] == "total") & (claimed["seconds"] == 0)]):
        yield _pass(
            instant,
            {"runs": instant["run"].nunique(), "total_s": 0.0},
            f"{instant['run'].nunique()} verified runs took 0 s in all.",
            "Nothing was done in no time: these successes were not measured.",
        )


def _pass(rows: pd.DataFrame, evidence: dict[str, float | int | str], text: str, consequence: str) -> Artefact:
    """The finding; of each run it names the stated total or, without one, the first row."""
    of_run = rows.sort_values("phase", key=lambda phase: phase.ne("total"), kind="stable").drop_duplicates("run")
    return Artefact("pass that could not have failed", tuple(of_run.sort_index().index), evidence, text, consequence)


def several(timings: pd.DataFrame) -> bool:
    """Whether the machine of so many runs is known that one could be counted too often."""
    return not _known_machines(timings).empty


def _known_machines(timings: pd.DataFrame) -> pd.DataFrame:
    """The rows of last tries whose machine is known, where that is so for three runs and for half of all."""
    rows = last_tries(timings)
    known = rows[rows["machine"].notna()]
    n = known["run"].nunique()
    return known if n >= max(ALL, HALF * rows["run"].nunique()) else known.iloc[:0]


def hosts(timings: pd.DataFrame) -> Iterator[Artefact]:
    """One machine that gave more than half of the runs, or of those that passed."""
    from vastbench.analysis.survival.clusters import design

    known = _known_machines(timings)
    firsts = known.drop_duplicates("run")
    passed = known[~known["run"].isin(ended_otherwise(known))]
    sets = {"runs": firsts}
    if has(known, "outcome"):
        sets["successes"] = passed.drop_duplicates("run")
    for what, runs in sets.items():
        counts = runs["machine"].value_counts()
        n = len(runs)
        if not n or not ((n >= CROWD and counts.iloc[0] / n > HALF) or (n >= ALL and len(counts) == 1)):
            continue
        host, most = counts.index[0], int(counts.iloc[0])
        fewest = n**2 / float((counts**2).sum())
        told = design(*_totals(known, runs["run"]))
        likely = f", about {decimals(told.effective_n, 1)} by their totals" if math.isfinite(told.effective_n) else ""
        yield Artefact(
            "one host counted many times",
            tuple(runs.index[runs["machine"] == host]),
            {"n": n, "machines": len(counts), "largest": most, "share": most / n, "effective_n_least": fewest},
            f"{most} of {n} {what} ({percent(most / n, 0)}) came from one machine, {host}; there are {len(counts)} in all.",
            f"Repeats on one machine are not independent: these {n} {what} say as much as {decimals(fewest, 1)} to {n} "
            f"independent ones{likely}. A median describes that machine, and its interval is too narrow.",
        )
        return


def _totals(timings: pd.DataFrame, runs: pd.Series[str]) -> tuple[np.ndarray, np.ndarray]:
    """The stated totals of ``runs``, seconds, and the machine of each."""
    rows = timings[timings["phase"].eq("total") & timings["run"].isin(runs)].drop_duplicates("run")
    return rows["seconds"].to_numpy(dtype=float), rows["machine"].to_numpy()
