"""What a run costs, by meter: GPU only while running, storage from creation until destroyed, bytes both ways.

A month has 720 hours. Sources of the rules: Vast.ai's billing pages; an instance is not charged for its GPU while it loads.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from vastbench.record.moments import Moment

HOURS_PER_MONTH = 720
SECONDS_PER_HOUR = 3600


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
    def at_most_usd(self) -> float | None:
        """The upper bound of what the meters say; the naive figure where there is none, None where that is missing too."""
        if self.gpu_upper_usd is None:
            return self.naive_usd
        return self.gpu_upper_usd + (self.storage_usd or 0.0) + (self.transfer_usd or 0.0)

    @property
    def total_usd(self) -> float | None:
        """The known meters together, or None when the GPU meter is unknown."""
        if self.gpu_usd is None:
            return None
        return self.gpu_usd + (self.storage_usd or 0.0) + (self.transfer_usd or 0.0)

    def __add__(self, other: Cost) -> Cost:
        """Both together, meter by meter: the GPU's and the naive figure missing where either is, the others what is known."""
        pairs = {one.name: (getattr(self, one.name), getattr(other, one.name)) for one in fields(self)}
        known = {name: [usd for usd in pair if usd is not None] for name, pair in pairs.items()}
        fewest = {name: 1 if name in ("storage_usd", "transfer_usd") else 2 for name in pairs}
        return Cost(**{name: sum(found) if len(found) >= fewest[name] else None for name, found in known.items()})


@dataclass(frozen=True, slots=True)
class Usage:
    """What of one machine was used; readings in clock seconds, None for what was not seen. ``total_s``: the whole run."""

    total_s: float | None
    created: Moment | None = None
    running: Moment | None = None
    destroyed: Moment | None = None
    disk_gb: float | None = None
    bytes_down: int = 0
    bytes_up: int = 0


def cost_of(used: Usage, rates: Rates) -> Cost:
    """The three meters of one machine, and the naive figure beside them.

    A meter whose price or moments are missing is None. The GPU meter's bounds follow from the bounds of ``running`` and
    ``destroyed``; its point value takes the readings that the user saw, so that it is 0 for an instance that was never seen
    running, with the time since the last poll as its upper bound.

    >>> cost_of(Usage(total_s=100.0), Rates(usd_per_hour=0.36)).naive_usd
    0.01
    """
    created, running, destroyed = used.created, used.running, used.destroyed
    gpu_rate = rates.usd_per_hour if rates.gpu_usd_per_hour is None else rates.gpu_usd_per_hour
    gpu = lower = upper = storage = naive = transfer = None
    if gpu_rate is not None and running and destroyed and destroyed.seen:
        per_second = gpu_rate / SECONDS_PER_HOUR
        gpu = max(0.0, destroyed.upper - running.upper) * per_second  # an instance never seen running has run for 0 s
        lower = max(0.0, destroyed.lower - running.upper) * per_second
        upper = max(0.0, destroyed.upper - running.lower) * per_second
    per_gb_month = rates.storage_usd_per_gb_month
    if per_gb_month is not None and used.disk_gb is not None and created and destroyed and destroyed.seen:
        hours = (destroyed.upper - created.upper) / SECONDS_PER_HOUR
        storage = hours * used.disk_gb * per_gb_month / HOURS_PER_MONTH
    if rates.usd_per_gb_down is not None and rates.usd_per_gb_up is not None:
        transfer = (used.bytes_down * rates.usd_per_gb_down + used.bytes_up * rates.usd_per_gb_up) / 1e9
    if rates.usd_per_hour is not None and used.total_s is not None:
        naive = rates.usd_per_hour * used.total_s / SECONDS_PER_HOUR
    return Cost(gpu, lower, upper, storage, transfer, naive)
