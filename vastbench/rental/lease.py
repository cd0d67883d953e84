"""The lease: the right and the duty over one instance.

The way of a lease::

    written down and synced (intended) → create sent → contract id recorded (held) → … → delete sent → confirmed gone (closed)

The instance's label is unique to the attempt, so that an ambiguous create can be resolved by looking for it. Closing never
ends in a bare success: the verdict is ``destroyed``, ``already gone`` or ``never created``; a lease that could not be closed
stays open in the store with the verdict ``leaked`` (still seen) or ``unknown`` (no readable answer), and LeaseNotClosed is
raised.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from vastbench.clock import Clock
from vastbench.errors import ApiError, ApiUnreadable, LeaseNotClosed, RateLimited, UsageError
from vastbench.interrupts import shield
from vastbench.record.lease import CONFIRM_DEADLINE_S, LeaseRow
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.recorder import Recorder, summary_of
from vastbench.rental.label import Identity, is_cut
from vastbench.timed import within
from vastbench.vast.api import Answer, VastApi
from vastbench.vast.limits import NotSent
from vastbench.vast.models import CreateRequest, Instance, Offer
from vastbench.vast.watch import SHORTEST_PERIOD_S, Watch

log = logging.getLogger(__name__)

LISTED_WITHIN_S = 60.0
"""Clock seconds by which the marketplace's answers may lag behind a create. So long its label is searched when its answer named
no instance, and so long an instance that no answer has shown yet is not taken for gone."""

LOOK_AGAIN_S = 5.0
"""Clock seconds after all is closed until the list is read once more for labels of ours."""

TURN_WITHIN_S = 600.0
"""Clock seconds for which a list is asked for again when all that keeps it from us is a rate that others use up."""

NOT_CREATED: dict[str, frozenset[int]] = {
    # documented for PUT /asks/{id}/ (API reference of the marketplace)
    "invalid_args": frozenset({400, 403, 404}),
    "invalid_price": frozenset({400}),
    "no_ssh_key_for_vm": frozenset({400}),
    # with 409 in words alone, which the platform's own live tests expect
    "no_such_ask": frozenset({400, 404, 409, 410}),
    # a wrong key: documented as 401, answered as 404 or 403
    "auth_error": frozenset({401, 403, 404}),
    # documented under "troubleshooting", without a status
    **dict.fromkeys(("insufficient_credit", "spend_rate_limit", "missing_billing"), frozenset({400, 402, 403})),
    "rate_limit_exceeded": frozenset({429}),
}
"""The codes with which the marketplace says that it did not create an instance, and the statuses that they come with.

