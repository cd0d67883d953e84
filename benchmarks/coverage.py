"""How often the 95 % intervals that vastbench prints hold the truth, over drawn campaigns whose truth is known."""

import argparse
import os
import platform
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from rich.console import Console
from rich.table import Table

from vastbench.analysis.comparison import effects
from vastbench.analysis.stopping import interval, ranks, relative_width
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.intervals import proportion_interval
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.analysis.survival.rates import rate
from vastbench.record.stopping import StoppingRule

CAMPAIGNS, LOOKS = 1000, 200
SIZES, STEPS_S, FAILURES = (6, 10, 20, 50, 100), (1.0, 10.0), (0.0, 0.1, 0.3)
LEAST, GREATEST = 0.93, 0.97

FAST_S, FAST_SIGMA, SLOW_S, SLOW_SIGMA, SLOW_SHARE = 78.0, 0.27, 240.0, 0.60, 0.10
"""The boots: a log-normal with a slower mode, as in the emulator's default profile."""

HOST_SHARE, RUNS_PER_MACHINE = 0.6, 3
"""Where machines repeat: the part of the log-variance that a machine's runs share, and how many runs it has on average."""

FEW, RUNS_EACH = (3, 4, 5, 6, 8), (6, 50)
"""So few machines, with as many runs on each."""

FIGURES = ("rate", "rate, each machine", "p90 of those that ran", "median cost", "trend: later half ÷ earlier")
MACHINES, EACH, CORRELATIONS = (2, 3, 6, 10, 20, 50), (5, 10), (0.0, 0.1, 0.3, 0.6)
"""Of these figures: on how many machines, with as many runs on each, how alike."""

DEADLINE_S = 600.0
WIDTH = 0.3


@dataclass(frozen=True)
class Setting:
    """What is drawn: runs per campaign, seconds between two looks, the share of runs that fail, whether machines repeat, and
    how many there are in turn (0: at random a third as many as runs).
    """

    n: int
    step_s: float
    failures: float
    clustered: bool
    machines: int = 0

    @property
    def words(self) -> str:
        """The machines in words."""
        return f"{self.machines} in turn" if self.machines else "repeat" if self.clustered else "differ"


@dataclass(frozen=True)
class Coverage:
    """Of a setting: how many intervals held the truth, of how many; the share of campaigns that had none; and beside them, in
    seconds, the median width of the intervals and the bias of the naive median: of the readings of the runs that passed.
    """

    setting: Setting
    held: int
    given: int
    without: float
    width_s: float
    naive_bias_s: float


def boots(rng: np.random.Generator, shape: tuple[int, ...], common: np.ndarray | None = None) -> np.ndarray:
    """Boot times in seconds; ``common``, standard normal, is what each run shares with the others on its machine."""
    noise = rng.standard_normal(shape)
    if common is not None:
        noise = np.sqrt(HOST_SHARE) * common + np.sqrt(1 - HOST_SHARE) * noise
    slow = rng.random(shape) < SLOW_SHARE
    return np.where(slow, SLOW_S * np.exp(SLOW_SIGMA * noise), FAST_S * np.exp(FAST_SIGMA * noise))


