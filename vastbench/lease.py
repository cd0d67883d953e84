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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from vastbench.clock import Clock
from vastbench.errors import ApiError, LeaseNotClosed, OfferGone, RateLimited, StoreError, UsageError
from vastbench.interrupts import shield
from vastbench.store import LeaseRow
from vastbench.timing import Moment, Outcome, PhaseName, Recorder
from vastbench.vast.api import Answer, VastApi
from vastbench.vast.limits import NotSent
from vastbench.vast.models import CreateRequest, Instance, Offer
from vastbench.vast.watch import SHORTEST_PERIOD_S, Watch

log = logging.getLogger(__name__)

AMBIGUOUS_GRACE_S = 60.0
"""Clock seconds for which the label of an ambiguous create is looked for. After that the lease stays open as unknown."""

CLEAR_NO = frozenset({400, 401, 402, 403, 404, 405, 410, 422, 429})
"""HTTP statuses with which a code of the marketplace's says for certain that a create did not happen."""

TOO_FREQUENT = "too frequent"
"""How the marketplace says in its own words that calls come too fast."""

CONFIRM_DEADLINE_S = 180.0
"""How long closing a lease may take before it is reported as leaked or unknown."""

REST_S = 2.0
"""Clock seconds to wait after an answer that could not be read, and between two looks for a label."""

CLOCKS_APART_S = 300.0
"""Real seconds by which our clock and the marketplace's may differ."""

CREATE_FAILED = "create failed: "
"""How the note of a lease begins whose contract id came with an error."""

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


@dataclass(slots=True, eq=False)
class Lease:
    """One lease that is held: its instance exists until :meth:`close` has confirmed that it is gone.

    ``opened``: the date of the lease, in epoch seconds. ``believed``: the marketplace said in so many words that it made this
    instance; otherwise only the list can say that it is ours. ``held`` is the set of all leases that are held; a lease leaves
    it when it is closed.
    """

    api: VastApi
    watch: Watch
    journal: Journal
    clock: Clock
    label: str
    instance_id: int
    created: Moment
    opened: float
    held: set[Lease] = field(default_factory=set)
    believed: bool = True
    destroyed: Moment | None = None
    verdict: str | None = None

    def close(self, recorder: Recorder | None = None) -> str:
        """Destroy the instance and confirm that it is gone, timing both phases when a recorder is given.

        Idempotent. Returns the verdict. Raises LeaseNotClosed when the instance cannot be shown to be gone in time.
        """
        if self.verdict in {"destroyed", "already gone"}:
            return self.verdict
        self._check_whose()
        verdict = "destroyed"
        recorder = recorder or Recorder(self.clock)
        with recorder.phase(PhaseName.DESTROY) as phase:
            sent = self.clock.now()
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
            phase.start = Moment.exact(self.clock.now() if answer is None else answer.received)
            phase.end = self._confirm(sent)
        if answer is None:
            self.destroyed = phase.end
        else:  # an instance that was gone already may have died at any time since it was created
            earliest = self.created.lower if verdict == "already gone" else answer.sent
            self.destroyed = Moment.between(earliest, answer.received, "action")
        self.verdict = verdict
        self.held.discard(self)
        self.journal.close_lease(self.label, verdict=verdict)
        return verdict

    def _check_whose(self) -> None:
        """See to it that the contract id is that of the instance with our label: an answer may have named another.

        Raises LeaseNotClosed, and nothing is destroyed, when that id is listed under somebody else's label.
        """
        try:
            if not self.believed and (found := _find(self.watch, self.clock, self.label)) is not None:
                self._be(found)
            listed = [one for page in self.watch.look(self.created.upper) for one in page.value]
        except ApiError as error:
            if not self.believed:
                raise self._not_closed(f"nobody can tell whether instance {self.instance_id} is ours: {error}") from error
            log.warning("instance %d is destroyed by its id alone: %s", self.instance_id, error)
            return
        ours = [one.id for one in listed if one.label == self.label]
        if ours and self.instance_id not in ours:
            self._be(ours[0])
        other = next((one for one in listed if one.id == self.instance_id and not self._may_be(one)), None)
        if other is not None:
            raise self._not_closed(f"instance {other.id} is not ours: its label is {other.label!r}")

    def _be(self, instance_id: int) -> None:
        """Take ``instance_id`` for ours, because the list shows our label with it."""
        if instance_id != self.instance_id:
            self.instance_id = instance_id
            _note(self.journal, self.label, instance_id=instance_id)

    def _not_closed(self, why: str) -> LeaseNotClosed:
        """The error for a lease whose instance is not touched, after noting the reason."""
        _note(self.journal, self.label, verdict="unknown", note=why[:300])
        return LeaseNotClosed(
            f"The lease {self.label} is not closed: {why}.",
            hint=f"Nothing was destroyed. Look for ours: `vastai show instances --label {self.label}`.",
        )

    def _destroy(self) -> Answer[str] | None:
        """Send the delete; None when its answer is unknown, so that only the confirmation can tell."""
        try:
            return self.api.destroy_instance(self.instance_id)
        except ApiError as error:
            log.warning("destroy of instance %d gave no clear answer: %s", self.instance_id, error)
            return None

    def _may_be(self, one: Instance) -> bool:
        """Whether ``one`` has our label; or none, if it was named in so many words and began no earlier than our lease."""
        if not one.label:
            return self.believed and one.start_date is not None and one.start_date > self.opened - CLOCKS_APART_S
        return one.label == self.label

    def _is(self, one: Instance) -> bool:
        return one.id == self.instance_id or one.label == self.label

    def _confirm(self, since: float) -> Moment:
        """Wait until every page of the list lacks the instance and GET by id says null."""
        deadline = self.clock.now() + CONFIRM_DEADLINE_S
        last_no, repeated, verdict, evidence = since, self.clock.now(), "unknown", "no readable answer"
        look_at = since
        while True:
            try:
                pages = self.watch.look(look_at)
                look_at = pages[0].sent + SHORTEST_PERIOD_S
                seen = [(page.sent, one.id) for page in pages for one in page.value if self._is(one)]
                if not seen:
                    by_id = self.api.get_instance(self.instance_id)
                    if by_id.value is None:
                        return Moment.between(last_no, by_id.received, "poll")
                    last_no, verdict, evidence = by_id.sent, "leaked", f"its status is {by_id.value.actual_status}"
                else:
                    last_no, verdict, evidence = seen[0][0], "leaked", "it is still on the list"
                    if self.instance_id not in [instance_id for _, instance_id in seen]:
                        self._be(seen[0][1])  # a second one with our label
                        self._destroy()
            except ApiError as error:
                look_at = self.clock.now() + REST_S
                verdict, evidence = "unknown", str(error)
            if self.clock.now() > deadline:
                _note(self.journal, self.label, verdict=verdict, note=evidence)
                raise LeaseNotClosed(
                    f"Instance {self.instance_id} ({self.label}) is not confirmed destroyed: {evidence}.",
                    hint=f"It may still bill. Destroy it by hand: `vastai destroy instance {self.instance_id}`.",
                )
            if self.clock.now() - repeated > REPEAT_DESTROY_S:
                repeated = self.clock.now()
                self._destroy()
            self.clock.sleep(look_at - self.clock.now())


