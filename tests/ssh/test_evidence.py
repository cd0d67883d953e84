"""Bounds from answers, checked against simulated machines whose true moments are known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastbench.ssh.evidence import ORDER, Failure, Step, Success, bounds

STEPS = list(Step)


def test_without_a_failure_the_bound_is_when_nothing_was_known():
    moments = bounds(10.0, [], {Step.PORT: Success(12.0, 12.5, 0.5)})
    assert (moments[Step.PORT].lower, moments[Step.PORT].upper) == (10.0, 12.5)
    assert moments[Step.LOGIN].lower == 10.0
    assert not moments[Step.LOGIN].seen


def test_a_failed_step_bounds_the_later_ones_too():
    moments = bounds(0.0, [Failure(Step.PORT, 5.0, 5.1, "refused")], {s: Success(6.0, 6.5, 0.1) for s in Step})
    assert {m.lower for m in moments.values()} == {5.0}


def test_a_failure_leaves_the_steps_before_it_alone():
    successes = {Step.PORT: Success(1.0, 1.1, 0.1), Step.BANNER: Success(1.0, 1.2, 0.2), Step.LOGIN: Success(4.0, 4.1, 0.1)}
    moments = bounds(0.0, [Failure(Step.LOGIN, 3.0, 3.1, "permission denied")], successes)
    assert [moments[s].lower for s in STEPS] == [0.0, 0.0, 3.0, 3.0]


def test_a_port_that_closes_again_keeps_its_first_moment():
    failures = [Failure(Step.BANNER, 1.0, 1.2, "closed early"), Failure(Step.PORT, 2.0, 2.1, "refused")]
    moments = bounds(0.0, failures, {Step.PORT: Success(1.0, 1.1, 0.1), Step.BANNER: Success(3.0, 3.2, 0.2)})
    assert (moments[Step.PORT].lower, moments[Step.PORT].upper) == (0.0, 1.1)
    assert moments[Step.BANNER].lower == 2.0


def test_silence_shorter_than_the_answer_took_proves_nothing():
    silence = Failure(Step.BANNER, 1.0, 3.0, "silent", silence=2.0)
    slow = bounds(0.0, [silence], {Step.BANNER: Success(4.0, 7.0, 3.0)})
    quick = bounds(0.0, [silence], {Step.BANNER: Success(4.0, 4.1, 0.1)})
    assert slow[Step.BANNER].lower == 0.0
    assert quick[Step.BANNER].lower == 1.0


def test_all_four_readings_are_kept():
    moments = bounds(0.0, [Failure(Step.PORT, 1.0, 1.5, "refused")], {Step.PORT: Success(2.0, 2.5, 0.5)})
    port = moments[Step.PORT]
    assert (port.no_sent, port.no_received, port.yes_sent, port.yes_received) == (1.0, 1.5, 2.0, 2.5)
    assert port.source == "ssh"


@given(
    waits=st.tuples(*[st.floats(0, 20)] * 4),
    latency=st.floats(0.001, 3.0),
    limit=st.floats(0.5, 4.0),
    pace=st.floats(0.1, 5.0),
    start=st.floats(0, 5),
    silent=st.sets(st.sampled_from(STEPS)),
)
def test_the_truth_lies_within_the_bounds_whatever_the_latency_and_pace(waits, latency, limit, pace, start, silent):
    """A simulated machine answers each step after ``latency``; before a step's time it refuses, or says nothing."""
    truth = dict(zip(STEPS, [sum(waits[: i + 1]) for i in range(4)], strict=True))
    failures: list[Failure] = []
    successes: dict[Step, Success] = {}
    now, patience = start, limit
    while len(successes) < 4:
        began = now
        for step in STEPS:
            asked = now
            if asked < truth[step]:
                waited = patience if step in silent else latency
                now += waited
                failures.append(Failure(step, asked, now, "no", waited if step in silent else None))
                break
            if latency > patience:
                # Ready, and slower than we are patient: the silence must not count as "not ready".
                now += patience
                failures.append(Failure(step, asked, now, "slow", patience))
                patience *= 2
                break
            now += latency
            successes.setdefault(step, Success(asked, now, latency))
        now = max(now, began + pace)
    moments = bounds(0.0, failures, successes)
    for step in STEPS:
        assert moments[step].lower <= truth[step] <= moments[step].upper
    lowers = [moments[s].lower for s in STEPS]
    assert lowers == sorted(lowers)
    assert [moments[s].upper for s in STEPS] == sorted(moments[s].upper for s in STEPS)
    assert ORDER[Step.PORT] < ORDER[Step.FIRST_COMMAND]


@pytest.mark.parametrize("step", STEPS)
def test_a_step_never_seen_has_no_upper_bound(step):
    assert math.isinf(bounds(0.0, [], {})[step].upper)
