"""The integration drill passes only on a machine that keeps what is written to it."""

import pytest

from tests.fleet import bench, reachable
from tests.profiles import certain
from vastbench.emulator import Emulator
from vastbench.record.conditions import Conditions
from vastbench.record.phases import Outcome, PhaseName
from vastbench.scenarios.integration import CONNECT_AGAIN, CREATE_FILE, VERIFY_FILE

SPEED = 30
CONDITIONS = Conditions(boot_deadline_s=120, ssh_deadline_s=120)


@pytest.fixture
def run_on(tmp_path, monkeypatch):
    """A run on machines with these faults, which leaves none of them alive."""

    def made(**faults):
        named = {name.replace("_", "-"): probability for name, probability in faults.items()}
        with Emulator(certain(tmp_path), seed=4, speed=SPEED, faults=named) as vast:
            reachable(vast, SPEED, monkeypatch)
            with bench(tmp_path, live=True, budget_usd=5.0) as opened:
                run = opened.run(CONDITIONS)
            assert vast.alive == []
        return run

    return made


def test_a_machine_that_keeps_nothing_fails_at_verify_file(run_on):
    run = run_on(forgets_files=1)
    assert (run.outcome, run.cause) == (Outcome.FAILED, "check_failed")
    assert "cannot be read back over a second connection" in run.detail
    assert "do not use this machine" in run.detail
    assert run.phase(CREATE_FILE).outcome is Outcome.PASSED
    assert run.phase(VERIFY_FILE).outcome is Outcome.FAILED
    assert run.validation["file"]["matches"] is False


def test_the_second_connection_is_no_part_of_verify_file(run_on):
    run = run_on()
    assert (run.outcome, run.cause) == (Outcome.PASSED, "")
    written, again, read = (run.phase(name) for name in (CREATE_FILE, CONNECT_AGAIN, VERIFY_FILE))
    assert written.end.upper <= again.start.upper < again.end.upper <= read.start.upper < read.end.upper
    assert run.phase(PhaseName.DESTROY).start.upper >= read.end.upper
    assert run.validation["file"]["matches"] is True


def test_a_second_connection_is_tried_again_like_the_first(run_on):
    assert run_on(banner_garbage=0.5, banner_late=1).cause == ""
