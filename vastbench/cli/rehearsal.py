"""A planned live run, rehearsed: made on the emulator under each thing that a first live run may meet, free of charge.

Every rehearsal is the very command that the user would type, ``vastbench run --live …``, in a process of its own, with a store
that is thrown away and an emulator of its own as its marketplace.
"""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.emulator.faults import FAULTS
from vastbench.errors import ApiError, Interrupted, LeaseNotClosed, NoOffer, NotFound, exit_code_of
from vastbench.interrupts import as_they_end, shield
from vastbench.record.conditions import IMAGE, Conditions
from vastbench.record.lease import CONFIRM_DEADLINE_S, LeaseRow
from vastbench.record.run import Run
from vastbench.rental.budget import worst_usd
from vastbench.rental.offers import choose, find
from vastbench.scenarios.drill import Scenario
from vastbench.settings import environment_for_child
from vastbench.store import Store
from vastbench.vast.api import VastApi
from vastbench.vast.models import Offer

PROFILE = "rehearsal"
SPEED = 30.0
"""Emulated seconds per real one: two cores keep up with :data:`AT_ONCE` runs, and a boot's deadline takes twenty seconds."""

AT_ONCE = 6
SEED, SEEDS = 1, 6
"""The first emulator's seed, and how many are tried until a fault that comes by chance has come."""

SPEAKER = "vastbench: "
"""How a command begins what it says on standard error."""

START_S = 60.0
"""Real seconds that a command may take beside its run: to be started, and to look whether anything is left."""

INSTEAD: dict[str, object] = {
    "max_usd_per_hour": 128.0,
    "gpu_name": None,
    "num_gpus": 1,
    "min_reliability": 0.0,
    "disk_gb": 20.0,
    "image": IMAGE,
}
"""What is asked of the emulator's market in place of a wish that it cannot meet: what it certainly has."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The live run that is planned. ``shapes``: what a probe of the user's account saved; None for the emulator's own."""

    scenario: Scenario
    conditions: Conditions = field(default_factory=Conditions)
    budget_usd: float | None = None
    shapes: Path | None = None

    @property
    def worst_usd(self) -> float:
        """What the run costs at most: every deadline is reached, at the highest price allowed."""
        return self.scenario.worst_case_usd(self.conditions, self.conditions.max_usd_per_hour)

    def command(self) -> list[str]:
        """The command that makes the run, without the program: what a user would type after ``vastbench``.

        A budget that is not given is one that suffices.
        """
        asked = [
            f"{one.metadata['option']}={'any' if value is None else value}"
            for one in fields(Conditions)
            if (value := getattr(self.conditions, one.name)) != one.default
        ]
        budget = math.ceil(self.worst_usd * 1e4) / 1e4 if self.budget_usd is None else self.budget_usd
        return ["run", self.scenario.name, "--live", "--yes", f"--budget={budget!r}", *asked]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """How one rehearsed run ended.

    ``fault``: its name, empty for the run without any; ``struck``: whether it came. ``exit_code``: of the command, None when it
    had to be ended; ``said``: why it did not pass, in its own words; ``notes``: what it warned of. ``creates``: how many were
    sent. ``left``: what it left, empty for nothing. ``took_s``: clock seconds. ``worst_usd``: the whole price for as long as
    its leases were open; of one that is still open, until its last deadline.
    """

    fault: str
    about: str
    struck: bool
    exit_code: int | None
    said: str
    notes: tuple[str, ...]
    creates: int
    left: tuple[str, ...]
    took_s: float | None
    worst_usd: float

    @property
    def wrong(self) -> bool:
        """Whether the run ended as no run should, whatever goes wrong: that is a mistake of ours."""
        unsaid = bool(self.left) and self.exit_code != LeaseNotClosed.exit_code
        return unsaid or self.exit_code is None or self.exit_code == 1


def fitted(plan: Plan) -> tuple[Plan, dict[str, object]]:
    """A plan that the emulator's market can meet, and what was put in place of the plan's conditions, by their names.

    That market is not the live one: what it lacks may well be there. Where something was replaced, the budget is one that
    suffices.
    """
    with (
        Emulator(PROFILE, seed=SEED, speed=SPEED, shapes=plan.shapes) as vast,
        VastApi(vast.url, vast.api_key, clock=Clock(SPEED)) as api,
    ):
        wanted = [name for name, other in INSTEAD.items() if getattr(plan.conditions, name) != other]
        for count in (0, 1, 2, len(wanted)):
            for names in itertools.combinations(wanted, count):
                conditions = replace(plan.conditions, **{name: INSTEAD[name] for name in names})  # type: ignore[arg-type]
                try:
                    offer = find(lambda query: api.search_offers(query).value, conditions, _cheapest(conditions))
                except NoOffer:
                    continue
                except ApiError:  # a key that may not search: the run will say so
                    return plan, {}
                if "max_usd_per_hour" in names:
                    price = round(1.1 * offer.usd_per_hour(conditions.disk_gb), 2)
                    conditions = replace(conditions, max_usd_per_hour=price)
                put = {name: getattr(conditions, name) for name in names}
                return replace(plan, conditions=conditions, budget_usd=None if put else plan.budget_usd), put
    return plan, {}


