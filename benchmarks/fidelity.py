"""Do the bounds hold the truth, how wide are they, and what do they cost in requests: vastbench and three other ways to look.

    .venv/bin/python benchmarks/fidelity.py            # two profiles, 50 runs each, under 20 minutes
    .venv/bin/python benchmarks/fidelity.py --quick    # one fast profile, a few runs, under a minute

Everything runs at speed 1. Each way has emulators of its own with the same seed; their truth logs are the referee. The exit
status is 1 when an aim is missed.
"""

import argparse
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Row, show
from pollers import STATUS_CALLS, ById, Door, Looking, OfficialClient, OpenSsh, destroy, wait_running, wait_ssh
from rich.console import Console
from rich.table import Table

from vastbench.bench import Bench
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.errors import NoOffer, OfferGone
from vastbench.provision import Conditions, choose
from vastbench.run import Run
from vastbench.study import APART_S, run_study
from vastbench.timing import Moment, PhaseName
from vastbench.vast.api import VastApi
from vastbench.vast.models import CreateRequest
from vastbench.vast.watch import SHORTEST_PERIOD_S

SEED = 4
CROWD = 10
"""So many runs at once are a crowd."""

CONDITIONS = Conditions(boot_deadline_s=300, ssh_deadline_s=120)

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

OURS, TEN, TWO, CLIENT = "vastbench", "GET by id, 10 s", "GET by id, 2 s", "official client, 10 s"
METHODS = (OURS, TEN, TWO, CLIENT)

RUNNING, SSH, DESTROYED, GUEST_SSH = "running", "SSH ready", "destroyed", "guest: SSH ready"
GUEST = {
    "container_started": "container_started",
    "onstart_started": "onstart_started",
    "sshd_up": "ssh_open",
    "key_installed": "key_installed",
}
"""The guest's moments and the truth log's words for them."""

TRUTHS = {
    RUNNING: "status running",
    "port open": "ssh_open",
    SSH: "ssh_ready",
    DESTROYED: "destroy_effective",
    "gone": "gone",
    GUEST_SSH: "ssh_ready",
} | {f"guest: {name}": event for name, event in GUEST.items()}
"""Every moment that is compared, and the event of the truth log that it is about."""


@dataclass(frozen=True)
class Task:
    """One way to look, on one profile, for so many runs, at most so many of them at once."""

    method: str
    profile: str
    runs: int
    at_once: int


@dataclass(frozen=True)
class Look:
    """What was measured of one moment of one run, beside the truth; monotonic seconds. Unseen: ``upper`` is infinite.

    The event happened in [``early``, ``late``]; None when it never did. ``latency``: what the answer that showed it took.
    """

    name: str
    lower: float
    upper: float
    early: float | None
    late: float | None
    latency: float | None = None

    @property
    def seen(self) -> bool:
        """Whether it was measured to have happened."""
        return math.isfinite(self.upper)

    @property
    def holds(self) -> bool:
        """Whether the bounds hold the truth."""
        if self.early is None or self.late is None:
            return not self.seen
        return self.lower <= self.late and self.early <= self.upper

    @property
    def width(self) -> float:
        """Seconds between the bounds."""
        return self.upper - self.lower

    @property
    def late_by(self) -> float:
        """How long after the truth the figure is that a tool shows: that of the answer that told."""
        assert self.early is not None
        assert self.late is not None
        return self.upper - (self.early + self.late) / 2


@dataclass(frozen=True)
class Campaign:
    """What one task came to. ``spans``: begin and end of each run. ``ended``: how many runs ended in which way."""

    task: Task
    looks: list[Look]
    answers: list[tuple[str, int, float]]
    spans: list[tuple[float, float]]
    ended: Counter[str]

    def per_run(self, calls: Iterable[str] | None = None, status: int | None = None) -> float:
        """Requests per run: of these calls (default: all), answered with this HTTP status (default: any)."""
        counted = [1 for call, code, _ in self.answers if (calls is None or call in calls) and status in (None, code)]
        return len(counted) / max(1, len(self.spans))

    @property
    def most_at_once(self) -> int:
        """How many runs were under way at once at most."""
        changes = sorted([(begin, 1) for begin, _ in self.spans] + [(end, -1) for _, end in self.spans])
        now = most = 0
        for _, change in changes:
            now += change
            most = max(most, now)
        return most


