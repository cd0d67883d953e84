"""The frames' schema, and that what is missing stays missing."""

import math
import random
from dataclasses import replace

import pandas as pd
import pytest

from tests.analysis.made import TOP_LEVEL
from vastbench.analysis.columns import COLUMNS, RUN_COLUMNS
from vastbench.analysis.frames import column, conformed, phases_table, runs_from, runs_table
from vastbench.bundled import shared
from vastbench.errors import SchemaError
from vastbench.io.files import read_run
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, Phase, PhaseName, unattributed
from vastbench.record.run import Run

RUN = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
SECONDS = [*map(column, TOP_LEVEL), "retries_s", "unattributed_s"]


def second_try() -> Run:
    """A run whose first create was refused after 2 s."""
    search, create, *rest = RUN.phases
    refused = replace(create, end=Moment.between(create.start.lower, None, "action"), outcome=Outcome.FAILED)
    waited = search.seconds + 2.0
    again = [
        replace(phase, attempt=2, start=later(phase.start, waited), end=later(phase.end, waited))
        for phase in (search, create, *rest)
    ]
    return replace(RUN, id="again", phases=(search, refused, *again), total_s=RUN.total_s + waited)


def later(moment: Moment, by: float) -> Moment:
    return Moment.between(moment.lower + by, moment.upper + by, moment.source)


def test_the_frame_has_exactly_the_documented_columns_and_types():
    for runs in ([], [RUN], [RUN, second_try()]):
        frame = phases_table(runs)
        assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {n: c.dtype for n, c in COLUMNS.items()}
    assert all(column.meaning for column in COLUMNS.values())


def test_every_run_has_a_total_also_one_that_has_no_phase():
    frame = phases_table([RUN, replace(RUN, id="killed", phases=(), total_s=None, outcome=Outcome.CENSORED)])
    assert frame.loc[frame["phase"] == "total", "run"].tolist() == [RUN.id, "killed"]
    assert math.isnan(runs_table(frame).set_index("run").loc["killed", "total_s"])


def test_a_run_is_one_row_with_units_in_the_names():
    (row,) = runs_table(phases_table([RUN])).to_dict("records")
    assert row["wait_running_s"] == pytest.approx(72.77)
    assert row["unattributed_s"] == pytest.approx(4.21)
    assert row["naive_usd"] == pytest.approx(0.004644, abs=1e-6)


def test_the_seconds_of_a_row_add_up_to_its_total_also_after_a_retry():
    table = runs_table(phases_table([RUN, second_try()]))
    assert table.filter(items=SECONDS).sum(axis=1).tolist() == pytest.approx(table["total_s"].tolist())
    assert table["retries_s"].tolist() == pytest.approx([0.0, 1.26])
    assert table["unattributed_s"].tolist() == pytest.approx([4.21, 6.21])


def test_only_the_last_try_is_a_sample_of_a_phase():
    frame = phases_table([second_try()])
    assert frame[frame["phase"] == PhaseName.SEARCH]["final"].tolist() == [False, True]


def test_a_phase_that_was_not_reached_has_no_number():
    table = runs_table(phases_table([replace(RUN, phases=RUN.phases[:2], total_s=None)]))
    assert math.isnan(table["wait_running_s"].iloc[0])
    assert math.isnan(table["total_s"].iloc[0])


def test_a_table_is_the_same_in_however_many_parts_it_is_made(monkeypatch):
    runs = [replace(RUN, id=f"run-{number}") for number in range(5)]
    whole = phases_table(runs)
    monkeypatch.setattr("vastbench.analysis.frames.PART", 2)
    pd.testing.assert_frame_equal(phases_table(runs), whole)


def test_no_runs_are_an_empty_table_of_the_same_columns():
    shared = [one for one in SECONDS if one not in ("check_GPU_s", "create_file_s", "connect_again_s", "verify_file_s")]
    assert list(runs_table(phases_table([])).columns) == [*RUN_COLUMNS, *shared, "total_s"]


