"""Studies on the emulator whose processes are killed at random moments, on stores that fail: is anything leaked or lost?

    .venv/bin/python benchmarks/chaos.py --kills 500               # on a SQLite file
    .venv/bin/python benchmarks/chaos.py --kills 500 --postgres    # on a PostgreSQL server
    .venv/bin/python benchmarks/chaos.py --kills 12                # a quick look

Three studies at a time share one store and one account with instances of somebody else; each is killed with SIGKILL at a random
moment. What they leave is found by a reaper, by two at once, by one that watches all the time, by the next study's own start,
or by nobody: then the instances have to destroy themselves. The referee is the emulator's own account of what is alive.
The exit status is 1 when anything leaked, was touched or is missing.
"""

import argparse
import multiprocessing
import os
import random
import re
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path

from figures import Row, show

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tests' harnesses are used here, too

from tests.postgres import PostgresServer
from tests.processes import hear_interrupts
from tests.profiles import certain
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.errors import RateLimited
from vastbench.record.conditions import Conditions
from vastbench.rental.label import read_label
from vastbench.rental.offers import choose, query
from vastbench.rental.startup import SWITCH_LOOK_S
from vastbench.store import Store
from vastbench.vast.api import VastApi
from vastbench.vast.models import CreateRequest

SPEED = 30.0
AT_ONCE = 3
WINDOW_S = 8.0
"""Real seconds from a study's start within which it is killed; a run takes some two, and starting about one."""

SWITCH_SLACK_S = SWITCH_LOOK_S + 30.0 + 10.0
"""Real seconds by which an instance may outlive its deadline: one look, one repeated try, and a busy machine."""

FOREIGN = ("training", "vb-lookalike", "vb-0123abcd-someone-1-4102444800")

Children = multiprocessing.get_context("forkserver")


@dataclass
class Tally:
    """What was counted over all rounds; times in real seconds."""

    kills: int = 0
    refused: int = 0
    left_by_kills: int = 0
    alive_after_reap: list[str] = field(default_factory=list)
    alive_after_deadline: list[str] = field(default_factory=list)
    foreign_touched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    still_open: list[str] = field(default_factory=list)
    failed_commands: list[str] = field(default_factory=list)
    confirmed_s: list[float] = field(default_factory=list)
    gone_after_reap_s: list[float] = field(default_factory=list)
    gone_alone_s: list[float] = field(default_factory=list)
    beyond_deadline_s: list[float] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)


