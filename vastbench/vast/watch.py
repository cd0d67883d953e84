"""One polling stream for any number of waiters.

::

    Watch ── one thread: the whole paged list, send to send one period ──┬── Following 900: sightings → wait_until → Moment
       │                                                                 └── Following 901: …
       └── poll: who needs the list itself shares the same reads, so that an account's list is never read twice at once

A list of more than one page is mostly other people's: reading all of it takes a second a page. There only our labels are asked
for, and the whole list only for what those rows lack: it may carry another label by now. That an answer lacks a label counts
only when the marketplace has shown before that it finds it by that label.

A poll that fails in passing is no observation: it is counted, and the bounds of whatever happened meanwhile stay honest
because they are taken from the polls that were answered.

The period is fixed, and the shortest that is allowed: on events as they happen here it gave the narrowest bounds for its
requests, and every schedule that grows had bad tails. It begins at a random part of the period, so that a marketplace which
itself works in steps is not always met at the same point of them.
"""

import logging
import math
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from vastbench.clock import Clock
from vastbench.errors import ApiError, ApiUnreachable, ApiUnreadable, DeadlineExceeded, Interrupted, RateLimited, Refused
from vastbench.record.moments import Moment
from vastbench.vast.api import Answer, VastApi
from vastbench.vast.models import Instance

log = logging.getLogger(__name__)

Pages = list[Answer[list[Instance]]]
"""What was read of the list, page by page."""

SHORTEST_PERIOD_S = 1.0
"""Clock seconds that the marketplace demands between two polls of the list."""

LOOK_S = 30.0
"""Clock seconds between two reads of a whole long list for followed instances that are not listed by their labels."""

MOST_LABELS = 50
"""Where more labels than this are ours, the whole list is read: an address has room for no more."""

LONGEST_PERIOD_S = 10.0
SLOWER = 1.1
"""After each 429 the period grows by this factor, up to the longest: an account shared with others gets less."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One poll of one instance: when it was asked for and answered, in clock seconds, and what was seen.

    ``instance`` None: the whole list was readable and lacks it.
    """

    sent: float
    received: float
    instance: Instance | None


@dataclass(slots=True)
class Spell:
    """Sightings in a row that showed the same status: how many, and sent and received of the first and of the last.

    ``status`` is None for an instance without one yet, ``not listed`` where the whole list lacked it.
    """

    status: str | None
    polls: int
    first: tuple[float, float]
    last: tuple[float, float]


@dataclass(slots=True)
class WatchStats:
    """What a follower's polls came to: answered ones, ones missed by a transient error, and 429s among the missed."""

    polls: int = 0
    missed: int = 0
    rate_limited: int = 0