def truth_s(failures: float) -> float:
    """The median over all runs, those that fail never ending: by the mixture's own distribution function."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    def surplus(t: float) -> float:
        modes = ((1 - SLOW_SHARE, FAST_S, FAST_SIGMA), (SLOW_SHARE, SLOW_S, SLOW_SIGMA))
        return float((1 - failures) * sum(part * norm.cdf(np.log(t / median) / sigma) for part, median, sigma in modes) - 0.5)

    return float(brentq(surplus, 1.0, 5000.0))


def drawn(rng: np.random.Generator, setting: Setting, machine: np.ndarray | None = None) -> Durations:
    """One campaign as vastbench sees it: looks from a random phase on; half of the failures are seen, half time out."""
    n = setting.n
    if machine is None and setting.machines:
        machine = np.arange(n) % setting.machines
    if machine is None:
        machine = rng.integers(0, -(-n // RUNS_PER_MACHINE), n) if setting.clustered else np.arange(n)
    common = rng.standard_normal(int(machine.max()) + 1)[machine] if setting.clustered else None
    seconds = boots(rng, (n,), common)
    phase = rng.random(n) * setting.step_s
    looks = np.ceil((seconds - phase) / setting.step_s)
    lower, upper = np.maximum(phase + (looks - 1) * setting.step_s, 0), phase + looks * setting.step_s
    late = upper > DEADLINE_S
    lower, upper = np.where(late, DEADLINE_S, lower), np.where(late, np.inf, upper)
    fails, seen = rng.random(n) < setting.failures, rng.random(n) < 0.5
    lower = np.where(fails, np.where(seen, np.inf, DEADLINE_S), lower)
    return Durations(lower, np.where(fails, np.inf, upper), machine.astype(float))


def covered(setting: Setting, campaigns: int) -> Coverage:
    """The intervals of ``campaigns`` campaigns beside the truth. The setting itself is the seed."""
    seed = [setting.n, int(setting.step_s), int(100 * setting.failures), setting.clustered]
    rng = np.random.default_rng([*seed, setting.machines] if setting.machines else seed)
    truth = truth_s(setting.failures)
    held, widths, naive = 0, [], []
    for _ in range(campaigns):
        found = drawn(rng, setting)
        estimate = quantile_estimate(found, 0.5)
        if not np.isnan(estimate.low):
            held += estimate.low <= truth <= estimate.high
            widths.append(np.inf if np.isinf(estimate.high) else estimate.high - estimate.low)
        if found.ended.any():
            naive.append(float(np.median(found.upper[found.ended])))
    given = len(widths)
    width = float(np.median(widths)) if given else float("nan")
    return Coverage(setting, held, given, 1 - given / campaigns, width, float(np.mean(naive)) - truth)


@dataclass(frozen=True)
class Peeking:
    """Of campaigns looked at after every run: the share in which the interval ever missed the truth, that in which it would
    have if repeats on a machine counted in full, and that in which the interval for a fixed number of runs did.

    Of stopping at the first interval that is narrow enough: the share of campaigns that stopped, that of campaigns whose
    interval then missed, and the median number of runs.
    """

    words: str
    ever_wrong: float
    counted_in_full: float
    fixed: float
    stopped: float
    wrong_then: float
    runs_then: float


def machines_of(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    """Which machine each of ``n`` runs goes to."""
    if kind == "all differ":
        return np.arange(n)
    if kind == "30, some far more often":
        often = 1 / np.arange(1, 31)
        return rng.choice(30, n, p=often / often.sum())
    if kind == "20, ten runs in a row":
        return np.arange(n) // 10 % 20
    return rng.integers(0, int(kind), n)


def peeked(kind: str, step_s: float, failures: float, campaigns: int, looks: int) -> Peeking:
    """Campaigns of ``looks`` runs on machines of a ``kind``, looked at after each."""
    from scipy.stats import binom

    setting, rule = Setting(looks, step_s, failures, kind != "all differ"), StoppingRule(WIDTH)
    rng = np.random.default_rng([7, int(step_s), int(100 * failures), *kind.encode()])
    truth, sizes = truth_s(failures), np.arange(1, looks + 1)
    in_full = np.array([ranks(n, 0.5) for n in sizes.tolist()])
    fixed = np.transpose(binom.ppf([[0.025], [0.975]], sizes, 0.5))
    ever = [0, 0, 0]
    at_stop: list[tuple[int, bool]] = []
    for _ in range(campaigns):
        found = drawn(rng, setting, machines_of(rng, kind, looks))
        intervals = [interval(rule, Durations(found.lower[:n], found.upper[:n], found.machine[:n])) for n in sizes.tolist()]  # type: ignore[index]
        wrong = [not low <= truth <= high for low, high in intervals]
        stops = next((n for n, interval in enumerate(intervals) if relative_width(*interval) <= WIDTH), None)
        if stops is not None:
            at_stop.append((stops + 1, wrong[stops]))
        surely, perhaps = np.cumsum(found.upper < truth), np.cumsum(found.lower <= truth)
        missed = [bool(((perhaps < few) | (surely > many)).any()) for few, many in (in_full.T, fixed.T)]
        ever = [count + one for count, one in zip(ever, [any(wrong), *missed], strict=True)]
    return Peeking(
        f"{kind}; {step_s:g} s, {failures:.0%} fail",
        ever[0] / campaigns,
        ever[1] / campaigns,
        ever[2] / campaigns,
        len(at_stop) / campaigns,
        sum(wrong for _, wrong in at_stop) / campaigns,
        float(np.median([n for n, _ in at_stop])) if at_stop else float("nan"),
    )


@dataclass(frozen=True)
class Alike:
    """What is drawn of runs on few machines: so many ``each``, of which the share ``failures`` fails; ``icc`` is the
    intra-machine correlation of failing and of the logarithm of time. ``what`` is the figure whose interval is looked at.
    """

    what: str
    machines: int
    each: int
    icc: float
    failures: float


def likeness(setting: Alike, campaigns: int) -> tuple[int, int, float]:
    """How many intervals held the truth, of how many campaigns that had one, and their median width."""
    rng = np.random.default_rng([setting.machines, setting.each, int(100 * setting.icc), int(100 * setting.failures)])
    machine = np.repeat(np.arange(setting.machines), setting.each)
    found = [_alike(setting, machine, rng) for _ in range(campaigns)]
    given = [(low, high, truth) for low, high, truth in found if not np.isnan(low)]
    width = float(np.median([high - low for low, high, _ in given])) if given else float("nan")
    return sum(low <= truth <= high for low, high, truth in given), len(given), width


def _alike(setting: Alike, machine: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """The interval of one campaign, and the truth."""
    from scipy.stats import lognorm

    share, icc = setting.failures, setting.icc
    own = (
        rng.beta(share * (1 - icc) / icc, (1 - share) * (1 - icc) / icc, setting.machines)
        if icc
        else np.full(machine.max() + 1, share)
    )
    fails = rng.random(len(machine)) < own[machine]
    if setting.what in ("rate", "rate, each machine"):
        found = rate(fails, machine, each="machine" if "each" in setting.what else "run")
        return found.low, found.high, share
    noise = np.sqrt(icc) * rng.standard_normal(setting.machines)[machine] + np.sqrt(1 - icc) * rng.standard_normal(len(machine))
    values = FAST_S * np.exp(0.5 * noise)
    if setting.what == "p90 of those that ran":
        ran = quantile_estimate(Durations(values[~fails], values[~fails], machine[~fails].astype(float)), 0.9)
        return ran.low, ran.high, float(lognorm(0.5, scale=FAST_S).ppf(0.9))
    if setting.what == "median cost":
        found = quantile_estimate(Durations(values, values, machine.astype(float)), 0.5)
        return found.low, found.high, FAST_S
    order = rng.permutation(len(machine))  # each machine gives runs to both halves of the study
    ends = np.where(fails, np.inf, values)
    a, b = (Durations(ends[half], ends[half], machine[half].astype(float)) for half in np.array_split(order, 2))
    row = effects({"trend": (a, b)}).iloc[0]
    return float(row["ratio_low"]), float(row["ratio_high"]), 1.0


def likeness_table(results: Iterable[tuple[Alike, tuple[int, int, float]]]) -> tuple[Table, list[str]]:
    """A row per figure, number of machines and correlation: the least and the greatest coverage over the settings in it."""
    table = Table("figure", "machines", "correlation", "settings", "coverage", "with an interval", "median width", "")
    rows: dict[tuple[str, int, float], list[tuple[int, int, float]]] = {}
    for one, result in results:
        rows.setdefault((one.what, one.machines, one.icc), []).append(result)
    verdicts = []
    for (what, machines, icc), some in rows.items():
        given = [one for one in some if one[1]]
        shares = sorted(held / many for held, many, _ in given)
        words = [verdict(held, many) for held, many, _ in given]
        verdicts += words
        table.add_row(
            what,
            str(machines),
            f"{icc:g}",
            f"{len(some)}",
            f"{shares[0]:.1%} – {shares[-1]:.1%}" if shares else "–",
            f"{len(given)}",
            f"{np.median([width for *_, width in given]):.3g}" if given else "–",
            ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words)) or "none",
        )
    return table, verdicts


def verdict(held: int, given: int) -> str:
    """``inside`` 93–97 %, ``near`` where the count of campaigns leaves it open; surely more is ``wide``, less ``OUTSIDE``."""
    if not given:
        return "none"
    low, high = proportion_interval(held, given)
    if LEAST <= held / given <= GREATEST:
        return "inside"
    return "near" if low <= GREATEST and high >= LEAST else "wide" if low > GREATEST else "OUTSIDE"


def _width(seconds: float) -> str:
    return "–" if np.isnan(seconds) else "open" if np.isinf(seconds) else f"{seconds:.1f} s"


def table_of(results: Iterable[Coverage]) -> Table:
    """Settings in rows."""
    table = Table("n", "step", "fail", "machines", "coverage", "its 95 % interval", "none", "median width", "naive median", "")
    for one in results:
        setting = one.setting
        low, high = proportion_interval(one.held, one.given)
        table.add_row(
            str(setting.n),
            f"{setting.step_s:g} s",
            f"{setting.failures:.0%}",
            setting.words,
            f"{one.held / one.given:.1%}" if one.given else "–",
            f"{low:.1%} – {high:.1%}" if one.given else "–",
            f"{one.without:.0%}",
            _width(one.width_s),
            f"{one.naive_bias_s:+.1f} s",
            verdict(one.held, one.given),
        )
    return table


def main() -> int:
    """Print both tables; 1 when an interval's coverage is surely outside 93–97 % or the stopping rule errs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=CAMPAIGNS, help="campaigns per setting")
    parser.add_argument("--quick", action="store_true", help="100 campaigns, two sizes: a look, not a measurement")
    asked = parser.parse_args()
    campaigns, sizes = (100, (10, 50)) if asked.quick else (asked.campaigns, SIZES)
    settings = [Setting(*one) for one in product(sizes, STEPS_S, FAILURES, (False, True))]
    few = product(FEW[:1], RUNS_EACH[1:], FAILURES[:1]) if asked.quick else product(FEW, RUNS_EACH, FAILURES[::2])
    settings += [Setting(machines * each, 1.0, failures, True, machines) for machines, each, failures in few]
    kinds = ("all differ", "10", "30", "100", "30, some far more often", "20, ten runs in a row")
    rules = [(kind, 1.0, 0.1) for kind in kinds] + [("all differ", 10.0, 0.0), ("30", 10.0, 0.0), ("30", 1.0, 0.3)]
    looks = 60 if asked.quick else LOOKS
    console = Console(width=None if sys.stdout.isatty() else 128, highlight=False)
    with ProcessPoolExecutor(2) as pool:
        peeking = [pool.submit(peeked, *one, campaigns, looks) for one in rules]
        # The largest first, so that the last to end is short.
        order = sorted(settings, key=lambda one: -one.n)
        found = dict(zip(order, pool.map(covered, order, [campaigns] * len(order)), strict=True))
        peeks = [one.result() for one in peeking]
        machines, each = ((3, 10), (5,)) if asked.quick else (MACHINES, EACH)
        alike = [Alike(*one) for one in product(FIGURES, machines, each, CORRELATIONS, FAILURES[1:])]
        held = list(pool.map(likeness, alike, [campaigns] * len(alike), chunksize=4))
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    console.print(
        f"Coverage of the median's 95 % interval, {campaigns} campaigns per setting; Python {platform.python_version()}"
    )
    console.print(f"load {load}; {platform.platform()}")
    console.print(table_of(found[one] for one in settings))
    columns = ("ever wrong", "repeats in full", "fixed n", "stopped", "wrong then", "runs then")
    table = Table(f"machines; looked at after each of {looks} runs", *columns)
    for one in peeks:
        shares = (one.ever_wrong, one.counted_in_full, one.fixed, one.stopped, one.wrong_then)
        runs = "–" if np.isnan(one.runs_then) else f"{one.runs_then:.0f}"
        table.add_row(one.words, *(f"{share:.1%}" for share in shares), runs)
    console.print(table)
    verdicts = [verdict(one.held, one.given) for one in found.values()]
    console.print(f"Medians of all attempted runs: {_counts(verdicts)}.")
    table, of_alike = likeness_table(zip(alike, held, strict=True))
    console.print(table)
    console.print(f"Figures of runs on machines that resemble themselves: {_counts(of_alike)}.")
    allowed = proportion_interval(round(0.05 * campaigns), campaigns)[1]
    missed = [one.words for one in peeks if one.ever_wrong > allowed]
    said = f"MISSED: {missed}" if missed else f"at most {max(one.ever_wrong for one in peeks):.1%}"
    console.print(f"The stopping rule's error, allowed 5 % and with {campaigns} campaigns seen up to {allowed:.1%}: {said}.")
    return 1 if missed or "OUTSIDE" in [*verdicts, *of_alike] else 0


def _counts(verdicts: list[str]) -> str:
    return ", ".join(f"{verdicts.count(word)} {word}" for word in ("inside", "near", "wide", "OUTSIDE", "none"))


if __name__ == "__main__":
    sys.exit(main())
