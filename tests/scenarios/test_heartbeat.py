"""The heartbeat detector: what is a loss, what is none, and that the true time of a loss lies inside its bounds."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastbench.errors import UsageError
from vastbench.scenarios.heartbeat import GONE, Beat, Detector, HeartbeatRule, Poll
from vastbench.vast.models import DOOMED, Instance
from vastbench.vast.watch import Sighting

RULE = HeartbeatRule(timeout_s=3.0, silence_s=12.0, misses=3, read_s=6.0, gap_s=4.0, blind_s=30.0, dead_polls=2)
ALIVE = Beat(100.0, 100.2)
DEAD = [GONE, *sorted(DOOMED)]


def detector(**changes):
    return Detector(replace(RULE, **changes), ALIVE)


def failed(at, symptom="no answer"):
    return Beat(at, at + 3.0, symptom)


def poll(at, status="running"):
    return Poll(at, at + 0.25, status)


def told(one, *events):
    """What the detector says of the last of these, in the order in which they were received."""
    for event in sorted(events, key=lambda event: event.received):
        said = one.observe(event)
    return said


def silence(until, status="running"):
    """A heartbeat and a poll in each second from 101 on, of which those are there that were received by ``until``."""
    events = [event for n in range(101, 300) for event in (failed(float(n)), poll(n + 0.5, status))]
    return [event for event in events if event.received <= until]


def test_silence_that_lasts_is_a_loss_though_it_is_said_to_run():
    one = detector()
    assert told(one, *silence(111.9)) is None
    loss = one.observe(failed(109.0))
    assert (loss.moment.no_sent, loss.moment.no_received) == (100.0, 100.2)
    assert (loss.moment.yes_sent, loss.moment.yes_received, loss.moment.source) == (109.0, 112.0, "ssh")
    assert loss.reason == "no heartbeat was answered for 12.0 s (no answer), and the status is running"


def test_a_connection_that_dies_with_its_heartbeats_is_no_loss_at_once():
    """A connection that dies takes all of its heartbeats with it."""
    one = detector()
    told(one, *(Beat(float(n), 105.0, "reset") for n in range(101, 105)), *(poll(n + 0.5) for n in range(101, 111)))
    assert one.loss is None


def test_a_single_failed_heartbeat_is_no_loss_however_long_ago():
    assert told(detector(), failed(101.0), *(poll(n + 0.5) for n in range(101, 150))) is None


def test_an_answer_starts_the_count_anew_however_late_it_comes():
    one = detector()
    assert told(one, *silence(111.9), Beat(105.0, 111.95)) is None
    assert told(one, *(failed(float(n)) for n in range(106, 114)), *(poll(n + 0.5) for n in range(111, 116))) is None
    assert one.observe(failed(114.0)).moment.lower == 105.0


@pytest.mark.parametrize("status", DEAD)
def test_a_status_that_says_it_is_over_makes_it_quicker(status):
    one = detector()
    assert told(one, poll(101.0, status), failed(102.0, "reset")) is None
    loss = told(one, poll(105.0, status))
    assert (loss.moment.lower, loss.moment.upper, loss.moment.source) == (100.0, 105.25, "poll")
    assert loss.reason == f"no heartbeat was answered for 5.2 s (reset), and the status is {status}"


@pytest.mark.parametrize("status", DEAD)
def test_a_status_alone_is_no_loss_while_heartbeats_are_answered(status):
    beats = [Beat(102.0 + 2 * n, 102.2 + 2 * n) for n in range(20)]
    assert told(detector(), *beats, *(poll(101.0 + n, status) for n in range(38))) is None


def test_a_status_that_flickers_beside_a_slow_heartbeat_is_no_loss():
    one = detector()
    assert told(one, poll(101.0, "offline"), failed(102.0), poll(103.0), poll(104.0, "offline"), poll(106.0)) is None
    assert told(one, poll(107.0, GONE), Beat(107.5, 107.9), poll(108.0, GONE), failed(108.5)) is None


def test_an_api_that_is_down_is_unknown_and_never_a_loss():
    one = detector()
    beats = [Beat(102.0 + 2 * n, 102.2 + 2 * n) for n in range(300)]
    assert told(one, *beats, *(poll(101.0 + n, None) for n in range(600))) is None


def test_our_own_network_that_is_down_is_no_loss_when_it_comes_back():
    """Neither the machine nor the API is reached for 25 s; then the API is, and the machine a few seconds later."""
    one = detector()
    back = [*(poll(n + 0.5) for n in range(125, 130)), *(failed(float(n)) for n in range(122, 127))]
    assert told(one, *silence(125.0, status=None), *back, Beat(129.0, 130.5)) is None
    assert told(one, poll(131.0), failed(131.0)) is None


def test_a_poll_that_was_long_on_its_way_does_not_show_that_we_are_online():
    assert told(detector(), *silence(119.0, status=None), Poll(110.0, 119.1, "running"), failed(117.0)) is None


def test_a_poll_that_fails_by_itself_does_not_delay_a_loss():
    one = detector()
    events = [
        replace(event, status=None) if isinstance(event, Poll) and event.sent in (104.5, 108.5) else event
        for event in silence(112)
    ]
    assert told(one, *events).moment.upper == 112.0


def test_a_machine_that_dies_while_the_api_is_down_is_lost_later():
    one = detector()
    assert told(one, *silence(129.9, status=None)) is None
    assert (
        one.observe(failed(127.0)).reason
        == "no heartbeat was answered for 30.0 s (no answer), and the API was not read meanwhile"
    )


def test_a_heartbeat_that_was_overtaken_by_an_answered_one_does_not_count():
    one = detector()
    told(one, *silence(111.9), Beat(111.0, 111.95), failed(110.0), *(poll(n + 0.5) for n in range(112, 130)))
    assert one.loss is None
    assert one.alive == Beat(111.0, 111.95)


def test_a_loss_stays_whatever_comes_afterwards():
    one = detector()
    loss = told(one, *silence(112.0))
    assert told(one, Beat(200.0, 200.2), poll(200.0), failed(210.0)) is loss


def test_a_sighting_of_the_list_is_a_poll():
    assert Poll.of(Sighting(1.0, 2.0, None)) == Poll(1.0, 2.0, GONE)
    assert Poll.of(Sighting(1.0, 2.0, Instance(id=7, actual_status="exited"))) == Poll(1.0, 2.0, "exited")
    assert Poll.of(Sighting(1.0, 2.0, Instance(id=7))) == Poll(1.0, 2.0, None)


@pytest.mark.parametrize(
    "changes",
    [{"period_s": 0.0}, {"timeout_s": math.nan}, {"misses": 0}, {"dead_polls": -1}, {"blind_s": 11.0}, {"read_s": 13.0}],
)
def test_a_rule_that_cannot_be_is_refused(changes):
    with pytest.raises(UsageError, match="heartbeat rule"):
        detector(**changes)


TIMES = st.floats(100.5, 300.0)
BEATS = st.builds(lambda at, took, symptom: Beat(at, at + took, symptom), TIMES, st.floats(0.01, 5), st.sampled_from(["", "x"]))
POLLS = st.builds(
    lambda at, took, status: Poll(at, at + took, status), TIMES, st.floats(0.01, 5), st.sampled_from(["running", GONE, None])
)


@given(st.lists(st.one_of(BEATS, POLLS), max_size=60))
def test_no_loss_without_a_failed_heartbeat_after_the_last_answered(events):
    """Whatever comes, in whatever order: the bounds are those of heartbeats that were really answered and failed."""
    one = detector()
    for n, event in enumerate(events):
        if (loss := one.observe(event)) is not None:
            seen = [e for e in events[: n + 1] if isinstance(e, Beat)]
            answered = [ALIVE, *(e for e in seen if not e.symptom)]
            assert loss.moment.lower == max(e.sent for e in answered)
            assert loss.moment.upper == event.received
            assert any(e.symptom and e.sent > loss.moment.lower for e in seen)
            break
    else:
        assert one.loss is None


@given(st.data())
def test_the_true_time_of_a_loss_lies_inside_its_bounds(data):
    """The machine dies at a drawn time; what is sent later, or arrives there later, is not answered."""
    died = data.draw(st.floats(101.0, 140.0))
    said_s, api_down = data.draw(st.sampled_from([0.0, 4.0, 90.0])), data.draw(st.booleans())
    events, at = [], 102.0
    while at < died + 60:
        took = data.draw(st.floats(0.05, 2.9))
        beat = Beat(at, at + took) if at + took / 2 < died else failed(at)
        status = None if api_down else "running" if at + 0.5 < died + said_s else GONE
        events += [beat, Poll(at + 0.5, at + 0.9, status)]
        at += 1.0
    loss = told(detector(), *events)
    assert loss is not None
    assert loss.moment.lower <= died <= loss.moment.upper
