"""Conditions compared within blocks: which runs are set side by side, and what that is worth."""

from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.made import FAILED, made
from vastbench.analysis.blocks import PAIRED_COLUMNS, blocks, paired
from vastbench.analysis.frames import phases_table
from vastbench.errors import NotFound, UsageError
from vastbench.record.phases import PhaseName


def run(number, condition, seconds, *, machine=None, **more):
    found = made(number, {PhaseName.WAIT_RUNNING: seconds - 4.0, PhaseName.WAIT_SSH: 4.0}, **more)
    started = f"2026-01-02T{number // 60:02d}:{number % 60:02d}:00+00:00"
    return replace(found, study=f"s.{condition}", started_at=started, resources={"machine_id": machine or number})


def failed(number, condition):
    stopped = made(number, {}, stopped=PhaseName.WAIT_RUNNING, outcome=FAILED, cause="boot_failed")
    return replace(run(number, condition, 50.0), phases=stopped.phases, outcome=FAILED, cause="boot_failed")


def blocked(rng, n, *, effect=1.0, of_block=0.5, noise=0.05):
    """``n`` blocks of A and B, in random order: B takes ``effect`` times as long, and every block has its own pace."""
    runs = []
    for _ in range(n):
        pace = 80 * np.exp(of_block * rng.standard_normal())
        for condition in rng.permutation(["a", "b"]):
            own = (effect if condition == "b" else 1.0) * np.exp(noise * rng.standard_normal())
            runs.append(run(len(runs), condition, pace * own))
    return phases_table(runs)


def order(conditions):
    return phases_table([run(number, condition, 80.0) for number, condition in enumerate(conditions)])


@pytest.mark.parametrize(
    ("made_in_order", "numbers"),
    [
        ("abcbca", [0, 0, 0, 1, 1, 1]),
        ("abba", [0, 0, 1, 1]),
        ("acbacbac", [0, 0, 0, 1, 1, 1, 2, 2]),
        ("acabc", [0, 0, 1, 1, 1]),
        ("aaab", [0, 1, 2, 2]),
    ],
)
def test_a_block_ends_where_a_condition_would_come_again(made_in_order, numbers):
    assert blocks(order(made_in_order))["block"].tolist() == numbers


def test_runs_that_do_not_count_are_in_no_block():
    runs = [run(0, "a", 80.0), replace(run(1, "b", 80.0), cause="killed"), run(2, "b", 80.0), run(3, "a", 80.0)]
    found = blocks(phases_table(runs))
    assert found["condition"].tolist() == ["s.a", "s.b", "s.a"]
    assert found["block"].tolist() == [0, 0, 1]


def test_the_ratio_is_known_much_better_in_blocks_than_without():
    (row,) = paired(blocked(np.random.default_rng(1), 20, effect=1.2)).to_dict("records")
    assert (row["condition"], row["against"], row["blocks"]) == ("s.b", "s.a", 20)
    assert row["low"] <= 1.2 <= row["high"]
    assert row["unpaired_low"] < row["low"]
    assert row["high"] < row["unpaired_high"]
    assert row["narrower"] < 0.3


def test_the_interval_holds_the_true_ratio_as_often_as_it_says():
    rng = np.random.default_rng(7)
    rows = [paired(blocked(rng, 12, effect=1.2)).iloc[0] for _ in range(100)]
    held = sum(row["low"] <= 1.2 <= row["high"] for row in rows)
    assert held >= 90  # of 100, at 95 %: fewer by chance in 1 of 36 draws, and this draw is fixed


def test_one_that_never_came_counts_as_longer_two_say_nothing():
    runs = []
    for block in range(12):
        pair = [run(2 * block, "a", 80.0), run(2 * block + 1, "b", 60.0 + block / 10)]
        if block < 8:
            pair[1] = failed(2 * block + 1, "b")
        if block == 0:
            pair[0] = failed(0, "a")
        runs += pair
    (row,) = paired(phases_table(runs)).to_dict("records")
    assert row["blocks"] == 11
    assert np.isnan(row["ratio"])  # more than half of B never came
    assert row["high"] == np.inf
    (other,) = paired(phases_table(runs), against="s.b").to_dict("records")
    assert other["low"] == pytest.approx(0.0)


def test_the_same_machines_again_and_again_say_less():
    rng = np.random.default_rng(3)
    rows = []
    for machines in (40, 8):
        runs, slow = [], np.exp(0.4 * rng.standard_normal(machines))
        for block in range(40):
            runs += [
                run(2 * block, "a", 80.0),
                run(2 * block + 1, "b", 80 * slow[block % machines], machine=-1 - block % machines),
            ]
        rows.append(paired(phases_table(runs)).iloc[0])
    assert rows[0]["effective_n"] == 40
    assert rows[1]["effective_n"] < 12


def test_columns_are_typed_and_a_single_condition_is_refused():
    found = paired(blocked(np.random.default_rng(1), 3))
    assert {name: str(kind) for name, kind in found.dtypes.items()} == PAIRED_COLUMNS
    with pytest.raises(UsageError, match="nothing to compare"):
        paired(order("aa"))
    with pytest.raises(NotFound, match=r"'s\.z'"):
        paired(order("ab"), against="s.z")
    with pytest.raises(UsageError, match="hour"):
        paired(order("ab"), by="hour")
