"""Choose an offer, hold a lease on it, wait for it: from a wish to a machine that runs commands."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from vastbench.budget import Budget
from vastbench.clock import Clock
from vastbench.errors import (
    ApiError,
    BootFailed,
    DeadlineExceeded,
    NoOffer,
    OfferGone,
    PriceRose,
    RateLimited,
    SshError,
    TooManyInstances,
    UsageError,
    Vanished,
)
from vastbench.interrupts import shield
from vastbench.keeper import AHEAD_S, kept
from vastbench.label import Label
from vastbench.lease import Journal, Lease, clear_no, hold
from vastbench.onstart import FIRST_COMMAND, SHORTEST_S, onstart
from vastbench.owner import owner as this_process
from vastbench.run import Attempt
from vastbench.ssh.keys import HostKeyPin, RunKey
from vastbench.ssh.probe import Endpoint, Probe, Ready, Step, wait_ready
from vastbench.timing import Moment, Outcome, Phase, PhaseName, Recorder, cause_of, outcome_of, summary_of
from vastbench.vast.api import Answer, VastApi
from vastbench.vast.models import CreateRequest, Instance, Offer, SshKey
from vastbench.vast.query import OfferQuery
from vastbench.vast.watch import Following, Sighting, Watch

log = logging.getLogger(__name__)

CLOSING_RESERVE_S = 300.0
"""Clock seconds beyond the deadlines that a lease may last: for the work itself and for destroying."""

CREATE_REST_S = 12.0
"""Clock seconds to wait after a create that was refused with 429: the documented penalty interval."""

LONGEST_REST_S = 60.0
"""Clock seconds that a refusal may make us wait, whatever it asks for."""

PLACE_REST_S = 5.0
"""Clock seconds between two tries to open a lease while as many as allowed are open."""

GONE_LOOKS, GONE_REST_S = 3, 3.0
"""How often an instance whose SSH failed is asked about, and the clock seconds in between."""

PRICE_SLACK = 1.001
"""By how much the contract's price may lie above what was allowed: prices are rounded on their way."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a run asks for.

    ``max_usd_per_hour``: whole hourly price, GPU and disk together. ``min_reliability``: 0–1. Deadlines are clock seconds.
    ``attempts``: how many creates may be sent while they are refused because the offer is gone or calls came too fast.
    """

    gpu_name: str | None = "RTX 4090"
    num_gpus: int = 1
    max_usd_per_hour: float = 0.5
    min_reliability: float = 0.9
    disk_gb: float = 20.0
    image: str = "nvidia/cuda:12.1.0-base-ubuntu22.04"
    boot_deadline_s: float = 600.0
    ssh_deadline_s: float = 300.0
    attempts: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot be asked for. Raises UsageError."""
        ranges = {
            "num_gpus": ("number of GPUs", 1, 64),
            "max_usd_per_hour": ("maximum price in USD per hour", 0.001, 128),
            "min_reliability": ("minimum reliability", 0, 1),
            "disk_gb": ("disk size in GB", 8, 100_000),
            "boot_deadline_s": ("boot deadline in seconds", 1, 86_400),
            "ssh_deadline_s": ("SSH deadline in seconds", 1, 86_400),
            "attempts": ("number of attempts", 1, 20),
        }
        for name, (words, low, high) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise UsageError(f"The {words} ({name}) is {value!r}.", hint=f"Give a number from {low} to {high}.")
        if not self.image or any(c.isspace() for c in self.image):
            raise UsageError(f"image is {self.image!r}.", hint="Give an image name such as ubuntu:22.04.")

    @property
    def lifetime_s(self) -> float:
        """The longest that an instance of this run may be needed, in clock seconds."""
        return self.boot_deadline_s + self.ssh_deadline_s + CLOSING_RESERVE_S

    @property
    def unattended_s(self) -> float:
        """How long an instance may live, in clock seconds, whose owner was not heard of since it was created."""
        return self.boot_deadline_s + self.ssh_deadline_s + AHEAD_S

    def worst_case_usd(self, usd_per_hour: float | None = None) -> float:
        """What one run costs at most: the whole hourly price over the whole lifetime."""
        return (self.max_usd_per_hour if usd_per_hour is None else usd_per_hour) * self.lifetime_s / 3600

    def query(self) -> OfferQuery:
        """The search for offers that meet these conditions."""
        return OfferQuery.default(
            gpu_name=self.gpu_name,
            num_gpus=self.num_gpus,
            max_usd_per_hour=self.max_usd_per_hour,
            min_reliability=self.min_reliability,
            disk_gb=self.disk_gb,
        )

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Conditions:
        """The conditions that ``document`` (of a study or a run) holds among others."""
        return cls(**{one.name: document[one.name] for one in fields(cls)})

    def to_dict(self) -> dict[str, Any]:
        """The conditions as the run's record keeps them."""
        return asdict(self)