Closed on purpose: any gateway on the way can put a word of its own into ``error``, after the create took effect.
"""

TOO_FREQUENT = "too frequent"
"""How the marketplace says in its own words that calls come too fast."""

CHECK_S, DESTROY_S = 30.0, 60.0
"""Clock seconds that it may take to look whose instance it is (each of the list and its page), and to destroy it."""

REST_S, LONGEST_REST_S = 2.0, 10.0
"""Clock seconds to wait after an answer that could not be read, and between two polls for a label: first, and at most."""

NOT_NAMED, DOUBTED = "create failed: ", "not closed: "
"""How the note of a lease begins whose instance its create did not name in so many words, or named against other evidence."""

BY_HAND = "It may still bill. Destroy it by hand: `vastai destroy instance %d`."

REPEAT_DESTROY_S = 10.0
"""How long an instance may outlive an acknowledged destroy before destroy is sent again."""


class Journal(Protocol):
    """Where leases are written down; the store is one."""

    @property
    def mark(self) -> str:
        """What tells its labels from those of any other."""

    def open_lease(self, lease: LeaseRow, *, at_most: int | None = None) -> None:
        """Write down a lease and sync it. Raises TooManyInstances when ``at_most`` are open already."""

    def update_lease(self, label: str, **changes: Any) -> None:
        """Change columns of a lease and sync them."""

    def close_lease(self, label: str, *, verdict: str, note: str = "") -> bool:
        """Close a lease that is not closed yet, and sync it; whether this did it."""

    def leases(self) -> list[LeaseRow]:
        """All that were ever written down."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account on one marketplace, as this process works with it.

    ``journal``: where its leases are written down. ``held``: the leases that are held; one leaves the set when it is closed.
    ``opened``: all that were ever written down, by label. ``pid``: this process. One that is forked from it holds a copy of all
    this, and has no part in it.
    """

    api: VastApi
    watch: Watch
    journal: Journal
    clock: Clock
    held: set[Lease] = field(default_factory=set)
    opened: dict[str, Identity] = field(default_factory=dict)
    pid: int = field(default_factory=os.getpid)

    @property
    def ours(self) -> bool:
        """Whether this is the process that rents, and not one forked from it."""
        return os.getpid() == self.pid

    def look_again(self) -> None:
        """Wait a little, and destroy what the list shows by then under labels of ours: what came late, or came back.

        Raises LeaseNotClosed when something is there that cannot be shown to be gone.
        """
        if not self.opened:
            return
        self.clock.sleep(LOOK_AGAIN_S)
        try:
            with within(self.clock.socket_timeout(CHECK_S)):
                listed = [one for page in self.watch.poll(self.clock.now()) for one in page.value]
        except Exception as error:  # noqa: BLE001 (all is closed as far as is known)
            log.warning("the list could not be read once more after closing: %s", summary_of(error))
            return
        tried = {lease.label for lease in self.held}
        for one in listed:
            if one.label in self.opened and one.label not in tried:
                log.warning("instance %d is listed although the lease %s was closed; it is closed again", one.id, one.label)
                found = f"{NOT_NAMED}listed after it was closed"
                _note(self.journal, one.label, state="held", verdict=None, closed_at=None, instance_id=one.id, note=found)
                now = Moment.exact(self.clock.now())
                close_or_tell(Lease(self, self.opened[one.label], one.id, now, id_confirmed=False, seen=True))


@dataclass(frozen=True, slots=True)
class Terms:
    """What a lease is about: ``request`` for ``offer``, sent for the run ``run_id`` by the process ``owner``.

    ``usd_per_hour``: the whole price. ``deadline``: the date at which the instance destroys itself unless that is put off.
    ``at_most``: how many leases may be open on this marketplace at once, this one included; None for any number.
    """

    run_id: str
    offer: Offer
    request: CreateRequest
    usd_per_hour: float
    deadline: datetime
    owner: dict[str, Any]
    at_most: int | None = None


@dataclass(slots=True, eq=False)
class Lease:
    """One lease that is held: its instance exists until :meth:`close` has confirmed that it is gone.

    ``id_confirmed``: the marketplace said in so many words that it made this instance; otherwise only the list and the
    instance's own page, together, can say that it is ours. ``seen``: the list or its own page has shown the instance. ``note``:
    what its lease's row is to say when it is closed.
    """

    account: Account
    identity: Identity
    instance_id: int
    created: Moment
    id_confirmed: bool = True
    destroyed: Moment | None = None
    verdict: str | None = None
    seen: bool = False
    note: str = ""

    @property
    def label(self) -> str:
        """The label of its instance."""
        return self.identity.label

    def close(self, recorder: Recorder | None = None) -> str:
        """Destroy the instance and confirm that it is gone, timing both phases when a recorder is given.

        Idempotent. Returns the verdict; ``left`` in a process forked from the one that rents, where nothing is done. Raises
        LeaseNotClosed when the instance cannot be shown to be gone in time.
        """
        if not self.account.ours:
            return "left"
        if self.verdict in {"destroyed", "already gone"}:
            return self.verdict
        self._check_whose()
        verdict = "destroyed"
        recorder = recorder or Recorder(self.account.clock)
        with recorder.phase(PhaseName.DESTROY) as phase:
            sent = self.account.clock.now()
            answer = self._destroy()
            if answer is None:
                phase.end, phase.outcome = Moment.between(sent, None, "action"), Outcome.FAILED
                phase.detail = "no clear answer; only the confirmation can tell"
            else:
                phase.start, phase.end = Moment.exact(answer.sent), Moment.exact(answer.received)
                phase.detail = " ".join(answer.value.split())[:120]
                sent = answer.sent
                verdict = "already gone" if "no_such_instance" in answer.value else "destroyed"
        with recorder.phase(PhaseName.CONFIRM) as phase:
            phase.start = Moment.exact(self.account.clock.now() if answer is None else answer.received)
            phase.end = self._confirm(sent)
        if verdict == "already gone" and phase.end.lower > sent:  # it was seen after that answer, which lagged behind
            answer, verdict = None, "destroyed"
        if answer is None:
            self.destroyed = phase.end
        else:  # an instance that was gone already may have died at any time since it was created
            earliest = self.created.lower if verdict == "already gone" else answer.sent
            self.destroyed = Moment.between(earliest, answer.received, "action")
        self.verdict = verdict
        self.account.held.discard(self)
        self.account.journal.close_lease(self.label, verdict=verdict, note=self.note)
        return verdict

    def _check_whose(self) -> None:
        """See to it that what is destroyed is ours: an answer may have named another, and a list may mix up its rows.

        What the create named is ours unless the list contradicts; what only carries our label is ours where its own page says
        so too. Raises LeaseNotClosed, and nothing is destroyed, when that leaves nothing that is ours for certain.
        """
        if not self.id_confirmed:
            found = _find(self.account, self.identity)
            if found is not None:
                self._be(found)
            elif (shown := self._page(self.instance_id)) is not None and not self.identity.proven_by(shown):
                raise self._not_closed(f"instance {shown.id} is not ours: its label is {shown.label!r}")
            return
        try:
            with self._at_most(CHECK_S):
                listed = [one for page in self.account.watch.poll(self.created.upper, self.label) for one in page.value]
                if all(one.id != self.instance_id for one in listed):  # it may be there under another label
                    listed = [one for page in self.account.watch.poll(self.created.upper) for one in page.value]
        except Exception as error:  # noqa: BLE001 (whatever it is, the instance must be destroyed)
            self._check_page(error)
            return
        labelled = [one.id for one in listed if self.identity.labelled(one)]
        named = next((one for one in listed if one.id == self.instance_id), None)
        self.seen = self.seen or named is not None
        if named is None and not labelled:  # gone already, or not listed yet
            return
        if named is not None and (named.label == self.label or (self._lost_its_label(named) and labelled in ([], [named.id]))):
            return
        for candidate in dict.fromkeys([self.instance_id, *labelled]):
            if self.identity.proven_by(self._page(candidate)):
                log.warning(
                    "the list shows the label %s with %s; by its own page it is that of %d", self.label, labelled, candidate
                )
                self._be(candidate)
                return
        shown_with = f"its label is {named.label!r}" if named else "it is not listed"
        elsewhere = f", and the list shows ours with {', '.join(map(str, labelled))}" if labelled else ""
        raise self._not_closed(f"instance {self.instance_id} is not ours for certain: {shown_with}{elsewhere}")

    def _check_page(self, unreadable: Exception) -> None:
        """Without a list, only the instance's own page can contradict what the create named; without both, the id decides."""
        try:
            with self._at_most(CHECK_S):
                shown = self.account.api.get_instance(self.instance_id).value
        except Exception as error:  # noqa: BLE001 (whatever it is, the instance must be destroyed)
            why = f"{summary_of(unreadable)}; {summary_of(error)}"
            log.warning("instance %d is destroyed by its id alone: %s", self.instance_id, why)
            return
        if shown is None:
            return
        if shown.label != self.label and not self._lost_its_label(shown):
            raise self._not_closed(f"instance {shown.id} is not ours for certain: its label is {shown.label!r}")
        self.seen = True

    def _lost_its_label(self, one: Instance) -> bool:
        """Whether ``one``, which our create named, has no label or what is left of ours, and nothing else contradicts.

        That is noted. Without a label it must show, too, that it began no earlier than our lease.
        """
        if one.label and not is_cut(one.label, self.label):
            return False
        if (not one.label and one.start_date is None) or not self.identity.fits(one):
            return False
        self.note = f"instance {one.id} was shown with the label {one.label!r}"
        log.warning("%s instead of %s; it is ours, because our create named it", self.note, self.label)
        return True

    def _page(self, instance_id: int) -> Instance | None:
        """The instance's own page. Raises LeaseNotClosed when it cannot be read."""
        try:
            with self._at_most(CHECK_S):
                return self.account.api.get_instance(instance_id).value
        except Exception as error:
            raise self._not_closed(f"it is unknown whether instance {instance_id} is ours: {summary_of(error)}") from error

    def _be(self, instance_id: int) -> None:
        """Take ``instance_id`` for ours, because it is proven to be."""
        self.seen = True
        if instance_id != self.instance_id:
            self.instance_id = instance_id
            _note(self.account.journal, self.label, instance_id=instance_id, note=f"{NOT_NAMED}found by its label")

    def _not_closed(self, why: str) -> LeaseNotClosed:
        """The error for a lease whose instance is not touched, after noting the reason."""
        _note(self.account.journal, self.label, verdict="unknown", note=f"{DOUBTED}{why}"[:300])
        return LeaseNotClosed(
            f"The lease {self.label} is not closed: {why}.",
            hint=f"Nothing was destroyed. Look for ours: `vastai show instances --label {self.label}`.",
        )

    def _destroy(self) -> Answer[str] | None:
        """Send the delete; None when its answer is unknown, so that only the confirmation can tell."""
        try:
            with self._at_most(DESTROY_S):
                return self.account.api.destroy_instance(self.instance_id)
        except Exception as error:  # noqa: BLE001 (the confirmation tells, and destroy is sent again)
            log.warning("destroy of instance %d gave no clear answer: %s", self.instance_id, summary_of(error))
            return None

    def _at_most(self, seconds: float) -> AbstractContextManager[None]:
        return within(self.account.clock.socket_timeout(seconds))

    def _is(self, one: Instance) -> bool:
        return one.id == self.instance_id or self.identity.labelled(one)

    def _would_be_shown(self) -> bool:
        """Whether its create is so long ago that no answer can lag behind it any more."""
        by_date = (time.time() - self.identity.opened) * self.account.clock.speed
        return max(self.account.clock.now() - self.created.upper, by_date) >= LISTED_WITHIN_S

    def _confirm(self, since: float) -> Moment:
        """Wait until every page of the list lacks the instance and GET by id says null."""
        deadline = self.account.clock.now() + CONFIRM_DEADLINE_S
        last_no, repeated, verdict, evidence = since, self.account.clock.now(), "unknown", "no readable answer"
        poll_at = since
        while True:
            try:
                with self._at_most(deadline - self.account.clock.now()):
                    pages = self.account.watch.poll(poll_at, self.label)
                    poll_at = pages[0].sent + SHORTEST_PERIOD_S
                    seen = [(page.sent, one.id) for page in pages for one in page.value if self._is(one)]
                    if not seen:
                        by_id = self.account.api.get_instance(self.instance_id)
                        if by_id.value is None and (self.seen or self._would_be_shown()):
                            return Moment.between(last_no, by_id.received, "poll")
                        if by_id.value is None:
                            verdict, evidence = "unknown", "no answer has shown it, and answers may lag behind its create"
                        else:
                            last_no, verdict, evidence = by_id.sent, "leaked", f"its status is {by_id.value.actual_status}"
                            self.seen = True
                    elif self.instance_id in (listed := [instance_id for _, instance_id in seen]):
                        last_no, verdict, evidence = seen[0][0], "leaked", "it is still on the list"
                        self.seen = True
                    elif self.identity.proven_by(self.account.api.get_instance(listed[0]).value):
                        last_no, verdict, evidence = seen[0][0], "leaked", "a second instance has its label"
                        self._be(listed[0])
                        self._destroy()
                    else:
                        last_no, verdict, evidence = seen[0][0], "unknown", _denied(listed[0])
            except Exception as error:  # noqa: BLE001 (unknown is not gone, whatever kept us from knowing)
                poll_at = self.account.clock.now() + REST_S
                verdict, evidence = "unknown", summary_of(error)
            if self.account.clock.now() > deadline:
                _note(self.account.journal, self.label, verdict=verdict, note=evidence)
                raise LeaseNotClosed(
                    f"Instance {self.instance_id} ({self.label}) is not confirmed destroyed: {evidence}.",
                    hint=BY_HAND % self.instance_id,
                )
            if self.account.clock.now() - repeated > REPEAT_DESTROY_S:
                repeated = self.account.clock.now()
                self._destroy()
            self.account.clock.sleep(poll_at - self.account.clock.now())


