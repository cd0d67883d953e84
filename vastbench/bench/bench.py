"""A bench: everything that a run needs, opened together and closed together.

On the emulator (the default) a bench starts its own marketplace; live it talks to the one at ``VAST_URL`` and insists on a
budget.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path

from vastbench.bench.launches import launch_seed, record_killed_runs, spent_at_most_usd
from vastbench.clock import EMULATED_SPEED, Clock
from vastbench.errors import BudgetRefused, Interrupted, LeaseNotClosed, SettingsError, StoreError, UsageError, interruption_in
from vastbench.interrupts import STOPPING, raising, shield
from vastbench.owner import Heartbeat, has_ended, owner
from vastbench.record.conditions import Conditions
from vastbench.record.cost import at_most_usd
from vastbench.record.design import Design
from vastbench.record.lease import LeaseRow
from vastbench.record.recorder import Listener
from vastbench.record.run import Run
from vastbench.record.stopping import StoppingRule
from vastbench.record.study import Study, check_plan
from vastbench.rental.budget import Budget, worst_usd
from vastbench.rental.charges import Asked, ask_charges
from vastbench.rental.lease import Account, close_or_tell
from vastbench.rental.losing import losing
from vastbench.rental.provisioner import Provisioner
from vastbench.rental.reap import Finding, account_of, close_after_dead_emulators, last_sweep, reap
from vastbench.scenarios import find_scenario
from vastbench.scenarios.drill import Drill, Scenario, run_scenario
from vastbench.settings import Settings, default_store, is_loopback
from vastbench.store import Store
from vastbench.store.database import check_file, check_lasting, url_of
from vastbench.vast.api import VastApi
from vastbench.vast.call import checked_key, checked_url
from vastbench.vast.watch import Watch
from vastbench.webhooks import Notifier

log = logging.getLogger(__name__)


class Bench:
    """One marketplace, one store, one clock, and the runs made with them. Use it in a with-block.

    Parameters
    ----------
    live
        Rent on the marketplace at VAST_URL, spending money; by default on an emulator that ends with the bench.
    budget_usd
        What all runs of this bench together may cost at their worst, in USD, beside what open leases of others may; live it is
        required.
    profile
        The emulator's behaviour: a name in data/profiles or a TOML file.
    seed
        The same one repeats the same emulated draws. Of a ``study`` it is the seed of its first launch
        (:func:`~vastbench.bench.launches.launch_seed` has those of the others).
    speed
        Emulated seconds per real second.
    store
        Where runs and leases are kept: a file or a database URL; by default VASTBENCH_STORE or the data directory.
    api_key_file
        A file that holds the API key; by default the environment has it.
    truth
        A file for the emulator's log of the truth.
    study
        The study that this bench makes runs of (:func:`vastbench.run_study`), or the design of several
        (:func:`vastbench.run_design`): then the budget covers what earlier launches spent, too, and the runs that a killed one
        left are stored as killed.
    max_instances
        How many instances may exist at once, those of other processes with the same store included.

    Raises
    ------
    BudgetRefused
        Live without a budget, or what a run can cost does not fit into it.
    SettingsError
        A setting, file or profile that is missing or malformed.
    StoreError
        The store cannot be opened.

    Examples
    --------
    >>> with vastbench.Bench(profile="cached", seed=1, speed=20, store="runs.sqlite") as bench:
    ...     bench.run(vastbench.Conditions(gpu_name="RTX 4090"))
    <Run ...>
    """

    def __init__(
        self,
        *,
        live: bool = False,
        budget_usd: float | None = None,
        profile: str | Path = "default",
        seed: int | None = None,
        speed: float = EMULATED_SPEED,
        store: str | Path | None = None,
        api_key_file: Path | None = None,
        truth: Path | None = None,
        study: str | Design = "",
        max_instances: int | None = None,
    ) -> None:
        """Take the settings; nothing is started before the with-block is entered.

        Raises BudgetRefused for a live bench without a budget and for one that is not positive, NotFound for a profile that is
        not there, SettingsError for other unusable settings, StoreError for a place that no store can have, UsageError for a
        study's name or a number that is invalid.
        """
        from vastbench.emulator.profile import load

        if isinstance(study, str) and study:
            check_plan(study)
        if max_instances is not None and not (isinstance(max_instances, int) and max_instances >= 1):
            raise UsageError(f"At most {max_instances!r} instances are allowed at once.", hint="Give 1 or more.")
        if seed is not None and not isinstance(seed, int):
            raise UsageError(f"The seed is {seed!r}.", hint="Give a whole number.")
        if live if budget_usd is None else not (isinstance(budget_usd, (int, float)) and 0 < budget_usd < float("inf")):
            raise BudgetRefused(
                "A live run needs a budget." if budget_usd is None else f"The budget is {budget_usd!r}, no amount to spend.",
                hint="Say how much it may cost in USD: --budget 0.50.",
            )
        self.live = live
        self.budget_usd = budget_usd
        self.profile = profile
        self.seed = seed
        self._design = study if isinstance(study, Design) else None
        self.studies = study.studies if isinstance(study, Design) else (study,) if study else ()
        self.max_instances = max_instances
        self.settings = Settings.from_environment(api_key_file=api_key_file)
        self.clock = Clock(self.settings.vastbench_speed if live else speed)
        self._place = store or default_store()
        check_file(url_of(self._place))
        if live:
            check_lasting(url_of(self._place))
            checked_url(self.settings.vast_url)
            checked_key(self.settings.require_key())
        else:
            load(profile)
        if truth is not None and not Path(truth).absolute().parent.is_dir():
            raise SettingsError(f"There is no folder for the truth log {truth}.", hint="Make it, or name another file.")
        self._truth = None if truth is None else Path(truth)
        self._stack = ExitStack()
        self._idle = threading.Condition()
        self._under_way: set[int] = set()
        self._closing = True
        self._leaked = ""
        self._unread: StoreError | None = None
        self._made: set[str] = set()
        self.store: Store
        self.notifier: Notifier
        self.api: VastApi

    def __enter__(self) -> Bench:
        """Open the store and the marketplace, starting an emulator unless the bench is live."""
        with ExitStack() as stack:
            # A kernel, or a program of the user's, dies of these without unwinding: then nobody would close the lease.
            deadly = [number for number in STOPPING if signal.getsignal(number) is signal.SIG_DFL]
            stack.enter_context(raising(Interrupted("Stopped by a signal."), *deadly, first=self._rent_nothing_more))
            self.store = stack.enter_context(Store(self._place))
            self.notifier = stack.enter_context(Notifier(self.store))
            self.clock.stopping.clear()
            self._owner = owner(emulator=not self.live)
            mine = str(self._owner["id"])
            stack.enter_context(Heartbeat(lambda: self.store.beat(mine), lambda: self.store.retire(mine)))
            close_after_dead_emulators(self.store)
            self.store.take_in_pending_runs()
            if self.live:
                key = self.settings.require_key()
                self.api = stack.enter_context(VastApi(self.settings.vast_url, key, clock=self.clock))
                self._owner["account"] = account_of(self.api)
                self._tell_what_is_left_over()
            else:
                from vastbench.emulator import Emulator

                self._seed = self._seed_of_this_launch()
                emulator = Emulator(self.profile, seed=self._seed, speed=self.clock.speed, truth=self._truth)
                stack.enter_context(emulator)
                self.emulator = emulator
                self.api = stack.enter_context(VastApi(emulator.url, emulator.api_key, clock=self.clock))
            self._watch = Watch(self.api, self.clock)
            stack.callback(self._watch.close)
            budget = self._account_for_earlier_launches()
            account = Account(self.api, self._watch, self.store, self.clock)
            self._provisioner = Provisioner(account, budget=budget, max_instances=self.max_instances, owner=self._owner)
            self._stack = stack.pop_all()
        self._closing = False
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        """Stop the runs under way in other threads, close what is still held, and stop what was started.

        Raises LeaseNotClosed when an instance cannot be shown to be gone, after having tried all: when a lease of a live bench
        is still open, and when another error would hide that a run could not show it. A process forked from the one that
        entered leaves everything as it is.
        """
        if not self._provisioner.account.ours:
            return
        self._closing = True
        ended = error
        try:
            with shield(), ExitStack() as stack:
                stack.callback(self._stack.close)
                stack.callback(self._name_what_is_open)
                stack.callback(self._remember, self._provisioner.account.look_again)
                self.stop()
                mine = {threading.get_ident()}  # this thread is leaving: a run of its own is over, however it ended
                with self._idle:
                    self._idle.wait_for(lambda: not self._under_way - mine)
                for lease in list(self._provisioner.account.held):
                    stack.callback(self._remember, partial(close_or_tell, lease))
        except BaseException as failed:  # noqa: BLE001 (raised below, unless there is graver news)
            ended = failed
        if self._leaked and (self.live or ended is not None) and not isinstance(ended, LeaseNotClosed):
            raise LeaseNotClosed(self._leaked, hint="`vastbench reap --live` checks again, and closes it.") from ended
        if ended is not None and ended is not error:
            raise ended
        if self._unread and error is None:
            raise self._unread

    def _remember(self, close: Callable[[], object]) -> None:
        """Close something, and remember what may be left: whatever fails after it must not hide that."""
        try:
            close()
        except LeaseNotClosed as error:
            self._leaked = error.message
            raise

    def _name_what_is_open(self) -> None:
        mine = self._owner["id"]
        try:
            opened = self.store.leases(open_only=True)
        except StoreError as unread:  # the error of a run says more: where the run is kept
            self._unread = unread
            return
        left = [
            row.label if row.instance_id is None else f"{row.label} (instance {row.instance_id})"
            for row in opened
            if row.owner.get("id") == mine
        ]
        if self.live and left and not self._leaked:
            self._leaked = f"Instances may exist and bill under {', '.join(left)}: their leases could not be closed."

    @property
    def source(self) -> str:
        """What the runs of this bench are: ``live`` or ``emulator``.

        What answers on this machine is an emulator started by hand: nothing is spent there, and no report may call it live.
        """
        return "live" if self.live and not is_loopback(self.api.url) else "emulator"

    @property
    def spent_usd(self) -> float:
        """What of the budget is gone at most: for the runs of this bench and the others of its study, and for open leases of
        others; 0 without a budget."""
        return self._provisioner.budget.taken_usd if self._provisioner.budget else 0.0

    def stop(self) -> None:
        """Rent nothing more, and end the runs under way early; each destroys its instance and is stored as interrupted."""
        self._closing = True
        self.clock.stopping.set()
        self._watch.close()

    def open_study(
        self,
        repeats: int,
        conditions: Conditions | None = None,
        *,
        scenario: str | None = None,
        stopping: StoppingRule | None = None,
    ) -> Study:
        """Write this bench's study down, or go on with the one that is there; its runs are made by ``run_study``.

        ``repeats`` are the most that it makes, if it is ``stopping`` on a rule. The rule may change from launch to launch:
        its interval holds whenever the study stops.

        Raises UsageError when the bench has no study, for an unfit number of repeats, and when the study was begun under
        other conditions or of another scenario; NotFound for an unknown scenario.
        """
        if len(self.studies) != 1:
            other = "for several studies" if self.studies else "without a study"
            raise UsageError(f"The bench was opened {other}.", hint='Give it one: Bench(study="NAME").')
        return self._open_study(self.studies[0], repeats, conditions, scenario, stopping)

    @property
    def design(self) -> Design:
        """The design whose runs this bench makes. Raises UsageError when it was opened without one."""
        if self._design is None:
            raise UsageError("The bench was opened without a design.", hint="Give it one: Bench(study=read_design(FILE)).")
        return self._design

    def open_design(self) -> tuple[Study, ...]:
        """Write down the studies of this bench's design, or go on with those that are there; ``run_design`` makes their runs.

        Raises what :meth:`open_study` does.
        """
        made, rule = self.design, self.design.stopping
        return tuple(
            self._open_study(made.study(one), made.repeats, one.conditions, one.scenario, rule) for one in made.conditions
        )

    def _open_study(
        self, name: str, repeats: int, conditions: Conditions | None, scenario: str | None, stopping: StoppingRule | None
    ) -> Study:
        drill = find_scenario(scenario)
        if stopping:
            drill.check_quantity(stopping.quantity)
        asked = drill.settled(conditions or Conditions(), live=self.source == "live").to_dict()
        known = {"profile": None} if self.live else self._profile_conditions
        return self.store.open_study(
            name,
            scenario=drill.name,
            repeats=repeats,
            conditions=asked | {"source": self.source} | known,
            stopping=stopping,
        )

    def run_next(self, study: Study, listener: Listener | None = None) -> Run | None:
        """Announce and make the next run of ``study``, one of this bench's; None when no repeat is missing.

        Otherwise like :meth:`run`.
        """
        if study.name not in self.studies:
            mine = ", ".join(self.studies) or "no study"
            raise UsageError(f"The bench makes runs of {mine}, not of {study.name!r}.", hint="Open it for that study.")
        conditions = Conditions.of(study.conditions)
        with self._under_way_here():
            run_id = new_run_id()
            if not self.store.announce_run(study.name, run_id, self._provisioner.owner):
                return None
            return self._run(find_scenario(study.scenario), run_id, conditions, listener, study.name)

    def run(
        self, conditions: Conditions | None = None, listener: Listener | None = None, *, scenario: str | None = None
    ) -> Run:
        """Make one run of ``scenario`` and store it. May be called from many threads at once.

        ``listener`` hears of every phase (see :class:`~vastbench.record.recorder.Recorder`). A run that fails is returned, not
        raised; an interruption is stored and then raised again. Raises LeaseNotClosed, and rents nothing, once a run of this
        bench could not show that its instance is gone; Interrupted, and rents nothing, once the bench is being closed;
        NotFound for an unknown scenario; UsageError for an option that it does not know.
        """
        drill = find_scenario(scenario)
        settled = drill.settled(conditions or Conditions(), live=self.source == "live")
        with self._under_way_here():
            return self._run(drill, new_run_id(), settled, listener)

    @contextmanager
    def _under_way_here(self) -> Iterator[None]:
        if not self._closing and not self._provisioner.account.ours:
            raise UsageError("The bench was opened by another process.", hint="Open one in each process that makes runs.")
        with self._idle:
            if self._leaked:
                raise LeaseNotClosed(f"Nothing more is rented: {self._leaked}", hint="Destroy that instance by hand first.")
            if self._closing:
                raise Interrupted("Nothing more is rented: the bench is not open.", hint="Use it inside its with-block.")
            self._under_way.add(threading.get_ident())
        try:
            yield
        finally:
            with self._idle:
                self._under_way.discard(threading.get_ident())
                self._idle.notify_all()

    def _run(self, scenario: Scenario, run_id: str, conditions: Conditions, listener: Listener | None, study: str = "") -> Run:
        self._made.add(run_id)
        drill = Drill(scenario, self._provisioner, conditions, run_id, listener, self._losing)
        run, error = run_scenario(drill, source=self.source)
        if not self._provisioner.account.ours:  # something in the scenario has forked: the run is the other process's
            raise error or Interrupted("The run goes on in the process that this one was forked from.")
        with shield():  # what was measured must reach the store
            known = {**run.conditions, **self._conditions()}
            run = replace(run, study=study, conditions=known, instrument={**run.instrument, **self._instrument()})
            if self._provisioner.budget is not None:
                self._provisioner.budget.settle(
                    run_id, None if isinstance(error, LeaseNotClosed) else drill.at_most_usd(run.total_s)
                )
            if isinstance(error, LeaseNotClosed):
                self._leaked = error.message
            if error is not None:
                log.info("run %s ended with:", run_id, exc_info=error)
            self.store.save_run_or_keep(run)
            self.notifier.run_ended(run)
            if self._provisioner.budget is not None:
                self.notifier.spent(self._provisioner.budget.limit_usd, self.spent_usd, run)
        if stopped := interruption_in(error):
            raise stopped
        return run

    @contextmanager
    def _losing(self, instance_id: int, within_s: tuple[float, float]) -> Iterator[Callable[[], bool]]:
        """Lose an instance: the emulator does, or live another process (see :data:`vastbench.scenarios.drill.Losing`)."""
        if self.live:
            with losing(self.api, self.settings.require_key(), instance_id, within_s) as happened:
                yield happened
        else:
            self.emulator.lose(instance_id, within_s)
            yield lambda: self.emulator.has_lost(instance_id)

    def _rent_nothing_more(self) -> None:
        self._closing = True

    def _seed_of_this_launch(self) -> int | None:
        from vastbench.emulator.profile import load

        number = self.store.begin_launch(*self.studies) if self.studies else 0
        seed = load(self.profile).seed if self.seed is None and number else self.seed
        return launch_seed(seed, number)

    def _account_for_earlier_launches(self) -> Budget | None:
        """Account for what earlier launches of the study left; the budget, if there is one."""
        for study in self.studies:
            if self.store.announced(study):
                record_killed_runs(self.store, self.store.study(study))
        return None if self.budget_usd is None else Budget(self.budget_usd, others=self._taken_elsewhere_usd)

    def _taken_elsewhere_usd(self) -> float:
        """What other benches spent on this study at most, and what open leases that are not ours may still cost."""
        metered: dict[str, float | None] = {}
        for study in self.studies:
            metered |= {one.run_id: None for one in self.store.unfinished(study)}
            metered |= {run_id: at_most_usd(*both) for run_id, both in self.store.costs(study).items()}
        theirs = {run_id: known for run_id, known in metered.items() if run_id not in self._made}
        of_study = spent_at_most_usd(theirs, self.store.leases() if theirs else [], speed=self.clock.speed)
        others = [row for row in self._open_elsewhere() if row.run_id not in theirs]
        return of_study + worst_usd(others, speed=self.clock.speed)

    def _tell_what_is_left_over(self) -> None:
        labels = [row.label for row in self._open_elsewhere() if has_ended(row.owner)]
        if labels:
            shown = ", ".join(labels[:3]) + (" …" if len(labels) > 3 else "")
            log.warning(
                "Left over by processes that have ended, and perhaps billing: %s. Close it: vastbench reap --live", shown
            )

    def reap(self, *, dry_run: bool = False, on_finding: Callable[[Finding], None] = lambda _: None) -> list[Finding]:
        """Close what dead owners left on this bench's marketplace (see :func:`vastbench.rental.reap.reap`)."""
        return reap(self.api, self._watch, self.store, self.clock, dry_run=dry_run, on_finding=on_finding)

    def ask_charges(self) -> Asked:
        """Ask what the account was charged for this bench's one study, else for all runs of the store that rented here; store
        it."""
        return ask_charges(self.api, self.store, study=self.studies[0] if len(self.studies) == 1 else None)

    @property
    def last_sweep(self) -> str:
        """When the account of a live bench was last swept, as a sentence."""
        account = self._owner["account"]
        return last_sweep(self.store, self.api.url, account if isinstance(account, int) else None)

    def _open_elsewhere(self) -> list[LeaseRow]:
        """The open leases on this marketplace that are not this bench's."""
        mine = self._owner["id"]
        return [row for row in self.store.leases(open_only=True) if row.url == self.api.url and row.owner.get("id") != mine]

    def _conditions(self) -> dict[str, object]:
        return {} if self.live else self._profile_conditions | {"seed": self._seed}

    @cached_property
    def _profile_conditions(self) -> dict[str, object]:
        """The profile by its name, for people, and by its content: an edited file is another condition."""
        from vastbench.emulator.profile import content_hash, load

        return {"profile": Path(self.profile).stem, "profile_hash": content_hash(load(self.profile))}

    def _instrument(self) -> dict[str, object]:
        return {
            "poll_period_s": self._watch.period_s,
            "api": self.api.usage.summary(),
            "client_version": version("vastbench"),
            "host": os.uname().nodename,
        }


def new_run_id() -> str:
    """An id that sorts by time and is unique: ``20261123T181500-3f9a1c``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.urandom(3).hex()}"