def choose(offers: Sequence[Offer], conditions: Conditions, *, without_machines: Set[int] = frozenset()) -> Offer:
    """The cheapest offer for the wanted disk, machines in ``without_machines`` left out.

    Ties go to the lower offer id, so that the same market gives the same choice. Raises NoOffer when nothing fits.
    """
    fits = [
        offer
        for offer in offers
        if offer.machine_id not in without_machines and offer.usd_per_hour(conditions.disk_gb) <= conditions.max_usd_per_hour
    ]
    if not fits:
        gpu = conditions.gpu_name or "any GPU"
        raise NoOffer(
            f"No offer for {conditions.num_gpus} × {gpu} with {conditions.disk_gb:g} GB of disk at or below "
            f"${conditions.max_usd_per_hour:g}/h: {len(offers)} were found, {len(without_machines)} machines tried already.",
            hint="Allow a higher price, choose another GPU, or look at `vastbench offers`.",
        )
    return min(fits, key=lambda offer: (offer.usd_per_hour(conditions.disk_gb), offer.id))


@dataclass(slots=True)
class Rented:
    """A rented machine and everything that was seen on the way; filled in as the run goes on."""

    key: RunKey
    offers_found: int = 0
    offer: Offer | None = None
    lease: Lease | None = None
    deadline: datetime | None = None
    usd_per_hour: float | None = None
    instance: Instance | None = None
    following: Following | None = None
    running: Moment | None = None
    ready: Ready | None = None
    probes: tuple[Probe, ...] = ()
    attempts: list[Attempt] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


