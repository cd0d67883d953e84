"""Every fault alone: the run ends as it explains, in time, with the right attempts, and no instance outlives the reaper."""

import pytest

from tests.faults.matrix import Result, make_all, wrong
from vastbench.emulator.faults import FAULTS

AT_ONCE = 8


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    """One run under each fault."""
    made = make_all([({name: fault.usual}, 1) for name, fault in FAULTS.items()], AT_ONCE)
    return {result.faults[0]: result for result in made}


@pytest.mark.parametrize("name", FAULTS)
def test_the_run_ends_with_a_cause_that_the_fault_explains_and_nothing_is_left(results: dict[str, Result], name: str) -> None:
    assert wrong(results[name]) == []


def test_the_referee_sees_what_the_api_hides() -> None:
    """With a marketplace that ignores every destroy, nothing that the client could do ends the instance: it must be said."""
    result = make_all([({"destroy-ignored": 1.0}, 1)], 1)[0]
    assert result.ended == "lease_not_closed"
    assert result.alive == 1
    assert any(one.startswith("instance") for one in result.leaked)
    assert any(one.startswith("lease") for one in result.leaked)
    assert any("leaked" in text for text in wrong(result))
