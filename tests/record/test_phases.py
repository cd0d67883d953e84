"""Moments, phases, the recorder and the tree."""

import math
import sys
import threading
from dataclasses import replace
from itertools import count, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastbench.bundled import shared
from vastbench.clock import Clock
from vastbench.errors import BootFailed, DeadlineExceeded, Interrupted, LeaseNotClosed, UsageError
from vastbench.io.files import read_run
from vastbench.record.moments import Moment
from vastbench.record.phases import PARENTS, Outcome, Phase, PhaseName, tree
from vastbench.record.recorder import Recorder, cause_of, outcome_of

readings = st.floats(min_value=0, max_value=1e6)


def moments() -> st.SearchStrategy[Moment]:
    return st.tuples(readings, readings).map(lambda pair: Moment.between(min(pair), max(pair), "poll"))


class SteppingClock(Clock):
    """A clock that shows what it is told."""

    def __init__(self, *shown: float) -> None:
        object.__setattr__(self, "speed", 1.0)
        object.__setattr__(self, "shown", list(shown))

    __slots__ = ("shown",)

    def now(self) -> float:
        return self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]


def test_a_polled_moment_lies_between_the_last_no_and_the_first_yes():
    moment = Moment(62.2, 62.5, 72.4, 72.8, "poll")
    assert (moment.lower, moment.upper, moment.seen) == (62.2, 72.8, True)


def test_a_moment_never_seen_has_no_upper_bound():
    moment = Moment.between(600.0, None, "poll")
    assert moment.upper == math.inf
    assert not moment.seen