class Provisioner:
    """Rents machines on one marketplace for any number of runs at once; they share the API's limits and one polling stream.

    ``budget``: what all runs together may cost; None on an emulator, where nothing costs anything. ``max_instances``: how many
    leases may be open in the journal on this marketplace, other processes' included. ``held``: those of ours that are open.
    """

    def __init__(
        self,
        api: VastApi,
        watch: Watch,
        journal: Journal,
        clock: Clock,
        *,
        url: str,
        budget: Budget | None = None,
        max_instances: int | None = None,
        owner: dict[str, Any] | None = None,
    ) -> None:
        """Take the marketplace, where leases are written down, the clock, and whom leases belong to (this process)."""
        self.api = api
        self.watch = watch
        self.journal = journal
        self.clock = clock
        self.url = url
        self.budget = budget
        self.max_instances = max_instances
        self.owner = owner or this_process()
        self.held: set[Lease] = set()
        # Runs at once must not compete for one offer: two rents of the same offer may both be accepted, and one then fails.
        self._chosen: set[int] = set()
        self._choosing = threading.Lock()

    @contextmanager
    def rent(self, recorder: Recorder, run_id: str, conditions: Conditions, rented: Rented) -> Iterator[Rented]:
        """Rent a machine, wait until it runs a command, and give it back when the with-block ends, however it ends.

        Phases are recorded from registering the key to confirming the destruction; ``rented`` is filled as they pass, so
        that a run that fails half-way still shows what was seen.
        """
        with ExitStack() as stack:
            stack.enter_context(self._registered(recorder, rented.key))
            lease = self._lease(stack, recorder, run_id, conditions, rented)
            # Followed no longer than needed: nothing but the boot is learnt from the list.
            with self.watch.follow(lease.instance_id, since=lease.created.lower) as following:
                rented.following = following
                self._attach(lease.instance_id, rented)
                rented.running = self._wait_running(recorder, run_id, lease, following, conditions, rented)
            stack.enter_context(self._seen_to_vanish(lease.instance_id))
            rented.ready = self._wait_ssh(recorder, conditions, rented)
            rented.probes = rented.ready.probes
            stack.callback(rented.ready.session.close)
            assert rented.deadline is not None  # noqa: S101 (set with the lease)
            last = rented.deadline + timedelta(seconds=(conditions.lifetime_s - conditions.unattended_s) / self.clock.speed)
            stack.enter_context(kept(lease, rented.ready.session, self.clock, rented.deadline, last))
            yield rented

    @contextmanager
    def _seen_to_vanish(self, instance_id: int) -> Iterator[None]:
        """Let an instance that is gone be the cause when SSH to it fails in the body, and not its silence."""
        try:
            yield
        except (SshError, DeadlineExceeded) as error:
            if not self._is_gone(instance_id):
                raise
            raise Vanished(
                f"Instance {instance_id} left the account's list while it was in use: {summary_of(error)}",
                hint="The host withdrew it, or somebody destroyed it by hand.",
            ) from error

    def _is_gone(self, instance_id: int) -> bool:
        """Whether the marketplace says so, which it may do a little later than the machine falls silent."""
        for look in range(GONE_LOOKS):
            if look:
                self.clock.rest(GONE_REST_S)
            with suppress(ApiError):
                if self.api.get_instance(instance_id).value is None:
                    return True
        return False

    @contextmanager
    def _registered(self, recorder: Recorder, key: RunKey) -> Iterator[None]:
        """Register the run's key with the account before anything is created, and remove it at the end."""
        added: Answer[SshKey] | None = None
        try:
            with shield(), recorder.phase(PhaseName.REGISTER_KEY) as phase:
                added = self.api.create_ssh_key(key.public_line)
                phase.start, phase.end = Moment.exact(added.sent), Moment.exact(added.received)
            yield
        finally:
            if added is not None:
                self._remove_key(recorder, added.value.id)

    def _remove_key(self, recorder: Recorder, key_id: int) -> None:
        with shield(), recorder.phase(PhaseName.REMOVE_KEY) as phase:
            try:
                gone = self.api.delete_ssh_key(key_id)
                phase.start, phase.end = Moment.exact(gone.sent), Moment.exact(gone.received)
            except ApiError as error:
                phase.detail = f"the key stays with the account: {summary_of(error)}"
                log.warning("SSH key %s was not removed: %s", key_id, error)

    def _lease(self, stack: ExitStack, recorder: Recorder, run_id: str, conditions: Conditions, rented: Rented) -> Lease:
        """Search and create until a create goes through; each clear refusal costs one attempt."""
        tried: set[int] = set()
        number, give_up = 1, self.clock.now() + conditions.lifetime_s
        while True:
            recorder.attempt = number
            offer = self._search(recorder, conditions, tried, rented)
            try:
                lease: Lease = stack.enter_context(self._hold(recorder, run_id, conditions, offer, rented))
            except TooManyInstances:
                if self.clock.now() > give_up:
                    raise
                self._chosen.discard(offer.id)
                self.clock.rest(PLACE_REST_S)
                continue
            except BaseException as error:
                failed = Attempt(
                    number, outcome_of(error), offer.id, offer.machine_id, None, cause_of(error), summary_of(error)
                )
                rented.attempts.append(failed)
                # Only after a clear no can another create not make a second instance.
                if not isinstance(error, (OfferGone, RateLimited)) or not clear_no(error) or number == conditions.attempts:
                    raise
                if isinstance(error, RateLimited):
                    self.clock.rest(min(error.retry_after_s or CREATE_REST_S, LONGEST_REST_S))
                else:
                    tried.add(offer.machine_id or 0)
                number += 1
                continue
            rented.lease = lease
            rented.attempts.append(Attempt(number, Outcome.PASSED, offer.id, offer.machine_id, lease.instance_id))
            return lease

    def _search(self, recorder: Recorder, conditions: Conditions, tried: set[int], rented: Rented) -> Offer:
        with recorder.phase(PhaseName.SEARCH) as phase:
            found = self.api.search_offers(conditions.query())
            phase.start, phase.end = Moment.exact(found.sent), Moment.exact(found.received)
            phase.detail = f"{len(found.value)} offers"
            rented.offers_found = len(found.value)
            with self._choosing:
                free = [offer for offer in found.value if offer.id not in self._chosen]
                rented.offer = choose(free, conditions, without_machines=tried)
                self._chosen.add(rented.offer.id)
        return rented.offer

    def _hold(self, recorder: Recorder, run_id: str, conditions: Conditions, offer: Offer, rented: Rented) -> Any:
        usd_per_hour = offer.usd_per_hour(conditions.disk_gb)
        unattended_real_s = max(conditions.unattended_s / self.clock.speed, SHORTEST_S)
        opened = datetime.now(UTC)
        rented.deadline = opened + timedelta(seconds=unattended_real_s)
        last = opened + timedelta(seconds=max(conditions.lifetime_s / self.clock.speed, SHORTEST_S))
        request = CreateRequest(
            image=conditions.image,
            disk_gb=conditions.disk_gb,
            label=str(Label(self.journal.mark, run_id, recorder.attempt, last)),
            onstart=onstart(
                self.url,
                rented.deadline,
                unattended_real_s,
                # A run that lives waits for its boot no longer than that; what is left then it needs.
                unattended_real_s - conditions.boot_deadline_s / self.clock.speed,
                public_line=rented.key.public_line,
                watch_real_s=(conditions.boot_deadline_s + conditions.ssh_deadline_s) / self.clock.speed,
            ),
        )

        def agree() -> None:
            if self.budget is not None:
                self.budget.reserve(run_id, conditions.worst_case_usd(usd_per_hour))

        agree()  # and again when the lease is written down, so that two processes that ask at once see each other's
        return hold(
            self.api,
            self.watch,
            self.journal,
            self.clock,
            recorder,
            run_id=run_id,
            offer=offer,
            request=request,
            usd_per_hour=usd_per_hour,
            deadline=rented.deadline,
            url=self.url,
            owner=self.owner,
            held=self.held,
            at_most=self.max_instances,
            agree=agree,
        )

    def _attach(self, instance_id: int, rented: Rented) -> None:
        """Attach the key to the instance as well: the account's key may reach it late, or never."""
        try:
            self.api.attach_ssh_key(instance_id, rented.key.public_line)
        except ApiError as error:
            rented.notes["attach_ssh_key"] = summary_of(error)
            log.warning("the SSH key could not be attached to instance %d: %s", instance_id, error)

    def _wait_running(
        self, recorder: Recorder, run_id: str, lease: Lease, following: Following, conditions: Conditions, rented: Rented
    ) -> Moment:
        contract = Moment.exact(lease.created.upper)

        def settled(sighting: Sighting) -> bool:
            if sighting.instance is None:
                return vanished(following.history, sighting)
            if rented.usd_per_hour is None and sighting.instance.usd_per_hour is not None:
                rented.usd_per_hour = sighting.instance.usd_per_hour
                self._check_price(run_id, rented, lease, conditions)
            return sighting.instance.actual_status == "running" or sighting.instance.failed is not None

        with recorder.phase(PhaseName.WAIT_RUNNING, contract) as phase:
            try:
                phase.end = following.wait_until(
                    settled, deadline=contract.upper + conditions.boot_deadline_s, waited_for="status running"
                )
            finally:
                last = following.history[-1] if following.history else None
                rented.instance = last.instance if last else None
                phase.last_negative = last.sent if last else None
                self._inside_boot(recorder, contract, following)
            if rented.instance is None:
                phase.end = None
                raise Vanished(
                    f"Instance {lease.instance_id} left the account's list while it was booting.",
                    hint="The host withdrew it, or somebody destroyed it by hand.",
                )
            reason = rented.instance.failed
            if rented.instance.actual_status != "running":
                phase.end = None
                raise BootFailed(
                    f"Instance {lease.instance_id} will not boot: {reason}.", hint="Run again: another machine may be chosen."
                )
            return phase.end

    def _check_price(self, run_id: str, rented: Rented, lease: Lease, conditions: Conditions) -> None:
        """The price is read again off the contract: the offer is what it was a moment before."""
        assert rented.usd_per_hour is not None  # noqa: S101
        if rented.usd_per_hour > conditions.max_usd_per_hour * PRICE_SLACK:
            raise PriceRose(
                f"Instance {lease.instance_id} costs ${rented.usd_per_hour:.4f}/h; "
                f"at most ${conditions.max_usd_per_hour:g}/h were allowed.",
                hint="It is destroyed at once. Raise --max-price, or take another machine.",
            )
        offered = rented.offer.usd_per_hour(conditions.disk_gb) if rented.offer else 0.0
        if rented.usd_per_hour > offered * PRICE_SLACK:
            self.journal.update_lease(lease.label, usd_per_hour=rented.usd_per_hour)
            if self.budget is not None:
                self.budget.reserve(run_id, conditions.worst_case_usd(rented.usd_per_hour))

    def _inside_boot(self, recorder: Recorder, contract: Moment, following: Following) -> None:
        """The parts of the boot, from what the polls saw: nothing is reported that no poll saw."""

        def status(sighting: Sighting) -> str | None:
            return sighting.instance.actual_status if sighting.instance else None

        allocated = following.moment(lambda s: status(s) is not None)
        if allocated.seen:
            recorder.add(Phase(PhaseName.ALLOCATE, contract, allocated))
        loading = following.moment(lambda s: status(s) == "loading")
        running = following.moment(lambda s: status(s) == "running")
        if loading.seen:
            outcome = Outcome.PASSED if running.seen else Outcome.CENSORED
            recorder.add(Phase(PhaseName.PULL, loading, running, outcome))

    def _wait_ssh(self, recorder: Recorder, conditions: Conditions, rented: Rented) -> Ready:
        assert rented.instance is not None  # noqa: S101 (the wait before this one has set both)
        assert rented.running is not None  # noqa: S101
        running = rented.running
        endpoints = endpoints_of(rented.instance)
        with recorder.phase(PhaseName.WAIT_SSH, running) as phase:
            if not endpoints:
                raise SshError(
                    f"Instance {rented.instance.id} runs, but the API names no SSH endpoint.",
                    hint="Check that the image was started with an SSH runtype.",
                )
            try:
                ready = wait_ready(
                    endpoints,
                    rented.key,
                    HostKeyPin(),
                    clock=self.clock,
                    since=running.lower,
                    deadline=running.upper + conditions.ssh_deadline_s,
                    command=FIRST_COMMAND,
                )
            except (DeadlineExceeded, SshError) as error:
                rented.probes = tuple(getattr(error, "probes", ()))
                furthest = max(rented.probes, key=lambda p: sum(m.seen for m in p.moments.values()), default=None)
                if furthest is not None:
                    inside_ssh(recorder, running, furthest)
                    phase.last_negative = max(m.lower for m in furthest.moments.values()) if furthest.moments else None
                raise
            inside_ssh(recorder, running, ready.winner)
            phase.end = ready.winner.moments[Step.FIRST_COMMAND]
            phase.queued_s = ready.winner.queued_login_s
            phase.detail = f"over the {ready.winner.endpoint.kind} endpoint"
        return ready


