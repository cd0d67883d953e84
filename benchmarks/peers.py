"""The seed's own method and vastbench, in turn, on the replay of the seed's run: both trees, their times, their errors.

    .venv/bin/python benchmarks/peers.py            # five times each at speed 1, a quarter of an hour
    .venv/bin/python benchmarks/peers.py --quick    # once each at speed 10, under a minute; only shows the figures

The exit status is 1 when an aim is missed.
"""

import argparse
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from figures import Row, show
from pollers import ById, OpenSsh, destroy, wait_running, wait_ssh

from vastbench.bench.bench import Bench
from vastbench.clock import Clock
from vastbench.emulator.profile import Fixed, Profile, Sequence, load
from vastbench.record.conditions import Conditions
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, Phase, PhaseName
from vastbench.record.run import Run
from vastbench.scenarios.integration import CREATE_FILE, INTEGRATION, VERIFY_FILE

PERIOD_S = 10.0
DEADLINE_S = 600.0
COMMANDS = 4
"""What vastbench runs after the first command: for check GPU, create file, connect again and verify file."""


@dataclass(frozen=True)
class Made:
    """One run beside the truth; clock seconds. The errors are reading − truth."""

    run: Run
    to_file_s: float
    running_error_s: float
    ssh_error_s: float
    ready_s: float
    """From the moment that the create took effect to the moment that SSH was ready: the machine's own time."""