@pytest.mark.parametrize(("lower", "upper"), [(2.0, 1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_a_moment_refuses_readings_that_are_not_finite_or_run_backwards(lower, upper):
    with pytest.raises(ValueError, match="finite and in order"):
        Moment.between(lower, upper, "poll")


@given(moments(), moments())
def test_the_true_duration_lies_within_a_phase_s_bounds(one, other):
    start, end = sorted((one, other), key=lambda m: m.upper)
    phase = Phase(PhaseName.SEARCH, start, end)
    for true_start in (start.lower, start.upper):
        for true_end in (end.lower, end.upper):
            if true_end >= true_start:
                assert phase.lower - 1e-6 <= true_end - true_start <= phase.upper + 1e-6


def test_seconds_are_what_the_user_waited():
    phase = Phase(PhaseName.WAIT_SSH, Moment(60, 61, 70, 71, "poll"), Moment(75, 76, 80, 82, "ssh"))
    assert phase.seconds == 11
    assert (phase.lower, phase.upper) == (4, 22)


def test_a_censored_phase_has_no_seconds_but_a_lower_bound():
    phase = Phase(PhaseName.WAIT_RUNNING, Moment.exact(1), Moment.between(601, None, "poll"), Outcome.CENSORED)
    assert phase.seconds is None
    assert phase.lower == 600
    assert phase.upper == math.inf


def test_the_recorder_keeps_a_phase_that_fails_and_lets_the_error_go_on():
    recorder = Recorder(SteppingClock(0.0, 1.0, 4.0))
    with pytest.raises(BootFailed), recorder.phase(PhaseName.WAIT_RUNNING):
        raise BootFailed("status exited")
    (phase,) = recorder.phases
    assert phase.outcome is Outcome.FAILED
    assert phase.detail == "status exited"
    assert phase.seconds is None
    assert phase.lower == 3.0


@pytest.mark.parametrize(
    "error", [DeadlineExceeded("late", waited_for="x", last_seen="y"), Interrupted("stop"), KeyboardInterrupt()]
)
def test_what_stops_an_observation_from_outside_censors_it(error):
    recorder = Recorder(Clock())
    with pytest.raises(type(error)), recorder.phase(PhaseName.WAIT_SSH):
        raise error
    assert recorder.phases[0].outcome is Outcome.CENSORED


def test_the_last_negative_answer_bounds_a_censored_phase():
    recorder = Recorder(SteppingClock(0.0, 1.0, 99.0))
    with pytest.raises(KeyboardInterrupt), recorder.phase(PhaseName.WAIT_RUNNING) as phase:  # noqa: PT012
        phase.last_negative = 50.0
        raise KeyboardInterrupt
    assert recorder.phases[0].end.lower == 50.0


def test_a_listener_hears_of_begin_and_end():
    heard = []
    recorder = Recorder(Clock(), lambda name, phase: heard.append((name, phase is None)))
    with recorder.phase(PhaseName.SEARCH):
        pass
    assert heard == [(PhaseName.SEARCH, True), (PhaseName.SEARCH, False)]


def test_retries_are_attempts_of_their_own():
    recorder = Recorder(Clock())
    for _ in range(2):
        recorder.begin_attempt()
        with recorder.phase(PhaseName.CREATE):
            pass
    assert [p.attempt for p in recorder.phases] == [1, 2]


@given(st.lists(st.floats(min_value=0, max_value=1000), min_size=1, max_size=9), st.floats(min_value=0, max_value=100))
def test_the_tree_adds_up_to_the_total(durations, rest):
    tops = [name for name in PhaseName if name not in PARENTS and name != PhaseName.UNATTRIBUTED]
    phases, at = [], 0.0
    for name, took in zip(tops, durations, strict=False):
        phases.append(Phase(name, Moment.exact(at), Moment.exact(at + took)))
        at += took
    rows = tree(phases, at + rest)
    assert rows[-1].name == PhaseName.UNATTRIBUTED
    assert sum(row.seconds for row in rows if row.depth == 0) == pytest.approx(at + rest)
    assert sum(row.bottleneck for row in rows) == 1


def test_a_tree_with_a_missing_duration_claims_no_remainder():
    phases = [Phase(PhaseName.WAIT_RUNNING, Moment.exact(0), Moment.between(600, None, "poll"), Outcome.CENSORED)]
    rows = tree(phases, 610.0)
    assert [row.name for row in rows] == [PhaseName.WAIT_RUNNING]
    assert rows[0].seconds is None
    assert rows[0].share is None


def test_children_stand_under_their_parent():
    boot = Phase(PhaseName.WAIT_RUNNING, Moment.exact(0), Moment.exact(70))
    pull = Phase(PhaseName.PULL, Moment.exact(20), Moment.exact(70))
    rows = tree([pull, boot], 70)
    assert [(row.name, row.depth) for row in rows[:2]] == [(PhaseName.WAIT_RUNNING, 0), (PhaseName.PULL, 1)]


def test_a_cause_is_the_error_s_short_name():
    assert cause_of(BootFailed("x")) == "boot_failed"
    assert cause_of(KeyboardInterrupt()) == "interrupted"
    assert cause_of(RuntimeError("x")) == "internal"


def signalled_in_a_wait(line):
    """The phase of a wait that a signal breaks off at its ``line``, and the error that comes out; None if it has fewer."""
    left, recorder, condition = line, Recorder(Clock(1)), threading.Condition()

    def traced(frame, event, _):
        nonlocal left
        if frame.f_code is not threading.Condition.wait.__code__:
            return traced
        left -= event == "line"
        if left < 0:
            raise Interrupted("stop")
        return traced

    before = sys.gettrace()
    try:
        with recorder.phase(PhaseName.WAIT_RUNNING), condition:
            sys.settrace(traced)
            condition.wait(0.001)
    except (Interrupted, RuntimeError) as error:
        return recorder.phases[0], error
    finally:
        sys.settrace(before)
    return None


def test_an_interruption_is_recorded_as_one_wherever_a_wait_is():
    """A signal may come between a lock and its ``with``, which then complains of the lock."""
    ends = list(takewhile(bool, map(signalled_in_a_wait, count())))
    assert {type(error) for _, error in ends} == {Interrupted, RuntimeError}
    assert {(phase.outcome, cause_of(error)) for phase, error in ends} == {(Outcome.CENSORED, "interrupted")}


def test_what_fails_after_an_interruption_failed_by_itself():
    recorder = Recorder(Clock(1))

    def work():
        try:
            raise Interrupted("stop")
        finally:
            with recorder.phase(PhaseName.DESTROY):
                raise BootFailed("no answer")

    with pytest.raises(BootFailed) as caught:
        work()
    assert [phase.outcome for phase in recorder.phases] == [Outcome.FAILED]
    assert cause_of(caught.value) == "interrupted"


def test_that_an_instance_may_still_bill_counts_more_than_a_signal():
    error = LeaseNotClosed("instance 7")
    error.__context__ = Interrupted("stop")
    assert (outcome_of(error), cause_of(error)) == (Outcome.FAILED, "lease_not_closed")


@pytest.mark.parametrize("speed", [0, -1, math.nan, math.inf])
def test_a_clock_refuses_an_impossible_speed(speed):
    with pytest.raises(UsageError, match="clock speed"):
        Clock(speed)


def test_network_limits_do_not_shrink_below_the_floor_with_the_clock():
    assert Clock(50).socket_timeout(30) == 2.0
    assert Clock(1).socket_timeout(30) == 30


def test_a_stop_reaches_every_clock_made_from_it_and_none_above():
    clock = Clock()
    one, other = clock.child(), clock.child()
    one.stopping.set()
    assert not clock.stopping.is_set()
    clock.stopping.set()
    assert other.stopping.is_set()
    assert clock.child().stopping.is_set()


def test_clocks_may_be_made_while_others_are_stopped(eager_threads):
    clock, made, errors = Clock(), [], []

    def make():
        for _ in range(2_000):
            made.append(clock.child())

    maker = threading.Thread(target=make)
    maker.start()
    while maker.is_alive():
        try:
            clock.stopping.set()
        except RuntimeError as error:
            errors.append(error)
    maker.join()
    assert errors == []
    assert all(one.stopping.is_set() for one in made)


def test_a_rest_ends_when_the_clock_is_stopping():
    clock = Clock(100)
    clock.rest(0.1)
    clock.stopping.set()
    with pytest.raises(Interrupted):
        clock.rest(9000)


def test_a_phase_that_failed_is_no_bottleneck_nor_is_any_other_of_its_run():
    phases = [
        Phase(PhaseName.REGISTER_KEY, Moment.exact(0), Moment.exact(0.5)),
        Phase(PhaseName.SEARCH, Moment.exact(0.5), Moment.exact(3.5), Outcome.FAILED),
    ]
    assert not any(row.bottleneck for row in tree(phases, 4.0))


def test_an_earlier_try_that_failed_leaves_the_bottleneck_to_what_passed():
    phases = [
        Phase(PhaseName.SEARCH, Moment.exact(0), Moment.exact(9), Outcome.FAILED),
        Phase(PhaseName.SEARCH, Moment.exact(9), Moment.exact(12), attempt=2),
        Phase(PhaseName.CREATE, Moment.exact(12), Moment.exact(13), attempt=2),
    ]
    assert [(row.seconds, row.attempt) for row in tree(phases, 13.0) if row.bottleneck] == [(3.0, 2)]


def test_runs_are_short_in_a_list():
    run = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
    assert repr([run]) == f"[<Run {run.id}: passed after {run.total_s:.1f} s>]"
    failed = replace(run, outcome=Outcome.FAILED, cause="no_offer\x1b[31m", total_s=None)
    assert repr(failed) == f"<Run {run.id}: failed (no_offer�[31m)>"