def test_phases_carry_their_bounds_and_parents():
    frame = phases_table([RUN]).set_index("phase")
    running = frame.loc[PhaseName.WAIT_RUNNING]
    assert running["end_upper_s"] - running["end_lower_s"] == pytest.approx(10.27 + 0.35)
    assert frame.loc[PhaseName.PULL, "parent"] == PhaseName.WAIT_RUNNING
    assert running["parent"] == PhaseName.TOTAL
    assert pd.isna(frame.loc[PhaseName.TOTAL, "parent"])


def test_a_censored_phase_has_a_lower_bound_and_no_value():
    stopped = Phase(PhaseName.WAIT_RUNNING, Moment.exact(2.0), Moment.between(600.0, None, "poll"), Outcome.CENSORED)
    row = phases_table([replace(RUN, phases=(stopped,))]).iloc[0]
    assert (row["lower_s"], row["final"], row["outcome"]) == (598.0, True, "censored")
    assert row[["seconds", "upper_s", "end_upper_s"]].isna().all()


def test_runs_come_back_from_the_frame_with_what_it_holds():
    frame = phases_table([RUN, second_try()])
    pd.testing.assert_frame_equal(phases_table(runs_from(frame)), frame)


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (lambda f: f.drop(columns="seconds"), "seconds"),
        (lambda f: f.assign(seconds="soon"), "soon"),
        (lambda f: f.replace({"phase": {"wait running": "teleport"}}), "wait running"),
        (lambda f: f.assign(outcome=None), "outcome"),
        (lambda f: f[f["phase"] != "total"], "total"),
        (lambda f: pd.concat([f, f]), "total"),
        (lambda f: f.assign(run=f["run"].where(f["phase"] != "search offers")), "total"),
        (lambda f: f.assign(final="False"), "final"),
        (lambda f: f.assign(final=2), "final"),
        (lambda f: f.assign(final=f["final"].astype(object).where(f["phase"] != "total", None)), "final"),
        (lambda f: f.assign(final=f["final"].astype("boolean").where(f["phase"] != "total")), "NA|final"),
        (lambda f: f.assign(final=False), "0 final rows"),
        (lambda f: pd.concat([f, f[f["phase"] == "search offers"]]), "'search offers' .* has 2 final rows"),
        (lambda f: f.assign(seconds=math.inf), "'seconds' holds inf"),
        (lambda f: f.assign(lower_s=-1.0), "'lower_s' holds -1"),
        (lambda f: f.assign(seconds=f["seconds"].where(f["phase"] != "total", -5.0)), "'seconds' holds -5"),
    ],
)
def test_a_table_of_another_form_is_refused_by_name(spoil, names):
    with pytest.raises(SchemaError, match=names):
        conformed(spoil(phases_table([RUN])))


def test_what_is_unattributed_of_many_runs_is_what_it_is_of_each():
    draw, runs = random.Random(1), [RUN, second_try()]
    for number in range(200):
        phases = []
        for name in draw.choices(["a", "b", "c", "b: part"], k=draw.randrange(7)):
            start, took = draw.uniform(0, 50), draw.uniform(0, 30)
            began = Moment.between(start, None if draw.random() < 0.03 else start, "poll")
            ended = Moment.between(start + took, None if draw.random() < 0.03 else start + took + 1, "poll")
            phases.append(Phase(name, began, ended, queued_s=draw.choice([0.0, 0.5]), parent="b" if ":" in name else None))
        runs.append(replace(RUN, id=f"{number}", phases=tuple(phases), total_s=draw.choice([None, 100.0, 100.0])))
    frame = phases_table(runs)
    found = frame[frame["phase"] == PhaseName.UNATTRIBUTED].set_index("run")["seconds"].to_dict()
    each = {run.id: unattributed(run.phases, run.total_s) for run in runs}
    assert found == pytest.approx({run: rest for run, rest in each.items() if rest is not None})
    assert 50 < len(found) < len(runs)


def test_the_unattributed_time_may_be_negative_where_phases_overlap():
    run = replace(RUN, total_s=RUN.total_s - 5.0)
    assert runs_table(phases_table([run]))["unattributed_s"].tolist() == pytest.approx([-0.79])