class Following:
    """The sightings of one instance since ``since``, a clock reading at which it was known to have no status yet.

    Each change of status can be waited for once; to wait for a status that was seen before (running, after a restart),
    follow anew. Use it as a context manager.
    """

    def __init__(self, watch: "Watch", instance_id: int, since: float, clock: Clock, label: str | None) -> None:
        """Called by :meth:`Watch.follow`."""
        self.instance_id = instance_id
        self.label = label
        self.since = since
        self.stats = WatchStats()
        self._watch = watch
        self._clock = clock
        self._news = threading.Condition()
        self._history: list[Sighting] = []
        self._spells: list[Spell] = []
        self._fatal: BaseException | None = None
        self._last_miss = ""

    @property
    def history(self) -> list[Sighting]:
        """The sightings so far; of several equal ones in a row, the first and the last."""
        with self._news:
            return list(self._history)

    @property
    def spells(self) -> list[Spell]:
        """The sightings so far, by status."""
        with self._news:
            return [replace(spell) for spell in self._spells]

    def moment(self, predicate: Callable[[Sighting], bool]) -> Moment:
        """When ``predicate`` first became true, as far as the sightings tell; an unseen moment if it never did.

        The event lies after the last negative sighting was asked for (or after ``since``) and before the first positive one
        was answered. An exception that ``predicate`` raises goes on to the caller.
        """
        return self._moment(self.history, predicate)

    def wait_until(self, predicate: Callable[[Sighting], bool], *, deadline: float, waited_for: str) -> Moment:
        """Wait until a sighting satisfies ``predicate``, which may raise to give up.

        ``deadline`` is a clock reading, ``waited_for`` names the event in the error. Raises DeadlineExceeded, Interrupted
        when the clock is stopping, and the permanent error of the watch (KeyRejected, ApiRedirected, Refused) if there is one.
        """
        while True:
            with self._news:
                seen, fatal, known = list(self._history), self._fatal, self.stats.polls
            moment = self._moment(seen, predicate)
            if moment.seen:
                return moment
            if fatal:
                raise fatal
            if self._clock.stopping.is_set():
                raise Interrupted(f"Stopped while waiting for {waited_for} of instance {self.instance_id}.")
            if self._clock.now() >= deadline:
                raise self._late(seen, waited_for)
            with self._news:
                if self.stats.polls == known and self._fatal is None:
                    # Short slices, so that a signal or a deadline is noticed on every platform.
                    self._news.wait(min(self._clock.real_s(deadline - self._clock.now()), 0.2))

    def close(self) -> None:
        """Stop following."""
        self._watch._leave(self)

    def __enter__(self) -> Self:
        """Use it in a ``with`` block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop following."""
        self.close()

    def _moment(self, seen: list[Sighting], predicate: Callable[[Sighting], bool]) -> Moment:
        no_sent = no_received = self.since
        for sighting in seen:
            if predicate(sighting):
                return Moment(no_sent, no_received, sighting.sent, sighting.received, "poll")
            no_sent, no_received = sighting.sent, sighting.received
        return Moment(no_sent, no_received, None, None, "poll")

    def _late(self, seen: list[Sighting], waited_for: str) -> DeadlineExceeded:
        last = _described(seen[-1]) if seen else "no readable list"
        last += f"; the last poll failed: {self._last_miss}" if self._last_miss else ""
        message = f"Instance {self.instance_id}: {waited_for} was not seen before the deadline; last seen: {last}."
        return DeadlineExceeded(message, waited_for=waited_for, last_seen=last, hint="Allow more time or take another offer.")

    def _see(self, sighting: Sighting) -> None:
        # A poll that was sent before the instance existed says nothing about it.
        if sighting.sent < self.since:
            return
        with self._news:
            past = self._history
            if len(past) >= 2 and past[-2].instance == past[-1].instance == sighting.instance:
                past.pop()
            past.append(sighting)
            self._count(sighting)
            self.stats.polls += 1
            self._last_miss = ""
            self._news.notify_all()

    def _count(self, sighting: Sighting) -> None:
        status = "not listed" if sighting.instance is None else sighting.instance.actual_status
        readings = (sighting.sent, sighting.received)
        if self._spells and self._spells[-1].status == status:
            self._spells[-1].polls += 1
            self._spells[-1].last = readings
        else:
            self._spells.append(Spell(status, 1, readings, readings))

    def _miss(self, error: ApiError) -> None:
        with self._news:
            self.stats.missed += 1
            self.stats.rate_limited += isinstance(error, RateLimited)
            self._last_miss = error.message

    def _fail(self, error: BaseException) -> None:
        with self._news:
            self._fatal = error
            self._news.notify_all()


