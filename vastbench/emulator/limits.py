"""Rate limits: the least interval between two calls, or so many calls in a span, per endpoint and caller."""

from collections import deque

from vastbench.emulator.pace import Pace
from vastbench.emulator.profile import Interval, Limits, Quota

_SLACK_REAL_S = 0.005
"""Real seconds by which a call may come early: that much is this machine's scheduling, not the caller's haste."""


class Limiter:
    """Remembers who called what, and says which calls come too soon."""

    def __init__(self, limits: Limits, pace: Pace) -> None:
        """Start with no calls made."""
        self._limits = limits
        self._pace = pace
        self._allowed_at: dict[tuple[str, str, str], float] = {}
        self._penalised: set[tuple[str, str, str]] = set()
        self._recent: dict[tuple[str, str, str], deque[float]] = {}

    def refuses(self, limit: str | None, endpoint: str, method: str, caller: str) -> float | None:
        """None when the call may go on; otherwise the threshold in seconds that it violated. Emulated time counts."""
        if limit is None:
            return None
        rule = getattr(self._limits, limit)
        key = (endpoint, method, caller)
        now = self._pace.now()
        return self._quota(rule, key, now) if isinstance(rule, Quota) else self._interval(rule, key, now)

    def threshold_s(self, limit: str | None) -> float:
        """The least interval between two calls under that limit, in seconds; 0 without one."""
        rule = None if limit is None else getattr(self._limits, limit)
        return rule.seconds / rule.count if isinstance(rule, Quota) else rule.seconds if isinstance(rule, Interval) else 0.0

    def _interval(self, rule: Interval, key: tuple[str, str, str], now: float) -> float | None:
        slack = _SLACK_REAL_S * self._pace.speed
        if now < self._allowed_at.get(key, float("-inf")) - slack:
            # Once: if each refusal counted anew, a client that retries steadily would never be let in again.
            if rule.penalty and key not in self._penalised:
                self._penalised.add(key)
                self._allowed_at[key] = now + rule.penalty
            return rule.seconds
        self._penalised.discard(key)
        self._allowed_at[key] = now + rule.seconds
        return None

    def _quota(self, rule: Quota, key: tuple[str, str, str], now: float) -> float | None:
        calls = self._recent.setdefault(key, deque())
        while calls and calls[0] <= now - rule.seconds:
            calls.popleft()
        if len(calls) >= rule.count:
            return rule.seconds / rule.count
        calls.append(now)
        return None
