"""When a boot has failed: what stands for some polls is a verdict, what flickers is none, and nor is what stands still."""

import pytest

from tests.clocks import HandClock
from vastbench.errors import BootFailed, DeadlineExceeded
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.recorder import Recorder, outcome_of
from vastbench.rental.boot import VERDICT_POLLS, wait_running
from vastbench.rental.label import Identity
from vastbench.rental.lease import Lease
from vastbench.vast.models import Instance
from vastbench.vast.watch import Following, Sighting

LOADING = {"actual_status": "loading", "status_msg": "a1b2: Extracting"}
RUNNING = {"actual_status": "running"}
OFFLINE = {"actual_status": "offline"}
NO_PULL = {"actual_status": "loading", "status_msg": "Error response from daemon: manifest unknown"}


class Polled(Following):
    """A following whose polls show one row after the other, a second apart; None: the list lacks the instance."""

    def __init__(self, clock, rows):
        super().__init__(None, 7, 0.0, clock, None)
        self.rows = rows

    def wait_until(self, predicate, *, deadline, waited_for):
        for at, row in enumerate(self.rows, 1):
            self._see(Sighting(float(at), at + 0.1, None if row is None else Instance.model_validate({"id": 7} | row)))
            if (moment := self._moment(self.history, predicate)).seen:
                return moment
        raise DeadlineExceeded("late", waited_for=waited_for, last_seen="")


def boot(*rows):
    """The status that a boot with these polls ends in, and how many polls it took."""
    clock = HandClock()
    recorder, following = Recorder(clock), Polled(clock, list(rows))
    recorder.begin_attempt()
    lease = Lease(None, Identity("vb"), 7, Moment.exact(0.0))
    try:
        _, instance = wait_running(recorder, lease, following, 600, lambda _: None)
    finally:
        boot.polls, boot.phase = following.stats.polls, recorder.phases
    return instance.actual_status


@pytest.mark.parametrize(
    "row",
    [
        *({"actual_status": status} for status in ("error", "stopped", "exited", "offline", "unknown")),
        NO_PULL,
        {"actual_status": None, "status_msg": "toomanyrequests: pull rate limit"},
    ],
)
def test_what_stands_for_five_polls_is_a_failure_in_the_platforms_words(row):
    with pytest.raises(BootFailed, match=row.get("status_msg") or row["actual_status"]) as caught:
        boot(LOADING, *[row] * 50)
    assert boot.polls == 1 + VERDICT_POLLS
    assert outcome_of(caught.value) is Outcome.FAILED
    assert next(one for one in boot.phase if one.name == PhaseName.WAIT_RUNNING).outcome is Outcome.FAILED


def test_only_an_image_that_no_machine_can_run_is_to_be_changed():
    with pytest.raises(BootFailed) as caught:
        boot(*[NO_PULL] * VERDICT_POLLS)
    assert "--image" in caught.value.hint
    with pytest.raises(BootFailed) as caught:
        boot(*[OFFLINE] * VERDICT_POLLS)
    assert "another machine" in caught.value.hint


@pytest.mark.parametrize("bad", [OFFLINE, NO_PULL])
def test_what_flickers_is_no_verdict_however_often(bad):
    assert boot(*([LOADING] + [bad] * (VERDICT_POLLS - 1)) * 8, RUNNING) == "running"


def test_different_ways_of_failing_add_up_over_a_poll_without_the_instance():
    with pytest.raises(BootFailed):
        boot(OFFLINE, {"actual_status": "unknown"}, None, NO_PULL, OFFLINE, {"actual_status": "exited"}, RUNNING)


def test_a_message_that_stands_still_proves_nothing():
    assert boot(*[LOADING] * 590, RUNNING) == "running"
