"""How often the rules of ``vastbench check`` find what is not there, and how often what is."""

import argparse
import os
import platform
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from vastbench.analysis.artefacts.detector import RULES, artefacts, not_applicable
from vastbench.analysis.artefacts.lattice import SURE, lattice
from vastbench.analysis.survival.intervals import proportion_interval

TABLES = 1000
MOST_FALSE, LEAST_FOUND = 0.02, 0.95
STEPS_S, SIZES, JITTER = (1.0, 2.0, 10.0, 10.35, 15.0), (5, 7, 10, 30), 0.005

LINK, DEADLINE_S, CONNECTION_S = 125e6, 1200.0, 2.1
"""Bytes per second of a gigabit, and what the drawn runs may take and do take."""


def boots(rng: np.random.Generator, n: int) -> np.ndarray:
    """Boot times in seconds, as the emulator's default profile draws them: a log-normal and a slower mode."""
    slow = rng.random(n) < 0.1
    noise = rng.standard_normal(n)
    return np.where(slow, 240.0 * np.exp(0.60 * noise), 78.0 * np.exp(0.27 * noise))


def smooth(rng: np.random.Generator, n: int) -> np.ndarray:
    """Durations from one of the distributions that times have: one mode or two, a light tail or a heavy one."""
    scale = np.exp(rng.uniform(np.log(0.5), np.log(200)))
    kind = rng.integers(5)
    if kind == 0:
        return scale * np.exp(rng.uniform(0.02, 1.2) * rng.standard_normal(n))
    if kind == 1:
        return scale * rng.gamma(rng.uniform(0.8, 8), size=n)
    if kind == 2:
        return scale * rng.weibull(rng.uniform(0.8, 4), size=n)
    if kind == 3:
        return scale * (1 + rng.uniform(size=n))
    far = rng.random(n) < rng.uniform(0.1, 0.9)
    return scale * np.where(far, rng.uniform(2, 6), 1.0) * np.exp(rng.uniform(0.01, 0.3) * rng.standard_normal(n))


