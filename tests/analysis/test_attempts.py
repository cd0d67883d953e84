"""Which runs are one sample."""

from dataclasses import replace

import pytest

from tests.analysis.made import made
from vastbench.analysis.attempts import attempted, pool
from vastbench.analysis.bottleneck import shares, what_if
from vastbench.analysis.certainty import certainty
from vastbench.analysis.comparison import compare
from vastbench.analysis.cost import cost_summary
from vastbench.analysis.facts import Facts
from vastbench.analysis.frames import phases_table
from vastbench.analysis.summary import outcomes, phase_summary
from vastbench.analysis.useful import until_useful
from vastbench.errors import UsageError
from vastbench.io.tables import export, load
from vastbench.record.phases import PhaseName
from vastbench.report.build import build_report, of_table

SECONDS = {PhaseName.SEARCH: 1.0, PhaseName.WAIT_RUNNING: 20.0, PhaseName.WAIT_SSH: 3.0}
RUNS = [replace(made(number, SECONDS), instrument={"clock_speed": 20.0}) for number in (1, 2)]
OTHERS = {
    "scenario": replace(RUNS[1], scenario="another"),
    "source": replace(RUNS[1], source="live"),
    "scale": replace(RUNS[1], instrument={"clock_speed": 1.0}),
}


def all_facts(phases):
    return Facts(phases)


@pytest.mark.parametrize("column", OTHERS)
@pytest.mark.parametrize(
    "figure",
    [
        attempted,
        phase_summary,
        outcomes,
        cost_summary,
        shares,
        what_if,
        until_useful,
        certainty,
        Facts,
    ],
)
def test_runs_of_two_kinds_are_not_one_sample(column, figure):
    with pytest.raises(UsageError, match=rf"differ in {column}.*--where {column}=.*vastbench.pool"):
        figure(phases_table([RUNS[0], OTHERS[column]]))
    assert figure(pool(phases_table([RUNS[0], OTHERS[column]]))) is not None


def test_each_side_of_a_comparison_is_one_sample_and_the_sides_may_differ():
    ours, live = phases_table(RUNS), phases_table([replace(run, id=f"live-{run.id}", source="live") for run in RUNS])
    assert compare(ours, live).effects["quantity"].tolist() == ["time to ready"]
    with pytest.raises(UsageError, match="differ in source"):
        compare(ours, phases_table([replace(RUNS[0], id="x"), replace(OTHERS["source"], id="y")]))


def test_a_run_that_died_and_told_no_scale_belongs_to_the_others():
    dead = replace(RUNS[1], id="dead", instrument={})
    assert len(attempted(phases_table([*RUNS, dead]))["run"].unique()) == 3


def test_what_was_pooled_on_purpose_stays_so_in_a_file_and_a_selection(tmp_path):
    pooled = pool(phases_table([RUNS[0], OTHERS["source"]]))
    export(pooled, tmp_path / "runs.parquet")
    assert len(outcomes(load(tmp_path / "runs.parquet"))) == len(outcomes(pooled[pooled["run"].notna()])) == 1


def test_one_kind_can_be_loaded_by_what_it_is(tmp_path):
    export(phases_table([RUNS[0], OTHERS["scale"]]), tmp_path / "runs.parquet")
    for wanted in ({"scale": 1}, {"scale": 1.0}, {"scale": "1"}, "scale=1", "source = emulator, scale=1"):
        assert set(load(tmp_path / "runs.parquet", where=wanted)["run"]) == {"run-2"}


def test_a_report_of_two_kinds_is_refused_before_anything_is_made(tmp_path):
    said = []
    with pytest.raises(UsageError, match='where="scale=20"'):
        build_report(of_table(phases_table([RUNS[0], OTHERS["scale"]])), tmp_path / "report", echo=said.append)
    assert said == []
    assert list(tmp_path.iterdir()) == []