@contextmanager
def hold(
    api: VastApi,
    watch: Watch,
    journal: Journal,
    clock: Clock,
    recorder: Recorder,
    *,
    run_id: str,
    offer: Offer,
    request: CreateRequest,
    usd_per_hour: float,
    deadline: datetime,
    url: str,
    owner: dict[str, Any],
    held: set[Lease],
    at_most: int | None = None,
    agree: Callable[[], None] = lambda: None,
) -> Iterator[Lease]:
    """Rent ``offer`` under a lease that is closed on every way out of the with-block.

    ``owner``: the process that it belongs to. ``held``: where the lease is listed until it is closed, so that whoever owns the
    set can close what slipped through. ``at_most``: how many leases may be open on this marketplace at once, this one included.
    ``agree`` is called when the lease is written down and nothing is sent yet; what it raises ends it there.
    ``deadline``: the date at which the instance destroys itself unless that is put off. Raises what the create raised, after
    destroying what it may have made; LeaseNotClosed when that fails; TooManyInstances, before anything is sent.
    """
    row = LeaseRow(
        label=request.label,
        run_id=run_id,
        attempt=recorder.attempt,
        url=url,
        offer_id=offer.id,
        machine_id=offer.machine_id,
        usd_per_hour=usd_per_hour,
        opened_at=utc_now(),
        deadline_at=deadline.isoformat(),
        owner=owner,
    )
    journal.open_lease(row, at_most=at_most)
    lease: Lease | None = None
    try:
        with shield():
            lease = _create(api, watch, journal, clock, recorder, offer, request, held, agree)
            journal.update_lease(request.label, state="held", instance_id=lease.instance_id)
        yield lease
    finally:
        if lease is not None:
            _close_whatever_happens(lease, recorder)


