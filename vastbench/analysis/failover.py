"""How long a failover takes, what of the work is lost and what it costs: estimated from measured parts, held against drills.

Each part is drawn from what was measured of it: how long a loss goes unnoticed, how long it takes to have a machine (a try may
come to nothing, which costs its time and then another try), restoring, and writing again. What is not known of the parts,
because few machines were measured, is drawn too: whole machines are resampled, so that repeats on one machine count as what
they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vastbench.analysis.attempts import attempted, passed
from vastbench.analysis.spans import span
from vastbench.analysis.stopping import observations
from vastbench.errors import UsageError
from vastbench.record.conditions import COLD, STANDBY
from vastbench.record.cost import HOURS_PER_MONTH, SECONDS_PER_HOUR
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.plain import plain
from vastbench.record.shown import Answer
from vastbench.record.stopping import USEFUL
from vastbench.record.study import CREATE_EVERY_S

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

DRAWS = 20_000
"""Failovers that are drawn for a quantile."""

RESAMPLES = 200
"""Times that the measured machines are drawn anew for the interval of a quantile."""

ORIGINAL_S = (110.0, 195.0)
"""The range that the published report estimated for a failover, in seconds."""

MACHINES = 2
"""The machines whose price a drill that passed names together: the one that was lost and the one that replaced it."""

PARTS = ("notice", "machine", "restore", "resume")
"""The parts of a recovery, one after the other."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Measured seconds, and on which machine each; ``failed``: that the try came to nothing after them; ``unpaid``: seconds
    before the marketplace bills the machine's GPU, which it does not while one boots (infinite where it never came so far)."""

    seconds: np.ndarray
    machine: np.ndarray
    failed: np.ndarray
    unpaid: np.ndarray

    def __len__(self) -> int:
        """How many there are."""
        return len(self.seconds)

    def resampled(self, random: np.random.Generator) -> Sample:
        """As many machines drawn anew, each with all its measurements; one that is not known is one of its own."""
        import numpy as np

        _, group = np.unique(self.machine, return_inverse=True)
        groups = [np.flatnonzero(group == one) for one in range(group.max() + 1)]
        rows = np.concatenate([groups[one] for one in random.integers(len(groups), size=len(groups))])
        return Sample(self.seconds[rows], self.machine[rows], self.failed[rows], self.unpaid[rows])


@dataclass(frozen=True, slots=True)
class Parts:
    """What was measured of each of ``PARTS``, and the price of a machine in USD per hour."""

    samples: Mapping[str, Sample]
    usd_per_hour: float

    def resampled(self, random: np.random.Generator) -> Parts:
        """Each part with its machines drawn anew."""
        return Parts({name: sample.resampled(random) for name, sample in self.samples.items()}, self.usd_per_hour)


@dataclass(frozen=True, slots=True)
class Plan:
    """How failovers are to be met. Raises UsageError for what cannot be.

    ``hedge``: machines that are raced, of which the first wins; the n-th begins ``stagger_s`` seconds after the one before it,
    at least CREATE_EVERY_S as the marketplace demands, if none has come. Each that comes to nothing is followed by another, up
    to ``tries``. ``standby``: a machine is kept ready. ``interval_s``: from one snapshot to the next. ``losses_per_month``: how
    often a machine is lost.
    """

    hedge: int = 1
    stagger_s: float = 0.0
    standby: bool = False
    interval_s: float = 30.0
    losses_per_month: float = 1.0
    tries: int = 20

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 1 <= self.hedge <= 10 or self.stagger_s < 0 or self.interval_s <= 0 or self.losses_per_month < 0:
            raise UsageError(f"Failovers cannot be met so: {self}.", hint="hedge is 1 to 10, times and rates are not negative.")


@dataclass(frozen=True, slots=True)
class Estimate:
    """Drawn failovers: seconds of each part, of the whole (infinite where no machine came) and dollars of each.

    ``usd``: the hours of every machine that ran, used or not, by its price; not the disks of those that still boot.
    """

    plan: Plan
    parts: Mapping[str, np.ndarray]
    rto_s: np.ndarray
    rpo_s: np.ndarray
    usd: np.ndarray
    intervals: Mapping[tuple[str, float], tuple[float, float]] = field(default_factory=dict)


