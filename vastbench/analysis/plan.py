"""What a study will take, before anything is spent: runs until an interval is narrow enough, minutes, requests and dollars.

Campaigns are drawn from runs that were made: first as many machines as there are, with replacement, since the runs that were
made are themselves a draw; then one run after another, each on a machine of its own, with a little log-normal noise in place
of a part of what they differ by (a smoothed bootstrap that keeps the spread, Silverman 1986, §6.4), so that few runs do not
pretend that a few values are all there are. Failures are drawn as they come. A drawn campaign is looked at as a real one is: by
the interval of a fixed number of runs, or after every run by the rule of ``study --stop-width``. Nine in ten campaigns of the
planned size reach the width (``benchmarks/plans.py``).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from vastbench.analysis.attempts import attempted
from vastbench.analysis.frames import runs_table
from vastbench.analysis.stopping import observations, quantile_sequence, ranks, relative_width
from vastbench.analysis.survival.clusters import design, how_many, numbered
from vastbench.analysis.survival.curves import negligible
from vastbench.analysis.survival.durations import Durations
from vastbench.analysis.survival.intervals import CONFIDENCE, quantile_levels
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.errors import UsageError
from vastbench.record.formats import percent
from vastbench.record.phases import PhaseName
from vastbench.record.shown import Answer
from vastbench.record.stopping import USEFUL, StoppingRule
from vastbench.record.study import APART_S, CREATE_EVERY_S

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LEAST = 6
"""Fewer runs that came to an end say too little of the spread to plan with."""

MOST = 5_000
"""No plan is made for more runs."""

CALLS = 8
"""Requests of one run besides the polls while it boots: two for the key, search, create, destroy, two to confirm it, and the
key's removal. Counted on the emulator: 7.5 with a few runs that had to choose again."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What runs take: real ``minutes``, ``requests`` to the marketplace, and ``usd``; None for what is not known."""

    minutes: float | None = None
    requests: int | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """What a study needs until it knows enough: in half of the drawn campaigns, and (``_high``) in nine of ten.

    ``runs``, real ``minutes``, ``requests`` to the marketplace, and dollars ``usd``. None where it takes more than 5,000 runs,
    and for dollars also where no run has a cost, for requests where no run knows how often it polled.
    """

    runs: int | None
    runs_high: int | None
    minutes: float | None
    minutes_high: float | None
    requests: int | None
    requests_high: int | None
    usd: float | None
    usd_high: float | None


@dataclass(frozen=True, slots=True, repr=False)
class Plan(Answer):
    """How much it takes to know a quantile as well as ``rule`` asks; it shows itself.

    ``fixed``: with a number of runs that is chosen beforehand and looked at once. ``stopping``: looked at after every run,
    until the rule is met. Both take every run to be on a machine of its own; ``fixed_on_these`` and ``stopping_on_these`` take
    the runs to be on the source's machines, each as often as there, and are None where no machine was rented twice.
    ``unreachable``: why no number of runs will do, empty otherwise.

    What it rests on: ``source_runs`` attempted on ``machines``, of which ``never`` did not end; the present ``estimate_s`` of
    the quantile, as it was waited; ``icc`` and ``design_effect`` of the source
    (:class:`~vastbench.analysis.survival.clusters.DesignEffect`); seconds and dollars of a mean run, failures included;
    ``floor``, the relative width that the bounds of the polls leave however many runs are made. Missing values are NaN.
    ``source``: in words, where these runs come from.
    """

    rule: StoppingRule
    workers: int
    fixed: Need
    stopping: Need
    fixed_on_these: Need | None
    stopping_on_these: Need | None
    unreachable: str
    source_runs: int
    machines: int
    never: int
    estimate_s: float
    floor: float
    icc: float
    design_effect: float
    run_s: float
    run_usd: float
    source: str = ""

    def to_dict(self) -> dict[str, object]:
        """The plan, ready for JSON: missing values are None."""
        found = asdict(self)
        return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in found.items()}


