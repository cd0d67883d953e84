"""Do the bounds hold the truth, how wide are they, and what do they cost in requests: vastbench and three other ways to look.

    .venv/bin/python benchmarks/fidelity.py            # two profiles, 50 runs each, under 20 minutes
    .venv/bin/python benchmarks/fidelity.py --quick    # one fast profile, a few runs, under a minute

Everything runs at speed 1. Each way has emulators of its own with the same seed; their truth logs are the referee. The exit
status is 1 when an aim is missed.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from figures import Row, show
from looks import (
    CLIENT,
    CONTAINER,
    DESTROYED,
    GUEST,
    GUEST_SSH,
    METHODS,
    OURS,
    RUNNING,
    SSH,
    TEN,
    TWO,
    Campaign,
    Look,
    Task,
    beside_truth,
    moments_table,
    requests_table,
)
from pollers import STATUS_CALLS, ById, Door, Looking, OfficialClient, OpenSsh, destroy, wait_running, wait_ssh
from rich.console import Console

from vastbench.bench.bench import Bench
from vastbench.bench.workers import APART_S, run_study
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.errors import NoOffer, OfferGone
from vastbench.record.conditions import Conditions
from vastbench.record.moments import Moment
from vastbench.record.phases import PhaseName
from vastbench.record.run import Run
from vastbench.rental.offers import choose, query
from vastbench.vast.api import VastApi
from vastbench.vast.models import CreateRequest
from vastbench.vast.watch import SHORTEST_PERIOD_S

FORKING = multiprocessing.get_context("forkserver")
"""Tasks begin together: each would import all of it at the same time."""
FORKING.set_forkserver_preload(["pollers", "vastbench.bench.bench", "vastbench.emulator.engine"])

LISTED = ("GET /api/v1/instances/", 200)

SEED = 6
"""Of its first 50 boots three never end, and one machine takes no key."""

CROWD = 10
"""So many runs at once are a crowd."""

CONDITIONS = Conditions(boot_deadline_s=240, ssh_deadline_s=120)

QUICK = """
extends = "cached"
about = "Boots in five seconds, and nothing fails"
[boot]
appears = { kind = "fixed", value = 2, basis = "assumption" }
running = { kind = "lognormal", median = 5, sigma = 0.2, basis = "assumption" }
never = { p = 0, basis = "assumption" }
oci_error = { p = 0, basis = "assumption" }
exits = { p = 0, basis = "assumption" }
[ssh]
accepts = { kind = "lognormal", median = 1, sigma = 0.3, basis = "assumption" }
auth_never = { p = 0, basis = "assumption" }
[market]
offer_gone = { p = 0, basis = "assumption" }
"""


def moments_of(run: Run) -> dict[str, Moment]:
    """The moments of a run of ours that the truth log knows, from the run's start on."""
    port, destroyed = run.phase(PhaseName.PORT), run.phase(PhaseName.DESTROY)
    ends = {RUNNING: PhaseName.WAIT_RUNNING, "port open": PhaseName.PORT, "gone": PhaseName.CONFIRM}
    found = {name: run.phase(phase) for name, phase in ends.items()}
    moments = {name: phase.end for name, phase in found.items() if phase is not None}
    if port is not None and (ready := run.phase(PhaseName.FIRST_COMMAND)) is not None:
        moments[SSH] = ready.end
    if destroyed is not None and destroyed.end.seen:
        moments[DESTROYED] = Moment.between(destroyed.start.lower, destroyed.end.upper, "action")
    if run.guest.get("trusted"):
        guest = {name: Moment(**kept) for name, kept in run.guest["moments"].items() if name in GUEST}
        if {"sshd_up", "key_installed"} <= guest.keys():
            last = [guest["sshd_up"], guest["key_installed"]]
            moments[GUEST_SSH] = Moment.between(max(x.lower for x in last), max(x.upper for x in last), "guest")
        moments |= {f"guest: {name}": moment for name, moment in guest.items()}
    return moments