@contextmanager
def hold(
    account: Account, recorder: Recorder, terms: Terms, *, before_create: Callable[[], None] = lambda: None
) -> Iterator[Lease]:
    """Rent under a lease that is closed on every way out of the with-block.

    ``before_create`` is called when the lease is written down and nothing is sent yet; what it raises ends it there. Raises
    what the create raised, after destroying what it may have made; LeaseNotClosed when that fails; TooManyInstances, before
    anything is sent.
    """
    label, offer = terms.request.label, terms.offer
    row = LeaseRow(
        label=label,
        run_id=terms.run_id,
        attempt=recorder.attempt,
        url=account.api.url,
        offer_id=offer.id,
        machine_id=offer.machine_id,
        usd_per_hour=terms.usd_per_hour,
        opened_at=utc_now(),
        deadline_at=terms.deadline.isoformat(),
        owner=terms.owner,
    )
    account.journal.open_lease(row, at_most=terms.at_most)
    account.opened[label] = Identity(label, time.time(), offer.machine_id)
    lease: Lease | None = None
    try:
        with shield(account.clock.stopping.set):  # which ends a create that hangs
            lease = _create(account, recorder, terms, before_create)
            account.journal.update_lease(label, state="held", instance_id=lease.instance_id)
        yield lease
    finally:
        if lease is not None:
            _close_whatever_happens(lease, recorder)