def plan(
    phases: pd.DataFrame,
    width: float,
    *,
    quantile: float = 0.5,
    quantity: str = USEFUL,
    workers: int = 4,
    usd_per_hour: float | None = None,
    confidence: float = CONFIDENCE,
    campaigns: int = 400,
    seed: int = 1,
) -> Plan:
    """What it takes until a quantile's interval is at most ``width`` wide, as a share of its middle, drawn from ``phases``.

    ``quantity``: see :class:`~vastbench.record.stopping.StoppingRule`. ``workers`` runs at once, begun
    :data:`~vastbench.record.study.APART_S` seconds apart; ``usd_per_hour`` instead of the runs' own prices. One ``seed`` draws
    the same ``campaigns``.
    Raises UsageError for fewer than 6 runs that came to an end, and for a width, quantile, quantity, number of workers or price
    that cannot be.
    """
    import numpy as np

    rule = StoppingRule(width, quantile, quantity, confidence)
    if workers < 1 or (usd_per_hour is not None and not 0 < usd_per_hour < math.inf):
        raise UsageError(f"A plan for {workers} workers at ${usd_per_hour} per hour.", hint="Give positive numbers.")
    seen = observations(phases, quantity)
    ended = int(seen.ended.sum())
    if ended < LEAST:
        raise UsageError(
            f"The {len(seen)} runs hold {ended} durations of {quantity}; a plan needs {LEAST}.",
            hint="Make a few runs first, or plan from the sample data set.",
        )
    made = design(seen.upper, seen.machine)
    low, high = (float(np.quantile(ends, quantile, method="inverted_cdf")) for ends in (seen.lower, seen.upper))
    floor = relative_width(low, high)
    of_a_run = _of_a_run(phases, workers, usd_per_hour)
    unreachable = _why_not(seen, quantity, quantile, floor, width)

    def need(few: int | None, many: int | None) -> Need:
        least, most = (Effort() if n is None else _effort(n, of_a_run, workers) for n in (few, many))
        return Need(few, many, least.minutes, most.minutes, least.requests, most.requests, least.usd, most.usd)

    fixed, stopping = ((None, None),) * 2 if unreachable else needed(seen, rule, campaigns, seed)
    again, stopping_again = None, None
    if not math.isnan(made.icc) and not unreachable:
        half, most = (_with_repeats(n, made.machines, made.icc, confidence) for n in fixed)
        again, stopping_again = need(half, most), need(*_stopping_again(seen, rule, campaigns, seed))
    return Plan(
        rule=rule,
        workers=workers,
        fixed=need(*fixed),
        stopping=need(*stopping),
        fixed_on_these=again,
        stopping_on_these=stopping_again,
        unreachable=unreachable,
        source_runs=len(seen),
        machines=how_many(seen.machine, len(seen)),
        never=len(seen) - ended,
        estimate_s=quantile_estimate(observations(phases, quantity, waited=True), quantile).value,
        floor=floor,
        icc=made.icc,
        design_effect=made.design_effect,
        run_s=of_a_run[0],
        run_usd=of_a_run[1],
    )


def effort(phases: pd.DataFrame, runs: int, *, workers: int = 4, machines: float = 1.0) -> Effort:
    """What so many ``runs`` take, ``workers`` at once, if they are as the attempted ones of ``phases`` on average.

    ``machines``: how many a mean run rents, each of which is created in its turn and may cost as much as one alone.
    """
    seconds, usd, requests = _of_a_run(phases, workers, None)
    takes = _effort(runs, (seconds, usd * machines, requests * machines), workers)
    return replace(takes, minutes=max(takes.minutes or 0.0, runs * machines * CREATE_EVERY_S / 60))


def _effort(runs: int, of_a_run: tuple[float, float, float], workers: int) -> Effort:
    seconds, usd, requests = of_a_run
    minutes = (max(runs * seconds / workers, runs * APART_S) + seconds) / 60
    return Effort(
        minutes, None if math.isnan(requests) else math.ceil(runs * requests), None if math.isnan(usd) else runs * usd
    )


def _why_not(seen: Durations, quantity: str, quantile: float, floor: float, width: float) -> str:
    never = 1 - seen.ended.mean()
    if math.isinf(floor):
        missed = f"{percent(never)} of the runs never finished {quantity}"
        return f"{missed}, so that its {quantile:g}-quantile is above what was waited"
    if floor >= width:
        return f"the bounds of the polls alone leave {percent(floor)}, however many runs are made"
    return ""


