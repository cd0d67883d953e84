"""What the client did: counters for a run's instrument record."""

import math
import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One try of one call.

    ``endpoint`` is the method and path pattern; ``sent`` and ``received`` are clock readings; ``queued_s`` the clock seconds
    spent waiting for our own limiter before ``sent``; ``status`` the HTTP status, None without an answer; ``error`` the name
    of the error that the try ended in.
    """

    endpoint: str
    sent: float
    received: float
    queued_s: float
    status: int | None
    error: str | None


@dataclass(slots=True)
class ApiUsage:
    """Counters over all calls of one client, safe to update from many threads.

    ``requests`` counts tries, ``by_endpoint`` the same by endpoint; ``latencies_s`` holds sent-to-received in clock seconds
    of every try that was answered; ``queued_s`` is what all callers together waited for our own limiter.
    """

    requests: int = 0
    rate_limited: int = 0
    retries: int = 0
    timeouts: int = 0
    dropped_offers: int = 0
    queued_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    by_endpoint: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, record: CallRecord, *, timeout: bool = False) -> None:
        """Count one try."""
        with self._lock:
            self.requests += 1
            self.by_endpoint[record.endpoint] += 1
            self.queued_s += record.queued_s
            self.rate_limited += record.status == 429
            self.timeouts += timeout
            if record.status is not None:
                self.latencies_s.append(record.received - record.sent)

    def retried(self) -> None:
        """Count one repeated try."""
        with self._lock:
            self.retries += 1

    def dropped(self, offers: int) -> None:
        """Count offers that were left out because they could not be read or had no valid price."""
        with self._lock:
            self.dropped_offers += offers

    def summary(self) -> dict[str, object]:
        """The counters as plain values, with latency percentiles (nearest rank) in clock seconds, None without any."""
        with self._lock:
            latencies = sorted(self.latencies_s)
            return {
                "requests": self.requests,
                "by_endpoint": dict(sorted(self.by_endpoint.items())),
                "rate_limited": self.rate_limited,
                "retries": self.retries,
                "timeouts": self.timeouts,
                "dropped_offers": self.dropped_offers,
                "queued_s": self.queued_s,
                "latency_p50_s": _percentile(latencies, 0.50),
                "latency_p95_s": _percentile(latencies, 0.95),
                "latency_max_s": latencies[-1] if latencies else None,
            }


def _percentile(ordered: list[float], share: float) -> float | None:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