def _create(
    api: VastApi,
    watch: Watch,
    journal: Journal,
    clock: Clock,
    recorder: Recorder,
    offer: Offer,
    request: CreateRequest,
    held: set[Lease],
    agree: Callable[[], None],
) -> Lease:
    before, opened = clock.now(), time.time()
    asked, answer = False, None
    try:
        agree()
        with recorder.phase(PhaseName.CREATE) as phase:
            asked = True
            answer = api.create_instance(offer.id, request)
            phase.start, phase.end = Moment.exact(answer.sent), Moment.exact(answer.received)
    except BaseException as error:
        made = answer.value.new_contract if answer else getattr(error, "new_contract", None)
        _undo(
            api,
            watch,
            journal,
            clock,
            request.label,
            error,
            made,
            before,
            opened,
            certain=not asked or clear_no(error),
            held=held,
        )
        raise
    created = Moment.between(answer.sent, answer.received, "action")
    lease = Lease(api, watch, journal, clock, request.label, answer.value.new_contract, created, opened, held)
    held.add(lease)
    return lease


def _undo(
    api: VastApi,
    watch: Watch,
    journal: Journal,
    clock: Clock,
    label: str,
    error: BaseException,
    made: int | None,
    before: float,
    opened: float,
    *,
    certain: bool,
    held: set[Lease],
) -> None:
    """Destroy what a failed create may have made, and write down what became of it."""
    if made is None and not certain:
        try:
            made = _find(watch, clock, label)
        except LeaseNotClosed as unclear:
            _note(journal, label, verdict="unknown", note=unclear.message[:300])
            raise
        if made is None:
            note = f"not listed for {AMBIGUOUS_GRACE_S:g} s after a create without a clear answer: {error}"
            log.warning("the lease %s stays open: %s", label, note)
            _note(journal, label, verdict="unknown", note=note[:300])
            return
    if made is None:
        _quietly(lambda: journal.close_lease(label, verdict="never created", note=str(error)[:300]), label)
        return
    _note(journal, label, state="held", instance_id=made, note=f"{CREATE_FAILED}{error}"[:300])
    lease = Lease(
        api, watch, journal, clock, label, made, Moment.between(before, clock.now(), "action"), opened, held, believed=False
    )
    held.add(lease)
    lease.close()


def clear_no(error: BaseException) -> bool:
    """Whether a create that ended in ``error`` did not happen for certain.

    A status alone is not enough, since anything on the way may have set it: the marketplace's own code must come with it.
    """
    if isinstance(error, ApiError) and error.new_contract is not None:
        return False
    if isinstance(error, OfferGone):
        return error.code is not None or "no_such_ask" in error.message
    if isinstance(error, (UsageError, NotSent)):
        return True
    if isinstance(error, RateLimited) and TOO_FREQUENT in error.message:  # which it says without a code, too
        return True
    return isinstance(error, ApiError) and error.status in CLEAR_NO and error.code is not None


def _find(watch: Watch, clock: Clock, label: str) -> int | None:
    """The instance that carries ``label``, if one shows up within the grace; raises LeaseNotClosed if none was readable."""
    deadline = clock.now() + AMBIGUOUS_GRACE_S
    readable = False
    while True:
        try:
            found = [one.id for page in watch.look(clock.now()) for one in page.value if one.label == label]
            readable = True
            if found:
                return found[0]
        except ApiError as error:
            readable = False
            log.warning("the list could not be read while looking for %s: %s", label, error)
        if clock.now() > deadline:
            break
        clock.sleep(REST_S)
    if not readable:
        raise LeaseNotClosed(
            f"A create for {label} got no clear answer, and the list of instances cannot be read.",
            hint=f"An instance with that label may bill: look for it with `vastai show instances --label {label}`.",
        )
    return None


def _note(journal: Journal, label: str, **changes: Any) -> None:
    _quietly(lambda: journal.update_lease(label, **changes), label)


def _quietly(write: Callable[[], object], label: str) -> None:
    """Write to the journal where a journal that fails must not stand in the way of destroying."""
    try:
        write()
    except StoreError as error:
        log.error("the lease %s could not be updated: %s", label, error)


def _close_whatever_happens(lease: Lease, recorder: Recorder) -> None:
    """Close the lease; when a signal or a listener breaks in, close it again without them, then let the error go on."""
    try:
        with shield():
            lease.close(recorder)
    except LeaseNotClosed:
        raise
    except BaseException:
        if lease.verdict is None:
            with shield():
                lease.close()
        raise


def utc_now() -> str:
    """This moment's date, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat()
