"""Runs on the emulator, whose own meters know what was used: its charges agree with what ours say."""

import pytest

from tests.fleet import bench, make_runs
from tests.profiles import certain
from vastbench.analysis.cost import reconciliation
from vastbench.analysis.frames import runs_table
from vastbench.io.tables import load
from vastbench.record.cost import usd_for

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
        contracts = opened.emulator._engine._market.contracts
        truth = {instance: contract.cost(float("inf")) for instance, contract in contracts.items()}
    return early, asked, load(folder / "runs.sqlite"), truth


def test_what_was_used_just_now_is_not_charged_yet(reconciled):
    early, *_ = reconciled
    counts = early.runs["charge"].value_counts().to_dict()
    assert counts["late"] > 0
    assert counts == {"late": counts["late"]} | ({"agrees": RUNS - counts["late"]} if counts["late"] < RUNS else {})
    assert early.meters["n"].tolist() == [RUNS - counts["late"]] * 4  # of runs that ended long before the others


def test_every_run_agrees_once_its_charges_have_come(reconciled):
    _, asked, phases, _ = reconciled
    made = reconciliation(phases)
    assert (asked.contracts, asked.rows, asked.foreign) == (RUNS, RUNS, 0)
    assert made.runs["charge"].tolist() == ["agrees"] * RUNS
    assert made.meters["n"].tolist() == [RUNS] * 4
    assert (made.runs["charged_usd"] > 0).all()


def test_what_a_rounded_charge_may_have_been_holds_what_was_used(reconciled):
    _, _, phases, truth = reconciled
    runs = runs_table(phases).set_index("instance")
    for instance, usd in truth.items():
        run = runs.loc[instance]
        assert run["charged_usd"] == pytest.approx(usd, abs=run["charged_rounding_usd"])
        others = run["cost_usd"] - run["gpu_usd"]
        assert run["gpu_lower_usd"] + others <= usd + 1e-6  # of storage and bytes the emulator knows some more
        assert usd <= run["gpu_upper_usd"] + others + 1e-4
        # Of its hours and of two prices per hour the last decimals are not told.
        assert run["charged_rounding_usd"] < usd_for(3.0, run["usd_per_hour"]) + usd_for(run["total_s"], 0.001)
