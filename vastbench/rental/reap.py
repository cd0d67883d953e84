"""Closes what dead owners left behind, and touches nothing else.

::

    the list (all pages) ── leases ── whose? ──┬── the owner lives ───────────────── left alone
                                               ├── ended ── held ────────────────── destroyed, confirmed
                                               │          └ intended ── listed ──── adopted, destroyed, confirmed
                                               │                       └ not ────── looked for until no create can be late
                                               └── nobody can tell ── deadline over? as ended, else left alone
    an instance with our label and no open lease ── closed before, or beyond its last deadline and as old by the marketplace's
                                                    clock ── adopted, destroyed, confirmed

A list that cannot be read closes nothing. Two reapers at once do no harm: destroying twice is destroying, and only one of them
writes the verdict.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vastbench.clock import Clock
from vastbench.errors import (
    ApiError,
    KeyRejected,
    LeaseNotClosed,
    RateLimited,
    Refused,
    StoreError,
    VastbenchError,
)
from vastbench.interrupts import shield
from vastbench.owner import BEAT_S, ENDED_BEAT, SILENCE_S, State, state_here, state_of
from vastbench.record.lease import LeaseRow
from vastbench.record.moments import Moment
from vastbench.record.recorder import summary_of
from vastbench.rental.label import Identity, Label, read_label
from vastbench.rental.lease import DOUBTED, NOT_NAMED, Account, Lease, close_or_tell, utc_now
from vastbench.settings import is_loopback
from vastbench.store import Store
from vastbench.vast.api import VastApi
from vastbench.vast.models import Instance
from vastbench.vast.watch import Watch

log = logging.getLogger(__name__)

LATE_CREATE_S, LATE_CREATE_REAL_S = 120.0, 5.0
"""Clock and real seconds after which a create whose answer nobody read cannot make an instance appear any more."""

REST_S = 5.0
"""Clock seconds between two polls for an instance that may still appear."""

TOO_EARLY = "too early"
"""The verdict on a lease whose create may still be late."""

NOT_CLOSED = ("leaked", "unknown")
"""The verdicts on what may still bill."""

UNREADABLE, FIRST_POLLS = 10, 3
"""It gives up after so many unreadable polls in a row, or after so many first ones, unless those were rate limited."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one lease, or of one instance without one.

    ``verdict``: ``destroyed``, ``already gone``, ``never created``; ``leaked`` or ``unknown`` when it could not be closed;
    ``left`` when it is not ours to close, for the reason ``why``; ``to close`` when nothing was to be changed (a dry run);
    ``too early`` when a create may still be late. ``usd_per_hour`` is None for an instance without a lease.
    """

    label: str
    instance_id: int | None
    verdict: str
    why: str
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    """Something to close, and why."""

    row: LeaseRow
    why: str
    listed: bool = True
    reopen: bool = False
    opened_known: bool = True


def reap(
    api: VastApi,
    watch: Watch,
    store: Store,
    clock: Clock,
    *,
    dry_run: bool = False,
    on_finding: Callable[[Finding], None] = lambda _: None,
) -> list[Finding]:
    """Close every lease and instance that a dead owner left on the marketplace of ``api``; what became of each.

    ``on_finding`` is called with each finding as it is made. It waits for creates that may still be late, which takes at most
    LATE_CREATE_S; lists that cannot be read meanwhile prolong that, and UNREADABLE of them in a row end it. Then the SSH keys
    of ended runs are removed from the account. With ``dry_run`` nothing is changed and nothing waited for. Raises ApiError when
    the list cannot be read, a few times in a row: nothing is closed by such a list. Raises StoreError when the store refuses.
    Asked to stop, it ends what it is closing and raises Interrupted, or LeaseNotClosed where that cannot be shown to be gone.
    """
    decided: dict[str, Finding] = {}
    reaper = _Reaper(api, watch, store, clock, dry_run, account_of(api), clock.now())
    unreadable, patience = 0, FIRST_POLLS
    while True:
        try:
            found = reaper.poll(decided)
        except ApiError as error:
            unreadable += 1
            # A rate limit that others caused passes: it must not end a reaper before its first readable poll.
            if unreadable >= (UNREADABLE if isinstance(error, RateLimited) else patience):
                raise
            # Two reapers in step would have each other's polls refused for ever.
            clock.rest(REST_S * random.uniform(0.5, 1.5))  # noqa: S311 (no secret)
            continue
        unreadable, patience = 0, UNREADABLE
        early = [finding for finding in found if finding.verdict == TOO_EARLY]
        for finding in found:
            if finding.verdict != TOO_EARLY:
                decided[finding.label] = finding
                on_finding(finding)
        if dry_run:
            return [*decided.values(), *early]
        if not early:  # none is too early, or another process has closed it
            if not any(one.verdict in NOT_CLOSED for one in decided.values()):
                store.note_sweep(api.url, reaper.account)
            _remove_keys(api, store)
            return list(decided.values())
        clock.rest(REST_S)


@dataclass(frozen=True, slots=True)
class _Reaper:
    """What every poll needs: ``account`` is the account of the key, ``began`` the first clock reading."""

    api: VastApi
    watch: Watch
    store: Store
    clock: Clock
    dry_run: bool
    account: int | None
    began: float

    def poll(self, decided: Collection[str]) -> list[Finding]:
        """Check everything that is not decided yet, by label."""
        leases = {row.label: row for row in self.store.leases()}
        beats = _beats(self.store, [row for row in leases.values() if row.state != "closed"])
        listed = [one for page in self.watch.poll(self.clock.now()) for one in page.value]
        # A lease stands in the store before its instance can be listed; read again, none of those listed lacks one by chance.
        opened = {row.label: row for row in self.store.leases(open_only=True)}
        now = self.store.now()
        found: list[_Task | Finding] = [
            self._lease(one, beats, now, listed) for one in opened.values() if one.label not in decided
        ]
        for one in listed:
            label = read_label(one.label)
            if label is None or str(label) in opened or str(label) in decided:
                continue
            before = leases.get(str(label))
            if before is None or before.state == "closed":  # else its owner has just closed it
                found.append(self._orphan(one, label, before))
        return [one if isinstance(one, Finding) else self._close(one) for one in found]

    def _lease(self, row: LeaseRow, beats: Mapping[str, str], now: datetime, listed: list[Instance]) -> _Task | Finding:
        """What is to become of an open lease."""

        def left(why: str, verdict: str = "left") -> Finding:
            return Finding(row.label, row.instance_id, verdict, why, row.usd_per_hour)

        theirs = row.owner.get("account")
        if row.url != self.api.url:
            return left(f"it is on {row.url}: set VAST_URL to that")
        if theirs is not None and self.account is None:
            return left(f"it belongs to account {theirs}, and this key may not read which account it belongs to", "unknown")
        if theirs is not None and theirs != self.account:
            return left(f"it belongs to account {theirs}, and this key to {self.account}")
        state, whose = state_of(row.owner, beats, now), _named(row.owner)
        if state is State.LIVING:
            return left(f"its owner lives: {whose}")
        if state is State.UNKNOWN and datetime.fromisoformat(row.deadline_at) >= now:
            return left(f"it is unknown whether {whose} lives; its deadline is {row.deadline_at[:19]}Z")
        why = f"{whose} has ended" if state is State.ENDED else "its deadline is over"
        same = [one.id for one in listed if Identity(row.label).noted(one)]
        if row.instance_id is not None:
            return _Task(row, why)
        if same:
            return _Task(_found(row, same[0]), why)
        if self._may_be_late(row, now):
            return left("its create may still be late", TOO_EARLY)
        return _Task(row, f"{why}, and no instance has its label", listed=False)

    def _may_be_late(self, row: LeaseRow, now: datetime) -> bool:
        late_s = max(LATE_CREATE_S, LATE_CREATE_REAL_S * self.clock.speed)
        # Counted from when it was opened, or, should the clocks disagree, from when we began to wait.
        opened_s = (now - datetime.fromisoformat(row.opened_at)).total_seconds() * self.clock.speed
        return opened_s < late_s and self.clock.now() - self.began < late_s

    def _orphan(self, one: Instance, label: Label, closed: LeaseRow | None) -> _Task | Finding:
        """What is to become of an instance that has a label of ours and no open lease."""
        if closed is not None:
            why = f"it is listed, although its lease was closed as {closed.verdict}"
            return _Task(_found(closed, one.id), why, reopen=True)
        whose = "this store's, which has lost it" if label.mark == self.store.mark else "another store's"
        # Whether its owner lives is unknown; after its last deadline no owner does. The label says that by its owner's clock,
        # which may be wrong: so the instance must have lived that long by the marketplace's clock, too.
        if one.start_date is None:
            return Finding(str(label), one.id, "left", f"its lease is {whose}, and the list does not say how old it is")
        now = datetime.now(UTC)
        age = timedelta(seconds=(self.api.epoch_s() - one.start_date) / self.clock.speed)
        until = max(label.deadline, now + label.lifetime - age) + timedelta(seconds=SILENCE_S)
        if until > now:
            why = f"its lease is {whose}: it may be needed until {until:%Y-%m-%dT%H:%M:%S}Z"
            return Finding(str(label), one.id, "left", why)
        row = LeaseRow(
            label=str(label),
            run_id=label.run_id,
            attempt=label.attempt,
            url=self.api.url,
            offer_id=0,
            machine_id=one.machine_id,
            usd_per_hour=one.usd_per_hour or 0.0,
            opened_at=utc_now(),
            deadline_at=label.deadline.isoformat(),
        )
        return _Task(_found(row, one.id), f"its lease is {whose}, and its last deadline is over", opened_known=False)

    def _close(self, task: _Task) -> Finding:
        row = task.row

        def finding(verdict: str, why: str = task.why) -> Finding:
            return Finding(row.label, row.instance_id, verdict, why, row.usd_per_hour)

        if self.dry_run:
            return finding("to close")
        if not task.listed:
            self.store.close_lease(row.label, verdict="never created", note=task.why)
            return finding("never created")
        assert row.instance_id is not None  # noqa: S101 (a task that is listed has one)
        seen = Moment.exact(self.clock.now())
        opened = datetime.fromisoformat(row.opened_at).timestamp() if task.opened_known else 0.0
        identity = Identity(row.label, opened, row.machine_id)
        account = Account(self.api, self.watch, self.store, self.clock)
        lease = Lease(account, identity, row.instance_id, seen)
        lease.id_confirmed = not row.note.startswith((NOT_NAMED, DOUBTED))
        try:
            if not self.store.adopt(row, reopen=task.reopen):
                return finding("left", "somebody else closed it meanwhile")
        except StoreError as error:  # it has to be destroyed all the same
            log.error("the lease %s could not be adopted: %s", row.label, error)
        stopping = threading.Event()
        try:
            with shield(stopping.set):
                return finding(close_or_tell(lease))
        except LeaseNotClosed as error:
            if stopping.is_set():
                raise  # the last that is said: nothing else is closed
            still = {one.label: one.verdict for one in self.store.leases(open_only=True)}
            return finding(still.get(row.label) or "unknown", error.message)
        except (ApiError, StoreError) as error:
            return finding("unknown", summary_of(error))


def _found(row: LeaseRow, instance_id: int) -> LeaseRow:
    """``row``, held on the instance that the list shows with its label: ours for certain only if its create named the same."""
    held = replace(row, instance_id=instance_id, state="held")
    return held if row.instance_id == instance_id else replace(held, note=f"{NOT_NAMED}found by its label")


def account_of(api: VastApi) -> int | None:
    """The account that the key of ``api`` belongs to; None when the key may not ask. Raises ApiError when nobody answers."""
    try:
        return api.current_user().value.id
    except (KeyRejected, Refused):
        return None


def _remove_keys(api: VastApi, store: Store) -> None:
    """Remove the account's SSH keys of runs whose leases are all closed: their private halves died with their processes."""
    leases = store.leases()
    living = {row.run_id for row in leases if row.state != "closed" or state_here(row.owner) is not State.ENDED}
    ended = {f"vastbench-{row.run_id}" for row in leases if row.run_id not in living}
    try:
        for key in api.list_ssh_keys().value if ended else ():
            if (key.public_key or "").split()[2:] and (key.public_key or "").split()[2] in ended:
                api.delete_ssh_key(key.id)
    except ApiError as error:
        log.warning("SSH keys of ended runs were not removed: %s", error)