def _create(account: Account, recorder: Recorder, terms: Terms, before_create: Callable[[], None]) -> Lease:
    before, identity = account.clock.now(), account.opened[terms.request.label]
    asked, answer, refused = False, None, None  # the last: what the create itself ended in
    try:
        before_create()
        with recorder.phase(PhaseName.CREATE) as phase:
            asked = True
            try:
                answer = account.api.create_instance(terms.offer.id, terms.request)
            except BaseException as ended:
                refused = ended
                raise
            phase.start, phase.end = Moment.exact(answer.sent), Moment.exact(answer.received)
    except BaseException as error:
        told = refused or error  # a listener that fails as the phase ends must not hide what the create was answered
        made = answer.value.new_contract if answer else getattr(told, "new_contract", None)
        if made is None and (not asked or isinstance(told, (UsageError, NotSent))):
            _never_created(account.journal, identity.label, told)
        else:
            _undo(account, identity, told, made, before)
        raise
    lease = Lease(account, identity, answer.value.new_contract, Moment.between(answer.sent, answer.received, "action"))
    account.held.add(lease)
    return lease


def _undo(account: Account, identity: Identity, error: BaseException, made: int | None, before: float) -> None:
    """Destroy what a create that was sent may have made, whatever it was answered, and write down what became of it.

    Raises ApiUnreadable when there was an instance although the answer said clearly that there was none.
    """
    journal, label, said_no = account.journal, identity.label, certainly_not_created(error)
    if made is None:
        try:
            made = _find(account, identity)
        except LeaseNotClosed as unclear:
            _note(journal, label, verdict="unknown", note=unclear.message[:300])
            raise
        if made is None and said_no:
            _never_created(journal, label, error)
            return
        if made is None:
            note = f"not listed for {LISTED_WITHIN_S:g} s after a create without a clear answer: {error}"
            log.warning("the lease %s stays open: %s", label, note)
            _note(journal, label, verdict="unknown", note=note[:300])
            return
    _note(journal, label, state="held", instance_id=made, note=f"{NOT_NAMED}{error}"[:300])
    lease = Lease(account, identity, made, Moment.between(before, account.clock.now(), "action"), id_confirmed=False)
    account.held.add(lease)
    close_or_tell(lease)
    if said_no:
        raise ApiUnreadable(
            f"The create was answered with a refusal, and yet instance {made} was there under its label; it is destroyed. "
            f"The answer: {error}",
            hint="Something between here and the marketplace repeats or answers calls: look for a proxy or gateway.",
            new_contract=made,
        ) from error


