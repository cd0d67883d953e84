"""Runs on the emulator, whose own meters know what was used: its charges agree with what ours say."""

import pytest

from tests.fleet import bench, make_runs
from tests.profiles import certain
from vastbench.analysis.cost import reconciliation
from vastbench.io.tables import load
from vastbench.record.cost import SECONDS_PER_HOUR

SPEED = 40
RUNS = 8


@pytest.fixture(scope="module")
def reconciled(tmp_path_factory):
    """Eight runs whose charges were asked for at once, and again when all had come."""
    folder = tmp_path_factory.mktemp("charges")
    with bench(folder, profile=certain(folder), seed=3, speed=SPEED) as opened:
        make_runs(opened, RUNS, RUNS)
        opened.ask_charges()
        early = reconciliation(load(folder / "runs.sqlite"))
        opened.clock.sleep(200)  # they come 140 s late
        asked = opened.ask_charges()
    return early, asked, load(folder / "runs.sqlite")


def test_what_was_used_just_now_is_not_charged_yet(reconciled):
    early, _, _ = reconciled
    assert set(early.runs["charge"]) == {"late"}
    assert early.meters["n"].tolist() == [0, 0, 0, 0]


def test_every_run_agrees_once_its_charges_have_come(reconciled):
    _, asked, phases = reconciled
    made = reconciliation(phases)
    assert (asked.contracts, asked.rows, asked.foreign) == (RUNS, RUNS, 0)
    assert made.runs["charge"].tolist() == ["agrees"] * RUNS
    assert made.meters["n"].tolist() == [RUNS] * 4
    assert (made.runs["charged_usd"] > 0).all()


def test_residuals_lie_within_a_second_of_price_of_what_rounding_hides(reconciled):
    _, _, phases = reconciled
    runs = reconciliation(phases).runs
    a_second = phases.drop_duplicates("run").set_index("run").loc[runs["run"], "usd_per_hour"].to_numpy() / SECONDS_PER_HOUR
    beyond = runs["residual_usd"].abs() - runs["charged_rounding_usd"]
    assert (beyond <= a_second).all(), beyond / a_second
