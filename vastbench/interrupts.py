"""The signals that stop a program, while work runs and while it is cleaned up."""

import logging
import signal
import threading
from _thread import start_new_thread
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

from vastbench.errors import Interrupted, LeaseNotClosed

log = logging.getLogger(__name__)
T = TypeVar("T")
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What asks a program to stop: Ctrl-C, a scheduler, a terminal that was closed."""


HEARD_S = 0.5
"""Real seconds that a wait of the main thread lasts at most: a signal that comes as a wait begins, or that the system hands to
another thread, is heard when the wait ends."""


def wait_for(event: threading.Event) -> None:
    """Wait until ``event`` is set, and hear signals meanwhile."""
    while not event.wait(HEARD_S):
        pass


def as_they_end(futures: Iterable[Future[T]]) -> Iterator[Future[T]]:
    """``futures`` as each ends; signals are heard meanwhile."""
    pending = set(futures)
    while pending:
        ended, pending = wait(pending, HEARD_S, FIRST_COMPLETED)
        yield from ended


def raise_on_signals() -> None:
    """From now on the stopping signals raise Interrupted in the main thread, so that every ``finally`` runs.

    One that is ignored stays so: under nohup a closed terminal is no reason to stop.
    """
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(f"Stopped by {signal.Signals(number).name}.", hint="What was measured until then is in the store.")


@contextmanager
def raising(error: BaseException, *signals: signal.Signals, first: Callable[[], None] = lambda: None) -> Iterator[None]:
    """While the body runs, the first of ``signals`` raises ``error`` in the main thread; later ones are only logged.

    ``first`` is called before the error is raised; it must not wait for anything.
    The first one starts a clean-up that a second one must not cut short. Outside the main thread this does nothing.
    """
    told: list[int] = []

    def throw(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        if len(told) == 1:
            first()
            raise error
        _say("%s received again; still cleaning up.", number)

    with _handling(throw, signals):
        yield


@contextmanager
def shield(hears: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold back the stopping signals until the body is done, then deliver the first of them.

    ``hears`` is called at once for each; it must not wait for anything.

    For what must not be torn in two: a create request whose answer names what now bills, and the way from destroy to
    confirmed gone. The body must be bounded in time. Signals reach only the main thread; elsewhere this does nothing.
    """
    held: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        held.append(number)
        hears()
        _say("%s received while an instance is being accounted for; stopping right after.", number)

    try:
        with _handling(note, STOPPING):
            yield
    except LeaseNotClosed:
        held.clear()  # that an instance may still bill must be said above all
        raise
    finally:
        if held:
            signal.raise_signal(held[0])


def _say(what: str, number: int) -> None:
    """Log from a thread of its own: the signal may have come in the middle of a line that the log's own stream writes."""
    with suppress(RuntimeError):  # no thread can be had; the clean-up goes on all the same
        start_new_thread(log.warning, (what, signal.Signals(number).name))  # threading's own would want locks that are held


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None], signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Put ``handler`` in charge of ``signals`` for the body; those that are ignored stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signals}
    before = {number: earlier for number, earlier in before.items() if earlier is not signal.SIG_IGN}
    try:
        with _blocked(list(before)):
            for number in before:
                signal.signal(number, handler)
        yield
    finally:
        with _blocked(list(before)):
            for number, earlier in before.items():
                signal.signal(number, earlier if earlier is not None else signal.SIG_DFL)


@contextmanager
def _blocked(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Let the kernel keep ``signals`` back: half of the handlers changed is a state that must not be interrupted."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])  # asking is safe; blocking may run a handler that raises
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
