"""While a run is alive its instance's deadline moves on ahead of it; when the run dies, the deadline stays and is met.

So an instance that lost its owner after the login lives :data:`AHEAD_S` longer at most, however long its drill may take.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from vastbench.clock import Clock
from vastbench.errors import VastbenchError
from vastbench.record.conditions import AHEAD_S
from vastbench.record.recorder import summary_of
from vastbench.rental.lease import Lease
from vastbench.rental.startup import SHORTEST_S, extension
from vastbench.ssh.session import Session

log = logging.getLogger(__name__)


EVERY_S = 60.0
"""Clock seconds between two moves: two may be missed."""

COMMAND_S = 20.0
"""Clock seconds that moving the deadline may take."""


@contextmanager
def extending_deadline(lease: Lease, session: Session, clock: Clock, deadline: datetime, last: datetime) -> Iterator[None]:
    """Move the instance's ``deadline`` on, in the store and in its switch, while the body runs; never beyond ``last``.

    A drill of less than a minute is not disturbed. What cannot be moved stays as it is: then the switch may end the run.
    """
    ended = threading.Event()
    # Dates are for the store; what is waited for is counted on the clock that nobody sets.
    apart_s = datetime.now(UTC).timestamp() - time.monotonic()
    until_s, last_s = deadline.timestamp() - apart_s, last.timestamp() - apart_s

    def move_on() -> None:
        until = until_s
        while until < last_s and (left_s := until - time.monotonic()) > 0:
            if ended.wait(max(min(clock.real_s(EVERY_S), left_s / 2), 1.0)):
                return
            ahead_s = min(max(clock.real_s(AHEAD_S), SHORTEST_S), last_s - time.monotonic())
            date = datetime.now(UTC) + timedelta(seconds=ahead_s)
            try:
                # The store first: an instance must not outlive what is written of it.
                lease.account.journal.update_lease(lease.label, deadline_at=date.isoformat())
                session.run(extension(ahead_s), timeout_s=COMMAND_S)
                until = time.monotonic() + ahead_s
            except VastbenchError as error:
                if ended.is_set() or not session.alive:
                    return
                log.warning("the deadline of instance %d was not moved: %s", lease.instance_id, summary_of(error))

    keeper = threading.Thread(target=move_on, name="vastbench-keeper", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