def certainly_not_created(error: BaseException) -> bool:
    """Whether a create that ended in ``error`` was not sent, or was refused in the marketplace's own words (``NOT_CREATED``).

    Even that is no proof that nothing exists: whatever repeats calls on the way may show the refusal of the second.
    """
    if isinstance(error, (UsageError, NotSent)):
        return True
    if not isinstance(error, ApiError) or error.new_contract is not None:
        return False
    if isinstance(error, RateLimited) and TOO_FREQUENT in error.message:  # which it says without a code, too
        return True
    return error.status in NOT_CREATED.get(error.code or "", ())


def _find(account: Account, identity: Identity) -> int | None:
    """The instance that is ours by the list and by its own page, if one shows up as late as the list may lag.

    Raises LeaseNotClosed when by then, and as long again, the list could not be read, or contradicts the instance's own page;
    a list that is only refused for being asked for too often is waited for longer.
    """
    clock, rest_s, unclear, patience_s = account.clock, REST_S, "", 2 * LISTED_WITHIN_S
    began = clock.now()
    while True:
        last = clock.now() - began >= LISTED_WITHIN_S
        try:
            with within(clock.socket_timeout(began + patience_s - clock.now())):
                pages = account.watch.poll(clock.now(), identity.label)
                unclear = ""
                for found in [one.id for page in pages for one in page.value if identity.noted(one)]:
                    if identity.proven_by(account.api.get_instance(found).value):
                        return found
                    unclear = _denied(found)
            if last and not unclear:
                return None
        except Exception as error:  # noqa: BLE001 (unknown is not nothing, whatever kept us from knowing)
            patience_s = TURN_WITHIN_S if isinstance(error, RateLimited) else 2 * LISTED_WITHIN_S
            unclear = f"the list of instances cannot be read: {summary_of(error)}"
            log.warning("while looking for %s: %s", identity.label, unclear)
        if unclear and clock.now() - began > patience_s:
            raise LeaseNotClosed(
                f"A create for {identity.label} may have made an instance: {unclear}.",
                hint=f"It may bill: look for it with `vastai show instances --label {identity.label}`.",
            )
        clock.sleep(rest_s * random.uniform(0.7, 1.3))  # noqa: S311 (in step with another process, every look would be refused)
        rest_s = min(1.5 * rest_s, LONGEST_REST_S)