def parts_of(drills: pd.DataFrame, boots: pd.DataFrame | None = None, *, names: Mapping[str, tuple[str, str]]) -> Parts:
    """The parts that failover drills measured, as a tidy frame; ``names``: the phases with which each part begins and ends.

    ``boots``: runs from which to take how long a machine takes to be had, in place of the drills' own replacements. Raises
    UsageError where a part was never measured, and for drills that raced their machines without ``boots``: how long one takes
    that was outrun was not seen.
    """
    rows = attempted(drills)
    if boots is None and plan_of(rows, names["machine"][0]).hedge > 1:
        raise UsageError(
            "These drills raced their machines, and do not show how long one takes by itself.",
            hint="Name runs that do with --boots, such as default-300, or add drills without --variant hedged.",
        )
    samples = {part: _spans(rows, *names[part]) for part in PARTS if part != "machine"}
    samples["machine"] = _each_try(rows, *names["machine"], names["unpaid"][1]) if boots is None else tries_of(boots)
    for part, sample in samples.items():
        if not len(sample) or sample.failed.all():
            raise UsageError(
                f"No run shows how long this part of a failover takes: {part}.", hint="Make runs of the drill first."
            )
    usd_per_hour = passed(rows)["usd_per_hour"] / MACHINES if boots is None else boots["usd_per_hour"]
    return Parts(samples, float(usd_per_hour.median()))


def _spans(phases: pd.DataFrame, first: str, last: str) -> Sample:
    """What passed, and for how long it was tried in the runs that began with it and did not come through."""
    import numpy as np

    rows = span(phases, "span", first, last)
    rows = rows[rows["seconds"].notna() | (rows["lower_s"] > 0)]
    machine = _machines(rows["machine"].to_numpy(dtype=float, na_value=np.nan))
    came = rows["seconds"].notna()
    seconds = rows["seconds"].fillna(rows["lower_s"]).to_numpy(dtype=float)
    return Sample(seconds, machine, ~came.to_numpy(dtype=bool), np.zeros(len(rows)))


def _each_try(phases: pd.DataFrame, first: str, last: str, unpaid: str) -> Sample:
    """Each try at a machine, from the start of ``first``: until the end of ``last``, or in vain until the next try.

    It is not paid before the end of the phase ``unpaid``.
    """
    import numpy as np
    import pandas as pd

    rows = phases[phases["phase"] == first].sort_values(["run", "start_s"], kind="stable")
    end = phases[(phases["phase"] == last) & phases["final"] & phases["end_upper_s"].notna()].set_index("run")["end_upper_s"]
    latest = phases[phases["phase"] != PhaseName.TOTAL].groupby("run")["end_lower_s"].max()
    following = rows.groupby("run")["start_s"].shift(-1)
    came = following.isna() & rows["run"].isin(end.index)
    until = following.fillna(rows["run"].map(end)).fillna(rows["run"].map(latest))
    tries = pd.DataFrame({"run": rows["run"], "start": rows["start_s"], "until": until}).reset_index(drop=True)
    ran = phases.loc[(phases["phase"] == unpaid) & phases["end_upper_s"].notna(), ["run", "end_upper_s"]]
    found = tries.reset_index().merge(ran, on="run")
    found = found[found["end_upper_s"].between(found["start"], found["until"])].set_index("index")
    paid = (found["end_upper_s"] - found["start"]).groupby(level=0).min().reindex(tries.index).fillna(np.inf)
    seconds = (tries["until"] - tries["start"]).to_numpy(dtype=float)
    machine = _machines(rows["machine"].to_numpy(dtype=float, na_value=np.nan))
    return Sample(seconds, machine, ~came.to_numpy(dtype=bool), paid.to_numpy(dtype=float))


def plan_of(drills: pd.DataFrame, first: str) -> Plan:
    """How drills of one kind met their failovers; each try at a machine begins with the phase ``first``.

    They tried as often as the one of them that did so most.
    """
    import pandas as pd

    begun = drills.loc[drills["phase"] == first, "run"].value_counts().max()
    tries = 1 if pd.isna(begun) else int(begun)
    hedge, stagger_s = drills["hedge"].iloc[0], drills["stagger_s"].iloc[0]
    if pd.notna(hedge):
        return Plan(hedge=int(hedge), stagger_s=float(stagger_s), tries=math.ceil(tries / hedge))
    return Plan(standby=drills["variant"].iloc[0] == STANDBY, tries=tries)


