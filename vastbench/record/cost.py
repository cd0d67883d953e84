"""What a run costs, worked out here alone: by meter, at worst, naively, and as the account charged it.

Three meters: the GPU only while running, storage from creation until destroyed, bytes both ways. A month has 720 hours. Sources
of the rules: Vast.ai's billing pages; an instance is not charged for its GPU while it loads. Whatever asks for dollars (budget,
table, finding, report, notebook) takes them from these functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from vastbench.record.moments import Moment

HOURS_PER_MONTH = 720
"""The marketplace's month for storage prices: 30 days of 24 hours."""

SECONDS_PER_HOUR = 3600

METERS = ("gpu", "storage", "transfer")
"""What an instance is billed by."""

TOTAL = "total"
"""What all of it is called beside the meters."""

ROUNDED_USD = 0.0005
"""By how much an amount of an account may be off: it has three decimals."""

LATE_S = 86_400.0
"""Clock seconds after an instance's end until which a charge that has not come is late, and after which it is missing: accounts
charge by the day."""

DIGITS = 9
"""Decimals of a dollar that are kept of a charge; its own rounding is a million times as coarse."""


def usd_for(seconds: float, usd_per_hour: float) -> float:
    """What so many seconds cost at an hourly price, in USD.

    >>> usd_for(100.0, 0.36)
    0.01
    """
    return usd_per_hour * seconds / SECONDS_PER_HOUR


def storage_usd_per_hour(disk_gb: float, usd_per_gb_month: float) -> float:
    """What a disk of so many GB costs in an hour, in USD."""
    return disk_gb * usd_per_gb_month / HOURS_PER_MONTH


@dataclass(frozen=True, slots=True)
class Rates:
    """What an offer asks for, in USD; None for what is not known.

    ``usd_per_hour``: the whole hourly price as advertised. ``gpu_usd_per_hour``: the GPU's part of it; by default, the whole.
    ``storage_usd_per_gb_month`` is for each GB of disk; the last two for each 10⁹ bytes to and from the machine.
    """

    usd_per_hour: float | None
    gpu_usd_per_hour: float | None = None
    storage_usd_per_gb_month: float | None = None
    usd_per_gb_down: float | None = None
    usd_per_gb_up: float | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run cost, in USD, by meter; an estimate from the run's own bounds.

    ``gpu_usd`` with ``gpu_lower_usd``/``gpu_upper_usd``: seconds running × price. ``storage_usd``: seconds from creation to
    destruction × storage price. ``transfer_usd``: the test file's bytes × the offer's price per GB
    (10⁹ bytes); the image pull and the protocol's own bytes are not known to us. ``naive_usd``: wall clock × hourly
    price, as is commonly reported. Missing values are None.
    """

    gpu_usd: float | None = None
    gpu_lower_usd: float | None = None
    gpu_upper_usd: float | None = None
    storage_usd: float | None = None
    transfer_usd: float | None = None
    naive_usd: float | None = None

    @property
    def at_least_usd(self) -> float | None:
        """The lower bound of what the meters say; None where there is none."""
        return self._with_gpu(self.gpu_lower_usd)

    @property
    def at_most_usd(self) -> float | None:
        """The upper bound of what the meters say; the naive figure where there is none, None where that is missing too."""
        return self.naive_usd if self.gpu_upper_usd is None else self._with_gpu(self.gpu_upper_usd)

    @property
    def total_usd(self) -> float | None:
        """The known meters together, or None when the GPU meter is unknown."""
        return self._with_gpu(self.gpu_usd)

    def _with_gpu(self, gpu_usd: float | None) -> float | None:
        return None if gpu_usd is None else gpu_usd + (self.storage_usd or 0.0) + (self.transfer_usd or 0.0)

    def __add__(self, other: Cost) -> Cost:
        """Both together, meter by meter: the GPU's and the naive figure missing where either is, the others what is known."""
        pairs = {one.name: (getattr(self, one.name), getattr(other, one.name)) for one in fields(self)}
        known = {name: [usd for usd in pair if usd is not None] for name, pair in pairs.items()}
        fewest = {name: 1 if name in ("storage_usd", "transfer_usd") else 2 for name in pairs}
        return Cost(**{name: sum(found) if len(found) >= fewest[name] else None for name, found in known.items()})


@dataclass(frozen=True, slots=True)
class Usage:
    """What of one machine was used; readings in clock seconds, None for what was not seen. ``total_s``: the whole run.

    ``paused``: when it was stopped, and not started again. From then on only its disk is paid for.
    """

    total_s: float | None
    created: Moment | None = None
    running: Moment | None = None
    paused: Moment | None = None
    destroyed: Moment | None = None
    disk_gb: float | None = None
    bytes_down: int = 0
    bytes_up: int = 0