def clean(rng: np.random.Generator) -> pd.DataFrame:
    """One table of 3 to 300 runs to which every rule applies and in which none has anything to find.

    Values have two decimals. ``wait running`` was polled and carries its bounds; some runs failed and have no value there.
    """
    n = round(float(np.exp(rng.uniform(np.log(3), np.log(300)))))
    period = float(rng.choice([1.0, 5.0, 10.0]))
    ended, late = boots(rng, n), period * rng.random(n)
    size = rng.choice([1e6, 1e8, 1e9])
    phases = {
        "create instance": smooth(rng, n),
        "wait running": ended + late,
        "copy": size / LINK * (1 + smooth(rng, n)),
        "verify file": CONNECTION_S * np.exp(0.1 * rng.standard_normal(n)),
    }
    names = [f"run-{number}" for number in range(n)]
    failed = rng.random(n) < rng.choice([0.0, 0.1])
    parts = [pd.DataFrame({"run": names, "phase": phase, "seconds": values}) for phase, values in phases.items()]
    parts.append(pd.DataFrame({"run": names, "phase": "total", "seconds": sum(phases.values())}))
    table = pd.concat(parts, ignore_index=True)
    table["seconds"] = table["seconds"].round(2)
    table["outcome"] = "passed"
    waited, copied = table["phase"] == "wait running", table["phase"] == "copy"
    table.loc[waited, ["lower_s", "upper_s"]] = np.column_stack([ended + late - period, ended + late])
    table["poll_period_s"] = np.where(waited, period, np.nan)
    table.loc[waited & np.tile(failed, len(parts)), ["seconds", "outcome"]] = [np.nan, "failed"]
    if rng.random() < 0.5:
        table["timeout_s"] = np.where(waited, max(DEADLINE_S, 2 * float((ended + late).max())), np.nan)
    table["bytes"], table["link_bytes_per_s"] = np.where(copied, size, np.nan), LINK
    table["machine"] = np.tile(rng.integers(0, max(20, n // 2), n), len(parts))
    table["verified"], table["content_hash"], table["files"] = True, "9f86d081", 3
    table["attempts"], table["retries_allowed"] = np.tile(rng.integers(1, 3, n), len(parts)), 1
    return table


def pooled(rng: np.random.Generator) -> pd.DataFrame:
    """Two or three clean tables taken for one, as of several providers: each with its own times, machines and poll period."""
    tables = []
    for place in range(rng.integers(2, 4)):
        table = clean(rng)
        tables.append(table.assign(run=f"{place}-" + table["run"], machine=table["machine"] + 1000 * place))
    return pd.concat(tables, ignore_index=True)


def rounded(rng: np.random.Generator) -> pd.DataFrame:
    """A clean table, or a pooled one, in tenths, whole or tens of seconds: values, bounds and totals alike."""
    table = clean(rng) if rng.random() < 0.5 else pooled(rng)
    # A step as long as a poll period is read as that of the poll, and may be.
    step = float(rng.choice([one for one in (0.1, 1.0, 10.0) if not table["poll_period_s"].eq(one).any()]))
    for name in ("seconds", "lower_s", "upper_s"):
        table[name] = (np.round(table[name] / step) * step).round(2)
    return table


def constant_rate(rng: np.random.Generator) -> pd.DataFrame:
    """A clean table, or a pooled one, whose unpolled phases take nearly always as long: a throttled disk, a capped link."""
    table = clean(rng) if rng.random() < 0.5 else pooled(rng)
    groups = table["machine"].floordiv(1000)
    for name in ("create instance", "copy", "verify file"):
        for group in groups.unique():
            rows = (table["phase"] == name) & (groups == group)
            n, spread = int(rows.sum()), rng.choice([0.001, 0.003, 0.01, 0.02])
            noise = (rng.standard_normal(n), np.abs(rng.standard_normal(n)), rng.uniform(-1, 1, n))[rng.integers(3)]
            level = np.exp(rng.uniform(np.log(9), np.log(400)))
            table.loc[rows, "seconds"] = (level * (1 + spread * noise)).round(2)
    sums = table[table["phase"] != "total"].groupby("run")["seconds"].sum()
    total = table["phase"] == "total"
    table.loc[total, "seconds"] = table.loc[total, "run"].map(sums).round(2)
    return table


KINDS = {"clean": clean, "pooled": pooled, "rounded": rounded, "constant rate": constant_rate}
"""Tables in which no rule has anything to find, but that they are rounded."""


def spoilt(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """For each rule a table of ten runs that has what it looks for, plain to see but with values of its own."""
    n = 10
    names = [f"run-{number}" for number in range(n)]
    waits = pd.DataFrame({"run": names, "phase": "wait running", "seconds": boots(rng, n).round(2)})
    totals = waits.assign(phase="total", seconds=waits["seconds"] * rng.uniform(1.02, 1.2))
    early = np.where(np.arange(n) < 2, 0.0, waits["seconds"])
    deadline = float(rng.choice([60.0, 90.0, 120.0, 300.0]))
    needed = waits["seconds"] * deadline / float(waits["seconds"].median())  # half of them are stopped
    stopped = waits.assign(seconds=needed.clip(upper=deadline) + rng.uniform(0, 0.05, n) * (needed > deadline))
    parts = waits.assign(phase="create instance", seconds=rng.uniform(0.5, 2, n).round(2))
    return {
        "lattice": waits.assign(seconds=on_a_lattice(rng, n, 10.35)),
        "spread below the poll period": waits.assign(seconds=70 + rng.uniform(0, 1, n).round(2), poll_period_s=10.0),
        "value equal to a timeout": stopped.round(2),
        "phases do not add up": pd.concat([parts, waits, totals], ignore_index=True),
        "bounds that cannot be": waits.assign(lower_s=waits["seconds"], upper_s=waits["seconds"] - rng.uniform(1, 10, n)),
        "rate above the link": waits.assign(bytes=waits["seconds"] * LINK * 2, link_bytes_per_s=LINK),
        "zero for missing": waits.assign(seconds=early),
        "pass that could not have failed": waits.assign(verified=True, content_hash=None),
        "one host counted many times": waits.assign(machine=np.where(np.arange(n) < 6, 7, np.arange(n) + 100)),
    }


def on_a_lattice(rng: np.random.Generator, n: int, step: float) -> np.ndarray:
    """Boots as a loop reads them that looks every ``step`` seconds from an offset on, with a jitter of 0.5 % of the step."""
    offset = rng.uniform(0, step)
    looks = np.ceil((boots(rng, n) - offset) / step)
    return np.round(offset + step * looks + JITTER * step * rng.standard_normal(n), 2)


def false_findings(kind: str, seed: int) -> tuple[set[str], set[str]]:
    """The rules that found something in a table of this kind, and those that did not apply to it.

    That values are rounded is true of rounded ones, and of any with two decimals that are small enough.
    """
    table = KINDS[kind](np.random.default_rng(seed))
    wrong = {found.rule for found in artefacts(table) if found.evidence.get("reading") != "rounding"}
    return wrong, set(not_applicable(table))


def true_findings(seed: int) -> set[str]:
    """The rules that found what was put into their table."""
    tables = spoilt(np.random.default_rng(seed))
    return {rule for rule, table in tables.items() if rule in {found.rule for found in artefacts(table)}}


def step_found(step: float, n: int, seed: int) -> tuple[bool, bool]:
    """Whether a lattice was found in ``n`` values, and whether its step is the true one within 2 %."""
    found = lattice(on_a_lattice(np.random.default_rng([seed, n, round(100 * step)]), n, step))
    there = found is not None and found.p < SURE
    return there, there and found is not None and abs(found.step_s / step - 1) < 0.02


def share(count: int, n: int) -> str:
    """``0.4 % (0.1 – 1.0 %)``: the share and its exact 95 % interval."""
    if not n:
        return "–"
    low, high = proportion_interval(count, n)
    return f"{100 * count / n:.1f} % ({100 * low:.1f} – {100 * high:.1f} %)"


def main() -> int:
    """Print two tables; 1 when a rule is false too often, or a lattice of ten values is missed too often."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=TABLES, help="tables per figure")
    parser.add_argument("--quick", action="store_true", help="50 tables: a look, not a measurement")
    asked = parser.parse_args()
    tables = 50 if asked.quick else asked.tables
    with ProcessPoolExecutor(2) as pool:
        quiet = {kind: pool.map(partial(false_findings, kind), range(tables), chunksize=5) for kind in KINDS}
        loud = pool.map(true_findings, range(tables), chunksize=5)
        lattices = {
            (step, n): list(pool.map(partial(step_found, step, n), range(tables), chunksize=25))
            for step in STEPS_S
            for n in SIZES
        }
        false: Counter[tuple[str, str]] = Counter()
        silent: Counter[tuple[str, str]] = Counter()
        true = Counter[str]()
        for kind, results in quiet.items():
            for found, not_there in results:
                false.update((rule, kind) for rule in found)
                silent.update((rule, kind) for rule in not_there)
        for found in loud:
            true.update(found)
    console = Console(width=None if sys.stdout.isatty() else 170, highlight=False)
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    console.print(f"{tables} tables per figure; Python {platform.python_version()}; load {load}; {platform.platform()}")
    title = f"False findings, under {MOST_FALSE:.0%} of the tables to which a rule applies"
    rules = Table(Column("rule", no_wrap=True), *KINDS, "found where it is, ten runs", title=title)
    shares = {
        (rule.name, kind): false[rule.name, kind] / max(1, tables - silent[rule.name, kind]) for rule in RULES for kind in KINDS
    }
    for rule in RULES:
        cells = [share(false[rule.name, kind], tables - silent[rule.name, kind]) for kind in KINDS]
        rules.add_row(rule.name, *cells, share(true[rule.name], tables))
    console.print(rules)
    powers = Table("lattice: step", *(f"{n} values" for n in SIZES), title=f"found (and its step told), jitter {JITTER:.1%}")
    for step in STEPS_S:
        cells = [np.mean(lattices[step, n], axis=0) for n in SIZES]
        powers.add_row(f"{step:g} s", *(f"{there:.1%} ({right:.1%})" for there, right in cells))
    console.print(powers)
    loudest = max(shares.values())
    ten = min(float(np.mean([there for there, _ in lattices[step, 10]])) for step in STEPS_S)
    console.print(f"Most false findings of a rule: {loudest:.1%}; lattices found in ten values: {ten:.1%} at least.")
    return 1 if loudest >= MOST_FALSE or ten <= LEAST_FOUND else 0


if __name__ == "__main__":
    sys.exit(main())