class SeedMethod:
    """What the published run did, over a marketplace's plain HTTP and the ``ssh`` program."""

    def __init__(self, url: str, api_key: str, ssh: OpenSsh, clock: Clock) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {api_key}"}, timeout=20)
        self._way = ById(url, api_key, PERIOD_S)
        self._ssh, self._clock = ssh, clock
        self._phases: list[Phase] = []
        # The account knows the script's key long before it runs.
        self._http.post("/api/v0/ssh/", json={"ssh_key": ssh.public_line}).raise_for_status()

    def run(self, number: int) -> Run:
        """One run, as a record like ours: each phase from its first request to the note that ended it."""
        self._phases = []
        started_at, began = datetime.now(UTC).isoformat(), self._clock.now()
        body = {"gpu_name": {"eq": "RTX 4090"}, "num_gpus": {"eq": 1}, "order": [["dph_total", "asc"]], "limit": 64}
        offers = self._call(PhaseName.SEARCH, "POST", "/api/v0/bundles/", body)["offers"]
        order = {"image": Conditions().image, "disk": 20, "runtype": "ssh_direct"}
        instance = self._call(PhaseName.CREATE, "PUT", f"/api/v0/asks/{offers[0]['id']}/", order)["new_contract"]

        created = self._clock.now()
        running, seen = wait_running(self._way, instance, self._clock, created=created, deadline_s=DEADLINE_S)
        self._note(PhaseName.WAIT_RUNNING, Moment.exact(created), running)
        assert seen is not None
        ready = wait_ssh(self._ssh, seen, self._clock, running, deadline_s=DEADLINE_S)
        self._note(PhaseName.WAIT_SSH, running, ready)
        self._commands(CREATE_FILE, seen, "mkdir -p /workspace", "echo test > /workspace/test.txt")
        self._commands(VERIFY_FILE, seen, "cat /workspace/test.txt")
        for command in ("nvidia-smi", "df -h"):  # the published run did not time these two
            self._ssh.run(seen, command)
        gone = destroy(self._way, instance, self._clock)
        self._note(PhaseName.DESTROY, Moment.exact(gone.lower), Moment.exact(gone.upper))
        total = self._clock.now() - began
        resources = {"instance_id": instance}
        phases = tuple(_from(phase, began) for phase in self._phases)
        run = Run(f"seed-method-{number}", "integration", Outcome.PASSED, started_at, "emulator", phases, origin=began)
        return replace(run, total_s=total, resources=resources)

    def _call(self, name: str, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        sent = self._clock.now()
        reply = self._http.request(method, path, json=body).raise_for_status()
        self._note(name, Moment.exact(sent), Moment.exact(self._clock.now()))
        answer: dict[str, Any] = reply.json()
        return answer

    def _commands(self, name: str, seen: dict[str, Any], *commands: str) -> None:
        begin = self._clock.now()
        for command in commands:
            done = self._ssh.run(seen, command)
            if done is None or done.returncode != 0:
                raise SystemExit(f"{command!r} failed on the emulated machine: {done.stderr if done else 'no answer'}")
        if name == VERIFY_FILE and done is not None and done.stdout.strip() != "test":
            raise SystemExit(f"The file holds {done.stdout!r}.")
        self._note(name, Moment.exact(begin), Moment.exact(self._clock.now()))

    def _note(self, name: str, start: Moment, end: Moment) -> None:
        self._phases.append(Phase(name, start, end))


def _from(phase: Phase, origin: float) -> Phase:
    def shifted(moment: Moment) -> Moment:
        return Moment.between(moment.lower - origin, moment.upper - origin, moment.source)

    return replace(phase, start=shifted(phase.start), end=shifted(phase.end))


def beside_truth(run: Run, events: list[dict[str, Any]]) -> Made:
    """The run's figures beside the truth log's first events of its instance."""
    truth: dict[str, float] = {}
    for event in events:
        if event["instance"] == run.resources["instance_id"]:
            truth.setdefault(event.get("status", event["event"]), event["s"])
    ends = {name: phase.end.upper for name in INTEGRATION.timeline if (phase := run.phase(name)) is not None}
    return Made(
        run,
        ends[VERIFY_FILE],
        run.origin + ends[PhaseName.WAIT_RUNNING] - truth["running"],
        run.origin + ends[PhaseName.WAIT_SSH] - truth["ssh_ready"],
        truth["ssh_ready"] - truth["create_effective"],
    )


def least_s(profile: Profile, made: Made) -> float:
    """What the emulator alone takes until a verified file: its drawn latencies and the machine's own time, one after another.

    Register key, search, create until it took effect, the machine's way to SSH, two logins, the first command and the others.
    """
    latency, ssh = profile.latency, profile.ssh
    share = ssh.login_share.value
    calls = drawn(latency.other, 1) + drawn(latency.search, 1) + drawn(latency.create, 1) * latency.effect.value
    return calls + made.ready_s + share * drawn(ssh.direct, 2) + (1 - share) * drawn(ssh.direct, 1 + COMMANDS)


def drawn(distribution: object, count: int) -> float:
    """The sum of the first ``count`` draws of a parameter that leaves nothing to chance."""
    if isinstance(distribution, Fixed):
        return count * distribution.value
    if isinstance(distribution, Sequence):
        return sum(distribution.values[min(place, len(distribution.values) - 1)] for place in range(count))
    raise SystemExit("The seed profile leaves nothing to chance here, but found a distribution.")


def measure(times: int, speed: float) -> tuple[list[Made], list[Made]]:
    """The seed's method and vastbench in turn, ``times`` each, on one emulator."""
    theirs: list[Made] = []
    ours: list[Made] = []
    with (
        tempfile.TemporaryDirectory(prefix="vastbench-benchmark-") as folder,
        Bench(profile="seed", speed=speed, store=Path(folder) / "runs.sqlite") as bench,
    ):
        ssh = OpenSsh(Path(folder), bench.clock)
        method = SeedMethod(bench.emulator.url, bench.emulator.api_key, ssh, bench.clock)
        for number in range(1, times + 1):
            print(f"{number} of {times} …", file=sys.stderr)
            theirs.append(beside_truth(method.run(number), bench.emulator.events))
            run = bench.run()
            if run.outcome is not Outcome.PASSED:
                raise SystemExit(f"vastbench's run did not pass: {run.detail}")
            ours.append(beside_truth(run, bench.emulator.events))
    return theirs, ours


def rows(theirs: list[Made], ours: list[Made], profile: Profile) -> list[Row]:
    """The table's rows; figures are seconds unless they say otherwise."""
    found = []
    for words, made in (("seed's method", theirs), ("vastbench", ours)):
        found += [
            Row(f"{words}: total", "s", [one.run.total_s or 0.0 for one in made]),
            Row(f"{words}: time to a verified file", "s", [one.to_file_s for one in made]),
            Row(f"{words}: running, read late by", "s", [one.running_error_s for one in made]),
            Row(f"{words}: SSH ready, read late by", "s", [one.ssh_error_s for one in made]),
        ]
    pairs = list(zip(theirs, ours, strict=True))
    return [
        *found,
        Row("the emulator's own latencies to a verified file", "s", [least_s(profile, one) for one in ours]),
        Row("the same, share of the seed's method", "of theirs", [least_s(profile, b) / a.to_file_s for a, b in pairs]),
        Row(
            "vastbench, share of the seed's method", "of theirs", [b.to_file_s / a.to_file_s for a, b in pairs], 0.85, "median"
        ),
        Row("vastbench, times the emulator's own", "×", [b.to_file_s / least_s(profile, b) for b in ours], 1.05, "median"),
    ]


def main() -> None:
    """Measure, print both trees and the table, say whether an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="how often each is run (default 5)")
    parser.add_argument("--quick", action="store_true", help="once each at speed 10: exits with 0 whatever the figures are")
    options = parser.parse_args()
    times, speed = (1, 10.0) if options.quick else (options.times, 1.0)
    theirs, ours = measure(times, speed)
    for made in (theirs, ours):
        middle = statistics.median_low(one.to_file_s for one in made)
        print(next(one.run for one in made if one.to_file_s == middle), end="\n\n")
    title = f"The seed's run by two methods, speed {speed:g}"
    missed = show(title, rows(theirs, ours, load("seed")), len(os.sched_getaffinity(0)))
    print(f"Missed: {'; '.join(missed)}." if missed else "All aims met.")
    sys.exit(1 if missed and not options.quick else 0)


if __name__ == "__main__":
    main()
