"""SIGINT and SIGTERM, while work runs and while it is cleaned up."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vastbench.errors import Interrupted, LeaseNotClosed

log = logging.getLogger(__name__)
STOPPING = (signal.SIGINT, signal.SIGTERM)


def raise_on_signals() -> None:
    """From now on SIGINT and SIGTERM raise Interrupted in the main thread, so that every ``finally`` runs."""
    for number in STOPPING:
        signal.signal(number, _raise)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(f"Stopped by {signal.Signals(number).name}.", hint="What was measured until then is in the store.")


@contextmanager
def raising(error: BaseException, *signals: signal.Signals) -> Iterator[None]:
    """While the body runs, ``signals`` raise ``error`` in the main thread; outside the main thread this does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def throw(_number: int, _frame: FrameType | None) -> None:
        raise error

    before = {number: signal.signal(number, throw) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def shield() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM until the body is done, then deliver the first of them.

    For what must not be torn in two: a create request whose answer names what now bills, and the way from destroy to
    confirmed gone. The body must be bounded in time. Signals reach only the main thread; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        held.append(number)
        log.warning("%s received while an instance is being accounted for; stopping right after.", signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in STOPPING}
    try:
        yield
    except LeaseNotClosed:
        held.clear()  # that an instance may still bill must be said above all
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if held:
            signal.raise_signal(held[0])
