"""Rate limits, per endpoint and caller."""

from vastbench.emulator import profile
from vastbench.emulator.limits import Limiter
from vastbench.emulator.pace import Pace


class Stopped(Pace):
    """A clock that a test sets by hand."""

    reading = 0.0

    def now(self) -> float:
        return self.reading


def limiter() -> tuple[Limiter, Stopped]:
    clock = Stopped()
    return Limiter(profile.load("default").limits, clock), clock


def calls(rule: str, *readings: float) -> list[float | None]:
    """What calls at these readings are told."""
    limits, clock = limiter()
    told = []
    for clock.reading in readings:
        told.append(limits.refuses(rule, "/path/", "PUT", "me"))
    return told


def test_calls_are_refused_within_the_interval_and_let_in_after_it() -> None:
    assert calls("list", 0, 0.5, 1.0, 1.5, 2.0) == [None, 1.0, None, 1.0, None]


def test_a_penalty_counts_from_the_first_refusal_and_is_not_renewed() -> None:
    assert calls("create", 0, 1, 5, 12, 13) == [None, 4.5, 4.5, 4.5, None]


def test_a_quota_counts_the_calls_of_its_span() -> None:
    assert calls("search", *range(11), 60) == [None] * 10 + [6.0, None]


def test_callers_methods_and_endpoints_do_not_count_for_each_other() -> None:
    limits, _ = limiter()
    keys = [("/a/", "GET", "me"), ("/b/", "GET", "me"), ("/a/", "PUT", "me"), ("/a/", "GET", "you")]
    assert [limits.refuses("list", *key) for key in keys] == [None] * 4
    assert limits.refuses(None, "/a/", "GET", "me") is None
