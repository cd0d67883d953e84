"""What drills found out: quantities from phases and from the figures of their checks, and a line through sizes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vastbench.analysis.acceptance import acceptance
from vastbench.analysis.frames import phases_table
from vastbench.analysis.measures import line, measured, with_curves
from vastbench.bundled import shared
from vastbench.errors import SchemaError
from vastbench.io.files import read_run
from vastbench.io.tables import export, load
from vastbench.record.acceptance import Criterion, Measure
from vastbench.record.phases import PhaseName
from vastbench.record.run import Run
from vastbench.store import Store

SEED = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
RATE = Measure("rate", "MB/s", place=("snapshot", "bytes"), per=("snapshot", "seconds"))


def run(number: int, validation: dict[str, object]) -> Run:
    resources = {**SEED.resources, "machine_id": 100 + number}
    return replace(SEED, id=f"run-{number}", resources=resources, validation=validation)


def kept(number: int, size: float, seconds: float) -> Run:
    return run(number, {"snapshot": {"bytes": size, "seconds": seconds, "matches": True, "says": "kept"}})


def row(phases: pd.DataFrame, measure: Measure) -> dict[str, object]:
    (found,) = measured(phases, [measure]).to_dict("records")
    return found


def test_the_frame_keeps_the_numbers_of_the_checks_and_nothing_else():
    checks = {"a": {"n": 3, "yes": True, "says": "9", "in": {"ms": 1.5}, "each": [1.0, "x"]}, "b": {"says": "none"}, "c": 4}
    phases = phases_table([run(1, checks), run(2, {})])
    totals = phases[phases["phase"] == PhaseName.TOTAL]["figures"]
    assert json.loads(totals.iloc[0]) == {"a": {"n": 3, "in": {"ms": 1.5}, "each": [1.0]}, "c": 4}
    assert pd.isna(totals.iloc[1])
    assert phases[phases["phase"] != PhaseName.TOTAL]["figures"].isna().all()


@pytest.mark.parametrize("suffix", ["parquet", "csv", "sqlite"])
def test_figures_outlive_every_kind_of_file(suffix, tmp_path):
    runs, path = [kept(1, 3e6, 2.0), run(2, {})], tmp_path / f"runs.{suffix}"
    if suffix == "sqlite":
        with Store(path) as store:
            for one in runs:
                store.save_run(one)
    else:
        export(phases_table(runs), path)
    found, expected = row(load(path), RATE), row(phases_table(runs), RATE)
    assert (found["n"], found["value"]) == (expected["n"], expected["value"]) == (1, 1.5)


def test_a_figure_is_in_its_unit_and_over_another_one():
    found = row(phases_table([kept(number, 4e6 * number, 2.0) for number in range(1, 8)]), RATE)
    assert (found["n"], found["never"], found["value"]) == (7, 0, 8.0)
    assert found["least"] == 2.0
    assert found["most"] == 14.0
    assert 2.0 <= found["low"] < found["value"] < found["high"] <= 14.0


@pytest.mark.parametrize("wrong", [0.0, -1.0, None, "3", [], True])
def test_a_figure_over_what_is_none_is_no_figure(wrong):
    assert row(phases_table([kept(1, 4e6, wrong)]), RATE)["n"] == 0


def test_of_a_list_the_mean_counts():
    gaps = Measure("gaps", "ms", place=("answer", "gaps_s"))
    assert row(phases_table([run(1, {"answer": {"gaps_s": [0.1, 0.3]}})]), gaps)["value"] == pytest.approx(200)


def test_figures_that_are_no_json_are_named():
    phases = phases_table([kept(1, 4e6, 2.0)])
    phases["figures"] = phases["figures"].mask(phases["figures"].notna(), "{")
    with pytest.raises(SchemaError, match="figures"):
        measured(phases, [RATE])


def test_runs_on_one_machine_say_less_of_a_figure_than_runs_on_many():
    many = [kept(number, 4e6 * number, 2.0) for number in range(1, 13)]
    few = [replace(one, resources={**one.resources, "machine_id": place // 4}) for place, one in enumerate(many)]
    (wide, narrow) = (row(phases_table(runs), RATE) for runs in (few, many))
    assert narrow["high"] - narrow["low"] < 20
    assert np.isnan(wide["low"]) or wide["high"] - wide["low"] > narrow["high"] - narrow["low"]


def test_a_span_and_a_criterion_of_it_are_one_number():
    edges = (PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH)
    found = row(load(), Measure("boot", "s", *edges))
    (asked,) = acceptance(load(), [Criterion("boot", 600.0, "s", *edges)]).to_dict("records")
    assert [found[name] for name in ("n", "value", "low", "high")] == [asked[name] for name in ("n", "value", "low", "high")]
    assert found["never"] > 0
    assert found["within"] > 1


def test_a_criterion_of_a_figure_is_in_the_unit_of_its_limit():
    per_gb = Criterion("each GB", 600.0, "s/GB", place=("snapshot", "seconds"), per=("snapshot", "bytes"))
    for seconds, verdict in ((2.0, "met"), (20.0, "not met")):
        phases = phases_table([kept(number, 1e7, seconds) for number in range(8)])
        (found,) = acceptance(phases, [per_gb]).to_dict("records")
        assert (found["value"], found["verdict"]) == (pytest.approx(100 * seconds), verdict)


def test_parts_are_added_only_of_runs_that_passed_and_have_all():
    both = Measure("both", "min", parts=(PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH))
    phases = load()
    rows = phases[(phases["run_outcome"] == "passed") & phases["final"] & phases["phase"].isin(both.parts)]
    expected = rows.groupby("run")["seconds"].sum() / 60
    found = row(phases, both)
    assert found["n"] == len(expected)
    assert found["value"] == pytest.approx(expected.median(), rel=0.01)
    assert row(phases, replace(both, parts=(*both.parts, "restore")))["n"] == 0


def test_only_what_is_drawn_becomes_a_phase():
    drawn = Measure("boot", "s", PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH, drawn="Booted")
    names = set(with_curves(load(), [drawn, replace(drawn, what="other", drawn="")])["phase"])
    assert "boot" in names
    assert "other" not in names


def sized(*sizes_mb: float, noise: float = 0.3, n: int = 24) -> pd.DataFrame:
    random = np.random.default_rng(3)
    made = [(sizes_mb[number % len(sizes_mb)] * random.uniform(0.98, 1.02), random.normal(0, noise)) for number in range(n)]
    return phases_table([kept(number, 1e6 * mb, 2.0 + 0.05 * mb + off) for number, (mb, off) in enumerate(made)])


PLACES = (("snapshot", "bytes"), ("snapshot", "seconds"))


def test_a_line_finds_the_fixed_seconds_and_those_of_each_gb():
    found = line(sized(16, 64, 256), *PLACES)
    assert (found.n, found.sizes) == (24, 3)
    assert found.fixed_low_s < found.fixed_s < found.fixed_high_s
    assert found.fixed_low_s < 2.0 < found.fixed_high_s
    assert found.per_gb_low_s < 50 < found.per_gb_high_s
    assert found.per_gb_high_s - found.per_gb_low_s < 10


@pytest.mark.parametrize(("sizes", "number"), [((16,), 1), ((16, 64), 2)])
def test_fewer_than_three_sizes_have_no_line(sizes, number):
    found = line(sized(*sizes), *PLACES)
    assert found.sizes == number
    assert np.isnan(found.per_gb_s)


def test_few_runs_have_a_line_without_an_interval_and_no_runs_none():
    few = line(sized(16, 64, 256, n=5), *PLACES)
    assert few.per_gb_s == pytest.approx(50, abs=10)
    assert np.isnan(few.per_gb_low_s)
    assert line(phases_table([]), *PLACES).sizes == 0


def test_noise_widens_the_interval_of_a_line():
    quiet, loud = (line(sized(16, 64, 256, noise=noise), *PLACES) for noise in (0.1, 2.0))
    assert loud.per_gb_high_s - loud.per_gb_low_s > 3 * (quiet.per_gb_high_s - quiet.per_gb_low_s)