def _beats(store: Store, leases: list[LeaseRow]) -> dict[str, str]:
    """The signs of life of the leases' owners. Who seems silent gets the time to give one: the store may have been away."""
    beats, now = store.beats(), store.now()
    silent = [
        str(row.owner.get("id"))
        for row in leases
        if state_here(row.owner) is State.UNKNOWN
        and beats.get(str(row.owner.get("id"))) != ENDED_BEAT
        and state_of(row.owner, beats, now) is State.ENDED
    ]
    if not silent:
        return beats
    time.sleep(2.5 * BEAT_S)
    later = store.beats()
    return later | {name: store.now().isoformat() for name in silent if later[name] != beats[name]}


def _named(whose: Mapping[str, Any]) -> str:
    return f"process {whose.get('pid')} on {whose.get('host')}"


def close_after_dead_emulators(store: Store) -> int:
    """Close the open leases whose emulator has ended, and its instances with it; how many there were.

    It has ended when it was part of a process that has, or when nothing listens any more at its address on this machine.
    Leases of live marketplaces are left alone: there an instance outlives its renter.
    """
    beats, now = store.beats(), store.now()
    ended = [row for row in store.leases(open_only=True) if state_of(row.owner, beats, now) is State.ENDED]
    gone = [row for row in ended if row.owner.get("emulator") or (is_loopback(row.url) and _refused(row.url))]
    for row in gone:
        store.close_lease(row.label, verdict="already gone", note="its emulator has ended")
    return len(gone)