def command(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """``vastbench`` with these arguments, in this process: what a shell would start, without the seconds of importing it."""
    from vastbench.cli import main

    os.environ.update(environment)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.argv = ["vastbench", *arguments]
    main()


class Campaign:
    """One emulator, its foreign instances, and the processes that are killed on it."""

    def __init__(self, vast: Emulator, folder: Path, seed: int) -> None:
        """Take the emulator and a folder for logs."""
        self.vast = vast
        self.folder = folder
        self.tally = Tally()
        self.draw = random.Random(seed)
        self.environment = {"VAST_URL": vast.url, "VAST_API_KEY": vast.api_key, "VASTBENCH_SPEED": str(SPEED)}
        self._logs = 0
        self._studies: list[tuple[str, Path]] = []
        with VastApi(vast.url, vast.api_key, clock=Clock(SPEED)) as api:
            self.foreign = [rent(api, label) for label in FOREIGN]

    def start(self, *arguments: str, store: str = "") -> tuple[multiprocessing.process.BaseProcess, Path]:
        """Start ``vastbench`` with these arguments; the process and its output. ``store``: where a study's runs are to be."""
        self._logs += 1
        log = self.folder / f"{self._logs}.log"
        if store:
            self._studies.append((store, log))
        child = Children.Process(target=command, args=(list(arguments), self.environment, str(log)))
        child.start()
        return child, log

    def study(self, store: str, name: str) -> tuple[multiprocessing.process.BaseProcess, Path]:
        """A study that never ends by itself; that of the name ``b`` races two machines for each run."""
        raced = ("--hedge", "2", "--stagger", "5") if name == "b" else ()
        words = ("--live", "--yes", "--budget", "100000", "--repeats", "100000", "--workers", "2", "--max-instances", "8")
        return self.start("study", "--name", name, "--store", store, *words, *raced, store=store)

    def kill_some(self, store: str, names: list[str]) -> float:
        """Start a study for each name, and kill each at a random moment; when the last one died."""
        began = time.monotonic()
        at = sorted((self.draw.uniform(0.3, WINDOW_S), self.study(store, name)) for name in names)
        for moment, (child, log) in at:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            if child.exitcode is not None:
                why = log.read_text()[-500:] if log.exists() else "it said nothing"
                if child.exitcode == RateLimited.exit_code and "too frequent" in why:
                    self.tally.refused += 1  # three studies start at once on one account
                else:
                    self.tally.failed_commands.append(f"study ended with {child.exitcode} before it was killed: {why}")
            child.kill()
            child.join()
            self.tally.kills += 1
        died = time.monotonic()
        self.tally.left_by_kills += len(self.ours(store))
        return died

    def run(self, *arguments: str, allowed: tuple[int, ...] = (0,)) -> None:
        """Run ``vastbench`` to its end, which should be one of the ``allowed`` exit codes."""
        child, log = self.start(*arguments)
        self.wait(child, log, allowed, arguments)

    def wait(
        self, child: multiprocessing.process.BaseProcess, log: Path, allowed: tuple[int, ...], words: tuple[str, ...]
    ) -> None:
        """Wait for a process that was started."""
        child.join(300)
        if child.exitcode not in allowed:
            child.kill()
            self.tally.failed_commands.append(f"{words[0]} ended with {child.exitcode}: {log.read_text()[-500:]}")

    def ours(self, store: str) -> list[int]:
        """The ids of living instances whose labels carry the mark of ``store``."""
        with Store(store) as opened:
            mark = opened.mark
        labels = self.labels()
        return [one for one in self.vast.alive if (found := read_label(labels.get(one))) and found.mark == mark]

    def leases(self, store: str) -> set[str]:
        """The labels of all leases in ``store``."""
        with Store(store) as opened:
            return {row.label for row in opened.leases()}

    def labels(self) -> dict[int, str]:
        """The label under which each instance was created, by the emulator's own account."""
        created = [event for event in list(self.vast.events) if event["event"] == "create_effective"]
        return {event["instance"]: event["label"] or "" for event in created}

    def ended_at(self) -> dict[int, float]:
        """When each instance was destroyed, on the monotonic clock."""
        events = [event for event in list(self.vast.events) if event["event"] == "destroy_effective"]
        return {event["instance"]: event["ns"] / 1e9 for event in events}

    def rounds(self, kills: int, reaped: str, abandoned: str) -> None:
        """Kill and clean up until ``kills`` processes were killed."""
        ways: list[Callable[[], None]] = [
            lambda: self._reaped(reaped, reapers=1),
            lambda: self._reaped(reaped, reapers=2),
            lambda: self._watched(reaped),
            lambda: self._restarted(reaped),
            lambda: self._abandoned(abandoned),
        ]
        while self.tally.kills < kills:
            # What is abandoned keeps the machine busy for a minute: less often than the others.
            self.draw.choices(ways, [2, 2, 2, 2, 1])[0]()
            self.check_foreign()
            self.check_store(reaped)
            if self.tally.kills % (10 * AT_ONCE) == 0:
                print(f"{self.tally.kills} of {kills} kills, {len(self.vast.alive)} alive", file=sys.stderr, flush=True)

    def _names(self) -> list[str]:
        # Two of one study, one of another: two processes of one study must not repeat or lose a run either.
        return ["a", "a", "b"]

    def _reaped(self, store: str, reapers: int) -> None:
        died = self.kill_some(store, self._names())
        orphans = self.ours(store)
        words = ("reap", "--live", "--yes", "--store", store)
        started = [self.start(*words) for _ in range(reapers)]
        for child, log in started:
            self.wait(child, log, (0,), words)
        self._count(store, orphans, died)

    def _watched(self, store: str) -> None:
        words = ("reap", "--live", "--yes", "--watch", "--every", "1", "--store", store)
        watching, log = self.start(*words)
        died = self.kill_some(store, self._names())
        orphans = self.ours(store)
        self._until(lambda: not self.ours(store), 60)
        os.kill(watching.pid or 0, signal.SIGTERM)
        self.wait(watching, log, (130,), words)
        self.run("reap", "--live", "--yes", "--store", store)
        self._count(store, orphans, died)

    def _restarted(self, store: str) -> None:
        """The next study closes by itself what the killed ones left, before it rents anything."""
        died = self.kill_some(store, self._names())
        orphans = self.ours(store)
        before = self.leases(store)
        child, log = self.study(store, "a")
        self._until(lambda: self.leases(store) > before, 90)
        os.kill(child.pid or 0, signal.SIGINT)
        self.wait(child, log, (130, 11), ("study",))
        self._count(store, orphans, died)

    def _abandoned(self, store: str) -> None:
        """Nobody comes back to this store: its instances must end by themselves, which is looked at in the end."""
        self.kill_some(store, self._names())

    def _count(self, store: str, orphans: list[int], died: float) -> None:
        alive = self.ours(store)
        labels = self.labels()
        self.tally.alive_after_reap += [labels[one] for one in alive]
        ended = self.ended_at()
        self.tally.gone_after_reap_s += [max(0.0, ended[one] - died) for one in orphans if one in ended]
        with Store(store) as opened:
            leases = {row.label: row for row in opened.leases()}
        self.tally.still_open += [row.label for row in leases.values() if row.state != "closed"]
        died_at = died + time.time() - time.monotonic()
        closed = [leases[labels[one]].closed_at for one in orphans if labels[one] in leases]
        self.tally.confirmed_s += [max(0.0, datetime.fromisoformat(at).timestamp() - died_at) for at in closed if at]

    def await_switches(self, store: str) -> None:
        """Wait until the deadlines of what was abandoned are over; then nothing of it may be alive."""
        with Store(store) as opened:
            leases = {row.label: row for row in opened.leases()}
        deadlines = [datetime.fromisoformat(row.deadline_at).timestamp() for row in leases.values()]
        until = max(deadlines, default=time.time()) + SWITCH_SLACK_S
        self._until(lambda: not self.ours(store), max(1.0, until - time.time()))
        alive = self.ours(store)
        labels, ended = self.labels(), self.ended_at()
        self.tally.alive_after_deadline += [labels[one] for one in alive]
        offset = time.time() - time.monotonic()
        for instance, label in labels.items():
            if label in leases and instance in ended and leases[label].state != "closed":
                deadline = datetime.fromisoformat(leases[label].deadline_at).timestamp()
                self.tally.beyond_deadline_s.append(ended[instance] + offset - deadline)
                opened_at = datetime.fromisoformat(leases[label].opened_at).timestamp()
                self.tally.gone_alone_s.append(ended[instance] + offset - opened_at)

    def check_foreign(self) -> None:
        """Somebody else's instances live, and were never asked to end."""
        ended = self.ended_at()
        self.tally.foreign_touched += [str(one) for one in self.foreign if one in ended or one not in self.vast.alive]

    def check_store(self, store: str) -> None:
        """The store is whole."""
        if "://" not in store:
            with sqlite3.connect(store) as connection:
                (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
            if verdict != "ok":
                self.tally.broken.append(verdict)

    def check_runs(self, store: str) -> None:
        """Every run of which a process said that it ended is in its store; a store whose runs cannot be read is broken."""
        logs = [log.read_text(errors="replace") for place, log in self._studies if place == store and log.exists()]
        said = {found[1] for log in logs for found in FINISHED.finditer(log)}
        with Store(store) as opened:
            opened.take_in_pending_runs()
            kept = {run.id for run in opened.runs()}
        self.tally.finished |= said
        self.tally.missing += sorted(said - kept)

    def _until(self, over: Callable[[], bool], limit_s: float) -> None:
        ends = time.monotonic() + limit_s
        while time.monotonic() < ends and not over():
            time.sleep(0.25)


FINISHED = re.compile(r"^(\d{8}T\d{6}-[0-9a-f]{6})  (?:passed|failed|censored)", re.MULTILINE)
"""The line with which a study says that a run has ended, which it does once the run is stored."""


def rent(api: VastApi, label: str) -> int:
    """An instance of somebody else."""
    wish = Conditions(max_usd_per_hour=5.0)
    offer = choose(api.search_offers(query(wish)).value, wish)
    return api.create_instance(offer.id, CreateRequest("ubuntu:22.04", 20.0, label)).value.new_contract


def server_restarts(campaign: Campaign, server: PostgresServer, store: str, rounds: int = 3) -> None:
    """A study goes on while its database is stopped and started: nothing is lost, nothing is left."""
    words = ("study", "--name", "restarts", "--store", store, "--live", "--yes", "--budget", "1000", "--repeats", "12")
    child, log = campaign.start(*words, store=store)
    for _ in range(rounds):
        time.sleep(campaign.draw.uniform(2.0, 5.0))
        server.stop()
        time.sleep(campaign.draw.uniform(0.5, 4.0))
        server.start()
    campaign.wait(child, log, (0, 11), words)
    campaign.run("study", "--name", "restarts", "--resume", "--store", store, "--live", "--yes", "--budget", "1000")
    with Store(store) as opened:
        study = opened.study("restarts")
    if len(study.made) != study.repeats or campaign.ours(store):
        campaign.tally.broken.append(f"restarts: {len(study.made)} of {study.repeats} runs, {campaign.ours(store)} alive")


def full_disk(campaign: Campaign, folder: Path) -> None:
    """A study on a disk that fills up ends by itself, leaves nothing alive, and goes on when there is room again."""
    with small_disk(folder) as disk:
        if disk is None:
            print("No file system could be mounted here: the full disk was not tried.", file=sys.stderr)
            return
        store = str(disk / "runs.sqlite")
        words = ("study", "--name", "full", "--store", store, "--live", "--yes", "--budget", "1000", "--repeats", "12")
        child, log = campaign.start(*words, store=store)
        time.sleep(4.0)
        ballast = disk / "ballast"
        fill(ballast)
        campaign.wait(child, log, (0, 3, 8), words)
        ballast.unlink()
        campaign.run("study", "--name", "full", "--resume", "--store", store, "--live", "--yes", "--budget", "1000")
        campaign.run("reap", "--live", "--yes", "--store", store)
        campaign.check_store(store)
        with Store(store) as opened:
            study, still = opened.study("full"), opened.leases(open_only=True)
        if len(study.made) != study.repeats or still or campaign.ours(store):
            campaign.tally.broken.append(f"full disk: {len(study.made)} of {study.repeats} runs, {len(still)} leases open")
        campaign.check_runs(store)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of two megabytes; None where none may be mounted."""
    import subprocess

    place = folder / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", place], capture_output=True, check=False)
    if mounted.returncode:
        yield None
        return
    try:
        yield place
    finally:
        # Lazily: a machine of the emulator may have the mount in its own namespace until it ends.
        subprocess.run(["umount", "--lazy", place], check=False)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def lane(kills: int, postgres: bool, seed: int) -> Tally:
    """One campaign; what it dies of is told at once, since the others go on for long."""
    try:
        return campaign_of(kills, postgres, seed)
    except BaseException:
        traceback.print_exc()
        raise


def campaign_of(kills: int, postgres: bool, seed: int) -> Tally:
    """An emulator, a store that is reaped, one that is abandoned, and a store that fails."""
    Children.set_forkserver_preload(["__main__", "vastbench.cli", "vastbench.bench.bench", "vastbench.ssh.session"])
    with ExitStack() as stack:
        place = tempfile.TemporaryDirectory(prefix="vastbench-chaos-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(place))
        folder.chmod(0o711)
        vast = stack.enter_context(Emulator(certain(folder), seed=seed, speed=SPEED))
        server = stack.enter_context(PostgresServer()) if postgres else None
        reaped, abandoned = (
            [server.url(server.new_database()) for _ in range(2)]
            if server
            else [str(folder / name) for name in ("reaped.sqlite", "abandoned.sqlite")]
        )
        for store in (reaped, abandoned):
            Store(store).close()
        campaign = Campaign(vast, folder, seed)
        campaign.rounds(kills, reaped, abandoned)
        campaign.run("reap", "--live", "--yes", "--store", reaped)
        campaign.await_switches(abandoned)
        if server:
            server_restarts(campaign, server, reaped)
        else:
            full_disk(campaign, folder)
        campaign.check_foreign()
        for store in (reaped, abandoned):
            campaign.check_store(store)
            campaign.check_runs(store)
        return campaign.tally


def main() -> None:
    """Make the campaigns and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--lanes", type=int, default=3, help="campaigns at once, each with emulator and stores of its own")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    hear_interrupts()
    began = time.monotonic()
    lanes = min(chosen.lanes, max(1, chosen.kills // AT_ONCE))
    each = -(-chosen.kills // lanes)
    with ProcessPoolExecutor(lanes, multiprocessing.get_context("spawn")) as pool:
        made = [pool.submit(lane, each, chosen.postgres, chosen.seed + number) for number in range(lanes)]
        tallies = [one.result() for one in made]
    whole = Tally()
    for tally in tallies:
        for one in fields(Tally):
            mine, theirs = getattr(whole, one.name), getattr(tally, one.name)
            setattr(whole, one.name, mine | theirs if isinstance(mine, set) else mine + theirs)
    tell(whole, time.monotonic() - began, "PostgreSQL" if chosen.postgres else "SQLite")


def tell(tally: Tally, took_s: float, kind: str) -> None:
    """Print the table and what went wrong; exits with 1 when anything did."""
    wrong = {
        "instances alive after reap": tally.alive_after_reap,
        "leases open after reap": tally.still_open,
        "instances alive after their deadline": tally.alive_after_deadline,
        "foreign instances touched": tally.foreign_touched,
        "finished runs missing": tally.missing,
        "stores that are not whole": tally.broken,
        "commands that failed": tally.failed_commands,
    }
    rows = [
        Row("processes killed", "kills", [tally.kills]),
        Row("of them ended before, by the account's call limits", "studies", [tally.refused]),
        Row("instances that they left", "instances", [tally.left_by_kills]),
        Row("runs that ended", "runs", [len(tally.finished)]),
        *(Row(what, "", [len(found)], 0) for what, found in wrong.items()),
        Row("from kill to destroyed, by a reaper", "s", tally.gone_after_reap_s),
        Row("from kill to confirmed gone, by a reaper", "s", tally.confirmed_s),
        Row("from lease to destroyed, by its switch", "s", tally.gone_alone_s),
        Row("beyond its deadline, by its switch", "s", tally.beyond_deadline_s),
        Row("wall time", "s", [took_s]),
    ]
    missed = show(f"{tally.kills} kills on {kind}, speed {SPEED:g}", rows, len(os.sched_getaffinity(0)))
    for what, found in wrong.items():
        for one in found[:10]:
            print(f"{what}: {one}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
