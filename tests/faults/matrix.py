"""One run through the real client on an emulator of its own under given faults, and what became of it and of its instances.

The referee is the emulator itself: what is alive is read from it, not from the API that is being spoilt.
"""

import contextlib
import random
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults.evidence import Logs, found_in, left_by, planting
from tests.faults.expected import causes_of, most_attempts_of
from tests.profiles import certain
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.emulator.faults import FAULTS
from vastbench.errors import ApiError, Interrupted, VastbenchError
from vastbench.owner import owner
from vastbench.record.conditions import Conditions
from vastbench.record.lease import CONFIRM_DEADLINE_S
from vastbench.record.run import Run
from vastbench.rental.lease import Account
from vastbench.rental.provisioner import Provisioner
from vastbench.rental.reap import reap
from vastbench.scenarios.drill import Drill, run_scenario
from vastbench.scenarios.integration import INTEGRATION
from vastbench.store import Store
from vastbench.vast.api import VastApi
from vastbench.vast.watch import Watch

Case = tuple[Mapping[str, float], int]
"""Faults with their probabilities, and a seed."""

SPEED = 60
CONDITIONS = Conditions(ssh_deadline_s=360)

LONGEST_S = CONDITIONS.lifetime_s(INTEGRATION.work_s) + CONFIRM_DEADLINE_S
"""Clock seconds after which a run must have ended, whatever goes wrong: its lease's lifetime, and closing it."""

HUNG_S = 2 * LONGEST_S
"""Clock seconds after which the referee waits no longer."""

REAPS = 4
"""How often what a run left open is closed; each time may meet a fault again."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one run.

    ``leases``: state and verdict of each right after the run. ``alive``: how many instances lived then. ``leaked``: instances
    that live, and leases that are open, after reaping. ``late``: it outlasted :data:`LONGEST_S`. ``unclassified``: an
    exception outside ``errors.py``, in words. ``canaries``: where planted keys were found.
    """

    faults: tuple[str, ...]
    seed: int
    outcome: str
    cause: str
    detail: str
    attempts: int
    leases: tuple[str, ...]
    alive: int
    leaked: tuple[str, ...]
    late: bool
    unclassified: str
    canaries: tuple[str, ...]
    took_s: float
    isolation: str

    @property
    def name(self) -> str:
        """Which run it was."""
        return f"{' + '.join(self.faults)}, seed {self.seed}"

    @property
    def ended(self) -> str:
        """How the run ended, in a word or two."""
        return self.cause or self.outcome


def make(faults: Mapping[str, float], seed: int, logs: Logs) -> Result:
    """One run under ``faults``; whatever is still open after it is reaped, as that of a process that has ended."""
    clock = Clock(SPEED)
    with (
        tempfile.TemporaryDirectory(prefix="vastbench-faults-") as place,
        Emulator(certain(Path(place)), seed=seed, speed=SPEED, faults=faults) as vast,
        Store(Path(place) / "runs.sqlite") as store,
        VastApi(vast.url, vast.api_key, clock=clock) as api,
    ):
        watch = Watch(api, clock)
        try:
            provisioner = Provisioner(Account(api, watch, store, clock), owner=owner() | {"process_start": "0"})
            began = clock.now()
            run, error = _within(HUNG_S / SPEED, lambda: _run(provisioner))
            took = clock.now() - began
            leases = tuple(f"{row.state}: {row.verdict}" for row in store.leases())
            alive, isolation = len(vast.alive), vast.isolation
            for _ in range(REAPS):
                if vast.alive or store.leases(open_only=True):
                    _reaped(api, watch, store, clock)
            leaked = [f"instance {one}" for one in vast.alive]
            leaked += [f"lease {row.label}: {row.verdict}" for row in store.leases(open_only=True)]
            if run is not None:
                store.save_run(run)
            canaries = found_in(left_by(run, error) | logs.taken(), Path(place))
        finally:
            watch.close()
    return Result(
        faults=tuple(sorted(faults)),
        seed=seed,
        outcome="hung" if run is None else str(run.outcome),
        cause="" if run is None else run.cause,
        detail="" if run is None else run.detail,
        attempts=0 if run is None else len(run.attempts),
        leases=leases,
        alive=alive,
        leaked=tuple(leaked),
        late=run is None or took > LONGEST_S,
        unclassified=_unclassified(run, error),
        canaries=canaries,
        took_s=took,
        isolation=isolation,
    )


def _run(provisioner: Provisioner) -> tuple[Run, BaseException | None]:
    return run_scenario(Drill(INTEGRATION, provisioner, CONDITIONS, "run-1"), source="emulator")


def _within(limit_s: float, work: Callable[[], tuple[Run, BaseException | None]]) -> tuple[Run | None, BaseException | None]:
    """What ``work`` gives within so many real seconds; (None, None) when it hangs, and the error when it raises."""
    done: list[tuple[Run | None, BaseException | None]] = []

    def carry() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 (the referee names whatever comes)
            done.append((None, error))

    thread = threading.Thread(target=carry, daemon=True)
    thread.start()
    thread.join(limit_s)
    return done[0] if done else (None, None)


def _unclassified(run: Run | None, error: BaseException | None) -> str:
    if error is not None and (not isinstance(error, VastbenchError | Interrupted) or error.cause == "internal"):
        return f"{type(error).__name__}: {error}"
    return f"cause internal: {run.detail}" if run is not None and run.cause == "internal" else ""


def _reaped(api: VastApi, watch: Watch, store: Store, clock: Clock) -> None:
    """Reap once; a list that cannot be read closes nothing."""
    with contextlib.suppress(ApiError):
        reap(api, watch, store, clock)


def random_pairs(count: int, seed: int) -> list[Case]:
    """``count`` cases of two faults each, drawn from ``seed``."""
    draw = random.Random(seed)
    pairs = [draw.sample(list(FAULTS), 2) for _ in range(count)]
    return [({name: FAULTS[name].usual for name in pair}, number) for number, pair in enumerate(pairs)]


def make_all(cases: Iterable[Case], at_once: int) -> list[Result]:
    """The results of many cases, ``at_once`` of them at a time: they mostly wait."""
    with planting() as logs, ThreadPoolExecutor(at_once) as pool:
        results = [future.result() for future in as_completed([pool.submit(make, *case, logs) for case in cases])]
        # What was logged while the last emulator closed.
        return [*results[:-1], replace(results[-1], canaries=(*results[-1].canaries, *found_in(logs.taken())))]


def wrong(result: Result) -> list[str]:
    """What is wrong with a result: leaks, lateness, unclassified errors, canaries, an end that its faults do not explain."""
    allowed, most_attempts = causes_of(result.faults, result.isolation), most_attempts_of(result.faults)
    complaints = [f"leaked {one}" for one in result.leaked]
    complaints += [f"took {result.took_s:.0f} s"] * result.late
    complaints += [f"unclassified {result.unclassified}"] * bool(result.unclassified)
    complaints += [f"canary: {one}" for one in result.canaries]
    if result.ended not in allowed:
        complaints.append(f"ended with {result.ended} ({result.detail}); its faults explain {', '.join(sorted(allowed))}")
    if result.attempts > most_attempts:
        complaints.append(f"{result.attempts} attempts instead of {most_attempts} at most")
    return [f"{result.name}: {one}" for one in complaints]