def _of_a_run(phases: pd.DataFrame, workers: int, usd_per_hour: float | None) -> tuple[float, float, float]:
    """Of a mean attempted run, failures included: seconds, dollars and requests."""
    runs = runs_table(attempted(phases))
    seconds = float(runs["total_s"].mean())
    price = runs["usd_per_hour"] if usd_per_hour is None else usd_per_hour
    gpu = runs["gpu_usd"] * price / runs["usd_per_hour"]
    usd = float((runs["cost_usd"] - runs["gpu_usd"] + gpu).mean())
    waits = phases[(phases["phase"] == PhaseName.WAIT_RUNNING) & phases["run"].isin(runs["run"])]
    waiting = float(waits["seconds"].fillna(waits["lower_s"]).sum()) / len(runs)
    period = float(runs["poll_period_s"].mean())
    widths = (waits["end_upper_s"] - waits["end_lower_s"]).dropna()
    # The bounds of a poll hold the pause and two answers, from one poll to the next it is the pause and one.
    between = (period + max(period, float(widths.median()))) / 2 if len(widths) else period
    # One stream of polls serves all workers: it rests while none of them waits.
    busy = 1 - (1 - min(1.0, waiting / seconds)) ** workers
    return seconds, usd, CALLS + seconds / workers * busy / between


def _with_repeats(runs: int | None, machines: int, icc: float, confidence: float) -> int | None:
    """How many runs on ``machines`` have an effective n of ``runs`` (see :func:`~vastbench.analysis.stopping.effective_n_at`).

    n ÷ (1 + (n ÷ machines − 1) × icc) × (t(∞) ÷ t(machines − 1))² = ``runs``, solved for n; as many on each machine.
    """
    from scipy.stats import norm, t

    if runs is None or math.isnan(icc) or machines < 2:
        return None
    one_side = (1 + confidence) / 2
    wanted = runs * float(t.ppf(one_side, machines - 1) / norm.ppf(one_side)) ** 2
    left = 1 - wanted * icc / machines
    found = math.ceil(wanted * (1 - icc) / left) if left > 0 else MOST + 1
    return found if found <= MOST else None


def needed(
    seen: Durations, rule: StoppingRule, campaigns: int, seed: int
) -> tuple[tuple[int | None, int | None], tuple[int | None, int | None]]:
    """How many runs half and nine tenths of the drawn campaigns need: with a fixed number, and stopping by themselves."""
    import numpy as np

    draw, middle = _Campaigns(seen, campaigns, seed), negligible(seen.lower, seen.upper)
    narrow_at: dict[float, int] = {}
    stopped = np.full(campaigns, MOST + 1)
    n = 1
    while n <= MOST:
        lower, upper = draw.first(n)
        once = quantile_levels(n, rule.quantile, rule.confidence)
        few, many = ranks(n, rule.quantile, rule.confidence)
        wanted: list[tuple[float, float]] = [(once[0] * (n + 1) - 1, once[1] * (n + 1) - 1)] if once else []
        wanted += [(few - 1, many)] if once and few and many < n else []
        if wanted:
            # An interval at a fixed number lies between middles of the bounds where these are narrow.
            once_low, once_high = ((lower + upper) / 2,) * 2 if middle else (lower, upper)
            narrow = [
                _narrow(_at(low, first), _at(high, last), rule.width)
                for (low, high), (first, last) in zip(((once_low, once_high), (lower, upper)), wanted, strict=False)
            ]
            for part in (0.5, 0.9):
                if narrow[0].mean() >= part:
                    narrow_at.setdefault(part, n)
            if len(narrow) == 2:
                stopped = np.where(narrow[1], np.minimum(stopped, n), stopped)
        if 0.9 in narrow_at and (stopped <= MOST).mean() >= 0.9:
            break
        n = max(n + 1, math.ceil(n * 1.02))
    return (narrow_at.get(0.5), narrow_at.get(0.9)), _in_half_and_most(stopped)


