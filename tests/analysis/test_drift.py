"""The later half of a study's runs beside the earlier one."""

from dataclasses import replace

import pytest

import vastbench
from tests.analysis.made import FAILED, made
from vastbench.analysis.drift import drift, halves
from vastbench.analysis.frames import phases_table
from vastbench.analysis.verdicts import Verdict
from vastbench.errors import UsageError
from vastbench.record.phases import PhaseName


def begun(minute: int, seconds: float, **more):
    run = made(minute, {PhaseName.WAIT_RUNNING: seconds}, **more)
    return replace(run, started_at=f"2026-01-02T00:{minute:02}:00+00:00")


def test_the_halves_are_by_the_time_of_start_and_of_the_runs_that_passed():
    runs = [begun(3, 90.0), begun(1, 50.0), begun(2, 60.0, outcome=FAILED, cause="boot_failed"), begun(5, 80.0), begun(4, 70.0)]
    first, second = halves(phases_table(runs))
    assert (first.upper.tolist(), second.upper.tolist()) == ([50.0, 90.0], [70.0, 80.0])


def test_a_market_that_slows_down_is_seen():
    found = drift(phases_table([begun(i, 50.0 + (i % 7) + (30.0 if i >= 20 else 0.0)) for i in range(40)]), "wait running")
    assert (found.speed, found.names) == (Verdict.SLOWER, ("the earlier half", "the later half"))
    assert found.effects["n_a"].tolist() == [20]


def test_that_the_halves_follow_each_other_is_no_caution():
    found = drift(phases_table([begun(i, 50.0 + i % 7) for i in range(40)]), "wait running")
    assert found.cautions == ()
    assert found.speed is not Verdict.SLOWER


@pytest.mark.parametrize("runs", [[], [begun(1, 50.0)]])
def test_fewer_than_two_runs_cannot_show_a_change(runs):
    assert halves(phases_table(runs)) == []
    with pytest.raises(UsageError, match="cannot show a change"):
        drift(phases_table(runs))


def test_the_sample_has_both_halves():
    assert [len(half) for half in halves(vastbench.load())] == [135, 135]
