"""The limiter keeps the documented intervals, across threads."""

import threading

import pytest

from vastbench.clock import Clock
from vastbench.vast.limits import ALLOWANCES, LATEST_S, Limiter, NotSent

LIST, CREATE, SEARCH = "GET /api/v1/instances/", "PUT /api/v0/asks/{id}/", "POST /api/v0/bundles/"


class Frozen(Clock):
    """A clock whose sleeps advance it at once."""

    reading = 100.0

    def now(self):
        return Frozen.reading

    def sleep(self, seconds):
        Frozen.reading += max(seconds, 0)

    rest = sleep


@pytest.fixture
def limiter():
    Frozen.reading = 100.0
    return Limiter(Frozen())


def call(limiter, endpoint):
    """A call that is answered at once; how long it had to wait."""
    waited = limiter.acquire(endpoint)
    limiter.ended(endpoint)
    return waited


def times(limiter, endpoint, calls):
    waits = [call(limiter, endpoint) for _ in range(calls)]
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
        rests.append(call(limiter, LIST))
    assert rests == pytest.approx([3, 6, 12, 24, 48, 60, 60])
    limiter.answered(LIST)
    limiter.refused(LIST, None)
    assert limiter.acquire(LIST) == pytest.approx(3)


def test_a_refused_create_pays_a_penalty_and_no_rest_is_over_a_minute(limiter):
    limiter.refused(CREATE, 4.5)
    assert limiter.acquire(CREATE) == pytest.approx(12)
    limiter.refused(LIST, 86_400)
    assert limiter.acquire(LIST) == pytest.approx(60)


def test_threads_share_one_queue():
    clock = Clock(200)
    limiter = Limiter(clock)
    slots = []

    def call_it():
        limiter.acquire(LIST)
        slots.append(clock.now())
        limiter.ended(LIST)

    threads = [threading.Thread(target=call_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(slots) == 8
    assert max(slots) - min(slots) >= 7 * ALLOWANCES[LIST].per_s


def test_a_call_that_took_longer_than_usual_may_have_arrived_late(limiter):
    for took in (0.5, 0.5, 1.5):
        limiter.acquire(CREATE)
        Frozen.reading += took
        limiter.ended(CREATE)
    usual = 0.5 + 0.05 * (1.5 - 0.5)
    assert limiter.acquire(CREATE) == pytest.approx(4.52 - 1.5 + (1.5 - usual))


def test_a_call_that_took_little_longer_than_usual_arrived_in_time(limiter):
    for took in (0.5, 0.5, 0.7):
        limiter.acquire(LIST)
        Frozen.reading += took
        limiter.ended(LIST)
    assert limiter.acquire(LIST) == pytest.approx(1.02 - 0.7)


def test_a_call_without_an_answer_does_not_hold_the_others_back_for_long(limiter):
    limiter.acquire(CREATE)
    limiter.ended(CREATE)
    limiter.acquire(CREATE)
    assert limiter.acquire(CREATE) == pytest.approx(4.52 + LATEST_S)


def test_a_caller_that_went_late_is_counted_from_when_it_went():
    class Late(Frozen):
        def sleep(self, seconds):
            Frozen.reading += seconds + 3

    Frozen.reading = 100.0
    limiter = Limiter(Late())
    limiter.acquire(LIST)
    limiter.acquire(LIST)
    went = Frozen.reading
    Frozen.reading += 1.0
    assert limiter.acquire(LIST) > 0
    assert Frozen.reading - went > 1.02


@pytest.mark.timeout(30)
def test_a_stopping_clock_allows_no_create_but_every_destroy():
    clock = Clock(10)
    limiter = Limiter(clock)
    destroy = "DELETE /api/v0/instances/{id}/"
    limiter.acquire(CREATE)
    threading.Timer(0.1, clock.stopping.set).start()
    with pytest.raises(NotSent):
        limiter.acquire(CREATE)
    call(limiter, destroy)
    assert limiter.acquire(destroy) >= ALLOWANCES[destroy].per_s
