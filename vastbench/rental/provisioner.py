"""Choose an offer, hold a lease on it, wait for it: from a wish to a machine that runs commands."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from vastbench.errors import (
    ApiError,
    BudgetRefused,
    DeadlineExceeded,
    KeyRejected,
    OfferGone,
    PriceRose,
    RateLimited,
    Refused,
    SshError,
    TooManyInstances,
    Vanished,
    VastbenchError,
)
from vastbench.interrupts import shield
from vastbench.owner import owner as this_process
from vastbench.record.conditions import Conditions
from vastbench.record.cost import usd_for
from vastbench.record.formats import dollars
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.recorder import Recorder, cause_of, outcome_of, summary_of
from vastbench.record.run import Attempt
from vastbench.rental.boot import wait_running
from vastbench.rental.budget import Budget
from vastbench.rental.deadline import extending_deadline
from vastbench.rental.label import Label
from vastbench.rental.lease import Account, Lease, Terms, certainly_not_created, hold
from vastbench.rental.login import endpoints_of, probes_of, reconnect, wait_ssh
from vastbench.rental.offers import choose, find
from vastbench.rental.startup import SHORTEST_S, onstart
from vastbench.ssh.keys import RunKey
from vastbench.ssh.probe import KINDS, Endpoint, Probe, Ready
from vastbench.ssh.session import Session
from vastbench.ssh.transport import Traffic
from vastbench.timed import within
from vastbench.vast.api import Answer
from vastbench.vast.limits import NotSent
from vastbench.vast.models import CreateRequest, Instance, Offer, SshKey
from vastbench.vast.query import OfferQuery
from vastbench.vast.replies import retryable
from vastbench.vast.watch import Following, Sighting

log = logging.getLogger(__name__)


REFUSED_REST_S = 12.0
"""Clock seconds to wait after a 429 that names none: the documented penalty interval of a create."""

LONGEST_REST_S = 60.0
"""Clock seconds that a refusal may make us wait, whatever it asks for."""

PLACE_REST_S = 5.0
"""Clock seconds between two tries to open a lease while as many as allowed are open."""

GONE_POLLS, GONE_REST_S = 3, 3.0
"""How often an instance whose SSH failed is asked about, and the clock seconds in between."""

REMOVE_KEY_S = 30.0
"""Clock seconds that removing a key may take."""

PRICE_EVERY_S, ENDPOINTS_EVERY_S = 15.0, 5.0
"""Clock seconds between two looks at the price and the endpoints of an instance that runs; until then every poll shows them.
The second holds as long as no command has run and an endpoint is missing."""

PRICE_UNKNOWN_S = 60.0
"""Clock seconds that an instance may be listed without a price."""

PRICE_SLACK = 1.001
"""By how much the contract's price may lie above what was allowed: prices are rounded on their way."""


@dataclass(slots=True)
class Rental:
    """One machine that a run wants, and everything that was seen of it on the way: what a failed run still shows.

    ``recorder``: of its phases; what is waited for ends with its clock. ``run_id``, ``conditions``: the run's. ``name``: which
    of the run's rentals it is; several may be tries at one machine. ``lifetime_s``: clock seconds that its instance may be
    needed at most. ``key``: lets us in. ``taken``: ids of the machines that the run chose, each with the rental that it was
    for; no two rentals of a run have the same. ``waits_for_place``: whether it waits while as many instances as may exist do.
    ``unclear``: a create may have made an instance that nobody found. ``usd_per_hour``: the highest price above the offer's
    that its contract showed, last read at ``price_read``. ``instance``: how it was last seen since it runs. ``sessions``: all
    that were opened with it, whose traffic is paid for; ``elsewhere``: what it loaded from others and sent to them, which is
    paid for too. ``registered``: whether the account knows the key. ``lost``: when it was, once the drill has given it up;
    what fails afterwards is not its doing. ``paused``: when it was stopped for good. All else is filled in as it goes on.
    """

    recorder: Recorder
    run_id: str
    conditions: Conditions
    name: str
    lifetime_s: float
    key: RunKey
    taken: dict[int, str] = field(default_factory=dict)
    waits_for_place: bool = True
    offers_found: int = 0
    offer: Offer | None = None
    lease: Lease | None = None
    unclear: bool = False
    usd_per_hour: float = 0.0
    price_read: float = 0.0
    following: Following | None = None
    instance: Instance | None = None
    registered: bool = False
    lost: Moment | None = None
    running: Moment | None = None
    paused: Moment | None = None
    probes: tuple[Probe, ...] = ()
    used: Endpoint | None = None
    elsewhere: Traffic = field(default_factory=Traffic)
    sessions: list[Session] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def traffic(self) -> Traffic:
        """What went over its sessions and elsewhere."""
        return sum((one.traffic for one in self.sessions), self.elsewhere)

    def ended_by(self, error: BaseException) -> None:
        """Let the attempt that went through say what ended it."""
        if self.attempts and self.attempts[-1].outcome is Outcome.PASSED:
            detail = summary_of(error, with_hint=True)
            self.attempts[-1] = replace(self.attempts[-1], outcome=outcome_of(error), cause=cause_of(error), detail=detail)