class Watch:
    """The one reader of an account's list.

    Its thread starts with the first follower and ends with the last. ``period_s`` is clock seconds from one poll's sending
    to the next; less than the documented second is raised to it, and each 429 makes it a little longer.
    """

    def __init__(self, api: VastApi, clock: Clock, period_s: float = SHORTEST_PERIOD_S) -> None:
        """Nothing is polled yet."""
        self.period_s = max(period_s, SHORTEST_PERIOD_S)
        self._api = api
        self._clock = clock
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._followers: set[Following] = set()
        self._thread: threading.Thread | None = None
        self._reading = threading.Lock()
        self._asked = -math.inf
        self._read: Pages | Exception = []
        self._covered: frozenset[str] | None = None
        """The labels that the latest read asked for; None for the whole list."""
        self._asking: Counter[str] = Counter()
        self._shown: set[str] = set()
        self._crowded = False
        self._filters = True
        self._whole_at = -math.inf

    def poll(self, after: float, label: str | None = None) -> Pages:
        """The whole list, page by page, asked for at the clock reading ``after`` or later; once.

        With a ``label``, what the list shows of that will do: its rows alone, and none only where it was found by it before.
        Threads that poll at the same time share one read and its error. Raises ApiError. It works without followers and after
        :meth:`close`.
        """
        return self._latest(after, None if label is None else {label}, proven=True)[0]

    def follow(
        self, instance_id: int, since: float | None = None, clock: Clock | None = None, label: str | None = None
    ) -> Following:
        """Begin to follow an instance; ``since`` (default: now) is when it was known to have no status yet.

        Who waits for it stops with ``clock`` (default: this watch's). ``label``: the one that it was created with.
        """
        since = self._clock.now() if since is None else since
        following = Following(self, instance_id, since, clock or self._clock, label)
        with self._lock:
            self._followers.add(following)
            if self._thread is None:
                self._wake.clear()
                self._thread = threading.Thread(target=self._poll_while_followed, name="vastbench-watch", daemon=True)
                self._thread.start()
        return following

    def close(self) -> None:
        """Stop polling; every waiting thread gets Interrupted."""
        self._fail_all(Interrupted("The watch over the account's instances was closed."))
        with self._lock:
            thread = self._thread
            self._wake.set()
        if thread and thread is not threading.current_thread():
            thread.join(timeout=1.0)

    def _leave(self, following: Following) -> None:
        with self._lock:
            self._followers.discard(following)
            if not self._followers:
                self._wake.set()

    def _latest(self, after: float, labels: set[str] | None, *, proven: bool) -> tuple[Pages, bool]:
        """The latest read, or a new one, that was asked for at ``after`` or later and covers ``labels``; whether it is whole.

        Without labels it is the whole list. ``proven``: an answer that lacks a label must be the whole list, or come from one
        that has shown it before.
        """

        def fits() -> bool:
            covered = self._covered
            if covered is None or isinstance(self._read, Exception):
                return True
            return labels is not None and labels <= covered and (not proven or labels <= self._shown)

        with self._lock:
            self._asking.update(labels or ())
        try:
            with self._reading:
                if self._asked < after or not fits():
                    self._fetch(whole=labels is None)
                if not fits():
                    self._fetch(whole=True)
                found, whole = self._read, self._covered is None
        finally:
            with self._lock:
                self._asking -= Counter(labels or ())
        if isinstance(found, Exception):
            raise found
        return found, whole

    def _fetch(self, *, whole: bool) -> None:
        """Read the list anew: the whole of it, or our labels alone where it is long and the marketplace filters by label."""
        asked = self._clock.now()
        try:
            pages = [] if whole else self._of_labels()
            if not pages:
                pages, self._covered, self._whole_at = self._api.instance_pages(tries=1), None, asked
                self._crowded = len(pages) > 1
            self._read, self._asked = pages, pages[0].sent
        except Exception as error:  # noqa: BLE001 (raised where it was asked for)
            self._read, self._asked = error, asked

    def _of_labels(self) -> Pages:
        """The rows of our labels; nothing where the whole list is to be read."""
        with self._lock:
            labels = frozenset(self._asking) | {one.label for one in self._followers if one.label is not None}
        if not self._filters or len(labels) > MOST_LABELS:
            return []
        if not self._crowded and (pages := self._api.instance_pages(tries=1, short_only=True)):
            self._covered = None
            return pages
        self._crowded = True
        try:
            pages = self._api.instance_pages(labels=labels, tries=1)
        except Refused as error:
            log.info("the list is not filtered by label: %s", error)
            pages = []
        found = {one.label for page in pages for one in page.value}
        if not pages or found - labels:
            self._filters = False
            return []
        self._covered = labels
        self._shown |= labels & found
        return pages

    def _poll_while_followed(self) -> None:
        lacking, due = False, self._clock.now() + random.random() * self.period_s  # noqa: S311 (no secret)
        self._clock.wait(self._wake, due - self._clock.now())
        while True:
            with self._lock:
                followers = list(self._followers)
                if not followers:
                    self._thread = None
                    return
                self._wake.clear()
            asked, due = due, self._clock.now() + self.period_s
            labels = {one.label for one in followers if one.label is not None}
            nameless = any(one.label is None for one in followers)
            look = nameless or (lacking and self._clock.now() >= self._whole_at + LOOK_S)
            try:
                pages, whole = self._latest(asked, None if look else labels, proven=False)
            except (ApiUnreachable, ApiUnreadable, RateLimited) as error:
                if isinstance(error, RateLimited):
                    self.period_s = min(self.period_s * SLOWER, LONGEST_PERIOD_S)
                for following in followers:
                    following._miss(error)
            except Exception as error:  # noqa: BLE001 - a poller that died silently would leave everybody waiting
                self._fail_all(error)
            else:
                due = pages[0].sent + self.period_s
                lacking = False
                for following in followers:
                    sighting = _sighting(pages, following.instance_id)
                    if sighting.instance is None and not whole:
                        lacking = True  # and yet it may be on the list, under another label
                    else:
                        following._see(sighting)
            self._clock.wait(self._wake, due - self._clock.now())

    def _fail_all(self, error: BaseException) -> None:
        with self._lock:
            followers, self._followers = self._followers, set()
        for following in followers:
            following._fail(error)


def _sighting(pages: Pages, instance_id: int) -> Sighting:
    """What the pages show of one instance: its own page's readings, or those of the whole list that lacks it."""
    for page in reversed(pages):
        for instance in page.value:
            if instance.id == instance_id:
                return Sighting(page.sent, page.received, instance)
    return Sighting(pages[0].sent, pages[-1].received, None)


def _described(sighting: Sighting) -> str:
    instance = sighting.instance
    if instance is None:
        return "not in the list"
    said = f" ({instance.status_msg})" if instance.status_msg else ""
    return f"actual_status {instance.actual_status}{said}, intended {instance.intended_status}"
