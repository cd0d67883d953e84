"""What racing several machines brings and costs: measured on the emulator, beside what the estimate computes for the same.

For each number of machines and each stagger so many races are run, one after the other on each of ``--benches`` emulators, so
that no race waits for another's turn at the account's limits. A race begins with registering the first key and ends when the
first machine runs a command; a try that comes to nothing is followed by another, three in all. The computed figures are drawn
from the bundled 300 boots of the same profile (``default-300``), as `vastbench estimate` draws them.
"""

import argparse
import math
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Column, Table

import vastbench
from vastbench.analysis.failover import Parts, Plan, Sample, estimate, tries_of
from vastbench.bench.bench import Bench
from vastbench.record.conditions import Conditions
from vastbench.record.phases import PhaseName, of_machine, renting, returning
from vastbench.record.run import Run
from vastbench.scenarios import SCENARIOS
from vastbench.scenarios.drill import OUTRUN, TRIES, Drill, Scenario

RACED = "raced"
METERS = ("gpu_usd", "storage_usd", "transfer_usd")
GONE = ("destroyed", "already gone")
BEGIN, READY = (of_machine(RACED, name) for name in (PhaseName.REGISTER_KEY, PhaseName.WAIT_SSH))


def race(drill: Drill) -> None:
    """Rent as many as asked for, and use the first for one command."""
    with drill.rent(RACED, hedge=drill.conditions.hedge or 1, stagger_s=drill.conditions.stagger_s or 0.0) as machine:
        machine.session.run("true")


SCENARIOS["race"] = Scenario(
    "race",
    "until one of several GPUs runs commands",
    {**renting(), **renting(RACED), **returning(RACED), **returning()},
    ready=READY,
    work_s=60.0,
    run=race,
    machines=("", RACED),
    options={"hedge": None, "stagger_s": None},
)


@dataclass(frozen=True)
class Raced:
    """One race: seconds until a machine ran commands (infinite where none did), dollars of those that were not used, how many
    were outrun, and how many of these are confirmed destroyed."""

    seconds: float
    extra_usd: float
    losers: int
    confirmed: int


def read(run: Run, closed: set[int]) -> Raced:
    """What a run shows; ``closed``: the instances whose leases say that they are gone."""
    begun = min(phase.start.upper for phase in run.phases if phase.name == BEGIN)
    ready = run.phase(READY)
    came = ready is not None and ready.end.seen
    others = run.resources.get("machines", [])  # the first that was rented is the run's own document
    usd = [(one["used"], sum(one["cost"][meter] or 0.0 for meter in METERS)) for one in others]
    used = [cost for was_used, cost in usd if was_used]
    extra = (run.cost.total_usd or 0.0) - used[0] if used else sum(cost for _, cost in usd)
    losers = {one.instance_id for one in run.attempts if one.cause == OUTRUN and one.instance_id is not None}
    return Raced(ready.end.upper - begun if ready and came else math.inf, extra, len(losers), len(losers & closed))


def measured(options: argparse.Namespace, plans: Sequence[Plan]) -> dict[Plan, list[Raced]]:
    """The races of every plan, spread over the emulators, each of which makes some of every plan."""

    def made(bench_number: int) -> dict[Plan, list[Raced]]:
        mine = range(bench_number, options.races, options.benches)
        found: dict[Plan, list[Raced]] = {plan: [] for plan in plans}
        with tempfile.TemporaryDirectory() as folder:
            store, seed = Path(folder) / "runs.sqlite", options.seed + bench_number
            with Bench(profile=options.profile, seed=seed, speed=options.speed, store=store) as bench:
                for plan in [plan for _ in mine for plan in plans]:
                    hedge = plan.hedge if plan.hedge > 1 else None
                    run = bench.run(Conditions(hedge=hedge, stagger_s=plan.stagger_s), scenario="race")
                    leases = bench.store.leases()
                    found[plan].append(
                        read(run, {one.instance_id for one in leases if one.verdict in GONE and one.instance_id})
                    )
        return found

    with ThreadPoolExecutor(options.benches) as pool:
        parts = list(pool.map(made, range(options.benches)))
    return {plan: [one for part in parts for one in part[plan]] for plan in plans}


def computed(plan: Plan, seed: int) -> tuple[np.ndarray, float]:
    """Seconds until a machine is had, and the mean dollars of the incident beyond one machine's."""
    nothing = Sample(np.zeros(1), np.zeros(1), np.zeros(1, dtype=bool), np.zeros(1))
    boots = vastbench.load("default-300")
    samples = dict.fromkeys(("notice", "restore", "resume"), nothing) | {"machine": tries_of(boots)}
    parts = Parts(samples, float(boots["usd_per_hour"].median()))
    one, raced = (estimate(parts, each, resamples=0, seed=seed) for each in (Plan(tries=TRIES), plan))
    return raced.rto_s, float(raced.usd.mean() - one.usd.mean())


def quantiles(seconds: Sequence[float] | np.ndarray) -> list[str]:
    found = np.quantile(seconds, (0.5, 0.95), method="higher").tolist()
    return [f"{one:.0f}" if math.isfinite(one) else "never" for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=40, help="races of each plan")
    parser.add_argument("--most", type=int, default=5, help="machines in the largest race")
    parser.add_argument("--staggers", default="0,30,60", help="seconds from one machine to the next, by commas")
    parser.add_argument("--benches", type=int, default=4, help="emulators at once")
    parser.add_argument("--speed", type=float, default=20.0, help="emulated seconds per real second")
    parser.add_argument("--profile", default="default", help="the emulator's behaviour")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the first emulator; each other has the next one")
    parser.add_argument("--quick", action="store_true", help="few small races: to see that all works")
    options = parser.parse_args()
    if options.quick:
        options.races, options.most, options.staggers, options.benches = 2, 2, "0", 2
    staggers = [float(one) for one in options.staggers.split(",")]
    plans = [Plan(tries=TRIES), *(Plan(k, s, tries=TRIES) for k in range(2, options.most + 1) for s in staggers)]
    table = Table(
        Column("machines, stagger"),
        *(Column(name, justify="right") for name in ("races", "p50 s", "p95 s", "came", "extra $", "losers gone")),
        *(Column(name, justify="right") for name in ("computed p50 s", "p95 s", "came", "extra $")),
        title=f"Profile {options.profile}, seed {options.seed}, {options.speed:g} times as fast",
    )
    for plan, races in measured(options, plans).items():
        seconds, extra = computed(plan, options.seed)
        came = [math.isfinite(one.seconds) for one in races]
        table.add_row(
            f"{plan.hedge}, {plan.stagger_s:g} s" if plan.hedge > 1 else "1",
            str(len(races)),
            *quantiles([one.seconds for one in races]),
            f"{sum(came)} of {len(came)}",
            f"{np.mean([one.extra_usd for one in races]):.4f}",
            f"{sum(one.confirmed for one in races)} of {sum(one.losers for one in races)}",
            *quantiles(seconds),
            f"{np.isfinite(seconds).mean():.1%}",
            f"{extra:.4f}",
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
