"""A bench: everything that a run needs, opened together and closed together.

On the emulator (the default) a bench starts its own marketplace; live it talks to the one at ``VAST_URL`` and insists on a
budget.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vastbench.clock import Clock
from vastbench.errors import BudgetRefused, Interrupted
from vastbench.interrupts import raising
from vastbench.provision import Conditions, Provisioner
from vastbench.run import Run
from vastbench.scenarios.integration import integration
from vastbench.settings import Settings, default_store
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
        self.spent_usd = 0.0
        self.profile = profile
        self.seed = seed
        self.settings = Settings.from_environment(api_key_file=api_key_file)
        self.clock = Clock(self.settings.vastbench_speed if live else speed)
        self._place = store or self.settings.vastbench_store or default_store()
        self._truth = truth
        self._stack = ExitStack()
        self.store: Store
        self.api: VastApi

    def __enter__(self) -> Bench:
        """Open the store and the marketplace, starting an emulator unless the bench is live."""
        with ExitStack() as stack:
            # A kernel, or a program of the user's, dies of SIGTERM without unwinding: then nobody would close the lease.
            stack.enter_context(raising(Interrupted("Stopped by SIGTERM."), signal.SIGTERM))
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
            watch = Watch(self.api, self.clock)
            stack.callback(watch.close)
            self._watch = watch
            self._provisioner = Provisioner(self.api, watch, self.store, self.clock, url=url)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what was started."""
        self._stack.close()

    def run(self, conditions: Conditions | None = None, listener: Listener | None = None) -> Run:
        """Make one integration run and store it.

        ``listener`` hears of every phase (see :class:`~vastbench.timing.Recorder`). A run that fails is returned, not
        raised; an interruption is stored and then raised again.
        """
        conditions = conditions or Conditions()
        if self.budget_usd is not None:
            self._provisioner.budget_usd = self.budget_usd - self.spent_usd
        recorder = Recorder(self.clock, listener)
        run, error = integration(
            self._provisioner, recorder, conditions, run_id=new_run_id(), source="live" if self.live else "emulator"
        )
        run = replace(run, conditions=run.conditions | self._conditions(), instrument=run.instrument | self._instrument())
        self.spent_usd += run.cost.total_usd or 0.0
        if error is not None:
            log.info("run %s ended with:", run.id, exc_info=error)
        self.store.save_run(run)
        if isinstance(error, (KeyboardInterrupt, Interrupted, SystemExit)):
            raise error
        return run

    def _conditions(self) -> dict[str, Any]:
        return {} if self.live else {"profile": Path(self.profile).stem, "seed": self.seed}

    def _instrument(self) -> dict[str, Any]:
        return {
            "poll_period_s": self._watch.period_s,
            "api": self.api.usage.summary(),
            "client_version": version("vastbench"),
            "host": os.uname().nodename,
        }


def new_run_id() -> str:
    """An id that sorts by time and is unique: ``20261123T181500-3f9a1c``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.urandom(3).hex()}"
