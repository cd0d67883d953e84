"""The three meters of an instance, and the charges that they end up as."""

from dataclasses import dataclass, field
from typing import Any

GIB = 1024.0**3
"""Bytes that traffic is billed by."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What an instance costs: $/h for the GPUs and for its storage, $/GB for traffic. Fixed when it is rented."""

    gpu: float
    storage: float
    up: float
    down: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used: seconds of GPU and what they cost in $, seconds of storage, bytes out and in."""

    gpu_s: float
    gpu_usd: float
    storage_s: float
    bytes_up: int
    bytes_down: int

    def costs(self, rates: Rates) -> dict[str, float]:
        """Dollars by item: ``gpu``, ``disk``, ``bwu`` (out) and ``bwd`` (in)."""
        return {
            "gpu": self.gpu_usd,
            "disk": self.storage_s * rates.storage / 3600,
            "bwu": self.bytes_up / GIB * rates.up,
            "bwd": self.bytes_down / GIB * rates.down,
        }


@dataclass(slots=True)
class Meter:
    """When the meters of one instance ran, in emulated readings. Storage runs from ``opened`` to ``closed``; ``spans`` are the
    GPU's: start, end (None: still running) and $/h."""

    opened: float
    closed: float | None = None
    spans: list[tuple[float, float | None, float]] = field(default_factory=list)

    @property
    def gpu_running(self) -> bool:
        """Whether the GPU is being billed."""
        return bool(self.spans) and self.spans[-1][1] is None

    def start_gpu(self, at: float, rate: float) -> None:
        """The GPU is billed at ``rate`` $/h from ``at`` on, unless it is billed already."""
        if not self.gpu_running:
            self.spans.append((at, None, rate))

    def stop_gpu(self, at: float) -> None:
        """The GPU is not billed after ``at``."""
        if self.gpu_running:
            start, _, rate = self.spans[-1]
            self.spans[-1] = (start, at, rate)

    def close(self, at: float) -> None:
        """Nothing is billed after ``at``."""
        self.stop_gpu(at)
        if self.closed is None:
            self.closed = at

    def usage(self, until: float, bytes_up: int = 0, bytes_down: int = 0) -> Usage:
        """What was used up to the reading ``until``."""
        spans = [(max(0.0, min(until, until if end is None else end) - start), rate) for start, end, rate in self.spans]
        storage = max(0.0, min(until, self.closed if self.closed is not None else until) - self.opened)
        seconds, dollars = sum(s for s, _ in spans), sum(s * rate / 3600 for s, rate in spans)
        return Usage(seconds, dollars, storage, bytes_up, bytes_down)


def charge(instance: int, label: str | None, usage: Usage, rates: Rates, started: float, ended: float) -> dict[str, Any]:
    """One instance's row of charges: dates as Unix times, amounts rounded to three decimals as the account shows them."""
    costs = usage.costs(rates)
    hours = usage.gpu_s / 3600
    texts = {
        "gpu": f"{hours:.3f} hours at ${rates.gpu:.3f}/hour",
        "disk": f"{usage.storage_s / 3600:.3f} hours at ${rates.storage:.5f}/hour",
        "bwu": f"{usage.bytes_up / GIB:.3f} GB at ${rates.up:.3f}/GB",
        "bwd": f"{usage.bytes_down / GIB:.3f} GB at ${rates.down:.3f}/GB",
    }
    items: list[dict[str, Any]] = [
        {
            "type": kind,
            "start": started,
            "end": ended,
            "description": texts[kind],
            "amount": round(costs[kind], 3),
            "source": None,
            "metadata": {},
            "items": [],
        }
        for kind in ("gpu", "disk", "bwd", "bwu")
    ]
    return {
        "start": started,
        "end": ended,
        "type": "instance",
        "source": f"instance-{instance}",
        "description": f"Instance {instance} Charges",
        "amount": round(sum(costs.values()), 3),
        "metadata": {"label": label},
        "items": items,
    }