def ours(task: Task) -> Campaign:
    """The product's own path: a study on a bench."""
    door = Door()
    with (
        tempfile.TemporaryDirectory(prefix="vastbench-benchmark-") as folder,
        door.counting(),
        Bench(profile=task.profile, seed=SEED, store=Path(folder) / "runs.sqlite", study="fidelity") as bench,
    ):
        study = run_study(bench, bench.open_study(task.runs, CONDITIONS), workers=task.at_once)
        events = list(bench.emulator.events)
    looks, ended = [], Counter(f"{run.outcome} {run.cause}".strip() for run in study.runs)
    for run in study.runs:
        if (instance := run.resources.get("instance_id")) is not None:
            looks += beside_truth(moments_of(run), instance, events, origin=run.origin, key=f"vastbench-{run.id}")
        if run.guest and not run.guest.get("trusted"):
            ended[f"(guest's clock not trusted: {run.guest.get('why')})"] += 1
    spans = [(run.origin, run.origin + (run.total_s or 0.0)) for run in study.runs]
    return Campaign(task, looks, door.answers, spans, ended)


def theirs(task: Task) -> Campaign:
    """Another way to look, in threads that begin as far apart as a study's runs do; renting is the same for all."""
    door, clock = Door(), Clock()
    with (
        tempfile.TemporaryDirectory(prefix="vastbench-benchmark-") as folder,
        door.counting(),
        Emulator(task.profile, seed=SEED) as emulator,
        VastApi(emulator.url, emulator.api_key, clock=clock) as api,
    ):
        ssh = OpenSsh(Path(folder), clock)
        api.create_ssh_key(ssh.public_line)
        way: Looking
        if task.method == CLIENT:
            way = OfficialClient(emulator.url, emulator.api_key, 10.0, Path(folder))
        else:
            way = ById(emulator.url, emulator.api_key, {TEN: 10.0, TWO: 2.0}[task.method])
        peer = Peer(api, way, ssh, clock, emulator.events)
        with ThreadPoolExecutor(task.at_once) as pool:
            for done in [pool.submit(peer.run) for _ in range(task.runs)]:
                done.result()
        return Campaign(task, peer.looks, door.answers, peer.spans, peer.ended)


class Peer:
    """Runs that look as other tools do."""

    def __init__(self, api: VastApi, way: Looking, ssh: OpenSsh, clock: Clock, events: list[dict[str, Any]]) -> None:
        self._api, self._way, self._ssh, self._clock, self._events = api, way, ssh, clock, events
        self._lock = threading.Lock()
        self._next_begin = clock.now()
        self._taken: set[int] = set()
        self.looks: list[Look] = []
        self.spans: list[tuple[float, float]] = []
        self.ended: Counter[str] = Counter()

    def run(self) -> None:
        """One run; what it measured goes to ``looks``."""
        with self._lock:
            begin = max(self._next_begin, self._clock.now())
            self._next_begin = begin + APART_S
        self._clock.sleep(begin - self._clock.now())
        begin = self._clock.now()
        looks: list[Look] = []
        try:
            instance, created = self._rent()
        except (NoOffer, OfferGone) as error:
            how = error.cause
        else:
            how, moments = self._follow(instance, created)
            looks = beside_truth(moments, instance, self._events)
        with self._lock:
            self.ended[how] += 1
            self.spans.append((begin, self._clock.now()))
            self.looks += looks

    def _rent(self) -> tuple[int, float]:
        for left in reversed(range(CONDITIONS.attempts)):
            found = self._api.search_offers(query(CONDITIONS)).value
            with self._lock:
                offer = choose([one for one in found if one.id not in self._taken], CONDITIONS)
                self._taken.add(offer.id)
            request = CreateRequest(CONDITIONS.image, CONDITIONS.disk_gb, f"peer-{offer.id}")
            try:
                made = self._api.create_instance(offer.id, request)
            except OfferGone:
                if not left:
                    raise
            else:
                return made.value.new_contract, made.received
        raise AssertionError("the loop above returns or raises")

    def _follow(self, instance: int, created: float) -> tuple[str, dict[str, Moment]]:
        how = "passed"
        moments: dict[str, Moment] = {}
        try:
            deadline_s = CONDITIONS.boot_deadline_s
            moments[RUNNING], seen = wait_running(self._way, instance, self._clock, created=created, deadline_s=deadline_s)
            if moments[RUNNING].seen and seen is not None:
                deadline_s = CONDITIONS.ssh_deadline_s
                moments[SSH] = wait_ssh(self._ssh, seen, self._clock, moments[RUNNING], deadline_s=deadline_s)
                how = "passed" if moments[SSH].seen else "no SSH in time"
            else:
                how = "not running in time"
        finally:
            moments[DESTROYED] = destroy(self._way, instance, self._clock)
        return how, moments


