"""Every fault alone: the run ends as it explains, in time, with the right attempts, and no instance outlives the reaper."""

import pytest

from tests.faults.matrix import Result, make_all, wrong
from vastbench.emulator.faults import FAULTS

AT_ONCE = 8


HOPELESS = ({"destroy-ignored": 1.0}, 0)
"""A marketplace that ignores every destroy: nothing that the client could do ends the instance."""


@pytest.fixture(scope="module")
def results() -> list[Result]:
    """One run under each fault, and the hopeless one, which takes longest."""
    return make_all([HOPELESS, *(({name: fault.usual}, 1) for name, fault in FAULTS.items())], AT_ONCE)


@pytest.mark.parametrize("name", FAULTS)
def test_the_run_ends_with_a_cause_that_the_fault_explains_and_nothing_is_left(results: list[Result], name: str) -> None:
    (result,) = [one for one in results if one.faults == (name,) and one.seed == 1]
    assert wrong(result) == []


def test_the_referee_sees_an_instance_that_cannot_be_ended_and_the_run_says_so(results: list[Result]) -> None:
    (result,) = [one for one in results if one.seed == 0]
    assert result.ended == "lease_not_closed"
    assert result.alive == 1
    assert any(one.startswith("instance") for one in result.leaked)
    assert any(one.startswith("lease") for one in result.leaked)
    assert any("leaked" in text for text in wrong(result))
