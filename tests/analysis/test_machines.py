"""Slow machines told from unlucky runs."""

import math
from dataclasses import replace

import numpy as np
import pytest

import vastbench
from tests.analysis.made import FAILED, made
from vastbench.analysis.frames import phases_table
from vastbench.analysis.machines import FAST, MACHINE_COLUMNS, OPEN, SLOW, machines
from vastbench.record.phases import PhaseName

RUNNING = PhaseName.WAIT_RUNNING


def of_machine(run, machine: int):
    return replace(run, resources={"machine_id": machine})


def on(machine: int, *seconds: float):
    return [of_machine(made(100 * machine + i, {RUNNING: one}), machine) for i, one in enumerate(seconds)]


def study(effects: dict[int, float], each: int, spread: float, seed: int):
    rng = np.random.default_rng(seed)
    runs = [on(machine, *(80 * effect * np.exp(spread * rng.standard_normal(each)))) for machine, effect in effects.items()]
    return phases_table([run for of_one in runs for run in of_one])


def test_a_machine_that_is_always_slow_is_slow_and_stands_first():
    found = machines(study(dict.fromkeys(range(1, 10), 1.0) | {10: 2.0}, 8, 0.1, seed=1), RUNNING)
    first = found.iloc[0]
    assert (first["machine"], first["n"], first["verdict"]) == (10, 8, SLOW)
    assert first["ratio_low"] < 2.0 < first["ratio_high"] * 1.05


def test_one_slow_run_is_luck_where_runs_of_a_machine_differ_as_much():
    runs = [run for i in range(1, 10) for run in on(i, 60.0, 150.0, 80.0)] + on(10, 150.0)
    found = machines(phases_table(runs), RUNNING).set_index("machine")
    assert found.loc[10, "verdict"] == OPEN
    assert found.loc[10, "ratio"] < 150 / 80


def test_fewer_runs_are_shrunk_more():
    runs = [run for i in range(1, 9) for run in on(i, 60.0 + 8 * i, 66.0 + 8 * i, 62.0 + 8 * i)]
    few, many = on(20, 160.0), on(21, *[160.0] * 9)
    found = machines(phases_table(runs + few + many), RUNNING).set_index("machine")
    assert 1 < found.loc[20, "ratio"] < found.loc[21, "ratio"]


def test_runs_that_failed_are_counted_and_their_time_is_not():
    runs = (
        on(1, 60.0, 70.0)
        + on(2, 90.0, 95.0)
        + [of_machine(made(3, {}, stopped=RUNNING, outcome=FAILED, cause="boot_failed"), 3)]
    )
    found = machines(phases_table(runs), RUNNING).set_index("machine")
    assert (found.loc[3, "n"], found.loc[3, "failed"]) == (1, 1)
    assert math.isnan(found.loc[3, "ratio"])
    assert found.loc[3, "verdict"] == OPEN


@pytest.mark.parametrize("runs", [[], on(1, 60.0) + on(2, 90.0), on(1, 60.0, 70.0)])
def test_without_repeats_on_two_machines_nothing_tells_a_machine_from_luck(runs):
    found = machines(phases_table(runs), RUNNING)
    assert found["ratio"].isna().all()
    assert set(found["verdict"]) <= {OPEN}


def test_machines_that_do_not_differ_are_all_usual():
    found = machines(study(dict.fromkeys(range(1, 31), 1.0), 4, 0.3, seed=2), RUNNING)
    assert (found["verdict"] != OPEN).mean() <= 0.05


def test_the_sample_has_a_row_for_each_machine():
    found = machines(vastbench.load())
    assert found.columns.tolist() == list(MACHINE_COLUMNS)
    assert found["n"].sum() == 300
    assert set(found["verdict"]) <= {SLOW, FAST, OPEN}