def _denied(instance_id: int) -> str:
    return f"the list shows its label with instance {instance_id}, whose own page denies it"


def _never_created(journal: Journal, label: str, error: BaseException) -> None:
    _quietly(lambda: journal.close_lease(label, verdict="never created", note=str(error)[:300]), label)


def _note(journal: Journal, label: str, **changes: Any) -> None:
    _quietly(lambda: journal.update_lease(label, **changes), label)


def _quietly(write: Callable[[], object], label: str) -> None:
    """Write to the journal where a journal that fails must not stand in the way of destroying."""
    try:
        write()
    except Exception as error:  # noqa: BLE001
        log.error("the lease %s could not be updated: %s", label, summary_of(error))


def _close_whatever_happens(lease: Lease, recorder: Recorder) -> None:
    """Close the lease; when a signal or a listener breaks in, close it again without them, then let the error go on."""
    try:
        with shield():
            lease.close(recorder)
    except LeaseNotClosed:
        raise
    except BaseException:
        with shield():
            close_or_tell(lease)
        raise


def close_or_tell(lease: Lease) -> str:
    """Close the lease. Whatever keeps its instance from being shown to be gone is raised as LeaseNotClosed, which names it."""
    try:
        return lease.close()
    except LeaseNotClosed:
        raise
    except BaseException as error:
        if lease.verdict is not None:
            raise
        raise LeaseNotClosed(
            f"Instance {lease.instance_id} ({lease.label}) is not confirmed destroyed: {summary_of(error).rstrip('.')}.",
            hint=BY_HAND % lease.instance_id,
        ) from error


def utc_now() -> str:
    """This moment's date, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat()