def rehearse(plan: Plan, chosen: Mapping[str, float], done: Callable[[Rehearsal], None]) -> list[Rehearsal]:
    """The plan's run under each of the ``chosen`` faults (names and probabilities), in that order; ``done`` hears of each.

    On an interruption the commands under way are ended and nothing is left: their instances are emulated.
    """
    stage = _Stage()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = [pool.submit(_rehearsed, plan, fault, probability, stage) for fault, probability in chosen.items()]
        try:
            for future in as_they_end(made):
                done(future.result())
        except BaseException:
            with shield():
                stage.end()
                pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in made]


class _Stage:
    """The commands under way, so that they can be ended together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: set[subprocess.Popen[str]] = set()
        self._over = False

    def run(self, words: list[str], environment: dict[str, str], folder: Path, limit_s: float) -> tuple[int | None, str]:
        """Exit code and standard error of ``vastbench WORDS``; None for one that had to be ended after ``limit_s`` seconds."""
        with self._lock:
            if self._over:
                raise Interrupted("The rehearsal was stopped.")
            command = subprocess.Popen(
                [sys.executable, "-P", "-c", "from vastbench.cli import main; main()", *words],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C in a terminal is for the rehearsal, which ends its commands itself
            )
            self._under_way.add(command)
        try:
            _, said = command.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            command.kill()
            return None, command.communicate()[1]
        finally:
            with self._lock:
                self._under_way.discard(command)
        return command.returncode, said

    def end(self) -> None:
        """End all commands under way, and begin no more."""
        with self._lock:
            self._over = True
            for command in self._under_way:
                command.kill()


def _rehearsed(plan: Plan, fault: str, probability: float, stage: _Stage) -> Rehearsal:
    """One run under that fault; one that comes by chance and has not come is tried under other seeds."""
    seeds = SEEDS if fault and 0 < probability < 1 else 1
    for seed in range(SEED, SEED + seeds):
        made = _made(plan, fault, probability, seed, stage)
        if made.struck:
            break
    return made


def _made(plan: Plan, fault: str, probability: float, seed: int, stage: _Stage) -> Rehearsal:
    faults = {fault: probability} if fault else {}
    limit_s = (plan.scenario.lifetime_s(plan.conditions) + 2 * CONFIRM_DEADLINE_S) / SPEED + START_S
    with (
        tempfile.TemporaryDirectory(prefix="vastbench-rehearsal-", ignore_cleanup_errors=True) as place,
        Emulator(PROFILE, seed=seed, speed=SPEED, faults=faults, shapes=plan.shapes) as vast,
    ):
        ours = {"VAST_URL": vast.url, "VAST_API_KEY": vast.api_key, "VASTBENCH_SPEED": f"{SPEED:g}"}
        store = Path(place) / "runs.sqlite"
        words = [*plan.command(), f"--store={store}"]
        exit_code, stderr = stage.run(words, environment_for_child() | ours, Path(place), limit_s)
        run, leases = _stored(store)
        left = [f"instance {one} lives" for one in vast.alive]
        left += ["a lease is open" for row in leases if row.state != "closed"]
        struck = fault in vast.struck
    said, notes = _words(stderr, run, exit_code)
    return Rehearsal(
        fault=fault,
        about=FAULTS[fault].about if fault else "nothing goes wrong",
        struck=struck,
        exit_code=exit_code,
        said=said,
        notes=notes,
        creates=len(run.attempts) if run else 0,
        left=tuple(left),
        took_s=run.total_s if run else None,
        worst_usd=worst_usd(leases, speed=SPEED),
    )


def _stored(place: Path) -> tuple[Run | None, list[LeaseRow]]:
    """What a command stored: its run, if it came so far, and its leases."""
    try:
        with Store.existing(place) as store:
            return next(iter(store.runs()), None), store.leases()
    except NotFound:
        return None, []


def _words(stderr: str, run: Run | None, exit_code: int | None) -> tuple[str, tuple[str, ...]]:
    """Why the run did not pass, and what else the command warned of, from its record and its standard error."""
    lines = stderr.splitlines()
    error = ""
    if exit_code and len(lines) > 1 and lines[-1].startswith("  ") and lines[-2].startswith(SPEAKER):
        error = f"{lines[-2].removeprefix(SPEAKER)} {lines[-1].strip()}"
        lines = lines[:-2]
    elif exit_code and lines and lines[-1].startswith(SPEAKER):
        error, lines = lines[-1].removeprefix(SPEAKER), lines[:-1]
    notes = tuple(dict.fromkeys(line.removeprefix(SPEAKER) for line in lines if line.startswith(SPEAKER)))
    if exit_code is None:
        return "It did not end, and was ended.", notes
    if run is None or not run.cause:
        return error, notes
    return run.detail if exit_code == exit_code_of(run.cause) else f"{run.detail} {error}".strip(), notes


def _cheapest(conditions: Conditions) -> Callable[[Sequence[Offer]], Offer]:
    return lambda offers: choose(offers, conditions)
