"""Random pairs of faults: two things go wrong in one run, and still it ends as they explain and leaves nothing."""

from tests.faults.matrix import make_all, random_pairs, wrong


def test_runs_under_two_faults_end_as_these_explain_and_leave_nothing() -> None:
    results = make_all(random_pairs(10, seed=5), at_once=8)
    assert [text for result in results for text in wrong(result)] == []