@dataclass(frozen=True, slots=True)
class Machine:
    """A rented machine that runs commands: its offer, its lease, when it was running, the open session, and whose it is."""

    offer: Offer
    lease: Lease
    running: Moment
    ready: Ready
    rental: Rental

    @property
    def session(self) -> Session:
        """The open session."""
        return self.ready.session

    def connect_again(self, within_s: float | None = None) -> Ready:
        """Another connection to where the session leads, for the caller to close; the machine must show the same host key.

        Raises NotReady after ``within_s`` clock seconds, by default the run's own limit for SSH, and what
        :func:`vastbench.ssh.probe.wait_ready` raises.
        """
        limit_s = self.rental.conditions.ssh_deadline_s if within_s is None else within_s
        ready = reconnect(self.session, self.rental.key, self.rental.recorder.clock, limit_s)
        self.rental.sessions.append(ready.session)
        return ready


class Provisioner:
    """Rents machines on one account for any number of runs at once; they share the API's limits and one polling stream.

    ``budget``: what all runs together may cost; None on an emulator, where nothing costs anything. ``max_instances``: how many
    leases may be open in the journal on this marketplace, other processes' included.
    """

    def __init__(
        self,
        account: Account,
        *,
        budget: Budget | None = None,
        max_instances: int | None = None,
        owner: dict[str, Any] | None = None,
    ) -> None:
        """Take the account, and the owner of its leases (this process)."""
        self.account = account
        self.budget = budget
        self.max_instances = max_instances
        self.owner = owner or this_process()
        # Runs at once must not compete for one offer: two rents of the same offer may both be accepted, and one then fails.
        self._chosen: set[int] = set()
        self._choosing = threading.Lock()

    @contextmanager
    def rent(self, rental: Rental) -> Iterator[Machine]:
        """Rent a machine, wait until it runs a command, and give it back when the with-block ends, however it ends.

        Phases are recorded from registering the key to confirming the destruction.
        """
        try:
            with self._rented(rental) as machine:
                yield machine
        except BaseException as error:
            rental.ended_by(error)
            raise

    @contextmanager
    def _rented(self, rental: Rental) -> Iterator[Machine]:
        conditions, clock = rental.conditions, rental.recorder.clock
        rental.recorder.begin_attempt()
        with ExitStack() as stack:
            stack.enter_context(self._registered(rental))
            lease, terms = self._lease(stack, rental)
            # Followed no longer than needed: nothing but the boot is learnt from the list.
            with self.account.watch.follow(lease.instance_id, lease.created.lower, clock, lease.label) as following:
                rental.following = following
                attached = self._attach(lease.instance_id, rental)
                running, rental.instance = wait_running(
                    rental.recorder,
                    lease,
                    following,
                    conditions.boot_deadline_s,
                    lambda sighting: self._check_price(rental, terms, sighting),
                )
            rental.running = running
            stack.enter_context(self._seen_to_vanish(rental, lease.instance_id))
            if not attached and not rental.registered:  # without either nothing ever lets us in
                self._attach(lease.instance_id, rental, needed=True)
            watched = stack.enter_context(self._watched(rental, terms, lease.instance_id))
            try:
                ready = wait_ssh(rental.recorder, lambda: _seen(rental), running, rental.key, conditions.ssh_deadline_s)
            except (DeadlineExceeded, SshError) as error:
                rental.probes = probes_of(error)
                raise
            rental.probes, rental.used = ready.probes, ready.session.endpoint
            rental.sessions.append(ready.session)
            stack.callback(ready.session.close)
            watched.append(ready.session)
            last = terms.deadline + timedelta(seconds=clock.real_s(rental.lifetime_s - conditions.unattended_s))
            stack.enter_context(extending_deadline(lease, ready.session, clock, terms.deadline, last))
            yield Machine(terms.offer, lease, running, ready, rental)

    @contextmanager
    def _seen_to_vanish(self, rental: Rental, instance_id: int) -> Iterator[None]:
        """Let an instance that is gone be the cause when SSH to it fails in the body, and not its silence."""
        try:
            yield
        except (SshError, DeadlineExceeded) as error:
            if rental.lost or not self._is_gone(instance_id):
                raise
            raise Vanished(
                f"Instance {instance_id} left the account's list while it was in use: {summary_of(error)}",
                hint="The host withdrew it, or somebody destroyed it by hand.",
            ) from error

    def _is_gone(self, instance_id: int) -> bool:
        """Whether the marketplace says so, which it may do a little later than the machine falls silent."""
        for poll in range(GONE_POLLS):
            if poll:
                self.account.clock.rest(GONE_REST_S)
            with suppress(ApiError):
                if self.account.api.get_instance(instance_id).value is None:
                    return True
        return False

    @contextmanager
    def _registered(self, rental: Rental) -> Iterator[None]:
        """Register the run's key with the account before anything is created, and remove it at the end.

        A key of ours that may not do that (a restricted one, a team's) is enough: the instance takes the run's key as well.
        """
        added: Answer[SshKey] | None = None
        give_up = rental.recorder.clock.now() + rental.lifetime_s
        try:
            stop = self.account.clock.stopping.set  # which ends a call that hangs
            with rental.recorder.phase(PhaseName.REGISTER_KEY) as phase:
                try:
                    while added is None:
                        with self._waiting_its_turn(rental, give_up), shield(stop):
                            added = self.account.api.create_ssh_key(rental.key.public_line)
                except ApiError as error:
                    if not _clearly_refused(error):
                        raise
                    phase.detail = f"not registered with the account: {summary_of(error)}"
                    rental.notes["register_ssh_key"] = f"{phase.detail} It is attached to the instance alone."
                    log.warning("the SSH key is attached to the instance alone; %s", phase.detail)
                else:
                    rental.registered = True
                    phase.start, phase.end = Moment.exact(added.sent), Moment.exact(added.received)
            yield
        finally:
            if added is not None and self.account.ours:
                self._remove_key(rental.recorder, added.value.id)

    def _remove_key(self, recorder: Recorder, key_id: int) -> None:
        with shield(), recorder.phase(PhaseName.REMOVE_KEY) as phase:
            try:
                with within(self.account.clock.socket_timeout(REMOVE_KEY_S)):
                    gone = self.account.api.delete_ssh_key(key_id)
                phase.start, phase.end = Moment.exact(gone.sent), Moment.exact(gone.received)
            except ApiError as error:
                phase.detail = f"the key stays with the account: {summary_of(error)}"
                log.warning("SSH key %s was not removed: %s", key_id, error)

    def _lease(self, stack: ExitStack, rental: Rental) -> tuple[Lease, Terms]:
        """Search and create until a create goes through; each clear refusal costs one attempt."""
        clock, conditions = rental.recorder.clock, rental.conditions
        tried: set[int] = set()
        tries, give_up = 1, clock.now() + rental.lifetime_s
        while True:
            offer = self._search(rental, tried, give_up)
            try:
                terms = self._terms(rental, offer)
                lease: Lease = stack.enter_context(self._hold(rental, terms))
            except TooManyInstances:
                if clock.now() > give_up or not rental.waits_for_place:
                    raise
                self._chosen.discard(offer.id)
                clock.rest(PLACE_REST_S)
                continue
            except BaseException as error:
                rental.unclear = not (isinstance(error, BudgetRefused) or certainly_not_created(error))
                rental.attempts.append(
                    Attempt(
                        rental.recorder.attempt,
                        outcome_of(error),
                        offer.id,
                        offer.machine_id,
                        cause=cause_of(error),
                        detail=summary_of(error),
                    )
                )
                # Only after a clear no can another create not make a second instance.
                if not isinstance(error, (OfferGone, RateLimited)) or not certainly_not_created(error):
                    raise
                if isinstance(error, RateLimited):
                    # Others on the account may have called: that says nothing against the offer, or any other.
                    if clock.now() > give_up:
                        raise
                    self._chosen.discard(offer.id)
                    clock.rest(_rest_s(error))
                elif tries == conditions.attempts:
                    raise
                else:
                    tried.add(offer.machine_id or 0)
                    tries += 1
                rental.recorder.begin_attempt()
                continue
            rental.lease, rental.price_read = lease, lease.created.upper
            number = rental.recorder.attempt
            rental.attempts.append(Attempt(number, Outcome.PASSED, offer.id, offer.machine_id, lease.instance_id))
            return lease, terms

    @contextmanager
    def _waiting_its_turn(self, rental: Rental, give_up: float) -> Iterator[None]:
        """Let a refusal for calling too often, which others on the account may have caused, end the body and no more.

        Raises Interrupted when the run is to stop, and what it was refused with at the clock reading ``give_up``.
        """
        try:
            yield
        except RateLimited as error:
            clock = rental.recorder.clock
            if not retryable(error) or clock.now() > give_up:
                raise
            clock.rest(_rest_s(error))

    @cached_property
    def _rented_before(self) -> Counter[int]:
        """How often each machine was rented, by the journal and since."""
        return Counter(row.machine_id for row in self.account.journal.leases() if row.machine_id is not None)

    def _search(self, rental: Rental, tried: set[int], give_up: float) -> Offer:
        def search(wanted: OfferQuery) -> list[Offer]:
            found: Answer[list[Offer]] | None = None
            while found is None:
                with self._waiting_its_turn(rental, give_up):
                    found = self.account.api.search_offers(wanted)
            phase.start, phase.end = phase.start or Moment.exact(found.sent), Moment.exact(found.received)
            phase.detail = f"{len(found.value)} offers"
            rental.offers_found = len(found.value)
            return found.value

        def pick(offers: Sequence[Offer]) -> Offer:
            with self._choosing:
                free = [offer for offer in offers if offer.id not in self._chosen]
                if not rental.registered:  # the marketplace's proxy may want a key that the account knows
                    free = [offer for offer in free if offer.direct_port_count] or free
                others = {machine_id for machine_id, whose in rental.taken.items() if whose != rental.name}
                rented = self._rented_before if rental.conditions.choose == "spread" else Counter()
                chosen = rental.offer = choose(free, rental.conditions, without_machines=tried | others, rented=rented)
                self._chosen.add(chosen.id)
                if chosen.machine_id is not None:
                    rented[chosen.machine_id] += 1
                    rental.taken[chosen.machine_id] = rental.name
                return chosen

        with rental.recorder.phase(PhaseName.SEARCH) as phase:
            return find(search, rental.conditions, pick)

    def _terms(self, rental: Rental, offer: Offer) -> Terms:
        conditions, real_s, opened = rental.conditions, self.account.clock.real_s, datetime.now(UTC)
        unattended_real_s = max(real_s(conditions.unattended_s), SHORTEST_S)
        deadline = opened + timedelta(seconds=unattended_real_s)
        last = opened + timedelta(seconds=max(real_s(rental.lifetime_s), SHORTEST_S))
        request = CreateRequest(
            image=conditions.image,
            disk_gb=conditions.disk_gb,
            label=str(Label(self.account.journal.mark, rental.run_id, rental.recorder.attempt, last)),
            onstart=onstart(
                self.account.api.url,
                deadline,
                unattended_real_s,
                # A run that lives waits for its boot no longer than that; what is left then it needs.
                unattended_real_s - real_s(conditions.boot_deadline_s),
                public_line=rental.key.public_line,
                watch_real_s=real_s(conditions.boot_deadline_s + conditions.ssh_deadline_s),
            ),
        )
        usd_per_hour = offer.usd_per_hour(conditions.disk_gb)
        return Terms(rental.run_id, offer, request, usd_per_hour, deadline, self.owner, self.max_instances)

    def _hold(self, rental: Rental, terms: Terms) -> AbstractContextManager[Lease]:
        def reserve() -> None:
            if rental.recorder.clock.stopping.is_set():
                raise NotSent("Nothing more is rented: the run is ending.")
            self._reserve(rental, terms.usd_per_hour)

        reserve()  # and again when the lease is written down, so that two processes that ask at once see each other's
        return hold(self.account, rental.recorder, terms, before_create=reserve)

    def _reserve(self, rental: Rental, usd_per_hour: float) -> None:
        if self.budget is not None:
            self.budget.reserve(rental.run_id, usd_for(rental.lifetime_s, usd_per_hour), machine=rental.name)

    def _attach(self, instance_id: int, rental: Rental, *, needed: bool = False) -> bool:
        """Attach the key to the instance as well: the account's key may reach it late, or never. Whether that was done.

        Raises what it was refused with where that is ``needed``.
        """
        try:
            self.account.api.attach_ssh_key(instance_id, rental.key.public_line)
        except ApiError as error:
            rental.notes["attach_ssh_key"] = summary_of(error)
            log.warning("the SSH key could not be attached to instance %d: %s", instance_id, error)
            if needed:
                raise
            return False
        return True

    @contextmanager
    def _watched(self, rental: Rental, terms: Terms, instance_id: int) -> Iterator[list[Session]]:
        """Look at the instance on while the body runs. When its price rises, the run is stopped and its cause is that.

        Sessions in the list that it yields are closed then. A list that somebody read in the meantime serves as well.
        """
        account, clock, ended = self.account, rental.recorder.clock, threading.Event()
        sessions: list[Session] = []
        rose: list[VastbenchError] = []

        def look() -> None:
            while True:
                incomplete = rental.used is None and len(endpoints_of(_seen(rental))) < KINDS
                every_s = ENDPOINTS_EVERY_S if incomplete else PRICE_EVERY_S
                if clock.wait(ended, every_s):
                    return
                try:
                    for page in account.watch.poll(clock.now() - every_s):
                        for one in page.value:
                            if one.id == instance_id:
                                rental.instance = one
                                self._check_price(rental, terms, Sighting(page.sent, page.received, one))
                except (PriceRose, BudgetRefused) as error:
                    rose.append(error)
                    rental.recorder.clock.stopping.set()
                    for session in sessions:
                        session.close()
                    return
                except Exception as error:  # noqa: BLE001 (nobody would hear of it, nor look at the price any more)
                    log.info("instance %d was not looked at: %s", instance_id, summary_of(error))

        looking = threading.Thread(target=look, name="vastbench-price", daemon=True)
        looking.start()
        try:
            yield sessions
        except BaseException:
            if not rose:
                raise
        finally:
            ended.set()
        if rose:
            raise rose[0] from None

    def _check_price(self, rental: Rental, terms: Terms, sighting: Sighting) -> None:
        """The price is read off the contract at every sighting: the offer is what it was a moment before.

        Raises PriceRose for one above what is allowed, and for one that nobody could read for a minute; BudgetRefused for one
        that the budget does not carry.
        """
        instance = sighting.instance
        assert instance is not None  # noqa: S101 (who is not listed has no price)
        price, most = instance.usd_per_hour, rental.conditions.max_usd_per_hour
        if price is None or price < 0:
            unknown_s = sighting.received - rental.price_read
            if "price" not in rental.notes:
                rental.notes["price"] = "it could not be read off every sighting of the contract"
                log.warning("the contract of instance %d names no price", instance.id)
            if unknown_s > PRICE_UNKNOWN_S:
                raise PriceRose(
                    f"The price of instance {instance.id} could not be read for {PRICE_UNKNOWN_S:g} s.",
                    hint="It is destroyed at once: what it costs is unknown. Run again.",
                )
            return
        rental.price_read = max(rental.price_read, sighting.received)
        if price > most * PRICE_SLACK:
            raise PriceRose(
                f"Instance {instance.id} costs {dollars(price)}/h; at most ${most:g}/h were allowed.",
                hint="It is destroyed at once. Raise --max-price, or take another machine.",
            )
        if price > max(rental.usd_per_hour, terms.usd_per_hour) * PRICE_SLACK:
            rental.usd_per_hour = price
            self.account.journal.update_lease(terms.request.label, usd_per_hour=price)
            self._reserve(rental, price)


def _seen(rental: Rental) -> Instance:
    """How the instance was last seen."""
    assert rental.instance is not None  # noqa: S101 (asked for once it runs)
    return rental.instance


def _clearly_refused(error: ApiError) -> bool:
    """Whether the marketplace, or something before it, said no; waiting would not change that."""
    no = isinstance(error, (KeyRejected, Refused)) or 400 <= (error.status or 0) < 500
    return no and not isinstance(error, RateLimited)


def _rest_s(error: RateLimited) -> float:
    """The clock seconds to wait after a 429."""
    return min(error.retry_after_s or REFUSED_REST_S, LONGEST_REST_S)