def by_way(drills: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Drills of several variants, each way for itself, with its name; the usual way first."""
    import pandas as pd

    named = {}
    for (variant, *_), rows in drills.groupby(["variant", "hedge", "stagger_s"], dropna=False, sort=False):
        hedge, stagger_s = rows["hedge"].iloc[0], rows["stagger_s"].iloc[0]
        apart = f" {stagger_s:g} s apart" if stagger_s else ""
        named[f"{variant}, {hedge:g} machines{apart}" if pd.notna(hedge) else str(variant)] = rows
    return dict(sorted(named.items(), key=lambda way: way[0] != COLD))


def tries_of(boots: pd.DataFrame) -> Sample:
    """Runs as tries at a machine: until it ran commands, or the try was over."""
    import numpy as np

    seen, rows = observations(boots, USEFUL), attempted(boots)
    runs = rows[rows["phase"] == PhaseName.TOTAL].sort_values(["started_at", "run"], kind="stable")
    came = np.isfinite(seen.upper)
    machine = np.full(len(seen), np.nan) if seen.machine is None else seen.machine
    running = rows[(rows["phase"] == PhaseName.WAIT_RUNNING) & rows["final"] & (rows["outcome"] == Outcome.PASSED)]
    paid = running.set_index("run")["end_upper_s"].reindex(runs["run"]).fillna(np.inf).to_numpy(dtype=float)
    return Sample(np.where(came, seen.upper, runs["seconds"].to_numpy(dtype=float)), _machines(machine), ~came, paid)


def _machines(numbers: np.ndarray) -> np.ndarray:
    """Numbers of machines; one that is not known gets a number of its own."""
    import numpy as np

    return np.where(np.isnan(numbers), -1.0 - np.arange(len(numbers)), numbers)


def estimate(parts: Parts, plan: Plan = Plan(), *, draws: int = DRAWS, resamples: int = RESAMPLES, seed: int = 1) -> Estimate:
    """Draw failovers; ``intervals`` holds for each quantile of RTO and RPO the 95 % interval that the few machines allow."""
    import numpy as np

    random = np.random.default_rng(seed)
    made = _drawn(parts, plan, draws, random)
    again = [_drawn(parts.resampled(random), plan, draws // 10, random) for _ in range(resamples)]
    intervals = {}
    for name in ("rto_s", "rpo_s"):
        for level in (0.05, 0.5, 0.95):
            found = [np.quantile(getattr(one, name), level, method="higher") for one in again]
            intervals[name, level] = (
                tuple(np.quantile(found, (0.025, 0.975), method="higher").tolist()) if found else (np.nan, np.nan)
            )
    return Estimate(made.plan, made.parts, made.rto_s, made.rpo_s, made.usd, intervals)


def _drawn(parts: Parts, plan: Plan, draws: int, random: np.random.Generator) -> Estimate:
    import numpy as np

    drawn = {name: _choose(parts.samples[name], draws, random) for name in PARTS if name != "machine"}
    paid_s = drawn["machine"] = np.zeros(draws)
    if not plan.standby:
        apart_s = max(plan.stagger_s, CREATE_EVERY_S)
        raced = [_tried(parts.samples["machine"], n * apart_s, plan.tries, draws, random) for n in range(plan.hedge)]
        won = drawn["machine"] = np.min([tries[-1].ready for tries in raced], axis=0)
        # Whoever has not won by then is given back.
        paid_s = sum((np.clip(np.minimum(one.until, won) - one.paid, 0.0, None) for tries in raced for one in tries), paid_s)
    drawn = {name: drawn[name] for name in PARTS}
    rto = np.sum(list(drawn.values()), axis=0)
    hours = (paid_s + drawn["restore"] + drawn["resume"]) / SECONDS_PER_HOUR  # the winner's own, until it works again
    return Estimate(plan, drawn, rto, random.uniform(0.0, plan.interval_s, draws), hours * parts.usd_per_hour)


def _choose(sample: Sample, draws: int, random: np.random.Generator) -> np.ndarray:
    import numpy as np

    good = sample.seconds[~sample.failed]
    return random.choice(good, draws) if len(good) else np.full(draws, np.inf)


@dataclass(frozen=True, slots=True)
class _Try:
    """Seconds at which drawn tries begin to be paid, at which they are over, and at which there is a machine by then."""

    paid: np.ndarray
    until: np.ndarray
    ready: np.ndarray


def _tried(sample: Sample, begins: float, tries: int, draws: int, random: np.random.Generator) -> list[_Try]:
    """Tries that come to nothing, each followed by another, until one does not; what never begins is infinite."""
    import numpy as np

    made: list[_Try] = []
    start, over = np.full(draws, begins), np.zeros(draws, dtype=bool)
    ready = np.full(draws, np.inf)
    for _ in range(tries):
        rows = random.integers(len(sample), size=draws)
        until = np.where(over, np.inf, start + sample.seconds[rows])
        ready = np.where(over | sample.failed[rows], ready, until)
        made.append(_Try(np.where(over, np.inf, start + sample.unpaid[rows]), until, ready))
        over |= ~sample.failed[rows]
        if over.all():
            break
        start = until
    return made


def table(made: Estimate) -> pd.DataFrame:
    """Quantiles of each part, of RTO and of RPO, in seconds.

    Columns: ``part``, ``p05``, ``p50``, ``p95``, and for RTO and RPO the 95 % interval of the median, ``low`` and ``high``.
    """
    import numpy as np
    import pandas as pd

    rows = []
    for name, seconds in {**made.parts, "RTO": made.rto_s, "RPO": made.rpo_s}.items():
        p05, p50, p95 = np.quantile(seconds, (0.05, 0.5, 0.95), method="higher").tolist()
        low, high = made.intervals.get((f"{name.lower()}_s", 0.5), (np.nan, np.nan))
        rows.append({"part": name, "p05": p05, "p50": p50, "p95": p95, "low": low, "high": high})
    return pd.DataFrame(rows)


def what_ifs(parts: Parts, plans: Mapping[str, Plan], *, draws: int = DRAWS, seed: int = 1) -> pd.DataFrame:
    """What each plan comes to.

    Columns: ``plan``, ``rto_p50_s``, ``rto_p95_s``, ``rpo_p50_s``, ``rpo_p95_s``, ``incident_usd`` (mean), ``month_usd``
    (incidents, and a standby's price), ``within`` (the share of failovers that end before the published range does).
    """
    import numpy as np
    import pandas as pd

    rows = []
    for name, plan in plans.items():
        made = estimate(parts, plan, draws=draws, resamples=0, seed=seed)
        rto, rpo = (np.quantile(one, (0.5, 0.95), method="higher").tolist() for one in (made.rto_s, made.rpo_s))
        incident = float(made.usd.mean())
        kept = parts.usd_per_hour * HOURS_PER_MONTH if plan.standby else 0.0
        rows.append(
            {
                "plan": name,
                "rto_p50_s": rto[0],
                "rto_p95_s": rto[1],
                "rpo_p50_s": rpo[0],
                "rpo_p95_s": rpo[1],
                "incident_usd": incident,
                "month_usd": kept + plan.losses_per_month * incident,
                "within": float((made.rto_s <= ORIGINAL_S[1]).mean()),
            }
        )
    return pd.DataFrame(rows)


def beside(plan: Plan) -> dict[str, Plan]:
    """The plan, and what else could be done, each with its name."""
    others = {f"{n} machines at once": replace(plan, hedge=n, stagger_s=0.0, standby=False) for n in (2, 3, 5)}
    others["a second one after 60 s"] = replace(plan, hedge=2, stagger_s=60.0, standby=False)
    others["one machine"] = replace(plan, hedge=1, stagger_s=0.0, standby=False)
    others["a machine on standby"] = replace(plan, standby=True)
    others["snapshots a tenth as often"] = replace(plan, interval_s=10 * plan.interval_s)
    return {"as asked": plan, **{name: one for name, one in others.items() if one != plan}}


@dataclass(frozen=True, slots=True)
class Check:
    """Whether drills are plausible draws of an estimate: ``inside`` of ``n`` lie in its 90 % interval from ``low`` to ``high``
    seconds; ``p``: how likely so few, or so many, were if the estimate held (two-sided, exact binomial)."""

    n: int
    inside: int
    low: float
    high: float
    p: float

    @property
    def plausible(self) -> bool:
        """Whether nothing speaks against the estimate at the 5 % level; True of few drills says little."""
        return self.p >= 0.05


@dataclass(frozen=True, slots=True, repr=False)
class Forecast(Answer):
    """How long failovers take, what is lost and what they cost; it shows itself.

    ``parts``: the table of :func:`table`, in seconds. ``plans``: that of :func:`what_ifs`, seconds and USD, the plan that was
    asked for first. ``checks``: the estimate held against the drills, by the way in which they were made. ``source``: in
    words, where the drills come from.
    """

    parts: pd.DataFrame
    plans: pd.DataFrame
    checks: Mapping[str, Check]
    source: str = ""

    def to_dict(self) -> dict[str, object]:
        """The forecast, ready for JSON: missing and infinite values are None."""
        checks = {
            name: {"n": one.n, "inside": one.inside, "low_s": one.low, "high_s": one.high, "p": one.p}
            for name, one in self.checks.items()
        }
        tables = {"parts": self.parts.to_dict("records"), "plans": self.plans.to_dict("records")}
        return dict(plain({"source": self.source, **tables, "checks": checks}))


def measured(drills: pd.DataFrame, first: str, last: str) -> np.ndarray:
    """The RTO of the drills of a tidy frame, in seconds: from the start of ``first`` to the end of ``last``."""
    found = _spans(attempted(drills), first, last)
    seconds: np.ndarray = found.seconds[~found.failed]
    return seconds


def check(parts: Parts, measured_s: np.ndarray, plan: Plan, *, seed: int = 1) -> Check:
    """Hold the estimate of a plan against the RTO of the drills that followed it and came so far, in seconds."""
    import numpy as np
    from scipy.stats import binomtest

    drawn = estimate(parts, plan, resamples=0, seed=seed).rto_s
    came = drawn[np.isfinite(drawn)]
    low, high = np.quantile(came, (0.05, 0.95), method="higher").tolist() if len(came) else (np.inf, np.inf)
    inside, n = int(((measured_s >= low) & (measured_s <= high)).sum()), len(measured_s)
    return Check(n, inside, low, high, float(binomtest(inside, n, 0.9).pvalue) if n else float("nan"))
