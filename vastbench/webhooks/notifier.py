"""Telling receivers without ever waiting for them.

::

    a run ends ── notify: a queue in memory ──► one thread: rows in the store, synced ──► signed requests ──► rows settled

Notifying never blocks or raises. What could not be delivered stays in the store, for the next bench with
that store and for ``vastbench webhooks deliveries --retry``.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vastbench.errors import BudgetRefused, LeaseNotClosed, VastbenchError
from vastbench.store.outbox import Outbox
from vastbench.webhooks.events import Event, body_of, lease_data, run_event, study_data
from vastbench.webhooks.sending import deliver_due

if TYPE_CHECKING:
    from vastbench.record.run import Run
    from vastbench.record.study import Study
    from vastbench.store import Store

log = logging.getLogger(__name__)

MOST_QUEUED = 1000
"""Events that wait in memory to be written; more are dropped."""

CLOSING_S = 2.0
"""Real seconds that closing waits for what is being sent."""

LOOK_S = 30.0
"""Real seconds after which the thread looks for deliveries that are due, if no event comes before."""

THRESHOLDS = (0.8, 1.0)

Data = Mapping[str, Any] | Callable[[], Iterable[Mapping[str, Any]]]
"""What an event says, or how to find out: that is asked in the thread, and may give several events or none."""


@dataclass(frozen=True, slots=True)
class _News:
    event: Event
    data: Data
    at: datetime


class Notifier:
    """Tells the receivers in ``store`` of what happens. Use it in a with-block; without receivers it starts no thread."""

    def __init__(self, store: Store) -> None:
        """Take the store; nothing is read yet."""
        self._store = store
        self._outbox = Outbox(store)
        self._queue: queue.Queue[_News | None] = queue.Queue(MOST_QUEUED)
        self._thread: threading.Thread | None = None
        self._abandoned = threading.Event()
        self._complained = False
        self._reached: set[float] = set()

    def __enter__(self) -> Notifier:
        """Start the thread if there are receivers."""
        wanted = False
        with self._caught():
            wanted = bool(self._outbox.configs())
        if wanted:
            self._thread = threading.Thread(target=self._work, name="vastbench-webhooks", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait briefly for what is being sent. What is not written down yet is written down; the rest stays pending."""
        if self._thread is None:
            return
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            self._abandoned.set()
        self._thread.join(CLOSING_S)
        self._abandoned.set()
        self._write_down(self._queued())
        with suppress(queue.Full):
            self._queue.put_nowait(None)  # the word that it is over was taken out with the rest
        self._thread = None

    def notify(self, event: Event, data: Data) -> None:
        """Tell everybody who wants to hear of ``event``, some time; returns at once and never raises."""
        if self._thread is None:
            return
        try:
            self._queue.put_nowait(_News(event, data, datetime.now(UTC)))
        except queue.Full as error:
            self._complain(error)

    def run_ended(self, run: Run) -> None:
        """``run.finished`` or ``run.failed``; and ``lease.leaked`` for each of its instances that may still exist."""
        with self._caught():
            self.notify(*run_event(run))
            if run.cause == LeaseNotClosed.cause:
                self.notify(Event.LEASE_LEAKED, lambda: self._leaked(run.id))

    def study_ended(self, study: Study) -> None:
        """``study.finished``."""
        with self._caught():
            self.notify(Event.STUDY_FINISHED, study_data(study))

    def spent(self, limit_usd: float, spent_usd: float, run: Run) -> None:
        """``budget.threshold``, once for each share of the budget that is spent.

        After a ``run`` that was refused for the budget all of it counts as reached: nothing more is rented.
        """
        refused = run.cause == BudgetRefused.cause
        with self._caught():
            for threshold in THRESHOLDS:
                if threshold not in self._reached and (spent_usd >= threshold * limit_usd or refused):
                    self._reached.add(threshold)
                    data = {"threshold": threshold, "limit_usd": limit_usd, "spent_usd": spent_usd, "refused": refused}
                    self.notify(Event.BUDGET_THRESHOLD, data | {"run": run.id, "study": run.study or None})

    def _leaked(self, run_id: str) -> list[dict[str, object]]:
        return [lease_data(lease) for lease in self._store.leases(open_only=True) if lease.run_id == run_id]

    def _work(self) -> None:
        try:
            over = False
            while not over and not self._abandoned.is_set():
                self._deliver()
                found = self._wait()
                self._write_down(found)
                over = None in found
            self._deliver()
        finally:
            if self._abandoned.is_set():
                self._store.close()  # its owner has closed it by now, and a late query has opened it again

    def _deliver(self) -> None:
        with self._caught():
            # What has just happened is written down before anything else is sent.
            deliver_due(self._outbox, stop=lambda: self._abandoned.is_set() or not self._queue.empty())

    def _wait(self) -> list[_News | None]:
        """What has happened, waiting for it until a delivery is due."""
        seconds = LOOK_S
        with self._caught():
            due = self._outbox.next_due()
            # Not below a second: what is due and still there is being sent by another process.
            seconds = LOOK_S if due is None else min(LOOK_S, max(1.0, (due - datetime.now(UTC)).total_seconds()))
        try:
            return [self._queue.get(timeout=seconds), *self._queued()]
        except queue.Empty:
            return []

    def _queued(self) -> list[_News | None]:
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self._queue.get_nowait())
        return found

    def _write_down(self, found: Iterable[_News | None]) -> None:
        for news in found:
            if news is not None:
                with self._caught():
                    for data in news.data() if callable(news.data) else [news.data]:
                        self._outbox.put(news.event, body_of(news.event, data, news.at), news.at)

    @contextmanager
    def _caught(self) -> Iterator[None]:
        """Log any error: a notification never fails or stops a run."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Say once what is wrong. Other errors than our own may quote anything, so that only their kind is named."""
        if not self._complained:
            self._complained = True
            said = error.message if isinstance(error, VastbenchError) else type(error).__name__
            log.warning("Not everybody is told: %s", said)
