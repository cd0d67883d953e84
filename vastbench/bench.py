"""A bench: everything that a run needs, opened together and closed together.

On the emulator (the default) a bench starts its own marketplace; live it talks to the one at ``VAST_URL`` and insists on a
budget.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vastbench.clock import Clock
from vastbench.errors import BudgetRefused, Interrupted, LeaseNotClosed, NoOffer
from vastbench.interrupts import STOPPING, interruption_in, raising, shield
from vastbench.lease import clear_no
from vastbench.provision import Budget, Conditions, Provisioner
from vastbench.run import Run
from vastbench.scenarios.integration import integration
from vastbench.settings import Settings, default_store, is_loopback
from vastbench.store import Store
from vastbench.timing import Listener, Recorder
from vastbench.vast.api import VastApi
from vastbench.vast.watch import Watch

log = logging.getLogger(__name__)


class Bench:
    """One marketplace, one store, one clock, and the runs made with them.

    Use it in a with-block. ``speed`` is emulated seconds per real second. ``budget_usd`` is what all runs of this bench
    together may cost at their worst; live it is required.
    """

    def __init__(
        self,
        *,
        live: bool = False,
        budget_usd: float | None = None,
        profile: str | Path = "default",
        seed: int | None = None,
        speed: float = 1.0,
        store: str | Path | None = None,
        api_key_file: Path | None = None,
        truth: Path | None = None,
    ) -> None:
        """Take the settings; nothing is started before the with-block is entered.

        Raises BudgetRefused for a live bench without a positive budget, SettingsError for unusable settings.
        """
        if live and not (budget_usd is not None and 0 < budget_usd < float("inf")):
            raise BudgetRefused(
                "A live run needs a budget" + ("." if budget_usd is None else f", not {budget_usd}."),
                hint="Say how much it may cost: --budget 0.50 (USD).",
            )
        self.live = live
        self.budget_usd = budget_usd
        self.profile = profile
        self.seed = seed
        self.settings = Settings.from_environment(api_key_file=api_key_file)
        self.clock = Clock(self.settings.vastbench_speed if live else speed)
        self._place = store or self.settings.vastbench_store or default_store()
        self._truth = truth
        self._stack = ExitStack()
        self._idle = threading.Condition()
        self._under_way: set[int] = set()
        self._closing = True
        self._leaked = ""
        self.store: Store
        self.api: VastApi

    def __enter__(self) -> Bench:
        """Open the store and the marketplace, starting an emulator unless the bench is live."""
        with ExitStack() as stack:
            # A kernel, or a program of the user's, dies of these without unwinding: then nobody would close the lease.
            deadly = [number for number in STOPPING if signal.getsignal(number) is signal.SIG_DFL]
            stack.enter_context(raising(Interrupted("Stopped by a signal."), *deadly, first=self._rent_nothing_more))
            self.store = stack.enter_context(Store(self._place))
            if self.live:
                url, key = self.settings.vast_url, self.settings.require_key()
                self.api = stack.enter_context(VastApi(url, key, clock=self.clock))
            else:
                from vastbench.emulator import Emulator

                emulator = Emulator(self.profile, seed=self.seed, speed=self.clock.speed, truth=self._truth)
                stack.enter_context(emulator)
                self.emulator = emulator
                url = emulator.url
                self.api = stack.enter_context(VastApi(url, emulator.api_key, clock=self.clock))
            self._watch = Watch(self.api, self.clock)
            stack.callback(self._watch.close)
            budget = None if self.budget_usd is None else Budget(self.budget_usd)
            self._provisioner = Provisioner(self.api, self._watch, self.store, self.clock, url=url, budget=budget)
            self._stack = stack.pop_all()
        self._closing = False
        return self

    def __exit__(self, *_: object) -> None:
        """Let runs under way in other threads end, close what is still held, and stop what was started.

        Nothing more is rented from now on; a run under way ends at its deadlines at the latest. Raises LeaseNotClosed when
        an instance cannot be shown to be gone, after having tried all.
        """
        self._closing = True
        with shield(), ExitStack() as stack:
            stack.callback(self._stack.close)
            self._watch.close()  # whoever waits for a status gives up, and closes its own lease
            mine = {threading.get_ident()}  # this thread is leaving: a run of its own is over, however it ended
            with self._idle:
                self._idle.wait_for(lambda: not self._under_way - mine)
            for lease in list(self._provisioner.held):
                stack.callback(lease.close)

    def run(self, conditions: Conditions | None = None, listener: Listener | None = None) -> Run:
        """Make one integration run and store it. May be called from many threads at once.

        ``listener`` hears of every phase (see :class:`~vastbench.timing.Recorder`). A run that fails is returned, not
        raised; an interruption is stored and then raised again. Raises LeaseNotClosed, and rents nothing, once a run of this
        bench could not show that its instance is gone; Interrupted, and rents nothing, once the bench is being closed.
        """
        with self._idle:
            if self._leaked:
                raise LeaseNotClosed(f"Nothing more is rented: {self._leaked}", hint="Destroy that instance by hand first.")
            if self._closing:
                raise Interrupted("Nothing more is rented: the bench is not open.", hint="Use it inside its with-block.")
            self._under_way.add(threading.get_ident())
        try:
            return self._run(conditions or Conditions(), listener)
        finally:
            with self._idle:
                self._under_way.discard(threading.get_ident())
                self._idle.notify_all()

    def _run(self, conditions: Conditions, listener: Listener | None) -> Run:
        recorder = Recorder(self.clock, listener)
        run_id = new_run_id()
        # What answers on this machine is an emulator started by hand: nothing was spent, and no report may call it live.
        source = "live" if self.live and not is_loopback(self.api.url) else "emulator"
        run, error = integration(self._provisioner, recorder, conditions, run_id=run_id, source=source)
        with shield():  # what was measured must reach the store
            run = replace(run, conditions=run.conditions | self._conditions(), instrument=run.instrument | self._instrument())
            if self._provisioner.budget is not None:
                self._provisioner.budget.settle(run_id, _spent(run, error))
            if isinstance(error, LeaseNotClosed):
                self._leaked = error.message
            if error is not None:
                log.info("run %s ended with:", run_id, exc_info=error)
            self.store.save_run(run)
        if stopped := interruption_in(error):
            raise stopped
        return run

    def _rent_nothing_more(self) -> None:
        self._closing = True

    def _conditions(self) -> dict[str, Any]:
        return {} if self.live else {"profile": Path(self.profile).stem, "seed": self.seed}

    def _instrument(self) -> dict[str, Any]:
        return {
            "poll_period_s": self._watch.period_s,
            "api": self.api.usage.summary(),
            "client_version": version("vastbench"),
            "host": os.uname().nodename,
        }


def _spent(run: Run, error: BaseException | None) -> float | None:
    """What a run cost at most, as far as it can be known: None when an instance may have run unseen."""
    if isinstance(error, LeaseNotClosed):
        return None
    if run.resources.get("instance_id") is None:
        nothing_rented = isinstance(error, (NoOffer, BudgetRefused)) or (error is not None and clear_no(error))
        return 0.0 if nothing_rented else None
    if run.cost.gpu_upper_usd is None:
        return run.cost.naive_usd
    return run.cost.gpu_upper_usd + (run.cost.storage_usd or 0.0) + (run.cost.transfer_usd or 0.0)


def new_run_id() -> str:
    """An id that sorts by time and is unique: ``20261123T181500-3f9a1c``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.urandom(3).hex()}"
