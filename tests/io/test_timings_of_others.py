"""Timings of other tools go where our own go: load, compare and report take them as a tidy frame."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import vastbench
from vastbench.analysis.artefacts.detector import timings_of
from vastbench.analysis.frames import runs_from
from vastbench.analysis.tidied import tidied
from vastbench.cli import app
from vastbench.errors import NotFound, SchemaError, SettingsError, UsageError
from vastbench.render import sentences
from vastbench.report.build import of_places
from vastbench.report.figures import worth_drawing


@pytest.fixture
def written(tmp_path):
    """A wide CSV of 30 runs of which two failed in their boot and one was cut off there."""

    def write(name, factor=1.0, **columns):
        rng = np.random.default_rng(1)
        boots = (factor * 70 * np.exp(0.2 * rng.standard_normal(30))).round(2)
        table = pd.DataFrame({"create_s": rng.uniform(1, 2, 30).round(2), "boot_s": boots, "status": "ok", "machine": None})
        table["machine"] = [f"m{i % 11}" for i in range(30)]
        table.loc[27:, "status"] = ["failed", "failed", "timeout"]
        table.loc[27:28, "boot_s"] = np.nan
        table.assign(run=range(30), **columns).to_csv(tmp_path / name, index=False)
        return str(tmp_path / name)

    return write


def test_a_table_of_others_is_loaded_as_runs_with_bounds(written):
    phases = vastbench.load(written("a.csv"))
    runs = vastbench.runs_table(phases)
    assert runs["run_outcome"].value_counts().to_dict() == {"passed": 27, "failed": 2, "censored": 1}
    assert runs["machine"].nunique() == 11
    assert set(phases["source"]) == {"import"}
    boots = phases[phases["phase"] == "boot"]
    assert boots["outcome"].tolist()[-4:] == ["passed", "failed", "failed", "censored"]
    assert (phases.loc[phases["phase"] == "create", "outcome"] == "passed").all()
    # Two printed decimals: the true value is within half of the last one.
    assert (boots["upper_s"] - boots["lower_s"]).dropna().to_numpy() == pytest.approx(0.01)
    first = phases[phases["run"] == phases["run"].iloc[0]].set_index("phase")
    assert first.loc["boot", "start_s"] == pytest.approx(first.loc["create", "seconds"])
    assert first.loc["total", "seconds"] == pytest.approx(first.loc["boot", "end_upper_s"])


def test_what_was_loaded_can_be_written_and_loaded_again(written, tmp_path):
    phases = vastbench.load(written("a.csv"))
    vastbench.export(phases, tmp_path / "again.parquet")
    pd.testing.assert_frame_equal(vastbench.load(tmp_path / "again.parquet"), phases)
    boots = timings_of(phases)
    assert boots.loc[boots["phase"] == "boot", "seconds"].notna().sum() == 27


def test_two_files_of_others_are_compared(written):
    found = vastbench.compare(written("a.csv"), written("b.csv", 2.0), phase="boot")
    assert found.effects["ratio"].iloc[0] == pytest.approx(2, rel=0.02)
    assert found.effects[["n_a", "ended_a"]].iloc[0].tolist() == [30, 27]


def test_the_command_compares_files_of_others(written):
    words = [
        "compare",
        written("a.csv", status="DONE"),
        written("b.csv", 2.0, status="DONE"),
        "--phase",
        "boot",
        "--passed",
        "DONE",
    ]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(done.stdout)["exit_code"] == done.exit_code == 13


def test_a_report_is_made_of_files_of_others(written):
    source = of_places([written("a.csv", status="DONE")], passed="DONE")
    assert source.problems == ()
    assert source.phases["run"].nunique() == 30


def test_words_units_columns_and_groups_are_the_same_for_load(written):
    done = written("a.csv", status="DONE", gpu=["a", "b"] * 15)
    with pytest.raises(SettingsError, match="--passed DONE"):
        vastbench.load(done)
    phases = vastbench.load(done, passed="DONE", column="create_s", group_by="gpu")
    assert set(phases["phase"]) == {"create", "unattributed", "total"}
    assert set(phases["variant"]) == {"gpu a", "gpu b"}


def test_repeats_in_one_run_are_runs_and_an_empty_table_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("run,phase,seconds,outcome\n1,boot,2,\n1,boot,3,\n1,boot,,\n")
    runs = vastbench.runs_table(vastbench.load(tmp_path / "a.csv"))["run"]
    assert [name.partition(" ")[2] for name in runs] == ["1", "1 #2"]
    (tmp_path / "b.csv").write_text("run,phase,seconds\n1,boot,\n")
    with pytest.raises(SchemaError, match="no row with a value or an outcome"):
        vastbench.load(tmp_path / "b.csv")


def test_polled_values_lie_between_two_polls_and_stated_totals_are_kept(tmp_path):
    (tmp_path / "a.csv").write_text("run,phase,seconds,poll_period_s\n1,boot,70.5,10\n1,total,75.5,\n")
    phases = vastbench.load(tmp_path / "a.csv").set_index("phase")
    assert phases.loc["boot", ["lower_s", "upper_s"]].tolist() == [60.5, 70.5]
    assert phases.loc["total", "seconds"] == 75.5


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_the_values_are_shown_as_given_and_add_up(values, digits):
    seconds = [value / 10**digits for value in values]
    table = pd.DataFrame({"run": "a", "phase": [f"p{i}" for i in range(len(values))], "seconds": seconds})
    (run,) = runs_from(tidied(table))
    assert [phase.seconds for phase in run.phases] == pytest.approx(seconds, abs=1e-9)
    assert run.total_s == pytest.approx(sum(seconds), abs=1e-9)


def test_a_failed_row_took_at_least_what_it_says():
    phases = tidied(pd.DataFrame({"run": ["a"], "phase": ["boot"], "seconds": [300.0], "outcome": ["failed"]}))
    boot, total = (phases[phases["phase"] == name].iloc[0] for name in ("boot", "total"))
    assert (boot["outcome"], boot["lower_s"], total["seconds"]) == ("failed", 300.0, 300.0)
    assert np.isnan(boot["seconds"])


def test_timings_of_others_have_no_date_and_no_gpu(written):
    phases = vastbench.load(written("a.csv"))
    axis = vastbench.runs_over_time(phases).get_xlabel()
    assert "dates unknown" in axis
    waterfall = vastbench.phase_waterfall(phases[phases["run"] == phases["run"].iloc[0]])
    assert "nan" not in waterfall.get_title(loc="left")
    said = sentences.data(phases)
    assert "1970" not in said
    assert said.endswith("Measured elsewhere, not by vastbench.")


def test_where_the_time_went_is_told_of_them_as_of_our_own(written):
    shares = vastbench.shares(vastbench.load(written("a.csv"))).set_index("phase")
    assert shares["mean_share"].sum() == pytest.approx(1)
    assert shares.loc["boot", "mean_share"] > 0.9
    stated = tidied(pd.DataFrame({"run": "a", "phase": ["boot", "copy", "total"], "seconds": [3.0, 2.0, 7.5]}))
    assert stated.set_index("phase").loc["unattributed", "seconds"] == 2.5


def test_a_report_of_them_draws_no_boot_and_no_cost(written):
    phases = vastbench.load(written("a.csv"))
    ours = worth_drawing(9, 8, vastbench.load("default-300"))
    assert ours - worth_drawing(9, 8, phases) == {"boot-curves", "naive-beside-honest", "cost-meters"}


def test_an_unknown_column_or_phase_is_answered_with_what_there_is(written):
    phases = vastbench.load(written("a.csv", cloud=["x", "y"] * 15), group_by="cloud")
    with pytest.raises(NotFound, match="no column 'group'") as refused:
        vastbench.summary(phases, by="group")
    assert refused.value.hint.startswith("What --group-by tells apart is in the column 'variant'.")
    assert vastbench.summary(phases, by="variant")["variant"].nunique() == 2
    with pytest.raises(UsageError, match="no quantity 'boots'") as refused:
        vastbench.compare("cloud x", "cloud y", by="variant", data=phases, phase="boots")
    assert refused.value.hint.startswith("Did you mean boot?")
    (text,) = vastbench.boot_curves(phases[phases["variant"] == "cloud x"]).texts
    assert "create, boot, total" in text.get_text().replace("\n", " ")


# What a table may look like


def of_csv(tmp_path, text, **how):
    (tmp_path / "a.csv").write_text(text)
    return vastbench.load(tmp_path / "a.csv", **how)


def test_a_run_is_ready_at_the_end_of_its_own_last_phase(tmp_path):
    phases = of_csv(tmp_path, "run,boot_s,pull_s,ready_s\n" + "".join(f"{i},10,{'' if i == 1 else 5},2\n" for i in range(1, 9)))
    assert vastbench.ready_within(phases, 100)["rate"].tolist() == [1.0]
    assert set(phases["ready"]) == {"ready"}
    phases = of_csv(tmp_path, "run,phase,seconds\n1,a,2\n1,b,60\n2,b,61\n2,a,3\n3,a,2\n3,b,59\n")
    assert sentences.ready_at(phases) == "the end of its last phase"
    assert vastbench.outcomes(phases)["runs"].tolist() == [3]
    assert phases[phases["phase"] == phases["ready"]].groupby("run")["end_upper_s"].max().tolist() == [62, 64, 61]


@pytest.mark.parametrize("limit", ["timeout_s", "lower_s"])
def test_a_run_that_was_cut_off_waited_as_long_as_its_limit_says(tmp_path, limit):
    passed = "".join(f"{i},boot,{40 + i},,passed\n" for i in range(6))
    phases = of_csv(
        tmp_path, f"run,phase,seconds,{limit},outcome\n{passed}" + "".join(f"{i},boot,,300,timeout\n" for i in range(6, 14))
    )
    assert vastbench.summary(phases).set_index("phase").loc[["boot", "total"], "median_s"].isna().all()
    assert set(phases.loc[phases["run_outcome"] == "censored", "cause"]) == {"stopped"}
    assert phases.loc[phases["outcome"].eq("censored") & phases["phase"].eq("boot"), "lower_s"].unique().tolist() == [300.0]


def test_runs_of_one_name_do_not_mix(tmp_path):
    phases = of_csv(tmp_path, "run,boot_s,outcome\n1,10,failed\n1,11,passed\n2,12,passed\n")
    assert vastbench.outcomes(phases).set_index("outcome")["runs"].to_dict() == {"passed": 2, "failed": 1}
    totals = vastbench.runs_table(of_csv(tmp_path, "run,boot_s,pull_s\n1,10,\n1,11,3\n2,12,4\n"))["total_s"]
    assert sorted(totals) == [10, 14, 16]


def test_long_names_that_begin_alike_stay_apart(tmp_path):
    name = "python -m benchmark.suite --scenario transfer-large-"
    phases = of_csv(
        tmp_path, f"run,phase,seconds\n1,{name}upload,11\n1,{name}download,51\n2,{name}upload,12\n2,{name}download,52\n"
    )
    assert vastbench.summary(phases)["n"].tolist() == [2, 2, 2, 2]
    assert len(vastbench.runs_table(phases)) == 2


def test_a_machine_has_one_number_in_every_file(tmp_path):
    first, second = (of_csv(tmp_path, f"run,boot_s,machine\n1,10,{a}\n2,11,{b}\n") for a, b in (("x", "y"), ("y", "z")))
    numbers = [set(phases["machine"]) for phases in (first, second)]
    assert len(numbers[0] & numbers[1]) == 1
    assert len(numbers[0] | numbers[1]) == 3


def test_parts_count_below_their_own_runs_phase_however_deep(tmp_path):
    first = "1,install,,30\n1,setup,install,8\n1,unpack,setup,5\n1,test,,20\n"
    phases = of_csv(tmp_path, f"run,phase,parent,seconds\n{first}2,setup,install,8\n2,test,,25\n")
    assert vastbench.runs_table(phases)["total_s"].tolist() == [50, 33]
    of_first = phases[phases["run"] == phases["run"].iloc[0]].set_index("phase")
    assert of_first.loc[["setup", "unpack"], "parent"].tolist() == ["install", "install"]
    assert of_first.loc[["setup", "unpack", "test"], "start_s"].tolist() == [0, 0, 30]


def test_a_job_that_is_not_over_is_no_run(tmp_path):
    job = {"id": 1, "name": "build", "steps": [], "status": "completed", "conclusion": "success"}
    job |= {"created_at": "2026-01-01T00:00:00Z", "started_at": "2026-01-01T00:00:09Z", "completed_at": "2026-01-01T00:01:00Z"}
    going = job | {"id": 2, "status": "in_progress", "conclusion": None, "completed_at": None}
    (tmp_path / "jobs.json").write_text(json.dumps({"jobs": [job, going]}))
    assert len(vastbench.runs_table(vastbench.load(tmp_path / "jobs.json"))) == 1


def test_a_column_of_time_deltas_knows_its_unit(tmp_path):
    table = pd.DataFrame({"run": ["1", "2"], "phase": "build", "elapsed": pd.to_timedelta([29.03, 31.5], unit="s")})
    table.to_parquet(tmp_path / "deltas.parquet")
    phases = vastbench.load(tmp_path / "deltas.parquet", column="elapsed", unit="ms")
    assert phases.loc[phases["phase"] == "build", "seconds"].tolist() == [29.03, 31.5]


def test_without_dates_nothing_is_said_to_have_come_first(tmp_path):
    rows = "".join(f"{i},{'x' if i < 9 else 'y'},{10 + i % 7}\n" for i in range(18))
    phases = of_csv(tmp_path, f"run,cloud,boot_s\n{rows}", group_by="cloud")
    assert not [said for said in vastbench.compare("cloud x", "cloud y", by="variant", data=phases).cautions if "began" in said]
    assert "1970" not in str(vastbench.runs_from(phases)[0])


def test_phases_with_a_start_and_an_end_lie_where_these_say(tmp_path):
    day = "2026-03-01T10:"
    rows = [f"1,boot,{day}00:00Z,{day}02:00Z", f"1,test,{day}12:00Z,{day}15:00Z", f"2,boot,{day}30:00Z,{day}32:00Z"]
    phases = of_csv(tmp_path, "\n".join(["run,phase,started_at,ended_at", *rows, f"2,test,{day}31:00Z,{day}35:00Z\n"]))
    runs = vastbench.runs_table(phases)
    assert runs["total_s"].tolist() == [900, 300]
    assert phases.loc[phases["phase"] == "unattributed", "seconds"].tolist() == [600, -60]
    assert runs["started_at"].dt.strftime("%H:%M").tolist() == ["10:00", "10:30"]
    assert "2026-03-01 10:00 to 10:30 UTC" in vastbench.runs_over_time(phases).get_xlabel()
    wide = of_csv(tmp_path, "run,boot_start,boot_end,copy_start,copy_end\n1,0,10,40,45\n", unit="s")
    assert vastbench.runs_table(wide)["total_s"].tolist() == [45]


def test_rows_that_cannot_count_are_said_to_be_left_out(tmp_path, caplog):
    phases = of_csv(tmp_path, "run,phase,seconds,outcome\n1,boot,2,\n1,ssh,-1,\n2,boot,,\n2,ssh,3,\n3,boot,,\n3,ssh,,failed\n")
    assert phases.groupby("run", sort=False)["phase"].first().tolist() == ["boot", "ssh", "ssh"]
    assert [one.message for one in caplog.records] == [
        "a.csv: 1 row has a time below 0: not counted (the first is ssh of run 1).",
        "a.csv: 2 rows have neither a time nor an outcome: not counted (the first is boot of run 2).",
    ]


def test_what_was_decided_in_reading_is_said_wherever_it_is_read(tmp_path, caplog):
    of_csv(tmp_path, "run,boot_s,valid\n1,10,true\n2,99,false\n3,11,true\n")
    assert [one.message for one in caplog.records] == ["a.csv: 1 row marked invalid (column valid) not counted."]