def vanished(history: Sequence[Sighting], sighting: Sighting) -> bool:
    """Whether ``sighting`` is at least the second in a row to lack an instance that was listed before.

    A list may lag behind a create, and may miss an instance once; neither means that it is gone.
    """
    before = [earlier for earlier in history if earlier.sent < sighting.sent]
    return bool(before) and before[-1].instance is None and any(earlier.instance is not None for earlier in before)


def inside_ssh(recorder: Recorder, running: Moment, probe: Probe) -> None:
    """The steps of one endpoint's way to a first command, each from the end of the one before."""
    start = running
    for step in Step:
        moment = probe.moments.get(step)
        if moment is None:
            return
        outcome = Outcome.PASSED if moment.seen else Outcome.CENSORED
        queued_s = probe.queued_login_s if step is Step.LOGIN and moment.seen else 0.0
        recorder.add(Phase(PhaseName(str(step)), start, moment, outcome, queued_s=queued_s))
        start = moment


def endpoints_of(instance: Instance) -> list[Endpoint]:
    """Where the instance's SSH may answer: through the proxy and, where the host maps the port, directly."""
    found: list[Endpoint] = []
    if instance.proxy_endpoint:
        found.append(Endpoint("proxy", *instance.proxy_endpoint))
    if instance.direct_endpoint:
        found.append(Endpoint("direct", *instance.direct_endpoint))
    return found
