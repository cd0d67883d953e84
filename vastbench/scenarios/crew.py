"""Machines that are rented at the same time: each is kept and given back by a thread of its own, so that no lease changes
hands."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, contextmanager

from vastbench.clock import Clock
from vastbench.errors import BudgetRefused, Interrupted, LeaseNotClosed, PriceRose, Vanished
from vastbench.interrupts import HEARD_S, as_they_end, shield
from vastbench.rental.provisioner import Machine


class Keeper(threading.Thread):
    """Rents a machine, keeps it until it is told to end, and gives it back.

    ``ready``: the machine, once it runs commands. ``clock``: what it waits by. ``outrun``: another machine was used.
    """

    def __init__(self, renting: AbstractContextManager[Machine], name: str, clock: Clock) -> None:
        """Nothing is rented before it is started."""
        super().__init__(name=f"vastbench-rent-{name}", daemon=True)
        self.ready: Future[Machine] = Future()
        self.clock = clock
        self.outrun = False
        self._machine = renting
        self._over = threading.Event()
        self._told: BaseException | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """The thread's work."""
        try:
            with self._machine as machine:
                self.ready.set_result(machine)
                self._over.wait()
                if self._told is not None:
                    raise self._told
        except BaseException as error:  # noqa: BLE001 (kept for whoever ends it)
            self._error = error
            if not self.ready.done():
                self.ready.set_exception(error)

    def end(self, told: BaseException | None) -> None:
        """Let it give its machine back, because of ``told`` if that is an error."""
        if not self.outrun:
            self._told = told
        self._over.set()

    def give_up(self) -> None:
        """Let it stop waiting, and give back whatever it has: another machine was faster."""
        self.end(Interrupted("Another machine ran commands first."))
        self.outrun = True
        self.clock.stopping.set()

    def ended(self) -> BaseException | None:
        """Wait until it has given its machine back: the error with which it ended, where that is the run's concern."""
        if self.ident is not None:
            self.join()
        return self._error if isinstance(self._error, LeaseNotClosed) or not self.outrun else None


@contextmanager
def kept(keepers: Sequence[Keeper], clock: Clock) -> Iterator[None]:
    """Let the keepers end, and wait until all have given back what they have, however the body ends.

    An error of the body stops ``clock``: whatever is still waited for, is so in vain. Raises LeaseNotClosed where an instance
    may still exist, whatever else happened.
    """
    error: BaseException | None = None
    try:
        yield
    except BaseException as stopped:
        error = stopped
        raise
    finally:
        with shield():
            if error is not None:
                clock.stopping.set()
            for keeper in keepers:
                keeper.end(error)
            ends = [one for one in [keeper.ended() for keeper in keepers] if one is not None and one is not error]
        # Without an error of its own the run ends with whatever giving back met.
        for kind in (LeaseNotClosed, Vanished, PriceRose, BudgetRefused, *([BaseException] if error is None else [])):
            if found := next((one for one in ends if isinstance(one, kind)), None):
                # A price that rose is what stopped the body.
                raise found from (None if isinstance(found, (PriceRose, BudgetRefused)) else error)


def all_of(keepers: Sequence[Keeper]) -> tuple[Machine, ...]:
    """Start all; their machines, once all run commands. Raises the first error that keeps one from that."""
    for keeper in keepers:
        keeper.start()
    for one in as_they_end(keeper.ready for keeper in keepers):
        one.result()
    return tuple(keeper.ready.result() for keeper in keepers)


def first_of(keepers: Sequence[Keeper], clock: Clock, stagger_s: float) -> Keeper:
    """Start one keeper every ``stagger_s`` clock seconds until one has a machine that runs commands: that keeper.

    Raises the first one's error where all come to nothing.
    """
    begun: list[Keeper] = []
    due = clock.now()
    while True:
        ended = [one for one in begun if one.ready.done()]
        if won := next((one for one in ended if one.ready.exception() is None), None):
            return won
        if len(begun) < len(keepers) and (clock.now() >= due or len(ended) == len(begun)):
            begun.append(keepers[len(begun)])
            begun[-1].start()
            due = clock.now() + stagger_s
        elif len(ended) == len(keepers):
            raise keepers[0].ready.exception() or AssertionError
        else:
            until_next = clock.real_s(max(due - clock.now(), 0.0)) if len(begun) < len(keepers) else HEARD_S
            wait([one.ready for one in begun if not one.ready.done()], min(until_next, HEARD_S), FIRST_COMPLETED)