def measure(task: Task) -> Campaign:
    """Do one task, in a process of its own."""
    return ours(task) if task.method == OURS else theirs(task)


def plan(profiles: list[str], runs: int, others: int, at_once: int, alone: int) -> list[list[Task]]:
    """What is measured side by side. A crowd of official clients keeps two cores busy: it comes last and by itself."""
    counts = {method: runs if method == OURS else others for method in METHODS}
    together = [Task(method, profile, counts[method], at_once) for method in METHODS for profile in profiles]
    single = [Task(method, profile, alone, 1) for method in METHODS for profile in profiles]
    busy = [task for task in together if task.method == CLIENT and at_once >= CROWD]
    return [stage for stage in ([task for task in [*together, *single] if task not in busy], busy) if stage]


def aims(campaigns: list[Campaign]) -> list[Row]:
    """What vastbench aims at, each with its limit."""
    mine = [one for one in campaigns if one.task.method == OURS]
    rows = [Row("bounds that do not hold the truth", "moments", [sum(not x.holds for c in mine for x in c.looks)], 0)]
    for at_once in sorted({one.task.at_once for one in mine}):
        looks = [look for one in mine if one.task.at_once == at_once for look in one.looks if look.seen]
        words = "alone" if at_once == 1 else f"{at_once} at once"
        calls = [answer for one in mine if one.task.at_once == at_once for answer in one.answers]
        api_s = [took for call, code, took in calls if (call, code) == LISTED]
        limits = {RUNNING: SHORTEST_PERIOD_S + statistics.median(api_s), SSH: 0.5, GUEST_SSH: 0.5, CONTAINER: 0.2}
        for name, most in limits.items():
            widths = [look.width for look in looks if look.name == name]
            rows.append(Row(f"width of {name}, {words}", "s", widths, round(most, 3), "median"))
        apart = [look.width - look.latency for look in looks if look.name == RUNNING and look.latency is not None]
        rows.append(Row(f"from look to look at running, {words}", "s", apart))
        rows.append(Row(f"the list's latency, {words}", "s", api_s))
    for one in (one for one in mine if one.task.at_once > 1):
        task = one.task
        same = (task.profile, task.at_once)
        other = next(c for c in campaigns if c.task.method == TEN and (c.task.profile, c.task.at_once) == same)
        ratio = one.per_run(STATUS_CALLS) / other.per_run(STATUS_CALLS)
        # Where boots are fast, runs end before so many could be rented: the aim is about the others.
        crowded = one.mean_at_once >= task.at_once / 2
        name = f"status requests, share of 10 s polling, {Path(task.profile).stem}"
        rows.append(Row(name, "of theirs", [ratio], 1 if crowded else None))
    return rows


def main() -> None:
    """Measure, print the tables, say whether an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, help="runs of vastbench per profile (default 50; with --quick 3)")
    parser.add_argument("--quick", action="store_true", help="a fast profile and few runs: under a minute")
    parser.add_argument("--no-limits", action="store_true", help="only show the figures: exit with 0 whatever they are")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vastbench-benchmark-") as folder:
        if options.quick:
            fast = Path(folder) / "fast.toml"
            fast.write_text(QUICK)
            runs = options.runs or 3
            stages = plan([str(fast)], runs, runs, runs, 1)
        else:
            stages = plan(["default", "cached"], options.runs or 50, 24, 20, 3)
        campaigns: list[Campaign] = []
        for stage in stages:
            with ProcessPoolExecutor(len(stage), FORKING) as pool:
                campaigns += pool.map(measure, stage)
    console = Console(width=None if sys.stdout.isatty() else 128, highlight=False)
    for at_once in sorted({one.task.at_once for one in campaigns}):
        title = "Alone: one run at a time" if at_once == 1 else f"Up to {at_once} runs at once"
        console.print(moments_table(f"{title} (seconds)", [one for one in campaigns if one.task.at_once == at_once]))
    console.print(requests_table(campaigns))
    missed = show("Aims of vastbench", aims(campaigns), len(os.sched_getaffinity(0)))
    print(f"Missed: {'; '.join(missed)}." if missed else "All aims met.")
    sys.exit(1 if missed and not options.no_limits else 0)


if __name__ == "__main__":
    main()
