"""What B is as a whole, of every pair of verdicts on success and on speed; what no verdict can be judged by."""

import pytest

from vastbench.analysis.verdicts import Criteria, Verdict, undecided, whole
from vastbench.errors import UsageError

WORSE, BETTER, EQUIVALENT, NOT_ENOUGH = Verdict.WORSE, Verdict.BETTER, Verdict.EQUIVALENT, Verdict.NOT_ENOUGH
SPEED = (Verdict.SLOWER, EQUIVALENT, NOT_ENOUGH, Verdict.FASTER)

TABLE = {
    WORSE: (WORSE, WORSE, WORSE, WORSE),
    EQUIVALENT: (WORSE, EQUIVALENT, NOT_ENOUGH, BETTER),
    NOT_ENOUGH: (WORSE, NOT_ENOUGH, NOT_ENOUGH, BETTER),
    BETTER: (WORSE, BETTER, BETTER, BETTER),
}
"""As in docs/compare.md."""


@pytest.mark.parametrize("success", TABLE)
def test_the_whole_follows_from_both_endpoints(success):
    assert tuple(whole(success, speed, loss_seen=False) for speed in SPEED) == TABLE[success]


@pytest.mark.parametrize("success", TABLE)
def test_what_looks_worse_in_one_endpoint_is_not_called_better(success):
    found = [whole(success, speed, loss_seen=True) for speed in SPEED]
    assert found == [NOT_ENOUGH if one is BETTER else one for one in TABLE[success]]


@pytest.mark.parametrize("other", [*SPEED, WORSE, BETTER, Verdict.A_NEVER])
def test_an_outage_of_b_is_worse_or_itself_and_nothing_else(other):
    found = whole(Verdict.B_NEVER, other, loss_seen=False)
    assert found == (WORSE if other in (WORSE, Verdict.SLOWER) else Verdict.B_NEVER)


def test_after_an_outage_of_a_b_is_better_only_if_that_is_proved():
    assert whole(BETTER, Verdict.A_NEVER, loss_seen=False) == BETTER
    assert whole(Verdict.A_NEVER, NOT_ENOUGH, loss_seen=False) == Verdict.A_NEVER


def test_it_is_said_which_group_never_passed():
    assert undecided([(0, 30), (1, 30)], "few") == (Verdict.A_NEVER, "none of the 30 runs of A passed")
    assert undecided([(0, 30), (0, 20)], "few")[1] == "none of the 30 runs of A and none of the 20 runs of B passed"
    assert undecided([(0, 19), (1, 30)], "few") == (NOT_ENOUGH, "few")


@pytest.mark.parametrize("wrong", [{"margin": 0.0}, {"margin": 1.0}, {"success_margin": 0.0}, {"confidence": 0.5}])
def test_margins_and_confidence_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError, match="cannot all be"):
        Criteria(**wrong)


def test_an_interval_for_equivalence_shares_its_error_among_the_tests():
    assert Criteria().equivalence() == pytest.approx(0.90)
    assert Criteria().equivalence(20) == pytest.approx(0.995)