def left_open(place: str | Path) -> list[str]:
    """What owners that have ended left open in the store at ``place``, which need not be there: labels with instances."""
    try:
        with Store.existing(place) as store:
            close_after_dead_emulators(store)
            leases = store.leases(open_only=True)
    except VastbenchError as error:
        log.warning("the store %s cannot be read: %s", place, error)
        return []
    ended = [row for row in leases if state_here(row.owner) is State.ENDED]
    return [f"{row.label} (instance {row.instance_id or 'not known'})" for row in ended]


def _refused(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=2.0):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def last_sweep(store: Store, url: str, account: int | None) -> str:
    """A sentence: when the account was last found without anything that a dead owner left."""
    swept_at = store.last_sweep(url, account)
    if swept_at is None:
        return "This account was never swept with this store."
    return f"This account was last swept on {swept_at[:10]} at {swept_at[11:16]} UTC."


def not_closed(findings: list[Finding]) -> VastbenchError | None:
    """The error that says what could not be closed; None when everything was."""
    left = [one for one in findings if one.verdict in NOT_CLOSED]
    if not left:
        return None
    names = ", ".join(f"{one.label} (instance {one.instance_id}, {one.verdict})" for one in left[:5])
    return LeaseNotClosed(
        f"Not closed: {names}.",
        hint="They may still bill. Try `vastbench reap` again, or destroy them by hand: `vastai destroy instance ID`.",
    )
