"""Every fault alone: the run ends as it explains, in time, with the right attempts, and no instance outlives the reaper."""

import logging
import secrets
from dataclasses import replace

import pytest

from tests.faults import matrix
from tests.faults.evidence import found_in, planting
from tests.faults.matrix import Result, make_all, wrong
from tests.hostile.canaries import EMULATOR_KEY
from vastbench.emulator.faults import FAULTS
from vastbench.ssh.keys import RunKey

AT_ONCE = 8


HOPELESS = ({"destroy-ignored": 1.0}, 0)
"""A marketplace that ignores every destroy: nothing that the client could do ends the instance."""


@pytest.fixture(scope="module")
def results() -> list[Result]:
    """One run under each fault, and the hopeless one, which takes longest."""
    return make_all([HOPELESS, *(({name: fault.usual}, 1) for name, fault in FAULTS.items())], AT_ONCE)


@pytest.mark.parametrize("name", FAULTS)
def test_the_run_ends_with_the_cause_of_its_fault_and_leaves_nothing(results: list[Result], name: str) -> None:
    (result,) = [one for one in results if one.faults == (name,) and one.seed == 1]
    assert wrong(result) == []


def test_an_instance_that_cannot_be_destroyed_is_seen_and_reported(results: list[Result]) -> None:
    (result,) = [one for one in results if one.seed == 0]
    assert result.ended == "lease_not_closed"
    assert result.alive == 1
    assert any(one.startswith("instance") for one in result.leaked)
    assert any(one.startswith("lease") for one in result.leaked)
    assert any("leaked" in text for text in wrong(result))


def test_the_referee_sees_a_key_in_the_store_the_record_and_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "CONDITIONS", replace(matrix.CONDITIONS, image=f"leaky/{EMULATOR_KEY}"))
    (result,) = make_all([({"key-rejected-401": 1.0}, 1)], at_once=1)
    assert result.ended == "key_rejected"
    places = " ".join(wrong(result))
    for place in ("runs.sqlite-wal", "the run's JSON", "its traceback"):
        assert place in places


@pytest.mark.parametrize("logger", ["vastbench", "httpx", "httpcore.http11", "vastbench.ssh.paramiko", "asyncssh", "stamina"])
def test_the_referee_sees_a_key_in_the_log_of(logger: str) -> None:
    with planting() as logs:
        logging.getLogger(logger).debug("sent %r", {"Authorization": f"Bearer {secrets.token_hex(32)}"})
        places = found_in(logs.taken())
        assert logs.taken() == {}
    assert places
    assert all(place.endswith(f"the log of {logger}") for place in places)


def test_a_matrix_restores_the_logging_and_the_keys_of_its_process(results: list[Result]) -> None:
    assert logging.root.level != logging.DEBUG
    assert RunKey.generate().pkey != RunKey.generate().pkey
