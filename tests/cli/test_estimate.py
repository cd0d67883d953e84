"""``vastbench estimate`` over drills of several variants: each is held against the plan that it followed."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

import vastbench
from vastbench.cli import app
from vastbench.io.tables import export


def estimate(*words):
    return CliRunner().invoke(app, ["estimate", *map(str, words)])


@pytest.fixture(scope="module")
def drills(tmp_path_factory):
    """The bundled drills, and the same as if their machines had been raced, in files."""
    folder = tmp_path_factory.mktemp("drills")
    cold = vastbench.load("failover-40")
    raced = cold.assign(run=cold["run"] + "-raced", variant="hedged", hedge=3, stagger_s=0.0)
    for name, frame in {"raced": raced, "both": pd.concat([raced, cold])}.items():
        export(frame, folder / f"{name}.parquet")
    return folder


def test_each_variant_is_held_against_the_plan_that_it_followed(drills):
    checks = json.loads(estimate("--from", drills / "both.parquet", "--json").stdout)["checks"]
    alone = json.loads(estimate("--json").stdout)["checks"]
    assert list(checks) == ["cold", "hedged, 3 machines"]
    assert checks["cold"] == alone["cold"]
    assert checks["hedged, 3 machines"]["high_s"] < checks["cold"]["high_s"] - 50
    assert checks["hedged, 3 machines"]["n"] == checks["cold"]["n"] > 20


def test_it_is_of_failovers_and_of_nothing_else():
    assert estimate("failover").stdout == estimate().stdout
    refused = estimate("snapshot")
    assert "no estimate of 'snapshot'" in str(refused.exception)


def test_raced_drills_alone_need_boots_of_single_machines(drills):
    refused = estimate("--from", drills / "raced.parquet")
    assert refused.exit_code != 0
    assert "--boots" in refused.exception.in_full
    done = estimate("--from", drills / "raced.parquet", "--boots", "default-300")
    assert done.exit_code == 0
    assert "Against the drills (hedged, 3 machines): " in done.stdout