def cost_of(used: Usage, rates: Rates) -> Cost:
    """The three meters of one machine, and the naive figure beside them.

    A meter whose price or moments are missing is None. The GPU meter's bounds follow from those of ``running`` and of
    ``paused`` or ``destroyed``; its point value takes the readings that the user saw, so that it is 0 for an instance that was
    never seen running, with the time since the last poll as its upper bound.

    >>> cost_of(Usage(total_s=100.0), Rates(usd_per_hour=0.36)).naive_usd
    0.01
    """
    created, running, destroyed = used.created, used.running, used.destroyed
    price = rates.usd_per_hour if rates.gpu_usd_per_hour is None else rates.gpu_usd_per_hour
    gpu = lower = upper = storage = naive = transfer = None
    if price is not None and running and destroyed and destroyed.seen:
        idle = used.paused or destroyed
        gpu = usd_for(max(0.0, idle.upper - running.upper), price)  # an instance never seen running has run for 0 s
        lower = usd_for(max(0.0, idle.lower - running.upper), price)
        upper = usd_for(max(0.0, idle.upper - running.lower), price)
    per_gb_month = rates.storage_usd_per_gb_month
    if per_gb_month is not None and used.disk_gb is not None and created and destroyed and destroyed.seen:
        storage = usd_for(destroyed.upper - created.upper, storage_usd_per_hour(used.disk_gb, per_gb_month))
    if rates.usd_per_gb_down is not None and rates.usd_per_gb_up is not None:
        transfer = (used.bytes_down * rates.usd_per_gb_down + used.bytes_up * rates.usd_per_gb_up) / 1e9
    if rates.usd_per_hour is not None and used.total_s is not None:
        naive = usd_for(used.total_s, rates.usd_per_hour)
    return Cost(gpu, lower, upper, storage, transfer, naive)


@dataclass(frozen=True, slots=True)
class Charged:
    """An amount that an account shows, in USD: what was charged lies no further than ``rounding_usd`` from ``usd``."""

    usd: float
    rounding_usd: float = 0.0

    @classmethod
    def between(cls, low: float, high: float) -> Charged:
        """What lies between two amounts."""
        return cls((low + high) / 2, (high - low) / 2)

    @property
    def low(self) -> float:
        """The least that was charged."""
        return self.usd - self.rounding_usd

    @property
    def high(self) -> float:
        """The most that was charged."""
        return self.usd + self.rounding_usd

    def __add__(self, other: Charged) -> Charged:
        """Both amounts together; so are their roundings, which may all go the same way."""
        return Charged(self.usd + other.usd, self.rounding_usd + other.rounding_usd)

    def narrowed(self, other: Charged | None) -> Charged:
        """What this and another statement of the same amount leave; this one alone where they contradict each other."""
        if other is None or max(self.low, other.low) > min(self.high, other.high):
            return self
        return Charged.between(max(self.low, other.low), min(self.high, other.high))


def together(amounts: Iterable[Charged]) -> Charged:
    """The sum of amounts; nothing, exactly, of none."""
    return sum(amounts, Charged(0.0))


class Match(StrEnum):
    """What came of setting a run's charges beside its meters."""

    AGREES = "agrees"
    """The charges lie within the meters' bounds, as far as rounding lets them be known."""
    DIFFERS = "differs"
    """They lie outside."""
    LATE = "late"
    """Not all of them has come, and it may still come."""
    MISSING = "missing"
    """An instance has no charge although its end is longer ago than LATE_S."""
    NOT_ESTIMATED = "not estimated"
    """There are charges, but the run's own meters are not known."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What an account charged for a run, in USD by meter, and whether it is what the run's meters say.

    ``rounding_usd``: how far ``total_usd`` may be from what was charged, since accounts round. ``match``: one of
    :class:`Match`. A meter is None where the charges do not name it; all is None where nobody has asked.
    """

    gpu_usd: float | None = None
    storage_usd: float | None = None
    transfer_usd: float | None = None
    total_usd: float | None = None
    rounding_usd: float | None = None
    match: str | None = None


def at_most_usd(cost: Cost, bill: Bill) -> float | None:
    """What a run cost at most: what its meters say at most, or what was charged where that is more.

    None where the meters say nothing: a charge of which more may come bounds nothing.

    >>> at_most_usd(Cost(naive_usd=0.5), Bill(total_usd=0.7, rounding_usd=0.0005))
    0.7005
    """
    if cost.at_most_usd is None or bill.total_usd is None:
        return cost.at_most_usd
    return max(cost.at_most_usd, bill.total_usd + (bill.rounding_usd or 0.0))


@dataclass(frozen=True, slots=True)
class Charges:
    """The charges of a run as they stand in the store: what they come to, and ``by_contract``, by the ids of its instances, the
    account's own rows, as the marketplace at ``url`` gave them at the date ``asked_at`` (ISO 8601, UTC)."""

    run_id: str
    url: str
    asked_at: str
    bill: Bill
    by_contract: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def reconciled(cost: Cost, charged: Mapping[str, Charged], *, lacking: bool, age_s: float | None) -> Bill:
    """A run's charges beside its meters.

    ``charged``: what is known of ``METERS`` and ``TOTAL``, nothing where there is no row. ``lacking``: one of the run's
    instances has no row. ``age_s``: clock seconds since the last of them ended; None while one may exist.

    >>> reconciled(Cost(0.003, 0.002, 0.004), {"total": Charged(0.005, 0.0005)}, lacking=False, age_s=60.0).match
    'differs'
    """
    whole, least, most = charged.get(TOTAL), cost.at_least_usd, cost.at_most_usd
    more_may_come = age_s is None or age_s < LATE_S
    if whole is None:
        match = Match.LATE if more_may_come else Match.MISSING
    elif least is None or most is None:
        match = Match.NOT_ESTIMATED
    elif whole.low > most:
        match = Match.DIFFERS
    elif more_may_come and (lacking or whole.high < least):
        match = Match.LATE
    elif lacking:
        match = Match.MISSING
    else:
        match = Match.DIFFERS if whole.high < least else Match.AGREES
    known = {f"{name}_usd": round(one.usd, DIGITS) for name, one in charged.items()}
    rounding = None if whole is None else round(whole.rounding_usd, DIGITS)
    return Bill(**known, rounding_usd=rounding, match=str(match))