def _stopping_again(seen: Durations, rule: StoppingRule, campaigns: int, seed: int) -> tuple[int | None, int | None]:
    """The runs after which half and nine tenths of the campaigns on the source's own machines stop by themselves.

    Every campaign has all machines, each drawn as often as the source rented it, and looks as the study will: with the
    effective n of what it has. Only a part of ``campaigns`` is drawn, as each of these looks is at one campaign alone.
    """
    import numpy as np

    draw = _Campaigns(seen, max(20, campaigns // 10), seed, same=True)
    stopped = np.full(len(draw.lower), MOST + 1)
    n = LEAST
    while n <= MOST and (stopped > MOST).mean() > 0.1:
        draw.first(n)
        for one in np.flatnonzero(stopped > MOST):
            bounds = quantile_sequence(
                draw.lower[one, :n], draw.upper[one, :n], rule.quantile, rule.confidence, machine=draw.machine[one, :n]
            )
            if relative_width(*bounds) <= rule.width:
                stopped[one] = n
        n = max(n + 1, math.ceil(n * 1.05))
    return _in_half_and_most(stopped)


def _in_half_and_most(stopped: np.ndarray) -> tuple[int | None, int | None]:
    import numpy as np

    half, most = (int(np.quantile(stopped, part, method="inverted_cdf")) for part in (0.5, 0.9))
    return half if half <= MOST else None, most if most <= MOST else None


def _at(values: np.ndarray, place: float) -> np.ndarray:
    """Of each campaign, a row of ``values``, what stands at this place in their order, counted from 0, or between two."""
    import numpy as np

    first, second = math.floor(place), math.ceil(place)
    ordered = np.partition(values, sorted({first, second}), axis=1)
    with np.errstate(invalid="ignore"):  # between two ends that never come
        found = ordered[:, first] + (place - first) * (ordered[:, second] - ordered[:, first])
    return np.where(np.isnan(found), np.inf, found)


def _narrow(low: np.ndarray, high: np.ndarray, width: float) -> np.ndarray:
    import numpy as np

    finite = np.isfinite(high)
    high = np.where(finite, high, 1.0)
    low = np.where(finite, low, 0.0)
    narrow: np.ndarray = finite & (high - low <= width * (high + low) / 2)
    return narrow


class _Campaigns:
    """Drawn campaigns, one per row, that grow as far as they are looked at: bounds in seconds, and the machine of each run.

    ``same``: all campaigns are on the source's machines; otherwise each draws its own from them.
    """

    def __init__(self, seen: Durations, campaigns: int, seed: int, *, same: bool = False) -> None:
        import numpy as np

        self._rng = np.random.default_rng(seed)
        self._seen = seen
        label = numbered(seen.machine, len(seen))
        self._order = np.argsort(label, kind="stable")
        self._size = np.bincount(label)
        self._begin = np.cumsum(self._size) - self._size
        machines = len(self._size)
        self._drawn = None if same else self._rng.integers(0, machines, (campaigns, machines))
        logs = np.log(np.maximum(seen.upper[seen.ended], 1e-3))
        spread = min(logs.std(ddof=1), float(np.subtract(*np.quantile(logs, [0.75, 0.25]))) / 1.34)
        self._noise = 0.9 * spread * len(logs) ** -0.2
        # Noise alone would make the drawn times differ more than those that were made (Silverman 1986, §6.4.1).
        self._apart = np.where(seen.ended, np.log(np.maximum(seen.upper, 1e-3)) - logs.mean(), 0.0)
        self._shrink = 1 / math.sqrt(1 + (self._noise / spread) ** 2) if spread > 0 else 1.0
        self.lower, self.upper = np.zeros((campaigns, 0)), np.zeros((campaigns, 0))
        self.machine = np.zeros((campaigns, 0), dtype=int)

    def first(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The bounds of the first ``n`` runs of every campaign."""
        import numpy as np

        have = self.lower.shape[1]
        if n > have:
            more = (len(self.lower), max(n - have, have // 2, 64))
            if self._drawn is None:
                machine = self._rng.choice(len(self._size), more, p=self._size / self._size.sum())
            else:
                machine = np.take_along_axis(self._drawn, self._rng.integers(0, self._drawn.shape[1], more), axis=1)
            within = (self._rng.random(more) * self._size[machine]).astype(int)
            run = self._order[self._begin[machine] + within]
            apart = self._shrink * (self._apart[run] + self._noise * self._rng.standard_normal(more))
            factor = np.exp(apart - self._apart[run])
            self.lower = np.hstack([self.lower, self._seen.lower[run] * factor])
            self.upper = np.hstack([self.upper, self._seen.upper[run] * factor])
            self.machine = np.hstack([self.machine, machine])
        return self.lower[:, :n], self.upper[:, :n]