def beside_truth(moments: dict[str, Moment], instance: int, events: list[dict[str, Any]], origin: float = 0.0) -> list[Look]:
    """``moments`` (readings from ``origin`` on) of an instance beside the first events of the truth log that they are about."""
    truth: dict[str, tuple[float, float]] = {}
    for event in events:
        if event["instance"] == instance:
            name = f"status {event['status']}" if event["event"] == "status" else event["event"]
            truth.setdefault(name, (event["not_before_s"], event["s"]))
    looks = []
    for name, moment in moments.items():
        early, late = truth.get(TRUTHS[name], (None, None))
        took = None if moment.yes_received is None or moment.yes_sent is None else moment.yes_received - moment.yes_sent
        looks.append(Look(name, moment.lower + origin, moment.upper + origin, early, late, took))
    return looks


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
            looks += beside_truth(moments_of(run), instance, events, run.origin)
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
            found = self._api.search_offers(CONDITIONS.query()).value
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


def moments_table(title: str, campaigns: list[Campaign]) -> Table:
    """Every way's moments: how many hold the truth, how wide the bounds are, how late the figure is."""
    table = Table("way to look", "moment", "n", "unseen", "truth inside", title=title, title_justify="left")
    for column in ("width: median", "p95", "late: median", "mean", "middle: mean"):
        table.add_column(column, justify="right")
    for method in METHODS:
        looks = [look for campaign in campaigns if campaign.task.method == method for look in campaign.looks]
        for name in TRUTHS:
            mine = [look for look in looks if look.name == name]
            if mine:
                table.add_row(method, name, *_figures(mine))
        table.add_section()
    return table


def _figures(looks: list[Look]) -> list[str]:
    known = [look for look in looks if look.seen and look.early is not None]
    inside = sum(look.holds for look in looks)
    cells = [str(len(looks)), str(sum(not look.seen for look in looks)), f"{inside / len(looks):.1%}"]
    if not known:
        return [*cells, *["–"] * 5]
    widths = sorted(look.width for look in known)
    late = [look.late_by for look in known]
    middle = [look.late_by - look.width / 2 for look in known]
    figures = [statistics.median(widths), widths[round(0.95 * (len(widths) - 1))]]
    return cells + [f"{x:.3f}" for x in (*figures, statistics.median(late), statistics.mean(late), statistics.mean(middle))]


def requests_table(campaigns: list[Campaign]) -> Table:
    """What every way asked of the API, as the emulator counted it."""
    table = Table("way to look", "profile", "runs", "at once", title="API requests per run", title_justify="left")
    for column in ("all", "for a status", "429s", "how the runs ended"):
        table.add_column(column, justify="left" if " the " in column else "right")
    for one in sorted(campaigns, key=lambda c: (c.task.at_once, METHODS.index(c.task.method))):
        counts = [f"{x:.1f}" for x in (one.per_run(), one.per_run(STATUS_CALLS), one.per_run(status=429))]
        ended = ", ".join(f"{number} {how}" for how, number in one.ended.most_common())
        task = one.task
        table.add_row(task.method, Path(task.profile).stem, str(len(one.spans)), str(one.most_at_once), *counts, ended)
    return table


def aims(campaigns: list[Campaign]) -> list[Row]:
    """What vastbench aims at, each with its limit."""
    mine = [one for one in campaigns if one.task.method == OURS]
    rows = [Row("moments whose bounds do not hold the truth", "moments", [sum(not x.holds for c in mine for x in c.looks)], 0)]
    for at_once in sorted({one.task.at_once for one in mine}):
        looks = [look for one in mine if one.task.at_once == at_once for look in one.looks if look.seen]
        words = "alone" if at_once == 1 else f"{at_once} at once"
        latencies = [look.latency for look in looks if look.name == RUNNING and look.latency is not None]
        limit = SHORTEST_PERIOD_S + statistics.median(latencies) if latencies else None
        limits = {RUNNING: limit, SSH: 0.5, GUEST_SSH: 0.5, "guest: container_started": 0.2}
        for name, most in limits.items():
            widths = [look.width for look in looks if look.name == name]
            rows.append(Row(f"width of {name}, {words}", "s", widths, None if most is None else round(most, 3), "median"))
    for one in (one for one in mine if one.task.at_once > 1):
        task = one.task
        same = (task.profile, task.at_once)
        other = next(c for c in campaigns if c.task.method == TEN and (c.task.profile, c.task.at_once) == same)
        ratio = one.per_run(STATUS_CALLS) / other.per_run(STATUS_CALLS)
        rows.append(Row(f"status requests, share of {TEN} ({Path(task.profile).stem})", "of theirs", [ratio], 1))
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
            stages = plan(["default", "cached"], options.runs or 50, 24, 20, 4)
        campaigns: list[Campaign] = []
        for stage in stages:
            with ProcessPoolExecutor(len(stage), multiprocessing.get_context("spawn")) as pool:
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
