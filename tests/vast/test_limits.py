"""The limiter keeps the documented intervals, across threads."""

import threading

import pytest

from vastbench.clock import Clock
from vastbench.vast.limits import ALLOWANCES, Limiter

LIST, CREATE, SEARCH = "GET /api/v1/instances/", "PUT /api/v0/asks/{id}/", "POST /api/v0/bundles/"


class Frozen(Clock):
    """A clock whose sleeps advance it at once."""

    reading = 100.0

    def now(self):
        return Frozen.reading

    def sleep(self, seconds):
        Frozen.reading += max(seconds, 0)


@pytest.fixture
def limiter():
    Frozen.reading = 100.0
    return Limiter(Frozen())


def times(limiter, endpoint, calls):
    waits = [limiter.acquire(endpoint) for _ in range(calls)]
    return waits, Frozen.reading - 100


def test_the_first_call_goes_at_once_and_the_next_waits_its_interval(limiter):
    waits, _ = times(limiter, CREATE, 3)
    assert waits == pytest.approx([0, 4.52, 4.52])


def test_ten_searches_a_minute_may_come_in_a_burst(limiter):
    waits, passed = times(limiter, SEARCH, 11)
    assert waits[:10] == [0] * 10
    assert passed == pytest.approx(60.02)


def test_endpoints_do_not_wait_for_each_other(limiter):
    limiter.acquire(LIST)
    assert limiter.acquire(CREATE) == 0


def test_an_endpoint_without_a_known_limit_is_free(limiter):
    assert times(limiter, "GET /api/v0/users/current/", 5)[1] == 0


def test_after_a_refusal_all_callers_wait_as_long_as_the_reply_asked(limiter):
    limiter.refused(LIST, 7.0)
    assert limiter.acquire(LIST) == pytest.approx(7)


def test_without_a_named_time_the_rest_doubles_and_an_answer_ends_it(limiter):
    rests = []
    for _ in range(7):
        limiter.refused(LIST, None)
        rests.append(limiter.acquire(LIST))
    assert rests == pytest.approx([3, 6, 12, 24, 48, 60, 60])
    limiter.answered(LIST)
    limiter.refused(LIST, None)
    assert limiter.acquire(LIST) == pytest.approx(3)


def test_a_refused_create_pays_its_penalty_and_no_rest_is_longer_than_a_minute(limiter):
    limiter.refused(CREATE, 4.5)
    assert limiter.acquire(CREATE) == pytest.approx(12)
    limiter.refused(LIST, 86_400)
    assert limiter.acquire(LIST) == pytest.approx(60)


def test_threads_share_one_queue():
    clock = Clock(200)
    limiter = Limiter(clock)
    slots = []

    def call():
        limiter.acquire(LIST)
        slots.append(clock.now())

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(slots) == 8
    assert max(slots) - min(slots) >= 7 * ALLOWANCES[LIST].per_s
